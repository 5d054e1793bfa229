"""Speaker: the keeper's thread for stderr.  A terminal that was stopped with Ctrl-S holds up nobody but this thread.

On a terminal it keeps one line of progress up to date below what was said; elsewhere it only says what it is told.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

REDRAW_AFTER = 0.5  # seconds between two looks of the progress line

Progress = Callable[[], str]


class Speaker:
    """Prints lines in order; ``progress`` gives the text of the progress line, None to have none."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._drawn = False
        self._thread = threading.Thread(target=self._work, name="speaker", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        self._texts.put(text)

    def finish(self, limit: float) -> None:
        """Print what is left, for at most ``limit`` seconds: the terminal may be stopped for good."""
        self._texts.put(None)
        self._thread.join(limit)

    def _work(self) -> None:
        while True:
            try:
                text = self._texts.get(timeout=REDRAW_AFTER if self._progress else None)
            except queue.Empty:
                self._draw()
                continue
            self._erase()
            if text is None:
                return
            self._write(f"torc-supervise: {text}\n")
            self._draw()

    def _draw(self) -> None:
        if self._progress is not None:
            self._write(f"\r\x1b[K{self._progress()}")
            self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        """By the system call itself: a lock of sys.stderr that this thread holds for ever would hold others as well."""
        data = memoryview(text.encode(errors="replace"))
        try:
            while data:
                data = data[os.write(2, data) :]
        except OSError:
            return  # nobody listens any more


def terminal_width() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
