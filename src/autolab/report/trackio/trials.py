"""A trial as a run of Trackio: what it set out to do, its learning curve, its scores, and what became of it.

A failure has no score here either: not zero, not infinity. Looks at the sealed split are left out, all of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autolab.ledger.masters import is_sealed, outcome
from autolab.ledger.records import Measurement, Promotion, Status, Trial
from autolab.ledger.views import evidence, timestamp
from autolab.report.trackio.inbox import Record, metric_record
from autolab.report.trackio.naming import plain, run_name

STEPS = 1000  # the end of the budget, as a step: progress in thousandths
_JUDGED = ("screen", "replicate", "confirm")


@dataclass(frozen=True)
class Series:
    """What the runs of one campaign have in common. `sign` is +1 if a higher score is better, else -1."""

    project: str
    campaign: str
    task: str
    key: str
    metric: str
    sign: float
    promotions: Sequence[Promotion]  # oldest first
    known: Mapping[int, str]  # states of the trials that were ever promoted

    def master_score(self, at: float) -> float | None:
        """The score with which the master in force at a time was promoted; None before there was one."""
        place = bisect.bisect_right(self.promotions, at, key=lambda one: one.at)
        return self.promotions[place - 1].score if place else None

    def delta_at_launch(self, trial: Trial) -> float | None:
        """How much better a trial scored than the master that was in force when it was opened."""
        before = self.master_score(trial.created_at)
        return None if before is None or trial.score is None else self.sign * (trial.score - before)


def trial_records(
    series: Series, trial: Trial, measurements: Sequence[Measurement], parent: str
) -> Iterator[Record]:
    """Everything there is to show of a trial that is queued or done, its config last; `parent` is its parent's id."""
    run = run_name(trial)
    seen = _shown(trial, measurements)

    def row(log_id: str, step: int, at: float, metrics: Mapping[str, float], **more: Any) -> Record:
        return metric_record(
            series.project, run, trial.id, log_id, step=step, at=at, metrics=metrics, **more
        )  # fmt: skip

    for one in seen:
        if one.id.startswith(f"{trial.id}-screen-0-") and one.status is not Status.INFRA_ERROR:
            took = max(0.0, one.finished_at - one.started_at)
            for place, (progress, value) in enumerate(one.curve):
                at = one.started_at + progress * took
                yield row(f"{one.id}:{place}", round(STEPS * progress), at, {"train/claimed": value})
    scored = [one for one in seen if one.status is Status.OK and one.score is not None]
    for place, one in enumerate(sorted(scored, key=lambda one: (one.finished_at, one.id)), start=1):
        assert one.score is not None
        values = {f"measured/{series.metric}": one.score, "measured/train_s": one.train_seconds}
        yield row(one.id, place, one.finished_at, values)
    if trial.status is Status.OK and trial.score is not None and trial.finished_at is not None:
        yield row(f"{trial.id}:final", STEPS, trial.finished_at, _final(series, trial, measurements))
    config = _config(series, trial, seen, parent)
    yield row(f"{trial.id}:open", 0, trial.created_at, {}, config=config)


def told(trial: Trial, measurements: Sequence[Measurement]) -> str:
    """What changes whenever there is more to show of a trial that is not finished."""
    return f"{trial.state} {len(_shown(trial, measurements))}"


def _shown(trial: Trial, measurements: Sequence[Measurement]) -> list[Measurement]:
    """The finished measurements that a trial is judged by; never one on the sealed split."""
    if trial.finished_at is not None:
        chosen = evidence(trial, measurements)
    else:
        chosen = [one for one in measurements if one.status is not None and one.stage in _JUDGED]
    return [one for one in chosen if not is_sealed(one)]


def _final(series: Series, trial: Trial, measurements: Sequence[Measurement]) -> dict[str, float]:
    done = _shown(trial, measurements)
    values: dict[str, float | None] = {
        f"final/{series.metric}": trial.score,
        "final/delta_vs_master": trial.delta,
        "final/delta_vs_master_at_launch": series.delta_at_launch(trial),
        "final/measurements": sum(not one.cached_from for one in done),
        "final/train_s": sum(one.train_seconds for one in done),
        "final/eval_s": sum(one.eval_seconds for one in done),
        "final/peak_memory_mb": max((one.peak_memory_mb for one in done), default=None),
        "final/cost_usd": sum(one.cost_usd for one in done)
        + (trial.proposal.cost_usd if trial.proposal else 0.0),
        "final/model_tokens": trial.proposal.tokens if trial.proposal else 0,
    }
    return {name: value for name, value in values.items() if value is not None}


def _config(series: Series, trial: Trial, seen: Sequence[Measurement], parent: str) -> dict[str, Any]:
    first = seen[0] if seen else None
    proposal = trial.proposal
    config = {
        "_Group": series.campaign,
        "_Created": timestamp(trial.created_at),
        "trial": trial.id,
        "ordinal": trial.ordinal,
        "status": str(trial.status or trial.state),
        "outcome": outcome(trial, series.known),
        "hypothesis": plain(trial.hypothesis),
        "reason": plain(trial.note),
        "parent": parent,
        "role": plain(trial.role),
        "agent": plain(trial.agent),
        "surface": plain(trial.surface),
        "sources": plain(", ".join(proposal.sources)) if proposal else "",
        "seed": str(first.seed) if first else "",
        "host": plain(first.host) if first else "",
        "sandbox": first.sandbox if first else "",
        "evidence": first.evidence if first else "",
        "executor": plain(trial.executor),
        "program": trial.program or "",
        "campaign": series.campaign,
        "task": series.task,
        "key": series.key,
        "finished": timestamp(trial.finished_at) if trial.finished_at is not None else "",
    }
    return {name: value for name, value in config.items() if value != ""}
