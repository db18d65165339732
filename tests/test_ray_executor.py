"""Measuring on a Ray cluster: the same results as on this machine, and nothing lost when a part of the cluster is."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud import begin, measure, write_toy_with_data
from cloud import run as run_campaign
from conftest import EVALUATE, TASK, TRAIN, write_toy
from measuring import needs_bubblewrap, processes_with, wait_until
from scripted import Scripted, outcome, search
from strays import left_over

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.begin import earlier_campaign
from autolab.cli.executors import Place, as_before, executor_for, kept_settings
from autolab.errors import LabError
from autolab.execution import ray_cluster, ray_executor, ray_node
from autolab.execution.executor import Unstarted
from autolab.execution.ray_cluster import RaySettings
from autolab.lab import Lab, open_lab
from autolab.ledger.records import Measurement, Proposal, Status, Trial
from autolab.task import Edit

pytestmark = pytest.mark.ray

RAY = Place("ray", address="local")
NODE = Path(os.path.realpath(tempfile.gettempdir())) / f"autolab-ray-{os.getuid()}"
SLEEPS = TRAIN.replace("value = RATE", "import time; time.sleep(60); value = RATE")
ONCE = "if not os.path.exists({flag!r}): open({flag!r}, 'w').close(); import time; time.sleep(60)\ncommand ="


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine, started by a lab that has a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_secret")
        patch.setenv("AUTOLAB_MODEL_KEY", "sk-secret")
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        connected = ray_cluster.connect("local")
        assert os.environ["HF_TOKEN"] == "hf_secret"
        yield connected
        connected.shutdown()


def token_in(task: str, directory: Path) -> str:
    """The task with a word in its command line by which its processes are found."""
    return task.replace("[python, train.py]", f"[python, train.py, '{directory}']")


def left_on_node() -> list[str]:
    return os.listdir(NODE / "runs")


async def _until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


def test_a_cluster_finds_what_this_machine_finds(ray: Any, tmp_path: Path) -> None:
    fails = Proposal("fails", (Edit(path="train.py", search="RATE = 0.5", replace="RATE = 1 / 0"),))
    lab = begin(tmp_path / "toy", place=RAY)
    assert run_campaign(lab, [0.6, 0.2, fails], place=RAY) == "all trials are done"
    local, _, _ = search(write_toy(tmp_path / "local"), [0.6, 0.2, fails])
    assert outcome(lab) == outcome(local)
    found = lab.ledger.measurements(1)[0]
    assert found.host.startswith("ray (") and found.sandbox == "bubblewrap"
    assert {trial.executor for trial in lab.ledger.trials()} == {"ray"}
    assert left_on_node() == []


def test_prepared_data_is_used_where_it_is_shared_and_shipped_where_it_is_not(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = begin(write_toy_with_data(tmp_path / "toy"), place=RAY)
    shutil.rmtree(NODE / "data")
    first = measure(lab, place=RAY)
    assert first.status is Status.OK and not [p for p in (NODE / "data").iterdir() if p.is_dir()]
    put = ray_executor.RayExecutor._put

    def unshared(self: Any) -> Any:
        """What is shipped to a node that does not see the lab's folder."""
        shipped = put(self)
        assert shipped.data is not None
        return dataclasses.replace(shipped, data={**shipped.data, "path": "/nowhere"})

    monkeypatch.setattr(ray_executor.RayExecutor, "_put", unshared)
    for number in range(2):
        again = _confirmed(lab, number)
        assert again.status is Status.OK, again.cause
    (copy,) = [path for path in (NODE / "data").iterdir() if path.is_dir()]
    assert (copy / "val" / "text.txt").read_text().startswith("held out")


def baseline(lab: Lab) -> Trial:
    return next(lab.ledger.sequence(lab.campaign.id))


def _confirmed(lab: Lab, number: int) -> Measurement:
    """A measurement of the baseline beside those that a campaign makes."""
    executor, trial = executor_for(lab, 1, place=RAY), baseline(lab)
    needed = lab.needed(trial, "confirm", number)
    bundle = executor.stage(needed, lab.program(trial))
    return asyncio.run(executor.run(bundle, needed, executor.slots[0]))


@needs_bubblewrap
def test_a_recipe_sees_neither_the_worker_nor_the_cluster(ray: Any, tmp_path: Path) -> None:
    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    spy = (
        "import glob, os, socket\nassert not [name for name in os.environ if 'RAY' in name]\n"
        "assert not os.path.exists('/tmp/ray') and not os.listdir('/dev/shm')\n"
        "assert not [w for p in glob.glob('/proc/[0-9]*/cmdline') for w in [open(p).read()] if 'ray' in w]\n"
        f"try:\n    socket.create_connection(({host!r}, {port}), 1)\n"
        "except OSError:\n    pass\nelse:\n    raise AssertionError('the cluster is in reach')\n"
    )
    lab = begin(write_toy(tmp_path / "toy", train=spy + TRAIN), place=RAY)
    done = measure(lab, place=RAY)
    assert (done.status, done.cause) == (Status.OK, "")


def test_no_secret_of_the_lab_is_in_a_tasks_environment(ray: Any, tmp_path: Path) -> None:
    # The evaluator is outside the sandbox: it sees the runner, the worker and what started that.
    look = (
        "import glob\nseen = 0\nfor p in glob.glob('/proc/[0-9]*'):\n    try:\n"
        "        words = open(p + '/cmdline', 'rb').read()\n        env = open(p + '/environ', 'rb').read()\n"
        "    except OSError:\n        continue\n"
        "    if b'ray::' in words or b'raylet' in words or b'runner.main' in words:\n"
        "        assert b'sk-secret' not in env and b'hf_secret' not in env, words\n"
        "        seen += b'PATH=' in env\nassert seen >= 2\ncommand ="
    )
    directory = write_toy(tmp_path / "toy")
    (directory / "evaluate.py").write_text(EVALUATE.replace("command =", look))
    lab = begin(directory, place=RAY)
    done = measure(lab, place=RAY)
    assert done.status is Status.OK, done.cause


def test_the_labs_own_secret_stays_in_the_lab(ray: Any, tmp_path: Path) -> None:
    lab = begin(tmp_path / "toy", place=RAY)
    trial = baseline(lab)
    bundle = executor_for(lab, 1, place=RAY).stage(lab.needed(trial, "screen"), lab.program(trial))
    spec = (bundle / "spec.json").read_text()
    assert str(lab.ledger.meta("secret")) not in spec and '"secret": ""' not in spec


def test_a_worker_killed_in_mid_trial_is_an_infra_error_and_tried_again(ray: Any, tmp_path: Path) -> None:
    directory, flag = write_toy(tmp_path / "toy"), str(tmp_path / "flag")
    (directory / "evaluate.py").write_text(EVALUATE.replace("command =", ONCE.format(flag=flag)))
    lab = begin(directory, place=RAY, slots=1)
    killed: list[int] = []

    async def search_while_killing() -> str:
        work = CampaignRun(lab, Scripted([0.6]), executor_for(lab, 1, place=RAY), Limits(trials=1))
        running = asyncio.create_task(work.run())
        await _until(lambda: os.path.exists(flag) or running.done())
        killed.extend(processes_with(f"ray::{baseline(lab).id}-screen-0-1"))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return await running

    assert asyncio.run(search_while_killing()) == "all trials are done"
    assert killed
    assert [trial.status for trial in lab.ledger.trials()] == [Status.OK, Status.OK]
    tried = [(m.status, m.attempt) for m in lab.ledger.measurements(1) if "-screen-0-" in m.id]
    assert tried == [(Status.INFRA_ERROR, 1), (Status.OK, 2)]
    assert wait_until(lambda: not left_over(NODE / "runs"))


def test_cancelling_leaves_no_process_and_no_folder(ray: Any, tmp_path: Path) -> None:
    directory = tmp_path / "toy"
    lab = begin(write_toy(directory, train=SLEEPS, task=token_in(TASK, directory)), place=RAY)
    executor = executor_for(lab, 1, place=RAY)
    measurement = lab.needed(baseline(lab), "screen")
    bundle = executor.stage(measurement, lab.program(baseline(lab)))

    async def cancelled() -> None:
        task = asyncio.create_task(executor.run(bundle, measurement, executor.slots[0]))
        await _until(lambda: processes_with(f"train.py\0{directory}"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not processes_with(f"train.py\0{directory}")

    asyncio.run(cancelled())
    assert wait_until(lambda: not left_on_node() and not left_over(NODE / "runs"))


def test_a_task_that_hangs_is_ended_and_never_a_score(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "timeout_seconds", lambda *_: 600)
    monkeypatch.setattr(ray_executor, "HANDOVER_SECONDS", -599.0)
    monkeypatch.setattr(ray_executor, "LOOK_SECONDS", 0.1)
    lab = begin(write_toy(tmp_path / "toy", train=SLEEPS), place=RAY)
    done = measure(lab, place=RAY)
    assert done.status is Status.INFRA_ERROR and "the task hung" in done.cause
    assert wait_until(lambda: not left_over(NODE / "runs"))


def test_who_has_no_room_waits_and_a_campaign_that_ends_does_not(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(ray_executor, "CROWDED_SECONDS", 0.2)
    lab = begin(tmp_path / "toy", place=RAY)
    guest = ray.remote(num_cpus=len(os.sched_getaffinity(0)))(lambda: time.sleep(600)).remote()
    executor = executor_for(lab, 1, place=RAY)
    heard: list[str] = []
    executor.notice = heard.append
    measurement = lab.needed(baseline(lab), "screen")
    bundle = executor.stage(measurement, lab.program(baseline(lab)))

    async def wait() -> None:
        task = asyncio.create_task(executor.run(bundle, measurement, executor.slots[0]))
        await _until(lambda: heard)
        executor.wind_down()
        with pytest.raises(Unstarted, match="no room"):
            await task

    asyncio.run(wait())
    ray.cancel(guest, force=True)
    assert heard == ["waiting for the Ray cluster: no room for a measurement of 1 core, 1 GB"]


def test_what_no_node_can_hold_is_one_clear_error(ray: Any, tmp_path: Path) -> None:
    directory = write_toy(tmp_path / "toy", task=TASK.replace("memory_gb: 1", "memory_gb: 100000"))
    with pytest.raises(
        LabError, match="no node of the cluster can ever hold a measurement of 1 core, 100000 GB"
    ):
        begin(directory, place=RAY)


def test_a_campaign_stays_on_ray_and_its_cluster_may_move(ray: Any, tmp_path: Path) -> None:
    lab = begin(tmp_path / "toy", place=RAY)
    config = lab.campaign.config
    assert earlier_campaign(lab.root, lab.ledger, None, Place()) is not None
    moved = kept_settings(config, Place(address="ray://elsewhere:10001"))
    assert isinstance(moved, RaySettings) and moved.address == "ray://elsewhere:10001"
    assert as_before(config, Place()) == RAY
    with pytest.raises(LabError, match="runs on ray, not local"):
        kept_settings(config, Place("local"))
    with pytest.raises(LabError, match="--flavor: is for hf-jobs, and trials run on ray"):
        kept_settings(config, Place(flavor="l4x1"))
    with pytest.raises(LabError, match="--address: is for ray, and trials run on local"):
        kept_settings({}, Place(address="auto"))


def test_other_machines_than_the_campaign_began_on_do_not_go_on_with_it(ray: Any, tmp_path: Path) -> None:
    lab = begin(tmp_path / "toy", place=RAY)
    config = {**lab.campaign.config, "ray": {**lab.campaign.config["ray"], "nodes": ["x86_64 Another"]}}
    lab = dataclasses.replace(lab, campaign=dataclasses.replace(lab.campaign, config=config))
    with pytest.raises(LabError, match="began on x86_64 Another"):
        executor_for(lab, 1)


def test_a_result_of_another_launch_does_not_count(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = {"receipt": b'{"ticket": "2", "bundle": "", "measurement": ""}', "result": b"{}"}
    monkeypatch.setattr(ray_node, "measure", lambda *_, **__: forged)
    lab = begin(tmp_path / "toy", place=RAY)
    done = measure(lab, place=RAY)
    assert (done.status, done.cause) == (
        Status.INFRA_ERROR, "not a result: the receipt is of another launch or another bundle",
    )  # fmt: skip


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LabError, match=r"Ray is not installed \(pip install 'autolab\[ray\]'\)"):
        ray_cluster.connect("auto")


DRIVER = """
import sys; from pathlib import Path
sys.path.insert(0, {tests!r})
from cloud import begin, run
from autolab.cli.executors import Place
place = Place("ray", address=sys.argv[2])
print(run(begin(Path(sys.argv[1]), place=place, slots=1), [0.6], place=place, slots=1), flush=True)
"""


def test_kill_9_leaves_no_task_and_a_later_lab_goes_on(ray: Any, tmp_path: Path) -> None:
    directory = tmp_path / "toy"
    flag = str(tmp_path / "flag")
    write_toy(directory)
    (directory / "evaluate.py").write_text(EVALUATE.replace("command =", ONCE.format(flag=flag)))
    command = [sys.executable, "-c", DRIVER.format(tests=str(Path(__file__).parent)), str(directory)]
    command.append(ray.get_runtime_context().gcs_address)
    lab = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert wait_until(lambda: os.path.exists(flag) or lab.poll() is not None, 60)
    lab.kill()
    lab.wait()
    assert wait_until(lambda: not left_over(NODE / "runs"), 20)
    later = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert later.stdout.strip() == "all trials are done", later.stderr[-2000:]
    ledger = open_lab(directory)
    assert [trial.status for trial in ledger.trials()] == [Status.OK, Status.OK]
    assert left_on_node() == []


STARTER = """
import time
from autolab.execution.ray_cluster import connect
ray = connect("local")
task = ray.remote(lambda seconds: time.sleep(seconds))
ray.get(task.remote(0))
running = task.remote(600)
print("up", flush=True)
time.sleep(600)
"""


def test_head_and_workers_of_this_machine_end_with_the_lab_that_started_them_even_by_kill_9(
    tmp_path: Path,
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env["RAY_STARTED_BY"] = str(tmp_path)  # Ray's processes have it too, and are found by it
    lab = subprocess.Popen([sys.executable, "-c", STARTER], env=env, stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None and lab.stdout.readline() == "up\n"
    assert any("raylet" in words for words in left_over(tmp_path).values())
    lab.kill()
    lab.wait()

    def working() -> list[str]:
        """Its processes but Ray's two agents, which try to tell the dead head of it, for minutes at times."""
        return [words for words in left_over(tmp_path).values() if "Agent" not in words]

    assert wait_until(lambda: not working(), 30), working()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_where_no_cluster_answers_one_line_says_so(address: str) -> None:
    code = f"from autolab.execution.ray_cluster import connect\nconnect({address!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"LabError: --address {address}: no Ray cluster answers" in done.stderr.splitlines()[-1]


def test_what_is_no_address_is_refused() -> None:
    for wrong in ("http://x:1", "ray://", "here", "a b:1"):
        with pytest.raises(LabError, match="is not a cluster"):
            ray_cluster.connect(wrong) if not _connected() else ray_cluster.check_address(wrong)


def _connected() -> bool:
    import ray

    return bool(ray.is_initialized())
