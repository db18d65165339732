"""The ledger: written once, shared by processes, honest about damage."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from old_ledgers import old_lab
from publishing import finish, results

from autolab.errors import LabError
from autolab.ledger.agents import ideas, sessions
from autolab.ledger.jobs import LAUNCHING, costs, count_jobs, measured_before, note_job, reserve
from autolab.ledger.observations import observations
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


def _open_when_all_have_looked(path: Path, barrier: Barrier) -> None:
    """Open a ledger, and write no upgrade before every process has seen that one is needed."""
    transaction = Ledger.transaction

    def late(ledger: Ledger) -> object:
        Ledger.transaction = transaction  # type: ignore[method-assign]
        barrier.wait(60)
        return transaction(ledger)

    Ledger.transaction = late  # type: ignore[assignment, method-assign]
    Ledger(path).close()


@pytest.mark.parametrize("schema", ["1", "2"])
def test_processes_that_upgrade_a_ledger_at_once_do_it_once(tmp_path: Path, schema: str) -> None:
    path = old_lab(tmp_path, schema=schema)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    openers = [context.Process(target=_open_when_all_have_looked, args=(path, barrier)) for _ in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(60)
    assert [opener.exitcode for opener in openers] == [0] * 4
    with Ledger(path) as ledger:
        assert [campaign.id for campaign in ledger.campaigns()] == ["c-3fa2-1"]


def test_an_upgrade_names_campaigns_after_their_lab_wherever_they_are_spoken_of(tmp_path: Path) -> None:
    with Ledger(old_lab(tmp_path)) as ledger:
        (campaign,) = ledger.campaigns()
        assert campaign.id == "c-3fa2-1"
        assert [trial.id for trial in ledger.trials(campaign.id)] == ["3fa2-0001", "3fa2-0002", "3fa2-0003"]
        assert [step.trial for step in ledger.promotions(campaign.id)] == [1, 2]
        assert [text for _, text in ledger.guidance(campaign.id)] == ["try a wider layer"]
        assert len(ideas(ledger, campaign.id)) == len(sessions(ledger, campaign.id)) == 1
        assert ledger.rows.execute("PRAGMA foreign_key_check").fetchall() == []
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            ledger.finish_trial(1, Status.CRASH)
        assert ledger.trial(open_one(ledger)).id == "3fa2-0004"
        again = ledger.create_campaign(name="c", task="t", key="k", config={}, baseline=campaign.baseline)
        assert again.id == "c-3fa2-2"


def test_a_ledger_of_schema_3_brings_its_evidence_along(tmp_path: Path) -> None:
    with results(tmp_path) as ledger:
        finish(ledger, 3)
        campaign, path = ledger.campaign().id, ledger.path
    old = sqlite3.connect(path, isolation_level=None)
    for table in ("observation", "decision", "standing", "sealed_look"):
        old.execute(f"DROP TABLE {table}")
    old.execute("ALTER TABLE promotion DROP COLUMN kind")
    old.execute("UPDATE meta SET value = '3' WHERE key = 'schema'")
    old.close()
    with Ledger(path) as ledger:
        assert [step.kind for step in ledger.promotions(campaign)] == [
            "baseline",
            "improvement",
            "improvement",
        ]
        program = ledger.trial(2).program or ""
        (seen,) = observations(ledger, campaign, program)
        assert (seen.score, seen.at, seen.stage, seen.host) == (1.98, 1, "screen", "here")


def test_an_earlier_schema_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_lab(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LabError, match=r"earlier version of autolab \(schema 2\).*open it once where"):
        Ledger(path, create=False)


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


# jobs -------------------------------------------------------------------------------------------------


def plans(ledger: Ledger, ask: Callable[[], object]) -> list[str]:
    """How SQLite looks for what each statement of `ask` wants."""
    asked: list[str] = []
    ledger.rows.set_trace_callback(asked.append)
    ask()
    ledger.rows.set_trace_callback(None)
    explained = [ledger.rows.execute(f"EXPLAIN QUERY PLAN {query}") for query in asked]
    return [" ".join(row["detail"] for row in rows) for rows in explained]


def test_jobs_are_counted_and_added_up_without_reading_them(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        campaign, number = ledger.campaign().id, open_one(ledger)
        assert count_jobs(ledger, campaign) == (0, 0)
        for attempt in (1, 2, 3):
            wanted = Measurement(f"m{attempt}", number, "screen", seed=1, eval_seed=2, attempt=attempt)
            job = reserve(ledger, campaign, wanted, bundle="b", flavor="cpu-basic", most_usd=0.5, limit=None)
            assert job.stage == LAUNCHING
        note_job(ledger, job.ticket, id="j", stage="COMPLETED", cost_usd=0.25)
        assert count_jobs(ledger, campaign) == (3, 2)
        assert costs(ledger, campaign) == (0.25, 1.0)
        for ask in (count_jobs, costs):
            assert "COVERING INDEX job_by_campaign" in plans(ledger, partial(ask, ledger, campaign))[0]


def test_the_same_program_is_found_without_reading_every_trial(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        wanted = Measurement("m", 1, "screen", seed=1, eval_seed=2)
        assert "trial_by_program" in plans(ledger, partial(measured_before, ledger, "k", "p", wanted))[0]


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({"sandbox": "bubblewrap"}, True),
        ({"sandbox": "none"}, False),
        ({"sandbox": "bubblewrap", "evidence": "self_reported"}, False),
        ({"sandbox": "bubblewrap", "cached_from": "m0"}, False),
        ({"sandbox": "bubblewrap", "status": Status.INFRA_ERROR}, False),
    ],
)
def test_only_a_result_that_was_measured_in_a_sandbox_is_used_again(
    tmp_path: Path, facts: dict[str, object], counts: bool
) -> None:
    with begin(tmp_path) as ledger:
        number = open_one(ledger)
        ledger.queue_trial(number, {"a.py": "x = 1"}, Proposal("", ()))
        first = Measurement("m1", number, "screen", seed=1, eval_seed=2)
        ledger.finish_measurement(first.replace(**{"status": Status.OK, **facts}))
        again = Measurement("m2", number, "screen", seed=1, eval_seed=2)
        found = measured_before(ledger, "k", ledger.trial(number).program or "", again)
        assert (found is not None) == counts
