"""Defects found in other autoresearch loops, each as a test that it cannot happen here.

The letters are those of a review of one such system; `o` (no tests, no CI) is answered by this suite.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TASK, TRAIN, load_json, rows, write_toy
from scripted import search, start

from autolab.campaign.single import settle
from autolab.cli.executors import local_executor
from autolab.judging.course import advance
from autolab.lab import Lab
from autolab.ledger.records import Measurement, Proposal, Status, Trial
from autolab.ledger.views import MASTER, TABLE, write_views
from autolab.task import Edit, comparability_key, load_task

SELF_REPORTED = TASK.replace(", evaluate: [python, evaluate.py]", "").replace("protected: [evaluate.py]", "")


def propose(lab: Lab, *edits: tuple[str, str]) -> Trial:
    """Submit a change of train.py as a trial; it is not measured yet."""
    ticket = lab.open_trial(role="worker", agent="test")
    changes = tuple(Edit(path="train.py", search=old, replace=new) for old, new in edits)
    return lab.submit(ticket, Proposal("test", changes))


def run(lab: Lab, trial: Trial) -> Trial:
    """Measure and judge a trial."""
    return asyncio.run(settle(lab, local_executor(lab, 1), trial))


@pytest.fixture
def lab(toy: Path) -> Lab:
    """A toy lab whose baseline has been measured."""
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    return lab


def autolab(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autolab.cli.main", *map(str, words)], capture_output=True, text=True
    )


def test_a_trial_starts_where_its_files_are(lab: Lab) -> None:
    check = "import sys; assert {'train.py', 'evaluate.py'} <= set(os.listdir('.')); value ="
    assert run(lab, propose(lab, ("    value =", f"    {check}"))).status == "ok"


def test_b_results_reach_the_one_ledger_from_any_directory(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "notes").mkdir()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "train.py").write_text(TRAIN.replace("RATE = 0.5", "RATE = 0.8"))
    done = autolab("submit", "-C", lab.root / "notes", "--from", mine, "--hypothesis", "faster")
    assert done.returncode == 0, done.stderr
    assert [trial.verdict for trial in lab.ledger.trials()] == ["confirmed", "confirmed"]
    assert not (mine / ".autolab").exists() and not (lab.root / "notes" / ".autolab").exists()


def test_c_a_trial_branches_from_the_master_not_from_the_working_tree(lab: Lab) -> None:
    run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.8")))
    (lab.root / "train.py").write_text(TRAIN.replace("RATE = 0.5", "RATE = 0.1"))
    ticket = lab.open_trial(role="worker", agent="test")
    assert "RATE = 0.8" in ticket.parent_files["train.py"]


@pytest.mark.parametrize(
    ("printed", "status"),
    [
        ("-1", "illegal"),
        ("-inf", "nan"),
        ("nan", "nan"),
        ("inf", "nan"),
        ("1e308", "illegal"),
        ("0", "illegal"),
    ],
)
def test_d_no_printed_number_outside_the_bounds_is_promoted(
    tmp_path: Path, printed: str, status: str
) -> None:
    task = SELF_REPORTED.replace("bounds: [0, 100]", "bounds: [0.1, 100]")
    toy = write_toy(tmp_path / "toy", train="VALUE = '2.0'\nprint('loss:', VALUE)\n", task=task)
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    trial = run(lab, propose(lab, ("'2.0'", f"'{printed}'")))
    assert (trial.status, trial.score) == (status, None)
    assert lab.ledger.master(lab.campaign.id).score == 2.0


def test_d_the_exit_code_counts(tmp_path: Path) -> None:
    toy = write_toy(
        tmp_path / "toy", train="CODE = 0\nprint('loss: 2')\nraise SystemExit(CODE)\n", task=SELF_REPORTED
    )
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    assert run(lab, propose(lab, ("CODE = 0", "CODE = 3"), ("loss: 2", "loss: 1"))).status == "crash"


def test_e_a_score_is_bound_to_the_code_that_ran_and_counts_once(lab: Lab) -> None:
    trial = propose(lab, ("    value =", "    raise SystemExit(0)\n    value ="))
    assert run(lab, trial).status == "crash"
    (measured,) = lab.ledger.measurements(trial.number)
    again = measured.replace(status=Status.OK, metrics={"loss": 0.1}, score=0.1)
    assert lab.ledger.finish_measurement(again) is False
    assert lab.ledger.trial(trial.number).score is None


def test_f_a_slower_writer_with_a_worse_score_does_not_replace_a_better_master(lab: Lab) -> None:
    early = propose(lab, ("RATE = 0.5", "RATE = 0.6"))
    late = propose(lab, ("RATE = 0.5", "RATE = 0.9"))
    executor = local_executor(lab, 1)

    async def screened(trial: Trial) -> None:
        wanted = lab.needed(trial, "screen")
        bundle = executor.stage(wanted, lab.program(trial))
        lab.record(await executor.run(bundle, wanted, executor.slots[0]))

    asyncio.run(screened(early))
    run(lab, late)
    judged = advance(lab, early.number)  # read its scores before, writes after
    assert isinstance(judged, Trial) and judged.verdict == "worse"
    assert lab.ledger.master(lab.campaign.id).trial == late.number


def test_g_metric_names_may_hold_capitals_and_digits(tmp_path: Path) -> None:
    task = SELF_REPORTED.replace("name: loss", "name: Total_Loss_M2")
    toy = write_toy(tmp_path / "toy", train="print('Total_Loss_M2:   1.25')\n", task=task)
    lab = start(toy)
    assert run(lab, next(lab.ledger.sequence(lab.campaign.id))).score == 1.25


def test_h_a_repetition_of_a_finished_trial_is_refused_whatever_its_label(lab: Lab) -> None:
    first = run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.3")))
    again = propose(lab, ("RATE = 0.5", "RATE = 0.3  # b64rep57"))
    assert again.status == "duplicate" and first.id in again.note


def test_i_protection_is_enforced_not_asked_for(lab: Lab) -> None:
    ticket = lab.open_trial(role="worker", agent="test")
    change = Edit(path="evaluate.py", search="1.0 + abs", replace="0.0 * abs")
    assert lab.submit(ticket, Proposal("kinder", (change,))).status == "proposal_failed"
    write = "open('evaluate.py', 'a').write('#')"
    trial = run(lab, propose(lab, ("    value =", f"    {write}\n    value =")))
    assert trial.status in ("crash", "tampered") and "read-only" in trial.note.lower()


@pytest.mark.slow
def test_j_a_hung_trial_ends_and_the_next_one_runs(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "toy", task=TASK.replace("wall_seconds: 20", "wall_seconds: 3"))
    hang = (
        Edit(path="train.py", search="    value =", replace="    import time; time.sleep(600)\n    value ="),
    )
    lab, _, _ = search(toy, [Proposal("hang", hang), 0.7], slots=1)
    assert [trial.status for trial in lab.ledger.sequence(lab.campaign.id)] == ["ok", "timeout", "ok"]


@pytest.mark.slow
def test_k_nothing_of_the_users_is_overwritten(lab: Lab) -> None:
    run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.8")))
    assert autolab("init", lab.root).returncode == 2
    (lab.root / "train.py").write_text("mine = True\n")
    refused = autolab("adopt", "-C", lab.root)
    assert refused.returncode == 2 and "changed by hand" in refused.stderr
    assert (lab.root / "train.py").read_text() == "mine = True\n"
    assert autolab("adopt", "-C", lab.root, "--force").returncode == 0
    assert "RATE = 0.8" in (lab.root / "train.py").read_text()


@pytest.mark.slow
def test_l_the_files_never_say_what_the_ledger_does_not(lab: Lab) -> None:
    run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.8")))
    write_views(lab.ledger, lab.root)
    table = [row["trial_id"] for row in rows(lab.root / TABLE)]
    assert table == [trial.id for trial in lab.ledger.trials()]
    assert load_json(lab.root / MASTER)["trial"] == table[-1]
    assert str(lab.root) not in (lab.root / MASTER).read_text() + (lab.root / TABLE).read_text()


def test_m_other_hardware_is_another_key_and_noise_is_no_failure(lab: Lab) -> None:
    task = load_task(lab.root)
    assert comparability_key(task, "", "H100") != comparability_key(task, "", "H200")
    trial = run(lab, propose(lab, ("RATE = 0.5", "RATE = 0.50001")))
    assert (trial.status, trial.verdict) == ("ok", "no_difference")


def test_n_the_recipe_does_not_own_the_clock(tmp_path: Path) -> None:
    task = TASK.replace("tokens: 10", "cpu_seconds: 0.3, startup_seconds: 0.5")
    toy = write_toy(tmp_path / "toy", task=task)
    lab = start(toy)
    run(lab, next(lab.ledger.sequence(lab.campaign.id)))
    stolen = "import time; time.time = time.process_time = lambda: 0.0\n    for _ in range(10**10): pass\n    value ="
    trial = run(lab, propose(lab, ("    value =", f"    {stolen}")))
    assert trial.status == "timeout"
    (measured,) = lab.ledger.measurements(trial.number)
    assert isinstance(measured, Measurement) and 0.5 < measured.train_cpu_seconds < 5
