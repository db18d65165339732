"""The first judge: beyond two standard deviations of the baseline, and confirmed by a second seed.

"Lower than the best so far" promotes pure noise about four times in 100 null trials, and the luckiest
draw becomes a master that nothing real can beat. Here a candidate must beat the master by more than
two standard deviations of one measurement in a first (screening) and again in a second measurement
with another seed, and what is reported is the second one alone, because it did not select the candidate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from autolab.ledger.records import Verdict
from autolab.task import Task

BASELINE_REPLICATES = 3
SIGMAS = 2.0
Z95 = 1.96


@dataclass(frozen=True)
class Judgement:
    """What the measurements so far say of a candidate; `provisional` asks for the second seed."""

    verdict: Verdict
    score: float
    interval: tuple[float, float]
    gain: float
    note: str


def noise_sd(scores: Sequence[float]) -> float:
    """Standard deviation of one measurement, from replicates of one program (unbiased variance)."""
    return statistics.stdev(scores) if len(scores) > 1 else 0.0


def interval(score: float, sd: float, measurements: int = 1) -> tuple[float, float]:
    """A 95 % interval around the mean of some measurements."""
    half = Z95 * sd / math.sqrt(measurements)
    return score - half, score + half


def margin(task: Task, sd: float) -> float:
    """How much better a score must be than the master's."""
    return max(SIGMAS * sd, task.metric.min_effect)


def judge(task: Task, sd: float, master_score: float, screened: float, confirmed: float | None) -> Judgement:
    """Compare a candidate's screening score, and its second one if there is one, with the master's."""
    need = margin(task, sd)
    gain = task.gain(screened, master_score)
    if gain <= need:
        verdict = Verdict.WORSE if gain < -need else Verdict.NO_DIFFERENCE
        if confirmed is None:
            return Judgement(verdict, screened, interval(screened, sd), gain, "")
    elif confirmed is None:
        note = f"{gain:+.4g} on one seed, needs a second"
        return Judgement(Verdict.PROVISIONAL, screened, interval(screened, sd), gain, note)
    second = task.gain(confirmed, master_score)
    if gain > need and second > need:
        note = f"{second:+.4g} on a fresh seed ({gain:+.4g} when screened)"
        return Judgement(Verdict.CONFIRMED, confirmed, interval(confirmed, sd), second, note)
    note = f"not confirmed: {gain:+.4g} when screened, {second:+.4g} on a fresh seed, {need:.4g} needed"
    verdict = Verdict.WORSE if second < -need else Verdict.NO_DIFFERENCE
    return Judgement(verdict, confirmed, interval(confirmed, sd), second, note)
