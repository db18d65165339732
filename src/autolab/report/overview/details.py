"""What an opened row shows of one trial: what was meant, what was changed, what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from autolab.ledger.masters import is_sealed
from autolab.ledger.records import Measurement, Trial
from autolab.ledger.runs import kin
from autolab.ledger.store import Ledger
from autolab.program.difference import unified_diff
from autolab.program.edits import EditRefused, apply_edits
from autolab.program.hashing import Files
from autolab.report.overview.records import Detail, Run

PAGE = 200  # trials that are read at once


def detail(ledger: Ledger, number: int) -> Detail:
    """One trial by its number, finished or not. Raises LabError if there is none."""
    trial = ledger.trial(number)
    children = [ledger.trial_id(child) for child in ledger.children(number)]
    return _detail(ledger, trial, ledger.measurements(number), children)


def details(ledger: Ledger, campaign: str) -> Iterator[tuple[int, Detail]]:
    """(ordinal, detail) of every trial of a campaign, by ordinal, read in pages; a trial's children are those of its
    own campaign."""
    every = kin(ledger, campaign)
    children: dict[int, list[str]] = defaultdict(list)
    for one in every:
        if one.parent is not None:
            children[one.parent].append(one.id)
    for start in range(0, len(every), PAGE):
        numbers = [one.number for one in every[start : start + PAGE]]
        for trial, measured in ledger.outcomes(numbers):
            yield trial.ordinal, _detail(ledger, trial, measured, children.get(trial.number, ()))


def _detail(ledger: Ledger, trial: Trial, measured: Iterable[Measurement], children: Sequence[str]) -> Detail:
    proposal = trial.proposal
    return Detail(
        id=trial.id,
        note=trial.note,
        rationale=proposal.rationale if proposal else "",
        expected=proposal.expected_effect if proposal else "",
        sources=proposal.sources if proposal else (),
        patch=_patch(ledger, trial),
        runs=tuple(map(_run, measured)),
        children=tuple(children),
    )


def _patch(ledger: Ledger, trial: Trial) -> str:
    """What a trial changed; of one that was refused before it had a program, what it would have changed. Empty for the
    baseline, and where one of the two programs is not in this ledger."""
    old = _program(ledger, trial.parent_program)
    if old is None or trial.ordinal == 0:
        return ""
    new = _program(ledger, trial.program)
    if trial.program is None and trial.proposal is not None:
        try:
            new = apply_edits(old, trial.proposal.edits)
        except EditRefused:
            return ""
    return unified_diff(old, new) if new is not None else ""


def _program(ledger: Ledger, name: str | None) -> Files | None:
    try:
        return ledger.program(name) if name else None
    except KeyError:
        return None


def _run(measured: Measurement) -> Run:
    """A measurement; of a look at the sealed split nothing that could tell its score."""
    sealed = is_sealed(measured)
    return Run(
        stage=measured.stage,
        status=str(measured.status or "running"),
        score=None if sealed else measured.score,
        seed=measured.seed,
        host=measured.host,
        seconds=measured.train_seconds + measured.eval_seconds,
        cpu_seconds=measured.train_cpu_seconds,
        memory_mb=measured.peak_memory_mb,
        evidence=measured.evidence,
        sandbox=measured.sandbox,
        cause="" if sealed else measured.cause,
        metrics={} if sealed else measured.metrics,
        curve=() if sealed else measured.curve,
        log="" if sealed else measured.log_excerpt,
    )
