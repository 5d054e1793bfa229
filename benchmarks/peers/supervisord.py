"""supervisord, from PyPI or Debian."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path

from benchmarks.fan import Fan
from benchmarks.peers import which

NAME = "supervisord"


def installed() -> bool:
    return which("supervisord") is not None


def fan(directory: Path, count: int, words: list[str], signum: signal.Signals) -> Fan:
    conf = directory / "supervisord.conf"
    conf.write_text(
        "[supervisord]\nnodaemon=true\nminfds=8192\nminprocs=200\n"
        f"logfile={directory}/log\npidfile={directory}/pid\nchildlogdir={directory}\n"
        "[program:child]\n"
        f"command={shlex.join(words)}\nprocess_name=%(program_name)s_%(process_num)04d\nnumprocs={count}\n"
        "startsecs=0\nautorestart=false\nstopasgroup=true\nkillasgroup=true\nstopwaitsecs=60\n"
        f"stopsignal={signum.name.removeprefix('SIG')}\n"
    )
    command = [which("supervisord") or "supervisord", "-c", str(conf)]
    return Fan(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
