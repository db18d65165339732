"""The local executor: slots, bundles, cancelling, and crashes of the lab and of the runner."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from measuring import BOTH, BUDGET, EVALUATE, HONEST, Bundle, needs_bubblewrap, processes_with, wait_until

from autolab.errors import LabError
from autolab.execution import local
from autolab.execution.bundle import MeasurementResult, MeasurementSpec, read_result, write_bundle
from autolab.execution.executor import finished
from autolab.execution.local import Slot, discover_slots, measure, reap_orphans
from autolab.ledger.records import Measurement, Status

SLEEP = "import time\ntime.sleep(60)\n"
DAEMON = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n" + SLEEP


def spec(**changes: Any) -> MeasurementSpec:
    values: dict[str, Any] = {
        "id": "m1",
        "python": sys.executable,
        "commands": {
            "train": ["python", "-I", "-S", "train.py"],
            "evaluate": ["python", "-I", "evaluate.py"],
        },
        "editable": ["train.py"],
        "budget": BUDGET,
        "metric": {"name": "score", "direction": "minimize", "bounds": [0.1, 20]},
        "seed": 1,
        "eval_seed": 1,
        "sandbox": "none",
        **changes,
    }
    return MeasurementSpec(**values)


# ----------------------------------------------------------------------------------------------- bundles


@BOTH
def test_a_bundle_is_written_measured_and_read(tmp_path: Path, mode: str) -> None:
    path = write_bundle(
        tmp_path / "runs" / "m1", spec(sandbox=mode), {"train.py": HONEST}, {"evaluate.py": EVALUATE}
    )
    assert read_result(path) is None
    result = asyncio.run(measure(path, discover_slots(1)[0]))
    assert (result.status, result.metrics) == (Status.OK, {"score": 7.0}), result
    assert result == read_result(path)
    assert result.sandbox == mode
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["m1"]


def test_a_bundle_is_refused_whole(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="exactly the editable files"):
        write_bundle(tmp_path / "m1", spec(), {}, {})
    with pytest.raises(LabError, match="both"):
        write_bundle(tmp_path / "m1", spec(), {"train.py": ""}, {"train.py": ""})
    write_bundle(tmp_path / "m1", spec(), {"train.py": ""}, {})
    with pytest.raises(LabError, match="cannot write"):
        write_bundle(tmp_path / "m1", spec(), {"train.py": ""}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["m1"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"id": "m1"}',
        '{"id": "m1", "status": "great", "cause": "", "host": "", "sandbox": "", "evidence": "", "log_excerpt": ""}',
        '{"id": 1, "status": "ok"}',
        '{"id": "m1", "status": "ok", "cause": "", "host": "", "sandbox": "", "evidence": "", "log_excerpt": "",'
        ' "machine": 1}',
        "[" * 100000,
    ],
)
def test_a_result_that_no_runner_wrote_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "measurement.json").write_text(text)
    with pytest.raises(LabError, match="not a measurement"):
        read_result(tmp_path)


def test_the_host_is_the_machines_name_or_else_its_kind() -> None:
    wanted = Measurement("m1", 1, "screen", 1, 1)
    for name, host in (("here", "here"), ("", "x86_64 AMD EPYC")):
        result = MeasurementResult("m1", Status.OK, host=name, machine="x86_64 AMD EPYC")
        assert finished(wanted, result, 0).host == host


@pytest.mark.parametrize("metrics", [{"score": float("nan")}, {"score": "7"}, {"score": True}, [1]])
def test_metrics_must_be_finite_numbers(tmp_path: Path, metrics: object) -> None:
    texts = dict.fromkeys(("cause", "host", "sandbox", "evidence", "log_excerpt"), "")
    raw = {"id": "m1", "status": "ok", **texts, "metrics": metrics}
    (tmp_path / "measurement.json").write_text(json.dumps(raw))
    with pytest.raises(LabError):
        read_result(tmp_path)


# ------------------------------------------------------------------------------------------------- slots


def test_cpu_slots_do_not_share_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5, 6})
    assert [slot.cpus for slot in discover_slots(None)] == [(0,), (1,), (4,), (5,), (6,)]
    assert [slot.cpus for slot in discover_slots(2)] == [(0, 1), (4, 5)]
    with pytest.raises(LabError, match="6 slots wanted"):
        discover_slots(6)
    with pytest.raises(LabError, match="at least one"):
        discover_slots(0)


def test_gpu_slots_are_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [slot.gpu for slot in discover_slots(None, "gpu")] == ["2", "5"]
    assert [slot.gpu for slot in discover_slots(1, "gpu")] == ["2"]
    with pytest.raises(LabError, match="2 GPUs found"):
        discover_slots(3, "gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(LabError, match="0 GPUs found"):
        discover_slots(None, "gpu")


def test_a_gpu_slot_tells_the_program_its_device(tmp_path: Path) -> None:
    train = "import os\nassert os.environ['CUDA_VISIBLE_DEVICES'] == '5'\n" + HONEST
    path = write_bundle(tmp_path / "m1", spec(), {"train.py": train}, {"evaluate.py": EVALUATE})
    assert asyncio.run(measure(path, Slot(0, (), "5"))).status is Status.OK


def test_measurements_run_side_by_side(tmp_path: Path) -> None:
    # Each waits for the other's sign of life, so they end only if they overlap.
    meet = "import os, time\nopen({mine!r}, 'w')\nwhile not os.path.exists({other!r}): time.sleep(0.01)\n"
    names = [str(tmp_path / name) for name in ("a", "b")]
    paths = [
        write_bundle(
            tmp_path / f"m{i}",
            spec(),
            {"train.py": meet.format(mine=names[i], other=names[1 - i]) + HONEST},
            {"evaluate.py": EVALUATE},
        )
        for i in range(2)
    ]

    async def both() -> list[Status]:
        results = await asyncio.gather(*(measure(path, Slot(i)) for i, path in enumerate(paths)))
        return [result.status for result in results]

    assert asyncio.run(both()) == [Status.OK, Status.OK]


# --------------------------------------------------------------------------------- cancelling and crashes


@BOTH
@pytest.mark.parametrize("train", [SLEEP, DAEMON + "time.sleep(60)\n"], ids=["plain", "daemon"])
def test_cancelling_kills_everything_before_it_returns(tmp_path: Path, mode: str, train: str) -> None:
    # The daemon's parent exits, which ends training; so hold it with a second sleeper.
    train = "import os\nif os.fork(): import time; time.sleep(60)\n" + train
    bundle = Bundle(tmp_path / "b", train, mode)

    async def run() -> None:
        task = asyncio.create_task(measure(bundle.root, Slot(0)))
        while not bundle.alive():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not bundle.alive()

    asyncio.run(run())
    assert read_result(bundle.root) is None


def test_a_runner_that_is_killed_gives_an_infra_error(tmp_path: Path) -> None:
    train = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(60)\n"
    bundle = Bundle(tmp_path / "b", train, "none")
    result = asyncio.run(measure(bundle.root, Slot(0)))
    assert result.status is Status.INFRA_ERROR
    assert "killed by SIGKILL" in result.cause
    assert wait_until(lambda: not bundle.alive())


def test_a_forged_result_of_a_killed_runner_does_not_count(tmp_path: Path) -> None:
    train = (
        "import json, os, signal\ntexts = dict.fromkeys(('cause', 'host', 'sandbox', 'evidence', 'log_excerpt'), '')\n"
        "forged = {'id': 'm1', 'status': 'ok', 'metrics': {'score': 0.2}, **texts}\n"
        "json.dump(forged, open('../measurement.json', 'w'))\nos.kill(os.getppid(), signal.SIGKILL)\n"
    )
    bundle = Bundle(tmp_path / "b", train, "none")
    result = asyncio.run(measure(bundle.root, Slot(0)))
    assert (result.status, result.metrics) == (Status.INFRA_ERROR, {})


def test_a_runner_that_cannot_start_gives_an_infra_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.sys, "executable", "/no/such/python")
    (tmp_path / "b").mkdir()
    result = asyncio.run(measure(tmp_path / "b", Slot(0)))
    assert (result.status, "did not start" in result.cause) == (Status.INFRA_ERROR, True)


LAB = "import asyncio, sys; from pathlib import Path; from autolab.execution.local import Slot, measure; "
LAB += "asyncio.run(measure(Path(sys.argv[1]), Slot(0)))"


@BOTH
def test_when_the_lab_is_killed_nothing_stays_alive(tmp_path: Path, mode: str) -> None:
    train = "import os\nif os.fork(): import time; time.sleep(60)\n" + DAEMON
    bundle = Bundle(tmp_path / "b", train, mode)
    lab = subprocess.Popen([sys.executable, "-c", LAB, str(bundle.root)])
    assert wait_until(bundle.alive)
    lab.kill()
    lab.wait()
    # The lab's bundle path is in the runner's command line, so this waits for the runner as well.
    assert wait_until(lambda: not bundle.alive() and not processes_with(str(bundle.root)))
    assert read_result(bundle.root) is None


def test_orphans_of_a_lab_and_runner_killed_at_once_are_found(tmp_path: Path) -> None:
    train = "import os\nif os.fork(): import time; time.sleep(60)\n" + DAEMON
    bundle = Bundle(tmp_path / "runs" / "b", train, "none")
    other = Bundle(tmp_path / "runs-of-another-lab" / "b", SLEEP, "none")
    runners = [bundle.start(), other.start()]
    assert wait_until(lambda: len(bundle.alive()) >= 2 and other.alive())
    runners[0].send_signal(signal.SIGKILL)
    runners[0].wait()
    assert wait_until(lambda: len(bundle.alive()) >= 1)
    assert reap_orphans(tmp_path / "runs") >= 1
    assert wait_until(lambda: not bundle.alive())
    assert other.alive()
    runners[1].terminate()
    assert runners[1].wait(20) == 3
    assert reap_orphans(tmp_path / "runs") == 0


@needs_bubblewrap
def test_the_labs_tokens_do_not_reach_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    evaluate = EVALUATE.replace(
        "argv = ", "assert 'hf_secret' not in open(f'/proc/{os.getppid()}/environ').read()\nargv = "
    )
    bundle = Bundle(tmp_path / "b", HONEST, "bubblewrap", evaluate=evaluate)
    assert asyncio.run(measure(bundle.root, Slot(0))).status is Status.OK, bundle.log()


def test_what_waits_in_a_bundle_without_an_environment_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "runs" / "m").mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "600"], cwd=tmp_path / "runs" / "m", env={}) as waiting:
        assert reap_orphans(tmp_path / "runs") == 1
        assert waiting.wait() == -9
