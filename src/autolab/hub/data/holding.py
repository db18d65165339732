"""Who uses a folder of prepared data: a lock beside the folder, which ends with the process that holds it.

Whoever measures with the data or makes it holds the folder together with others; whoever removes or replaces
it must have it alone.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Use a folder, and make it if it is missing; waits while somebody has it alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(_lock_file(folder), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        folder.mkdir(exist_ok=True)
        yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Have a folder alone for a while; gives at once whether that is so."""
    with open(_lock_file(folder), "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")
