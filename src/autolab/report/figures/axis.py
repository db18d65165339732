"""The x axis of a staircase: trials, wall time, compute or cost, as a campaign went on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autolab.report.overview.records import Climb, Mark, Overview
from autolab.report.overview.words import HOUR

AXES = ("trials", "time", "compute", "cost")


@dataclass(frozen=True)
class Axis:
    """Where trials and changes of the master lie; `mark` is None for a trial that has no place yet."""

    label: str
    mark: Callable[[Mark], float | None]
    climb: Callable[[Climb], float]


def axis_of(view: Overview, name: str) -> Axis:
    """One of AXES for a campaign."""
    if name == "time":
        hours = _lasted(view) > 2 * HOUR
        unit, seconds = ("hours", HOUR) if hours else ("minutes", 60.0)
        return Axis(
            f"{unit} since the campaign began",
            lambda mark: None if mark.finished_at is None else (mark.finished_at - view.began) / seconds,
            lambda climb: (climb.at - view.began) / seconds,
        )
    if name == "compute":
        return Axis(
            f"{view.headline.compute_unit} spent", _done(lambda m: m.compute_hours), lambda c: c.compute_hours
        )
    if name == "cost":
        return Axis("US dollars spent", _done(lambda m: m.spent_dollars), lambda c: c.spent_dollars)
    return Axis(
        "trial, in the order in which they finished", lambda mark: mark.place, lambda climb: climb.place
    )


def _done(value: Callable[[Mark], float]) -> Callable[[Mark], float | None]:
    return lambda mark: None if mark.finished_at is None else value(mark)


def _lasted(view: Overview) -> float:
    return max((mark.finished_at or view.began for mark in view.marks), default=view.began) - view.began
