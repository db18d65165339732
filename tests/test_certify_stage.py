"""The sealed split: looked at in stage `certify` and in no other, and only by tasks that have one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from measuring import HONEST

from autolab.errors import LabError
from autolab.execution.data import Data
from autolab.execution.executor import LocalExecutor
from autolab.execution.job_launch import SLACK_SECONDS, timeout_seconds
from autolab.ledger.facts import CampaignFact
from autolab.ledger.jobs import is_wanted, reserve
from autolab.ledger.records import Measurement, Status
from autolab.ledger.store import Ledger
from autolab.task import Task, check_task, comparability_key, load_task

ROOT = Path(__file__).resolve().parents[1]

TASK = """\
name: tiny
metric: {name: loss, direction: minimize, bounds: [0, 100]}
editable: [train.py]
protected: [evaluate.py]
commands: {train: [python, train.py], evaluate: [python, evaluate.py]}
budget: {tokens: 10, wall_seconds: 20, eval_seconds: 20, idle_seconds: 10, memory_gb: 1, artifact_kb: 64}
"""
SEALED = TASK.replace("bounds:", "sealed: sealed_loss, bounds:")
SELF_REPORTED = TASK.replace(", evaluate: [python, evaluate.py]", "")

# The honest recipe leaves a 7: its loss is 7, and 8 on the sealed split.
EVALUATE = """\
import json, os
value = float(open(os.environ["AUTOLAB_ARTIFACT"] + "/weights").read())
metrics = {"sealed_loss": value + 1} if os.environ["AUTOLAB_STAGE"] == "certify" else {"loss": value}
with open(os.environ["AUTOLAB_RESULT"], "w") as file:
    json.dump({"status": "ok", "cause": "", "metrics": metrics}, file)
"""


def tiny(directory: Path, task: str = SEALED) -> Task:
    """A task whose files lie in `directory`."""
    directory.mkdir(exist_ok=True)
    for name, text in {"task.yaml": task, "train.py": HONEST, "evaluate.py": ""}.items():
        (directory / name).write_text(text)
    return load_task(directory)


def executor_of(directory: Path, task: str = SEALED, evaluate: str = EVALUATE) -> LocalExecutor:
    protected = {"evaluate.py": evaluate}
    return LocalExecutor(directory / "runs", tiny(directory, task), protected, Data(None, ""), "5ec7e7", 1)


def wanted(stage: str) -> Measurement:
    return Measurement(f"t1-{stage}-0-1", 1, stage, seed=1, eval_seed=2)


def measure(directory: Path, stage: str, *, task: str = SEALED, evaluate: str = EVALUATE) -> Measurement:
    executor = executor_of(directory, task, evaluate)
    bundle = executor.stage(wanted(stage), {"train.py": HONEST})
    return asyncio.run(executor.run(bundle, wanted(stage), executor.slots[0]))


# measuring --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "metrics"),
    [
        ("screen", {"loss": 7.0}),
        ("confirm", {"loss": 7.0}),
        ("certify", {"sealed_loss": 8.0}),
    ],
)
def test_the_sealed_split_is_measured_at_certification_alone(
    tmp_path: Path, stage: str, metrics: dict[str, float]
) -> None:
    measured = measure(tmp_path, stage)
    assert (measured.status, measured.metrics, measured.evidence) == (Status.OK, metrics, "measured"), (
        measured
    )


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("screen", "screen"),
        ("replicate", "screen"),
        ("control-17", "screen"),
        ("confirm", "confirm"),
        ("certify", "certify"),
        ("replay-screen", "screen"),
        ("replay-confirm", "confirm"),
        ("replay-certify", "screen"),
    ],
)
def test_the_evaluator_is_told_how_closely_to_look(tmp_path: Path, stage: str, told: str) -> None:
    bundle = executor_of(tmp_path).stage(wanted(stage), {"train.py": HONEST})
    assert json.loads((bundle / "spec.json").read_text())["stage"] == told


def test_the_bounds_hold_for_the_sealed_score(tmp_path: Path) -> None:
    measured = measure(tmp_path, "certify", task=SEALED.replace("100]", "7.5]"))
    assert (measured.status, measured.cause) == (Status.ILLEGAL, "score 8 outside [0, 7.5]")


def test_an_evaluator_that_does_not_know_the_stage_certifies_nothing(tmp_path: Path) -> None:
    unaware = EVALUATE.replace('== "certify"', '== "unheard of"')
    measured = measure(tmp_path, "certify", evaluate=unaware)
    assert (measured.status, measured.cause) == (Status.CRASH, "the evaluator's result has no sealed_loss")


def test_an_evaluator_that_always_looks_at_the_sealed_split_is_stopped(tmp_path: Path) -> None:
    curious = EVALUATE.replace("with open", 'metrics = {"loss": value, "sealed_loss": value}\nwith open')
    measured = measure(tmp_path, "screen", evaluate=curious)
    assert (measured.status, measured.metrics) == (Status.CRASH, {})
    assert measured.cause == "the evaluator looked at sealed_loss in stage screen"


@pytest.mark.parametrize("task", [TASK, SELF_REPORTED])
def test_without_a_sealed_split_nothing_is_certified_and_nothing_begins(tmp_path: Path, task: str) -> None:
    executor = executor_of(tmp_path, task)
    with pytest.raises(LabError, match=r"metric\.sealed"):
        executor.stage(wanted("certify"), {"train.py": HONEST})
    assert not executor.runs.exists()


def test_a_job_has_time_for_a_closer_look(tmp_path: Path) -> None:
    budget = tiny(tmp_path).budget
    screen = 10 + 20 + 20 + SLACK_SECONDS
    assert {timeout_seconds(budget, stage, ()) for stage in ("screen", "replicate", "control-3")} == {screen}
    assert {timeout_seconds(budget, stage, ()) for stage in ("confirm", "certify")} == {screen + 3 * 20}


# the task -----------------------------------------------------------------------------------------------


def test_a_task_says_what_is_sealed_and_what_is_deterministic(tmp_path: Path) -> None:
    plain, full = (
        tiny(tmp_path / "a", TASK),
        tiny(tmp_path / "b", SEALED.replace("sealed:", "deterministic: true, sealed:")),
    )
    assert (plain.metric.sealed, plain.metric.deterministic) == (None, False)
    assert (full.metric.sealed, full.metric.deterministic) == ("sealed_loss", True)
    stages = ("screen", "confirm", "certify")
    assert [full.metric.reported(stage) for stage in stages] == ["loss", "loss", "sealed_loss"]


@pytest.mark.parametrize(
    ("task", "named"),
    [
        (SEALED.replace("sealed_loss", "loss"), "another name"),
        (SEALED.replace("sealed_loss", "'2 words'"), "metric.sealed"),
        (SEALED.replace("sealed_loss", "true"), "metric.sealed"),
        (SELF_REPORTED.replace("bounds:", "sealed: sealed_loss, bounds:"), "evaluate command"),
        (SEALED + "objective: wallclock\n", "objective"),
        (TASK.replace("bounds:", "deterministic: 1, bounds:"), "metric.deterministic"),
        (TASK.replace("bounds:", "deterministic: 'yes', bounds:"), "metric.deterministic"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, task: str, named: str) -> None:
    with pytest.raises(LabError) as problem:
        tiny(tmp_path, task)
    assert named in str(problem.value)


def test_scores_of_earlier_campaigns_stay_comparable(tmp_path: Path) -> None:
    def key(task: str) -> str:
        return comparability_key(tiny(tmp_path, task), "{}", "x")

    before_there_were_such_keys = "aeddaeb3a7b6c032"
    assert key(TASK) == before_there_were_such_keys
    assert key(SEALED) == before_there_were_such_keys
    assert key(TASK.replace("bounds:", "deterministic: true, bounds:")) == before_there_were_such_keys


def test_the_default_task_has_a_sealed_split_and_the_key_that_it_had() -> None:
    text = (ROOT / "task.yaml").read_text()
    before = check_task(text.replace(", sealed: sealed_bpb", ""), ROOT)
    now = load_task(ROOT)
    assert (before.metric.sealed, now.metric.sealed) == (None, "sealed_bpb")
    assert comparability_key(now, "{}", "x") == comparability_key(before, "{}", "x")


# other labs ---------------------------------------------------------------------------------------------

# As versions without the two keys wrote it.
EARLIER = (
    '{"kind":"campaign","id":"c","task":"tiny","key":"k","seed":0,"config":{"metric":{"name":"loss",'
    '"direction":"minimize","bounds":[0.0,100.0],"min_effect":0.0},"name":"","profile":"","editable":[],'
    '"budget":{},"gates":[],"objective":"metric"},"baseline":"0000000000000000","created_at":1.0}'
)


@pytest.mark.parametrize(
    "line",
    [
        EARLIER,
        EARLIER.replace('"min_effect":0.0', '"min_effect":0.0,"sealed":"sealed_loss"'),
        EARLIER.replace('"min_effect":0.0', '"min_effect":0.0,"sealed":"sealed_loss","deterministic":true'),
    ],
)
def test_a_campaign_is_told_to_others_with_what_it_uses(line: str) -> None:
    assert CampaignFact.model_validate_json(line).line() == line


# jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "while_others_run", "afterwards"),
    [
        ("control-1", True, False),
        ("control-2", False, False),
        ("certify", True, True),
        ("replicate", False, False),
        ("replay-screen", False, False),
    ],
)
def test_jobs_of_a_finished_master_are_wanted_for_the_candidate_that_it_is_measured_for(
    tmp_path: Path, stage: str, while_others_run: bool, afterwards: bool
) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        campaign = ledger.create_campaign(
            name="c", task="t", key="k", config={"seed": 0}, baseline=ledger.add_program({"a": "1"})
        )

        def opened() -> int:
            return ledger.open_trial(
                campaign.id, role="worker", agent="", surface="", parent_program=None, parent_trial=None
            ).number

        master, other = opened(), opened()
        measurement = Measurement("m", master, stage, seed=1, eval_seed=2)
        ledger.start_measurement(measurement)
        job = reserve(ledger, campaign.id, measurement, bundle="", flavor="f", most_usd=1, limit=None)
        assert is_wanted(ledger, job)
        ledger.finish_trial(master, Status.OK)
        assert is_wanted(ledger, job) == while_others_run
        ledger.finish_trial(other, Status.CRASH)
        assert is_wanted(ledger, job) == afterwards
        ledger.finish_measurement(measurement.replace(status=Status.OK))
        assert not is_wanted(ledger, job)
