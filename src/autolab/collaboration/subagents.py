"""Rounds of K workers from one frozen parent; then a coordinator merges the winners.

After Shen et al. (arXiv 2603.29632), their "subagent" arm:

    parent := the best program
    K workers propose one change of it each, and all are measured
    if two or more beat the parent: merge them, best first, and measure the merge
    the best of all this is the next parent

Two things differ, so that one slow worker does not hold up K - 1 free slots. A round begins as soon as at most a
quarter of the last one's workers are still under way (with fewer than four workers: none); their results count in their
own round, whose merge is due once the last of them has ended. And nobody waits for a merge: it runs beside the next
round, and if it becomes master, rounds after that start from it. The parent of a round is what the archive chose for
its first trial.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from autolab.collaboration import Ask, Assignment, Consult, Setting
from autolab.collaboration.common.merging import combine, gain_over
from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Trial

DRAFT, MERGE = "draft", "merge"


@dataclass
class _Round:
    parent: int | None = None
    opened: int = 0
    under_way: set[int] = field(default_factory=set)
    winners: dict[int, float] = field(default_factory=dict)  # trial -> gain over the parent
    merged: bool = False

    def merge_of(self, size: int) -> tuple[int, ...]:
        """The winners to be merged now, best first; empty if that is not due."""
        if self.merged or self.opened < size or self.under_way or len(self.winners) < 2:
            return ()
        return tuple(sorted(self.winners, key=lambda number: (-self.winners[number], number)))


class Collaborators:
    """K workers in rounds, and their coordinator."""

    name = "subagents"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._size = setting, max(1, setting.agents)
        self._rounds: dict[int, _Round] = {0: _Round(opened=self._size)}  # the newest, and those under way
        self._round_of: dict[int, int] = {}  # of the drafts under way

    def assign(self) -> Assignment | None:
        """A merge that is due, else the next draft; None while more than a quarter of a full round is under way."""
        for number, known in self._rounds.items():
            if winners := known.merge_of(self._size):
                return Assignment("coordinator", "", known.parent, round=str(number), part=MERGE, of=winners)
        newest = max(self._rounds)
        if self._rounds[newest].opened < self._size:
            return Assignment(parent=self._rounds[newest].parent, round=str(newest), part=DRAFT)
        if len(self._rounds[newest].under_way) > self._size // 4:
            return None
        return Assignment(round=str(newest + 1), part=DRAFT)

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """A round's first trial fixes the parent of all."""
        if not assignment.round.isdecimal():  # of another collaboration
            return
        number = int(assignment.round)
        known = self._rounds.setdefault(number, _Round(trial.parent_trial))
        if assignment.part == MERGE:
            known.merged = True
        else:
            known.opened += 1
            known.under_way.add(trial.number)
            self._round_of[trial.number] = number
        self._forget()

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """One worker's own change, or the winners of a round as one."""
        if assignment.part == MERGE:
            return await combine(self._setting, ask, ticket, assignment.of)
        return await ask(ticket)

    def tell(self, trial: Trial) -> None:
        """A worker's trial counts in its own round, however late."""
        number = self._round_of.pop(trial.number, None)
        if number is None:
            return
        known = self._rounds[number]
        known.under_way.discard(trial.number)
        gain = gain_over(self._setting, trial, known.parent)
        if gain is not None:
            known.winners[trial.number] = gain
        self._forget()

    def _forget(self) -> None:
        """Rounds of which nothing is to come, but for the newest."""
        newest = max(self._rounds)
        for number in [number for number in self._rounds if number != newest]:
            known = self._rounds[number]
            if not known.under_way and known.opened >= self._size and not known.merge_of(self._size):
                del self._rounds[number]
