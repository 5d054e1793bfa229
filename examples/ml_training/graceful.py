"""What the three scripts share: output that cannot fail, and files that are never half written."""

import json
import os
import time
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    """Print a line; a reader that is gone must not cost us the checkpoint.

    In ``python3 train.py | tee train.log`` the signal reaches the whole process group, so tee is dead by the
    time that we say what we are saving.  An uncaught BrokenPipeError would then end us before the save.
    """
    try:
        print(text, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)  # what is still buffered goes there when Python exits
        os.close(null)


def write_json_atomically(path: Path, content: Any, seconds: float = 0.0) -> None:
    """Replace ``path`` as a whole: a reader, or a kill at any instant, finds the old content or the new one.

    The order matters: the data must be on disk before the name points to it, and the name is on disk only
    after the directory was synced.  The temporary file is in the same directory because a rename is atomic
    only within one file system.  Its name is fixed (each file has one writer), so that what a kill left is
    overwritten by the next save instead of piling up.

    ``seconds`` makes the write take that long, with half of the data written: what a big model on a busy file
    system does, for trying out grace periods.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    data = json.dumps(content, allow_nan=False).encode() + b"\n"
    half = len(data) // 2
    with open(temporary, "wb") as file:
        file.write(data[:half])
        file.flush()
        # Python goes on sleeping after a signal whose handler returns (PEP 475): no signal cuts this short.
        time.sleep(seconds)
        file.write(data[half:])
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)  # the same as os.replace
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
