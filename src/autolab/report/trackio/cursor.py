"""How far the mirror is. It only saves work: without it everything is written again, which adds nothing."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1


@dataclass
class Reached:
    """What of one campaign has been written."""

    finished: int = 0  # trials up to this place in the order in which they finished
    unfinished: dict[str, str] = field(default_factory=dict)  # trial number -> what was told of it
    states: dict[str, str] = field(default_factory=dict)  # promoted trial's number -> its state then
    bucket: int = 0  # of the fleet
    last: str = ""  # id of the fleet's last row
    alerts: list[str] = field(default_factory=list)  # of the campaign as a whole


@dataclass
class Cursor:
    """What has been written, by campaign; `fragment` is the number of the next fragment."""

    fragment: int = 1
    campaigns: dict[str, Reached] = field(default_factory=dict)

    def of(self, campaign: str) -> Reached:
        """How far a campaign is; from now on it is counted."""
        return self.campaigns.setdefault(campaign, Reached())


def load(path: Path) -> Cursor:
    """The cursor in a file, or one that knows nothing if it is lost, damaged, or of another version."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            return Cursor()
        return Cursor(
            _count(raw["fragment"]), {name: _reached(some) for name, some in raw["campaigns"].items()}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Cursor()


def save(path: Path, cursor: Cursor) -> None:
    """Replace the file, all of it or nothing. Raises OSError."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(cursor)}), encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _reached(raw: dict[str, Any]) -> Reached:
    return Reached(
        finished=_count(raw["finished"]),
        unfinished={str(key): str(value) for key, value in raw["unfinished"].items()},
        states={str(key): str(value) for key, value in raw["states"].items()},
        bucket=_count(raw["bucket"]),
        last=str(raw["last"]),
        alerts=[str(name) for name in raw["alerts"]],
    )


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value
