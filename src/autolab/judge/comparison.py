"""How much better a program is than the master: always within a host, with the host's wandering level taken out.

On each host, measurements of the master and of the candidate are read in the order of the trials for which they were
made. The master's level there is a random walk, the candidate stands at a fixed distance from it, and a Kalman filter
(Kalman 1960; local-level model of Harvey, "Forecasting, structural time series models", 1989) gives the generalised
least squares estimate of that distance. Hosts are joined by their precision (blocking); a host on which only one of
the two was measured says nothing.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolab.judge.noise import WANDER
from autolab.ledger.records import Observation

DIFFUSE = 1e6  # variance, in units of a measurement's, of what is not known at all
OUTLIER = 3.0  # SDs from the median beyond which a run of the master counts as that far and no farther
NEIGHBOURS = 15  # of the master's newest runs that outliers are told from
KEPT = 24  # of the master's newest runs on a host: earlier ones have no weight left to speak of


@dataclass(frozen=True)
class Comparison:
    """The candidate's `gain` over the master (positive is better, the metric's unit); its variance is `spread` times
    the variance of one measurement (infinite if they were never measured on the same host); `runs` and `controls`
    are the measurements of the candidate and of the master on shared hosts."""

    gain: float
    spread: float
    runs: int
    controls: int


def compare(
    candidate: Sequence[Observation],
    master: Sequence[Observation],
    sd: float,
    sign: float,
    ratios: Mapping[str, float] | None = None,
) -> Comparison:
    """The gain of a candidate over the master. `sd` > 0: of one measurement; `sign`: +1 if more is better, else -1.
    `ratios`: how much more a host scatters than `sd`, where that is known; an infinite one leaves the host out."""
    own, other = _by_host(candidate), _by_host(master)
    weight = total = 0.0
    runs = controls = 0
    for host in own:
        if host in other:
            ratio = (ratios or {}).get(host, 1.0)
            if not math.isfinite(ratio):
                continue
            gain, spread = _on_one_host(own[host], other[host][-KEPT:], sd * ratio, sign)
            spread *= ratio * ratio
            weight += 1 / spread
            total += gain / spread
            runs += len(own[host])
            controls += len(other[host])
    if not weight:
        return Comparison(0.0, float("inf"), 0, 0)
    return Comparison(total / weight, 1 / weight, runs, controls)


def _by_host(observations: Sequence[Observation]) -> dict[str, list[Observation]]:
    found: dict[str, list[Observation]] = defaultdict(list)
    for seen in observations:
        found[seen.host].append(seen)
    return found


def _on_one_host(
    candidate: Sequence[Observation], master: Sequence[Observation], sd: float, sign: float
) -> tuple[float, float]:
    """(gain in the metric's unit, its variance in measurements') by a filter over (level, gain), in units of `sd`."""
    zero = master[0].score
    steps = [
        (seen.at, 0, value) for seen, value in zip(master, _tamed([s.score for s in master], sd), strict=True)
    ]
    steps += [(seen.at, 1, seen.score) for seen in candidate]
    steps.sort(key=lambda step: step[0])
    level = gain = covariance = 0.0
    of_level = of_gain = DIFFUSE
    before = steps[0][0]
    for at, is_candidate, score in steps:
        of_level += WANDER * (at - before)
        before = at
        value = sign * (score - zero) / sd
        # What is seen is level + is_candidate * gain + noise of variance 1.
        to_level = of_level + is_candidate * covariance
        to_gain = covariance + is_candidate * of_gain
        seen_variance = to_level + is_candidate * to_gain + 1.0
        surprise = value - level - is_candidate * gain
        level += to_level / seen_variance * surprise
        gain += to_gain / seen_variance * surprise
        of_level, covariance, of_gain = (
            of_level - to_level * to_level / seen_variance,
            covariance - to_level * to_gain / seen_variance,
            of_gain - to_gain * to_gain / seen_variance,
        )
    return gain * sd, of_gain


def _tamed(scores: Sequence[float], sd: float) -> list[float]:
    """The master's scores with outliers pulled in: one wild run of the master must not make everything look better."""
    if len(scores) < 3:
        return list(scores)
    middle = statistics.median(scores[-NEIGHBOURS:])
    reach = OUTLIER * sd
    return [min(max(score, middle - reach), middle + reach) for score in scores]
