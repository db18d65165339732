"""Measuring as HF Jobs when things go wrong: one job for each measurement, never a wrong score, nothing lost, nothing
over the budget."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cloud import (
    BUCKET,
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
from conftest import TASK, write_toy
from hf_xet import XetObjectNotFoundError  # type: ignore[import-untyped]
from huggingface_hub import HfApi
from stand_ins.hub import ALICE, Fault, HubServer, buckets
from stand_ins.hub.jobs import Job

from autolab.campaign.loop import CampaignRun, Event
from autolab.cli.executors import executor_for
from autolab.errors import LabError
from autolab.execution import hf_jobs, job_launch, patience
from autolab.hub.connection import Missing, Unavailable, connect, explained
from autolab.lab import Lab
from autolab.ledger import jobs as ledger_jobs
from autolab.ledger.jobs import reserve
from autolab.ledger.observations import observations
from autolab.ledger.records import Measurement, Status, TrialState

pytestmark = pytest.mark.hub

LAUNCH = r"POST /api/jobs/alice$"


place, hub, patch = quick_place, quick_hub, quick_patch


# a launch that is not answered ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(LAUNCH, lost=True)],
        [Fault(LAUNCH, hang=True)],
        [Fault(LAUNCH, hang_before=True)],
        [Fault(LAUNCH, times=2)],
        [Fault(LAUNCH, status=429)],
        [Fault(LAUNCH, lost=True), Fault(r"GET /api/jobs/alice\?label=launch", times=3, status=520)],
    ],
    ids=["answer lost", "never answered", "swallowed", "503 twice", "429", "lost, and then nobody can look"],
)
def test_an_unanswered_launch_is_one_job(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch, faults: list[Fault]
) -> None:
    patch.setenv("AUTOLAB_HUB_SECONDS", "0.5")
    lab = begin(tmp_path / "toy")
    hub.faults += faults
    assert measure(lab).status is Status.OK
    assert len(hub.jobs) == 1
    assert all_is_counted(lab, hub)


@pytest.mark.parametrize("ended", [False, True], ids=["runs", "has ended"])
def test_a_second_job_of_a_launch_is_ended_and_its_cost_is_counted(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch, ended: bool
) -> None:
    def carry_out_twice(job: Job) -> bool:
        if len(hub.jobs) == 1:
            put_job(hub, job.labels, ended=ended)
        return False

    lab, heard = begin(tmp_path / "toy"), list[str]()
    quick_runner(patch, "time.sleep(0.5)")
    hub.stuck = carry_out_twice
    hub.faults.append(Fault(LAUNCH))  # and so it is launched by a second try
    assert measure(lab, heard=heard.append).status is Status.OK
    assert len(hub.jobs) == len(job_rows(lab)) == 2 and all_is_counted(lab, hub)
    assert any("was launched twice" in text for text in heard)
    assert {job.stage for job in hub.jobs.values()} == {"COMPLETED", "COMPLETED" if ended else "CANCELED"}


def test_a_second_job_that_cannot_be_ended_stops_nobody(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    once = iter([True])

    def carry_out_twice(job: Job) -> bool:
        if next(once, False):  # two slots launch at once, and either may be first
            put_job(hub, job.labels)
        return False

    lab, heard = begin(tmp_path / "toy"), list[str]()
    quick_runner(patch, "time.sleep(0.5)")
    hub.stuck = carry_out_twice
    hub.faults.append(Fault("/cancel$", status=400, times=100))
    assert run(lab, listener=lambda work, event: heard.append(event.text)) == "all trials are done"
    (said,) = (text for text in heard if "was launched twice and may still cost" in text)
    assert "the Hub refused" in said


def test_work_that_nobody_waits_for_says_what_went_wrong_with_it(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **named: object) -> None:
        raise ValueError("odd")

    lab, heard = begin(tmp_path / "toy"), list[str]()
    patch.setattr(ledger_jobs, "is_wanted", fail)
    reserve(lab.ledger, lab.campaign.id, started(lab).replace(id="nobodys"), bundle="", flavor="cpu-basic",
            most_usd=MOST, limit=None)  # fmt: skip
    assert run(lab, listener=lambda work, event: heard.append(event.text)) == "all trials are done"
    assert "jobs of an earlier run may still cost: ValueError('odd')" in heard


# a job that comes to nothing ------------------------------------------------------------------------


def test_a_job_that_gets_no_machine_is_given_up_costs_nothing_and_is_tried_again(
    tmp_path: Path, hub: HubServer
) -> None:
    hub.stuck = lambda job: job.number == 1
    lab = begin(tmp_path / "toy", slots=1)
    assert run(lab, slots=1, place=replace(JOBS, queue_minutes=0.8 / 60)) == "all trials are done"
    known = {measurement.id[7:]: measurement for measurement in lab.ledger.measurements(1)}
    first, second = known["0001-screen-0-1"], known["0001-screen-0-2"]
    assert (first.status, first.cost_usd) == (Status.INFRA_ERROR, 0.0)
    assert "no machine within 0.8 s" in first.cause and first.job in first.cause
    assert (second.status, second.attempt) == (Status.OK, 2)
    assert lab.ledger.trial(1).status is Status.OK
    assert [stage for stage, _ in job_rows(lab)] == ["CANCELED", *["COMPLETED"] * 2]


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        ("raise SystemExit(1)", "the job ended as ERROR: Job failed with exit code: 1"),
        ("left.clear()", "the job completed and left no result"),
        ("del left['receipt.json']", "the job completed and left no result"),
        ("left['receipt.json'] = '{'", "the receipt cannot be read"),
        ("said['ticket'] = 'another'", "the receipt is of another launch or another bundle"),
        ("said['bundle'] = '0' * 64", "the receipt is of another launch or another bundle"),
        ("said['measurement'] = '0' * 64", "the result's hash is not the one in the receipt"),
        ("result['id'] = 'another'", "the result is of 'another'"),
        ("result['metrics'] = 'best'", "not a result"),
        ("left['measurement.json'] = ' ' * (17 << 20)", "is too large"),
    ],
    ids=[
        "error", "nothing", "no receipt", "no JSON", "other launch", "other bundle", "other hash", "other name",
        "odd", "large",
    ],
)  # fmt: skip
def test_what_is_no_result_is_never_a_score(
    tmp_path: Path, patch: pytest.MonkeyPatch, before: str, cause: str
) -> None:
    patch.setattr(hf_jobs, "LATE_SECONDS", 0.3)
    quick_runner(patch, before)
    lab = begin(tmp_path / "toy")
    measured = measure(lab)
    assert (measured.status, measured.score) == (Status.INFRA_ERROR, None)
    assert cause in measured.cause and measured.cost_usd > 0
    assert lab.needed(lab.ledger.trial(1), "screen").attempt == 2


def test_a_job_that_the_hub_ends_is_tried_again(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    quick_runner(patch, "time.sleep(60)")
    patch.setattr(job_launch, "timeout_seconds", lambda *words: 1)
    patch.setattr(hf_jobs, "timeout_seconds", lambda *words: 1)
    lab = begin(tmp_path / "toy")
    measured = measure(lab)
    assert measured.status is Status.INFRA_ERROR and "Job timeout" in measured.cause
    quick_runner(patch)
    assert measure(lab).status is Status.OK


def test_a_job_that_vanishes_is_tried_again_and_costs_what_it_was_seen_to_run(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    lab = begin(tmp_path / "toy")
    hub.faults.append(Fault(r"GET /api/jobs/alice/[0-9a-f]{24}$", status=404))
    measured = measure(lab)
    assert measured.status is Status.INFRA_ERROR and "the Hub knows the job no more" in measured.cause
    assert measure(lab).status is Status.OK


def test_files_that_come_late_are_waited_for(tmp_path: Path, hub: HubServer) -> None:
    hub.flush_seconds = 0.4
    measured = measure(begin(tmp_path / "toy"))
    assert measured.status is Status.OK and len(hub.jobs) == 1


def test_a_bucket_that_is_deleted_is_made_anew(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(hf_jobs, "MISSING_SECONDS", 0.05)
    patch.setattr(hf_jobs, "LATE_SECONDS", 0.3)
    lab, deleted = begin(tmp_path / "toy"), []

    def delete(work: CampaignRun, event: Event) -> None:
        if event.kind == "measured" and not deleted:
            deleted.append(hub.buckets.pop(BUCKET))

    assert run(lab, [0.6], listener=delete) == "all trials are done"
    assert [trial.status for trial in lab.ledger.trials()] == ["ok", "ok"]
    assert hub.buckets[BUCKET].private


def test_a_result_of_a_bad_machine_is_not_shared(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    quick_runner(patch, "result['status'] = 'infra_error'")
    lab = begin(tmp_path / "toy")
    assert measure(lab).status is Status.INFRA_ERROR
    quick_runner(patch)
    second = measure(lab)
    assert (second.status, second.attempt, second.cached_from) == (Status.OK, 2, "")


@pytest.mark.parametrize(
    "before",
    ["result['sandbox'] = 'none'", "result['evidence'] = 'self_reported'"],
    ids=["sandbox", "evidence"],
)
def test_a_number_that_the_program_could_have_forged_is_not_shared(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch, before: str
) -> None:
    quick_runner(patch, before)
    assert measure(begin(tmp_path / "toy")).status is Status.OK
    assert not [path for path in hub.buckets[BUCKET].files if path.startswith("measurements/")]


def test_a_shared_number_that_a_program_could_have_forged_is_not_believed(
    tmp_path: Path, hub: HubServer
) -> None:
    measure(begin(tmp_path / "toy"))
    (path,) = (path for path in hub.buckets[BUCKET].files if path.startswith("measurements/"))
    text = buckets.read_file(hub, BUCKET, path)
    connect().batch_bucket_files(BUCKET, add=[(text.replace(b"bubblewrap", b"none"), path)])
    assert not measure(begin(tmp_path / "colleague")).cached_from


@pytest.mark.parametrize(
    ("stage", "shared"),
    [
        ("screen", True),
        ("replicate", True),
        ("confirm", True),
        ("control-1", False),
        ("replay-screen", False),
        ("certify", False),
    ],
)
def test_what_is_wanted_as_fresh_evidence_is_never_taken_from_elsewhere(
    tmp_path: Path, hub: HubServer, stage: str, shared: bool
) -> None:
    sealed = TASK.replace("name: loss,", "name: loss, sealed: sealed_loss,")
    labs = [begin(write_toy(tmp_path / name, task=sealed)) for name in ("first", "colleague")]

    def measured(lab: Lab, name: str) -> Measurement:
        executor, trial = executor_for(lab, 1, place=JOBS), lab.ledger.trial(1)
        wanted = Measurement(f"{trial.id}-{name}", 1, stage, seed=1, eval_seed=2)
        bundle = executor.stage(wanted, lab.program(trial))
        lab.ledger.start_measurement(wanted)
        done = asyncio.run(executor.run(bundle, wanted, executor.slots[0]))
        lab.ledger.finish_measurement(done)
        return done

    own = [measured(labs[0], name) for name in ("a", "b")]
    theirs = measured(labs[1], "a")
    reused = f"{labs[0].ledger.trial(1).id}-a" if shared else ""
    assert [m.cached_from for m in (*own, theirs)] == ["", reused, reused]
    assert len(hub.jobs) == (1 if shared else 3)
    assert any(path.startswith("measurements/") for path in hub.buckets[BUCKET].files) == shared


# the machines of one flavor -------------------------------------------------------------------------

EPYC, XEON = "x86_64 AMD EPYC 7R13 Processor 25/1/1", "x86_64 Intel(R) Xeon(R) CPU @ 2.90GHz 6/106/6"


@pytest.mark.parametrize(
    ("flavor", "machine", "name"),
    [
        ("cpu-basic", EPYC, "cpu-basic (x86_64 AMD EPYC 7R13 25/1/1)"),
        ("cpu-basic", XEON, "cpu-basic (x86_64 Intel Xeon 2.90GHz 6/106/6)"),
        ("l4x1", f"NVIDIA L4, {EPYC}", "l4x1 (NVIDIA L4, x86_64 AMD EPYC 7R13 25/1/1)"),
        ("cpu-basic", "a\x1b[1mb\u202e\n", "cpu-basic (a[1mb)"),
        ("cpu-basic", "", "cpu-basic"),
    ],
)
def test_a_host_is_a_flavor_and_a_kind_of_machine(flavor: str, machine: str, name: str) -> None:
    assert hf_jobs.host_name(flavor, machine) == name


def test_a_long_host_name_is_cut_and_still_its_own() -> None:
    names = {hf_jobs.host_name("cpu-basic", "x" * 100 + end) for end in "ab"}
    assert len(names) == 2 and all(len(name) <= 80 for name in names)


def test_jobs_on_two_kinds_of_machines_are_not_compared_with_each_other(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    quick_runner(patch, f"result['machine'] = ({EPYC!r}, {XEON!r})['-screen-1-' in spec['id']]")
    lab = begin(tmp_path / "toy")
    run(lab)
    seen = observations(lab.ledger, lab.campaign.id, lab.campaign.baseline)
    assert {one.host for one in seen} == {hf_jobs.host_name("cpu-basic", kind) for kind in (EPYC, XEON)}


def test_a_result_of_an_older_runner_is_of_the_flavor(tmp_path: Path, hub: HubServer) -> None:
    assert measure(begin(tmp_path / "toy")).host == "cpu-basic"


def test_a_shared_result_is_of_the_machine_that_measured_it(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    quick_runner(patch, f"result['machine'] = {EPYC!r}")
    own, theirs = (measure(begin(tmp_path / name)) for name in ("toy", "colleague"))
    assert theirs.cached_from == own.id and theirs.host == own.host == hf_jobs.host_name("cpu-basic", EPYC)


# the Hub lets nothing through -----------------------------------------------------------------------


def _no_credit(hub: HubServer, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    hub.credit = 0.0
    return lambda: setattr(hub, "credit", None)


def _no_token(hub: HubServer, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    name = hub.tokens.pop(ALICE)
    return lambda: hub.tokens.update({ALICE: name})


def _errors(hub: HubServer, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    hub.faults.append(Fault(".", times=10**6, status=520))
    return hub.faults.clear


def _nobody_there(hub: HubServer, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    patch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return lambda: patch.setattr("huggingface_hub.constants.ENDPOINT", hub.base)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (_no_credit, "the account has no credit left"),
        (_no_token, "the Hub does not accept the token"),
        (_errors, "the Hub has a problem"),
        (_nobody_there, "the Hub does not answer"),
    ],
)
def test_a_campaign_waits_for_the_hub_and_says_so_once(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch, trouble: Any, said: str
) -> None:
    heard, mend = list[str](), list[Callable[[], None]]()

    def hear(text: str) -> None:
        heard.append(text)
        if len(heard) == 1:
            mend[0]()

    measured = measure(begin(tmp_path / "toy"), heard=hear, begun=lambda: mend.append(trouble(hub, patch)))
    assert measured.status is Status.OK and len(hub.jobs) == 1
    first, last = heard
    assert first.startswith("waiting for the Hub: ") and said in first and "\n" not in first
    assert last == "the Hub lets the campaign go on"


@pytest.mark.parametrize(
    "trouble",
    [
        RuntimeError("Data processing error: CAS service error : Reqwest Error: error sending request"),
        OSError("Error while uploading"),
    ],
)
def test_a_transfer_that_fails_once_is_tried_again(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    lab, api, failing = begin(tmp_path / "toy"), HfApi.download_bucket_files, [trouble]

    def download(*words: Any, **named: Any) -> Any:
        if failing:
            raise failing.pop()
        return api(*words, **named)

    patch.setattr(HfApi, "download_bucket_files", download)
    assert run(lab) == "all trials are done"
    assert not failing and len(hub.jobs) == 2 and all_is_counted(lab, hub)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), LabError),
        (RuntimeError("I/O error: Permission denied (os error 13)"), LabError),
        (RuntimeError("Connection reset by peer (os error 104)"), Unavailable),
        (XetObjectNotFoundError("no such xorb"), Missing),
    ],
)
def test_waiting_is_for_what_it_can_mend(trouble: Exception, kind: type[LabError]) -> None:
    with pytest.raises(LabError) as said, explained("bucket alice/autolab"):
        raise trouble
    assert type(said.value) is kind


def test_what_all_slots_wait_for_is_said_once(tmp_path: Path, hub: HubServer) -> None:
    lab, heard = begin(tmp_path / "toy"), list[str]()
    hub.faults.append(Fault(LAUNCH, status=402, times=10))
    assert run(lab, listener=lambda work, event: heard.append(event.text)) == "all trials are done"
    assert len([text for text in heard if "no credit left" in text]) == 1
    assert len([text for text in heard if "lets the campaign go on" in text]) == 1


def test_no_credit_is_said_once_while_other_jobs_go_on(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    quick_runner(patch, "time.sleep(1.0)")
    lab, heard = begin(tmp_path / "toy"), list[str]()

    def hear(work: CampaignRun, event: Event) -> None:
        heard.append(event.text)
        if "no credit left" in event.text:
            hub.credit = None

    hub.credit = 0.0001  # enough for one
    assert run(lab, listener=hear) == "all trials are done"
    assert len([text for text in heard if "no credit left" in text]) == 1
    assert len(hub.jobs) == 2


def _stopped_when_two_run(lab: Lab, hub: HubServer, trouble: Fault) -> tuple[str, list[str]]:
    """Why a campaign ended that was told to stop when its jobs ran and a trouble began, and what it said then."""
    heard, tasks = list[str](), list[asyncio.Task[None]]()

    async def stop(work: CampaignRun) -> None:
        while [job.stage for job in hub.jobs.values()] != ["RUNNING"] * 2:
            await asyncio.sleep(0.02)
        hub.faults.append(trouble)
        work.drain("enough")

    def hear(work: CampaignRun, event: Event) -> None:
        heard.append(event.text)
        if not tasks:
            tasks.append(asyncio.get_running_loop().create_task(stop(work)))

    return run(lab, listener=hear), heard


def test_what_runs_is_followed_to_its_end_through_an_outage_after_a_stop(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    lab = begin(tmp_path / "toy")
    quick_runner(patch, "time.sleep(1.0)")
    reason, _ = _stopped_when_two_run(lab, hub, Fault(r"GET /api/jobs/alice[?/]", times=9, status=520))
    assert reason == "enough"
    assert [m.status for m in lab.ledger.measurements(1)] == [Status.OK] * 2


def test_a_stop_that_the_hub_keeps_waiting_ends_and_says_what_still_runs(
    tmp_path: Path, hub: HubServer, patch: pytest.MonkeyPatch
) -> None:
    lab = begin(tmp_path / "toy")
    quick_runner(patch, "time.sleep(2.0)")
    patch.setattr(patience, "AWAY_SECONDS", 0.3)
    reason, heard = _stopped_when_two_run(lab, hub, Fault("GET /api/jobs/alice", times=10**6, status=520))
    assert reason == "enough"
    assert heard.count("2 jobs still run; the next start goes on with them") == 1
    hub.faults.clear()
    assert run(begin(tmp_path / "toy")) == "all trials are done"
    assert len(hub.jobs) == 2 and all_is_counted(lab, hub)


def test_a_stop_does_not_wait_for_the_hub(tmp_path: Path, hub: HubServer) -> None:
    lab = begin(tmp_path / "toy")
    hub.credit = 0.0

    def stop(work: CampaignRun, event: Event) -> None:
        if event.kind == "notice":
            work.drain("enough")

    assert run(lab, listener=stop) == "enough"
    assert lab.ledger.trial(1).state is TrialState.QUEUED
    assert lab.ledger.campaign().state == "stopped"
    hub.credit = None
    assert run(begin(tmp_path / "toy")) == "all trials are done"
    assert sorted(launches(hub)) == ["0001-screen-0-1", "0001-screen-1-1"]
