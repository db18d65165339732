"""The harness without a model: what it proposes, what it learns, and that it is reproducible."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from autolab.harness import Exhausted, Ticket
from autolab.harness.offline import OfflineHarness, read_note
from autolab.harness.options import files_identity, read_guidance, surface_of
from autolab.ledger.records import Proposal, Status, Trial, TrialState, Verdict
from autolab.program.edits import apply_edits
from autolab.task import Commands, Edit, Metric, Move, Task

RECIPE = """DEPTH = 2
DIM = 64
QK_NORM = True
ACTIVATION = "relu2"  # one of: "relu2", "gelu"
MATRIX_LR = 0.02
EMBED_LR = 0.01
ADAM_BETAS = (0.9, 0.95)
WARMUP_FRAC = 0.1
BATCH_SIZE = 8

def forward(x):
    return x
"""
SMEAR = Move(
    name="smear",
    surface="architecture",
    hypothesis="A one-token look-back helps.",
    edits=(Edit(path="train.py", search="    return x\n", replace="    return smear(x)\n"),),
)
SURFACES = {"architecture": "", "optimizer": "", "schedule": "", "data": "the order of text, QK_NORM"}


def task(**changes: Any) -> Task:
    """A task that minimises, with one file and one move."""
    known: dict[str, Any] = {
        "name": "toy",
        "metric": Metric(name="loss"),
        "editable": ("train.py",),
        "commands": Commands(train=("python", "train.py")),
        "surfaces": SURFACES,
        "moves": (SMEAR,),
    }
    return Task(**{**known, **changes})


def ticket(number: int, text: str = RECIPE, score: float | None = 2.0, **changes: Any) -> Ticket:
    """A ticket for a child of this recipe."""
    known: dict[str, Any] = {"surface": None, **changes}
    return Ticket(number, number, "parent", {"train.py": text}, score, **known)


def ask(harness: OfflineHarness, opened: Ticket) -> Proposal:
    """Propose, and tell that it was accepted."""
    proposal = asyncio.run(harness.propose(opened))
    harness.tell_proposed(opened.number, proposal, opened.parent_program)
    return proposal


def outcome(number: int, proposal: Proposal, score: float | None, **changes: Any) -> Trial:
    """A judged trial."""
    known: dict[str, Any] = {"status": Status.OK if score is not None else Status.CRASH, **changes}
    return Trial(number, str(number), "c", number, TrialState.DONE, score=score, proposal=proposal, **known)


def changed(proposal: Proposal) -> str:
    """The name of what was changed, by the first step of the note."""
    note = read_note(proposal.move)
    assert note is not None
    return note.steps[0].axis.removeprefix("train.py:").split(":")[0]


def child(proposal: Proposal, text: str = RECIPE) -> str:
    """The recipe after the proposal."""
    return apply_edits({"train.py": text}, proposal.edits)["train.py"]


def share(harness: OfflineHarness, name: str, first: int, count: int = 40) -> float:
    """How often the harness would choose to change `name` in its next proposal."""
    hits = sum(changed(asyncio.run(harness.propose(ticket(first + i)))) == name for i in range(count))
    return hits / count


def searched(harness: OfflineHarness, rounds: int, gains: Mapping[str, float]) -> list[Proposal]:
    """A campaign in which a change gains what `gains` says of its name (noise SD 0.01)."""
    made = []
    for number in range(rounds):
        proposal = ask(harness, ticket(number))
        made.append(proposal)
        harness.tell(outcome(number, proposal, 2.0 - gains.get(changed(proposal), 0.0)), 0.01)
    return made


def test_the_same_history_gives_the_same_proposal() -> None:
    first, second = (searched(OfflineHarness(task(), 7), 30, {"MATRIX_LR": 0.05}) for _ in range(2))
    assert first == second


def test_a_resumed_harness_continues_as_if_never_stopped() -> None:
    whole = OfflineHarness(task(), 7)
    made: list[Proposal] = []
    for number in range(20):  # four in flight: the outcome of n is told after n + 3 was proposed
        made.append(ask(whole, ticket(number)))
        if number >= 3:
            whole.tell(outcome(number - 3, made[number - 3], 2.0 + 0.01 * (number % 5 - 2)), 0.01)
    resumed = OfflineHarness(task(), 7)
    for number, proposal in enumerate(made):
        resumed.tell_proposed(number, proposal, "parent")
        if number < 17:
            resumed.tell(outcome(number, proposal, 2.0 + 0.01 * ((number + 3) % 5 - 2)), 0.01)
    assert asyncio.run(resumed.propose(ticket(20))) == asyncio.run(whole.propose(ticket(20)))


def test_proposing_without_telling_changes_nothing() -> None:
    harness = OfflineHarness(task(), 1)
    assert asyncio.run(harness.propose(ticket(5))) == asyncio.run(harness.propose(ticket(5)))


def test_another_seed_searches_otherwise() -> None:
    first, second = (searched(OfflineHarness(task(), seed), 5, {}) for seed in (1, 2))
    assert first != second


def test_every_proposal_applies_and_is_new() -> None:
    programs = [child(proposal) for proposal in searched(OfflineHarness(task(), 3), 120, {})]
    assert len({*programs, RECIPE}) == 121


def test_a_program_is_not_proposed_again_from_another_parent() -> None:
    harness, text = OfflineHarness(task(moves=(), editable=("train.py",)), 3), "QK_NORM = True\n"
    assert child(ask(harness, ticket(0, text)), text) == "QK_NORM = False\n"
    with pytest.raises(Exhausted):
        asyncio.run(harness.propose(ticket(1, "QK_NORM = False\n")))


def test_what_has_won_is_followed() -> None:
    harness = OfflineHarness(task(), 5)
    before = share(harness, "MATRIX_LR", 100, 100)
    made = searched(harness, 15, {"MATRIX_LR": 0.08})
    assert "MATRIX_LR" in map(changed, made)
    assert share(harness, "MATRIX_LR", 200, 100) > 2 * before


def test_what_does_nothing_is_left_alone() -> None:
    harness = OfflineHarness(task(), 5)
    before = share(harness, "WARMUP_FRAC", 100, 200)
    for number in range(4):
        proposal = ask(harness, ticket(number, guidance=("only WARMUP_FRAC",), surface="schedule"))
        harness.tell(outcome(number, proposal, 2.0), 0.01)
    assert share(harness, "WARMUP_FRAC", 100, 200) < before / 2


def test_a_direction_that_crashes_is_avoided() -> None:
    harness = OfflineHarness(task(moves=()), 5)
    for number in range(30):
        proposal = ask(harness, ticket(number, "LR = 0.02\n"))
        note = read_note(proposal.move)
        assert note is not None
        up = float(note.steps[0].end) > float(note.steps[0].start)
        harness.tell(outcome(number, proposal, None if up else 2.0), 0.01)
    later = [asyncio.run(harness.propose(ticket(n, "LR = 0.02\n"))) for n in range(100, 130)]
    downs = sum('"down"' in proposal.move for proposal in later)
    assert downs >= 25


def test_a_fault_of_the_machine_teaches_nothing() -> None:
    told, untold = OfflineHarness(task(), 5), OfflineHarness(task(), 5)
    for number in range(8):
        proposal = ask(told, ticket(number))
        untold.tell_proposed(number, proposal, "parent")
        told.tell(outcome(number, proposal, None, status=Status.INFRA_ERROR), 0.01)
        untold.tell(outcome(number, proposal, None, status=Status.DUPLICATE), 0.01)
    assert told._worked == told._failed == 0 and not told._records
    assert asyncio.run(told.propose(ticket(9))) == asyncio.run(untold.propose(ticket(9)))


def test_parallel_slots_work_on_different_things() -> None:
    harness = OfflineHarness(task(), 2)
    assert len({changed(ask(harness, ticket(number))) for number in range(6)}) >= 5


def test_a_surface_restricts_what_is_changed() -> None:
    harness = OfflineHarness(task(), 2)
    made = {changed(ask(harness, ticket(number, surface="optimizer"))) for number in range(12)}
    assert made <= {"MATRIX_LR", "EMBED_LR", "ADAM_BETAS[0]", "ADAM_BETAS[1]"}


def test_a_surface_with_nothing_in_it_is_exhausted() -> None:
    with pytest.raises(Exhausted, match="systems"):
        asyncio.run(OfflineHarness(task(), 2).propose(ticket(0, surface="systems")))


def test_a_small_space_ends_after_finer_steps_and_pairs() -> None:
    harness, text = OfflineHarness(task(moves=()), 2), "DEPTH = 2\nQK_NORM = True\n"
    found = set()
    with pytest.raises(Exhausted):
        for number in range(500):
            found.add(child(ask(harness, ticket(number, text)), text))
    assert "DEPTH = 3\nQK_NORM = False\n" in found and len(found) >= 10


def test_a_move_that_no_longer_matches_is_not_proposed() -> None:
    text = RECIPE.replace("return x\n", "return smear(x)\n")
    harness = OfflineHarness(task(), 2)
    made = {changed(ask(harness, ticket(number, text))) for number in range(60)}
    assert not any(name.startswith("move") for name in made)


def test_two_changes_come_late_and_are_labelled() -> None:
    made = searched(OfflineHarness(task(), 4), 60, {"EMBED_LR": 0.015, "WARMUP_FRAC": 0.015, "DIM": 0.015})
    pairs = [n for n, proposal in enumerate(made) if len(json.loads(proposal.move)["steps"]) == 2]
    assert pairs and min(pairs) >= 10
    assert all(made[n].hypothesis.startswith("Two changes at once: ") for n in pairs)


def test_the_hypothesis_says_what_changes_and_what_history_suggests() -> None:
    harness = OfflineHarness(task(moves=()), 4)
    made = searched(harness, 30, {"MATRIX_LR": 0.05, "EMBED_LR": 0.05})
    texts = [proposal.hypothesis for proposal in made]
    assert any("MATRIX_LR 0.02 → " in text and "of MATRIX_LR gained 5.0σ" in text for text in texts)


def test_guidance_favours_and_forbids() -> None:
    said = read_guidance(
        ("look at DIM", "leave DIM and DEPTH alone. try EMBED_LR"), ["DEPTH", "DIM", "EMBED_LR"]
    )
    assert said["DIM"] == said["DEPTH"] == -float("inf") and said["EMBED_LR"] > 0


def test_a_forbidden_knob_is_left_alone() -> None:
    harness = OfflineHarness(task(), 2)
    made = {changed(ask(harness, ticket(n, guidance=("don't touch MATRIX_LR",)))) for n in range(40)}
    assert "MATRIX_LR" not in made


@pytest.mark.parametrize(
    ("name", "surface"),
    [
        ("MATRIX_LR", "optimizer"),
        ("ADAM_BETAS[1]", "optimizer"),
        ("WARMUP_FRAC", "schedule"),
        ("BATCH_SIZE", "data"),
        ("DEPTH", "architecture"),
        ("QK_NORM", "data"),  # its surface's description names it
        ("FOO", ""),
    ],
)
def test_a_constant_belongs_to_a_surface(name: str, surface: str) -> None:
    assert surface_of(name, SURFACES) == surface


def test_a_task_without_noise_is_searched_too() -> None:
    harness = OfflineHarness(task(metric=Metric(name="radius", direction="maximize")), 5)
    for number in range(40):
        proposal = ask(harness, ticket(number))
        gain = 1e-4 if changed(proposal) == "MATRIX_LR" else 0.0
        harness.tell(outcome(number, proposal, 2.0 + gain, verdict=Verdict.CONFIRMED if gain else None), 0.0)
    assert share(harness, "MATRIX_LR", 100) > 0.2


@pytest.mark.parametrize(
    "move", ["", "{}", '{"steps":', '{"steps": [[1,2,3,4,5]], "parent": 1, "child": 2, "score": 1}']
)
def test_other_harnesses_trials_are_passed_over(move: str) -> None:
    harness, proposal = OfflineHarness(task(), 5), Proposal("h", (), move=move)
    harness.tell_proposed(0, proposal, "parent")
    harness.tell(outcome(0, proposal, 2.0), 0.01)
    assert not harness._axes


def test_an_identity_depends_on_contents_alone() -> None:
    assert (
        files_identity({"a": "1", "b": "2"})
        == files_identity({"b": "2", "a": "1"})
        != files_identity({"a": "12"})
    )


@pytest.mark.slow
def test_proposing_stays_cheap_after_many_trials() -> None:
    harness = OfflineHarness(task(), 5)
    text = RECIPE + "".join(f"\ndef f{i}(x):\n    return x * {i}\n" for i in range(150))
    for number in range(500):
        proposal = ask(harness, ticket(number, text))
        harness.tell(outcome(number, proposal, 2.0 + 0.01 * (number % 3)), 0.01)
    began = time.process_time()
    for number in range(100):
        asyncio.run(harness.propose(ticket(2000 + number, text)))
    assert (time.process_time() - began) / 100 < 0.02  # 2 ms as a rule; the rest is for slow machines
