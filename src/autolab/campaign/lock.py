"""One campaign at a time in a directory; the lock goes with its process, kill -9 included."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from autolab.errors import LabError
from autolab.lab import STATE_DIRECTORY


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the directory's campaign lock; it goes with the process, kill -9 included. Raises LabError."""
    path = _lock_file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as lock:
        for patience in (0.05, 0.05, 0.05, 0.0):  # `autolab status` looks at the lock for an instant
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if patience:
                    time.sleep(patience)
                    continue
                lock.seek(0)
                raise LabError(
                    f"another `autolab run` is at work here (process {lock.read().strip() or 'unknown'})",
                    where=str(root),
                    mend="`autolab stop` ends it; `autolab status` and `steer` work beside it",
                ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def holder(root: Path) -> str | None:
    """The process id of the campaign that is at work in a directory, or None."""
    try:
        with open(_lock_file(root), encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "unknown"
    except OSError:
        pass
    return None


def _lock_file(root: Path) -> Path:
    return root / STATE_DIRECTORY / "campaign.lock"
