"""Experts edit one candidate in turn and hand it over; it is measured once; an engineer repairs a crash once.

After Shen et al. (arXiv 2603.29632), their "agent team" arm:

    candidate := the parent
    architect, optimizer expert, efficiency expert in turn: edit the candidate, say what was done and what is left
    measure the candidate
    if it crashed: an engineer makes one conservative repair, and that is measured

A turn that comes to nothing is noted for those who follow, and they go on without it. A task without these three
surfaces has its first three in turn, one without any has three generalists. As many candidates are under way as there
are whole teams among the agents, at least one: three agents are one team, although only one of them has the candidate
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from autolab.collaboration import Ask, Assignment, Consult, Setting
from autolab.collaboration.common.surfaces import expert, touched, touching
from autolab.harness import Exhausted, NoProposal, Ticket
from autolab.ledger import handovers
from autolab.ledger.records import Proposal, Status, Trial
from autolab.program.edits import EditRefused, apply_edits, edits_between
from autolab.task import Edit

EXPERTS = ("architecture", "optimizer", "systems")
TURNS = 3
REPAIRABLE = (Status.CRASH, Status.OOM, Status.NAN)
DRAFT, REPAIR = "draft", "repair"
LONGEST_EXCERPT = 3000  # characters of a log, for the engineer
LONGEST_HYPOTHESIS = 1000


class Collaborators:
    """As many teams as there are agents for."""

    name = "team"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        surfaces = setting.task.surfaces
        known = [surface for surface in EXPERTS if surface in surfaces]
        turns = known if len(known) == TURNS else list(islice(surfaces, TURNS)) or [""] * TURNS
        self._turns = [(expert(setting, surface), surface) for surface in turns]
        self._most = max(1, setting.agents // len(turns))
        self._begun = 0
        self._rounds: dict[int, str] = {}  # of the trials under way
        self._drafts: set[int] = set()  # among them
        self._failed: dict[int, str] = {}  # candidates to be repaired -> round
        self._repaired: set[int] = set()

    def assign(self) -> Assignment | None:
        """A repair that is due, else the next candidate; None while all teams have one."""
        if self._failed:
            number = min(self._failed)
            return Assignment("engineer", "", number, round=self._failed[number], part=REPAIR, of=(number,))
        if len(self._rounds) >= self._most:
            return None
        return Assignment("team", round=str(self._begun + 1), part=DRAFT)

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """A candidate or a repair is under way; no candidate is repaired twice."""
        if not assignment.round.isdecimal():  # of another collaboration
            return
        self._rounds[trial.number] = assignment.round
        self._begun = max(self._begun, int(assignment.round))
        if assignment.part == DRAFT:
            self._drafts.add(trial.number)
        for number in assignment.of:
            self._repaired.add(number)
            self._failed.pop(number, None)

    def tell(self, trial: Trial) -> None:
        """A candidate that failed by its own code is to be repaired; a repair that failed is not."""
        round = self._rounds.pop(trial.number, None)
        is_draft = trial.number in self._drafts
        self._drafts.discard(trial.number)
        if round is None or not is_draft or trial.number in self._repaired:
            return
        if trial.status in REPAIRABLE and trial.program is not None:
            self._failed[trial.number] = round

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """The candidate as the last expert left it, or its repair. Raises NoProposal if every turn came to nothing."""
        if assignment.part == REPAIR:
            return await self._repair(ask, ticket, self._setting.ledger.trial(assignment.of[0]))
        files, notes = dict(ticket.parent_files), list(ticket.notes)
        done: list[Proposal] = []
        spent: list[Proposal] = []
        failed: Exception | None = None
        for place, (role, surface) in enumerate(self._turns, start=1):
            turn = replace(
                ticket, role=role, surface=surface or None, parent_files=files, notes=tuple(notes),
                partial=place < len(self._turns),
            )  # fmt: skip
            try:
                proposal = await ask(turn)
                spent.append(proposal)
                files = apply_edits(files, proposal.edits)
            except (NoProposal, Exhausted, EditRefused) as reason:
                failed = reason
                if isinstance(reason, NoProposal):
                    spent.append(reason.spent)
                said = f"came to nothing: {reason}"
            else:
                done.append(replace(proposal, surface=proposal.surface or surface))
                said = _words(proposal)
            notes.append(f"{surface or role}: {said}")
            handovers.add(
                self._setting.ledger, self._setting.campaign, round=f"{self.name}:{assignment.round}.{place}",
                role=role, kind="handover", text=said, surface=surface, trial=ticket.number,
            )  # fmt: skip
        edits = edits_between(ticket.parent_files, files)
        if not edits:
            raise _nothing(failed, spent)
        return _joined(done, spent, edits)

    async def _repair(self, ask: Ask, ticket: Ticket, failed: Trial) -> Proposal:
        """The engineer's own, who is told what failed and how."""
        measured = self._setting.ledger.measurements(failed.number)
        excerpt = measured[-1].log_excerpt[-LONGEST_EXCERPT:] if measured else ""
        told = f"{failed.id} set out to test: {failed.hypothesis}\nIt ended as {failed.status}: {failed.note}"
        proposal = await ask(replace(ticket, notes=(*ticket.notes, told, *([excerpt] if excerpt else []))))
        before = touched(failed.proposal) if failed.proposal else ()
        return replace(proposal, move=touching((*before, *touched(proposal))))


def _words(proposal: Proposal) -> str:
    """What an expert hands over with the candidate."""
    parts = (
        proposal.hypothesis,
        proposal.expected_effect and f"expects {proposal.expected_effect}",
        proposal.rationale,
    )
    return "; ".join(part for part in parts if part)


def _joined(done: Sequence[Proposal], spent: Sequence[Proposal], edits: tuple[Edit, ...]) -> Proposal:
    """The turns as one proposal. It counts as the first expert's surface, who had the candidate as it was; all that
    were touched are in `move`."""
    surfaces = [surface for proposal in done for surface in touched(proposal)]
    return Proposal(
        hypothesis="; ".join(proposal.hypothesis.rstrip(".") for proposal in done)[:LONGEST_HYPOTHESIS],
        edits=edits,
        surface=surfaces[0] if surfaces else "",
        expected_effect=next((p.expected_effect for p in done if p.expected_effect), ""),
        rationale="; ".join(proposal.rationale for proposal in done if proposal.rationale),
        sources=tuple(dict.fromkeys(source for proposal in done for source in proposal.sources)),
        move=touching(surfaces),
        tokens=sum(proposal.tokens for proposal in spent),
        cost_usd=sum(proposal.cost_usd for proposal in spent),
    )


def _nothing(failed: Exception | None, spent: Sequence[Proposal]) -> Exception:
    """What becomes of a candidate that is its parent again; what its turns cost is told with it."""
    if isinstance(failed, Exhausted) and not spent:
        return failed
    status = failed.status if isinstance(failed, NoProposal) else Status.PROPOSAL_FAILED
    tokens, dollars = sum(p.tokens for p in spent), sum(p.cost_usd for p in spent)
    reason = str(failed) if failed else "the turns undo each other"
    return NoProposal(status, reason, Proposal("", (), tokens=tokens, cost_usd=dollars))
