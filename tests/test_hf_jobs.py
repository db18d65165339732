"""Measuring as HF Jobs: the same results as on this machine, nothing secret in a job, and nothing paid for twice."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cloud import BUCKET, JOBS, all_is_counted, begin, cloud, launches, measure, run, write_toy_with_data
from conftest import rows, write_toy
from measuring import needs_bubblewrap
from scripted import outcome, search
from stand_ins.hub import ALICE, BOB, HubServer, buckets, repos

from autolab.campaign.single import run_all
from autolab.cli.begin import new_campaign
from autolab.cli.executors import Place, executor_for
from autolab.errors import LabError
from autolab.execution import job_store, machine
from autolab.execution.executor import Executor
from autolab.execution.hf_jobs import host_name
from autolab.hub.connection import connect
from autolab.lab import Lab, open_lab
from autolab.ledger.records import Proposal, Status
from autolab.ledger.views import TABLE
from autolab.task import Edit

pytestmark = pytest.mark.hub

SCRIPT = [
    0.6,
    0.2,
    Proposal(
        "fails", (Edit(path="train.py", search="RATE = 0.5", replace="RATE = 1 / 0"),), "rates, & so on"
    ),
]


@dataclass
class Finished:
    """A campaign that has run, and what it ran on."""

    root: Path
    hub: HubServer
    monkeypatch: pytest.MonkeyPatch
    lab: Lab


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """One campaign for all tests that only look at it, or run others beside it."""
    root = tmp_path_factory.mktemp("finished")
    with cloud(root) as (hub, monkeypatch):
        lab = begin(root / "toy")
        assert run(lab, SCRIPT) == "all trials are done"
        yield Finished(root, hub, monkeypatch, lab)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with cloud(tmp_path) as (server, _):
        yield server


def test_jobs_find_what_this_machine_finds(finished: Finished) -> None:
    local, _, _ = search(write_toy(finished.root / "local"), SCRIPT)
    assert outcome(finished.lab) == outcome(local)
    assert [trial.status for trial in finished.lab.ledger.trials()] == ["ok", "ok", "ok", "crash"]


def test_every_trial_names_its_job_and_its_cost(finished: Finished) -> None:
    table, bill = rows(finished.lab.root / TABLE), finished.hub.bill()
    assert [row["executor"] for row in table[1:]] == ["hf-jobs"] * 3
    assert all(row["job_id"] in bill for row in table)
    # A control is what another trial needed: it costs the campaign, and is in nobody's row.
    own = sum(job.cost() for job in finished.hub.jobs.values() if job.labels["stage"] != "control-1")
    assert sum(float(row["cost_usd"]) for row in table) == pytest.approx(own, rel=1e-6)
    assert all_is_counted(finished.lab, finished.hub)


def _stages(hub: HubServer, before: int = 0) -> Counter[str]:
    """How many jobs of which stage were launched after the first so many."""
    return Counter(job.labels["stage"] for job in list(hub.jobs.values())[before:])


def test_every_job_says_what_machine_it_ran_on(finished: Finished) -> None:
    here = host_name("cpu-basic", machine.describe(gpu=False))
    ledger = finished.lab.ledger
    assert {m.host for trial in ledger.trials() for m in ledger.measurements(trial.number)} == {here}


def test_each_measurement_is_one_job(finished: Finished) -> None:
    assert len(launches(finished.hub)) == len(set(launches(finished.hub)))
    assert _stages(finished.hub) == {"screen": 3 + 3, "replicate": 2, "control-1": 3, "confirm": 2}


def test_labels_say_what_a_job_is_in_letters_that_the_hub_allows(finished: Finished) -> None:
    (job,) = [job for job in finished.hub.jobs.values() if job.labels["trial"].endswith("-0004")]
    lab, campaign = finished.lab.ledger.meta("lab"), finished.lab.campaign
    expected = {
        "made-by": "autolab", "lab": lab, "campaign": campaign.id, "trial": f"{lab}-0004", "stage": "screen",
        "attempt": "1", "surface": "rates----so-on", "key": campaign.key,
        "measurement": f"{lab}-0004-screen-0-1",
    }  # fmt: skip
    assert {name: job.labels[name] for name in expected} == expected
    assert all(re.fullmatch(r"[\w-]{1,100}", value, re.ASCII) for value in job.labels.values())


def test_a_launch_carries_no_token_and_no_secret(finished: Finished) -> None:
    secret = finished.lab.ledger.meta("secret") or ""
    for job in finished.hub.jobs.values():
        said = json.dumps(job.spec)
        assert not job.spec.get("secrets") and not job.spec.get("environment")
        assert ALICE not in said and secret not in said and "HF_TOKEN" not in said
        writable = [v["path"] for v in job.spec["volumes"] if not v.get("readOnly")]
        assert writable == [f"out/{job.labels['launch']}"]
    sent = [path for path in finished.hub.buckets[BUCKET].files if path.startswith("bundles/")]
    assert sent and not any(secret.encode() in buckets.read_file(finished.hub, BUCKET, path) for path in sent)


# results that need not be paid for again ------------------------------------------------------------


@needs_bubblewrap
def test_the_same_campaign_again_pays_for_fresh_controls_alone(finished: Finished) -> None:
    before = len(finished.hub.jobs)
    lab, ledger = finished.lab, finished.lab.ledger
    again = new_campaign(lab.root, ledger, profile=None, slots=2, place=JOBS, max_usd=None)
    assert run(again, SCRIPT) == "all trials are done"
    assert _stages(finished.hub, before) == {"control-1": 3}
    found, first = outcome(again), outcome(lab)
    assert [trial[:4] for trial in found] == [trial[:4] for trial in first]
    measured = [m for t in ledger.trials(again.campaign.id) for m in ledger.measurements(t.number)]
    copies = [m for m in measured if m.stage != "control-1"]
    lab_name = ledger.meta("lab") or ""
    assert all(m.cached_from.startswith(lab_name) and not m.cost_usd and not m.job for m in copies)


@needs_bubblewrap
def test_a_colleague_who_shares_the_bucket_pays_for_fresh_controls_alone(finished: Finished) -> None:
    before = len(finished.hub.jobs)
    colleague = begin(write_toy(finished.root / "colleague"))
    assert run(colleague, [0.6]) == "all trials are done"
    assert _stages(finished.hub, before) == {"control-1": 3}
    assert [trial[:4] for trial in outcome(colleague)] == [trial[:4] for trial in outcome(finished.lab)][:2]
    (first, *_) = colleague.ledger.measurements(1)
    assert first.cached_from.startswith(finished.lab.ledger.meta("lab") or "?")


def test_fresh_measures_and_pays_again(finished: Finished) -> None:
    before = len(finished.hub.jobs)
    measured = measure(begin(write_toy(finished.root / "fresh")), place=replace(JOBS, fresh=True))
    assert measured.status is Status.OK and not measured.cached_from
    assert len(finished.hub.jobs) == before + 1


def test_a_replay_is_always_measured(finished: Finished) -> None:
    before, lab = len(finished.hub.jobs), finished.lab
    (first, *_) = lab.ledger.measurements(1)
    again = lab.again(first, fresh=None)
    (replayed,) = asyncio.run(run_all(lab, executor_for(lab, 1), [(again, first.clock)]))
    assert replayed.score == first.score and replayed.job and not replayed.cached_from
    assert len(finished.hub.jobs) == before + 1


def _entries(finished: Finished) -> tuple[str, dict[str, Any]]:
    path = next(p for p in finished.hub.buckets[BUCKET].files if p.startswith("measurements/"))
    return path, json.loads(buckets.read_file(finished.hub, BUCKET, path))


@needs_bubblewrap
@pytest.mark.parametrize(
    "poison",
    [
        lambda entry: b"not JSON",
        lambda entry: json.dumps({**entry, "key": "0" * 40}).encode(),
        lambda entry: json.dumps({**entry, "measurement": "somebody-elses"}).encode(),
        lambda entry: json.dumps({**entry, "result": "[]"}).encode(),
        lambda entry: json.dumps(
            {**entry, "result": entry["result"].replace('"ok"', '"infra_error"').replace('"crash"', '"infra_error"')}
        ).encode(),
        lambda entry: json.dumps([entry]).encode(),
        lambda entry: b"[" * 100_000,
    ],
    ids=["not JSON", "other key", "other name", "no result", "of a machine", "a list", "deep"],
)  # fmt: skip
def test_a_poisoned_entry_counts_as_none(finished: Finished, poison: Any) -> None:
    path, entry = _entries(finished)
    key, api = path.removeprefix("measurements/").removesuffix(".json"), connect()
    assert job_store.shared_result(api, BUCKET, key) is not None
    api.batch_bucket_files(BUCKET, add=[(poison(entry), path)])
    assert job_store.shared_result(api, BUCKET, key) is None
    api.batch_bucket_files(BUCKET, add=[(json.dumps(entry).encode(), path)])


# what agent-written code can see --------------------------------------------------------------------

SNOOP = '''\
"""Looks for what it must not see, and says how far it looked."""
import base64, json, os, sys

RATE = 0.5
NEEDLES = {needles}
SKIPPED = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/sys", "/proc", sys.prefix, sys.base_prefix)


def answer(state):
    return state["value"]


def look(path, seen):
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            text = file.read(4 << 20) or b""
    except OSError:
        return
    seen.append(path)
    for name, needle in NEEDLES.items():
        if base64.b85decode(needle) in text:
            print("FOUND", name, path)


if __name__ == "__main__":
    seen = []
    for name in os.listdir("/proc"):
        for file in ("environ", "cmdline", "mountinfo", "maps", "status", "cgroup"):
            if name.isdigit() or name == "self":
                look(f"/proc/{{name}}/{{file}}", seen)
    for folder, below, names in os.walk("/"):
        below[:] = [name for name in below if not os.path.join(folder, name).startswith(SKIPPED)]
        for name in names:
            look(os.path.join(folder, name), seen)
    print("LOOKED AT", len(seen))
    for name, value in os.environ.items():
        print("VARIABLE", name)
        for what, needle in NEEDLES.items():
            if base64.b85decode(needle) in f"{{name}}={{value}}".encode():
                print("FOUND", what, "in the environment")
    with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "model.json"), "w") as file:
        json.dump({{"value": RATE, "seed": int(os.environ["AUTOLAB_SEED"])}}, file)
    with open(os.environ["AUTOLAB_CLOCK"], "w") as file:
        json.dump({{"tokens": 10, "steps": 10, "pace": []}}, file)
'''


@needs_bubblewrap
def test_code_in_a_job_finds_no_token_no_secret_and_no_held_out_data(tmp_path: Path) -> None:
    with cloud(tmp_path) as (hub, monkeypatch):
        monkeypatch.setenv("LAB_VARIABLE", "of-the-lab-alone")
        directory = write_toy_with_data(tmp_path / "toy")
        with open_lab(directory, create=True) as ledger:
            secret = ledger.meta("secret") or ""
        needles = {
            "token": ALICE, "variable": "HF_TOKEN=", "server": "of-the-lab-alone", "secret": secret,
            "jobs' secret": hashlib.sha256(f"{secret}/jobs".encode()).hexdigest(),
            "held-out": "held out held out", "bundle": "bundle.tar", "train": "to learn to learn",
        }  # fmt: skip
        hidden = {name: base64.b85encode(needle.encode()).decode() for name, needle in needles.items()}
        (directory / "train.py").write_text(SNOOP.format(needles=hidden))
        lab = begin(directory)
        measured = measure(lab)
        assert (measured.status, measured.sandbox) == (Status.OK, "bubblewrap"), measured.cause
        (job,) = hub.jobs.values()
        log = buckets.read_file(hub, BUCKET, f"out/{job.labels['launch']}/log.txt").decode()
    found = {line.split()[1] for line in log.splitlines() if line.startswith("FOUND")}
    assert found == {"train"}, log
    looked = int(re.search(r"LOOKED AT (\d+)", log)[1])  # type: ignore[index]
    assert looked > 20
    variables = {line.split()[1] for line in log.splitlines() if line.startswith("VARIABLE")}
    assert not {name for name in variables if name.startswith(("HF_", "JOB_", "AUTOLAB_SECRET"))}


# data -----------------------------------------------------------------------------------------------


def test_data_is_mounted_read_only_as_it_was_when_it_was_sent(tmp_path: Path, hub: HubServer) -> None:
    lab = begin(write_toy_with_data(tmp_path / "toy"))
    trial = lab.ledger.trial(1)

    async def measured(executor: Executor, replicate: int) -> Status | None:
        found = lab.needed(trial, "screen", replicate)
        bundle = executor.stage(found, lab.program(trial))
        return (await executor.run(bundle, found, executor.slots[0])).status

    async def change_it_meanwhile() -> list[Status | None]:
        executor = executor_for(lab, 1)
        first = await measured(executor, 0)
        connect().upload_file(path_or_fileobj=b"other text", path_in_repo=_path_of(repo(), "val/text.txt"),
                              repo_id="alice/autolab-data", repo_type="dataset")  # fmt: skip
        return [first, await measured(executor, 1)]

    def repo() -> repos.Repo:
        return hub.repos["datasets", "alice/autolab-data"]

    assert asyncio.run(change_it_meanwhile()) == [Status.OK, Status.OK]
    mounted = [v for job in hub.jobs.values() for v in job.spec["volumes"] if v["type"] == "dataset"]
    assert repo().private and all(volume["readOnly"] for volume in mounted)
    assert [volume["revision"] for volume in mounted] == [repo().commits[-2].name] * 2
    with pytest.raises(LabError, match=r"val/text\.txt"):  # who sends it anew looks at what is there
        asyncio.run(measured(executor_for(lab, 1), 2))


def _path_of(repo: repos.Repo, name: str) -> str:
    return next(path for path in repo.commits[-1].tree if path.endswith(name))


def test_a_file_that_was_changed_on_the_hub_ends_the_job_and_is_named(tmp_path: Path, hub: HubServer) -> None:
    lab = begin(write_toy_with_data(tmp_path / "toy"))
    damaged: list[str] = []

    def damage(job: object) -> bool:
        repo = hub.repos["datasets", "alice/autolab-data"]
        tree, path = repo.commits[-1].tree, _path_of(repo, "val/text.txt")
        tree[path] = tree[_path_of(repo, "train/text.txt")]
        damaged.append(path)
        return False

    hub.stuck = damage
    measured = measure(lab)
    assert measured.status is Status.INFRA_ERROR and measured.score is None
    assert "val/text.txt" in measured.cause
    assert damaged


def test_data_without_a_manifest_cannot_be_sent(tmp_path: Path, hub: HubServer) -> None:
    directory = write_toy_with_data(tmp_path / "toy")
    (directory / "prepare.py").write_text(
        "import os\nopen(os.environ['AUTOLAB_DATA'] + '/text', 'w').close()\n"
    )
    with pytest.raises(LabError, match=r"holds no prepared data \(`prepare` must leave a manifest"):
        measure(begin(directory))
    assert not hub.jobs


# what cannot work is said before anything begins ----------------------------------------------------


@pytest.mark.parametrize(
    ("place", "token", "public", "said"),
    [
        (replace(JOBS, flavor="h900"), ALICE, False, r"unknown flavor 'h900' \(one of: cpu-basic"),
        (replace(JOBS, namespace="bob"), ALICE, False, "bob.*no write access"),
        (replace(JOBS, bucket="bob/theirs"), ALICE, False, "bob/theirs.*no write access"),
        (JOBS, "", False, "there is no Hugging Face token"),
        (JOBS, BOB + "x", False, "does not accept the token"),
        (JOBS, ALICE, True, "bucket alice/autolab: is public"),
    ],
    ids=["flavor", "namespace", "bucket", "no token", "wrong token", "public bucket"],
)
def test_what_cannot_work_is_one_line_and_begins_nothing(
    tmp_path: Path, place: Place, token: str, public: bool, said: str
) -> None:
    with cloud(tmp_path) as (hub, monkeypatch):
        hub.buckets[BUCKET] = buckets.Bucket(BUCKET, private=not public)
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(LabError, match=said) as refused:
            begin(tmp_path / "toy", place=place)
        assert "\n" not in str(refused.value)
        with open_lab(tmp_path / "toy") as ledger:
            assert ledger.campaigns() == []
        assert not hub.jobs


def test_a_budget_below_one_job_begins_nothing(tmp_path: Path, hub: HubServer) -> None:
    with pytest.raises(LabError, match=r"one job can cost \$0.001169, and \$0.001 is the budget"):
        begin(tmp_path / "toy", max_usd=0.001)
