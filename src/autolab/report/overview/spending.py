"""What a campaign had spent by a moment: of slots, and of money."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from autolab.ledger.records import Trial
from autolab.ledger.runs import Run
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.words import HOUR


class Spending:
    """Running totals over time."""

    def __init__(self, found: Gathered) -> None:
        self._hours = _Total((run.finished_at, seconds_of(run) / HOUR) for run in found.runs)
        self._dollars = _Total(_payments(found))

    def hours(self, at: float) -> float:
        """Hours of slots, for training and evaluation, in measurements that had ended by then (Unix time)."""
        return self._hours.until(at)

    def dollars(self, at: float) -> float:
        """US dollars for sessions of models and for jobs that had ended by then."""
        return self._dollars.until(at)


def seconds_of(run: Run) -> float:
    """How long a measurement trained and was evaluated; nothing if its result was taken from another one."""
    return 0.0 if run.cached else run.train_seconds + run.eval_seconds


def dollars_of(trial: Trial, runs: Iterable[Run]) -> float:
    """What a trial cost: the model that proposed it, and the machines that measured it."""
    return (trial.proposal.cost_usd if trial.proposal else 0.0) + sum(run.cost_usd for run in runs)


def _payments(found: Gathered) -> list[tuple[float, float]]:
    """(when, US dollars). Of other labs' campaigns only their trials' costs are known."""
    if found.campaign.lab:
        runs = found.own_runs
        return [(t.finished_at or 0.0, dollars_of(t, runs.get(t.number, ()))) for t in found.trials]
    jobs = [(job.ended_at, job.cost_usd) for job in found.jobs]
    return [(s.at, s.cost_usd) for s in found.sessions] + [
        (at, cost) for at, cost in jobs if at is not None and cost is not None
    ]


class _Total:
    def __init__(self, parts: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(parts)
        self._times = [at for at, _ in ordered]
        self._sums = [0.0, *accumulate(value for _, value in ordered)]

    def until(self, at: float) -> float:
        return self._sums[bisect_right(self._times, at)]
