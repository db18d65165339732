"""The command line: what a person or a script sees, and one line for everything they can mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TASK, TRAIN, rows
from scripted import search

from autolab.ledger.records import Proposal
from autolab.ledger.views import MASTER, TABLE
from autolab.task import Edit

READERS = (
    ["status"],
    ["trials"],
    ["show", "master"],
    ["diff", "master"],
    ["lineage"],
    ["master"],
    ["doctor"],
)


def autolab(directory: Path, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autolab.cli.main", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, **more)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy lab after a short search."""
    from conftest import write_toy

    directory = write_toy(tmp_path_factory.mktemp("cli") / "toy")
    search(directory, [0.6, 0.2, 0.9])
    return directory


@pytest.mark.parametrize("words", READERS)
def test_every_reading_command_has_json(searched: Path, words: list[str]) -> None:
    done = autolab(searched, *words, "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


@pytest.mark.parametrize("words", [words for words in READERS if words[0] not in ("diff", "doctor")])
def test_plain_output_fits_a_terminal(searched: Path, words: list[str]) -> None:
    done = autolab(searched, *words)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_status_tells_the_master_with_its_interval(searched: Path) -> None:
    text = autolab(searched, "status").stdout
    assert "finished" in text and "loss 1.0" in text and "[" in text and "2 promotions" in text


def test_show_and_diff_tell_what_a_trial_was(searched: Path) -> None:
    assert "RATE 0.9" in autolab(searched, "show", "4").stdout
    assert "+RATE = 0.9" in autolab(searched, "diff", "4").stdout
    assert "-RATE = 0.5" in autolab(searched, "diff", "master", "--against", "baseline").stdout


def test_commands_work_below_the_lab(searched: Path) -> None:
    (searched / "deep" / "er").mkdir(parents=True, exist_ok=True)
    assert autolab(searched / "deep" / "er", "status").returncode == 0


def test_replay_gives_the_same_digits(searched: Path) -> None:
    done = autolab(searched, "replay", "master")
    assert done.returncode == 0 and "the same digits" in done.stdout, done.stdout + done.stderr


def test_replay_with_fresh_seeds_confirms_a_real_gain(searched: Path) -> None:
    done = autolab(searched, "replay", "master", "--seeds", "2", "--json")
    report = json.loads(done.stdout)
    assert report["holds"] and len(set(report["scores"])) == 2


def test_replay_knows_what_a_master_claims_after_a_demotion(toy: Path) -> None:
    """The demoted trial is compared with what it replaced, the baseline that is master again with its own record."""
    lab, _, _ = search(toy, [0.9])
    first, second = lab.ledger.promotions(lab.campaign.id)
    baseline = lab.ledger.trial(first.trial)
    lab.ledger.promote(
        baseline, score=first.score, interval=(1.3, 1.5), gain=0.0, reason="luck", kind="demotion"
    )
    again = json.loads(autolab(toy, "replay", "master", "--seeds", "2", "--json").stdout)
    assert again["trial"] == baseline.id and again["holds"] and "its own record" in again["text"]
    demoted = json.loads(autolab(toy, "replay", str(second.trial), "--seeds", "2", "--json").stdout)
    assert f"against trial {baseline.id}, which it replaced" in demoted["text"]
    assert demoted["gain"] == pytest.approx(0.4, abs=0.01) and 0 < demoted["half_width"] < 0.05


def test_replay_needs_nothing_but_the_ledger(searched: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(searched / ".autolab", copy / ".autolab")
    assert autolab(copy, "replay", "master").returncode == 0


def test_export_rebuilds_both_files(searched: Path) -> None:
    before = (searched / TABLE).read_text(), (searched / MASTER).read_text()
    (searched / TABLE).unlink()
    (searched / MASTER).unlink()
    assert autolab(searched, "export").returncode == 0
    assert ((searched / TABLE).read_text(), (searched / MASTER).read_text()) == before


def test_adopt_writes_the_master_into_the_working_tree(toy: Path) -> None:
    search(toy, [0.9])
    assert autolab(toy, "adopt").returncode == 0
    assert "RATE = 0.9" in (toy / "train.py").read_text()


def test_steering_is_recorded_for_the_proposers(toy: Path) -> None:
    lab, _, _ = search(toy, [0.6])
    assert autolab(toy, "steer", "try smaller steps").returncode == 0
    assert lab.open_trial(role="worker", agent="test").guidance == ("try smaller steps",)


@pytest.mark.slow
def test_submit_takes_edits_from_a_pipe(toy: Path) -> None:
    edits = json.dumps([{"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.9"}])
    done = autolab(toy, "submit", "--hypothesis", "better", "--edits", "-", "--json", input=edits)
    assert json.loads(done.stdout)["verdict"] == "confirmed", done.stderr
    assert rows(toy / TABLE)[-1]["agent"] == "submit"


@pytest.mark.slow
def test_init_makes_a_self_reported_lab_that_says_so(tmp_path: Path) -> None:
    script = "LR = 0.5  # range: 0.01 .. 2\nprint(f'val_loss: {(LR - 0.1) ** 2 + 1:.6f}')\n"
    (tmp_path / "train.py").write_text(script)
    assert autolab(tmp_path, "init").returncode == 0
    done = autolab(tmp_path, "run", "--trials", "3", "--slots", "1")
    assert done.returncode == 0, done.stderr
    assert "SELF-REPORTED" in done.stdout
    assert {row["evidence"] for row in rows(tmp_path / TABLE) if row["score"]} == {"self_reported"}
    assert "self-reported" in autolab(tmp_path, "status").stdout
    assert "self-reported" in autolab(tmp_path, "show", "1").stdout


@pytest.mark.parametrize("name", ["2024", "null", "a: b #c", "ünï"])
def test_init_takes_any_directory_and_script_name(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    (directory / f"{name}.py").write_text("LR = 1\nprint(f'val_loss: {LR}')\n")
    done = autolab(directory, "init")
    assert done.returncode == 0 and "minimizing val_loss" in done.stdout, done.stderr


def test_init_asks_whether_higher_is_better(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('accuracy:', 0.5)\n")
    assert "--maximize or --minimize" in bad_input(tmp_path, "init")
    assert autolab(tmp_path, "init", "--maximize").returncode == 0


def test_init_writes_nothing_that_it_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('val_loss:', 1)\n")
    bad_input(tmp_path, "init", "--metric", "x}\neditable: [y]")
    (tmp_path / "train.py").write_text("def f(:\n")
    bad_input(tmp_path, "init", "--metric", "loss")
    assert not (tmp_path / "task.yaml").exists()


@pytest.mark.slow
def test_a_submission_that_cannot_be_read_leaves_no_trial(toy: Path, tmp_path: Path) -> None:
    lab, _, _ = search(toy, [0.6])
    (tmp_path / "edits.json").write_text("not json")
    bad_input(toy, "submit", "--hypothesis", "x", "--edits", str(tmp_path / "edits.json"))
    bad_input(toy, "submit", "--hypothesis", "x", "--from", str(tmp_path))
    assert lab.ledger.undone(lab.campaign.id) == []


@pytest.mark.slow
def test_no_edits_are_not_the_working_tree(toy: Path) -> None:
    search(toy, [0.6])
    done = autolab(toy, "submit", "--hypothesis", "x", "--edits", "-", "--json", input="[]")
    assert json.loads(done.stdout)["status"] == "proposal_failed"


@pytest.mark.slow
def test_an_interrupted_submission_is_finished_by_the_next(toy: Path, tmp_path: Path) -> None:
    lab, _, _ = search(toy, [0.6])
    (tmp_path / "train.py").write_text(TRAIN.replace("RATE = 0.5", "RATE = 0.9"))
    ticket = lab.open_trial(role="person", agent="submit")
    edit = Edit(path="train.py", search="RATE = 0.6", replace="RATE = 0.9")
    assert lab.submit(ticket, Proposal("x", (edit,))).status is None
    done = autolab(toy, "submit", "--hypothesis", "x", "--from", str(tmp_path), "--json")
    assert json.loads(done.stdout)["verdict"] == "confirmed", done.stderr


@pytest.mark.slow
def test_adopt_knows_its_own_files_whatever_their_line_ends(toy: Path) -> None:
    (toy / "train.py").write_bytes(TRAIN.replace("\n", "\r\n").encode())
    search(toy, [0.9])
    assert autolab(toy, "adopt").returncode == 0
    assert b"RATE = 0.9\r\n" in (toy / "train.py").read_bytes()


def test_stopping_what_does_not_run_says_so(searched: Path) -> None:
    for word in ("stop", "pause", "resume"):
        assert "is not running (finished)" in autolab(searched, word).stdout


@pytest.mark.slow
def test_an_edited_recipe_is_not_ignored_in_silence(toy: Path) -> None:
    search(toy, [0.6])
    (toy / "train.py").write_text(TRAIN.replace("RATE = 0.5", "RATE = 5.5"))
    assert "autolab submit" in autolab(toy, "run", "--trials", "2").stdout


def bad_input(directory: Path, *words: str) -> str:
    """Run a command that must fail with one line; returns the line."""
    done = autolab(directory, *words)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_no_task_is_one_line(tmp_path: Path) -> None:
    assert "autolab init" in bad_input(tmp_path, "run")


def test_a_wrong_task_is_one_line(toy: Path) -> None:
    (toy / "task.yaml").write_text(TASK + "speed: 3\n")
    assert "unknown key 'speed'" in bad_input(toy, "run")


def test_a_recipe_that_does_not_parse_is_one_line(toy: Path) -> None:
    (toy / "train.py").write_text("def f(:\n")
    assert "train.py, line 1" in bad_input(toy, "run")


def test_a_recipe_that_is_a_link_is_one_line(toy: Path) -> None:
    (toy / "real.py").write_text(TRAIN)
    (toy / "train.py").unlink()
    (toy / "train.py").symlink_to("real.py")
    assert "not a plain file" in bad_input(toy, "run")


def test_a_damaged_ledger_is_one_line(toy: Path) -> None:
    (toy / ".autolab").mkdir()
    (toy / ".autolab" / "ledger.sqlite").write_bytes(b"\0garbage" * 999)
    assert "is damaged" in bad_input(toy, "status")
    assert "is damaged" in bad_input(toy, "run")


def test_a_state_directory_that_is_a_file_is_one_line(toy: Path) -> None:
    (toy / ".autolab").write_text("")
    bad_input(toy, "run")


def test_more_slots_than_cores_is_one_line(toy: Path) -> None:
    assert "cores" in bad_input(toy, "run", "--slots", "999")


def test_a_prepare_command_that_fails_is_one_line(toy: Path) -> None:
    (toy / "task.yaml").write_text(TASK.replace("commands: {", "commands: {prepare: [python, absent.py], "))
    assert "prepare" in bad_input(toy, "run")


def test_an_unknown_status_names_the_known_ones(searched: Path) -> None:
    assert "no_difference" in bad_input(searched, "trials", "--status", "nope")


def test_unknown_trials_are_one_line(searched: Path) -> None:
    assert "no trial" in bad_input(searched, "show", "999")
    assert "no trial" in bad_input(searched, "diff", "nonsense")


@pytest.mark.slow
def test_doctor_says_how_to_mend_a_missing_sandbox(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from autolab.cli import doctor

    monkeypatch.setattr(
        doctor, "available", lambda: ("none", "bubblewrap is not installed (mend: install it)")
    )
    done = CliRunner().invoke(doctor.doctor, ["-C", str(toy)])
    assert "weak sandbox" in done.output and "every record says so" in done.output


@pytest.mark.parametrize(("user", "said"), [(0, "weak user       root: trials can"), (1000, "ok   user ")])
def test_doctor_warns_of_a_lab_that_root_runs(
    toy: Path, user: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from autolab.cli.doctor import doctor

    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert said in CliRunner().invoke(doctor, ["-C", str(toy)]).output


def test_help_names_every_command() -> None:
    done = autolab(Path(), "--help")
    for command in ("init", "run", "status", "trials", "show", "diff", "lineage", "replay", "master", "adopt", "stop",
                    "pause", "steer", "doctor"):  # fmt: skip
        assert f"  {command} " in done.stdout
