"""`autolab serve`: measures what agents submit, whatever happens to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import TRAIN, load_json, rows, write_sealed_toy, write_toy
from scripted import start
from served import SLOW_RATE, edit_rate, measured_toy

from autolab.campaign import agent_trial
from autolab.campaign.detached import serving, start_serving
from autolab.campaign.lock import at_work, only_one
from autolab.campaign.loop import Event, Limits
from autolab.campaign.serve import Service
from autolab.cli.executors import local_executor
from autolab.errors import LabError
from autolab.lab import Lab, open_lab
from autolab.ledger.agents import add_idea, idea, renew_lease
from autolab.ledger.records import IdeaState, Status, Trial, TrialState
from autolab.ledger.store import Ledger
from autolab.ledger.views import MASTER, TABLE

PATIENCE = 60.0  # seconds that a test waits for a process before it fails
SOON = 0.001  # minutes


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy lab whose baseline has been measured."""
    return measured_toy(tmp_path_factory.mktemp("serve") / "toy")


@pytest.fixture
def lab(measured: Path, tmp_path: Path) -> Iterator[Lab]:
    """A copy of it."""
    lab = start(shutil.copytree(measured, tmp_path / "toy"))
    yield lab
    lab.ledger.close()


def submitted(lab: Lab, rate: object, **more: object) -> Trial:
    """A trial that an agent opened, edited and submitted."""
    known = {"role": "worker", "agent": "worker", "hypothesis": f"rate {rate}", **more}
    trial, path = agent_trial.open_for_agent(lab, **known)  # type: ignore[arg-type]
    edit_rate(path, rate)
    return agent_trial.submit(lab, trial)


def serve(
    lab: Lab, limits: Limits | None = None, *, slots: int = 2, listener: Callable[[Event], None] | None = None
) -> tuple[str, list[Event]]:
    """Serve until there is nothing to do; returns why it ended and what it said."""
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if listener is not None:
            listener(event)

    service = Service(lab, local_executor(lab, slots), limits or Limits(), SOON, hear)
    return asyncio.run(service.run()), heard


def order(root: Path, state: str) -> None:
    """What `autolab stop`, `pause` and `resume` write, from another connection."""
    with open_lab(root) as ledger:
        ledger.set_campaign(ledger.campaign().id, state=state)


def outcomes(lab: Lab) -> list[str]:
    return [str(t.verdict or t.status or t.state) for t in lab.ledger.sequence(lab.campaign.id)]


@pytest.mark.slow
def test_the_baseline_comes_first_and_every_submitted_trial_is_judged(toy: Path) -> None:
    lab = start(toy)
    made = add_idea(lab.ledger, lab.campaign.id, change="raise the rate")
    submitted(lab, 0.1)
    submitted(lab, 0.9, idea=made.number)
    reason, heard = serve(lab)
    assert "nothing was opened" in reason
    assert outcomes(lab) == ["confirmed", "worse", "confirmed"]
    assert [e.measurement.trial for e in heard if e.kind == "started" and e.measurement][:3] == [1, 1, 1]
    assert idea(lab.ledger, made.number).state is IdeaState.ADOPTED
    assert load_json(toy / MASTER)["trial"] == rows(toy / TABLE)[-1]["trial_id"]
    assert lab.ledger.campaign(lab.campaign.id).state == "finished"


@pytest.mark.slow
def test_what_a_decision_waits_for_gets_a_slot_before_the_next_screen(lab: Lab) -> None:
    first, *_, last = [submitted(lab, rate) for rate in (0.9, 0.1, 0.2)]
    _, heard = serve(lab, slots=1)
    began = [
        (e.measurement.trial, e.measurement.stage) for e in heard if e.kind == "started" and e.measurement
    ]
    # While one screening run was recorded, another could begin; from then on the decision comes first.
    assert began.index((first.number, "replicate")) <= began.index((last.number, "screen"))


@pytest.mark.slow
def test_what_two_trials_want_is_measured_once(tmp_path: Path) -> None:
    lab = start(write_sealed_toy(tmp_path / "toy"))
    for rate in (0.8, 0.85):
        submitted(lab, rate)
    _, heard = serve(lab)
    began = [e.measurement.id for e in heard if e.kind == "started" and e.measurement]
    assert f"{lab.ledger.trial_id(1)}-certify-0-1" in began and len(began) == len(set(began))


def test_the_limit_of_trials_is_kept_by_those_who_open_them(lab: Lab) -> None:
    submitted(lab, 0.1)
    refused = []

    def greedy(event: Event) -> None:
        if event.kind == "opened":
            if agent_trial.trials_left(lab) == 1:
                submitted(lab, 0.2)
            with pytest.raises(LabError, match="all trials that this campaign may have") as problem:
                submitted(lab, 0.3)
            refused.append(problem)

    with only_one(lab.root):
        reason, _ = serve(lab, Limits(trials=2), listener=greedy)
    assert reason == "all trials are done" and len(refused) == 2
    assert agent_trial.trials_left(lab) is None


def test_it_ends_after_enough_trials_without_a_promotion(lab: Lab) -> None:
    for rate in (0.1, 0.2, 0.3):
        submitted(lab, rate)
    reason, _ = serve(lab, Limits(patience=3))
    assert reason == "3 trials without a promotion"


def test_it_ends_when_its_hours_are_over(lab: Lab) -> None:
    submitted(lab, 0.9)
    reason, _ = serve(lab, Limits(hours=1e-9))
    assert "hours are over" in reason and outcomes(lab) == ["confirmed", "queued"]


@pytest.mark.slow
def test_stop_lets_what_runs_end_and_the_next_service_goes_on(lab: Lab) -> None:
    submitted(lab, 0.9)
    reason, heard = serve(
        lab, listener=lambda event: order(lab.root, "stopping") if event.kind == "started" else None
    )
    assert reason == "stopped by `autolab stop`"
    started = {e.measurement.id for e in heard if e.kind == "started" and e.measurement}
    assert started == {e.measurement.id for e in heard if e.kind == "measured" and e.measurement}
    assert outcomes(lab) == ["confirmed", "queued"] and lab.ledger.campaign().state == "stopped"
    _, again = serve(lab)
    assert outcomes(lab) == ["confirmed", "confirmed"]
    assert not started & {e.measurement.id for e in again if e.kind == "started" and e.measurement}


def test_stop_now_ends_what_runs_and_it_is_measured_again(toy: Path) -> None:
    lab = start(write_toy(toy, TRAIN.replace("value = RATE", "import time; time.sleep(30); value = RATE")))
    began = time.monotonic()
    reason, _ = serve(
        lab, listener=lambda event: order(toy, "cancelling") if event.kind == "started" else None
    )
    assert reason == "stopped by `autolab stop --now`" and time.monotonic() - began < 25
    assert outcomes(lab) == ["queued"]
    assert all(m.status is None for m in lab.ledger.measurements(1))


@pytest.mark.slow
def test_a_pause_lasts_until_resume(lab: Lab) -> None:
    submitted(lab, 0.9)  # two measurements: one before the pause, one after
    orders = {"measured": "paused", "paused": "running"}
    kinds = []

    def obey(event: Event) -> None:
        kinds.append(event.kind)
        if event.kind in orders:
            order(lab.root, orders.pop(event.kind))

    serve(lab, slots=1, listener=obey)
    assert "started" not in kinds[kinds.index("paused") : kinds.index("resumed")]
    assert outcomes(lab) == ["confirmed", "confirmed"]


def test_a_failed_baseline_is_one_line(tmp_path: Path) -> None:
    lab = start(write_toy(tmp_path / "toy", TRAIN.replace("RATE + SHIFT", "RATE / 0")))
    submitted(lab, 0.9)
    with pytest.raises(LabError, match="the baseline failed: crash"):
        serve(lab)
    assert outcomes(lab) == ["crash", "queued"]


def test_an_agent_that_went_away_does_not_keep_it_at_work(lab: Lab) -> None:
    trial, path = agent_trial.open_for_agent(lab, role="worker", agent="worker", hypothesis="never submitted")
    renew_lease(lab.ledger, trial.number, 0.0)
    _, heard = serve(lab)
    assert [e.trial.id for e in heard if e.kind == "refused" and e.trial] == [trial.id]
    assert lab.ledger.trial(trial.number).status is Status.PROPOSAL_FAILED and not path.exists()


def test_what_an_earlier_process_measured_is_adopted(toy: Path) -> None:
    lab = start(toy)
    executor = local_executor(lab, 1)
    measurement = lab.first_measurements(lab.ledger.trial(1))[0]
    bundle = executor.stage(measurement, lab.program(lab.ledger.trial(1)))
    lab.ledger.start_measurement(measurement)
    asyncio.run(executor.run(bundle, measurement, executor.slots[0]))
    _, heard = serve(lab)
    began = [e.measurement.id for e in heard if e.kind == "started" and e.measurement]
    assert len(began) == 2 and measurement.id not in began
    assert outcomes(lab) == ["confirmed"]


def test_what_a_killed_agent_left_behind_is_tidied_up(lab: Lab) -> None:
    trial = submitted(lab, 0.9)
    left = lab.state / "workspaces" / trial.id
    still = agent_trial.open_for_agent(lab, role="worker", agent="worker", hypothesis="still at work")[1]
    left.mkdir()
    serve(lab, Limits(hours=1e-9))
    assert not left.exists() and still.exists()


@contextmanager
def process(root: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "autolab.cli.main", "serve", *words]
    running = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def wait_until(ledger: Ledger, true: Callable[[], bool]) -> None:
    """Look again whenever another process has committed."""
    deadline, seen = time.monotonic() + PATIENCE, -1
    while True:
        if seen != (seen := ledger.changes()) and true():
            return
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_where_it_was(lab: Lab) -> None:
    trial = submitted(lab, SLOW_RATE)
    with process(lab.root) as first:
        wait_until(lab.ledger, lambda: bool(lab.ledger.measurements(trial.number)))
        first.send_signal(signal.SIGKILL)
        first.wait(PATIENCE)
    assert lab.ledger.trial(trial.number).state is TrialState.QUEUED and at_work(lab.root) is None
    later = submitted(lab, 0.1)
    with process(lab.root, "--idle", "0") as second:
        wait_until(
            lab.ledger, lambda: all(lab.ledger.trial(t.number).state == "done" for t in (trial, later))
        )
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE) == 0
    assert outcomes(lab) == ["confirmed", "confirmed", "worse"]
    stages = [m.stage for m in lab.ledger.measurements(trial.number)]
    assert stages[0] == "screen" and stages.count("screen") == 1 and stages[-2:] == ["confirm", "confirm"]
    assert lab.ledger.campaign().state == "stopped" and list((lab.state / "runs").iterdir()) == []


def test_started_in_the_background_it_is_there_once_and_refuses_beside_a_search(toy: Path) -> None:
    with only_one(toy), pytest.raises(LabError, match="is at work here"):
        start_serving(toy, [])
    with pytest.raises(LabError, match="slots wanted"):
        start_serving(toy, ["--slots", str(10 * (os.cpu_count() or 1))])
    process, ready = start_serving(toy, ["--idle", "0.001"])
    try:
        assert ready
        with open_lab(toy) as ledger:
            assert ledger.campaign().config["harness"] == "agents"
            if serving(toy) == process:
                with pytest.raises(LabError, match="runs already"):
                    start_serving(toy, [])
            wait_until(ledger, lambda: ledger.campaign().state == "finished")
    finally:
        if serving(toy) == process:
            os.kill(int(process), signal.SIGKILL)
