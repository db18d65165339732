"""One campaign at a time in a directory; the lock goes with its process, kill -9 included."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from autolab.errors import LabError
from autolab.lab import STATE_DIRECTORY
from autolab.ledger.store import Ledger


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
                pid, command = _who(lock.read())
                ends = "`autolab stop` ends it; `autolab status` and `steer` work beside it"
                raise LabError(
                    f"another `autolab {command}` is at work here (process {pid})",
                    where=str(root),
                    mend=ends if command in ("run", "serve") else "wait until it has ended",
                ) from None
        lock.truncate(0)
        words = [word for word in sys.argv[1:] if word.isalpha()]
        lock.write(f"{os.getpid()} {words[0] if words else 'run'}")
        lock.flush()
        yield


def holder(root: Path) -> str | None:
    """The process id of the campaign that is at work in a directory, or None."""
    found = at_work(root)
    return found[0] if found else None


def works_on(root: Path, ledger: Ledger, campaign: str) -> bool:
    """Whether somebody is at work on this campaign. The lock says only that somebody is at work in the directory, and
    that is on this lab's newest campaign: older ones are over, and those of other labs are not worked on here."""
    if holder(root) is None:
        return False
    own = ledger.campaigns()
    return bool(own) and own[-1].id == campaign


def at_work(root: Path) -> tuple[str, str] | None:
    """(process id, command) of what holds a directory's campaign lock, or None."""
    try:
        with open(_lock_file(root), encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _who(lock.read())
    except OSError:
        pass
    return None


def _who(text: str) -> tuple[str, str]:
    """(process id, command) from the lock's content."""
    pid, _, command = text.strip().partition(" ")
    return pid or "unknown", command or "run"


def _lock_file(root: Path) -> Path:
    return root / STATE_DIRECTORY / "campaign.lock"
