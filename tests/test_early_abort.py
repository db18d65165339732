"""Early abort: a run whose learning curve is far above the master's is stopped, and nothing else changes."""

from __future__ import annotations

import random
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from measuring import BOTH, HONEST, RUNNER, Bundle

from autolab.errors import LabError
from autolab.execution.bundle import parse_result, read_result
from autolab.execution.curve import POINTS, Curve
from autolab.execution.executor import finished, stage_bundle
from autolab.execution.job_store import is_shareable
from autolab.judge.curves import band, band_for, loosened
from autolab.ledger.facts import MeasurementFact
from autolab.ledger.jobs import measured_before
from autolab.ledger.lineage import FAILED
from autolab.ledger.records import Measurement, Proposal, Status
from autolab.ledger.store import Ledger
from autolab.task import EarlyAbort, check_task, comparability_key

# From 30 % on, at most 5 where the master's runs had 3.2 to 3.4.
BAND = tuple((k / 40, 3.2, 3.4, 5.0) for k in range(12, 41))

CURVE = "import os\ncurve = os.environ['AUTOLAB_CURVE']\n"
WAIT = "import time\ntime.sleep(60)\n"  # stopped long before, or the test is slow


def says(*points: tuple[float, object]) -> str:
    """A recipe's lines that append these points."""
    return CURVE + "".join(f"print({p}, '{v}', file=open(curve, 'a'))\n" for p, v in points)


def measure(tmp_path: Path, train: str, mode: str = "none", **spec: Any) -> dict[str, Any]:
    return Bundle(tmp_path / "b", train, mode, **spec).measure()


def curves(count: int, noise: float, seed: int = 0, end: float = 1.0) -> list[list[tuple[float, float]]]:
    """Falling from 5 to 2, a point at every 5 %."""
    rng = random.Random(seed)
    places = [k / 20 for k in range(1, 21) if k / 20 <= end]
    return [[(p, (2 + 3 * (1 - p) ** 2) * rng.gauss(1, noise)) for p in places] for _ in range(count)]


# ------------------------------------------------------------------------------------------ the band


def test_the_band_follows_the_masters_curves_from_its_start_on() -> None:
    found = band(curves(5, 0.0), 6, 0.3)
    assert [place for place, *_ in found] == [k / 40 for k in range(12, 41)]
    middle = next(row for row in found if row[0] == 0.5)
    assert middle == pytest.approx((0.5, 2.75, 2.75, 2.75 * 1.05))  # identical curves: 5 %


def test_the_noise_of_the_curves_widens_the_band() -> None:
    found = band(curves(12, 0.03), 6, 0.3)
    over = [worst / (2 + 3 * (1 - place) ** 2) - 1 for place, _, _, worst in found]
    assert all(0.08 < share < 0.4 for share in over)
    few = band(curves(3, 0.03), 6, 0.3)
    assert sum(worst for *_, worst in few) > sum(worst for *_, worst in found)


def test_no_band_without_three_curves_that_reach_there() -> None:
    assert band(curves(2, 0.01), 6, 0.3) == ()
    assert band([], 6, 0.3) == ()
    mixed = [*curves(2, 0.01), *curves(1, 0.01, end=0.6)]
    assert [band(mixed, 6, 0.3)[k][0] for k in (0, -1)] == [0.3, 0.6]
    assert band([[(0.5, 3.0)]] * 5, 6, 0.6) == ()


def test_one_master_run_that_went_wrong_does_not_widen_the_band_of_many() -> None:
    good = curves(8, 0.02)
    wrong = [*good[:-1], [(place, 50.0) for place, _ in good[-1]]]
    assert max(worst for *_, worst in band(wrong, 6, 0.3)) < 8


def test_runs_like_the_masters_stay_inside(tmp_path: Path) -> None:
    stopped = 0
    for seed in range(200):
        every = curves(4, 0.05, seed)
        stopped += objection(tmp_path, band(every[:3], 6, 0.3), every[3]) is not None
    assert stopped == 0


def test_a_band_is_loosened_by_another_one() -> None:
    one = ((0.3, 1.0, 2.0, 3.0), (0.4, 1.0, 2.0, 3.0))
    other = ((0.4, 7.0, 8.0, 9.0), (0.5, 7.0, 8.0, 9.0))
    assert loosened(one, other) == ((0.4, 1.0, 2.0, 9.0),)
    assert loosened(one, ()) == ()


def measured(points: Any, stage: str = "screen", status: Status = Status.OK) -> Measurement:
    return Measurement("m", 1, stage, 1, 2, status=status, curve=tuple(points))


def test_a_master_that_praises_itself_cannot_stop_what_is_like_the_baseline() -> None:
    rule, honest = EarlyAbort(), [measured(curve) for curve in curves(5, 0.02)]
    proud = [measured((p, v / 100) for p, v in one.curve) for one in honest]
    worst = {place: row[-1] for place, *row in band_for(rule, proud, honest)}
    assert worst == {place: row[-1] for place, *row in band_for(rule, honest, honest)}
    assert band_for(rule, proud, honest[:2]) == ()


def test_controls_replays_and_failures_are_not_in_the_band() -> None:
    rule, some = EarlyAbort(), curves(5, 0.02)
    stages = ("screen", "replicate", "replicate", "confirm", "confirm")
    own = [measured(curve, stage) for curve, stage in zip(some, stages, strict=True)]
    late = [measured([(0.1, 99), (1, 99)], stage) for stage in ("control-7", "replay-screen", "certify")]
    failed = [measured([(0.1, 99), (1, 99)], "replicate", Status.CRASH)]
    assert band_for(rule, own + late + failed, own) == band(some, 6, 0.3)


# ------------------------------------------------------------------------------------------ reading a curve


def objection(tmp_path: Path, limits: Any, points: Any) -> str | None:
    path = tmp_path / "curve"
    path.write_text("".join(f"{p} {v}\n" for p, v in points))
    return Curve(str(path), limits).objection()


def test_two_points_running_must_be_outside(tmp_path: Path) -> None:
    assert objection(tmp_path, BAND, [(0.4, 9), (0.5, 4), (0.6, 9)]) is None
    assert objection(tmp_path, BAND, [(0.4, 9), (0.5, 9)]) == (
        "stopped at 50 % of the budget: 9 where the master's runs had 3.2 to 3.4"
    )


def test_before_its_start_the_band_allows_everything(tmp_path: Path) -> None:
    assert objection(tmp_path, BAND, [(0.1, 99), (0.2, 99), (0.29, 99), (0.35, 4)]) is None


def test_garbage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "curve"
    path.write_bytes(
        b"0.1 4\n\xff\xfe\n0.2 nan\n0.2 inf\n-1 9\n1.5 9\nx 9\n0.3 9 9\n0.05 9\n0.2 3\n"
        + b"9" * 99
        + b" 1\n0.3 2"
    )
    curve = Curve(str(path), BAND)
    assert curve.objection() is None
    assert curve.points == [[0.1, 4.0], [0.2, 3.0]]


def test_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "curve"
    curve = Curve(str(path), BAND)
    for text, seen in (("0.1 4\n0.2 3.", 1), ("5\n", 2), ("", 2), ("0.3 3\n", 3)):
        with path.open("a") as file:
            file.write(text)
        assert curve.objection() is None and len(curve.points) == seen
    assert curve.points[1] == [0.2, 3.5]


def test_a_long_curve_is_thinned_evenly(tmp_path: Path) -> None:
    path = tmp_path / "curve"
    curve = Curve(str(path), ())
    for tenth in range(10):
        with path.open("a") as file:
            file.writelines(f"{tenth / 10 + k / 3000:.5f} 3\n" for k in range(300))
        curve.objection()
    gaps = [b[0] - a[0] for a, b in zip(curve.points, curve.points[1:], strict=False)]
    assert 50 < len(curve.points) <= POINTS and max(gaps) < 0.03


def test_when_it_ends_does_not_depend_on_how_often_it_is_read(tmp_path: Path) -> None:
    points = [(k / 20, 9 if k > 10 else 4) for k in range(20)]
    at_once = objection(tmp_path, BAND, points)
    step_by_step = Curve(str(tmp_path / "steps"), BAND)
    said = []
    for p, v in points:
        with open(step_by_step.path, "a") as file:
            file.write(f"{p} {v}\n")
        said.append(step_by_step.objection())
    assert next(text for text in said if text) == at_once is not None


# ------------------------------------------------------------------------------------------ a measurement


@BOTH
def test_a_diverging_run_is_stopped_and_says_so(tmp_path: Path, mode: str) -> None:
    train = says((0.1, 5), (0.3, 5.2), (0.35, 5.3), (0.4, 5.31)) + WAIT
    result = measure(tmp_path, train, mode, band=BAND)
    assert (result["status"], result["metrics"]) == ("aborted", {})
    assert result["cause"] == "stopped at 35 % of the budget: 5.3 where the master's runs had 3.2 to 3.4"
    assert result["train_seconds"] < 10


@BOTH
def test_a_good_run_ends_and_its_curve_is_recorded(tmp_path: Path, mode: str) -> None:
    result = measure(tmp_path, says((0.1, 6), (0.4, 3.6), (1, 3.1)) + HONEST, mode, band=BAND)
    assert (result["status"], result["metrics"]) == ("ok", {"score": 7.0})
    assert result["curve"] == [[0.1, 6.0], [0.4, 3.6], [1.0, 3.1]]
    assert result["artifact_bytes"] == 1


def test_without_a_band_nothing_is_stopped(tmp_path: Path) -> None:
    result = measure(tmp_path, says((0.4, 99), (0.5, 99), (0.6, 99)) + HONEST)
    assert (result["status"], len(result["curve"])) == ("ok", 3)


def test_a_run_without_a_curve_is_not_stopped(tmp_path: Path) -> None:
    result = measure(tmp_path, HONEST, band=BAND)
    assert (result["status"], result["curve"]) == ("ok", [])


@BOTH
@pytest.mark.parametrize(
    "nonsense",
    [
        "os.mkfifo(curve)",
        "os.symlink('/dev/zero', curve)",
        "os.mkdir(curve)",
        "open(curve, 'wb').truncate(1 << 30)",
        "open(curve, 'wb').write(os.urandom(1 << 20))",
        "open(curve, 'w').write('nan nan\\n' * 50000)",
    ],
)
def test_nonsense_in_place_of_a_curve_is_harmless(tmp_path: Path, mode: str, nonsense: str) -> None:
    budget = {"artifact_kb": 1 << 20}  # so that a file of 1 GB is not over its size
    result = measure(tmp_path, CURVE + nonsense + "\n" + HONEST, mode, band=BAND, budget=budget)
    assert (result["status"], result["metrics"], result["curve"]) == ("ok", {"score": 7.0}, [])


def test_an_evaluator_cannot_say_aborted(tmp_path: Path) -> None:
    evaluate = "import os\nopen(os.environ['AUTOLAB_RESULT'], 'w').write('{\"status\": \"aborted\"}')\n"
    assert measure(tmp_path, HONEST, evaluate=evaluate)["status"] == "crash"


def test_the_default_recipe_says_how_it_goes_if_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "prepare", types.ModuleType("prepare"))
    text = (Path(__file__).parent.parent / "train.py").read_text()
    recipe: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(text, "train.py", "exec"), recipe)
    losses = [torch.tensor(3.0), torch.tensor(4.0)]
    monkeypatch.delenv("AUTOLAB_CURVE", raising=False)
    recipe["add_to_curve"](0.05, losses)
    monkeypatch.setenv("AUTOLAB_CURVE", str(tmp_path / "curve"))
    recipe["add_to_curve"](0.1, losses)
    recipe["add_to_curve"](0.15, losses[:1])
    curve = Curve(str(tmp_path / "curve"), ())
    assert curve.objection() is None and curve.points == [[0.1, 3.5], [0.15, 3.0]]


# ------------------------------------------------------------------------------------------ task and ledger

TASK = """\
name: toy
metric: {name: score}
editable: [train.py]
commands: {train: [python, train.py]}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(HONEST)
    return tmp_path


def test_the_task_switches_it_on_and_scores_stay_comparable(lab: Path) -> None:
    off = check_task(TASK, lab)
    on = check_task(TASK + "early_abort: {sds: 5, from: 0.4}\n", lab)
    assert off.early_abort is None and on.early_abort is not None
    assert (on.early_abort.sds, on.early_abort.start) == (5, 0.4)
    assert comparability_key(on, "") == comparability_key(off, "")
    again = type(on).model_validate({**on.model_dump(mode="json"), "root": lab})
    assert again.early_abort == on.early_abort


@pytest.mark.parametrize("wrong", ["{sds: 0}", "{from: 1}", "{sds: six}", "{after: 0.3}", "yes"])
def test_a_wrong_rule_is_an_error_that_names_it(lab: Path, wrong: str) -> None:
    with pytest.raises(LabError, match="early_abort"):
        check_task(TASK + f"early_abort: {wrong}\n", lab)


def screened(ledger: Ledger, **changes: Any) -> Measurement:
    """A recorded screening of the first trial's program."""
    program = ledger.add_program({"train.py": HONEST})
    campaign = ledger.create_campaign(name="toy", task="toy", key="k", config={}, baseline=program)
    trial = ledger.open_trial(
        campaign.id, role="", agent="", surface="", parent_program=None, parent_trial=None
    )
    ledger.queue_trial(trial.number, {"train.py": HONEST}, Proposal("", ()))
    wanted = Measurement("m-1", trial.number, "screen", 1, 2, sandbox="bubblewrap", band=BAND)
    ledger.finish_measurement(wanted.replace(**changes))
    (found,) = ledger.measurements(trial.number)
    return found


def test_a_curve_is_recorded_and_a_band_is_not(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = screened(ledger, status=Status.OK, score=1.0, curve=((0.1, 4.0), (0.2, 3.0)))
    assert found.curve == ((0.1, 4.0), (0.2, 3.0)) and found.band == ()


def test_an_abort_is_a_failure_that_is_not_reused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = screened(ledger, status=Status.ABORTED, cause="stopped at 40 %")
        program = ledger.trial(found.trial).program or ""
        assert measured_before(ledger, "k", program, found.replace(id="m-2")) is None
    assert Status.ABORTED in FAILED
    text = b'{"id": "m", "status": "aborted", "cause": "", "host": "", "sandbox": "bubblewrap",'
    result = parse_result(text + b' "evidence": "measured", "log_excerpt": ""}', "")
    assert result.curve == () and not is_shareable(result)


@pytest.mark.parametrize("curve", ["[[0.2, 1], [0.1, 1]]", "[[2, 1]]", "[[0.1]]", "7", "[[0.1, NaN]]"])
def test_a_curve_that_no_runner_writes_is_no_result(curve: str) -> None:
    text = '{"id": "m", "status": "ok", "cause": "", "host": "", "sandbox": "", "evidence": "", "log_excerpt": ""'
    with pytest.raises(LabError, match="not a measurement"):
        parse_result(f'{text}, "curve": {curve}}}'.encode(), "")


def test_curves_stay_at_home() -> None:
    assert not {"curve", "band"} & set(MeasurementFact.model_fields)


def test_the_executor_hands_the_band_to_the_runner_and_the_curve_back(lab: Path, tmp_path: Path) -> None:
    task = check_task(TASK, lab)
    wanted = Measurement("m-1", 1, "screen", 1, 2, band=BAND)
    train = says((0.3, 3), (0.4, 9), (0.5, 9)) + WAIT
    staged = stage_bundle(
        tmp_path / "runs", task, {}, "5ec7e7", wanted, {"train.py": train}, sandbox="none", data=None
    )
    subprocess.run([sys.executable, "-I", "-S", str(RUNNER), str(staged)], check=True, timeout=60)
    result = read_result(staged)
    assert result is not None
    done = finished(wanted, result, 0)
    assert (done.status, done.score, done.band) == (Status.ABORTED, None, ())
    assert done.curve[:2] == ((0.3, 3.0), (0.4, 9.0))
