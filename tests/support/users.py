"""Running as an ordinary user, in tests that are run by root."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.supervised import Bench

_reserved = socket.socket(socket.AF_UNIX)


def _nobody_elses() -> int:
    """A number that no tests which run beside these have: each is the name of a socket as long as somebody has it."""
    for number in itertools.count(61000 + os.getpid() % 3000):
        try:
            _reserved.bind(f"\0torc-test-user-{number}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return number
    raise AssertionError


NOBODY = _nobody_elses()
"""Limits on processes count those of a user, also of other tests."""


def as_nobody() -> str:
    """For ``Bench.start(before=...)``."""
    return (
        f"set -- setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
        # The interpreter may be in root's home; nothing more may be written because of it.
        '--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@"'
    )


@contextlib.contextmanager
def bench_for_nobody() -> Iterator[Bench]:
    """A bench that an ordinary user can use: below /tmp, because pytest's own directories are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="torc-nobody-"))
    made = Bench(directory)
    for fifo in (made.said.path, made.held.path):
        fifo.chmod(0o666)
    directory.chmod(0o755)
    shutil.chown(directory, NOBODY, NOBODY)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory)
