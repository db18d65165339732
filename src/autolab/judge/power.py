"""How many runs an effect needs: the judge's own rule is played on simulated trials of known effect.

Scores are normal with the SD that the noise has now, on one host whose level stands still, and the noise is learned on
from the trial's own runs, as in a campaign. An SD that is itself known from few runs makes the answer rough;
`sd_bounds` says how rough.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autolab.judge.noise import Noise
from autolab.judge.promotion import ESTIMATES, Criterion, decide
from autolab.ledger.records import PROMOTED, Observation

TRIALS = 200
NEWEST = 12  # of the master's runs; those before them hardly count, as levels wander
REPEATABILITY = 1.96 * math.sqrt(
    2
)  # SDs by which two runs of one program differ one time in twenty (ISO 5725-6)


@dataclass(frozen=True)
class Cost:
    """Measurements a trial: the mean, and what nine trials in ten stay within."""

    mean: float
    most: int


@dataclass(frozen=True)
class Outlook:
    """What becomes of trials whose true gain is `effect`: the share that is promoted, and the measurements of the
    candidate (those for the report included) and of the master that one trial takes."""

    effect: float
    found: float
    runs: Cost
    controls: Cost


def outlook(
    criterion: Criterion,
    noise: Noise,
    master: Sequence[int],
    ordinal: int,
    effect: float,
    trials: int = TRIALS,
) -> Outlook:
    """Play `decide` for a trial of this ordinal, always with the same seed.

    `noise` must be known. `master`: for which ordinals the master has been measured on the host, oldest first; at
    least one. `effect`: in the metric's unit, positive is better.
    """
    rng = random.Random(7)
    played = [_play(criterion, noise, master[-NEWEST:], ordinal, effect, rng) for _ in range(trials)]
    return Outlook(
        effect,
        statistics.fmean(promoted for promoted, _, _ in played),
        _cost([runs for _, runs, _ in played]),
        _cost([controls for _, _, controls in played]),
    )


def _play(
    criterion: Criterion, noise: Noise, master: Sequence[int], ordinal: int, effect: float, rng: random.Random
) -> tuple[bool, int, int]:
    """(promoted, measurements of the candidate, of the master) of one trial."""

    def measure(program: str, gain: float, at: int) -> Observation:
        return Observation(program, "host", criterion.sign * gain + rng.gauss(0, noise.sd), at)

    known = [measure("master", 0.0, at) for at in master]
    own = [measure("candidate", effect, ordinal)]
    before = len(known)
    while True:
        finding = decide(criterion, _learned(noise, own, known[before:]), own, known, ordinal)
        if finding.verdict is not None:
            break
        own += [measure("candidate", effect, ordinal) for want in finding.want if want == "candidate"]
        known += [measure("master", 0.0, ordinal) for want in finding.want if want == "master"]
    promoted = finding.verdict in PROMOTED
    return promoted, len(own) + ESTIMATES * promoted, len(known) - before


def _learned(noise: Noise, *programs: Sequence[Observation]) -> Noise:
    """The noise with what these programs' runs add to it, as `learn` would pool them."""
    squares, df = noise.df * noise.sd**2, noise.df
    for runs in programs:
        if len(runs) > 1:
            mean = math.fsum(run.score for run in runs) / len(runs)
            squares += math.fsum((run.score - mean) ** 2 for run in runs)
            df += len(runs) - 1
    return replace(noise, sd=math.sqrt(squares / df), df=df)


def _cost(counts: Sequence[int]) -> Cost:
    return Cost(statistics.fmean(counts), sorted(counts)[math.ceil(0.9 * len(counts)) - 1])


def runs_per_arm(effect: float, sd: float, power: float = 0.8, error: float = 0.05) -> int:
    """Runs of each of two programs on one host for a one-sided t-test in fixed groups, made once.

    The normal formula, with Guenther's correction for an SD that is estimated from the groups themselves (The American
    Statistician 35, 1981).
    """
    normal = statistics.NormalDist()
    limit, reach = normal.inv_cdf(1 - error), normal.inv_cdf(power)
    return max(2, math.ceil(2 * ((limit + reach) * sd / effect) ** 2 + limit**2 / 4))


def sd_bounds(sd: float, df: int) -> tuple[float, float]:
    """The 95 % confidence interval of a standard deviation estimated with `df` degrees of freedom (normal scores)."""
    return sd * math.sqrt(df / _chi_square(0.975, df)), sd * math.sqrt(df / _chi_square(0.025, df))


def _chi_square(share: float, df: int) -> float:
    """Quantile of the chi-square distribution, by bisection."""
    low, high = 0.0, df + 12 * math.sqrt(2 * df) + 12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, df) < share else (low, middle)
    return low


def _below(value: float, df: int) -> float:
    """Distribution function of chi-square: a series of the incomplete gamma function (Abramowitz, Stegun, 6.5.29)."""
    half, x = df / 2, value / 2
    term = total = math.exp(half * math.log(x) - x - math.lgamma(half + 1)) if x else 0.0
    step = half
    while term > 1e-14 * total:
        step += 1
        term *= x / step
        total += term
    return total
