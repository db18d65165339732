"""Several winners of one parent as one candidate: by their edits if these apply together, else by a coordinator.

The merge is an ordinary trial: the judge promotes it only if it beats the master, and so also the best of the winners
if that was promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autolab.collaboration import Ask, Setting
from autolab.collaboration.common.surfaces import touched, touching
from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Status, Trial, Verdict
from autolab.program.edits import EditRefused, apply_edits, edits_between
from autolab.program.hashing import Files
from autolab.program.patch import patch
from autolab.program.preflight import preflight

LONGEST_DIFF, MOST_DIFFS = 3500, 8  # characters of one winner's, and winners, for the coordinator
LONGEST_HYPOTHESIS = 1000


@dataclass(frozen=True)
class Merged:
    """A program with the edits of some winners; `left_out` are those whose edits clash with better ones."""

    files: dict[str, str]
    of: tuple[int, ...]
    left_out: tuple[int, ...]


def gain_over(setting: Setting, trial: Trial, parent: int | None) -> float | None:
    """By how much an ended trial is better than the trial that a round began from, in the metric's unit; None if it is
    not, or by so little that the task calls it no difference. The score of one run is enough: what it says of noise is
    the judge's to find out."""
    if parent is None or trial.status is not Status.OK or trial.verdict is Verdict.WORSE:
        return None
    reference = setting.ledger.trial(parent).score
    if trial.score is None or reference is None:
        return None
    gain = setting.task.gain(trial.score, reference)
    return gain if gain > setting.task.metric.min_effect else None


def merge(parent: Files, programs: Sequence[tuple[int, Files]]) -> Merged:
    """The parent with the edits of `programs`, (trial, files) with the best one first, as far as they apply together
    and leave a program that compiles."""
    files = dict(parent)
    taken: list[int] = []
    left_out: list[int] = []
    for number, program in programs:
        try:
            tried = apply_edits(files, edits_between(parent, program))
        except EditRefused:
            left_out.append(number)
            continue
        if preflight(tried) is None:
            files = tried
            taken.append(number)
        else:
            left_out.append(number)
    return Merged(files, tuple(taken), tuple(left_out))


async def combine(setting: Setting, ask: Ask, ticket: Ticket, winners: Sequence[int]) -> Proposal:
    """The merge of the winners, best first, of the ticket's parent. If fewer than two apply together, the coordinator
    is asked for it, with their diffs. Raises what `ask` raises."""
    ledger, parent = setting.ledger, ticket.parent_files
    trials = {number: ledger.trial(number) for number in winners}
    programs = [(number, ledger.program(trial.program or "")) for number, trial in trials.items()]
    merged = merge(parent, programs)
    if len(merged.of) >= 2:
        joined = [trials[number] for number in merged.of]
        said = "; ".join(trial.hypothesis.rstrip(".") for trial in joined)
        found = Proposal(said, edits_between(parent, merged.files), rationale=_left_out(trials, merged))
    else:
        joined = [trials[number] for number in winners[:MOST_DIFFS]]
        found = await ask(replace(ticket, notes=(*ticket.notes, *_diffs(joined, programs, parent))))
    own = [surface for trial in joined if trial.proposal for surface in touched(trial.proposal)]
    names = " and ".join(trial.id for trial in joined)
    return replace(
        found,
        hypothesis=f"Merges {names}: {found.hypothesis}"[:LONGEST_HYPOTHESIS],
        surface=found.surface or joined[0].surface,
        sources=tuple(dict.fromkeys((*found.sources, *_sources(joined)))),
        move=touching(own),
    )


def _left_out(trials: dict[int, Trial], merged: Merged) -> str:
    names = ", ".join(trials[number].id for number in merged.left_out)
    return f"left out, since they change the same lines: {names}" if names else ""


def _sources(trials: Sequence[Trial]) -> list[str]:
    return [source for trial in trials if trial.proposal for source in trial.proposal.sources]


def _diffs(trials: Sequence[Trial], programs: Sequence[tuple[int, Files]], parent: Files) -> list[str]:
    """What each winner changed, for somebody who is to do all of it at once."""
    return [
        f"{trial.id} ({trial.surface or 'any surface'}, score {trial.score:.6g}): {trial.hypothesis}\n"
        f"{patch(parent, files)[:LONGEST_DIFF]}"
        for trial, (_, files) in zip(trials, programs, strict=False)
    ]
