"""For the tests of measurements: tiny bundles, the runner as a process, and a look at what is alive."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolab.execution import sandbox

RUNNER = Path(sandbox.__file__).with_name("runner.py")

needs_bubblewrap = pytest.mark.skipif(
    sandbox.available()[0] != "bubblewrap", reason=f"no sandbox here: {sandbox.available()[1]}"
)
BOTH = pytest.mark.parametrize("mode", [pytest.param("bubblewrap", marks=needs_bubblewrap), "none"])

# The honest recipe: its score is 7.
HONEST = """\
import os
with open(os.environ["AUTOLAB_ARTIFACT"] + "/weights", "w") as file:
    file.write("7")
"""

# The score is the number in the artifact, as the scorer sandbox reads it.
EVALUATE = """\
import json, os, subprocess, sys
if "--scorer" in sys.argv:
    print(open(os.environ["AUTOLAB_ARTIFACT"] + "/weights").read())
    raise SystemExit
argv = [*json.loads(os.environ["AUTOLAB_SCORER"]), sys.executable, "-I", "-S", "evaluate.py", "--scorer"]
done = subprocess.run(argv, capture_output=True, text=True)
sys.stderr.write(done.stderr)
result = {"status": "ok", "cause": "", "metrics": {"score": float(done.stdout)}}
with open(os.environ["AUTOLAB_RESULT"] + ".part", "w") as file:
    json.dump(result, file)
os.rename(file.name, os.environ["AUTOLAB_RESULT"])
"""

BUDGET = {
    "cpu_seconds": 20,
    "tokens": None,
    "wall_seconds": 20,
    "eval_seconds": 20,
    "idle_seconds": 10,
    "memory_gb": 1,
    "artifact_kb": 64,
    "processes": 16,
    "startup_seconds": 0,
}


def reporting(result: str) -> str:
    """An evaluator that leaves this JSON text as its result."""
    return f"import os\nopen(os.environ['AUTOLAB_RESULT'], 'w').write({result!r})\n"


class Bundle:
    """A bundle on disk. Every process of its training has `token` in its command line."""

    def __init__(
        self,
        root: Path,
        train: str,
        mode: str,
        *,
        evaluate: str | None = EVALUATE,
        budget: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        self.root = root
        self.token = uuid.uuid4().hex
        python = ["python", "-I", "-S"]
        protected = {"prepare.py": "", "evaluate.py": evaluate or ""}
        for folder, files in (("workspace", {**protected, "train.py": train}), ("pristine", protected)):
            (root / folder).mkdir(parents=True)
            for name, content in files.items():
                (root / folder / name).write_text(content)
        self.spec = {
            "id": "m1",
            "python": sys.executable,
            "commands": {
                "train": [*python, "train.py", self.token],
                "evaluate": [*python, "evaluate.py"] if evaluate else None,
            },
            "editable": ["train.py"],
            "protected": {
                name: hashlib.sha256(text.encode()).hexdigest() for name, text in protected.items()
            },
            "data": None,
            "seed": 3,
            "stage": "screen",
            "eval_seed": 5,
            "secret": "5ec7e7",
            "profile": "cpu",
            "gpu": False,
            "budget": {**BUDGET, **(budget or {})},
            "metric": {"name": "score", "direction": "minimize", "bounds": [0.1, 20]},
            "environment": {},
            "cpus": None,
            "pace": None,
            "sandbox": mode,
            **spec,
        }
        (root / "spec.json").write_text(json.dumps(self.spec))

    def start(self, *options: str, **popen: Any) -> subprocess.Popen[bytes]:
        """The runner, started as a script by its path."""
        argv = [sys.executable, "-I", "-S", str(RUNNER), str(self.root), *options]
        return subprocess.Popen(argv, **popen)

    def measure(self, *options: str, **popen: Any) -> dict[str, Any]:
        """Run the bundle to its end; afterwards nothing of it is alive."""
        runner = self.start(*options, **popen)
        assert runner.wait(60) == 0
        assert not self.alive()
        return self.result()

    def result(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.root / "measurement.json").read_text())
        return loaded

    def log(self) -> str:
        return (self.root / "log.txt").read_text()

    def alive(self) -> list[int]:
        """Processes (not zombies) of this bundle's training."""
        return processes_with(self.token)

    def training(self) -> bool:
        """Is its train.py running? From then on everything dies with the runner; a bubblewrap whose parent is killed
        while it is being set up stays, and is reaped at the lab's next start."""
        return any(not _program(pid).endswith(b"bwrap") for pid in self.alive())


def _program(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    except OSError:  # it ended while we looked
        return b"bwrap"


def processes_with(token: str) -> list[int]:
    """Processes whose command line holds `token`; a zombie has none."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if token.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def wait_until(true: Callable[[], object], seconds: float = 10.0) -> bool:
    """Ask until it holds; False if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
