"""What needs a person is told: each concern with its numbers, what to do about it, not more often than it should."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from generated import SHIFT
from masters import ended, measured, opened, promoted, the_story
from nights import Night, a_night, concern, kinds, seen, with_a_baseline

from autolab.lab import Lab
from autolab.ledger.agents import add_session
from autolab.ledger.dead_ends import FAILED
from autolab.ledger.records import (
    BROKE_RULES,
    FAILURES,
    NOT_ITS_FAULT,
    NOT_LOST,
    AgentSession,
    Measurement,
    Status,
    Verdict,
)
from autolab.report.overview import Overview, overview, requote
from autolab.report.overview.slots import idle_stretches, idle_while_waiting


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """200 trials of agents that write what breaks pages; tests only read it."""
    with a_night(tmp_path_factory.mktemp("night")) as made:
        yield made


@pytest.fixture
def fresh(toy: Path) -> Lab:
    """A lab whose baseline was measured, and is the master."""
    return with_a_baseline(toy)


def test_every_end_of_a_trial_has_one_name() -> None:
    """What counts as a failure, and what does not, is said once."""
    assert (
        not FAILURES & BROKE_RULES
        and not (FAILURES | BROKE_RULES) & NOT_ITS_FAULT
        and NOT_LOST < NOT_ITS_FAULT
    )
    others = frozenset(Status) - FAILURES - BROKE_RULES - NOT_ITS_FAULT
    assert others == {Status.PROPOSAL_FAILED, Status.ABORTED}
    assert FAILURES | BROKE_RULES | {Status.ABORTED} == FAILED  # dead ends: an early abort is one


def test_concerns_come_with_the_gravest_first_and_in_the_same_order(night: Night) -> None:
    levels = [one.level for one in night.view.concerns]
    assert levels == sorted(levels, key=("error", "warning", "info").index)
    assert (
        overview(night.ledger, night.campaign, now=night.view.now, alive=True).concerns == night.view.concerns
    )
    ordinals = {mark.id: mark for mark in night.view.marks}
    assert all(trial in ordinals for one in night.view.concerns for trial in one.trials)


def test_quotes_are_plain_text_between_marks_of_their_own(night: Night) -> None:
    for one in night.view.concerns:
        assert one.text.isprintable() and one.text.count("“") == one.text.count("”")
        bare = requote(one.text, lambda words: "")
        assert not any(sign in bare for sign in "<>{}`|\x1b“”")


def test_failures_of_one_cause_are_one_concern(fresh: Lab) -> None:
    for n in range(4):
        note = f"shape [{n}, 8] is invalid" if n < 3 else "another one"
        fresh.ledger.finish_trial(opened(fresh, "x", f"0.6{n}").number, Status.CRASH, note=note)
    view = seen(fresh)
    cluster = concern(view, "crash_cluster")
    assert cluster.text == "3 × crash: “shape [2, 8] is invalid”" and cluster.level == "warning"
    assert cluster.trials == tuple(fresh.ledger.trial_id(n) for n in (4, 3, 2))
    assert concern(view, "failures").text == "1 more trial failed, the last one by crash: “another one”"


def test_rules_that_were_broken_are_an_error(fresh: Lab) -> None:
    fresh.ledger.finish_trial(
        opened(fresh, "x", "0.6").number, Status.TAMPERED, note="evaluate.py was changed"
    )
    found = concern(seen(fresh), "tampering")
    assert (found.level, found.trials) == ("error", (fresh.ledger.trial_id(2),))


def test_repeats_are_a_warning_when_they_are_many(fresh: Lab) -> None:
    for n in range(12):
        status = Status.DUPLICATE if n < 2 else Status.PROPOSAL_FAILED if n < 3 else Status.INFRA_ERROR
        note = "abandoned: its lease ran out" if n == 2 else ""
        fresh.ledger.finish_trial(opened(fresh, "x", f"0.{60 + n}1").number, status, note=note)
    view = seen(fresh)
    assert concern(view, "duplicates").text == "2 of 12 trials (17 %) repeated earlier ones"
    assert concern(view, "duplicates").level == "info" and concern(view, "infra").level == "warning"
    assert len(concern(view, "abandoned").trials) == 1 and "proposals" not in kinds(view)


def test_a_measurement_that_runs_far_too_long_hangs(fresh: Lab) -> None:
    trial = opened(fresh, "slow", "0.6")
    fresh.ledger.start_measurement(fresh.needed(trial, "screen"))
    assert "hung" not in kinds(seen(fresh)) and "hung" not in kinds(seen(fresh, alive=False, later=9999))
    found = concern(seen(fresh, later=9999), "hung")
    assert found.level == "error" and found.trials == (trial.id,) and "2.8 h" in found.text


def test_a_job_that_runs_far_too_long_hangs(night: Night) -> None:
    found = concern(night.view, "hung")
    assert "“job-hung”" in found.text and found.mend == "autolab jobs cancel job-hung"


def test_hosts_that_score_differently_are_told(night: Night) -> None:
    found = concern(night.view, "host_shift")
    gap = abs(float(found.text.split(" scores ")[1].split()[0]))
    assert gap == pytest.approx(SHIFT, rel=0.15)


def test_a_budget_is_told_before_it_is_used_up(fresh: Lab) -> None:
    def with_budget(**config: Any) -> Overview:
        fresh.ledger.set_campaign(fresh.campaign.id, config={**fresh.campaign.config, **config})
        return seen(fresh)

    for n in range(8):
        fresh.ledger.finish_trial(opened(fresh, "x", f"0.6{n}").number, Status.INFRA_ERROR)
    add_session(fresh.ledger, AgentSession(fresh.campaign.id, 2, "worker", "a", "m", cost_usd=4.5, at=1.0))
    assert "budget" not in kinds(with_budget(serving={"trials": 11}, max_usd=6))
    assert (
        concern(with_budget(serving={"trials": 10}, max_usd=6), "budget").text
        == "8 of 10 trials are used (80 %)"
    )
    used = concern(with_budget(serving={"trials": 8}, max_usd=6), "budget")
    assert (used.level, used.text) == ("warning", "The budget of 8 trials is used up")
    assert concern(with_budget(serving=None, max_usd=5), "budget").text == "$4.50 of $5.00 are spent (90 %)"


def test_a_master_is_stale_by_the_campaigns_own_pace(fresh: Lab) -> None:
    def fail(count: int) -> None:
        with fresh.ledger.transaction():
            for _ in range(count):
                ticket = fresh.reserve(role="worker", agent="a")
                fresh.ledger.finish_trial(ticket.number, Status.PROPOSAL_FAILED)

    fail(30)
    ended(fresh, opened(fresh, "better", "0.6"), Verdict.CONFIRMED, 1.3, 0.1)
    promoted(fresh, 32, "improvement", 0.1)
    fail(62)
    assert "stale_master" not in kinds(seen(fresh))
    fail(1)
    found = concern(seen(fresh), "stale_master")
    assert found.text.startswith("No promotion for 63 trials and ")
    assert found.text.endswith("; the longest wait before was 31 trials")


def test_a_promotion_by_hand_ends_a_wait(fresh: Lab) -> None:
    """It is of a trial that ended long before, and yet a new master from then on."""
    ended(fresh, opened(fresh, "near", "0.6"), Verdict.PROVISIONAL, 1.39, 0.01)
    with fresh.ledger.transaction():
        for _ in range(60):
            ticket = fresh.reserve(role="worker", agent="a")
            fresh.ledger.finish_trial(ticket.number, Status.PROPOSAL_FAILED)
    assert "stale_master" in kinds(seen(fresh))
    promoted(fresh, 2, "improvement", 0.01)
    assert "stale_master" not in kinds(seen(fresh))


def test_wins_that_are_not_shown_name_the_command_for_the_best(fresh: Lab) -> None:
    for rate, gain in (("0.6", 0.01), ("0.7", 0.02), ("0.8", 0.005)):
        ended(fresh, opened(fresh, "near", rate), Verdict.PROVISIONAL, 1.4 - gain, gain)
    found = concern(seen(fresh), "unconfirmed")
    assert found.mend == f"autolab confirm {fresh.ledger.trial_id(3)}" and len(found.trials) == 3
    assert found.text.endswith("the best of them by 0.02")


def test_who_should_be_at_work_and_is_not(fresh: Lab) -> None:
    opened(fresh, "waits", "0.6")
    assert kinds(seen(fresh)) == set()
    view = seen(fresh, alive=False)
    assert view.state == "interrupted" and kinds(view) == {"interrupted"}
    fresh.ledger.set_campaign(fresh.campaign.id, state="finished")
    assert concern(seen(fresh, alive=False), "waiting").mend == "autolab run"


def test_sessions_without_an_answer_are_counted_by_their_ends(fresh: Lab) -> None:
    for end in ("timeout", "answered", "died", "timeout"):
        add_session(fresh.ledger, AgentSession(fresh.campaign.id, None, "worker", "a", "m", outcome=end))
    found = concern(seen(fresh), "sessions")
    assert found.text == "3 of 4 sessions of models did not end in an answer: 1 “died”, 2 “timeout”"
    assert found.level == "warning"


def test_slots_that_idle_while_trials_wait_are_told(night: Night) -> None:
    shown = night.view.slots
    begin, end = shown.spans[0].begin, max(span.end for span in shown.spans)
    times = ((begin, begin + 10), (begin + 15, begin + 20), (end - 10, end))  # five seconds are no idleness
    gap = dataclasses.replace(
        shown,
        spans=tuple(dataclasses.replace(shown.spans[0], begin=one, end=other) for one, other in times),
        queue=((begin, 2), (begin + 100, 0)),
        lanes=("slot 0", "slot 1", "slot 2"),
    )
    assert idle_while_waiting(gap) == pytest.approx(2 * 20 + 2 * 80)
    assert idle_stretches(gap) == [(begin, begin + 100)]  # the five seconds do not part it
    empty = dataclasses.replace(gap, queue=())
    assert idle_while_waiting(empty) == 0 and idle_stretches(empty) == []


def test_a_slot_that_idled_while_a_trial_waited_is_a_concern(fresh: Lab) -> None:
    trial = opened(fresh, "waits", "0.6")
    for n, (of, late) in enumerate(((1, 0.0), (trial.number, 700.0))):
        begin = trial.created_at + late
        of_it = Measurement(f"x-{n}", of, "again-screen", seed=1, eval_seed=1, status=Status.OK, score=1.0)
        fresh.ledger.finish_measurement(
            of_it.replace(started_at=begin, finished_at=begin + 10, train_seconds=9.0)
        )
    found = concern(seen(fresh), "idle")
    assert found.text == "Slots stood idle for 12 min (97 % of their time) while trials waited for one"


def test_many_looks_at_the_sealed_split_wear_it_out(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    assert "sealed" not in kinds(seen(lab))
    for n in range(1, 20):
        measured(lab, 2, "certify", 7.0, n)
    found = concern(seen(lab), "sealed")
    assert found.text.startswith("21 looks at the sealed split, 21 of them by hand") and "7" not in found.text
    assert set(found.trials) == {lab.ledger.trial_id(n) for n in (1, 2)}


def test_idle_slots_by_brute_force(night: Night) -> None:
    shown, step = night.view.slots, 2.0
    begin, end = shown.spans[0].begin, max(span.end for span in shown.spans)
    total, at = 0.0, begin + step / 2
    points = [*shown.queue, (math.inf, 0)]
    while at < end:
        busy = sum(span.begin <= at < span.end for span in shown.spans)
        waiting = next((n for (since, n), (until, _) in pairwise(points) if since <= at < until), 0)
        total += step * max(0, min(len(shown.lanes) - busy, waiting))
        at += step
    assert idle_while_waiting(shown) == pytest.approx(total, abs=0.02 * (end - begin))
    at_most = len(shown.lanes) * (end - begin)
    assert 0 <= sum(until - since for since, until in idle_stretches(shown)) <= min(total + step, at_most)
