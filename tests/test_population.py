"""What the trials of a campaign branch from, kept up from a real ledger."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from pathlib import Path

import pytest
from conftest import TASK, TRAIN, write_toy
from hypothesis import given
from hypothesis import strategies as st
from masters import ended, promoted
from scripted import Scripted, start

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.lab import Lab
from autolab.ledger.exchange import merge, pack
from autolab.ledger.facts import read_part
from autolab.ledger.records import Measurement, Proposal, Status, Trial, Verdict
from autolab.search.archives import ARCHIVES
from autolab.search.descriptors import bounds_of, edit_distance, lines_of, measures
from autolab.search.population import MIGRATION, Population
from autolab.task import Commands, Descriptor, Edit, Metric, Task

MEASURED = TASK + "descriptors: [{metric: sharpness, bounds: [0, 10]}]\n"


def population(lab: Lab, archive: str = "auto", seed: int = 0) -> Population:
    return Population(lab.ledger, lab.campaign, lab.task, archive, seed)


def begun(directory: Path) -> Lab:
    """A lab whose baseline was measured, at 1.4; lower is better."""
    lab = start(directory)
    ended(lab, next(lab.ledger.sequence(lab.campaign.id)), Verdict.CONFIRMED, 1.4, 0.0)
    promoted(lab, 1, "baseline")
    return lab


def tried(
    lab: Lab, rate: float, score: float, verdict: Verdict = Verdict.WORSE, parent: Trial | None = None
) -> Trial:
    """A trial that set the rate, and ended."""
    branch = (parent.program or "", parent.number) if parent else None
    ticket = lab.ticket(lab.reserve(role="worker", agent="test", surface="optimizer", parent=branch))
    (line,) = [line for line in ticket.parent_files["train.py"].splitlines() if line.startswith("RATE")]
    edit = Edit(path="train.py", search=line, replace=f"RATE = {rate}")
    trial = lab.submit(ticket, Proposal(f"rate {rate}", (edit,), surface="optimizer"))
    done = ended(lab, trial, verdict, score, 1.4 - score)
    if verdict is Verdict.CONFIRMED:
        promoted(lab, done.number, "improvement", 0.1)
    return done


def told(lab: Lab, archive: str = "auto", seed: int = 0) -> Population:
    """A population that was told every finished trial of the campaign."""
    found = population(lab, archive, seed)
    for trial in lab.ledger.sequence(lab.campaign.id):
        if trial.status is not None:
            found.tell(trial)
    return found


def chosen(found: Population, count: int = 200) -> Counter[int]:
    """Which trials are branched from, of so many choices while many are in flight."""
    return Counter(found.choose(ordinal)[1] for ordinal in range(1000, 1000 + count))


@pytest.mark.parametrize("archive", ARCHIVES)
def test_before_anything_is_known_trials_branch_from_the_baseline(toy: Path, archive: str) -> None:
    lab = start(toy)
    assert population(lab, archive).choose(1) == (lab.campaign.baseline, 1)


def test_with_few_trials_it_branches_from_the_master_whatever_a_lucky_score_says(toy: Path) -> None:
    lab = begun(toy)
    master = tried(lab, 0.6, 1.3, Verdict.CONFIRMED)
    for n in range(6):
        tried(lab, 0.7 + 0.01 * n, 1.0, Verdict.PROVISIONAL)  # far better than the master, once
    choices = {told(lab, seed=seed).choose(8) for seed in range(20)}
    assert choices == {(master.program, master.number)}


def test_best_branches_from_the_master_and_from_nothing_else(toy: Path) -> None:
    lab = begun(toy)
    for n in range(40):
        tried(lab, 0.7 + 0.001 * n, 1.3, Verdict.NO_DIFFERENCE)
    assert set(chosen(told(lab, "best"))) == {1}


@pytest.mark.parametrize("archive", ["auto", "grid", "clusters", "dns"])
def test_on_a_plateau_it_branches_from_several_programs(toy: Path, archive: str) -> None:
    lab = begun(toy)
    for n in range(120):
        tried(lab, float(f"{n}." + "1" * (n % 12 + 1)), 1.5 + 0.001 * n)
    found = chosen(told(lab, archive))
    assert len(found) > 3
    assert all(lab.ledger.trial(number).status is Status.OK for number in found)


@pytest.mark.slow
def test_the_same_trials_and_seed_give_the_same_choices(toy: Path) -> None:
    lab = begun(toy)
    for n in range(80):
        tried(lab, 0.7 + 0.001 * n, 1.5 + 0.001 * (n * 37 % 80))
    one, other = told(lab, "dns"), told(lab, "dns")
    sequence = [one.choose(ordinal) for ordinal in range(81, 140)]
    assert sequence == [other.choose(ordinal) for ordinal in reversed(range(81, 140))][::-1]
    assert sequence != [told(lab, "dns", seed=1).choose(ordinal) for ordinal in range(81, 140)]


def test_a_demoted_program_is_not_taken_for_the_master(toy: Path) -> None:
    lab = begun(toy)
    tried(lab, 0.6, 1.3, Verdict.CONFIRMED)
    promoted(lab, 1, "demotion", 0.0, "it was luck")
    assert told(lab).choose(3) == (lab.campaign.baseline, 1)


def test_failures_count_against_their_parent_but_not_what_the_machine_did(toy: Path) -> None:
    lab = begun(toy)
    found = told(lab, "grid")
    for n, status in enumerate([Status.CRASH, Status.INFRA_ERROR, Status.DUPLICATE, Status.NAN]):
        ticket = lab.open_trial(role="worker", agent="test")
        edit = Edit(path="train.py", search="RATE = 0.5", replace=f"RATE = {n}.25")
        lab.submit(ticket, Proposal(f"{n}", (edit,)))
        found.tell(lab.ledger.finish_trial(ticket.number, status, note="it broke"))
    assert found.archive.history.barren.tolist() == [2]  # type: ignore[attr-defined]


def test_the_best_of_other_labs_migrate_in_and_nothing_else(tmp_path: Path) -> None:
    lab, there = begun(write_toy(tmp_path / "here")), begun(write_toy(tmp_path / "there"))
    for n in range(12):
        tried(there, 0.7 + 0.01 * n, 1.2 + 0.01 * n)
    other = write_toy(tmp_path / "other", task=TASK.replace("tokens: 10", "tokens: 11"))
    stranger = begun(other)
    tried(stranger, 0.9, 1.0)
    parts = [part for one in (there, stranger) for part in pack(one.ledger)]
    merge(lab.ledger, [read_part(part.content, "part") for part in parts])
    for n in range(MIGRATION):
        tried(lab, 0.3 + 0.001 * n, 1.5)
    found = told(lab, "grid")
    strangers = {number for number in found.archive.elites() if number < 0}
    known = set(found.archive.history.ids.tolist())  # type: ignore[attr-defined]
    came = sorted(lab.ledger.trial(number).score or 0.0 for number in known if number < 0)
    assert came == [1.2, 1.21, 1.22] and strangers
    assert {lab.ledger.campaign(lab.ledger.trial(one).campaign).key for one in strangers} == {
        lab.campaign.key
    }
    assert strangers & set(chosen(found))


def test_a_resumed_campaign_sees_the_same_migrants(tmp_path: Path) -> None:
    lab, there = begun(write_toy(tmp_path / "here")), begun(write_toy(tmp_path / "there"))
    living = population(lab, "dns")
    living.tell(lab.ledger.trial(1))
    for n in range(3 * MIGRATION):
        if n == MIGRATION + 5:  # pulled while the campaign runs
            for k in range(5):
                tried(there, 0.7 + 0.01 * k, 1.25 + 0.01 * k)
            merge(lab.ledger, [read_part(part.content, "part") for part in pack(there.ledger)])
        living.tell(tried(lab, 0.3 + 0.001 * n, 1.5 + 0.001 * (n * 7 % 60)))
    again = told(lab, "dns")
    assert [again.choose(n) for n in range(70, 130)] == [living.choose(n) for n in range(70, 130)]


@pytest.mark.slow
def test_a_campaign_runs_with_an_archive_and_a_second_process_would_choose_the_same(toy: Path) -> None:
    lab = start(toy)
    found = population(lab, "dns")
    harness = Scripted([0.6, 0.7, 0.2, 0.8, 0.3, 0.4])
    work = CampaignRun(lab, harness, local_executor(lab, 2), Limits(trials=6), population=found)
    assert asyncio.run(work.run()) == "all trials are done"
    again = told(lab, "dns")
    assert [again.choose(n) for n in range(7, 40)] == [found.choose(n) for n in range(7, 40)]
    lab.ledger.close()


def test_what_the_evaluator_reports_is_a_measure(tmp_path: Path) -> None:
    lab = begun(write_toy(tmp_path / "toy", task=MEASURED))
    found = told(lab, "grid")
    for n in range(8):
        ticket = lab.open_trial(role="worker", agent="test")
        edit = Edit(path="train.py", search="RATE = 0.5", replace=f"RATE = {n}.25")
        trial = lab.submit(ticket, Proposal(f"{n}", (edit,)))
        wanted = Measurement(f"{trial.id}-screen-0-1", trial.number, "screen", seed=1, eval_seed=2)
        metrics = {"loss": 2.0, "sharpness": float(n)}
        lab.record(wanted.replace(status=Status.OK, metrics=metrics))
        found.tell(lab.ledger.finish_trial(trial.number, Status.OK, verdict=Verdict.WORSE, score=2.0))
    first = found.archive.history.unit[1:, 0]  # type: ignore[attr-defined]
    assert first.tolist() == pytest.approx([n / 10 for n in range(8)])


# measures ---------------------------------------------------------------------------------------------


def test_the_edit_distance_counts_tokens_that_differ_wherever_they_stand() -> None:
    seed = lines_of({"train.py": TRAIN})
    assert edit_distance(seed, lines_of({"train.py": TRAIN})) == 0
    moved = "\n".join(reversed(TRAIN.split("\n")))
    assert edit_distance(seed, lines_of({"train.py": moved})) == 0
    assert edit_distance(seed, lines_of({"train.py": TRAIN.replace("0.5", "0.75")})) == 1
    assert edit_distance(seed, lines_of({"train.py": TRAIN + "\na = b + c\n"})) == 5
    assert edit_distance(seed, lines_of({})) == edit_distance(lines_of({}), seed) > 50


hostile = st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans(), st.just(10**400))


@given(value=hostile, seconds=hostile, source=st.text(st.characters()), surfaces=st.lists(st.text()))
def test_nothing_that_a_recipe_reports_or_is_breaks_the_measures(
    value: object, seconds: object, source: str, surfaces: list[str]
) -> None:
    declared = (Descriptor(metric="a"), Descriptor(metric="b"))
    task = Task(
        name="t", metric=Metric(name="loss"), editable=("train.py",), commands=Commands(train=("python",)),
        descriptors=declared,
    )  # fmt: skip
    measured = Measurement("m", 1, "screen", 1, 1, metrics={"a": value}, train_seconds=seconds)  # type: ignore[dict-item,arg-type]
    found = measures(task, lines_of({}), {"train.py": source}, surfaces, measured, timed=True)
    assert len(found) == len(bounds_of(task, timed=True)) == 6
    assert all(isinstance(one, float) for one in found)
    assert math.isnan(found[1])
    json.dumps(found)
