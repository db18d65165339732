"""Jobs stay within what people allow, are never launched twice, and cost what the Hub says they cost."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import JobInfo, close_session
from stand_ins.hub import ALICE, BOB, Fault, HubServer
from stand_ins.hub.clock import now
from stand_ins.hub.handler import Handler
from stand_ins.hub.jobs import Job
from stand_ins.hub.running import run_script, use

from autolab.cli.main import main
from autolab.errors import LabError
from autolab.hub.connection import connect
from autolab.hub.jobs.flavors import hardware
from autolab.hub.jobs.launching import launch, launched
from autolab.hub.jobs.listing import billed_seconds, listed
from autolab.hub.jobs.spending import add_up
from autolab.ledger.store import Ledger

pytestmark = pytest.mark.hub

Run = Callable[..., tuple[int, str]]
DAY = 86400
LAUNCH = ["launch", "--flavor", "h200", "--timeout", "6m", "--max-usd", "1", "--", "true"]  # $0.50


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub without a free machine: what is launched waits."""
    with HubServer(tmp_path / "hub") as server:
        use(monkeypatch, server, tmp_path / "home")
        monkeypatch.delenv("AUTOLAB_ROLE", raising=False)
        monkeypatch.setattr("autolab.hub.jobs.launching.time.sleep", lambda seconds: None)
        server.stuck = lambda job: True
        yield server


@pytest.fixture
def script(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`script("status")` runs `scripts/jobs.py status` in the lab: its exit code and what it printed."""
    return lambda *words: run_script(monkeypatch, capsys, lab, "jobs", *words)


@pytest.fixture
def autolab(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`autolab("ls")` runs `autolab jobs ls` in the lab: its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.chdir(lab)
        monkeypatch.setattr(sys, "argv", ["autolab", "jobs", *words])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def ledger_of(lab: Path) -> Ledger:
    ledger = Ledger(lab / ".autolab" / "ledger.sqlite")
    ledger.create_campaign(
        name="c", task="toy", key="k", config={}, baseline=ledger.add_program({"a.py": "x"})
    )
    return ledger


def a_job(hub: HubServer, flavor: str = "h200", *, ran: float | None = None, ended: bool = True,
          ago: float = 3600.0, **labels: str) -> Job:  # fmt: skip
    """A job of Autolab that was made `ago` seconds ago and then ran for `ran` seconds."""
    job = Job(
        "alice", {"command": ["true"], "flavor": flavor}, len(hub.jobs) + 1,
        labels={"made-by": "autolab", **{name.replace("_", "-"): value for name, value in labels.items()}},
        stage="COMPLETED" if ended else "SCHEDULING" if ran is None else "RUNNING", created=now() - ago,
    )  # fmt: skip
    if ran is not None:
        job.started = job.created if ended else now() - ran
        job.finished = job.started + ran if ended else None
    hub.jobs[job.id] = job
    return job


def last(output: str) -> str:
    return output.rstrip("\n").split("\n")[-1]


# within what people allow ---------------------------------------------------------------------------


def test_a_budget_counts_the_last_day_and_what_runs_at_its_most(script: Run, hub: HubServer) -> None:
    a_job(hub, ran=360.0)  # $0.50, paid
    a_job(hub, ran=30.0, ended=False, most_usd_micro="1000000")
    a_job(hub, ran=3600.0, ago=3 * DAY)  # $5.00, of another day
    code, output = script(*LAUNCH[:-2], "--budget-usd", "1.99", *LAUNCH[-2:])
    assert (code, last(output)) == (
        1,
        "[refused] h200 for 6m can cost $0.50, Autolab's jobs of the last 24 hours come to $1.50, and --budget-usd "
        "is $1.99 (mend: --timeout 5m or less, or a cheaper flavor)",
    )
    assert len(hub.jobs) == 3
    assert script(*LAUNCH[:-2], "--budget-usd", "2", *LAUNCH[-2:])[0] == 0
    assert len(hub.jobs) == 4
    code, output = script(*LAUNCH[:-2], "--budget-usd", "2", *LAUNCH[-2:])
    assert code == 1 and "come to $2.00" in output and "cancel a job that nobody waits for" in output


def test_an_unfinished_job_without_a_note_counts_as_long_as_the_hub_lets_it_run(
    script: Run, hub: HubServer
) -> None:
    a_job(hub, ended=False, ago=2 * DAY)  # waits for a machine: 30 minutes of it are $2.50
    code, output = script(*LAUNCH[:-2], "--budget-usd", "2.9", *LAUNCH[-2:])
    assert code == 1 and "come to $2.50" in output


def test_two_launches_at_once_do_not_both_spend_what_is_left(hub: HubServer, tmp_path: Path) -> None:
    def one() -> None:
        limits: dict[str, Any] = {"flavor": "h200", "timeout": "6m", "max_usd": 1.0, "budget_usd": 0.6}
        try:
            launch(connect(), "alice", ["true"], lock=tmp_path / "lock", **limits)
        except LabError as problem:
            refused.append(str(problem))

    refused: list[str] = []
    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.jobs) == 1 and len(refused) == 2 and "--budget-usd is $0.60" in refused[0]


def test_a_budget_that_cannot_be_counted_is_not_guessed_at(
    script: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_job(hub, "retired-gpu", ran=60.0)
    code, output = script(*LAUNCH[:-2], "--budget-usd", "9", *LAUNCH[-2:])
    assert code == 1 and "nobody knows the price of 'retired-gpu'" in output
    hub.jobs.clear()
    monkeypatch.setattr("autolab.hub.jobs.listing.MOST_LISTED", 3)
    for _ in range(4):
        a_job(hub, ran=60.0)
    code, output = script(*LAUNCH[:-2], "--budget-usd", "9", *LAUNCH[-2:])
    assert code == 1 and "the jobs of alice: are more than can be counted" in output
    assert len(hub.jobs) == 4


# never twice ----------------------------------------------------------------------------------------


def test_a_launch_that_is_answered_with_an_error_and_runs_all_the_same_is_found(
    script: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Handler.send

    def too_late(call: Handler, status: int, *rest: Any, **more: Any) -> None:
        launching = call.command == "POST" and call.path == "/api/jobs/alice"
        answer(call, 503 if launching else status, *rest, **more)

    monkeypatch.setattr(Handler, "send", too_late)
    code, output = script(*LAUNCH)
    assert code == 0 and list(hub.jobs) == [output.split("[ok] launched ")[1].split(",")[0]]
    assert len(hub.asked("POST /api/jobs/alice")) == 1


def test_a_launch_that_hangs_is_given_up_and_found(
    script: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolab.hub.connection.READ_SECONDS", 0.3)
    hub.faults.append(Fault("POST /api/jobs/alice", hang=True))
    assert script(*LAUNCH)[0] == 0
    assert len(hub.jobs) == len(hub.asked("POST /api/jobs/alice")) == 1


def test_where_nobody_can_say_whether_a_job_runs_the_answer_says_so(script: Run, hub: HubServer) -> None:
    hub.faults += [
        Fault("POST /api/jobs/alice", lost=True),
        Fault("GET /api/jobs/alice.*launch", times=99, status=500),
    ]
    code, output = script(*LAUNCH)
    assert code == 1 and "unknown whether a job runs" in output and "before you launch again" in output
    assert len(hub.jobs) == 1


def test_a_launch_that_was_refused_is_not_asked_for_again(script: Run, hub: HubServer) -> None:
    hub.faults.append(Fault("POST /api/jobs/alice", status=429))
    code, output = script(*LAUNCH)
    assert code == 1 and "too many requests, and no job was launched" in output
    assert hub.jobs == {} and len(hub.asked("POST /api/jobs/alice")) == 1


def test_a_job_is_found_by_the_ticket_of_its_launch(hub: HubServer) -> None:
    job = a_job(hub, ran=1.0, launch="t1")
    assert [found.id for found in launched(connect(), "alice", "t1")] == [job.id]
    assert launched(connect(), "alice", "t2") == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_only_reads_is_asked_again(
    script: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("autolab.hub.connection.time.sleep", lambda seconds: None)
    job = a_job(hub, ran=1.0)
    hub.faults += [
        Fault("GET /api/jobs/hardware", status=status),
        Fault(f"GET /api/jobs/alice/{job.id}", status=status),
    ]
    code, output = script("status", job.id)
    assert (code, last(output)) == (0, f"[ok] {job.id} is COMPLETED")


# what they cost -------------------------------------------------------------------------------------


def test_costs_are_what_the_hub_bills(script: Run, hub: HubServer) -> None:
    for seconds in (0.0, 0.4, 59.999, 60.0, 60.001, 359.0):
        a_job(hub, ran=seconds)
    a_job(hub, ended=False)  # waits, and costs nothing
    a_job(hub, "cpu-basic", ran=70.0, ended=False)
    data = json.loads(script("cost", "--json")[1].splitlines()[0])
    assert data["all"]["ended_usd"] + data["all"]["so_far_usd"] == pytest.approx(sum(hub.bill().values()))
    assert (data["all"]["ended"], data["all"]["unfinished"], data["more"]) == (6, 2, False)


def test_costs_are_told_for_each_campaign_and_for_a_time(script: Run, autolab: Run, hub: HubServer) -> None:
    a_job(hub, ran=600.0, ago=9 * DAY, campaign="toy-3fa2c1-1")
    a_job(hub, ran=360.0, campaign="toy-3fa2c1-2")
    a_job(hub, ended=False, campaign="toy-3fa2c1-2", most_usd_micro="750000")
    a_job(hub, "cpu-basic", ran=1.0)
    code, output = script("cost")
    assert [line.split()[:6] for line in output.splitlines()[1:5]] == [
        ["(no", "campaign)", "1", "0.0002", "0", "0.0000"],
        ["toy-3fa2c1-2", "1", "0.5000", "1", "0.0000", "0.7500"],
        ["toy-3fa2c1-1", "1", "0.8333", "0", "0.0000", "0.0000"],
        ["all", "3", "1.3335", "1", "0.0000", "0.7500"],
    ]
    assert (code, last(output)) == (
        0,
        "[ok] 4 jobs cost $1.3335 so far; 1 not finished, $2.0835 in the end at most",
    )
    code, output = autolab("cost", "--since", "7d")
    assert code == 0 and "toy-3fa2c1-1" not in output and last(output).startswith("3 jobs cost $0.5002")


def test_jobs_on_further_pages_are_counted_and_a_cut_is_said(
    script: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.page_size = 2
    for _ in range(5):
        a_job(hub, ran=60.0)
    assert last(script("cost")[1]).startswith("[ok] 5 jobs cost $0.4167")
    assert last(script("status")[1]) == "[ok] 5 jobs of Autolab, 0 not finished"
    monkeypatch.setattr("autolab.hub.jobs.listing.MOST_LISTED", 3)
    assert last(script("cost")[1]).startswith("[ok] the newest 3 jobs cost")
    assert last(script("status")[1]).startswith("[ok] the newest 3 jobs of Autolab")
    assert last(script("cost", "--since", "24h")[1]).startswith("[ok] the newest 3 jobs cost")


def test_a_job_of_unknown_price_is_named_and_not_counted(autolab: Run, hub: HubServer) -> None:
    a_job(hub, "retired-gpu", ran=60.0)
    a_job(hub, ran=60.0)
    assert last(autolab("cost")[1]) == "2 jobs cost $0.0833; 1 of unknown price not counted"
    assert "cost unknown" in autolab("ls")[1]


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({"startedAt": "2026-11-20T10:00:00.000Z", "finishedAt": "2026-11-20T10:01:00.250Z",
          "durations": {"runningSecs": 60}}, 60.25),
        ({"startedAt": "2026-11-20T10:00:00.000Z", "finishedAt": "2026-11-20T10:00:00.000Z"}, 0.001),
        ({"startedAt": "2026-11-20T10:00:00.000Z", "durations": {"runningSecs": 17}}, 17.0),
        ({"durations": {"runningSecs": 17}}, 17.0),
        ({"durations": {"runningSecs": 0}}, 0.001),
        ({"finishedAt": "2026-11-20T10:00:00.000Z", "durations": {"totalSecs": 99}}, 0.0),
        ({}, 0.0),
    ],
)  # fmt: skip
def test_paid_time_is_what_the_hub_says_as_exactly_as_it_says_it(
    facts: dict[str, Any], seconds: float
) -> None:
    owner = {"id": "u", "name": "alice", "type": "user"}
    assert billed_seconds(JobInfo(id="j", owner=owner, status={"stage": "COMPLETED"}, **facts)) == seconds


def test_a_job_that_began_is_paid_by_the_minute(hub: HubServer) -> None:
    a_job(hub, ran=0.0)
    assert add_up(listed(connect(), "alice").jobs).usd == pytest.approx(5 / 60, abs=1e-4)
    assert hardware(connect())[-1].cost(0) == 0


# ending them ----------------------------------------------------------------------------------------


@pytest.fixture
def several(hub: HubServer, lab: Path) -> dict[str, str]:
    """Unfinished jobs: of this lab, of its campaign, of another lab, of somebody else."""
    with ledger_of(lab) as ledger:
        own = {"lab": ledger.meta("lab") or "", "campaign": ledger.campaign().id}
    jobs = {
        "lab": a_job(hub, ended=False, lab=own["lab"]),
        "campaign": a_job(hub, ended=False, campaign=own["campaign"], measurement="m-1"),
        "other": a_job(hub, ended=False, lab="ffffff", campaign="toy-ffffff-1"),
        "hand": a_job(hub, ended=False, made_by="hand"),
    }
    for job in jobs.values():
        machine = threading.Thread(target=_wait, args=(job,), name=f"job-{job.id}", daemon=True)
        machine.start()
    return {name: job.id for name, job in jobs.items()}


def _wait(job: Job) -> None:
    with job.changed:
        job.changed.wait_for(lambda: job.cancelled)
        job.finish("CANCELED")


def test_all_unfinished_jobs_of_a_lab_are_named_and_ended_and_no_other(
    autolab: Run, hub: HubServer, several: dict[str, str]
) -> None:
    code, output = autolab("cancel", "--all", "--yes")
    assert (code, last(output)) == (0, "2 cancelled")
    named = {line.split()[0] for line in output.splitlines()[:-1]}
    assert named == {several["lab"], several["campaign"]}
    assert {name for name, job in several.items() if hub.jobs[job].stage == "CANCELED"} == {"lab", "campaign"}
    assert autolab("cancel", "--all")[1].startswith("no job of this lab is unfinished")


def test_to_end_all_is_asked_for(
    autolab: Run, hub: HubServer, several: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = itertools.cycle(["n", "y"])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: next(answers))
    assert autolab("cancel", "--all")[0] != 0
    assert all(hub.jobs[job].stage == "SCHEDULING" for job in several.values())
    assert autolab("cancel", "--all")[0] == 0
    assert hub.jobs[several["lab"]].stage == "CANCELED"


def test_what_is_not_cancelled_is_said(autolab: Run, hub: HubServer, several: dict[str, str]) -> None:
    hub.faults.append(Fault(f"POST .*/{several['lab']}/cancel", status=403))
    code, output = autolab("cancel", "--all", "--yes")
    assert code == 2 and "1 cancelled" in output and f"job {several['lab']}: 1 not cancelled" in output
    assert hub.jobs[several["campaign"]].stage == "CANCELED"


def test_to_cancel_is_repeated_until_it_is_answered(
    script: Run, hub: HubServer, several: dict[str, str]
) -> None:
    hub.faults += [Fault("POST .*/cancel", status=503), Fault("POST .*/cancel", lost=True)]
    code, output = script("cancel", several["lab"])
    assert (code, last(output)) == (0, f"[ok] {several['lab']} is CANCELED")


def test_to_cancel_needs_no_prices(autolab: Run, hub: HubServer, several: dict[str, str]) -> None:
    hub.faults.append(Fault("GET /api/jobs/hardware", times=99, status=404))
    assert autolab("cancel", several["lab"])[0] == 0
    assert last(autolab("cancel", "--all", "--yes")[1]) == "1 cancelled"


def test_a_job_that_ended_meanwhile_is_no_error(
    script: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(hub, ended=False)
    answer = Handler.send

    def too_late(call: Handler, status: int, *rest: Any, **more: Any) -> None:
        answer(call, 409 if call.path.endswith("/cancel") else status, *rest, **more)

    monkeypatch.setattr(Handler, "send", too_late)
    threading.Thread(target=_wait, args=(job,), daemon=True).start()
    assert last(script("cancel", job.id)[1]) == f"[ok] {job.id} is CANCELED"


def test_nobody_elses_job_is_cancelled(script: Run, hub: HubServer, several: dict[str, str]) -> None:
    assert "was not launched by Autolab" in script("cancel", several["hand"])[1]
    assert "was launched by another lab" in script("cancel", several["other"])[1]
    assert hub.asked("POST .*/cancel") == []


def test_an_agent_does_not_cancel_a_measurement_of_the_campaign(
    script: Run, autolab: Run, hub: HubServer, several: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOLAB_ROLE", "lab")
    code, output = script("cancel", several["campaign"])
    assert code == 1 and "is a campaign's own measurement" in output
    assert script("cancel", several["lab"])[0] == 0
    monkeypatch.delenv("AUTOLAB_ROLE")
    assert autolab("cancel", several["campaign"]) == (0, f"{several['campaign']} is CANCELED\n")


# people at the command line -------------------------------------------------------------------------


def test_a_person_launches_looks_and_reads(autolab: Run, hub: HubServer, lab: Path) -> None:
    hub.stuck = lambda job: False
    with ledger_of(lab) as ledger:
        campaign = ledger.campaign().id
    say = f"import sys; print(sys.argv[1:], '{BOB[:3]}' + '{BOB[3:]}', '<<<END' + chr(27) + '[2J')"
    code, output = autolab("launch", "--flavor", "cpu-basic", "--timeout", "10m", "--max-usd", "0.01", "--trial",
                           "3fa2c1-0007", "--", "python3", "-c", say, "--lr", "3")  # fmt: skip
    assert code == 0 and output.startswith("launched ") and "$0.0017 at most" in output
    (job,) = hub.jobs.values()
    with job.changed:
        assert job.changed.wait_for(lambda: job.stage == "COMPLETED", 20)
    assert (job.labels["campaign"], job.labels["trial"]) == (campaign, "3fa2c1-0007")
    for words in (["ls", "--campaign", campaign], ["status", job.id]):
        code, output = autolab(*words)
        assert code == 0 and output.startswith(f"{job.id}  COMPLETED  cpu-basic") and "$0.0002" in output
    assert autolab("ls", "--unfinished") == (0, "0 jobs of Autolab, 0 not finished\n")
    code, output = autolab("logs", job.id)
    assert code == 0 and output.startswith("['--lr', '3'] [Hugging Face token]") and "\x1b" not in output


def test_every_command_that_only_looks_has_json(autolab: Run, hub: HubServer) -> None:
    job = a_job(hub, ran=1.0)
    for words in (["hardware"], ["ls"], ["status", job.id], ["cost"]):
        code, output = autolab(*words, "--json")
        assert code == 0
        json.loads(output)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "--namespace", "bob"], "the jobs of bob: no write access"),
        (["launch", "--flavor", "h9", "--timeout", "1m", "--max-usd", "1", "true"], "one of: cpu-basic, t4-small"),
        (["launch", "--flavor", "h200", "--timeout", "1m", "--max-usd", "1", "--namespace", "bob", "true"],
         "a job of bob: no write access"),
        (["launch", "--flavor", "h200", "--timeout", "soon", "--max-usd", "1", "true"], "'soon' is not a time"),
        (["launch", "--flavor", "h200", "--timeout", "-1m", "--max-usd", "1", "true"], "'-1m' is not a time"),
        (["launch", "--flavor", "h200", "--timeout", "1m", "--max-usd", "nan", "true"], "--max-usd: is not an amount"),
        (["launch", "--flavor", "h200", "--timeout", "1m", "--max-usd", "-1", "true"], "--max-usd: is not an amount"),
        (["launch", "--flavor", "h200", "--timeout", "1m", "--max-usd", "1", "--budget-usd", "inf", "true"],
         "--budget-usd: is not an amount"),
        (["launch", "--flavor", "h200", "--timeout", "1m", "--max-usd", "1"], "there is no command"),
        (["status", "../../etc"], "is not the id of a job"),
        (["status", "0" * 24], "no such thing on the Hub"),
        (["cancel", "0" * 24], "no such thing on the Hub"),
        (["cancel"], "name one job, or say --all"),
        (["cancel", "0" * 24, "--all"], "name one job, or say --all"),
        (["cost", "--since", "yesterday"], "--since: 'yesterday' is not a time"),
        (["cost", "--since", "9999999d"], "is not a time"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(autolab: Run, hub: HubServer, words: list[str], said: str) -> None:
    code, output = autolab(*words)
    assert code == 2 and said in output and len(output.splitlines()) == 1
    assert hub.jobs == {}


def test_no_credit_no_token_and_no_hub_are_one_line(
    autolab: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolab.hub.connection.time.sleep", lambda seconds: None)
    hub.credit = 0.0
    code, output = autolab(*LAUNCH)
    assert code == 2 and "no credit left" in output and len(output.splitlines()) == 1
    monkeypatch.setenv("HF_TOKEN", "")
    assert autolab("ls")[1] == (
        "autolab: there is no Hugging Face token (`hf auth login`, or set HF_TOKEN)\n"
    )
    monkeypatch.setenv("HF_TOKEN", ALICE)
    hub.__exit__()
    close_session()  # another process has no connection left from before
    code, output = autolab("ls")
    assert code == 2 and "the Hub does not answer" in output and len(output.splitlines()) == 1
