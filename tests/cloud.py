"""Campaigns and single measurements on hf-jobs, against a stand-in Hub that really runs the jobs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import EVALUATE, TASK, write_toy
from scripted import Scripted
from stand_ins.hub import HubServer, machines
from stand_ins.hub.jobs import Job
from stand_ins.hub.running import use

from autolab.campaign.loop import CampaignRun, Event, Limits
from autolab.cli.begin import earlier_campaign, new_campaign
from autolab.cli.executors import Place, executor_for
from autolab.execution import hf_jobs, job_store, patience
from autolab.hub.jobs import launching
from autolab.lab import Lab, open_lab
from autolab.ledger.records import Measurement

JOBS = Place("hf-jobs", flavor="cpu-basic")
MOST = (
    7 * 0.000167
)  # what a screen of the toy task can cost: 340 s, and the time that the Hub takes to end it
BUCKET = "alice/autolab"

# A runner that measures nothing: its score depends on the seed alone. `before` runs with `result` (a dict), `said`
# (the receipt) and `left` (files for the bucket by name, in their order) in reach.
QUICK = """
import argparse, hashlib, json, os, sys, tarfile, time
parser = argparse.ArgumentParser()
for name in ("ticket", "bundle", "sha256", "out", "data", "manifest"):
    parser.add_argument("--" + name)
given = parser.parse_args()
spec = json.load(tarfile.open(given.bundle).extractfile("spec.json"))
result = {{"id": spec["id"], "status": "ok", "cause": "", "host": "quick", "sandbox": "bubblewrap",
          "evidence": "measured", "log_excerpt": "", "metrics": {{"loss": 1.4 + spec["seed"] % 1000 / 1e6}}}}
said = {{"ticket": given.ticket, "bundle": given.sha256}}
left = {{"log.txt": "quick", "measurement.json": None, "receipt.json": None}}
{before}
text = json.dumps(result)
said.setdefault("measurement", hashlib.sha256(text.encode()).hexdigest())
for name, content in left.items():
    with open(os.path.join(given.out, name), "w") as file:
        file.write(content or (text if name == "measurement.json" else json.dumps(said)))
"""


@contextlib.contextmanager
def cloud(tmp_path: Path) -> Iterator[tuple[HubServer, pytest.MonkeyPatch]]:
    """A Hub of one's own, with the client of this process pointed at it and quick to ask."""
    with HubServer(tmp_path / "hub") as hub, pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, hub, tmp_path / "home")
        monkeypatch.setenv("AUTOLAB_POLL_SECONDS", "0.05")
        yield hub, monkeypatch


@contextlib.contextmanager
def quick_cloud(tmp_path: Path) -> Iterator[tuple[HubServer, pytest.MonkeyPatch]]:
    """A Hub with quick jobs, a client with little patience, and two measurements for a baseline."""
    with cloud(tmp_path) as (hub, monkeypatch):
        quick_runner(monkeypatch)
        monkeypatch.setattr("autolab.lab.BASELINE_REPLICATES", 2)
        monkeypatch.setattr(patience, "FIRST_PAUSE", 0.02)
        monkeypatch.setattr(patience, "WORTH_SAYING", 0.04)
        monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.2)
        monkeypatch.setattr(launching, "LOOK_PAUSES", (0.0, 0.05))
        monkeypatch.setattr(hf_jobs, "LATE_LOOK_SECONDS", 0.05)
        yield hub, monkeypatch


@pytest.fixture
def quick_place(tmp_path: Path) -> Iterator[tuple[HubServer, pytest.MonkeyPatch]]:
    """Of which `quick_hub` and `quick_patch` are the parts; a test module calls them `place`, `hub` and `patch`."""
    with quick_cloud(tmp_path) as found:
        yield found


@pytest.fixture
def quick_hub(place: tuple[HubServer, pytest.MonkeyPatch]) -> HubServer:
    """A Hub with quick jobs."""
    return place[0]


@pytest.fixture
def quick_patch(place: tuple[HubServer, pytest.MonkeyPatch]) -> pytest.MonkeyPatch:
    """What such a Hub and its client are changed with."""
    return place[1]


def quick_runner(monkeypatch: pytest.MonkeyPatch, before: str = "") -> None:
    """Let jobs run something quick in place of the runner."""
    content = QUICK.format(before=before).encode()
    folder = f"runner/{len(content)}-{abs(hash(content))}"
    monkeypatch.setattr(job_store, "runner_files", lambda: (folder, {"remote.py": content}))


def begin(
    directory: Path, *, seed: int = 0, slots: int = 2, place: Place = JOBS, max_usd: float | None = None
) -> Lab:
    """Go on with the campaign in a directory, or begin one on jobs; writes the toy task if nothing is there."""
    if not directory.exists():
        write_toy(directory)
    ledger = open_lab(directory, create=True)
    lab = earlier_campaign(directory, ledger, None, place) if ledger.campaigns() else None
    return lab or new_campaign(
        directory, ledger, profile=None, slots=slots, place=place, max_usd=max_usd, seed=seed
    )


def run(
    lab: Lab,
    script: Sequence[object] = (),
    *,
    slots: int = 2,
    max_usd: float | None = None,
    place: Place = JOBS,
    listener: Callable[[CampaignRun, Event], None] = lambda work, event: None,
) -> str:
    """Run a campaign with a script, by default the baseline alone; why it ended."""
    executor = executor_for(lab, slots, place=place, limit_usd=max_usd)
    work = CampaignRun(lab, Scripted(script), executor, Limits(trials=len(script), max_usd=max_usd))
    work.listener = lambda event: listener(work, event)
    return asyncio.run(work.run())


def measure(
    lab: Lab,
    *,
    place: Place = JOBS,
    heard: Callable[[str], None] = lambda text: None,
    begun: Callable[[], object] = lambda: None,
) -> Measurement:
    """One measurement of the baseline, or the next attempt at it, recorded; `begun` is called when all is set up."""
    trial = next(lab.ledger.sequence(lab.campaign.id))
    executor = executor_for(lab, 1, place=place)
    executor.notice = heard
    begun()
    measurement = lab.needed(trial, "screen")
    bundle = executor.stage(measurement, lab.program(trial))
    lab.ledger.start_measurement(measurement)
    return lab.record(asyncio.run(executor.run(bundle, measurement, executor.slots[0])))


def started(lab: Lab) -> Measurement:
    """The first measurement of the baseline, in the ledger and not begun."""
    measurement = lab.needed(next(lab.ledger.sequence(lab.campaign.id)), "screen")
    lab.ledger.start_measurement(measurement)
    return measurement


def put_job(hub: HubServer, labels: dict[str, str], *, ended: bool = False) -> Job:
    """A job that appears on the Hub without having been launched: it sleeps for a minute, or has done so."""
    spec = {"command": ["sleep", "60"], "flavor": "cpu-basic"}
    job = Job("alice", spec, len(hub.jobs) + 1, labels=dict(labels))
    hub.jobs[job.id] = job
    if ended:
        job.start()
        job.finish("COMPLETED")
    else:
        threading.Thread(target=machines.run, args=(hub, job), name=f"job-{job.id}", daemon=True).start()
    return job


def launches(hub: HubServer) -> list[str]:
    """The measurement of each job that was ever launched, in order."""
    return [job.labels["measurement"].partition("-")[2] for job in hub.jobs.values()]


def job_rows(lab: Lab) -> list[tuple[str, float | None]]:
    """(stage, cost) of each job in the ledger, in order."""
    found = lab.ledger.rows.execute("SELECT stage, cost_usd FROM job ORDER BY launched_at, ticket")
    return [(str(row[0]), row[1]) for row in found]


def all_is_counted(lab: Lab, hub: HubServer) -> bool:
    """Whether the ledger and the Hub agree on what every job has cost."""
    return round(sum(cost or 0 for _, cost in job_rows(lab)) * 1e6) == round(sum(hub.bill().values()) * 1e6)


PREPARE = '''\
"""Two files: one to learn from, one that nobody may see."""
import hashlib, json, os

data = os.environ["AUTOLAB_DATA"]
files = {"train/text.txt": "to learn " * 50, "val/text.txt": "held out " * 50}
if not os.path.exists(os.path.join(data, "manifest.json")):
    for name, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(data, name)), exist_ok=True)
        with open(os.path.join(data, name), "w") as file:
            file.write(text)
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    with open(os.path.join(data, "manifest.json"), "w") as file:
        json.dump({"files": hashes}, file)
'''
DATA_TASK = TASK.replace("[evaluate.py]", "[evaluate.py, prepare.py]").replace(
    "commands: {", "commands: {prepare: [python, prepare.py], "
)


def write_toy_with_data(directory: Path) -> Path:
    """Write the toy task with data: a file to learn from, and one that only the evaluator may see."""
    write_toy(directory, task=DATA_TASK)
    (directory / "prepare.py").write_text(PREPARE)
    read_it = 'assert "held out" in open(os.environ["AUTOLAB_DATA"] + "/val/text.txt").read()\ncommand ='
    (directory / "evaluate.py").write_text(EVALUATE.replace("command =", read_it))
    return directory
