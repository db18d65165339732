"""The same campaign, the same seed: once on this machine, once as jobs on a local Hub that really runs them.

The task has data, which jobs have mounted. Among the trials are programs that crash, run out of memory, never end,
find nothing or a number that is none, so that more than one status is compared. Bar: statuses, verdicts, scores,
programs, parents, notes and promotions are the same, trial by trial, and so are the seeds and scores of all
measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import toy  # first: it finds the tests' folder
from scripted import outcome
from stand_ins.hub import ALICE, HubServer

AUTOLAB = [sys.executable, "-m", "autolab.cli.main"]
JOBS = ["--executor", "hf-jobs", "--flavor", "cpu-basic"]
FATES = {
    "crash": 'raise RuntimeError("lost its way")',
    "hungry": "value += len(bytearray(3 << 30))",
    "endless": "import time; time.sleep(99)",
    "nothing": "raise SystemExit(0)",
    "no number": 'value = float("nan")',
}
PLACE = "    value = RATE + SHIFT\n"
READ = """\
    with open(os.path.join(os.environ["AUTOLAB_DATA"], "train", "numbers.json")) as file:
        value += sum(json.load(file))
"""
PREPARE = """\
import hashlib, json, os
folder = os.environ["AUTOLAB_DATA"]
text = json.dumps([1e-6] * 1000).encode()
os.makedirs(os.path.join(folder, "train"), exist_ok=True)
for name, content in (
    ("train/numbers.json", text),
    ("manifest.json", json.dumps({"files": {"train/numbers.json": hashlib.sha256(text).hexdigest()}}).encode()),
):
    if not os.path.exists(os.path.join(folder, name)):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
"""


@dataclass(frozen=True)
class Found:
    """What a campaign found, in terms that are the same in every lab, and how long it took."""

    trials: list[tuple[object, ...]]
    promotions: list[tuple[object, ...]]
    measurements: dict[tuple[object, ...], tuple[object, ...]]
    noise_sd: float | None
    seconds: float


def write_lab(directory: Path, more: str = "", seconds: float = 0.0) -> Path:
    """The toy task with data that has to be prepared, `more` lines of task.yaml, and so long a training."""
    task = toy.TASK.replace("{train: ", "{prepare: [python, prepare.py], train: ")
    task = task.replace("[evaluate.py]", "[evaluate.py, prepare.py]").replace(
        "wall_seconds: 20", "wall_seconds: 6"
    )
    train = toy.TRAIN.replace(PLACE, f"{PLACE}{READ}    import time; time.sleep({seconds})\n")
    toy.write_toy(directory, train, task + more)
    (directory / "prepare.py").write_text(PREPARE, encoding="utf-8")
    return directory


def fates() -> str:
    """Moves that come to nothing in five ways, as a line of task.yaml."""
    moves: list[dict[str, Any]] = [
        {"name": name, "surface": "architecture", "hypothesis": f"It ends well ({name}).",
         "edits": [{"path": "train.py", "search": PLACE, "replace": f"{PLACE}    {line}\n"}]}
        for name, line in FATES.items()
    ]  # fmt: skip
    return f"moves: {json.dumps(moves)}\n"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for a lab and a Hub."""
    with TemporaryDirectory(prefix="autolab-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def pointed_at(hub: HubServer, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process for which this is the Hub, and nothing that the user has set counts."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "AUTOLAB"))
    }
    return {**kept, "HF_ENDPOINT": hub.base, "HF_TOKEN": ALICE, "HF_HOME": str(home),
            "AUTOLAB_POLL_SECONDS": "0.2", **more}  # fmt: skip


def found_in(directory: Path, seconds: float = 0.0) -> Found:
    """What the campaign in a directory found."""
    lab = toy.start(directory)
    ledger, campaign = lab.ledger, lab.ledger.campaign(lab.campaign.id)
    sequence = list(ledger.sequence(campaign.id))
    ordinals = {trial.number: trial.ordinal for trial in sequence}
    found = Found(
        trials=outcome(lab),
        promotions=[(ordinals[p.trial], p.program, p.score, p.gain, p.reason) for p in ledger.promotions(campaign.id)],
        measurements={
            (trial.ordinal, m.id.removeprefix(trial.id).rpartition("-")[0]):
            (trial.program, m.seed, m.eval_seed, str(m.status), m.score)
            for trial in sequence for m in ledger.measurements(trial.number) if m.status != "infra_error"
        },
        noise_sd=campaign.noise_sd, seconds=seconds,
    )  # fmt: skip
    ledger.close()
    return found


def run(directory: Path, words: list[str], environment: dict[str, str]) -> Found:
    """Run a campaign to its end with the real command."""
    began = time.monotonic()
    done = subprocess.run([*AUTOLAB, "run", "-C", str(directory), *words], env=environment, capture_output=True,
                          text=True)  # fmt: skip
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"autolab run {' '.join(words)}: {done.stderr}")
    return found_in(directory, seconds)


def differences(one: Found, other: Found) -> dict[str, int]:
    """How many trials, promotions and measurements are not the same in both."""
    trials = sum(a != b for a, b in zip(one.trials, other.trials, strict=False))
    promotions = sum(a != b for a, b in zip(one.promotions, other.promotions, strict=False))
    keys = one.measurements.keys() | other.measurements.keys()
    return {
        "trials": trials + abs(len(one.trials) - len(other.trials)),
        "promotions": promotions + abs(len(one.promotions) - len(other.promotions)),
        "measurements": sum(one.measurements.get(key) != other.measurements.get(key) for key in keys),
        "noise": int(one.noise_sd != other.noise_sd),
    }


def main() -> int:
    """Print the tables; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--slots", type=int, default=2, help="on both sides: the same look-ahead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    words = ["--trials", str(options.trials), "--slots", str(options.slots), "--seed", str(options.seed)]
    with folder() as root, HubServer(root / "hub") as hub:
        here, there = (write_lab(root / name, fates()) for name in ("here", "there"))
        environment = pointed_at(hub, root / "home")
        local = run(here, [*words, "--executor", "local"], environment)
        jobs = run(there, [*words, *JOBS], environment)
        looks = len(hub.asked("GET /api/jobs/alice[?]"))
        asked, moved = len(hub.requests) - looks, len(hub.store.requests)
        launched, cost = len(hub.jobs), sum(hub.bill().values())
    print(f"{'trial':>5} {'local':<28}{'hf-jobs':<28}{'score':>10}  parent, note")
    for one, other in zip(local.trials, jobs.trials, strict=False):
        said = [f"{row[1]} {row[2] or ''}" for row in (one, other)]
        mark = "" if one == other else f"   DIFFERENT: {other}"
        score = f"{one[3]:.5f}" if isinstance(one[3], float) else ""
        print(f"{one[0]:>5} {said[0]:<28}{said[1]:<28}{score:>10}  {one[5]}, {str(one[6])[:60]}{mark}")
    count = len(jobs.measurements)
    print(
        "statuses       "
        + ", ".join(f"{n} {name}" for name, n in Counter(str(t[1]) for t in local.trials).items())
    )
    print(f"time           local {local.seconds:.1f} s, hf-jobs {jobs.seconds:.1f} s:"
          f" {(jobs.seconds - local.seconds) / len(jobs.trials):+.2f} s a trial")  # fmt: skip
    print(f"the Hub        {launched} jobs for {count} measurements, ${cost:.4f};"
          f" {asked / count:.1f} requests a measurement (and {looks} looks at the list of jobs, at"
          f" 0.2 s), {moved / count:.1f} to its store of files")  # fmt: skip
    found = differences(local, jobs)
    enough = len(local.trials) == options.trials + 1
    print("differences    " + ", ".join(f"{n} {name}" for name, n in found.items()))
    met = enough and not any(found.values())
    print(f"bar: {options.trials} trials and the baseline are the same: {'met' if met else 'MISSED'}")
    return not met


if __name__ == "__main__":
    sys.exit(main())
