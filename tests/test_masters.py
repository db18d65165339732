"""What people, agents and exports are shown of the master: its state, its interval and its standing, never a bare
best; and of the sealed split what came of a look, never the score to those who search."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import load_json
from masters import CONTROLS, SEALED, ended, looked, opened, promoted, stands, the_story
from scripted import start

from autolab.campaign.loop import Event, Limits
from autolab.cli.live import Reporter
from autolab.cli.main import cli
from autolab.hub.jobs.of_lab import is_sealed
from autolab.lab import Lab
from autolab.ledger.jobs import note_job, reserve
from autolab.ledger.lineage import lineage_slice
from autolab.ledger.masters import master_now, states, steps
from autolab.ledger.records import Status, Verdict
from autolab.ledger.views import MASTER, TABLE, master_record, write_views
from autolab.report.figures import staircase
from autolab.report.morning import morning
from autolab.report.overview import overview

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of tests/masters.py; tests only read it."""
    lab = the_story(tmp_path_factory.mktemp("masters") / "toy")
    write_views(lab.ledger, lab.root)
    yield lab
    lab.ledger.close()


@pytest.fixture
def young(toy: Path) -> Lab:
    """A lab with one promotion, which stands."""
    lab = start(toy)
    first = next(lab.ledger.sequence(lab.campaign.id))
    ended(lab, first, Verdict.CONFIRMED, 1.4, 0.0)
    promoted(lab, 1, "baseline")
    ended(lab, opened(lab, "a larger rate", "0.6"), Verdict.CONFIRMED, 1.3, 0.1)
    stands(lab, promoted(lab, 2, "improvement", 0.1), score=1.305, runs=12, gain=0.095, se=0.005)
    return lab


def told(lab: Lab, *words: str) -> str:
    done = CliRunner().invoke(cli, [words[0], "-C", str(lab.root), *words[1:]])
    assert done.exit_code == 0, done.output
    return done.output


def name(lab: Lab, number: int) -> str:
    return lab.ledger.trial_id(number)


# what is believed -------------------------------------------------------------------------------------


def test_the_master_is_what_its_standing_says_not_what_its_promotion_said(young: Lab) -> None:
    seen = master_now(young.ledger, young.campaign.id)
    assert (seen.score, seen.runs, seen.state) == (1.305, 12, "confirmed")
    assert seen.gain == 0.095 and seen.gain_low == pytest.approx(0.0846, abs=1e-4) and seen.over is not None
    assert seen.over.number == 1


def test_without_a_standing_of_its_own_the_promotion_is_all_that_is_known(young: Lab) -> None:
    """So it is with campaigns of other labs."""
    young.ledger.rows.execute("DELETE FROM standing")
    seen = master_now(young.ledger, young.campaign.id)
    assert (seen.score, seen.runs, seen.gain, seen.gain_low) == (1.3, None, 0.1, None)


def test_every_trial_that_was_promoted_has_a_state(story: Lab) -> None:
    known = states(steps(story.ledger, story.campaign.id))
    assert known == {2: "certified", 3: "simplification", 5: "demoted"}
    assert master_now(story.ledger, story.campaign.id).state == "simplification"


@pytest.mark.parametrize(("sealed", "state"), [(8.0, "certified"), (9.5, "confirmed")])
def test_a_look_by_hand_certifies_what_is_better_on_the_sealed_split(
    tmp_path: Path, sealed: float, state: str
) -> None:
    lab = the_story(tmp_path / "toy")
    ended(lab, opened(lab, "another", "0.95"), Verdict.CONFIRMED, 1.2, 0.1)
    promoted(lab, 7, "improvement", 0.1)
    looked(lab, 3, 9.0, "hand")
    looked(lab, 7, sealed, "hand")
    assert states(steps(lab.ledger, lab.campaign.id))[7] == state


def test_a_promotion_by_hand_counts_whatever_the_trial_ended_as(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    promoted(lab, 4, "improvement", 0.01)
    assert states(steps(lab.ledger, lab.campaign.id))[4] == "confirmed"
    assert "Promising" not in morning(lab.ledger, lab.campaign.id, now=time.time(), alive=True)
    assert "0004  confirmed" in told(lab, "trials")


# exports ----------------------------------------------------------------------------------------------


def test_the_master_file_has_the_state_the_interval_and_the_way(story: Lab) -> None:
    record = load_json(story.root / MASTER)
    assert (record["state"], record["score"], record["estimated_from"]) == ("simplification", 1.301, 26)
    assert record["score_ci"] == [pytest.approx(1.299), pytest.approx(1.303)]
    assert (record["noise_sd"], record["noise_df"]) == (0.01, 20)
    way = [(step["trial"][-4:], step["kind"], step["state"]) for step in record["chain"]]  # type: ignore[attr-defined]
    assert way == [
        ("0001", "baseline", "baseline"), ("0002", "improvement", "certified"),
        ("0003", "simplification", "simplification"), ("0005", "improvement", "demoted"),
        ("0003", "demotion", "simplification"),
    ]  # fmt: skip


def test_the_master_file_has_the_gain_over_what_it_replaced(young: Lab) -> None:
    record = master_record(young.ledger, young.campaign.id)
    assert record["gain"] == 0.095 and record["replaced"] == name(young, 1)
    assert record["gain_ci"] == [pytest.approx(0.0846, abs=1e-4), pytest.approx(0.1054, abs=1e-4)]


def test_the_master_file_is_written_anew_when_the_master_is_seen_anew(young: Lab) -> None:
    write_views(young.ledger, young.root)
    before = load_json(young.root / MASTER)
    stands(young, young.ledger.master(young.campaign.id), score=1.306, runs=13, gain=0.094, se=0.004)
    write_views(young.ledger, young.root)
    after = load_json(young.root / MASTER)
    assert (before["score"], after["score"], after["estimated_from"]) == (1.305, 1.306, 13)


def test_the_master_file_is_not_written_without_news(young: Lab) -> None:
    write_views(young.ledger, young.root)
    inode = (young.root / MASTER).stat().st_ino
    write_views(young.ledger, young.root)
    assert (young.root / MASTER).stat().st_ino == inode


def test_a_look_is_news_for_the_master_file(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    write_views(lab.ledger, lab.root)
    looked(lab, 3, 7.0, "hand")
    write_views(lab.ledger, lab.root)
    known = load_json(lab.root / MASTER)["sealed_looks"]
    assert known["count"] == 3 and known["looks"][-1]["asked_by"] == "hand"  # type: ignore[index]


# people -----------------------------------------------------------------------------------------------


def test_status_tells_the_state_the_interval_and_the_noise(story: Lab) -> None:
    text = " ".join(told(story, "status").split())
    assert "loss 1.301 [1.299, 1.303] simplification, from 26 runs" in text
    assert "3 promotions, 1 demotion" in text and "0.01 a run, 20 degrees of freedom" in text
    assert "1 demoted" in text and "autolab confirm ID" in text and "2 looks" in text


def test_status_in_json_counts_the_masters_controls(story: Lab) -> None:
    master = json.loads(told(story, "status", "--json"))["master"]
    assert (master["controls"], master["promotions"], master["demotions"]) == (CONTROLS, 3, 1)
    assert master["gain_total"] == pytest.approx(0.1, abs=0.01) and master["gain_total_low"] < 0.1


def test_show_tells_how_the_master_stands_and_what_it_costs(story: Lab) -> None:
    text = told(story, "show", "3")
    assert "now         1.301 [1.299, 1.303] simplification, from 26 runs, the master" in text
    assert "controls    24 controls, mean 1.3012, 1.3 to 1.3023" in text
    assert text.count("control-6") == 0 and "price       costs nothing" in text


def test_show_tells_why_a_trial_was_demoted(story: Lab) -> None:
    text = told(story, "show", "5")
    assert "outcome     ok confirmed demoted" in text
    assert f"{name(story, 5)} -> {name(story, 3)}: no longer beats it: -0.01 ± 0.004" in text


def test_show_names_the_command_for_a_provisional_trial(story: Lab) -> None:
    assert f"`autolab confirm {name(story, 4)}`" in told(story, "show", "4")


def test_show_tells_a_person_what_came_of_the_look_at_the_sealed_split(story: Lab) -> None:
    text = " ".join(told(story, "show", "2").split())
    assert f"certified: +0.5 over {name(story, 1)} on the sealed split, 1 look" in text
    assert str(SEALED) not in text


def test_trials_and_lineage_call_a_demoted_trial_demoted(story: Lab) -> None:
    assert f"{name(story, 5)}  demoted" in told(story, "trials")
    assert told(story, "trials", "--status", "demoted").count(name(story, 5)) == 1
    assert "from 26 runs" in told(story, "lineage") and "no longer beats it" in told(story, "lineage")


def test_master_tells_the_way_with_every_step_back(story: Lab) -> None:
    text = told(story, "master")
    assert "loss 1.301 [1.299, 1.303] simplification, from 26 runs" in text
    assert "certified  a larger rate" in text and "demoted  luck" in text
    assert f"{name(story, 5)} -> {name(story, 3)}: no longer beats it" in text


@pytest.mark.parametrize(
    "words", ["status", "show 1", "show 2", "show 3", "show 5", "lineage", "master", "trials"]
)
def test_plain_output_fits_a_terminal(story: Lab, words: str) -> None:
    assert max(map(len, told(story, *words.split()).splitlines())) <= 100


def test_the_report_says_what_was_promoted_what_was_taken_back_and_what_is_promising(story: Lab) -> None:
    text = morning(story.ledger, story.campaign.id, now=time.time(), alive=True)
    assert "**loss 1.400 → 1.301 [1.299, 1.303], simplification at 95 %, after 1 demotion, 5 trials, " in text
    assert "The master's score is from 26 runs; 3 promotions, 1 demotion; campaign running;" in text
    assert "1 promotion was taken back, the last one: `" in text
    assert f"**Demoted**: {name(story, 5)} -> {name(story, 3)}: no longer beats it" in text
    assert f"`autolab confirm {name(story, 4)}` measures on" in text
    assert "| `optimizer` | 5 | 100 % | 2 | 1 | 0 | 1 | 1 | 0.1 |" in text


def test_the_staircase_shows_every_state_and_steps_back(story: Lab) -> None:
    view = overview(story.ledger, story.campaign.id, now=story.campaign.created_at + 60, alive=False)
    picture = staircase(view, formats=("svg",))["staircase.svg"].decode()
    for word in (
        "certified",
        "simplification",
        "provisional",
        "demoted",
        "taken back",
        "master now (simplification)",
    ):
        assert f">{word}</text>" in picture
    assert "loss 1.4 → 1.301 [1.299, 1.303] simplification, 3 promotions, 1 demotion" in picture


def test_a_running_campaign_says_that_a_master_was_taken_back(
    story: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter(story, Limits(), json_lines=False)
    reporter._promotion = 0  # as it was before the demotion
    for _ in range(2):
        reporter.heed(Event("judged", story.ledger.trial(6)))
    assert capsys.readouterr().out.count(f"DEMOTED {name(story, 5)} -> {name(story, 3)}") == 1


# agents -----------------------------------------------------------------------------------------------


def test_the_lineage_of_agents_tells_states_and_why_a_master_was_taken_back(story: Lab) -> None:
    text = lineage_slice(story.ledger, story.campaign.id)
    assert f"- {name(story, 3)} 1.301 [1.299, 1.303] simplification, from 26 runs: no shift" in text
    assert f"- {name(story, 5)} -> {name(story, 3)}: no longer beats it: -0.01 ± 0.004" in text
    not_better = text.split("## Measured, not better")[1].split("##")[0]
    assert f"- {name(story, 5)} demoted [optimizer] luck" in not_better
    promising = text.split("## Promising, not shown to be better")[1].split("##")[0]
    assert f"- {name(story, 4)} provisional" in promising


def test_nobody_who_searches_sees_a_score_on_the_sealed_split(story: Lab) -> None:
    """Neither what agents may read, nor what goes to other labs."""
    seen = [
        lineage_slice(story.ledger, story.campaign.id, limit=50_000),
        morning(story.ledger, story.campaign.id, now=time.time(), alive=True, limit=50_000),
        (story.root / MASTER).read_text(),
        (story.root / TABLE).read_text(),
    ]
    assert all(str(SEALED) not in text and str(SEALED + 0.5) not in text for text in seen)


@pytest.mark.parametrize(
    "words", ["trial.py show 1", "trial.py show 2", "trial.py status 2", "lineage.py show 2"]
)
def test_no_command_of_agents_prints_a_score_on_the_sealed_split(story: Lab, words: str) -> None:
    script, *arguments = words.split()
    for form in ([], ["--json"]):
        command = [sys.executable, SCRIPTS / script, *arguments, *form]
        done = subprocess.run(command, cwd=story.root, capture_output=True, text=True)
        assert done.returncode == 0 and "certify" not in done.stdout
        assert str(SEALED) not in done.stdout and str(SEALED + 0.5) not in done.stdout


def test_agents_see_the_state_of_a_trial_and_count_its_controls(story: Lab) -> None:
    command = [sys.executable, SCRIPTS / "trial.py", "show", "3"]
    said = subprocess.run(command, cwd=story.root, capture_output=True, text=True).stdout
    assert "the master; now 1.301 [1.299, 1.303] simplification, from 26 runs" in said
    assert "24 controls" in said and "control-6" not in said


def test_a_look_at_the_sealed_split_is_announced_without_its_score(
    story: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    look = next(m for m in story.ledger.measurements(2) if m.stage == "certify")
    look = look.replace(cause=f"sealed_loss {SEALED}", curve=((0.5, SEALED),))
    for json_lines in (False, True):
        for seen in (look, look.replace(status=Status.CRASH, score=None)):
            Reporter(story, Limits(), json_lines=json_lines).heed(Event("measured", None, seen))
    said = capsys.readouterr().out
    assert "looked at the sealed split:" not in said.splitlines()[0]
    assert "looked at the sealed split: crash" in said and str(SEALED) not in said


def test_agents_may_not_read_the_log_of_a_job_that_measures_the_sealed_split(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    for measurement in lab.ledger.measurements(2):
        job = reserve(
            lab.ledger, lab.campaign.id, measurement, bundle="b", flavor="cpu-basic", most_usd=0.1, limit=None
        )
        note_job(lab.ledger, job.ticket, id=f"job of {measurement.stage}", stage="RUNNING")
    assert is_sealed(lab.ledger.path, "job of certify")
    assert not is_sealed(lab.ledger.path, "job of screen") and not is_sealed(lab.ledger.path, "another")


def test_the_newest_step_is_the_last_of_all_steps(toy: Path) -> None:
    lab = start(toy)

    def check() -> None:
        chain = steps(lab.ledger, lab.campaign.id)
        assert master_now(lab.ledger, lab.campaign.id) == master_now(lab.ledger, lab.campaign.id, chain)

    ended(lab, next(lab.ledger.sequence(lab.campaign.id)), Verdict.CONFIRMED, 1.4, 0.0)
    promoted(lab, 1, "baseline")
    check()
    for number, (kind, verdict) in enumerate(
        (("improvement", Verdict.CONFIRMED), ("simplification", Verdict.SIMPLIFICATION)), start=2
    ):
        ended(lab, opened(lab, kind, f"0.{number}"), verdict, 1.3, 0.1)
        promoted(lab, number, kind, 0.1)
        check()
    promoted(lab, 2, "demotion", 0.01)
    check()
