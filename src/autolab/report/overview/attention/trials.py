"""Concerns about how trials ended."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from autolab.ledger.masters import outcome
from autolab.ledger.records import BROKE_RULES, FAILURES, Status, Trial, Verdict
from autolab.ledger.views import cell
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Concern, Level
from autolab.report.overview.words import counted, percent, quote

CLUSTER = 3  # failures of one cause, from which they are a cluster: that many are no coincidence
MOST_CLUSTERS = 12  # that are named; the others are counted
CAUSE = 80  # characters by which causes are told apart
WASTEFUL = 0.2  # share of the trials, from which repeats and empty proposals are worth a warning
LOSSES = 0.1  # share of the trials, from which losses to the machine are


def of_trials(found: Gathered) -> Iterator[Concern]:
    """Rules that were broken, failures that share a cause, trials that brought nothing, wins that are not shown."""
    trials = found.candidates
    broke = [trial for trial in trials if trial.status in BROKE_RULES]
    if broke:
        text = f"{counted(len(broke), 'trial')} broke the rules: {quote(broke[-1].note)}"
        yield Concern("tampering", "error", text, names(broke), f"autolab show {broke[-1].id}")
    yield from _failures(trials)
    yield from _promising(found)
    steer = 'autolab steer "…"'
    duplicates = [trial for trial in trials if trial.status is Status.DUPLICATE]
    yield from _share("duplicates", duplicates, trials, "repeated earlier ones", WASTEFUL, steer)
    lost = [trial for trial in trials if trial.status is Status.INFRA_ERROR]
    text = "failed by the machine, not by the code"
    yield from _share("infra", lost, trials, text, LOSSES, "autolab doctor")
    without = [trial for trial in trials if trial.status is Status.PROPOSAL_FAILED]
    abandoned = [trial for trial in without if trial.note.startswith("abandoned")]
    empty = [trial for trial in without if not trial.note.startswith("abandoned")]
    yield from _share("abandoned", abandoned, trials, "were abandoned by their agents", WASTEFUL, "")
    yield from _share("proposals", empty, trials, "ended without a usable proposal", WASTEFUL, steer)


def names(trials: Iterable[Trial]) -> tuple[str, ...]:
    """Their ids, the one that finished last first."""
    return tuple(trial.id for trial in trials)[::-1]


def cause_of(trial: Trial) -> str:
    """Why a trial failed, without the numbers in it: what is the same for all failures of one kind."""
    return re.sub("[0-9]+", "#", cell(trial.note))[:CAUSE]


def _failures(trials: Sequence[Trial]) -> Iterator[Concern]:
    """Failures by cause, the largest group first; those that came alone are one concern together."""
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.status in FAILURES:
            groups[str(trial.status), cause_of(trial)].append(trial)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    alike = [item for item in ordered if len(item[1]) > 1][:MOST_CLUSTERS]
    for (status, _), some in alike:
        text = f"{len(some):,} × {status}: {quote(some[-1].note)}"
        level: Level = "warning" if len(some) >= CLUSTER else "info"
        yield Concern("crash_cluster", level, text, names(some), f"autolab show {some[-1].id}")
    told = {key for key, _ in alike}
    others = [trial for trial in trials if trial.status in FAILURES and key_of(trial) not in told]
    if others:
        more = "more " if alike else ""
        text = f"{counted(len(others), f'{more}trial')} failed, the last one by {others[-1].status}:"
        text += f" {quote(others[-1].note)}"
        yield Concern("failures", "info", text, names(others), f"autolab show {others[-1].id}")


def key_of(trial: Trial) -> tuple[str, str]:
    """What failures of one group share: how they ended, and why."""
    return str(trial.status), cause_of(trial)


def _promising(found: Gathered) -> Iterator[Concern]:
    some = [t for t in found.candidates if outcome(t, found.known) == Verdict.PROVISIONAL]
    if some:
        best = max(some, key=lambda trial: (trial.delta or 0.0, trial.ordinal))
        by = f", the best of them by {best.delta:.3g}" if (best.delta or 0.0) > 0 else ""
        were = "was" if len(some) == 1 else "were"
        text = f"{counted(len(some), 'trial')} {were} better so far and not shown to be{by}"
        yield Concern("unconfirmed", "info", text, names(some), f"autolab confirm {best.id}")


def _share(
    kind: str, some: Sequence[Trial], trials: Sequence[Trial], text: str, grave: float, mend: str
) -> Iterator[Concern]:
    """A concern about a part of the trials; a warning if it is so large a share, and no coincidence."""
    if some:
        share = len(some) / len(trials)
        level: Level = "warning" if share >= grave and len(some) >= CLUSTER else "info"
        told = f"{len(some):,} of {counted(len(trials), 'trial')} ({percent(round(share, 2))}) {text}"
        yield Concern(kind, level, told, names(some), mend)
