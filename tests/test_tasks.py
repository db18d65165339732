"""The tasks in tasks/: exact evaluators that believe nothing, and recipes that the offline harness can work on."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import load_json, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.harness.knobs import read_knobs
from autolab.task import Move, Task, load_task

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("circle-packing", "erdos-minimum-overlap")
CONSTRUCTIONS = ROOT / "tests" / "constructions"


def evaluator(task: str) -> ModuleType:
    """evaluate.py of a task, under a name of its own."""
    name = f"evaluate_{task.replace('-', '_')}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tasks" / task / "evaluate.py")
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


packing, overlap = evaluator(TASKS[0]), evaluator(TASKS[1])
CIRCLES: list[list[float]] = json.loads((CONSTRUCTIONS / "circles.json").read_text())["circles"]
STEPS: list[float] = json.loads((CONSTRUCTIONS / "steps.json").read_text())["steps"]


def judged(task: ModuleType, folder: Path, text: str | bytes) -> dict[str, Any]:
    """What the evaluator says of an artifact with this text."""
    path = folder / "construction.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    result: dict[str, Any] = task.evaluate(path)
    return result


def changed(place: int, axis: int, value: float) -> list[list[float]]:
    """The reference packing with one number replaced."""
    return [
        [value if (i, j) == (place, axis) else number for j, number in enumerate(circle)]
        for i, circle in enumerate(CIRCLES)
    ]


# ------------------------------------------------------------------------------------------------------------
# Circle packing.


def test_the_reference_packing_is_valid_and_its_sum_is_exact(tmp_path: Path) -> None:
    result = judged(packing, tmp_path, json.dumps({"circles": CIRCLES}))
    assert result["status"] == "ok"
    assert result["metrics"]["sum_radii"] == float(sum(Fraction(r) for _, _, r in CIRCLES)) > 2.6359830


def test_radii_that_a_tolerance_of_1e_6_lets_grow_are_refused(tmp_path: Path) -> None:
    grown = [[x, y, r + 4.99e-7] for x, y, r in CIRCLES]
    result = judged(packing, tmp_path, json.dumps({"circles": grown}))
    assert (result["status"], result["metrics"]) == ("illegal", {})


def row_of_circles(r: float, gap: float) -> list[list[float]]:
    """Two circles of radius r whose centres are 2 r + gap apart, and 24 small ones far from everything."""
    small = [[(i + 0.5) / 24, 0.9, 0.01] for i in range(24)]
    return [[0.25, 0.25, r], [0.25 + 2 * r + gap, 0.25, r], *small]


def test_circles_may_touch_and_not_overlap_by_one_ulp(tmp_path: Path) -> None:
    touching = row_of_circles(0.125, 0.0)
    assert judged(packing, tmp_path, json.dumps({"circles": touching}))["status"] == "ok"
    touching[0][2] = math.nextafter(0.125, 1)
    result = judged(packing, tmp_path, json.dumps({"circles": touching}))
    assert (result["status"], result["cause"]) == ("illegal", "circles 0 and 1 overlap")


def test_circles_may_touch_the_wall_and_not_reach_out_by_one_ulp(tmp_path: Path) -> None:
    inside = row_of_circles(0.125, 0.0)
    inside[0][2] = 0.25
    inside[1] = [0.75, 0.25, 0.25]
    assert judged(packing, tmp_path, json.dumps({"circles": inside}))["status"] == "ok"
    for place, axis, beyond in ((1, 0, 1.0), (0, 0, 0.0), (1, 1, 0.0)):
        circles = [circle.copy() for circle in inside]
        circles[place][axis] = math.nextafter(circles[place][axis], beyond)
        result = judged(packing, tmp_path, json.dumps({"circles": circles}))
        assert result["status"] == "illegal", (place, axis)
        assert result["cause"] == f"circle {place} reaches out of the square" or "overlap" in result["cause"]


@pytest.mark.parametrize("radius", [0.0, -0.0, -0.01])
def test_a_radius_has_to_be_positive(tmp_path: Path, radius: float) -> None:
    result = judged(packing, tmp_path, json.dumps({"circles": changed(3, 2, radius)}))
    assert (result["status"], result["cause"]) == ("illegal", "circle 3 has no positive radius")


def test_the_smallest_and_largest_doubles_are_decided_exactly(tmp_path: Path) -> None:
    tiny = [[0.5, 0.5, 5e-324]] * 26
    assert "overlap" in judged(packing, tmp_path, json.dumps({"circles": tiny}))["cause"]
    far = judged(packing, tmp_path, json.dumps({"circles": changed(0, 0, 1.7e308)}))
    assert far["cause"] == "circle 0 reaches out of the square"
    apart = [[(i + 0.5) / 26, 0.5, 5e-324] for i in range(26)]
    assert judged(packing, tmp_path, json.dumps({"circles": apart}))["status"] == "ok"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 3), min_size=26, max_size=26))
def test_integers_decide_as_fractions_do(circles: list[tuple[float, float, float]]) -> None:
    exact = [tuple(map(Fraction, circle)) for circle in circles]
    inside = all(r > 0 and r <= x <= 1 - r and r <= y <= 1 - r for x, y, r in exact)
    apart = all(
        (x - u) ** 2 + (y - v) ** 2 >= (r + s) ** 2
        for i, (x, y, r) in enumerate(exact)
        for u, v, s in exact[:i]
    )
    try:
        packing.score(circles)
    except packing.Refused:
        assert not (inside and apart)
    else:
        assert inside and apart


# ------------------------------------------------------------------------------------------------------------
# Erdős' minimum overlap.


def brute_force(steps: list[float]) -> Fraction:
    """The largest overlap of the normalised function, by the definition."""
    n = len(steps)
    h = [Fraction(step) for step in steps]
    if 2 * sum(h) < n:
        h = [1 - x for x in h]
    total = sum(h)
    h = [x * n / (2 * total) for x in h]
    assert sum(h) == Fraction(n, 2) and all(0 <= x <= 1 for x in h)
    shifts = range(1 - n, n)
    return max(
        sum((h[i] * (1 - h[i + k]) for i in range(n) if 0 <= i + k < n), Fraction()) * 2 / n for k in shifts
    )


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12))
def test_the_overlap_is_that_of_the_definition(steps: list[float]) -> None:
    found = overlap.score(steps) if not any(0 < x < 2.0**-150 for x in steps) else None
    assert found is None or found["overlap"] == float(brute_force(steps))


def test_known_bounds_come_out() -> None:
    assert overlap.score([0.5, 0.5])["overlap"] == 0.5
    assert (
        overlap.score([0.5, 1.0])["overlap"] == 4 / 9
    )  # scaled to 1/3 and 2/3, Haugland's best of two steps
    assert overlap.score(STEPS)["overlap"] == float(brute_force(STEPS)) < 0.38101


def test_what_misses_the_integral_by_rounding_is_normalised_and_never_leaves_the_unit_interval() -> None:
    assert max(STEPS) == 1.0 and 2 * sum(map(Fraction, STEPS)) != len(STEPS)
    for scale in (1.0, 1 - 1e-9, 0.5):
        assert overlap.score([scale * step for step in STEPS])["overlap"] >= 0.379005
    assert overlap.score([0.0] * 5)["overlap"] == overlap.score([1.0] * 5)["overlap"] == 0.5


def test_a_function_and_its_mirror_image_and_its_complement_score_the_same() -> None:
    score = overlap.score(STEPS)["overlap"]
    assert overlap.score(STEPS[::-1])["overlap"] == score
    exact = [round(step * 1024) / 1024 for step in STEPS]
    assert overlap.score(exact)["overlap"] == overlap.score([1 - step for step in exact])["overlap"]


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        ([0.5, -1e-300], "finer than 2^-200"),
        ([0.5, -0.1], "step 1 is outside [0, 1]"),
        ([math.nextafter(1, 2), 0.5], "step 0 is outside [0, 1]"),
        ([0.5], "steps must be a list of 2 to 2000"),
        ([0.5] * 2001, "steps must be a list of 2 to 2000"),
    ],
)
def test_functions_that_are_none_are_refused(tmp_path: Path, steps: list[float], cause: str) -> None:
    result = judged(overlap, tmp_path, json.dumps({"steps": steps}))
    assert result["status"] == "illegal" and cause in result["cause"]


# ------------------------------------------------------------------------------------------------------------
# Artifacts that lie, and artifacts that are made to break the evaluator.


def with_first(task: str, text: str) -> str:
    """An otherwise good artifact of a task whose first number is written as `text`."""
    if task == TASKS[0]:
        return json.dumps({"circles": changed(0, 0, 0.12345)}).replace("0.12345", text, 1)
    return json.dumps({"steps": [0.12345, *STEPS[1:]]}).replace("0.12345", text, 1)


BAD_NUMBERS = {
    "NaN": "NaN is not a number",
    "Infinity": "Infinity is not a number",
    "-Infinity": "-Infinity is not a number",
    "1e999": "1e999 is not finite",
    "1" * 1_000_000: "larger than",
    "1" * 5000: "a number of 5000 characters",
    "0." + "3" * 5000: "a number of 5002 characters",
    "1e" + "9" * 5000: "a number of 5002 characters",
    '"0.5"': "not ",
    "true": "not ",
    "null": "not ",
    "[0.5]": "not ",
    "{}": "not ",
    "0x1": "not JSON",
    "": "not JSON",
    "00.5": "not JSON",
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("text", BAD_NUMBERS, ids=lambda text: text[:12])
def test_what_is_no_number_is_illegal_with_its_cause(tmp_path: Path, task: str, text: str) -> None:
    result = judged(evaluator(task), tmp_path, with_first(task, text))
    assert result["status"] == "illegal" and BAD_NUMBERS[text] in result["cause"]
    assert len(result["cause"]) < 200


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("extra", ['"sum_radii": 2.7', '"overlap": 0.38', '"circles": []', '"steps": []'])
def test_reported_results_and_second_keys_are_refused(tmp_path: Path, task: str, extra: str) -> None:
    good = (CONSTRUCTIONS / ("circles.json" if task == TASKS[0] else "steps.json")).read_text().strip()
    assert judged(evaluator(task), tmp_path, good)["status"] == "ok"
    result = judged(evaluator(task), tmp_path, f"{good[:-1]}, {extra}}}")
    assert result["status"] == "illegal"
    assert "hold nothing else" in result["cause"] or result["cause"] == "a key stands there twice"


@pytest.mark.parametrize("count", [0, 25, 27])
def test_another_number_of_circles_is_refused(tmp_path: Path, count: int) -> None:
    circles = [*CIRCLES, [0.001, 0.001, 1e-6]][:count]
    result = judged(packing, tmp_path, json.dumps({"circles": circles}))
    assert (result["status"], result["cause"]) == ("illegal", "circles must be a list of 26")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "text", [b"", b"[" * 60_000, b"\xff\xfe", b"{" * 9, b"0", b"\xef\xbb\xbf{}", b"[]", b'""']
)
def test_broken_files_are_illegal(tmp_path: Path, task: str, text: bytes) -> None:
    assert judged(evaluator(task), tmp_path, text)["status"] == "illegal"


@pytest.mark.parametrize("task", TASKS)
def test_without_an_artifact_it_is_a_crash(tmp_path: Path, task: str) -> None:
    assert evaluator(task).evaluate(tmp_path / "construction.json")["status"] == "crash"


numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=5))
json_like = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.sampled_from(["circles", "steps", "sum"]), inner, max_size=2),
    ),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        json_like.map(lambda value: json.dumps(value).encode()),
        st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=26, max_size=26).map(
            lambda circles: json.dumps({"circles": circles}).encode()
        ),
        st.lists(numbers, min_size=2, max_size=60).map(lambda steps: json.dumps({"steps": steps}).encode()),
    )
)
def test_no_artifact_breaks_an_evaluator(data: bytes) -> None:
    for task in (packing, overlap):
        try:
            metrics = task.score(task.read_construction(data))
        except task.Refused as refused:
            assert refused.status == "illegal" and refused.cause and len(refused.cause) < 200
        else:
            assert all(math.isfinite(value) for value in metrics.values())


# ------------------------------------------------------------------------------------------------------------
# The tasks as tasks.


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    """One of the tasks, checked."""
    return load_task(ROOT / "tasks" / request.param)


def applied(recipe: str, move: Move) -> str:
    for edit in move.edits:
        assert recipe.count(edit.search) == 1, move.name
        recipe = recipe.replace(edit.search, edit.replace)
    return recipe


def test_the_task_is_deterministic_and_has_something_for_everybody(task: Task) -> None:
    assert task.metric.deterministic and task.warm and task.warm[0] == "numpy" and len(task.descriptors) == 2
    assert {move.surface for move in task.moves} <= set(task.surfaces)
    recipe = (task.root / "train.py").read_text()
    knobs = {knob.name for knob in read_knobs("train.py", recipe)}
    assert len(knobs) >= 8
    named = {word.strip(".,") for text in task.surfaces.values() for word in text.split() if word.isupper()}
    assert named <= knobs


def test_the_descriptors_are_what_the_evaluator_measures(task: Task) -> None:
    metrics = packing.score(CIRCLES) if task.name == TASKS[0] else overlap.score(STEPS)
    for descriptor in task.descriptors:
        assert descriptor.bounds is not None
        assert descriptor.bounds[0] <= metrics[descriptor.metric] <= descriptor.bounds[1]


def test_moves_apply_in_any_order(task: Task) -> None:
    recipe = (task.root / "train.py").read_text()
    for first, second in permutations(task.moves, 2):
        compile(applied(applied(recipe, first), second), "train.py", "exec")
    for move in task.moves:
        recipe = applied(recipe, move)
    compile(recipe, "train.py", "exec")


@pytest.mark.parametrize("name", TASKS)
def test_the_recipe_leaves_the_same_construction_each_time(tmp_path: Path, name: str) -> None:
    left = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        env = {"AUTOLAB_ARTIFACT": str(folder), "AUTOLAB_SEED": seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "tasks" / name / "train.py")]
        subprocess.run(command, env=env, check=True, capture_output=True)
        left.append((folder / "construction.json").read_bytes())
    assert left[0] == left[1]
    assert evaluator(name).evaluate(tmp_path / "1" / "construction.json")["status"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_campaign_on_it_finds_something(tmp_path: Path, name: str) -> None:
    lab = tmp_path / name
    shutil.copytree(ROOT / "tasks" / name, lab, ignore=shutil.ignore_patterns(".autolab", "results"))
    command = [sys.executable, "-m", "autolab.cli.main", "run", "-C", str(lab), "--trials", "6"]
    subprocess.run(command, check=True, capture_output=True)
    trials = rows(lab / "research_results.tsv")
    assert len(trials) == 7 and trials[0]["status"] == "ok"
    assert {trial["status"] for trial in trials} <= {"ok", "timeout"}
    master = load_json(lab / "research_live_master.json")
    sign = 1 if name == TASKS[0] else -1
    assert sign * float(str(master["score"])) >= sign * float(trials[0]["score"])


def test_what_a_campaign_leaves_is_ignored_by_git() -> None:
    left = [".autolab/ledger.sqlite", "research_results.tsv", "research_live_master.json", "results/x/a.png"]
    for name in TASKS:
        for path in left:
            command = ["git", "check-ignore", "-q", f"tasks/{name}/{path}"]
            assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, path
