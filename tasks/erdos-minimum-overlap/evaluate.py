"""Own the score: the upper bound on Erdős' minimum overlap constant that a step function proves. Exact.

    python evaluate.py        # the lab runs it after training; by hand it reads ./.autolab/by-hand/construction.json

The recipe leaves `construction.json`: {"steps": [h_0, ..., h_(n-1)]}, the values in [0, 1] of a function h on [0, 2]
with n equal steps. Every number means the IEEE double nearest to what is written.

*Normalisation.* h must have the integral 1, which doubles rarely add up to. So with S the sum of the steps, what is
scored is h * n / (2 S) if 2 S >= n, and otherwise the same of the complement 1 - h, whose overlaps are those of h with
the shifts reversed. Either is scaled down, by a rational number: the function scored has its steps in [0, 1] and the
sum n / 2 exactly, whatever was handed in, and there is no tolerance to gain from.

*Score.* The largest overlap over all shifts x of the integral of h(t) (1 - h(t + x)) over the t for which both lie
in [0, 2]. Between shifts by whole steps it is linear in x, so the largest is at a whole step: 2n - 1 rational numbers,
all computed in integers, the products by one multiplication of two very large integers (Kronecker's substitution).

No word of the recipe is believed: a key beside `steps` (a bound, say) is refused, and no code of the recipe runs here.
Standard library only.
"""

from __future__ import annotations

import json
import math
import os
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

FEWEST, MOST = 2, 2000  # steps; the best known function of each paper has 51 to 600
LARGEST_FILE = 128 << 10  # bytes
LONGEST_NUMBER = 40  # characters; a double never needs more than 24
FINEST = 1 << 200  # numbers smaller than one part in this are refused: they cost time and change nothing
EXTREME = 1e-6  # distance from 0 or 1 below which a step counts as there; a descriptor, no rule
ACTIVE = (
    1000  # an overlap counts as one of the largest within this fraction of the largest; a descriptor, no rule
)


class Refused(Exception):
    """The artifact is no such function: a status other than ok, and why."""

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


def read_construction(data: bytes) -> list[float]:
    """The steps of an artifact, as finite doubles. Raises Refused; knows nothing of overlaps."""
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
    if not isinstance(found, dict) or set(found) != {"steps"}:
        raise Refused("illegal", 'construction.json must be {"steps": [...]}, and hold nothing else')
    steps = found["steps"]
    if not isinstance(steps, list) or not FEWEST <= len(steps) <= MOST:
        raise Refused("illegal", f"steps must be a list of {FEWEST} to {MOST}")
    for place, step in enumerate(steps):
        # All JSON numbers have become floats; what is no float is a string, a bool, a null or a container.
        if type(step) is not float:
            raise Refused("illegal", f"step {place} is not a number")
    return steps


# -----------------------------------------------------------------------------------------------------------
# 2. The overlap, in integers.


def products(values: list[int]) -> list[int]:
    """Of n integers >= 0: the sums of values[i] * values[i + k] over i, for k = 0 .. n - 1."""
    width = (
        2 * max(values).bit_length() + len(values).bit_length() + 8
    ) // 8  # bytes that hold any of the sums
    forward = int.from_bytes(b"".join(value.to_bytes(width, "little") for value in values), "little")
    backward = int.from_bytes(
        b"".join(value.to_bytes(width, "little") for value in reversed(values)), "little"
    )
    packed = (forward * backward).to_bytes(2 * width * len(values), "little")
    places = range(len(values) - 1, 2 * len(values) - 1)
    return [int.from_bytes(packed[width * place : width * (place + 1)], "little") for place in places]


def score(steps: list[float]) -> dict[str, float]:
    """The largest overlap, and what tells functions apart. Raises Refused if it is no such function."""
    ratios = [step.as_integer_ratio() for step in steps]
    one = max(denominator for _, denominator in ratios)
    if one > FINEST:
        raise Refused("illegal", "a step is finer than 2^-200: write 0")
    values = [numerator * (one // denominator) for numerator, denominator in ratios]
    for place, value in enumerate(values):
        if not 0 <= value <= one:
            raise Refused("illegal", f"step {place} is outside [0, 1]")
    n = len(values)
    if 2 * sum(values) < n * one:
        values = [one - value for value in values]
    total = sum(values)
    # Scaled: h_i = n * values[i] / (2 * total). The overlap at shift k is (2 / n) * sum of h_i * (1 - h_(i+k)): that is
    # (2 * total * S_k - n * P_k) / (2 * total^2), where S_k adds the values that have a partner and P_k the products.
    same = products(values)
    starts, ends = list(accumulate(values)), list(accumulate(reversed(values)))
    overlaps = [2 * total * starts[n - 1 - k] - n * same[k] for k in range(n)]
    overlaps += [2 * total * ends[n - 1 - k] - n * same[k] for k in range(1, n)]
    largest = max(overlaps)
    scaled = [n * value / (2 * total) for value in values]
    return {
        "overlap": largest / (2 * total**2),  # the quotient of integers is rounded once, correctly
        "step_count": float(n),
        "extreme_share": sum(not EXTREME < h < 1 - EXTREME for h in scaled) / n,
        "asymmetry": sum(abs(a - b) for a, b in zip(scaled, reversed(scaled), strict=True)) / n,
        "active_share": sum(ACTIVE * overlap >= (ACTIVE - 1) * largest for overlap in overlaps)
        / len(overlaps),
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
