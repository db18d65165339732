"""`autolab` commands that measure on Hugging Face, against the stand-in Hub with the real client."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import rows
from stand_ins.hub import Fault, HubServer

from autolab.cli.main import cli
from autolab.errors import LabError

pytestmark = pytest.mark.hub

ON_JOBS = ["run", "--executor", "hf-jobs", "--flavor", "cpu-basic", "--slots", "2"]


def call(lab: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [words[0], *words[1:], "-C", str(lab)])


def refusal(lab: Path, *words: str) -> str:
    """The one line that a command is refused with."""
    problem = call(lab, *words).exception
    assert isinstance(problem, LabError), problem
    assert "\n" not in str(problem)
    return str(problem)


def test_smoke_tries_an_account_end_to_end_and_leaves_the_lab_alone(toy: Path, hub: HubServer) -> None:
    said = call(toy, "jobs", "smoke", "--json")
    found = json.loads(said.output)
    assert said.exit_code == 0 and found["ok"] and found["flavor"] == "cpu-basic"
    assert found["cost_usd"] == pytest.approx(sum(hub.bill().values()))
    assert not (toy / ".autolab" / "ledger.sqlite").exists()


def test_smoke_tries_the_image_of_the_lab(toy: Path, hub: HubServer) -> None:
    with open(toy / "task.yaml", "a", encoding="utf-8") as file:
        file.write("jobs: {image: 'alice/image:3'}\n")
    call(toy, "jobs", "smoke")
    (job,) = hub.jobs.values()
    assert job.spec["dockerImage"] == "alice/image:3"


def test_a_campaign_stays_where_it_began_and_knows_what_it_cost(toy: Path, hub: HubServer) -> None:
    assert call(toy, *ON_JOBS, "--trials", "1", "--max-usd", "1").exit_code == 0
    assert "hf-jobs, not local" in refusal(toy, "run", "--executor", "local")
    assert "cpu-basic, not t4-small" in refusal(toy, *ON_JOBS[:3], "--flavor", "t4-small")
    assert "alice, not bob" in refusal(toy, "run", "--namespace", "bob")
    before = len(hub.jobs)
    assert call(toy, "run", "--trials", "2", "--slots", "2").exit_code == 0  # nothing is said: as it began
    assert len(hub.jobs) > before
    table = rows(toy / "research_results.tsv")
    assert {row["executor"] for row in table} == {"hf-jobs"}
    own = [job.cost() for job in hub.jobs.values() if not job.labels["stage"].startswith("control")]
    assert sum(float(row["cost_usd"]) for row in table) == pytest.approx(sum(own))
    assert {row["job_id"] for row in table} <= set(hub.jobs)
    assert f"{len(hub.jobs)} jobs" in call(toy, "status").output
    assert "| cpu-basic | COMPLETED |" in call(toy, "morning").output


def test_a_replay_of_a_campaign_on_jobs_is_a_job(toy: Path, hub: HubServer) -> None:
    call(toy, *ON_JOBS, "--trials", "1")
    before = len(hub.jobs)
    said = call(toy, "replay", "master")
    assert said.exit_code == 0 and "the same digits" in said.output
    assert len(hub.jobs) == before + 1


def test_a_campaign_that_goes_on_waits_for_a_hub_that_is_away(
    toy: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolab.cli.run.START_PAUSE", 0.01)
    call(toy, *ON_JOBS, "--trials", "1")
    hub.faults.append(Fault("GET /api/jobs/hardware", times=4))
    said = call(toy, "run", "--trials", "2", "--slots", "2")
    assert said.exit_code == 0 and said.output.count("waiting for the Hub") == 1
    assert rows(toy / "research_results.tsv")[-1]["executor"] == "hf-jobs"


def test_what_keeps_jobs_from_starting_is_one_line_and_no_campaign_is_begun(
    toy: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = ON_JOBS[:3]
    assert "no flavor is named" in refusal(toy, *on)
    assert "not the name of a bucket" in refusal(toy, *ON_JOBS, "--bucket", "nope")
    assert "not the name of a bucket" in refusal(toy, "jobs", "smoke", "--bucket", "alice/../x")
    assert "unknown flavor 'x1'" in refusal(toy, *on, "--flavor", "x1")
    assert "may" in refusal(toy, *ON_JOBS, "--namespace", "bob")
    assert "--max-usd" in refusal(toy, *on, "--flavor", "h200", "--max-usd", "0.01")
    for option in (["--flavor", "h200"], ["--bucket", "a/b"], ["--fresh"]):
        assert "--executor hf-jobs" in refusal(toy, "run", *option)
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in refusal(toy, *ON_JOBS)
    assert not hub.jobs and "no campaign has run" in refusal(toy, "status")


def test_what_old_jobs_left_in_the_bucket_is_pruned_but_not_paid_results(toy: Path, hub: HubServer) -> None:
    call(toy, *ON_JOBS, "--trials", "1")
    files = hub.buckets["alice/autolab"].files
    assert (
        "nothing to prune" in call(toy, "cache", "prune", "--bucket", "alice/autolab", "--days", "0").output
    )
    for path, file in list(files.items()):
        files[path] = dataclasses.replace(file, uploaded=file.uploaded - 3 * 86_400)
    shown = call(toy, "cache", "prune", "--bucket", "alice/autolab", "--days", "2")
    assert "bundle.tar" in shown.output and "can go" in shown.output and len(files) > 10
    call(toy, "cache", "prune", "--bucket", "alice/autolab", "--days", "2", "--yes")
    assert {path.split("/")[0] for path in files} == {
        "measurements",
        "runner",
    }  # the runner is of this version
