"""What the lab adds to a trial: the time of an instant trial above the bare start of its processes.

    python benchmarks/trial_overhead.py [--repeats 40]

Bare: the same five processes started one after another, without the lab: the runner's interpreter,
bubblewrap + training, the evaluator, bubblewrap + scorer (training and scoring are stdlib scripts that do
nothing worth mentioning). Trial: `autolab.execution.local.measure` on a bundle with the same scripts.
Alternating, medians, no pinning to cores; a busy machine slows down both. Exit code 1 if the difference is above 40 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autolab.execution import local, sandbox
from autolab.execution.bundle import MeasurementSpec, Sandbox, write_bundle
from autolab.ledger.records import Status

TRAIN = "import os\nopen(os.environ['AUTOLAB_ARTIFACT'] + '/weights', 'w').write('7')\n"
EVALUATE = """import json, os, subprocess, sys
if "--scorer" in sys.argv:
    print(open(os.environ["AUTOLAB_ARTIFACT"] + "/weights").read())
else:
    argv = [*json.loads(os.environ["AUTOLAB_SCORER"]), sys.executable, "-I", "-S", "evaluate.py", "--scorer"]
    score = float(subprocess.run(argv, capture_output=True, check=True).stdout)
    with open(os.environ["AUTOLAB_RESULT"], "w") as file:
        json.dump({"status": "ok", "cause": "", "metrics": {"score": score}}, file)
"""
# The evaluator again, without the lab: it starts, imports and writes the same, but starts no scorer.
BARE_EVALUATE = """import json, os, subprocess, sys
with open(sys.argv[1], "w") as file:
    json.dump({"status": "ok", "cause": "", "metrics": {"score": 7.0}}, file)
"""
BAR = 0.040  # seconds


def spec(number: int, mode: Sandbox) -> MeasurementSpec:
    """An instant trial's spec."""
    return MeasurementSpec(
        id=f"m{number}",
        python=sys.executable,
        commands={
            "train": ["python", "-I", "-S", "train.py"],
            "evaluate": ["python", "-I", "-S", "evaluate.py"],
        },
        editable=["train.py"],
        budget={
            "cpu_seconds": 20,
            "wall_seconds": 20,
            "tokens": None,
            "eval_seconds": 20,
            "idle_seconds": 20,
            "memory_gb": 1,
            "artifact_kb": 64,
            "processes": 16,
            "startup_seconds": 1,
        },
        metric={"name": "score", "direction": "minimize", "bounds": [0, 10]},
        seed=1,
        eval_seed=1,
        sandbox=mode,
    )


def trial(folder: Path, number: int, mode: Sandbox, slot: local.Slot) -> float:
    """Seconds from a finished bundle to its result."""
    bundle = write_bundle(
        folder / f"m{number}", spec(number, mode), {"train.py": TRAIN}, {"evaluate.py": EVALUATE}
    )

    async def run() -> float:
        began = time.perf_counter()
        result = await local.measure(bundle, slot)
        seconds = time.perf_counter() - began
        assert result.status is Status.OK, result
        return seconds

    return asyncio.run(run())


def bare(folder: Path, mode: Sandbox) -> float:
    """Seconds for the same processes, one after another, each waited for."""
    workspace, artifact = folder / "workspace", folder / "artifact"
    for path in (workspace, artifact):
        path.mkdir(exist_ok=True)
    (workspace / "train.py").write_text(TRAIN)
    (workspace / "evaluate.py").write_text(EVALUATE)
    (folder / "bare.py").write_text(BARE_EVALUATE)
    python = [sys.executable, "-I", "-S"]
    where = sandbox.ARTIFACT if mode == "bubblewrap" else str(artifact)
    prefix: list[str] = []
    if mode == "bubblewrap":
        arguments = sandbox.arguments(
            python=sys.executable,
            workspace=str(workspace),
            artifact=str(artifact),
            artifact_writable=True,
            overlay=[],
            hidden=[],
            environment={"AUTOLAB_ARTIFACT": where},
        )
        prefix = [sandbox.find_bubblewrap() or "bwrap", *arguments, "--"]
    commands = [
        [*python, "-c", "pass"],
        [*prefix, *python, "train.py"],
        [*python, str(folder / "bare.py"), str(folder / "result.json")],
        [*prefix, *python, "evaluate.py", "--scorer"],
    ]
    env = {"AUTOLAB_ARTIFACT": where, "PATH": os.environ["PATH"]}
    began = time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, cwd=workspace, env=env, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    """Print medians in milliseconds for each sandbox mode that works here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=40, help="trials a mode (default 40)")
    repeats = parser.parse_args().repeats
    slot = local.Slot(0)  # not pinned to a core: the bare processes are not, either
    worst = 0.0
    modes: tuple[Sandbox, ...] = ("bubblewrap", "none")
    for mode in modes:
        if mode == "bubblewrap" and sandbox.available()[0] != mode:
            print(f"bubblewrap: skipped, {sandbox.available()[1]}")
            continue
        trials, bares = [], []
        with tempfile.TemporaryDirectory() as name:
            for number in range(repeats):
                trials.append(trial(Path(name), number, mode, slot))
                bares.append(bare(Path(name), mode))
        a, b = statistics.median(trials), statistics.median(bares)
        worst = max(worst, a - b)
        print(
            f"{mode:10}  trial {1e3 * a:6.1f} ms   bare {1e3 * b:6.1f} ms   overhead {1e3 * (a - b):5.1f} ms"
            f"   (best {1e3 * (min(trials) - min(bares)):.1f})"
        )
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
