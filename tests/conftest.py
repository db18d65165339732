"""A toy task that is real in every part but takes milliseconds: real files, runner, sandbox and ledger.

Its recipe writes a number; its evaluator feeds a question to the recipe's code in a scorer sandbox and
measures how far the answer is from a secret optimum, plus noise that depends on the seed alone.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stand_ins.hub import HubServer
from stand_ins.hub.running import use

from autolab.task import Edit

TRAIN = '''\
"""Learns one number."""
import json, os

RATE = 0.5
SHIFT = 0.0
STEPS = 10  # range: 1 .. 100


def answer(state):
    return state["value"]


if __name__ == "__main__":
    seed = int(os.environ["AUTOLAB_SEED"])
    value = RATE + SHIFT
    with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "model.json"), "w") as file:
        json.dump({"value": value, "seed": seed}, file)
    with open(os.environ["AUTOLAB_CLOCK"], "w") as file:
        json.dump({"tokens": STEPS, "steps": STEPS, "pace": []}, file)
    print("loss: 0.0001")
'''

EVALUATE = """\
import json, os, subprocess, sys

if "--scorer" in sys.argv:
    sys.path.insert(0, os.getcwd())
    import train
    with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "model.json")) as file:
        state = json.load(file)
        print(json.dumps([train.answer(state), state["seed"]]))
    raise SystemExit
command = [*json.loads(os.environ["AUTOLAB_SCORER"]), sys.executable, "evaluate.py", "--scorer"]
done = subprocess.run(command, capture_output=True, text=True)
result = {"status": "crash", "cause": (done.stderr.strip().splitlines() or ["no answer"])[-1], "metrics": {}}
if done.returncode == 0:
    answer, seed = json.loads(done.stdout)
    noise = ((seed * 2654435761) % 2**32 / 2**32 - 0.5) * 0.004
    result = {"status": "ok", "cause": "", "metrics": {"loss": 1.0 + abs(answer - 0.9) + noise}}
temporary = os.environ["AUTOLAB_RESULT"] + ".tmp"
with open(temporary, "w") as file:
    json.dump(result, file)
os.rename(temporary, os.environ["AUTOLAB_RESULT"])
"""

TASK = """\
name: toy
metric: {name: loss, direction: minimize, bounds: [0, 100]}
editable: [train.py]
protected: [evaluate.py]
commands: {train: [python, train.py], evaluate: [python, evaluate.py]}
budget: {tokens: 10, wall_seconds: 20, eval_seconds: 20, idle_seconds: 10, memory_gb: 1, artifact_kb: 64}
surfaces: {optimizer: "rates", architecture: "shape"}
"""


def write_toy(directory: Path, train: str = TRAIN, task: str = TASK) -> Path:
    """Write the toy task into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "train.py").write_text(textwrap.dedent(train), encoding="utf-8")
    (directory / "evaluate.py").write_text(EVALUATE, encoding="utf-8")
    (directory / "task.yaml").write_text(task, encoding="utf-8")
    return directory


def write_sealed_toy(directory: Path) -> Path:
    """Write the toy task with a sealed split, on which scores are the same."""
    write_toy(directory, task=TASK.replace("bounds:", "sealed: sealed_loss, bounds:"))
    name = '{"sealed_loss" if os.environ["AUTOLAB_STAGE"] == "certify" else "loss": 1.0'
    (directory / "evaluate.py").write_text(EVALUATE.replace('{"loss": 1.0', name), encoding="utf-8")
    return directory


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A directory with the toy task."""
    return write_toy(tmp_path / "toy")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab with the toy task, beside whatever else a test makes."""
    return write_toy(tmp_path / "lab")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub, with the client of this process pointed at it."""
    with HubServer(tmp_path / "hub") as server:
        use(monkeypatch, server, tmp_path / "home")
        yield server


@pytest.fixture
def set_rate() -> Callable[[float], tuple[Edit, ...]]:
    """Makes the edit that sets the toy recipe's rate (its best is 0.9)."""

    def edit(value: float, old: float = 0.5) -> tuple[Edit, ...]:
        return (Edit(path="train.py", search=f"RATE = {old}", replace=f"RATE = {value}"),)

    return edit


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs OpenCode cannot run without it; CI counts skips, and allows none."""
    import open_code

    if item.get_closest_marker("opencode") and open_code.find_opencode() is None:
        pytest.skip(open_code.MISSING)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results table."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def load_json(path: Path) -> dict[str, object]:
    """A JSON file as a dict."""
    loaded: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
