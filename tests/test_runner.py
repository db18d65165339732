"""The runner: limits, exit reasons, the result file, and that nothing outlives a measurement."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from measuring import BOTH, EVALUATE, HONEST, RUNNER, Bundle, needs_bubblewrap, reporting, wait_until

from autolab.execution import machine, output, process_tree

SPIN = "while True: pass\n"
SLEEP = "import time\ntime.sleep(60)\n"


def measure(tmp_path: Path, train: str, mode: str = "none", **spec: Any) -> dict[str, Any]:
    return Bundle(tmp_path / "b", train, mode, **spec).measure()


# ------------------------------------------------------------------------------------------ a good run


@BOTH
def test_an_honest_program_is_measured(tmp_path: Path, mode: str) -> None:
    bundle = Bundle(tmp_path / "b", "print('hello')\n" + HONEST, mode)
    result = bundle.measure()
    assert result["status"] == "ok", result
    assert result["cause"] == ""
    assert result["metrics"] == {"score": 7.0}
    assert (result["id"], result["sandbox"], result["evidence"]) == ("m1", mode, "measured")
    assert (result["exit_code"], result["signal"], result["artifact_bytes"]) == (0, None, 1)
    assert 0 < result["train_cpu_seconds"] < 5
    assert 0 < result["eval_seconds"] < 10
    assert 1 < result["peak_memory_mb"] < 1000
    assert result["started_at"] < result["finished_at"]
    assert "hello" in bundle.log()
    assert "hello" in result["log_excerpt"]
    assert result["host"] == os.uname().nodename
    assert result["machine"] == machine.describe(gpu=False)


def test_a_measured_bundle_is_not_measured_again(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "b", HONEST, "none")
    bundle.measure()
    before = (bundle.root / "measurement.json").stat()
    bundle.measure()
    assert (bundle.root / "measurement.json").stat() == before


def test_a_bundle_whose_runner_died_is_measured_afresh(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "b", HONEST, "none")
    (bundle.root / "run" / "artifact").mkdir(parents=True)
    (bundle.root / "run" / "artifact" / "left").write_text("x" * 1000)
    assert bundle.measure()["artifact_bytes"] == 1


def test_it_runs_where_autolab_is_not_installed(tmp_path: Path) -> None:
    from autolab.execution.bundle import RUNNER_FILES

    for name in RUNNER_FILES:
        shutil.copy(RUNNER.with_name(name), tmp_path / name)
    bundle = Bundle(tmp_path / "b", HONEST, "none")
    subprocess.run([sys.executable, "-I", "-S", tmp_path / "runner.py", bundle.root], check=True, timeout=60)
    assert bundle.result()["status"] == "ok"


def test_usage_is_explained(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, RUNNER, tmp_path / "no"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr


@BOTH
def test_the_environment_of_training_is_the_contract_and_nothing_else(tmp_path: Path, mode: str) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "text").write_text("seen")
    train = (
        "import os, json\nassert open(os.environ['AUTOLAB_DATA'] + '/train/text').read() == 'seen'\n"
        "assert os.listdir(os.environ['AUTOLAB_ARTIFACT']) == []\n"
        "print('ENV' + json.dumps(dict(os.environ)))\n" + HONEST
    )
    bundle = Bundle(tmp_path / "b", train, mode, data=str(data), environment={"EXTRA": "1"})
    result = bundle.measure(env={**os.environ, "HF_TOKEN": "hf_secret", "LD_PRELOAD": ""})
    assert result["status"] == "ok", result
    env = json.loads(bundle.log().split("ENV")[1].splitlines()[0])
    expected = {
        *("PATH", "HOME", "LANG", "PYTHONHASHSEED", "EXTRA"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        *("AUTOLAB_DATA", "AUTOLAB_ARTIFACT", "AUTOLAB_CLOCK", "AUTOLAB_CURVE", "AUTOLAB_SEED"),
        *("AUTOLAB_PROFILE", "AUTOLAB_CPU_SECONDS"),
    }
    assert set(env) - {"PWD", "TMPDIR", "LC_CTYPE"} == expected
    assert (env["AUTOLAB_SEED"], env["AUTOLAB_CPU_SECONDS"]) == ("3", "20.0")


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        ({"cpu_seconds": None, "tokens": 5}, "AUTOLAB_TOKENS"),
        ({"cpu_seconds": None}, "AUTOLAB_WALL_SECONDS"),
    ],
)
def test_the_budget_is_told_in_its_own_currency(tmp_path: Path, budget: dict[str, Any], name: str) -> None:
    train = f"import os\nassert '{name}' in os.environ and 'AUTOLAB_CPU_SECONDS' not in os.environ\n" + HONEST
    assert measure(tmp_path, train, budget=budget)["status"] == "ok"


def test_the_evaluator_is_told_what_it_needs_and_no_secrets_of_the_lab(tmp_path: Path) -> None:
    evaluate = EVALUATE.replace(
        "argv = ",
        "assert 'HF_TOKEN' not in os.environ and os.environ['AUTOLAB_SECRET'] == '5ec7e7'\n"
        "assert os.environ['AUTOLAB_EVAL_SEED'] == '5' and os.environ['AUTOLAB_STAGE'] == 'screen'\n"
        "assert json.loads(os.environ['AUTOLAB_TASK'])['metric']['name'] == 'score'\n"
        "assert sorted(os.listdir()) == ['evaluate.py', 'prepare.py']\nargv = ",
    )
    bundle = Bundle(tmp_path / "b", HONEST, "none", evaluate=evaluate)
    assert bundle.measure(env={**os.environ, "HF_TOKEN": "hf_secret"})["status"] == "ok", bundle.log()


# ---------------------------------------------------------------------------------------------- limits


@BOTH
def test_wall(tmp_path: Path, mode: str) -> None:
    result = measure(tmp_path, SLEEP, mode, budget={"wall_seconds": 0.4})
    assert (result["status"], result["cause"]) == ("timeout", "wall: still running after 0.4 s")
    assert 0.4 <= result["train_seconds"] < 3


@BOTH
def test_cpu_of_the_whole_tree(tmp_path: Path, mode: str) -> None:
    train = "import os\nfor _ in range(2): os.fork()\n" + SPIN
    result = measure(tmp_path, train, mode, budget={"cpu_seconds": 0.3, "startup_seconds": 0.2})
    assert result["status"] == "timeout"
    assert result["cause"].startswith("CPU: used")
    assert result["train_cpu_seconds"] >= 0.5


def test_cpu_is_no_limit_for_a_budget_in_tokens(tmp_path: Path) -> None:
    budget = {"cpu_seconds": None, "tokens": 10, "wall_seconds": 0.5}
    assert not measure(tmp_path, SPIN, budget=budget)["cause"].startswith("CPU")


def test_cpu_spent_just_before_a_good_end_counts(tmp_path: Path) -> None:
    train = HONEST + "import time\nwhile time.process_time() < 0.3: pass\n"
    result = measure(tmp_path, train, budget={"cpu_seconds": 0.1})
    assert result["status"] == "timeout"


@BOTH
def test_idle(tmp_path: Path, mode: str) -> None:
    result = measure(tmp_path, SLEEP, mode, budget={"idle_seconds": 0.3})
    assert (result["status"], result["cause"][:4]) == ("timeout", "idle")


def test_output_is_not_idling(tmp_path: Path) -> None:
    train = "import time\nfor i in range(8): time.sleep(0.1); print(i, flush=True)\n" + HONEST
    assert measure(tmp_path, train, budget={"idle_seconds": 0.5})["status"] == "ok"


@BOTH
def test_memory(tmp_path: Path, mode: str) -> None:
    train = "held = []\nwhile True: held.append(bytearray(4 << 20))\n"
    result = measure(tmp_path, train, mode, budget={"memory_gb": 0.1})
    assert result["status"] == "oom", result


def test_memory_shared_by_forks_counts_once(tmp_path: Path) -> None:
    train = (
        "import os, time\nheld = bytearray(os.urandom(1 << 20) * 60)\n"
        "if all(os.fork() for _ in range(3)):\n"
        "    for _ in range(3): os.wait()\n    " + HONEST.replace("\n", "\n    ").strip() + "\n"
        "else: time.sleep(0.4)\n"
    )
    assert measure(tmp_path, train, budget={"memory_gb": 0.15})["status"] == "ok"


def test_a_refused_allocation_is_out_of_memory(tmp_path: Path) -> None:
    result = measure(tmp_path, "x = bytearray(1 << 40)\n")
    assert (result["status"], result["cause"]) == ("oom", "MemoryError (train.py:1)")


def test_starved_of_cpu_is_not_the_programs_fault(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    neighbours = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SPIN],
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, [core]),
        )
        for _ in range(7)
    ]
    try:
        budget = {"wall_seconds": 1.5, "cpu_seconds": 10}
        bundle = Bundle(tmp_path / "b", SPIN, "none", budget=budget)
        result = bundle.measure("--cpus", str(core))
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert result["status"] == "infra_error", result
    assert result["cause"].startswith("starved of CPU")


def test_a_program_that_crowds_its_own_core_is_not_starved(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    train = "import os\nfor _ in range(3): os.fork()\n" + SPIN
    bundle = Bundle(tmp_path / "b", train, "none", budget={"wall_seconds": 1})
    assert bundle.measure("--cpus", str(core))["status"] == "timeout"


def test_pinned_to_its_cores(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    train = f"import os\nassert os.sched_getaffinity(0) == {{{core}}}\n" + HONEST
    assert Bundle(tmp_path / "b", train, "none").measure("--cpus", str(core))["status"] == "ok"


# ---------------------------------------------------------------------------------------- exit reasons


def test_a_crash_is_told_in_one_line(tmp_path: Path) -> None:
    train = "def f():\n    raise RuntimeError('shapes (2, 3) and (4, 5)\\x1b[31m\\nmore')\nf()\n"
    result = measure(tmp_path, train)
    assert result["status"] == "crash"
    assert result["cause"] == "RuntimeError: shapes (2, 3) and (4, 5) (train.py:2)"
    assert result["exit_code"] == 1


@pytest.mark.parametrize(
    ("train", "status", "cause"),
    [
        ("x = (\n", "crash", "SyntaxError: '(' was never closed (train.py:1)"),
        ("raise ValueError('loss is nan')", "nan", "ValueError: loss is nan (train.py:1)"),
        ("print('loss: nan')\nraise SystemExit(4)", "nan", "loss: nan"),
        ("raise SystemExit(5)", "crash", "--- train"),
        ("raise RuntimeError('CUDA out of memory')", "oom", "RuntimeError: CUDA out of memory (train.py:1)"),
        ("pass", "crash", "exited 0 without an artifact"),
    ],
)
def test_exit_reasons(tmp_path: Path, train: str, status: str, cause: str) -> None:
    result = measure(tmp_path, train)
    if cause == "--- train":
        assert result["cause"] == "exit code 5 without a word"
    else:
        assert (result["status"], result["cause"]) == (status, cause)


@BOTH
def test_signals_are_named(tmp_path: Path, mode: str) -> None:
    result = measure(tmp_path, "import os\nos.kill(os.getpid(), 11)\n", mode)
    assert (result["status"], result["cause"]) == ("crash", "killed by SIGSEGV")
    assert (result["exit_code"], result["signal"]) == (None, "SIGSEGV")


@BOTH
def test_a_command_that_does_not_exist(tmp_path: Path, mode: str) -> None:
    bundle = Bundle(tmp_path / "b", "", mode, commands={"train": ["no-such-program"], "evaluate": None})
    result = bundle.measure()
    assert result["status"] == "crash"
    assert "no-such-program" in result["cause"]


@needs_bubblewrap
def test_a_sandbox_that_does_not_start_is_the_labs_fault(tmp_path: Path) -> None:
    result = measure(tmp_path, HONEST, "bubblewrap", pace="/no/such/pace.json")
    assert result["status"] == "infra_error"
    assert "pace.json" in result["cause"]


@needs_bubblewrap
def test_a_program_cannot_pretend_that_the_sandbox_failed(tmp_path: Path) -> None:
    train = "import sys\nsys.stderr.write('bwrap: cannot mount\\n')\nraise SystemExit(1)\n"
    assert measure(tmp_path, train, "bubblewrap")["status"] == "crash"


def test_a_broken_spec_is_the_labs_fault(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "b", HONEST, "none")
    (bundle.root / "spec.json").write_text("{")
    assert bundle.measure()["status"] == "infra_error"


def test_changed_protected_files_are_found_before_training(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "b", HONEST, "none")
    (bundle.root / "pristine" / "evaluate.py").write_text("pass")
    result = bundle.measure()
    assert (result["status"], result["cause"]) == (
        "tampered",
        "evaluate.py was changed or removed before training",
    )


# ------------------------------------------------------------------------------------- log and clock


def test_the_log_is_capped_and_scrubbed(tmp_path: Path) -> None:
    train = (
        "import sys\nprint('first \\x1b[1;31mred\\x1b[0m \\x07bell\\ttab')\n"
        "for i in range(40000): print('line', i)\nprint('a\\rb \\u202eabc')\nprint('last')\n" + HONEST
    )
    bundle = Bundle(tmp_path / "b", train, "none")
    result = bundle.measure()
    log = bundle.log()
    assert "first red bell tab\n" in log
    assert "a\nb abc\nlast\n" in log
    assert "bytes left out" in log
    assert len(log) < 140_000
    assert "last" in result["log_excerpt"]
    assert len(result["log_excerpt"].encode()) <= 4000


def test_a_log_flood_is_stopped(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "b", "while True: print('x' * 10000)\n", "none")
    result = bundle.measure()
    assert (result["status"], result["cause"]) == ("crash", "log flood: more than 16 MB of output")
    assert (bundle.root / "log.txt").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ('{"tokens": 5, "pace": [[1, 0.5]]}', {"tokens": 5, "pace": [[1, 0.5]]}),
        ('{"x": NaN}', None),
        ('{"x": 1e999}', None),
        ("[1]", None),
        ("{", None),
        ('{"x": "\\ud800"}', None),
        ('{"x": ' + "9" * 5000 + "}", None),
        ('{"x": ' + "[" * 100 + "]" * 100 + "}", None),
        ('{"x": ' + "[" * 30000 + "]" * 30000 + "}", None),
        ('{"x": "' + "x" * 70000 + '"}', None),
    ],
)
def test_the_clock_is_kept_only_if_sane(content: str, kept: object) -> None:
    data = content.encode()
    assert (output.parse_clock(data) if len(data) <= 65536 else None) == kept


def test_the_clock_reaches_the_result(tmp_path: Path) -> None:
    train = HONEST + "open(os.environ['AUTOLAB_CLOCK'], 'w').write('{\"tokens\": 5}')\n"
    assert measure(tmp_path, train)["clock"] == {"tokens": 5}


def test_a_clock_that_is_a_link_or_too_large_is_ignored(tmp_path: Path) -> None:
    link = HONEST + "os.symlink('/etc/hostname', os.environ['AUTOLAB_CLOCK'])\n"
    large = HONEST + "open(os.environ['AUTOLAB_CLOCK'], 'w').write('{\"x\": \"' + 'x' * 70000 + '\"}')\n"
    for name, train in (("link", link), ("large", large)):
        assert measure(tmp_path / name, train)["clock"] is None


# -------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize(
    ("report", "status", "cause"),
    [
        ('{"status": "ok", "metrics": {"score": NaN}}', "nan", "score is nan"),
        ('{"status": "ok", "metrics": {"score": Infinity}}', "nan", "score is inf"),
        ('{"status": "ok", "metrics": {"score": -1}}', "illegal", "score -1 outside [0.1, 20]"),
        ('{"status": "ok", "metrics": {"score": true}}', "crash", "the evaluator's result has no score"),
        ('{"status": "ok", "metrics": {"loss": 1}}', "crash", "the evaluator's result has no score"),
        ('{"status": "ok"}', "crash", "the evaluator's result has no score"),
        ('{"status": "great"}', "crash", "the evaluator's result has no known status"),
        ("{", "crash", "the evaluator's result is not JSON"),
        ("[]", "crash", "the evaluator's result has no known status"),
        ('{"status": "illegal", "cause": "future_swap", "metrics": {"score": 1}}', "illegal", "future_swap"),
        ('{"status": "nan", "cause": "NaN logits"}', "nan", "NaN logits"),
    ],
)
def test_the_evaluators_result_is_checked(tmp_path: Path, report: str, status: str, cause: str) -> None:
    result = measure(tmp_path, HONEST, evaluate=reporting(report))
    assert (result["status"], result["cause"], result["metrics"]) == (status, cause, {})


def test_other_metrics_are_kept_if_finite(tmp_path: Path) -> None:
    report = '{"status": "ok", "metrics": {"score": 2, "accuracy": 0.5, "odd": NaN, "text": "x"}}'
    assert measure(tmp_path, HONEST, evaluate=reporting(report))["metrics"] == {"score": 2.0, "accuracy": 0.5}


def test_an_evaluator_that_fails(tmp_path: Path) -> None:
    result = measure(tmp_path, HONEST, evaluate="raise KeyError('no data')\n")
    cause = "evaluator left no result: KeyError: 'no data' (evaluate.py:1)"
    assert (result["status"], result["cause"]) == ("crash", cause)
    assert measure(tmp_path / "2", HONEST, evaluate="pass\n")["cause"] == "evaluator left no result"


@BOTH
def test_an_artifact_that_makes_the_scorer_hang_is_an_eval_timeout(tmp_path: Path, mode: str) -> None:
    hang = EVALUATE.replace("    raise SystemExit", "    import time; time.sleep(600)")
    bundle = Bundle(tmp_path / "b", HONEST, mode, evaluate=hang, budget={"eval_seconds": 0.5})
    result = bundle.measure()
    assert (result["status"], result["cause"]) == (
        "eval_timeout",
        "evaluation: wall: still running after 0.5 s",
    )


@BOTH
def test_computing_on_while_being_scored_is_an_eval_timeout(tmp_path: Path, mode: str) -> None:
    """The artifact's code goes on training in the scorer: its CPU time there is bounded as well."""
    busy = EVALUATE.replace("    raise SystemExit", "    for _ in range(10**12): pass\n    raise SystemExit")
    bundle = Bundle(tmp_path / "b", HONEST, mode, evaluate=busy, budget={"eval_cpu_seconds": 0.4})
    result = bundle.measure()
    assert result["status"] == "eval_timeout" and "CPU: used" in result["cause"]


def test_confirmation_may_evaluate_four_times_as_long(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(2)\n" + reporting('{"status": "ok", "metrics": {"score": 2}}')
    budget = {"eval_seconds": 1}
    assert measure(tmp_path / "1", HONEST, evaluate=slow, budget=budget)["status"] == "eval_timeout"
    assert measure(tmp_path / "2", HONEST, evaluate=slow, budget=budget, stage="confirm")["status"] == "ok"


def test_a_self_reported_score_is_marked(tmp_path: Path) -> None:
    train = "print('score: 3')\nprint('score = 2.5e0')\nprint('the score: 9')\n"
    result = measure(tmp_path, train, evaluate=None)
    assert (result["status"], result["metrics"]) == ("ok", {"score": 2.5})
    assert result["evidence"] == "self_reported"
    missing = measure(tmp_path / "2", "print('nothing')", evaluate=None)
    assert missing["cause"] == "no line `score: <number>` in the output"


def test_artifact_and_program_share_the_cap(tmp_path: Path) -> None:
    fits = "import os\nopen(os.environ['AUTOLAB_ARTIFACT'] + '/weights', 'w').write(' ' * 60000 + '7')\n"
    assert measure(tmp_path / "1", fits)["status"] == "ok"
    result = measure(tmp_path / "2", fits + "#" * 6000)
    assert result["status"] == "over_size"
    assert "65 kB" in result["cause"] or "kB allowed together" in result["cause"]


def test_folders_in_an_artifact_are_kept(tmp_path: Path) -> None:
    train = HONEST + "os.makedirs(os.environ['AUTOLAB_ARTIFACT'] + '/a/b')\n"
    train += "open(os.environ['AUTOLAB_ARTIFACT'] + '/a/b/c', 'w').write('12')\n"
    bundle = Bundle(tmp_path / "b", train, "none")
    assert bundle.measure()["artifact_bytes"] == 3
    assert (bundle.root / "run" / "collected" / "a" / "b" / "c").read_text() == "12"


# ------------------------------------------------------------------------------------- being told to stop


@BOTH
@pytest.mark.parametrize("how", ["lifeline", "SIGTERM", "SIGKILL"])
def test_when_the_runner_must_end_everything_ends(tmp_path: Path, mode: str, how: str) -> None:
    # In mode none a runner that is killed takes only its direct child along; reap_orphans finds the rest.
    bundle = Bundle(tmp_path / "b", "print('up', flush=True)\n" + SLEEP, mode)
    runner = bundle.start("--lifeline", stdin=subprocess.PIPE)
    assert wait_until(bundle.training)
    if how == "lifeline":
        assert runner.stdin is not None
        runner.stdin.close()
    else:
        runner.send_signal(getattr(signal, how))
    assert runner.wait(20) == (-signal.SIGKILL if how == "SIGKILL" else 3)
    assert wait_until(lambda: not bundle.alive()) if how == "SIGKILL" else not bundle.alive()
    assert not (bundle.root / "measurement.json").exists()
    if runner.stdin is not None and not runner.stdin.closed:
        runner.stdin.close()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:  # it ended while we looked
        return ""


def test_a_stop_during_evaluation_kills_the_evaluator(tmp_path: Path) -> None:
    evaluate = "import sys, time\nopen('/proc/self/comm', 'w').write('lab-eval')\ntime.sleep(60)\n"
    bundle = Bundle(tmp_path / "b", HONEST, "none", evaluate=evaluate)
    runner = bundle.start()

    def evaluating() -> list[int]:
        stats = [process_tree.read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit()]
        children = [stat.pid for stat in stats if stat is not None and stat.ppid == runner.pid]
        return [pid for pid in children if "lab-eval" in _command(pid)]

    assert wait_until(evaluating)
    pid = evaluating()[0]
    runner.kill()
    runner.wait()
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists())


# --------------------------------------------------------------------------------------- the kind of machine

XEON = """\
processor\t: 0
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Processor @ 2.50GHz
stepping\t: 4

processor\t: 1
model\t\t: 143
"""
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n"
H200 = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 85\nGPU UUID: \t GPU-1\n"


@pytest.mark.parametrize(
    ("cpuinfo", "said"),
    [
        (XEON, " Intel(R) Xeon(R) Processor @ 2.50GHz 6/85/4"),
        (ARM, " 0x41/0x1/0xd40/1"),
        ("model name : \x1b[1mred\x07 \u202ename\n", " red name"),
        (None, ""),
    ],
    ids=["x86", "ARM", "not printable", "none"],
)
def test_a_machine_is_its_architecture_and_its_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, said: str
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", str(tmp_path / "cpuinfo"))
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert machine.describe(gpu=False) == os.uname().machine + said


def test_a_machine_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPUINFO", str(tmp_path / "cpuinfo"))
    (tmp_path / "cpuinfo").write_text("model name : " + "x" * 3000)
    assert len(machine.describe(gpu=False)) == machine.LONGEST


def test_gpus_are_those_that_the_driver_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GPUS", str(tmp_path))
    for slot in ("0000:04:00.0", "0000:05:00.0"):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "information").write_text(H200)
    assert machine.describe(gpu=True) == "NVIDIA H200, " + machine.describe(gpu=False)


@pytest.mark.parametrize(
    ("script", "said"), [("echo NVIDIA L4; echo NVIDIA L4", "NVIDIA L4, "), ("echo No devices; exit 9", "")]
)
def test_where_the_driver_shows_no_gpu_nvidia_smi_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr(machine, "GPUS", str(tmp_path / "none"))
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.describe(gpu=True) == said + machine.describe(gpu=False)


def test_without_any_sign_of_a_gpu_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GPUS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.describe(gpu=True) == machine.describe(gpu=False)


# --------------------------------------------------------------------------------------- JSON without json


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5, 1e-300, True, False, None, 'é\n"\\\x00\ud83d', {}], "ü": {"b": []}, "big": 10**30},
        [],
        "text",
        0.1,
    ],
)
def test_json_is_the_same_as_by_the_package(value: object) -> None:
    assert json.loads(output.to_json(value)) == value
    assert output.parse_json(" " + json.dumps(value) + "\n") == value
    assert output.parse_json(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": {1}}])
def test_what_json_has_not_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON cannot hold"):
        output.to_json(value)


@pytest.mark.parametrize("text", ["", "{", "{} {}", "nul", b"\xff", "[1,]", '{"a": ' + "9" * 5000 + "}"])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        output.parse_json(text)
