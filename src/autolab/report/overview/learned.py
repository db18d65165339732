"""What a campaign taught: which surfaces and roles brought something, at which price, and what does not work."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from autolab.ledger.dead_ends import changes_left, is_dead_end
from autolab.ledger.masters import DEMOTED, outcome, stood
from autolab.ledger.records import NOT_ITS_FAULT, Status, Trial
from autolab.ledger.views import cell
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import DeadEnd, Group, Learned, Mark
from autolab.report.overview.words import HOUR, counted

MOST_DEAD_ENDS = 200


def learned(found: Gathered, shown: Sequence[Mark]) -> Learned:
    """What the finished trials taught; `shown` are their marks, from which times and dollars are added up."""
    marks = {mark.id: mark for mark in shown}
    return Learned(
        _groups(found, marks, lambda trial: trial.surface),
        _groups(found, marks, lambda trial: trial.role),
        tuple(_dead_ends(found)[:MOST_DEAD_ENDS]),
    )


def gains(found: Gathered) -> dict[int, float]:
    """What each trial gained that was promoted, by its number, where that was not taken back."""
    return {
        step.trial.number: step.promotion.gain
        for step in found.chain
        if step.kind not in ("baseline", "demotion") and stood(step.trial, found.known)
    }


def _groups(
    found: Gathered, marks: dict[str, Mark], key: Callable[[Trial], str]
) -> tuple[Group, ...]:  # fmt: skip
    """The largest first."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in found.candidates:
        groups[key(trial) or "none"].append(trial)
    gained = gains(found)
    made = []
    for name, some in groups.items():
        now = Counter(outcome(trial, found.known) for trial in some)
        own = [marks[trial.id] for trial in some]
        made.append(
            Group(
                name=name,
                trials=len(some),
                valid=sum(trial.status is Status.OK for trial in some),
                promoted=sum(stood(trial, found.known) for trial in some),
                provisional=now["provisional"],
                no_difference=now["no_difference"],
                worse=now["worse"],
                demoted=now[DEMOTED],
                failed=sum(trial.status not in NOT_ITS_FAULT for trial in some),
                gain=sum(gained.get(trial.number, 0.0) for trial in some),
                compute_hours=sum(mark.slot_seconds for mark in own) / HOUR,
                dollars=sum(mark.dollars for mark in own),
            )
        )
    return tuple(sorted(made, key=lambda group: (-group.trials, group.name)))


def _dead_ends(found: Gathered) -> list[DeadEnd]:
    """The newest first, without those that have expired."""
    ends = []
    for trial in reversed(found.candidates):
        left = changes_left(found.changes, trial.finished_at or 0.0)
        if left and is_dead_end(trial.status, trial.verdict) and trial.number not in found.known:
            ends.append(
                DeadEnd(
                    trial.surface, trial.id, trial.hypothesis, outcome(trial, found.known), _evidence(trial),
                    f"after {counted(left, 'change')} of the master",
                )
            )  # fmt: skip
    return ends


def _evidence(trial: Trial) -> str:
    if trial.score is None:
        return cell(trial.note)
    return f"{trial.score:.6g}" + ("" if trial.delta is None else f", {trial.delta:+.3g}")
