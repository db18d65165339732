"""A team: experts edit one candidate in turn and hand it over, one run, one repair."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from collaborating import Play, own_constant, set_constant

from autolab.collaboration.common.surfaces import touched
from autolab.errors import LabError
from autolab.harness import Exhausted, NoProposal, Ticket
from autolab.harness.desk import Briefing, Desk
from autolab.ledger import handovers
from autolab.ledger.records import Measurement, Proposal, Status, TrialState
from autolab.program.edits import apply_edits
from autolab.task import Edit


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path, "team", agents=3, rule=by_surface)


def by_surface(ticket: Ticket) -> Proposal:
    """Each expert changes a number of its own."""
    surfaces = ["architecture", "optimizer", "systems", "loss"]
    return set_constant(
        ticket, surfaces.index(ticket.surface or "loss"), ticket.number, expected_effect="less"
    )


def opened(play: Play) -> int:
    number = play.open()
    assert number is not None
    return number


def test_experts_edit_one_candidate_in_turn_with_the_notes_of_those_before(play: Play) -> None:
    (proposal,) = play.propose(number := opened(play))
    assert [(ticket.role, ticket.surface) for ticket in play.tickets] == [
        ("specialist", "architecture"), ("specialist", "optimizer"), ("specialist", "systems"),
    ]  # fmt: skip
    last = play.tickets[-1]
    assert (
        f"X0 = {number}\n" in last.parent_files["train.py"]
        and f"X1 = {number}\n" in last.parent_files["train.py"]
    )
    assert [note.split(":")[0] for note in last.notes] == ["architecture", "optimizer"]
    assert f"X1 to {number}; expects less" in last.notes[1]
    assert proposal is not None
    text = apply_edits(play.tickets[0].parent_files, proposal.edits)["train.py"]
    assert all(f"X{place} = {number}\n" in text for place in range(3)) and "X3 = 0\n" in text
    assert proposal.surface == "architecture" and touched(proposal) == (
        "architecture",
        "optimizer",
        "systems",
    )
    assert (proposal.tokens, proposal.cost_usd) == (21, 0.75)
    assert proposal.hypothesis == f"X0 to {number}; X1 to {number}; X2 to {number}"


def test_handovers_are_in_the_ledger_once_even_if_the_turns_are_taken_again(play: Play) -> None:
    number = opened(play)
    for _ in range(2):  # the first time it was killed before the candidate was queued
        brought(play, number)
    assert [(one.trial, one.surface, one.kind) for one in told(play, 1)] == [
        (number, "architecture", "handover"), (number, "optimizer", "handover"), (number, "systems", "handover"),
    ]  # fmt: skip


def told(play: Play, round: int) -> list[handovers.Handover]:
    """What the three turns of a round handed over."""
    turns = [f"team:{round}.{turn}" for turn in (1, 2, 3)]
    return [one for turn in turns for one in handovers.of_round(play.ledger, play.campaign, turn)]


def test_every_turn_of_a_task_without_surfaces_is_kept(tmp_path: Path) -> None:
    play = Play(tmp_path, "team", surfaces="{}")
    play.rule = lambda ticket: set_constant(ticket, len(play.tickets), 1)
    play.propose(opened(play))
    assert [one.text for one in told(play, 1)] == ["X1 to 1", "X2 to 1", "X3 to 1"]


def test_a_turn_that_fails_is_noted_and_the_others_go_on(play: Play) -> None:
    def rule(ticket: Ticket) -> Proposal:
        if ticket.surface == "optimizer":
            raise NoProposal(Status.INFRA_ERROR, "its server died", Proposal("", (), tokens=5))
        return by_surface(ticket)

    play.rule = rule
    (proposal,) = play.propose(opened(play))
    assert proposal is not None and touched(proposal) == ("architecture", "systems") and proposal.tokens == 19
    assert play.tickets[-1].notes[1] == "optimizer: came to nothing: its server died"


def test_an_edit_that_does_not_apply_is_a_turn_that_failed(play: Play) -> None:
    stale: dict[str, Proposal] = {}

    def rule(ticket: Ticket) -> Proposal:
        found = stale.setdefault("first", set_constant(ticket, 0, 7))
        return found if ticket.surface != "systems" else by_surface(ticket)

    play.rule = rule
    (proposal,) = play.propose(opened(play))
    assert proposal is not None and len(proposal.edits) == 2
    assert "came to nothing" in play.tickets[-1].notes[1] and "not found" in play.tickets[-1].notes[1]


def test_if_all_turns_fail_the_last_reason_counts_with_the_cost_of_all(play: Play) -> None:
    def rule(ticket: Ticket) -> Proposal:
        raise NoProposal(
            Status.INFRA_ERROR, f"{ticket.surface} slept", Proposal("", (), tokens=5, cost_usd=0.5)
        )

    play.rule = rule
    number = opened(play)
    with pytest.raises(NoProposal, match="systems slept") as caught:
        brought(play, number)
    assert caught.value.status is Status.INFRA_ERROR
    assert (caught.value.spent.tokens, caught.value.spent.cost_usd) == (15, 1.5)


def brought(play: Play, number: int) -> Proposal:
    """A trial's proposal, which is not queued; what ends it is raised."""
    ticket = play.lab.ticket(play.ledger.trial(number))
    return asyncio.run(play.collaboration.propose(play.ask, play.consult, ticket, play.asked[number]))


def test_only_the_last_turns_candidate_has_to_be_new(play: Play) -> None:
    """An architect may begin with what was tried before: the candidate that is measured has more to it."""
    known = opened(play)
    ticket = play.lab.ticket(play.ledger.trial(known))
    play.lab.submit(ticket, tried := set_constant(ticket, 0, 7))
    play.end(known, 11.0)
    desk = Desk(play.lab.objection, lambda ticket: "", lambda: None, lambda session: None)
    briefing = Briefing(play.lab.task, desk)

    def rule(ticket: Ticket) -> Proposal:
        first = ticket.surface == "architecture"
        answer = briefing.accepted(ticket, tried if first else by_surface(ticket))
        assert isinstance(answer, Proposal)
        return answer

    play.rule = rule
    (proposal,) = play.propose(number := opened(play))
    assert proposal is not None and touched(proposal) == ("architecture", "optimizer", "systems")
    assert play.ledger.trial(number).state is TrialState.QUEUED
    assert [ticket.partial for ticket in play.tickets] == [True, True, False]
    alone = replace(play.tickets[0], partial=False)
    refused = briefing.accepted(alone, tried)
    assert isinstance(refused, tuple) and refused[0] is Status.DUPLICATE
    broken = replace(tried, edits=(Edit(path="train.py", search="\nX0 = 0\n", replace="\nX0 = (\n"),))
    refused = briefing.accepted(play.tickets[0], broken)
    assert isinstance(refused, tuple) and refused[0] is Status.PREFLIGHT_FAILED


def test_turns_that_undo_each_other_are_no_proposal(tmp_path: Path) -> None:
    play = Play(tmp_path, "team", surfaces="{loss: x, data: y}")
    play.rule = lambda ticket: set_constant(
        ticket, 0, 1 if "X0 = 0\n" in ticket.parent_files["train.py"] else 0
    )
    number = opened(play)
    with pytest.raises(NoProposal, match="undo each other"):
        brought(play, number)


def test_exhausted_experts_end_the_search_and_an_error_for_a_person_is_passed_on(play: Play) -> None:
    def exhausted(ticket: Ticket) -> Proposal:
        raise Exhausted("nothing left")

    def broken(ticket: Ticket) -> Proposal:
        raise LabError("the model gives no answer")

    for rule, error in ((exhausted, Exhausted), (broken, LabError)):
        play.rule = rule
        number = opened(play)
        with pytest.raises(error):
            brought(play, number)
        play.end(number, status=Status.PROPOSAL_FAILED)


@pytest.mark.parametrize("status", [Status.CRASH, Status.OOM, Status.NAN])
def test_a_crash_gets_exactly_one_repair_by_an_engineer_who_sees_the_cause(
    play: Play, status: Status
) -> None:
    number = opened(play)
    play.propose(number)
    play.ledger.finish_measurement(
        Measurement("m-1", number, "screen", 0, 0, status=status, cause="boom", log_excerpt="IndexError: 3")
    )
    play.end(number, status=status)
    repair = opened(play)
    asked = play.asked[repair]
    assert (asked.role, asked.parent, asked.part, asked.of) == ("engineer", number, "repair", (number,))
    assert play.ledger.trial(repair).parent_program == play.ledger.trial(number).program
    play.rule = own_constant
    (proposal,) = play.propose(repair)
    ticket = play.tickets[-1]
    assert ticket.role == "engineer" and str(status) in ticket.notes[0] and "X0 to" in ticket.notes[0]
    assert ticket.notes[1] == "IndexError: 3"
    assert proposal is not None and touched(proposal) == ("architecture", "optimizer", "systems")
    play.end(repair, status=status)
    assert play.asked[opened(play)].part == "draft", "a repair is not repaired"
    assert play.again().assign() == play.collaboration.assign()


def test_what_is_not_the_programs_own_fault_is_not_repaired(play: Play) -> None:
    for status in (Status.TIMEOUT, Status.INFRA_ERROR, Status.OVER_SIZE, Status.OK):
        number = opened(play)
        play.run(number, 11.0, status)
        assert (following := play.collaboration.assign()) is not None and following.part == "draft"
    number = opened(play)
    play.end(number, status=Status.CRASH)  # never proposed: there is no program
    assert (following := play.collaboration.assign()) is not None and following.part == "draft"


@pytest.mark.parametrize(("agents", "teams"), [(1, 1), (3, 1), (5, 1), (6, 2), (64, 21)])
def test_there_are_as_many_candidates_as_whole_teams(tmp_path: Path, agents: int, teams: int) -> None:
    play = Play(tmp_path, "team", agents=agents)
    assert len(play.fill(100)) == teams
    assert play.open() is None
    play.end(play.under_way()[0], status=Status.PROPOSAL_FAILED)
    assert play.open() is not None and play.open() is None


@pytest.mark.parametrize(
    ("surfaces", "turns"),
    [
        ("{loss: x, data: y, schedule: z, optimizer: o}", ["loss", "data", "schedule"]),
        ("{loss: x}", ["loss"]),
        ("{}", [None, None, None]),
    ],
)
def test_a_task_without_the_three_surfaces_has_its_own_in_turn(
    tmp_path: Path, surfaces: str, turns: list[str | None]
) -> None:
    place = iter(range(10))
    play = Play(tmp_path, "team", surfaces=surfaces, rule=lambda ticket: set_constant(ticket, next(place), 1))
    play.propose(opened(play))
    assert [ticket.surface for ticket in play.tickets] == turns


def test_in_the_generic_control_the_experts_are_plain_workers(tmp_path: Path) -> None:
    play = Play(tmp_path, "team", rule=by_surface, generic=True)
    play.propose(opened(play))
    assert {ticket.role for ticket in play.tickets} == {"worker"}
