"""How bad a learning curve may be before it is not worth the rest of its budget, from curves of the master.

A curve is (progress 0..1, value) in rising progress, lower is better, as recipes report it themselves. So a band only
ever saves compute: a run that ends is judged by its score alone.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from autolab.ledger.records import Band, Curve, Measurement, Status
from autolab.task import EarlyAbort

GRID = 40  # places over the whole budget
LEAST = 3  # curves, without which there is no band
FLOOR = 0.05  # least distance of the worst value allowed from the curves, as a share of their value
NEAR = 2  # places on each side whose spread is taken together
MEDIAN_DIFFERENCE = 0.9539  # median |a - b| of two draws of a normal distribution of SD 1: sqrt(2) * 0.6745
# Stages whose measurements a trial has when it becomes master. Later ones (controls, replays) come when other trials
# let them, and a band must not depend on which slot was quicker.
STAGES = ("screen", "replicate", "confirm")


def band_for(rule: EarlyAbort, master: Iterable[Measurement], baseline: Iterable[Measurement]) -> Band:
    """What a screening run may not exceed, from all measurements of the trial that made its master and of the
    baseline's. Empty if either has fewer than 3 curves: then nothing is stopped."""
    bands = [band(_curves(measured), rule.sds, rule.start) for measured in (master, baseline)]
    return loosened(*bands)


def _curves(measured: Iterable[Measurement]) -> list[Curve]:
    return [one.curve for one in measured if one.stage in STAGES and one.status is Status.OK]


def band(curves: Sequence[Sequence[tuple[float, float]]], sds: float, start: float) -> Band:
    """(progress, lowest, highest, worst value allowed) at places of a fixed grid from `start` on, in rising progress.

    The worst value allowed is `sds` standard deviations above the median of the curves, at least 5 %. The deviation
    comes from the median difference between two curves (robust, and unbiased for few curves, which the median
    deviation from their median is not). Few curves may by luck lie close together, so it counts as 1 + 3/(n - 2)²
    times as much: with it, 6 SD stop about 1 in 1,000 runs that are like the master's, for n from 3 to 12, even if
    a run keeps its distance from the others from beginning to end. Empty where fewer than 3 curves reach.
    """
    rows: list[tuple[float, list[float]]] = []
    for place in (k / GRID for k in range(math.ceil(start * GRID), GRID + 1)):
        values = [value for curve in curves if (value := _value_at(curve, place)) is not None]
        if len(values) >= LEAST:
            rows.append((place, values))
        elif rows:
            break
    found = []
    for index, (place, values) in enumerate(rows):
        near = rows[max(0, index - NEAR) : index + NEAR + 1]
        spread = statistics.median(
            abs(one - other) for _, some in near for one, other in itertools.combinations(some, 2)
        )
        widened = 1 + 3 / (len(values) - 2) ** 2
        centre = statistics.median(values)
        margin = max(sds * widened * spread / MEDIAN_DIFFERENCE, FLOOR * abs(centre))
        found.append((place, min(values), max(values), centre + margin))
    return tuple(found)


def loosened(one: Band, other: Band) -> Band:
    """The first band, with the worst values of the second where those allow more; without what only one of them
    covers.

    With the master's band and the baseline's, no recipe that says too much good of itself can stop others by it:
    what is stopped is far behind the recipe that the user wrote, too.
    """
    allowed = {place: worst for place, _, _, worst in other}
    return tuple(
        (place, low, high, max(worst, allowed[place])) for place, low, high, worst in one if place in allowed
    )


def _value_at(curve: Sequence[tuple[float, float]], place: float) -> float | None:
    """The curve's value at a progress, on a line between its neighbours; None before its begin and after its end."""
    for (left, value), (right, next_value) in itertools.pairwise(curve):
        if left <= place <= right:
            return value + (next_value - value) * (place - left) / (right - left)
    return None
