"""The façade: what a submission becomes, gates, objectives, data that changed, infrastructure that failed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import TASK, TRAIN, write_toy
from scripted import start
from test_known_defects import propose, run

from autolab import lab as lab_module
from autolab.judging.course import advance
from autolab.ledger.records import Proposal, Status, Trial
from autolab.task import Edit, load_task

PREPARE = """\
import hashlib, json, os
from pathlib import Path
root = Path(os.environ["AUTOLAB_DATA"])
(root / "train").mkdir(exist_ok=True)
(root / "train" / "a.txt").write_text("text")
digest = hashlib.sha256(b"text").hexdigest()
(root / "manifest.json").write_text(json.dumps({"files": {"train/a.txt": digest}}))
"""


def test_a_missed_gate_is_a_failure_with_its_number(tmp_path: Path) -> None:
    task = TASK + "gates: [{metric: loss, at_most: 1.5}]\n"
    lab = start(write_toy(tmp_path / "toy", task=task))
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    trial = run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.1")))
    assert (trial.status, trial.score) == ("gate_missed", None)
    assert "loss 1.8" in trial.note and "above 1.5" in trial.note


@pytest.mark.slow
def test_wall_clock_as_the_objective_is_measured_by_the_runner(tmp_path: Path) -> None:
    task = TASK + "objective: wallclock\ngates: [{metric: loss, at_most: 1.5}]\n"
    train = TRAIN.replace("    value =", "    import time; time.sleep(RATE)\n    value =")
    lab = start(write_toy(tmp_path / "toy", task=task, train=train))
    baseline = run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    assert baseline.score is not None and 0.5 < baseline.score < 5
    (quicker,) = [run(lab, propose(lab, ("sleep(RATE)", "sleep(0)")))]
    assert quicker.verdict == "confirmed"


def test_data_that_changes_under_a_trial_is_tampering(tmp_path: Path) -> None:
    task = TASK.replace("commands: {", "commands: {prepare: [python, prepare.py], ").replace(
        "protected: [", "protected: [prepare.py, "
    )
    toy = write_toy(tmp_path / "toy", task=TASK)
    (toy / "prepare.py").write_text(PREPARE)
    (toy / "task.yaml").write_text(task)
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    assert lab.data.directory is not None and lab.data.damage() is None
    trial = propose(lab, ("RATE = 0.5", "RATE = 0.9"))
    (lab.data.directory / "train" / "a.txt").write_text("other")
    assert run(lab, trial).status == "tampered"
    assert lab.data.damage() == "train/a.txt"


def test_a_program_that_carries_too_much_text_is_refused(tmp_path: Path) -> None:
    lab = start(
        write_toy(tmp_path / "toy", task=TASK.replace("artifact_kb: 64", "artifact_kb: 64, program_kb: 2"))
    )
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    trial = propose(lab, ("RATE = 0.5", f"RATE = 0.9  # {'x' * 2000}"))
    assert trial.status == "preflight_failed" and "larger than 2048 bytes" in trial.note


def test_an_infrastructure_error_is_measured_again_three_times_at_most(toy: Path) -> None:
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    trial = propose(lab, ("RATE = 0.5", "RATE = 0.9"))
    for attempt in (1, 2, 3):
        step = advance(lab, trial.number)
        assert not isinstance(step, Trial)
        (wanted,) = step
        assert wanted.attempt == attempt
        lab.record(wanted.replace(status=Status.INFRA_ERROR, cause="the machine went away"))
    ended = advance(lab, trial.number)
    assert isinstance(ended, Trial) and ended.status == "infra_error"
    assert propose(lab, ("RATE = 0.5", "RATE = 0.9")).status is None  # its code may be tried again


def test_seeds_belong_to_the_lab(toy: Path) -> None:
    lab = start(toy)
    baseline = next(lab.ledger.sequence(lab.campaign.id))
    seeds = [m.seed for m in lab.first_measurements(baseline)]
    assert len(set(seeds)) == 3
    assert seeds == [m.seed for m in lab.first_measurements(baseline)]


@pytest.mark.slow
def test_a_trial_is_judged_once(toy: Path) -> None:
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    trial = run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.9")))
    assert advance(lab, trial.number) == trial
    assert len(lab.ledger.promotions(lab.campaign.id)) == 2


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_shipped_task_is_valid_in_every_profile(profile: str) -> None:
    task = load_task(Path(__file__).resolve().parent.parent, profile)
    assert (task.budget.cpu_seconds is None) == (profile == "gpu")
    assert task.commands.evaluate is not None


def test_what_a_harness_asked_about_is_weighed_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weighed = []
    describe = lab_module.described
    monkeypatch.setattr(lab_module, "described", lambda *a, **k: weighed.append(1) or describe(*a, **k))
    lab = start(toy)
    ticket = lab.open_trial(role="worker", agent="test")
    edit = Edit(path="train.py", search="RATE = 0.5", replace="RATE = 0.6")
    proposal = Proposal("a larger rate", (edit,))
    assert lab.objection(ticket, proposal) is None
    lab.submit(ticket, dataclasses.replace(proposal, tokens=7))
    assert len(weighed) == 1
