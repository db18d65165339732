"""Writes Trackio's fragments: files of JSON lines that its server takes in when it finds them, each record once.

The format is Trackio's own and internal; it is that of the version in `VERSION`. A record that is known by its id is
passed over, except that its config replaces the run's earlier one: so all of this may be written again at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from autolab.errors import LabError
from autolab.ledger.views import timestamp_ms

VERSION = "0.43.0"  # of Trackio, whose fragments these are
FORMAT = 1
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_EXACT = 2**53  # what a browser still counts exactly

Record = dict[str, Any]
Level = Literal["info", "warn", "error"]


def metric_record(
    project: str,
    run: str,
    run_id: str,
    log_id: str,
    *,
    step: int,
    at: float,
    metrics: Mapping[str, float],
    config: Mapping[str, Any] | None = None,
) -> Record:
    """One row of a run at a step; `at` in seconds since the epoch."""
    return {
        "v": FORMAT, "kind": "metric", "project": project, "run": run, "run_id": run_id,
        "metrics": {name: _number(value) for name, value in metrics.items()}, "step": step,
        "timestamp": timestamp_ms(at), "config": dict(config) if config else None, "log_id": log_id,
    }  # fmt: skip


def alert_record(
    project: str, run: str, alert_id: str, *, level: Level, title: str, text: str, step: int, at: float
) -> Record:
    """One alert; of those with the same id there is one."""
    return {
        "v": FORMAT, "kind": "alert", "project": project, "run": run, "run_id": run, "title": title, "text": text,
        "level": level, "step": step, "timestamp": timestamp_ms(at), "alert_id": alert_id,
    }  # fmt: skip


class Inbox:
    """A writer's folder in Trackio's inbox. Fragments are taken in by name, so a later one has a later name."""

    def __init__(self, directory: Path, writer: str) -> None:
        self.directory, self.folder = directory, directory / "inbox" / writer

    def write(self, records: Iterable[Record], number: int) -> int:
        """Write one fragment, all of it or nothing; returns its number, `number` or the next one that is free.

        Raises OSError if the disk is full or not to be written.
        """
        text = "".join(
            json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n" for record in records
        )
        for patience in (True, True, False):  # who takes fragments in removes folders that are empty
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                number = max([number, *(int(path.stem) + 1 for path in self._fragments())])
                self._put(self.folder / f"{number:012d}.jsonl", text)
                return number
            except FileNotFoundError:
                if not patience:
                    raise
        raise AssertionError("unreachable")

    def waiting(self) -> bool:
        """Whether there are fragments that nobody has taken in yet."""
        return any(True for _ in self._fragments())

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes for this writer meanwhile; whoever comes second waits."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / f".{self.folder.name}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fragments(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("*.jsonl") if path.stem.isdecimal())

    @staticmethod
    def _put(path: Path, text: str) -> None:
        temporary = path.with_suffix(
            ".tmp"
        )  # the name is this writer's alone: whatever a killed one left is replaced
        try:
            # Not flushed to the disk: that could make a campaign wait, and all of it can be written again.
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def problem(error: OSError, directory: Path) -> LabError:
    """The one line for a directory that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return LabError("the disk is full", where=str(directory), mend="free some space; nothing is lost")
    what = f"the mirror cannot be written: {os.strerror(error.errno) if error.errno else error}"
    return LabError(what, where=str(directory), mend="check TRACKIO_DIR, its owner and rights")


def _number(value: float) -> float | str:
    """A number as Trackio reads it back: what JSON cannot hold has names."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if abs(value) <= _EXACT else float(value)
