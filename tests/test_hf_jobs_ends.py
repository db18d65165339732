"""Campaigns on HF Jobs that run out of money, are killed or stopped: every job is found again, ended or paid for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cloud import (
    JOBS,
    MOST,
    all_is_counted,
    begin,
    job_rows,
    launches,
    measure,
    put_job,
    quick_hub,
    quick_patch,
    quick_place,
    quick_runner,
    run,
    started,
)
from measuring import wait_until
from scripted import Scripted
from stand_ins.hub import Fault, HubServer
from stand_ins.hub.jobs import Job

from autolab.campaign.loop import CampaignRun, Limits
from autolab.campaign.serve import Service
from autolab.cli.executors import executor_for
from autolab.execution import job_store
from autolab.execution.hf_jobs import HfJobsExecutor
from autolab.execution.job_store import Packed
from autolab.lab import Lab
from autolab.ledger.jobs import CloudJob, find_job, note_job, reserve
from autolab.ledger.records import Measurement, Status, TrialState
from autolab.ledger.store import Ledger

pytestmark = pytest.mark.hub

LAUNCH = r"POST /api/jobs/alice$"


place, hub, patch = quick_place, quick_hub, quick_patch


# money ----------------------------------------------------------------------------------------------


def test_the_budget_is_never_exceeded_counting_what_still_runs(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    # The first candidate is better, and measured in turn with the master; the second one is not.
    levels = '{"0001": 1.4, "0002": 1.0}.get(spec["id"].split("-")[1], 9.0)'
    quick_runner(patch, f'result["metrics"]["loss"] += {levels}')
    held: list[float] = []

    def most(job: Job) -> float:
        return MOST * (8 / 7 if job.labels["stage"] == "confirm" else 1)  # a minute more to look closely

    def look(job: object) -> bool:
        jobs = hub.jobs.values()
        held.append(sum(job.cost() if job.finished else most(job) for job in jobs))
        return False

    hub.stuck = look
    lab = begin(tmp_path / "toy", slots=4)
    limit = 3 * MOST + 0.0001
    assert run(lab, [0.2, 0.3], slots=4, max_usd=limit) == "all trials are done"
    assert len(held) == 2 + (1 + 2 + 3 + 2) + 1 and max(held) <= limit + 1e-9
    assert all_is_counted(lab, hub)


def test_a_budget_that_is_used_up_ends_the_campaign_and_a_larger_one_goes_on(
    tmp_path: Path, hub: HubServer
) -> None:
    lab = begin(tmp_path / "toy", slots=4)
    reason = run(lab, slots=4, max_usd=MOST + 0.0001)
    assert reason == "the budget is used up: the next job can cost $0.001169, and $0.001102 are left"
    assert len(hub.jobs) == 1
    assert lab.ledger.trial(1).state is TrialState.QUEUED
    assert run(begin(tmp_path / "toy"), max_usd=1.0) == "all trials are done"
    assert len(hub.jobs) == 2


def test_serving_ends_when_the_budget_is_used_up_and_lets_what_runs_end(
    tmp_path: Path, hub: HubServer
) -> None:
    lab = begin(tmp_path / "toy")
    executor = executor_for(lab, 2, limit_usd=MOST + 0.0001)
    reason = asyncio.run(Service(lab, executor, Limits()).run())
    assert reason.startswith("the budget is used up: the next job can cost")
    assert [job.stage for job in hub.jobs.values()] == ["COMPLETED"]
    assert lab.ledger.trial(1).state is TrialState.QUEUED


def test_money_that_an_earlier_process_holds_comes_free(tmp_path: Path, hub: HubServer) -> None:
    lab = begin(tmp_path / "toy")
    last = lab.needed(lab.ledger.trial(1), "screen", 1)  # the last in the queue, with one slot
    lab.ledger.start_measurement(last)
    reserve(lab.ledger, lab.campaign.id, last, bundle="", flavor="cpu-basic", most_usd=MOST, limit=None)
    assert run(lab, slots=1, max_usd=MOST + 0.0005) == "all trials are done"
    assert len(hub.jobs) == 2


# the lab dies or is stopped -------------------------------------------------------------------------

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
import pathlib, pytest
from cloud import begin, quick_runner, run
with pytest.MonkeyPatch.context() as patch:
    patch.setattr("autolab.lab.BASELINE_REPLICATES", 2)
    quick_runner(patch, {before!r})
    print(run(begin(pathlib.Path({directory!r}))))
"""


def _start(directory: Path, before: str, **environment: str) -> subprocess.Popen[str]:
    code = DRIVER.format(tests=str(Path(__file__).parent), before=before, directory=str(directory))
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


def test_a_lab_that_is_killed_finds_its_jobs_again(tmp_path: Path, hub: HubServer) -> None:
    directory, slow = tmp_path / "toy", "time.sleep(1.5)"
    begin(directory).ledger.close()

    def killed_when(true: Callable[[], bool], **environment: str) -> None:
        process = _start(directory, slow, **environment)
        try:
            assert wait_until(true, 60)
        finally:
            process.kill()
            process.communicate()

    hub.faults.append(Fault(LAUNCH, times=2, hang_before=True))
    killed_when(lambda: len(hub.asked(LAUNCH)) == 2)
    assert not hub.jobs
    jobs = hub.jobs.values
    killed_when(
        lambda: len(hub.jobs) == 2 and "RUNNING" in {job.stage for job in jobs()}, AUTOLAB_POLL_SECONDS="3600"
    )
    inspected = len(hub.asked("GET /api/jobs/alice"))
    killed_when(
        lambda: (
            len(hub.asked("GET /api/jobs/alice")) > inspected
            and {job.stage for job in jobs()} == {"COMPLETED"}
        ),
        AUTOLAB_POLL_SECONDS="3600",
    )
    assert run(begin(directory)) == "all trials are done"
    assert sorted(launches(hub)) == ["0001-screen-0-1", "0001-screen-1-1"]
    lab = begin(directory)
    assert lab.ledger.trial(1).status is Status.OK
    assert [m.attempt for m in lab.ledger.measurements(1)] == [1, 1]
    assert all_is_counted(lab, hub)


def test_a_campaign_that_is_cancelled_ends_its_jobs_and_launches_anew(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = begin(tmp_path / "toy")
    quick_runner(patch, "time.sleep(60)")

    assert asyncio.run(_cancelled(lab, hub, [])) == "stopped by `autolab stop --now`"
    assert [job.stage for job in hub.jobs.values()] == ["CANCELED"] * 2
    assert [stage for stage, _ in job_rows(lab)] == ["CANCELED"] * 2
    quick_runner(patch)
    assert run(begin(tmp_path / "toy")) == "all trials are done"
    assert [m.attempt for m in lab.ledger.measurements(1)] == [1, 1]
    assert len(hub.jobs) == 4
    assert all_is_counted(lab, hub)
    assert not caplog.records  # no task was destroyed, no exception never retrieved


def test_jobs_that_could_not_be_ended_are_found_again(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    lab, heard = begin(tmp_path / "toy"), list[str]()
    quick_runner(patch, "time.sleep(1.5)")
    hub.faults.append(Fault("/cancel$", times=2, status=400))
    assert asyncio.run(_cancelled(lab, hub, heard)) == "stopped by `autolab stop --now`"
    assert len([text for text in heard if "may still run, and is found again" in text]) == 2
    assert run(begin(tmp_path / "toy")) == "all trials are done"
    assert len(hub.jobs) == 2 and all_is_counted(lab, hub)


async def _cancelled(lab: Lab, hub: HubServer, heard: list[str]) -> str:
    """A campaign that is cancelled from another process when two of its jobs run."""
    work = CampaignRun(lab, Scripted([]), executor_for(lab, 2, place=JOBS), Limits(trials=0))
    work.listener = lambda event: heard.append(event.text)
    running = asyncio.create_task(work.run())
    while [job.stage for job in hub.jobs.values()] != ["RUNNING"] * 2:
        await asyncio.sleep(0.02)
    with Ledger(lab.ledger.path) as other:
        other.set_campaign(lab.campaign.id, state="cancelling")
    return await running


def test_jobs_that_nobody_waits_for_any_more_are_ended_at_the_start(tmp_path: Path, hub: HubServer) -> None:
    lab, heard = begin(tmp_path / "toy"), list[str]()
    assert run(lab) == "all trials are done"
    trial = lab.ledger.trial(1)
    stray = lab.needed(trial, "screen").replace(id=f"{trial.id}-replay-screen-9-1")
    lab.ledger.start_measurement(stray)
    row = reserve(
        lab.ledger, lab.campaign.id, stray, bundle="", flavor="cpu-basic", most_usd=MOST, limit=None
    )
    job = put_job(hub, {"launch": row.ticket})
    note_job(lab.ledger, row.ticket, id=job.id, stage="RUNNING")
    assert run(begin(tmp_path / "toy"), [0.6], listener=lambda work, event: heard.append(event.text))
    assert job.stage == "CANCELED" and any(job.id in text for text in heard)
    assert all_is_counted(lab, hub)


@pytest.mark.parametrize(("stage", "ended"), [("control-1", True), ("certify", False)])
def test_a_job_of_the_finished_master_goes_on_while_its_result_is_wanted(
    tmp_path: Path, hub: HubServer, stage: str, ended: bool
) -> None:
    lab = begin(tmp_path / "toy")
    assert run(lab) == "all trials are done"
    master, candidate = lab.ledger.trial(1), lab.open_trial(role="worker", agent="")
    wanted = Measurement(f"{master.id}-{stage}-0-1", master.number, stage, seed=1, eval_seed=2)
    lab.ledger.start_measurement(wanted)
    row = reserve(
        lab.ledger, lab.campaign.id, wanted, bundle="", flavor="cpu-basic", most_usd=MOST, limit=None
    )
    job = put_job(hub, {"launch": row.ticket})
    note_job(lab.ledger, row.ticket, id=job.id, stage="RUNNING")

    async def begin_again() -> None:
        executor = executor_for(lab, 1, place=JOBS)
        assert isinstance(executor, HfJobsExecutor)
        executor.adopt([])
        assert executor._watch._tidying is not None
        await executor._watch._tidying

    asyncio.run(begin_again())
    assert not job.cancelled
    lab.refuse(candidate.number, Status.PROPOSAL_FAILED, "nobody answered")
    asyncio.run(begin_again())
    assert job.cancelled == ended


# what a reservation is worth ------------------------------------------------------------------------


def _reserved(lab: Lab, bundle: str = "x" * 64) -> tuple[Measurement, CloudJob]:
    """A measurement whose launch an earlier process was about to make."""
    measurement = started(lab)
    return measurement, reserve(
        lab.ledger, lab.campaign.id, measurement, bundle=bundle, flavor="cpu-basic", most_usd=MOST, limit=None
    )


def test_a_reservation_that_is_taken_up_is_not_dropped_by_who_waits_for_money(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    lab, packing = begin(tmp_path / "toy"), threading.Event()
    measurement, _ = _reserved(lab)
    real, looked = job_store.pack, threading.Event()

    def pack(bundle: Path) -> Packed:
        packing.set()
        assert looked.wait(60)
        return real(bundle)

    patch.setattr(job_store, "pack", pack)

    async def both() -> Measurement:
        executor = executor_for(lab, 1, place=JOBS)
        assert isinstance(executor, HfJobsExecutor)
        bundle = executor.stage(measurement, lab.program(lab.ledger.trial(1)))
        work = asyncio.create_task(executor.run(bundle, measurement, executor.slots[0]))
        await asyncio.to_thread(packing.wait, 60)
        await executor._watch.room()
        looked.set()
        return await work

    assert asyncio.run(both()).status is Status.OK
    assert len(hub.jobs) == 1 and all_is_counted(lab, hub)


def test_a_launch_with_another_bundle_than_was_reserved_gives_a_result(
    tmp_path: Path, hub: HubServer
) -> None:
    lab = begin(tmp_path / "toy")
    _, row = _reserved(lab)
    assert measure(lab).status is Status.OK
    sent = find_job(lab.ledger, row.ticket)
    assert sent is not None and sent.bundle != row.bundle


def test_a_measurement_costs_what_all_its_launches_cost(tmp_path: Path, hub: HubServer) -> None:
    lab = begin(tmp_path / "toy")
    _, row = _reserved(lab)
    note_job(lab.ledger, row.ticket, id="earlier", stage="CANCELED", running_seconds=9.0, cost_usd=0.5)
    measured = measure(lab)
    assert measured.cost_usd == pytest.approx(0.5 + sum(hub.bill().values()))


def test_bundles_that_nobody_needs_go_at_the_start(tmp_path: Path, hub: HubServer) -> None:
    lab = begin(tmp_path / "toy")
    for name in ("recorded-already", ".half-written.x1"):
        (lab.runs / name).mkdir(parents=True)
    assert run(lab) == "all trials are done"
    assert not list(lab.runs.iterdir())
