"""The loop: order, budgets, stop, pause, resume."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TRAIN, load_json, rows, write_toy
from scripted import Scripted, outcome, search, start
from strays import left_over

from autolab.campaign.lock import only_one
from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.errors import LabError
from autolab.ledger.records import Proposal
from autolab.ledger.views import MASTER, TABLE
from autolab.task import Edit

GOOD = [0.6, 0.4, 0.7, 0.8, 0.9, 0.2]


@pytest.mark.slow
def test_a_search_measures_judges_and_promotes(toy: Path) -> None:
    lab, _, reason = search(toy, GOOD)
    assert reason == "all trials are done"
    master = lab.ledger.master(lab.campaign.id)
    assert "RATE = 0.9" in lab.ledger.program(master.program)["train.py"]
    assert master.score == pytest.approx(1.0, abs=0.01)
    verdicts = [row["verdict"] for row in rows(toy / TABLE)]
    assert verdicts == ["confirmed", "confirmed", "worse", "confirmed", "confirmed", "confirmed", "worse"]
    assert load_json(toy / MASTER)["trial"] == rows(toy / TABLE)[5]["trial_id"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_campaign_whatever_the_slots(tmp_path: Path) -> None:
    script = [*GOOD, 0.95]
    first = outcome(search(write_toy(tmp_path / "a"), script, slots=2)[0])
    second = outcome(search(write_toy(tmp_path / "b"), script, slots=1)[0])
    other = outcome(search(write_toy(tmp_path / "c"), script, slots=2, seed=7)[0])
    assert first == second
    assert [trial[3] for trial in other] != [trial[3] for trial in first]


@pytest.mark.slow
def test_a_proposer_sees_exactly_the_trials_before_its_window(toy: Path) -> None:
    _, harness, _ = search(toy, GOOD)
    # window 4: trial k is opened when trial k - 4 has been judged; the baseline is not told
    assert harness.seen == {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 2}


def test_every_failure_has_its_label_and_no_score(toy: Path) -> None:
    def change(search: str, replace: str, path: str = "train.py") -> Proposal:
        return Proposal("fails", (Edit(path=path, search=search, replace=replace),))

    script = [
        change("absent", "x"),
        change("RATE = 0.5", "RATE = ("),
        change("RATE = 0.5", "RATE = 0.5  # a comment"),
        change("RATE = 0.5", "RATE = 1 / 0"),
        change("    value =", "    raise SystemExit\n    value ="),
        change("x", "y", "evaluate.py"),
        change("RATE = 0.5", "RATE = float('nan')"),
        change("RATE = 0.5", "RATE = -500"),
    ]
    lab, _, _ = search(toy, script)
    found = [(trial.status, trial.score is None) for trial in lab.ledger.sequence(lab.campaign.id)][1:]
    assert found == [
        ("proposal_failed", True), ("preflight_failed", True), ("duplicate", True), ("crash", True),
        ("crash", True), ("proposal_failed", True), ("nan", True), ("illegal", True),
    ]  # fmt: skip
    assert lab.ledger.master(lab.campaign.id).gain == 0.0


def test_a_duplicate_learns_what_came_out(toy: Path) -> None:
    lab, _, _ = search(toy, [0.2, 0.6, 0.4, 0.45, 0.2])
    last = list(lab.ledger.sequence(lab.campaign.id))[-1]
    assert last.status == "duplicate" and "worse, loss 1.7" in last.note


@pytest.mark.slow
def test_trials_is_a_total_and_a_second_run_goes_on(toy: Path) -> None:
    search(toy, GOOD, limits=Limits(trials=3))
    lab, harness, _ = search(toy, GOOD)
    assert [trial.ordinal for trial in lab.ledger.trials()] == list(range(7))
    assert [ordinal for ordinal, _ in harness.told] == [1, 2, 3, 4, 5, 6]
    _, _, reason = search(toy, GOOD)
    assert reason == "all trials are done" and len(list(lab.ledger.trials())) == 7


def test_patience_ends_a_search_that_finds_nothing(toy: Path) -> None:
    lab, _, reason = search(toy, [0.1, 0.2, 0.3, 0.4, 0.45, 0.46, 0.47], limits=Limits(patience=3))
    assert reason == "3 trials without a promotion"
    assert len(list(lab.ledger.trials())) < 8  # the script would have had more


def test_money_ends_a_search(toy: Path) -> None:
    paid = [Proposal(f"{v}", (Edit(path="train.py", search="RATE = 0.5", replace=f"RATE = {v}"),), cost_usd=0.5)
            for v in (0.1, 0.2, 0.3, 0.4, 0.45)]  # fmt: skip
    _, _, reason = search(toy, paid, limits=Limits(max_usd=1.0))
    assert reason == "$1 are spent"


def test_a_baseline_that_fails_is_one_line(tmp_path: Path) -> None:
    directory = write_toy(tmp_path / "toy", train=TRAIN.replace("value = RATE", "value = 1 / 0 * RATE"))
    with pytest.raises(LabError, match=r"baseline failed: crash: ZeroDivisionError.*--new"):
        search(directory, GOOD)


@pytest.mark.slow
def test_stop_lets_what_runs_end_and_loses_nothing(toy: Path) -> None:
    def stop(work: CampaignRun, event: object) -> None:
        if getattr(event, "kind", "") == "promoted":
            work.drain("enough")

    lab, _, reason = search(toy, GOOD, listener=stop)
    assert reason == "enough"
    assert lab.ledger.campaign().state == "stopped"
    lab, _, _ = search(toy, GOOD)
    assert [trial.ordinal for trial in lab.ledger.trials()] == list(range(7))
    assert len(rows(toy / TABLE)) == 7


@pytest.mark.slow
def test_stop_and_pause_reach_a_campaign_from_another_process(toy: Path) -> None:
    lab = start(toy)
    paused_at: list[int] = []

    async def session() -> str:
        work = CampaignRun(
            lab, Scripted([0.5 + i / 1000 for i in range(1, 400)]), local_executor(lab, 2), Limits()
        )
        paused, resumed = asyncio.Event(), asyncio.Event()
        work.listener = lambda event: {"paused": paused, "resumed": resumed}.get(
            event.kind, asyncio.Event()
        ).set()
        running = asyncio.create_task(work.run())
        await asyncio.sleep(0)
        for verb, heard in (("pause", paused), ("resume", resumed)):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "autolab.cli.main", verb, "-C", toy
            )
            assert await process.wait() == 0
            await asyncio.wait_for(heard.wait(), 20)
            paused_at.append(len(work.gaps))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "autolab.cli.main", "stop", "-C", toy
        )
        assert await process.wait() == 0
        return await asyncio.wait_for(running, 30)

    with only_one(toy):
        assert asyncio.run(session()) == "stopped by `autolab stop`"
    assert lab.ledger.campaign().state == "stopped"


def command(toy: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "autolab.cli.main", "run", "-C", str(toy), "--json", *more]


@pytest.mark.slow
def test_kill_9_loses_nothing_and_leaves_nothing(toy: Path) -> None:
    (toy / "train.py").write_text(TRAIN.replace("value = RATE", "import time; time.sleep(0.2); value = RATE"))
    lines = 0
    with subprocess.Popen(command(toy, "--trials", "12"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines += json.loads(line)["kind"] in ("measured", "started")
            if lines == 9:
                process.kill()
                break
    done = subprocess.run(command(toy, "--trials", "12"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lab = start(toy)
    assert [trial.ordinal for trial in lab.ledger.sequence(lab.campaign.id)] == list(range(13))
    assert lab.ledger.undone(lab.campaign.id) == []
    table = rows(toy / TABLE)
    assert [row["trial_id"] for row in table] == [trial.id for trial in lab.ledger.trials()]
    assert left_over(toy / ".autolab") == {}
    assert list((toy / ".autolab" / "runs").iterdir()) == []


def test_ctrl_c_drains(toy: Path) -> None:
    with subprocess.Popen(command(toy), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["kind"] == "promoted":
                process.send_signal(signal.SIGINT)
                break
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert any(event["kind"] == "draining" for event in rest)
    assert left_over(toy / ".autolab") == {}


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_campaign_well(toy: Path) -> None:
    """`autolab run | head -1`"""
    words = [sys.executable, "-m", "autolab.cli.main", "run", "-C", str(toy), "--trials", "20"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert left_over(toy / ".autolab") == {}
    lab, _, _ = search(toy, GOOD)
    assert lab.ledger.undone(lab.campaign.id) == []


def test_pausing_a_campaign_that_is_stopping_does_not_hold_it_up(toy: Path) -> None:
    lab = start(toy)

    async def session() -> str:
        work = CampaignRun(
            lab, Scripted([0.5 + i / 1000 for i in range(1, 400)]), local_executor(lab, 2), Limits()
        )
        running = asyncio.create_task(work.run())
        while not work.running:
            await asyncio.sleep(0)
        work.drain("enough")
        lab.ledger.set_campaign(lab.campaign.id, state="paused")
        return await asyncio.wait_for(running, 60)

    assert asyncio.run(session()) == "enough"


def test_two_campaigns_on_one_directory_are_refused(toy: Path) -> None:
    with only_one(toy):
        done = subprocess.run(command(toy), capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr.count("\n") == 1
        and f"process {os.getpid()}" in done.stderr
        and "autolab stop" in done.stderr
    )


def test_a_changed_evaluator_needs_a_new_campaign(toy: Path) -> None:
    search(toy, GOOD[:1])
    with open(toy / "evaluate.py", "a") as file:
        file.write("# kinder\n")
    done = subprocess.run(command(toy), capture_output=True, text=True)
    assert done.returncode == 2 and "--new" in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_ledger_stays_whole(toy: Path) -> None:
    """A directory in which no bundle can be made stands for a disk that is full."""
    search(toy, GOOD[:2])
    runs = toy / ".autolab" / "runs"
    runs.rmdir()
    runs.write_text("in the way")
    done = subprocess.run(command(toy, "--trials", "9"), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    runs.unlink()
    lab, _, _ = search(toy, GOOD)
    assert [trial.ordinal for trial in lab.ledger.trials()][:3] == [0, 1, 2]
