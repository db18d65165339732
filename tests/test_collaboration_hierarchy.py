"""Planners over workers over subagents: isolated surfaces, handing over, one synthesis, and nobody waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from collaborating import CONSTANTS, Play, own_constant
from hypothesis import given
from hypothesis import strategies as st

from autolab.collaboration.choosing import collaboration_class
from autolab.collaboration.common.plans import MOST_GOALS, goal_lines, read_concerns, read_goals
from autolab.harness import Ticket
from autolab.ledger import handovers
from autolab.ledger.records import Status
from autolab.program.edits import apply_edits

ROUND = 12  # trials: three waves of four agents


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path, "hierarchy", agents=4)


def run_round(play: Play, gains: dict[str, float]) -> list[int]:
    """A round whose trials get better by that much on these surfaces, trial by trial."""
    numbers = []
    best = dict.fromkeys(gains, 10.0)
    for _ in range(ROUND):
        number = play.open()
        assert number is not None
        surface = play.asked[number].surface
        if surface in gains:
            best[surface] -= gains[surface]
        play.run(number, best.get(surface, 11.0))
        numbers.append(number)
    return numbers


def test_each_worker_searches_its_surface_and_branches_from_its_own_best(play: Play) -> None:
    first = [play.open() for _ in range(8)]
    surfaces = ["architecture", "optimizer", "systems", "loss"]
    assert [play.asked[number].surface for number in first if number] == 2 * surfaces
    assert {play.ledger.trial(number).parent_trial for number in first if number} == {play.baseline}
    architect, optimizer = first[0], first[1]
    assert architect and optimizer
    play.run(architect, 9.0, promoted=True)
    play.run(optimizer, 9.9)
    following = [play.open() for _ in range(4)]
    assert [play.ledger.trial(number).parent_trial for number in following if number] == [
        architect, optimizer, play.baseline, play.baseline,
    ]  # fmt: skip


def test_a_planner_is_asked_once_a_round_and_its_goals_reach_the_subagents(play: Play) -> None:
    play.words = lambda ticket: (
        "Here you are.\nGOAL optimizer: larger rates\n- **GOAL loss**: smooth it\nGOAL nowhere: x\nGOAL loss: weigh it"
        if ticket.role == "planner" else ""
    )  # fmt: skip
    opened = play.fill(8)
    play.propose(*opened)
    assert [ticket.role for ticket in play.consulted] == ["planner"]
    assert "optimizer: rates" in play.consulted[0].goal
    goals = [(ticket.surface, ticket.goal) for ticket in play.tickets]
    assert ("optimizer", "larger rates") in goals and ("architecture", "shape") in goals
    assert {goal for surface, goal in goals if surface == "loss"} == {"smooth it", "weigh it"}


def test_a_plan_is_in_the_ledger_so_a_resumed_campaign_does_not_ask_again(play: Play) -> None:
    play.words = lambda ticket: "GOAL loss: smooth it"
    opened = play.fill(8)
    play.propose(opened[0])
    play.collaboration, play.words = play.again(), lambda ticket: "GOAL loss: something else"
    play.propose(*opened[1:])
    assert len(play.consulted) == 1
    assert [ticket.goal for ticket in play.tickets if ticket.surface == "loss"] == 2 * ["smooth it"]


def test_the_best_programs_of_the_surfaces_are_put_together(play: Play) -> None:
    numbers = run_round(play, {"optimizer": 0.1, "loss": 0.2})
    number = play.open()
    assert number is not None
    asked = play.asked[number]
    assert (asked.role, asked.part, asked.parent) == ("coordinator", "synthesis", play.baseline)
    assert [play.asked[winner].surface for winner in asked.of] == ["loss", "optimizer"]
    (proposal,) = play.propose(number)
    assert proposal is not None
    text = apply_edits(play.lab.ticket(play.ledger.trial(number)).parent_files, proposal.edits)["train.py"]
    for one in numbers:  # each worker's chain of three, and nothing of the others
        kept = play.asked[one].surface in ("loss", "optimizer")
        assert (f"X{one % CONSTANTS} = {one}\n" in text) is kept


def test_workers_hand_over_once_and_the_next_planner_reads_it(play: Play) -> None:
    def words(ticket: Ticket) -> str:
        if ticket.role == "planner":
            return "GOAL loss: go on"
        return f"LEARNT: {ticket.surface} helps\nCONCERN: {ticket.surface} may be luck"

    play.words = words
    run_round(play, {"optimizer": 0.1, "loss": 0.2})
    synthesis = play.open()
    assert synthesis is not None
    play.run(synthesis, 9.0)
    following = play.fill(4)
    play.propose(*following)
    assert [ticket.role for ticket in play.consulted] == ["planner", *4 * ["worker"], "planner"]
    results = play.consulted[1].notes[0].splitlines()
    assert len(results) == 3 and "no_difference" in results[0] and "score" in results[0]
    told = handovers.of_round(play.ledger, play.campaign, "hierarchy:1")
    assert sorted({(one.kind, one.surface) for one in told if one.surface == "loss"}) == [
        ("concern", "loss"), ("handover", "loss"), ("learning", "loss"),
    ]  # fmt: skip
    notes = play.consulted[-1].notes
    assert len(notes) == 12 and "loss, learning: LEARNT: loss helps" in notes
    assert [ticket.notes for ticket in play.tickets if ticket.surface == "loss"][-1] == ("loss may be luck",)


def test_the_workers_of_a_model_that_answers_report_at_once(play: Play) -> None:
    run_round(play, {})
    number = play.open()
    assert number is not None
    busy: list[int] = []
    under_way = 0

    async def consult(ticket: Ticket) -> str:
        nonlocal under_way
        under_way += 1
        busy.append(under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return "CONCERN: luck"

    ticket = play.lab.ticket(play.ledger.trial(number))
    asyncio.run(play.collaboration.propose(play.ask, consult, ticket, play.asked[number]))
    assert busy == [1, 1, 2, 3, 1], "the first worker, the other three, then the planner"


def test_what_a_team_handed_over_is_not_taken_for_what_workers_did(tmp_path: Path) -> None:
    """A campaign that ran as a team may go on as a hierarchy, and both count their rounds from one."""
    play = Play(tmp_path, "team", agents=4)
    number = play.open()
    assert number is not None
    play.run(number, 11.0)
    play.collaboration = collaboration_class("hierarchy")(play.setting)
    run_round(play, {})
    play.propose(*play.fill(4))
    assert [ticket.role for ticket in play.consulted] == ["planner", *4 * ["worker"], "planner"]
    assert len(play.consulted[-1].notes) == 4, "the results of four surfaces"


@pytest.mark.parametrize(("score", "better"), [(8.0, True), (9.95, False)])
def test_the_next_round_starts_from_the_synthesis_if_it_is_better_than_the_master(
    play: Play, score: float, better: bool
) -> None:
    numbers = run_round(play, {"optimizer": 0.1, "loss": 0.2})
    play.ledger.promote(
        play.ledger.trial(numbers[-1]), score=9.4, interval=(9.4, 9.4), gain=0.6, reason="test"
    )
    synthesis = play.open()
    assert synthesis is not None
    play.run(synthesis, score)
    following = play.fill(4)
    base = synthesis if better else numbers[-1]
    assert [play.ledger.trial(number).parent_trial for number in following] == 4 * [base]
    assert {play.asked[number].round for number in following} == {"2"}


def test_a_round_with_winners_on_one_surface_has_nothing_to_put_together(play: Play) -> None:
    run_round(play, {"optimizer": 0.1})
    number = play.open()
    assert number is not None and (play.asked[number].part, play.asked[number].round) == ("draft", "2")


def test_while_the_synthesis_is_measured_the_workers_go_on(play: Play) -> None:
    numbers = run_round(play, {"optimizer": 0.1, "loss": 0.2})
    opened = play.fill(5)
    assert [play.asked[number].part for number in opened] == ["synthesis", *4 * ["draft"]]
    assert {play.asked[number].round for number in opened} == {"1"}
    assert play.ledger.trial(opened[2]).parent_trial == numbers[9], "the best of its surface so far"
    play.run(opened[1], 5.0)
    assert play.asked[play.fill(5)[0]].part == "draft", "there is one synthesis a round"


def test_stragglers_hold_up_nothing(play: Play) -> None:
    slow = play.open()
    assert slow is not None
    for _ in range(ROUND):
        number = play.open()
        assert number is not None
        play.run(number, 11.0)
    number = play.open()
    assert number is not None and play.asked[number].round == "2"
    play.run(slow, 1.0)
    following = play.open()
    assert following is not None and play.ledger.trial(following).parent_trial == play.baseline


def test_a_synthesis_that_failed_is_followed_by_the_next_round(play: Play) -> None:
    run_round(play, {"optimizer": 0.1, "loss": 0.2})
    synthesis = play.open()
    assert synthesis is not None
    play.run(synthesis, status=Status.CRASH)
    number = play.open()
    assert number is not None and play.asked[number].round == "2"


def test_with_fewer_agents_than_surfaces_the_rounds_take_them_in_turn(tmp_path: Path) -> None:
    play = Play(tmp_path, "hierarchy", agents=2, surfaces="{a: x, b: y, c: z}", rule=own_constant)
    seen = []
    for _ in range(3):
        surfaces = []
        for _ in range(6):
            number = play.open()
            assert number is not None
            surfaces.append(play.asked[number].surface)
            play.run(number, 11.0)
        seen.append(sorted(set(surfaces)))
    assert seen == [["a", "b"], ["a", "c"], ["b", "c"]]


def test_a_planner_who_is_cut_off_is_asked_again_by_the_next(play: Play) -> None:
    first, second = play.fill(2)

    async def cut_off() -> None:
        stuck = asyncio.Event()

        async def consult(ticket: Ticket) -> str:
            play.consulted.append(ticket)
            if len(play.consulted) == 1:
                stuck.set()
                await asyncio.Event().wait()
            return "GOAL architecture: deeper"

        async def bring(number: int) -> None:
            ticket = play.lab.ticket(play.ledger.trial(number))
            await play.collaboration.propose(play.ask, consult, ticket, play.asked[number])

        waiting = asyncio.create_task(bring(first))
        await stuck.wait()
        other = asyncio.create_task(bring(second))
        waiting.cancel()
        await other

    asyncio.run(cut_off())
    assert len(play.consulted) == 2 and [ticket.number for ticket in play.tickets] == [second]


@given(st.text(), st.dictionaries(st.text(max_size=8), st.text(max_size=50), max_size=4))
def test_no_plan_upsets_the_reader_and_every_surface_is_there(text: str, surfaces: dict[str, str]) -> None:
    goals = read_goals(text, surfaces)
    assert set(goals) == set(surfaces)
    assert all(len(known) <= MOST_GOALS for known in goals.values())
    read_concerns(text)


@given(
    st.dictionaries(st.sampled_from(["a", "b-1", "c_2"]), st.lists(st.text("xyz :", min_size=1), max_size=3))
)
def test_goals_that_were_written_are_read_again(goals: dict[str, list[str]]) -> None:
    said = {
        name: [" ".join(goal.split()) for goal in known if goal.strip(" :")] for name, known in goals.items()
    }
    found = read_goals(goal_lines(said), dict.fromkeys(said, ""))
    assert {name: len(known) for name, known in found.items()} == {
        name: len(known) for name, known in said.items()
    }


def test_concerns_are_told_apart_from_learnings() -> None:
    text = "LEARNT: a\nCONCERN: b\n- **Concern:** c\nand d"
    assert read_concerns(text) == ("LEARNT: a\n\n\nand d", "b\nc")
