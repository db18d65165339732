"""Warm measurements: the same statuses and scores as ordinary ones, from processes that are forked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from warming import EVALUATE, HONEST, TASK, Warm, measurement, needs_bubblewrap, processes_with, wait_until

from autolab.errors import LabError
from autolab.execution.executor import Unstarted
from autolab.execution.local import Slot
from autolab.ledger.records import Measurement, Status

pytestmark = needs_bubblewrap

SLEEP = "import time\ntime.sleep(60)\n"


@pytest.fixture
def warm(tmp_path: Path) -> Warm:
    """An executor with one lane."""
    return Warm(tmp_path / "lab")


# -------------------------------------------------------------------------------------------------- parity

PROGRAMS = {
    "ok": HONEST,
    "crash": "import os\ndef work():\n    raise ValueError('no such luck')\nwork()\n",
    "syntax": "x = (\n",
    "exit": "raise SystemExit('gave up')\n",
    "exit code": "import sys\nsys.exit(3)\n",
    "killed": "import ctypes\nctypes.string_at(0)\n",
    "nan": HONEST.replace("7", "float('nan')"),
    "out of bounds": HONEST.replace("7", "0"),
    "nan in training": "raise FloatingPointError('loss is nan')\n",
    "no artifact": "print('score: 1')\n",
    "over size": HONEST + "open(os.environ['AUTOLAB_ARTIFACT'] + '/more', 'wb').write(bytes(70000))\n",
    "wall": SLEEP,
    "cpu": "while True: pass\n",
    "memory": "held = bytearray(10**9)\n",
    "link": "import os\nos.symlink('/etc/passwd', os.environ['AUTOLAB_ARTIFACT'] + '/answer.json')\n",
    "own modules": "import prepare\nassert prepare.HELP == 1\n" + HONEST,
    "read-only": "open('new', 'w')\n",
    "arguments": "import sys\nassert sys.argv == ['train.py'], sys.argv\nassert __name__ == '__main__'\n"
    + HONEST,
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warm, Warm]:
    """The warm executor, and the ordinary one."""
    task = TASK.replace("wall_seconds: 8", "wall_seconds: 2").replace("cpu_seconds: 3", "cpu_seconds: 0.7")
    root = tmp_path_factory.mktemp("both")
    return (
        Warm(root / "warm", task=task, prepare="HELP = 1\n"),
        Warm(root / "cold", task=task, prepare="HELP = 1\n", ordinary=True),
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_ends_as_an_ordinary_measurement_does(both: tuple[Warm, Warm], name: str) -> None:
    warm, cold = (lab.measure(PROGRAMS[name]) for lab in both)
    assert (warm.status, warm.metrics, warm.artifact_bytes) == (
        cold.status,
        cold.metrics,
        cold.artifact_bytes,
    ), (warm.cause, cold.cause)
    if name not in ("cpu", "memory"):  # these causes hold what was measured
        assert warm.cause == cold.cause
    assert (warm.sandbox, warm.evidence, warm.host) == (cold.sandbox, cold.evidence, cold.host)


def test_the_environment_is_the_same(both: tuple[Warm, Warm]) -> None:
    train = (
        "import os, json, sys\n"
        "print('FOUND', json.dumps([*sorted(os.environ.items()), os.getcwd(), __file__, sys.path[0]]))\n"
    )
    told = [lab.measure(train + HONEST).log_excerpt.split("FOUND")[1].splitlines()[0] for lab in both]
    assert told[0] == told[1]


def test_a_script_that_reports_itself(tmp_path: Path) -> None:
    result = Warm(tmp_path / "lab", evaluate=None).measure("print('score: 5')\n")
    assert (result.status, result.metrics, result.evidence) == (Status.OK, {"score": 5.0}, "self_reported")


def test_clock_curve_and_pace(warm: Warm) -> None:
    train = HONEST + (
        "assert json.load(open(os.environ['AUTOLAB_PACE']))['steps'] == 2\n"
        "json.dump({'tokens': 11}, open(os.environ['AUTOLAB_CLOCK'], 'w'))\n"
        "open(os.environ['AUTOLAB_CURVE'], 'w').write('0.5 1.5\\n')\n"
    )
    result = warm.measure(train, pace={"steps": 2})
    assert (result.status, result.tokens, result.curve) == (Status.OK, 11, ((0.5, 1.5),)), result.cause


def test_training_data_is_there_and_held_out_data_only_for_the_evaluator(tmp_path: Path) -> None:
    for name in ("train", "heldout"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "text").write_text(name)
    train = (
        HONEST
        + "data = os.environ['AUTOLAB_DATA']\nassert os.listdir(data) == ['train'], os.listdir(data)\n"
        + "assert open(data + '/train/text').read() == 'train'\n"
    )
    evaluate = (
        "import os\nassert open(os.environ['AUTOLAB_DATA'] + '/heldout/text').read() == 'heldout'\n"
        + EVALUATE
    )
    result = Warm(tmp_path / "lab", evaluate=evaluate, data=tmp_path / "data").measure(train)
    assert result.status is Status.OK, (result.cause, result.log_excerpt)


def test_the_evaluator_knows_seed_stage_and_secret(tmp_path: Path) -> None:
    evaluate = (
        "import os, json\nenv = os.environ\nassert (env['AUTOLAB_STAGE'], env['AUTOLAB_EVAL_SEED'], "
        "env['AUTOLAB_SECRET']) == ('confirm', '5', '5ec7e7')\n"
        "assert json.loads(env['AUTOLAB_TASK'])['metric']['name'] == 'score'\n" + EVALUATE
    )
    result = Warm(tmp_path / "lab", evaluate=evaluate).measure(stage="confirm")
    assert result.status is Status.OK, (result.cause, result.log_excerpt)


def test_the_sealed_split_is_needed_to_certify(warm: Warm) -> None:
    with pytest.raises(LabError, match="no sealed split"):
        warm.executor.stage(measurement(stage="certify"), {"train.py": HONEST})


# --------------------------------------------------------------------------------- nothing is handed down


def test_nothing_passes_from_one_candidate_to_the_next(warm: Warm) -> None:
    mark = HONEST + (
        "import math, sys\nmath.sqrt = lambda x: 0\nsys.modules['left'] = math\nos.environ['LEFT'] = '1'\n"
        "for folder in ('/tmp', '/dev/shm', '/lab/clock'): open(folder + '/left', 'w').close()\n"
    )
    look = (
        HONEST
        + (
            "import math, sys\nassert math.sqrt(4) == 2 and 'left' not in sys.modules and 'LEFT' not in os.environ\n"
            "own = {sys.prefix.split('/')[2]} if sys.prefix.startswith('/tmp/') else set()\n"  # Python may lie there
            "for folder in ('/tmp', '/dev/shm', '/lab/clock'): assert set(os.listdir(folder)) <= own, folder\n"
        )
    )
    assert warm.measure(mark).status is Status.OK
    result = warm.measure(look)
    assert result.status is Status.OK, result.cause


def test_candidates_draw_different_numbers_unless_they_seed(warm: Warm) -> None:
    train = "import random, numpy.random\nprint('DRAWN', random.random(), numpy.random.rand())\n" + HONEST
    drawn = {warm.measure(train).log_excerpt.split("DRAWN")[1].splitlines()[0] for _ in range(3)}
    assert len(drawn) == 3


def test_hashes_are_the_same_every_time(warm: Warm) -> None:
    train = "print('HASH', hash('autolab'))\n" + HONEST
    told = {warm.measure(train).log_excerpt.split("HASH")[1].splitlines()[0] for _ in range(2)}
    code = "print('', hash('autolab'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True
    )
    assert told == {done.stdout.rstrip()}


def test_a_candidate_has_three_descriptors(warm: Warm) -> None:
    look = "import os\nprint('OPEN', *os.listdir('/proc/self/fd'))\n" + HONEST
    told = warm.measure(look).log_excerpt.split("OPEN")[1].splitlines()[0]
    assert told.split() == ["0", "1", "2", "3"]  # the last of them is the folder that is listed


CLOSE = """
import os, resource
from autolab.execution.process_tree import set_limits
from autolab.execution.warm import candidate
os.dup2(1, 200)
set_limits({resource.RLIMIT_NOFILE: 64})
os.closerange(3, candidate.highest_descriptor() + 1)
print(*os.listdir("/proc/self/fd"))
"""


def test_a_candidate_keeps_no_descriptor_above_its_limit() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_no_file_is_left_behind(tmp_path: Path) -> None:
    lab = Warm(tmp_path / "lab")
    lab.measure()
    assert list((tmp_path / "lab" / "runs").rglob("*")) == [tmp_path / "lab" / "runs" / "warm"]
    assert lab.executor.adopt([measurement()]) == []
    assert lab.measure().status is Status.OK


# ------------------------------------------------------------------------------------------ many, and ends


def test_more_slots_than_cores_wait_for_their_turn(tmp_path: Path) -> None:
    lab = Warm(tmp_path / "lab", slots=64)
    assert len(lab.executor.slots) == 64

    async def all_at_once() -> list[float]:
        programs = [HONEST.replace("7", str(1 + i / 10)) for i in range(64)]
        results = await asyncio.gather(*(lab.measured(text, i) for i, text in enumerate(programs)))
        return [result.metrics["score"] for result in results]

    assert asyncio.run(all_at_once()) == [1 + i / 10 for i in range(64)]


def test_many_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, cpus = 40, sorted(os.sched_getaffinity(0))
    many = [Slot(i, (cpus[i % len(cpus)],)) for i in range(lanes)]
    monkeypatch.setattr("autolab.execution.warm.executor.discover_slots", lambda wanted: many)
    lab = Warm(tmp_path / "lab", slots=lanes)

    async def twice_on_each() -> None:
        for _ in range(2):
            results = await asyncio.gather(*(lab.measured(number=i) for i in range(lanes)))
            assert [(result.status, result.cause) for result in results] == [(Status.OK, "")] * lanes

    asyncio.run(twice_on_each())


@pytest.fixture
def one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warm:
    """An executor with one core; its recipes' score is 1 and tells when they began and ended."""
    core = [Slot(0, (min(os.sched_getaffinity(0)),))]
    monkeypatch.setattr("autolab.execution.warm.executor.discover_slots", lambda wanted: core)
    score = '{"score": 1, "begin": score[0], "end": score[1]}'
    return Warm(tmp_path / "lab", slots=4, evaluate=EVALUATE.replace('{"score": score}', score))


def test_lanes_that_share_a_core_measure_one_after_the_other(one_core: Warm) -> None:
    train = """\
import json, os, time
begin = time.monotonic()
time.sleep(0.1)
with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "answer.json"), "w") as file:
    json.dump([begin, time.monotonic()], file)
"""

    async def run() -> None:
        results = await asyncio.gather(*(one_core.measured(train, i) for i in range(4)))
        spans = sorted((r.metrics["begin"], r.metrics["end"]) for r in results)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
        assert {r.slot for r in results} == {0}

    asyncio.run(run())


def test_an_order_that_waits_for_a_core_can_be_cancelled(one_core: Warm, tmp_path: Path) -> None:
    async def run() -> None:
        idle = len(_pool(tmp_path, "template.main"))
        first = asyncio.create_task(one_core.measured(SLEEP))
        await _training(tmp_path, idle, first)
        second = asyncio.create_task(one_core.measured(number=2))
        await asyncio.sleep(0.05)
        for task in (second, first):
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        honest = await one_core.measured(HONEST.replace("7", "[1, 2]"))
        assert (honest.status, honest.cause) == (Status.OK, "")

    asyncio.run(run())


def test_cancelling_kills_everything_before_it_returns(warm: Warm, tmp_path: Path) -> None:
    # The name of the process, as those outside see it.
    train = "import ctypes\nctypes.CDLL(None).prctl(15, b'sleeper-of-test')\n" + SLEEP

    def asleep() -> bool:
        names = [Path(f"/proc/{pid}/comm") for pid in os.listdir("/proc") if pid.isdigit()]
        return any(_text(name) == "sleeper-of-test" for name in names)

    async def run() -> None:
        task = asyncio.create_task(warm.measured(train))
        while not asleep():
            assert not task.done()
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not asleep()
        assert (await warm.measured()).status is Status.OK

    asyncio.run(run())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def test_when_a_process_of_the_pool_dies_the_measurement_is_tried_again(warm: Warm, tmp_path: Path) -> None:
    async def run() -> None:
        for kind in ("template.main", "server.main"):
            youngest = _pool(tmp_path, kind)[-1]
            idle = len(_pool(tmp_path, "template.main"))
            task = asyncio.create_task(warm.measured(SLEEP))
            await _training(tmp_path, idle, task)
            os.kill(youngest, signal.SIGKILL)
            result = await task
            assert result.status is Status.INFRA_ERROR
            assert "the warm processes died" in result.cause
            assert (await warm.measured()).status is Status.OK

    asyncio.run(run())


def test_when_no_new_pool_can_start_nothing_more_begins(warm: Warm, tmp_path: Path) -> None:
    setting = warm.executor._setting  # type: ignore[attr-defined]

    async def run() -> None:
        idle = len(_pool(tmp_path, "template.main"))
        under_way = asyncio.create_task(warm.measured(SLEEP))
        await _training(tmp_path, idle, under_way)
        waiting = asyncio.create_task(warm.measured(number=2))
        await asyncio.sleep(0)
        setting["warm"] = ["no_such_module"]
        os.kill(_pool(tmp_path, "server.main")[-1], signal.SIGKILL)
        assert (await under_way).status is Status.INFRA_ERROR
        with pytest.raises(Unstarted, match="cannot load no_such_module"):
            await waiting
        with pytest.raises(Unstarted, match="cannot load no_such_module"):
            await warm.measured(number=3)
        setting["warm"] = []
        assert (await warm.measured()).status is Status.OK

    asyncio.run(run())


def test_a_death_reaches_every_measurement_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    slots = [Slot(i, (cpus[i % len(cpus)],)) for i in range(4)]
    monkeypatch.setattr("autolab.execution.warm.executor.discover_slots", lambda wanted: slots)
    lab = Warm(tmp_path / "lab", slots=4)

    async def run() -> None:
        idle = len(_pool(tmp_path, "template.main"))
        under_way = [asyncio.create_task(lab.measured(SLEEP, number=i)) for i in range(4)]
        await _training(tmp_path, idle, *under_way)
        os.kill(_pool(tmp_path, "server.main")[-1], signal.SIGKILL)
        results = await asyncio.gather(*under_way)
        assert [result.status for result in results] == [Status.INFRA_ERROR] * 4
        assert (await lab.measured()).status is Status.OK

    asyncio.run(run())


async def _training(root: Path, idle: int, *tasks: asyncio.Task[Measurement]) -> None:
    """Wait until the candidate of each of these runs, beside the `idle` processes of a template without one."""
    while len(_pool(root, "template.main")) < idle + len(tasks):
        assert not any(task.done() for task in tasks)
        await asyncio.sleep(0.005)


def _pool(root: Path, kind: str) -> list[int]:
    """Processes of the pools whose folder lies in `root`."""
    pools = sorted(set(processes_with(str(root))) & set(processes_with("execution.warm")))
    if kind == "server.main":
        return pools
    found = set()
    for pid in processes_with(kind):
        up = pid
        while up > 1 and up not in pools:
            fields = _text(Path(f"/proc/{up}/stat")).rpartition(")")[2].split()
            up = int(fields[1]) if fields else 0  # another lab's, which is gone
        if up in pools:
            found.add(pid)
    return sorted(found)


LAB = """
import sys; sys.path[:0] = sys.argv[2:]
from pathlib import Path
from warming import Warm
Warm(Path(sys.argv[1])).measure("import time; time.sleep(60)")
"""


@pytest.mark.slow
def test_when_the_lab_is_killed_nothing_stays_alive(tmp_path: Path) -> None:
    tests = str(Path(__file__).parent)
    lab = subprocess.Popen([sys.executable, "-c", LAB, str(tmp_path / "lab"), tests])
    assert wait_until(lambda: len(_pool(tmp_path, "template.main")) >= 4)
    family = [*_pool(tmp_path, "template.main"), *_pool(tmp_path, "server.main")]
    lab.kill()
    lab.wait()
    assert wait_until(lambda: not any(_text(Path(f"/proc/{pid}/stat")) for pid in family))


def test_the_pool_ends_with_its_executor(tmp_path: Path) -> None:
    lab = Warm(tmp_path / "lab")
    assert _pool(tmp_path, "template.main")
    del lab
    assert wait_until(lambda: not _pool(tmp_path, "template.main") and not processes_with(str(tmp_path)))


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("warm: [math]", "warm: [no_such_module]"), "cannot load no_such_module"),
        (("[python, train.py]", "[bash, train.py]"), "commands.train"),
        (("[python, evaluate.py]", "[python, -c, evaluate.py]"), "commands.evaluate"),
        (("[python, evaluate.py]", "[python, other.py]"), "no file of the task"),
    ],
)
def test_a_task_that_cannot_be_warm_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(LabError, match=said):
        Warm(tmp_path / "lab", task=TASK.replace(*change))


def test_a_task_with_a_scorer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="scorer"):
        Warm(tmp_path / "lab", evaluate="import os\nos.environ['AUTOLAB_SCORER']\n")
