"""task.yaml: what is wrong is named, and the comparability key changes with what changes scores."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TASK, write_toy

from autolab.errors import LabError
from autolab.task import comparability_key, load_task


def test_reads_the_toy_task(toy: Path) -> None:
    task = load_task(toy)
    assert (task.name, task.metric.name, task.editable) == ("toy", "loss", ("train.py",))
    assert task.better(1.0, 2.0) and task.gain(1.0, 2.0) == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text + "colour: red\n", "colour"),
        (lambda text: text.replace("wall_seconds", "wall_secs"), "budget.wall_secs"),
        (lambda text: text.replace("direction: minimize", "direction: down"), "metric.direction"),
        (lambda text: text.replace("bounds: [0, 100]", "bounds: [5, 1]"), "low < high"),
        (lambda text: text.replace("[train.py]", "[../train.py]"), "../train.py"),
        (lambda text: text.replace("[train.py]", "[/etc/passwd]"), "/etc/passwd"),
        (lambda text: text.replace("[train.py]", "[absent.py]"), "absent.py"),
        (lambda text: text.replace("protected: [evaluate.py]", "protected: [train.py]"), "both"),
        (lambda text: text.replace("tokens: 10", "tokens: 10, cpu_seconds: 3"), "not both"),
        (lambda text: "name: [unclosed", "YAML"),
        (lambda text: "", "no keys"),
        (lambda text: text + "gates: [{metric: accuracy}]\n", "at_least"),
        (lambda text: text + "profile: gpu\n", "profile"),
        (lambda text: text + "name: again\n", "twice"),
        (lambda text: text.replace("wall_seconds: 20", "wall_seconds: true"), "budget.wall_seconds"),
        (lambda text: text.replace("wall_seconds: 20", "wall_seconds: '20'"), "budget.wall_seconds"),
        (lambda text: text.replace("wall_seconds: 20", "wall_seconds: .inf"), "budget.wall_seconds"),
        (lambda text: text.replace("bounds: [0, 100]", "bounds: [-.inf, .inf]"), "metric.bounds"),
        (lambda text: text + "gates: [{metric: loss, at_least: .nan}]\n", "at_least"),
        (lambda text: text.replace("[train.py]", "[./train.py]"), "./train.py"),
        (lambda text: text.replace("[train.py]", "[train.py, task.yaml]"), "belongs to the lab"),
        (lambda text: text.replace("[train.py]", "[.autolab/ledger.sqlite]"), "belongs to the lab"),
        (lambda text: text + "profiles: {gpu: {budget: {wall_secs: 3}}}\n", "wall_secs"),
    ],
)
def test_a_wrong_task_is_one_line_that_names_the_key(toy: Path, change, named: str) -> None:
    (toy / "task.yaml").write_text(change(TASK))
    with pytest.raises(LabError) as problem:
        load_task(toy)
    assert named in str(problem.value) and "\n" not in str(problem.value)
    assert "task.yaml" in str(problem.value)


def test_yaml_anchors_and_merges_work(toy: Path) -> None:
    (toy / "task.yaml").write_text(
        TASK + "profiles: {a: {budget: &b {wall_seconds: 9}}, b: {budget: {<<: *b}}}\n"
    )
    assert load_task(toy, "b").budget.wall_seconds == 9


@pytest.mark.parametrize("value", ["true", "'20'"])
def test_a_profile_is_as_strict_as_the_budget(toy: Path, value: str) -> None:
    (toy / "task.yaml").write_text(TASK + f"profiles: {{a: {{budget: {{wall_seconds: {value}}}}}}}\n")
    with pytest.raises(LabError, match="profiles"):
        load_task(toy)


def test_a_missing_task_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="autolab init"):
        load_task(tmp_path)


def test_a_profile_overrides_the_budget(toy: Path) -> None:
    (toy / "task.yaml").write_text(TASK + "profiles: {gpu: {kind: gpu, budget: {wall_seconds: 300}}}\n")
    task = load_task(toy, "gpu")
    assert (task.budget.wall_seconds, task.budget.tokens, task.kind) == (300, None, "gpu")
    with pytest.raises(LabError, match="unknown profile"):
        load_task(toy, "tpu")


def test_scores_compare_only_while_task_evaluator_data_and_budget_stay(tmp_path: Path) -> None:
    def key(name: str, task: str = TASK, evaluator: str = "", data: str = "{}", hardware: str = "x") -> str:
        directory = write_toy(tmp_path / name, task=task)
        with open(directory / "evaluate.py", "a") as file:
            file.write(evaluator)
        return comparability_key(load_task(directory), data, hardware)

    same = key("a")
    assert key("b") == same
    assert key("c", task=TASK.replace("tokens: 10", "tokens: 20")) != same
    assert key("d", evaluator="# changed\n") != same
    assert key("e", data='{"files": {}}') != same
    assert key("f", hardware="y") != same
    assert key("g", task=TASK.replace('"rates"', '"learning rates"')) == same
