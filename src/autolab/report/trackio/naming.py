"""What things are called in Trackio, and what may stand there of what agents wrote.

Trackio keeps one file for each project, named after the letters, digits and hyphens of the project's name: names that
differ in anything else would share a file.
"""

from __future__ import annotations

import functools
import hashlib
import re

from autolab.hub.leaks import redact
from autolab.ledger.records import Trial
from autolab.ledger.views import cell

_TASK = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_KEY = re.compile(r"[0-9a-f]{16}")
_OURS = "task-"  # before what Trackio keeps for itself
ROOM, SLUG = 200, 32  # characters


def project_name(task: str, key: str) -> str:
    """The project of a comparability key: scores of different keys never share one. Only `[a-z0-9-]`."""
    if _TASK.fullmatch(task) and _KEY.fullmatch(key):
        return _free(f"{task}-{key}")
    told = f"{task}\0{key}".encode("utf-8", "surrogatepass")
    return _free(f"{slug(task) or 'task'}-{hashlib.sha256(told).hexdigest()[:16]}")


def fleet_name(task: str, lab: str) -> str:
    """The project of a lab's campaigns as wholes. No key ends like it."""
    return _free(f"{slug(task) or 'task'}-{slug(lab)}-fleet")


def run_name(trial: Trial) -> str:
    """A trial's id and the first words of its hypothesis; it never changes once the trial is queued."""
    words = slug(plain(trial.hypothesis)) if trial.ordinal else "baseline"
    return f"{trial.id}-{words}" if words else trial.id


def slug(text: str) -> str:
    """A text as `[a-z0-9-]`, at most 32 characters; empty if nothing of it is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:SLUG].strip("-")


@functools.lru_cache(maxsize=4096)
def plain(text: str, room: int = ROOM) -> str:
    """Somebody else's words as one line without control characters and without secrets, at most `room` characters."""
    line = redact(cell(text))
    return line if len(line) <= room else line[: room - 1].rstrip() + "…"


def _free(name: str) -> str:
    return f"{_OURS}{name}" if name.startswith("registry-") else name
