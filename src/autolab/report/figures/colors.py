"""One colour and one mark for each outcome, in pictures and on the page alike.

The colours are Okabe and Ito's (Color Universal Design, 2008), which colour-blind readers tell apart; the marks tell
the same without any colour.
"""

from __future__ import annotations

import math
from typing import Any

BLACK, GREY, ORANGE, SKY, GREEN = "#000000", "#999999", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

# The words of ledger.masters.outcome. Every other word is a status, of a trial that has no score: see FAILED.
COLORS = {
    "baseline": BLACK, "worse": GREY, "no_difference": SKY, "provisional": ORANGE, "confirmed": GREEN,
    "certified": BLUE, "simplification": YELLOW, "demoted": PURPLE, "failed": VERMILLION, "duplicate": GREY,
    "open": GREY, "queued": GREY, "running": BLACK,
}  # fmt: skip
FAILED = "failed"
SPANS = {"training": BLUE, "evaluation": SKY, "failed": VERMILLION, "running": ORANGE}  # what a slot does
GROUPS = (
    BLUE,
    ORANGE,
    GREEN,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
)  # surfaces, roles, hosts: by how many trials they have
REST = GREY  # all further groups

Point = tuple[float, float]
Mark = tuple[Point, ...]  # a closed polygon, -1 to 1, y upwards


def _around(count: int, turn: float = 0.25, inner: float = 1.0) -> Mark:
    """Corners on a circle, the first at `turn` of it; every other one at `inner` of the radius."""
    return tuple(
        (
            round((inner if k % 2 else 1.0) * math.cos(2 * math.pi * (k / count + turn)), 3),
            round((inner if k % 2 else 1.0) * math.sin(2 * math.pi * (k / count + turn)), 3),
        )
        for k in range(count)
    )


_THIN = 0.3
_PLUS: Mark = (
    (-_THIN, 1), (_THIN, 1), (_THIN, _THIN), (1, _THIN), (1, -_THIN), (_THIN, -_THIN),
    (_THIN, -1), (-_THIN, -1), (-_THIN, -_THIN), (-1, -_THIN), (-1, _THIN), (-_THIN, _THIN),
)  # fmt: skip
_CROSS: Mark = tuple((round((x - y) * 0.707, 3), round((x + y) * 0.707, 3)) for x, y in _PLUS)
_UP: Mark = ((0, 1), (0.95, -0.75), (-0.95, -0.75))

MARKS: dict[str, Mark] = {
    "baseline": _around(5),
    "worse": tuple((x, -y) for x, y in _UP),
    "no_difference": _around(24),
    "provisional": _UP,
    "confirmed": _around(4),
    "certified": _around(10, inner=0.45),
    "simplification": ((-0.85, 0.85), (0.85, 0.85), (0.85, -0.85), (-0.85, -0.85)),
    "demoted": ((-0.9, 0.9), (0.9, 0.9), (-0.9, -0.9), (0.9, -0.9)),  # an hourglass
    "failed": _CROSS,
    "duplicate": _PLUS,
    "open": ((-0.25, 1), (0.25, 1), (0.25, -1), (-0.25, -1)),
    "queued": ((-1, 0.25), (1, 0.25), (1, -0.25), (-1, -0.25)),
    "running": ((-0.7, 1), (1, 0), (-0.7, -1)),
}


def shown_as(outcome: str) -> str:
    """The word under which an outcome has its colour and its mark; `ok` is a score that was never judged."""
    if outcome in COLORS:
        return outcome
    return "no_difference" if outcome == "ok" else FAILED


def svg_path(mark: Mark) -> str:
    """A mark as the path of an SVG of any size, y downwards: `M0,-1L1,1L-1,1Z`."""
    return "M" + "L".join(f"{x:g},{-y:g}" for x, y in mark) + "Z"


def palette() -> dict[str, Any]:
    """All of it as JSON, for a page."""
    return {
        "colors": dict(COLORS),
        "paths": {outcome: svg_path(mark) for outcome, mark in MARKS.items()},
        "spans": dict(SPANS),
        "groups": list(GROUPS),
        "rest": REST,
    }
