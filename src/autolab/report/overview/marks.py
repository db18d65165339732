"""The staircase: every trial as a mark, every change of the master as a step, the noise as a band."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from autolab.ledger.masters import outcome
from autolab.ledger.records import PROMOTED, Trial
from autolab.ledger.views import evidence
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Climb, Mark, Noise
from autolab.report.overview.spending import Spending, dollars_of, seconds_of

SDS = 2.0  # of the band


def marks(found: Gathered, spent: Spending, running: frozenset[int]) -> tuple[Mark, ...]:
    """Every trial, by ordinal. `running`: the numbers of those that have a slot."""
    place = {trial.number: at for at, trial in enumerate(found.trials)}
    every = sorted(found.by_number.values(), key=lambda trial: (trial.ordinal, trial.number))
    generation: dict[int, int] = {}
    made = []
    for trial in every:
        parent = found.by_number.get(trial.parent_trial) if trial.parent_trial is not None else None
        generation[trial.number] = generation.get(parent.number, 0) + 1 if parent is not None else 0
        made.append(
            _mark(
                found, spent, trial, parent, generation[trial.number], place.get(trial.number),
                "running" if trial.number in running else outcome(trial, found.known),
            )
        )  # fmt: skip
    return tuple(made)


def _mark(
    found: Gathered,
    spent: Spending,
    trial: Trial,
    parent: Trial | None,
    generation: int,
    place: int | None,
    word: str,
) -> Mark:
    runs = found.own_runs.get(trial.number, ())
    judged = evidence(trial, runs)
    until = found.now if trial.finished_at is None else trial.finished_at
    return Mark(
        id=trial.id,
        ordinal=trial.ordinal,
        outcome=word,
        status=str(trial.status or ""),
        role=trial.role,
        agent=trial.agent,
        surface=trial.surface,
        parent=parent.ordinal if parent is not None else None,
        generation=generation,
        score=trial.score,
        low=trial.score_low,
        high=trial.score_high,
        delta=trial.delta,
        measurements=sum(not run.cached for run in judged),
        train_seconds=sum(run.train_seconds for run in judged),
        eval_seconds=sum(run.eval_seconds for run in runs if not run.cached),
        dollars=dollars_of(trial, runs),
        tokens=trial.proposal.tokens if trial.proposal else 0,
        peak_memory_mb=max((run.peak_memory_mb for run in judged), default=0.0),
        created_at=trial.created_at,
        finished_at=trial.finished_at,
        compute_hours=spent.hours(until),
        spent_dollars=spent.dollars(until),
        place=place,
        hypothesis=trial.hypothesis,
        slot_seconds=sum(map(seconds_of, runs)),
    )


def climbs(found: Gathered, shown: Sequence[Mark]) -> tuple[Climb, ...]:
    """Every change of the master, oldest first. One that was made at the end of its own trial lies at that trial; a
    demotion, or a promotion by hand, after the last trial that had ended."""
    finished = sorted((m for m in shown if m.place is not None), key=lambda m: m.place or 0)
    by_id = {mark.id: mark for mark in finished}
    ends = [mark.finished_at or 0.0 for mark in finished]
    for at in range(1, len(ends)):
        ends[at] = max(ends[at], ends[at - 1])  # another lab's come in any order
    made = []
    for step in found.chain:
        promotion, trial = step.promotion, step.trial
        mark = by_id.get(trial.id)
        if step.kind == "demotion" or trial.verdict not in PROMOTED or mark is None:
            mark = finished[max(0, bisect_right(ends, promotion.at) - 1)] if finished else None
        made.append(
            Climb(
                trial.ordinal, trial.id, step.kind, step.state, promotion.score, promotion.score_low,
                promotion.score_high, promotion.gain, promotion.at, (mark.place if mark else None) or 0,
                mark.compute_hours if mark else 0.0, mark.spent_dollars if mark else 0.0, promotion.reason,
            )
        )  # fmt: skip
    return tuple(made)


def noise(found: Gathered) -> Noise | None:
    """The band of one run's noise around the baseline; None while the noise is not known."""
    if found.master is None or not found.master.noise_sd:
        return None
    middle, sd = found.chain[0].promotion.score, found.master.noise_sd
    return Noise(sd, found.master.noise_df, SDS, middle - SDS * sd, middle + SDS * sd)
