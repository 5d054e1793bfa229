"""A scripted job.  Its only argument is JSON, see ``plan.Member``; what it does is noted in ``ledger``, a line each.

    python -I -S child.py '{"on_term": "save", "seconds": 0.5, "saves_in": 0.2}'

It runs alone, with nothing but the standard library.  A line is one write to a file opened for appending, so lines of
many processes do not mix.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

NOBODY_SENDS = {signal.SIGUSR2}


def main() -> None:
    script = json.loads(sys.argv[1])
    for number, member in enumerate(script.get("family", ()), 1):
        beget(f"{member['how']} {number}", member)
    live("leader", script)


def beget(role: str, script: dict[str, Any]) -> None:
    """A child in the group, one in a session of its own, or a daemon, which is forked twice."""
    middle = os.fork()
    if middle:
        if script["how"] == "daemon":
            os.waitpid(middle, 0)
        return
    if script["how"] != "child":
        os.setsid()
    if script["how"] == "daemon" and os.fork():
        os._exit(0)
    live(role, script)


def live(role: str, script: dict[str, Any]) -> None:
    """Compute for a while; save when asked to, or ignore it, or die of it."""
    saves, about = script["on_term"] == "save", Notes(role, script)
    if script["on_term"] == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif saves:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM}
        )  # waited for below, and a second one ignored
    about.note("ready")
    if signal.sigtimedwait({signal.SIGTERM} if saves else NOBODY_SENDS, script["seconds"]):
        about.note("asked")
        signal.sigtimedwait(NOBODY_SENDS, script["saves_in"])
        checkpoint = f"checkpoints/{os.getpid()}"
        with open(f"{checkpoint}.new", "w") as file:
            file.write(role)
        os.rename(f"{checkpoint}.new", checkpoint)
        about.note("saved")
        os._exit(0)
    about.note("done")
    code = script.get("code", 0)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


class Notes:
    """The ledger, and what is the same in all lines of a process."""

    def __init__(self, role: str, script: dict[str, Any]) -> None:
        self._ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        numbers = {
            what: int(os.environ[f"TORC_{what.upper()}"]) for what in ("run_id", "job_id", "attempt_id")
        }
        self._same = {"pid": os.getpid(), "role": role, **numbers, "saves_in": script.get("saves_in")}

    def note(self, what: str) -> None:
        line = json.dumps({"mono": round(time.monotonic(), 3), "what": what, **self._same})
        os.write(self._ledger, line.encode() + b"\n")


if __name__ == "__main__":
    main()
