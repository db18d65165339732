"""Own the score: is it a packing, and what do its radii add up to? Exact, with tolerance 0.

    python evaluate.py        # the lab runs it after training; by hand it reads ./.autolab/by-hand/construction.json

The recipe leaves `construction.json`: {"circles": [[x, y, r], ... 26 of them]}. Every number means the IEEE double
nearest to what is written. A double is an integer over a power of two, so all 78 are brought to one denominator and
everything below is integer arithmetic: no rounding, and nothing to be gained from a tolerance. Circles may touch each
other and the walls; they may not overlap by the smallest amount that a double can say.

No word of the recipe is believed: a key beside `circles` (a sum, say) is refused, and no code of the recipe runs here.
Standard library only.
"""

from __future__ import annotations

import json
import math
import os
import sys
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn

CIRCLES = 26
LARGEST_FILE = 64 << 10  # bytes; 78 numbers of 24 characters are 2 kB
LONGEST_NUMBER = 40  # characters; a double never needs more than 24
TOUCHING = 1e-3  # gap to a wall below which a circle counts as lying against it; a descriptor, no rule


class Refused(Exception):
    """The artifact is not a packing: a status other than ok, and why."""

    def __init__(self, status: str, cause: str) -> None:
        super().__init__(f"{status}: {cause}")
        self.status, self.cause = status, cause


# -----------------------------------------------------------------------------------------------------------
# 1. Reading numbers that somebody else wrote.


def _number(text: str) -> float:
    if len(text) > LONGEST_NUMBER:
        raise Refused("illegal", f"a number of {len(text)} characters; {LONGEST_NUMBER} are allowed")
    value = float(text)
    if not math.isfinite(value):
        raise Refused("illegal", f"{text} is not finite")
    return value


def _not_a_number(text: str) -> NoReturn:
    raise Refused("illegal", f"{text} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Refused("illegal", "a key stands there twice")
    return dict(pairs)


def read_construction(data: bytes) -> list[tuple[float, float, float]]:
    """The circles (x, y, r) of an artifact, as finite doubles. Raises Refused; knows nothing of geometry."""
    if len(data) > LARGEST_FILE:
        raise Refused("illegal", f"construction.json is larger than {LARGEST_FILE} bytes")
    try:
        found = json.loads(
            data.decode("utf-8"),
            parse_float=_number,
            parse_int=_number,
            parse_constant=_not_a_number,
            object_pairs_hook=_once,
        )
    except (ValueError, RecursionError):
        raise Refused("illegal", "construction.json is not JSON") from None
    if not isinstance(found, dict) or set(found) != {"circles"}:
        raise Refused("illegal", 'construction.json must be {"circles": [...]}, and hold nothing else')
    circles = found["circles"]
    if not isinstance(circles, list) or len(circles) != CIRCLES:
        raise Refused("illegal", f"circles must be a list of {CIRCLES}")
    for place, circle in enumerate(circles):
        # All JSON numbers have become floats; what is no float is a string, a bool, a null or a container.
        if not isinstance(circle, list) or len(circle) != 3 or not all(type(x) is float for x in circle):
            raise Refused("illegal", f"circle {place} is not three numbers")
    return [(x, y, r) for x, y, r in circles]


# -----------------------------------------------------------------------------------------------------------
# 2. Geometry, in integers.


def score(circles: list[tuple[float, float, float]]) -> dict[str, float]:
    """The sum of the radii, and what tells packings apart. Raises Refused if they are no packing."""
    ratios = [number.as_integer_ratio() for circle in circles for number in circle]
    one = max(
        denominator for _, denominator in ratios
    )  # the side of the square, in units of the finest double
    units = [numerator * (one // denominator) for numerator, denominator in ratios]
    exact = list(zip(units[0::3], units[1::3], units[2::3], strict=True))
    for place, (x, y, r) in enumerate(exact):
        if r <= 0:
            raise Refused("illegal", f"circle {place} has no positive radius")
        if x < r or y < r or x + r > one or y + r > one:
            raise Refused("illegal", f"circle {place} reaches out of the square")
    for (i, (x, y, r)), (j, (u, v, s)) in combinations(enumerate(exact), 2):
        if (x - u) ** 2 + (y - v) ** 2 < (r + s) ** 2:
            raise Refused("illegal", f"circles {i} and {j} overlap")
    radii = [r for _, _, r in circles]
    walls = sum(min(x - r, y - r, 1 - x - r, 1 - y - r) < TOUCHING for x, y, r in circles)
    return {
        "sum_radii": sum(r for _, _, r in exact) / one,  # the quotient of integers is rounded once, correctly
        "radius_spread": 1 - min(radii) / max(radii),
        "wall_share": walls / CIRCLES,
        "largest_radius": max(radii),
    }


# -----------------------------------------------------------------------------------------------------------
# 3. The evaluator.


def evaluate(path: Path) -> dict[str, Any]:
    """What the lab is told of the artifact at `path`."""
    try:
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except OSError:
            raise Refused("crash", "exited without an artifact: no construction.json") from None
        return {"status": "ok", "cause": "", "metrics": score(read_construction(data))}
    except Refused as refused:
        return {"status": refused.status, "cause": refused.cause, "metrics": {}}


def main() -> None:
    """Read the artifact, measure, leave a result."""
    folder = Path(os.environ.get("AUTOLAB_ARTIFACT") or ".autolab/by-hand")
    result = json.dumps(evaluate(folder / "construction.json"))
    if target := os.environ.get("AUTOLAB_RESULT"):
        temporary = Path(target + ".tmp")
        temporary.write_text(result, encoding="ascii")
        temporary.replace(target)
    sys.stdout.write(result + "\n")


if __name__ == "__main__":
    main()
