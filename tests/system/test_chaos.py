"""A minute of chaos on the real kernel (P5, P9, P10).  Only a violation fails, however slow the machine is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support import waiting
from support.sources import ROOT

MINUTES = 0.8
"""In which rounds begin; the last of them end a little later."""


def test_p9_p10_nothing_gets_away_or_lost_in_chaos(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "benchmarks.chaos", "--minutes", str(MINUTES), "--keep", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as chaos:
        try:
            said, _ = chaos.communicate(timeout=60 * MINUTES + waiting.LIMIT)
        except subprocess.TimeoutExpired:
            chaos.send_signal(signal.SIGABRT)
            raise
    assert chaos.returncode == 0, said
    assert "round 0: fine" in said
