"""The ledger: written once, shared by processes, honest about damage."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from autolab.errors import LabError
from autolab.ledger.records import Measurement, Proposal, Status, TrialState, Verdict
from autolab.ledger.store import Ledger
from autolab.task import Edit


def begin(path: Path) -> Ledger:
    ledger = Ledger(path / ".autolab" / "ledger.sqlite")
    if not ledger.campaigns():
        ledger.create_campaign(
            name="c", task="t", key="k", config={"seed": 0}, baseline=ledger.add_program({"a": "1"})
        )
    return ledger


def open_one(ledger: Ledger) -> int:
    return ledger.open_trial(
        ledger.campaign().id, role="worker", agent="test", surface="", parent_program=None, parent_trial=None
    ).number


def test_a_finished_trial_never_changes(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        number = open_one(ledger)
        ledger.finish_trial(number, Status.CRASH, note="boom")
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            ledger.finish_trial(number, Status.OK, score=1.0)
        with pytest.raises(sqlite3.IntegrityError, match="never deleted"), ledger.transaction() as db:
            db.execute("DELETE FROM trial")
        trial = ledger.trial(number)
        assert (trial.status, trial.score, trial.note) == ("crash", None, "boom")


def test_a_measurement_is_written_once(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        number = open_one(ledger)
        first = Measurement(id="m", trial=number, stage="screen", seed=1, eval_seed=2)
        ledger.start_measurement(first)
        assert ledger.finish_measurement(first.replace(status=Status.OK, score=0.5, metrics={"loss": 0.5}))
        assert not ledger.finish_measurement(first.replace(status=Status.OK, score=0.1))
        (stored,) = ledger.measurements(number)
        assert (stored.score, stored.metrics) == (0.5, {"loss": 0.5})


def test_a_proposal_comes_back_as_it_was(tmp_path: Path) -> None:
    proposal = Proposal(
        "why\t\n\x1b[31m</script>", (Edit(path="a", search="1", replace="2"),), "s", sources=("p",)
    )
    with begin(tmp_path) as ledger:
        number = open_one(ledger)
        assert ledger.queue_trial(number, {"a": "2"}, proposal) is None
        assert ledger.trial(number).proposal == proposal


def test_the_second_claim_of_the_same_code_learns_who_was_first(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        first, second = open_one(ledger), open_one(ledger)
        assert ledger.queue_trial(first, {"a.py": "x = 1"}, Proposal("one", ())) is None
        assert ledger.queue_trial(second, {"a.py": "x = 1  # again"}, Proposal("two", ())) == first
        assert ledger.trial(second).state is TrialState.OPEN


def test_an_infrastructure_error_frees_its_claim(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        first, second = open_one(ledger), open_one(ledger)
        ledger.queue_trial(first, {"a.py": "x = 1"}, Proposal("one", ()))
        ledger.finish_trial(first, Status.INFRA_ERROR)
        assert ledger.queue_trial(second, {"a.py": "x = 1"}, Proposal("two", ())) is None


def _claim(path: Path) -> list[bool]:
    with begin(path) as ledger:
        return [
            ledger.queue_trial(open_one(ledger), {"a.py": f"x = {i}"}, Proposal("", ())) is None
            for i in range(20)
        ]


def test_eight_processes_claim_each_program_once(tmp_path: Path) -> None:
    begin(tmp_path).close()
    with ProcessPoolExecutor(8) as pool:
        claims = list(pool.map(_claim, [tmp_path] * 8))
    assert [sum(column) for column in zip(*claims, strict=True)] == [1] * 20
    with begin(tmp_path) as ledger:
        numbers = [trial.number for trial in ledger.sequence(ledger.campaign().id)]
        assert numbers == list(range(1, 161))


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        with pytest.raises(RuntimeError), ledger.transaction():
            open_one(ledger)
            raise RuntimeError
        assert list(ledger.sequence(ledger.campaign().id)) == []


def test_a_damaged_ledger_is_one_line_that_says_how_to_mend_it(tmp_path: Path) -> None:
    begin(tmp_path).close()
    path = tmp_path / ".autolab" / "ledger.sqlite"
    path.write_bytes(b"not a database at all" * 400)
    with pytest.raises(LabError, match=r"is damaged.*recover"):
        Ledger(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        ledger.set_meta("schema", "99")
    with pytest.raises(LabError, match="schema 99"):
        Ledger(tmp_path / ".autolab" / "ledger.sqlite")


def test_reading_where_nothing_ran_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="autolab run"):
        Ledger(tmp_path / ".autolab" / "ledger.sqlite", create=False)


def test_the_master_is_the_last_promotion_not_the_last_row(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        numbers = []
        for score in (1.0, 0.9):
            number = open_one(ledger)
            ledger.queue_trial(number, {"a.py": f"x = {score}"}, Proposal("", ()))
            done = ledger.finish_trial(number, Status.OK, verdict=Verdict.CONFIRMED, score=score)
            ledger.promote(done, score=score, interval=(score, score), gain=0.1, reason="")
            numbers.append(number)
        ledger.finish_trial(open_one(ledger), Status.OK, verdict=Verdict.WORSE, score=5.0)
        assert ledger.master(ledger.campaign().id).trial == numbers[-1]
        assert [step.trial for step in ledger.promotions(ledger.campaign().id)] == numbers
