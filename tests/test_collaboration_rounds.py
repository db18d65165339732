"""Rounds of subagents: one frozen parent, winners merged by their edits or by a coordinator, nobody held up."""

from __future__ import annotations

from pathlib import Path

import pytest
from collaborating import CONSTANTS, Play, own_constant, parts, set_constant

from autolab.collaboration.common.merging import merge
from autolab.collaboration.common.surfaces import touched, touching
from autolab.harness import NoProposal, Ticket
from autolab.ledger.records import Proposal, Status
from autolab.program.edits import apply_edits


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path, "subagents", agents=4)


def round_of(play: Play, scores: list[float]) -> list[int]:
    """One whole round with these scores, in the order in which it was opened."""
    opened = play.fill(len(scores))
    play.propose(*opened)
    for number, score in zip(opened, scores, strict=True):
        play.end(number, score)
    return opened


def merged_program(play: Play, number: int) -> str:
    proposal = play.ledger.trial(number).proposal
    assert proposal is not None
    return apply_edits(play.lab.ticket(play.ledger.trial(number)).parent_files, proposal.edits)["train.py"]


def test_all_workers_of_a_round_start_from_one_parent_even_if_the_master_changes(play: Play) -> None:
    first = play.open()
    assert first is not None
    play.run(first, 9.0, promoted=True)
    rest = play.fill(8)
    assert [play.ledger.trial(number).parent_trial for number in rest] == 3 * [play.baseline]
    assert {play.asked[number].round for number in (first, *rest)} == {"1"}


def test_a_round_begins_when_a_quarter_of_the_last_one_is_under_way(play: Play) -> None:
    opened = play.fill(9)
    assert len(opened) == 4, "the round is full"
    play.run(opened[0], 11.0)
    play.run(opened[1], 11.0)
    assert play.open() is None
    play.run(opened[2], 11.0)
    following = play.open()
    assert following is not None and play.asked[following].round == "2"


def test_a_straggler_counts_in_its_own_round(play: Play) -> None:
    slow, *others = play.fill(4)
    for number in others:
        play.run(number, 9.0)
    second = play.fill(5)
    assert set(parts(play, second)) == {"draft"}, "the round is not over, so nothing is merged"
    play.run(slow, 8.0)
    merge_trial = play.open()
    assert merge_trial is not None
    asked = play.asked[merge_trial]
    assert (asked.part, asked.round, asked.of) == ("merge", "1", (slow, *others))


def test_two_winners_are_merged_by_their_edits_without_asking_anybody(play: Play) -> None:
    opened = round_of(play, [9.5, 11.0, 9.0, 10.0])
    number = play.open()
    assert number is not None
    asked, before = play.asked[number], len(play.tickets)
    assert (asked.role, asked.part, asked.parent, asked.of) == (
        "coordinator", "merge", play.baseline, (opened[2], opened[0])
    )  # fmt: skip
    (proposal,) = play.propose(number)
    assert proposal is not None and len(play.tickets) == before
    assert proposal.tokens == 0 and proposal.cost_usd == 0
    text = merged_program(play, number)
    for winner in asked.of:
        assert f"X{winner % CONSTANTS} = {winner}\n" in text
        assert play.ledger.trial_id(winner) in proposal.hypothesis
    assert f"X{opened[1] % CONSTANTS} = {opened[1]}\n" not in text


def test_one_winner_is_nothing_to_merge_and_no_difference_by_the_task_is_no_win(tmp_path: Path) -> None:
    play = Play(tmp_path, "subagents", agents=3)
    round_of(play, [9.0, 10.0, 10.0])
    number = play.open()
    assert number is not None and play.asked[number].part == "draft"


def test_nobody_waits_for_a_merge(play: Play) -> None:
    round_of(play, [9.0, 9.0, 9.0, 9.0])
    opened = play.fill(9)
    assert parts(play, opened) == ["merge", "draft", "draft", "draft", "draft"]


def test_a_round_in_which_everything_failed_is_followed_by_another(play: Play) -> None:
    def nothing(ticket: Ticket) -> Proposal:
        raise NoProposal(Status.PROPOSAL_FAILED, "no idea", Proposal("", ()))

    play.rule = nothing
    opened = play.fill(4)
    assert play.propose(*opened) == 4 * [None]
    for number in opened:
        play.end(number)
    assert [play.asked[number].round for number in play.fill(4)] == 4 * ["2"]


def clash(ticket: Ticket) -> Proposal:
    return set_constant(ticket, 0, ticket.number)


def test_winners_that_clash_go_to_the_coordinator_with_their_diffs(tmp_path: Path) -> None:
    play = Play(tmp_path, "subagents", agents=2, rule=clash)
    first, second = round_of(play, [9.0, 8.0])
    number = play.open()
    assert number is not None
    play.rule = lambda ticket: own_constant(ticket)
    (proposal,) = play.propose(number)
    ticket = play.tickets[-1]
    assert (ticket.number, ticket.role) == (number, "coordinator")
    assert [f"+X0 = {winner}" in note for winner, note in zip((second, first), ticket.notes, strict=True)] == [
        True, True,
    ]  # fmt: skip
    assert proposal is not None and proposal.tokens == 7
    assert proposal.hypothesis.startswith(f"Merges {play.ledger.trial_id(second)} and ")


def test_of_three_winners_the_one_that_clashes_with_a_better_one_is_left_out(tmp_path: Path) -> None:
    play = Play(
        tmp_path,
        "subagents",
        agents=3,
        rule=lambda ticket: set_constant(ticket, ticket.number % 2, ticket.number),
    )
    opened = round_of(play, [8.0, 9.0, 9.5])
    number = play.open()
    assert number is not None
    (proposal,) = play.propose(number)
    assert proposal is not None
    assert play.ledger.trial_id(opened[2]) in proposal.rationale
    assert play.ledger.trial_id(opened[2]) not in proposal.hypothesis


def test_a_coordinator_that_brings_nothing_ends_that_trial_alone(tmp_path: Path) -> None:
    play = Play(tmp_path, "subagents", agents=2, rule=clash)
    round_of(play, [9.0, 8.0])

    def nothing(ticket: Ticket) -> Proposal:
        raise NoProposal(Status.PROPOSAL_FAILED, "they exclude each other", Proposal("", ()))

    number = play.open()
    assert number is not None
    play.rule = nothing
    assert play.propose(number) == [None]
    play.end(number)
    assert parts(play, play.fill(4)) == ["draft", "draft"], "it is not merged again"


def test_a_merge_that_would_not_compile_leaves_the_culprit_out() -> None:
    parent = {"train.py": "a = 0\nb = 0\nc = 0\n"}
    programs = [
        (1, {"train.py": "a = 1\nb = 0\nc = 0\n"}),
        (2, {"train.py": "a = 0\nb = (\nc = 0\n"}),
        (3, {"train.py": "a = 0\nb = 0\nc = 3\n"}),
    ]
    merged = merge(parent, programs)
    assert (merged.of, merged.left_out) == ((1, 3), (2,))
    assert merged.files == {"train.py": "a = 1\nb = 0\nc = 3\n"}


def test_the_surfaces_of_winners_are_all_touched_by_their_merge(play: Play) -> None:
    surfaces = iter(["loss", "systems", "loss", "optimizer"])
    play.rule = lambda ticket: set_constant(ticket, ticket.number, 1, surface=next(surfaces))
    round_of(play, [9.0, 8.0, 9.5, 11.0])
    number = play.open()
    assert number is not None
    (proposal,) = play.propose(number)
    assert proposal is not None and proposal.surface == "systems"
    assert touched(proposal) == ("systems", "loss")


@pytest.mark.parametrize("move", ["", "not JSON", "[1]", '{"axis": "RATE"}', '{"surfaces": 3}', "[" * 5000])
def test_a_move_of_another_kind_leaves_the_one_surface(move: str) -> None:
    assert touched(Proposal("x", (), surface="loss", move=move)) == ("loss",)
    assert touched(Proposal("x", (), move=move)) == ()


def test_surfaces_are_written_once_each() -> None:
    assert touched(Proposal("x", (), surface="a", move=touching(["b", "", "a", "b"]))) == ("b", "a")
