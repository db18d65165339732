"""research_results.tsv and research_live_master.json equal the ledger, whatever happened to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import load_json, rows
from hypothesis import given
from hypothesis import strategies as st
from old_ledgers import old_lab
from test_ledger import open_one

from autolab.errors import LabError
from autolab.ledger.records import Measurement, Proposal, Status, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import COLUMNS, MASTER, TABLE, cell, write_views


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / ".autolab" / "ledger.sqlite")
    metric = {"name": "loss", "direction": "minimize"}
    ledger.create_campaign(
        name="c",
        task="t",
        key="k",
        config={"task": {"metric": metric}},
        baseline=ledger.add_program({"a.py": "x = 0"}),
    )
    return ledger


def finish(ledger: Ledger, count: int, hypothesis: str = "h") -> None:
    for _ in range(count):
        number = open_one(ledger)
        ledger.queue_trial(number, {"a.py": f"x = {number}"}, Proposal(hypothesis, ()))
        ledger.finish_trial(number, Status.OK, verdict=Verdict.WORSE, score=float(number))


def test_new_trials_are_appended(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, 3)
    write_views(ledger, tmp_path)
    inode = (tmp_path / TABLE).stat().st_ino
    finish(ledger, 2)
    write_views(ledger, tmp_path)
    table = rows(tmp_path / TABLE)
    assert (tmp_path / TABLE).stat().st_ino == inode
    assert [row["score"] for row in table] == ["1", "2", "3", "4", "5"]
    assert tuple(table[0]) == COLUMNS


def test_trials_that_finished_before_the_last_row_are_sorted_in(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was put back, or another lab's trials were pulled."""
    now = iter([1000.0, 1002.5, 1001.25, 1002.5, 1003.0])
    for expected in ([1], [1, 2], [1, 3, 2], [1, 3, 2, 4], [1, 3, 2, 4, 5]):
        number = open_one(ledger)
        with monkeypatch.context() as patch:
            patch.setattr("autolab.ledger.store.time.time", now.__next__)
            ledger.finish_trial(number, Status.CRASH)
        write_views(ledger, tmp_path)
        table = rows(tmp_path / TABLE)
        assert [int(row["trial_id"][-4:]) for row in table] == expected
    assert [row["finished_at"] for row in table][1:3] == [
        "1970-01-01T00:16:41.250Z",
        "1970-01-01T00:16:42.500Z",
    ]
    appended = (tmp_path / TABLE).read_text()
    write_views(ledger, tmp_path, rebuild=True)
    assert (tmp_path / TABLE).read_text() == appended


def test_a_table_of_an_earlier_version_is_written_anew(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, 2)
    old = "trial_id\tcreated_at\n" + "x\ty\n" * 200
    (tmp_path / TABLE).write_text(old)
    ledger.set_meta("table", f"2 {len(old)}")
    write_views(ledger, tmp_path)
    assert len(rows(tmp_path / TABLE)) == 2 and list(tmp_path.glob("*.old*")) == []


def test_an_upgraded_ledger_has_its_views_written_anew(tmp_path: Path) -> None:
    with Ledger(old_lab(tmp_path)) as upgraded:
        write_views(upgraded, tmp_path)
    assert [row["campaign"] for row in rows(tmp_path / TABLE)] == ["c-3fa2-1"] * 3
    assert load_json(tmp_path / MASTER)["campaign"] == "c-3fa2-1"
    assert list(tmp_path.glob("*.old*")) == []


def measured(ledger: Ledger, number: int, stage: str, **facts: object) -> None:
    begun = Measurement(f"{ledger.trial_id(number)}-{stage}-0-1", number, stage, seed=1, eval_seed=2)
    ledger.start_measurement(begun)
    ledger.finish_measurement(begun.replace(status=Status.OK, score=1.0, **facts))


def test_a_row_counts_what_was_paid_and_what_is_evidence(ledger: Ledger, tmp_path: Path) -> None:
    number = open_one(ledger)
    ledger.queue_trial(number, {"a.py": "x = 1"}, Proposal("h", (), cost_usd=0.5))
    measured(ledger, number, "screen", cost_usd=0.25, job="6541f", started_at=1.0)
    measured(ledger, number, "confirm", cached_from="other-screen-0-1", started_at=2.0)
    ledger.finish_trial(number, Status.OK, verdict=Verdict.WORSE, score=1.0)
    measured(ledger, number, "replay-screen", cost_usd=9.0, started_at=3.0)
    write_views(ledger, tmp_path)
    (row,) = rows(tmp_path / TABLE)
    assert (row["cost_usd"], row["measurements"]) == ("0.75", "1")
    assert row["job_id"] == f"{ledger.trial_id(number)}-confirm-0-1"


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-20], lambda text: text + "x\ty\n", lambda text: "", None]
)
def test_a_damaged_table_is_written_anew(ledger: Ledger, tmp_path: Path, damage) -> None:
    finish(ledger, 3)
    write_views(ledger, tmp_path)
    path = tmp_path / TABLE
    intact = path.read_text()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage(intact))
    write_views(ledger, tmp_path)
    assert path.read_text() == intact


def test_a_failed_trial_has_an_empty_score(ledger: Ledger, tmp_path: Path) -> None:
    ledger.finish_trial(open_one(ledger), Status.CRASH, note="boom")
    write_views(ledger, tmp_path)
    (row,) = rows(tmp_path / TABLE)
    assert (row["status"], row["score"], row["delta_vs_master"], row["note"]) == ("crash", "", "", "boom")


def test_markup_and_control_characters_stay_text(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, 1, hypothesis="a\tb\nc\x1b[31mred\u2028</script>\x00")
    write_views(ledger, tmp_path)
    (row,) = rows(tmp_path / TABLE)
    assert row["hypothesis"] == "a b c [31mred </script>"


@given(st.text())
def test_no_cell_breaks_the_table(text: str) -> None:
    clean = cell(text)
    assert len(clean) <= 500 and len(clean.splitlines()) <= 1 and "\t" not in clean


def test_the_master_file_holds_the_program_and_the_way_to_it(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, 1)
    trial = next(ledger.trials())
    ledger.promote(trial, score=1.0, interval=(0.9, 1.1), gain=0.0, reason="baseline")
    write_views(ledger, tmp_path)
    master = load_json(tmp_path / MASTER)
    assert master["files"] == {"a.py": "x = 1"}
    assert master["reproduce"] == f"autolab replay {trial.id}"
    assert master["score_ci"] == [0.9, 1.1]


def test_an_unwritable_directory_is_one_line_and_loses_nothing(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, 1)
    (tmp_path / TABLE).mkdir()
    with pytest.raises(LabError, match="research_results"):
        write_views(ledger, tmp_path)
    assert len(list(ledger.trials())) == 1


def test_the_table_of_a_lost_ledger_is_kept_aside(ledger: Ledger, tmp_path: Path) -> None:
    """It may be all that is left of it."""
    (tmp_path / TABLE).write_text("x" * 1000)
    finish(ledger, 1)
    write_views(ledger, tmp_path)
    assert (tmp_path / f"{TABLE}.old1").read_text() == "x" * 1000
    assert len(rows(tmp_path / TABLE)) == 1


def test_text_that_is_not_unicode_is_stored_as_question_marks(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, 1, hypothesis="bad \udcff")
    trial = next(ledger.trials())
    ledger.promote(trial, score=1.0, interval=(0.9, 1.1), gain=0.0, reason="baseline")
    write_views(ledger, tmp_path)
    assert rows(tmp_path / TABLE)[0]["hypothesis"] == "bad ?"
