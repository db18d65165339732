"""What people are shown of a campaign equals its ledger, field by field; it is read once, and tells what needs them."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import statistics
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import TASK, write_toy
from generated import HOSTILE_FILE, SEALED, generate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masters import ended, looked, measured, opened, promoted, stands, the_story
from nights import Night, a_night, concern, kinds, seen, with_a_baseline
from publishing import finish, finish_one, results
from scripted import start

from autolab.lab import Lab
from autolab.ledger.agents import add_session
from autolab.ledger.exchange import merge, pack
from autolab.ledger.facts import read_part
from autolab.ledger.jobs import costs, note_job, reserve
from autolab.ledger.masters import DEMOTED, outcome, states, steps
from autolab.ledger.records import AgentSession, Measurement, Proposal, Status, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import TABLE, write_views
from autolab.program.difference import named
from autolab.report.morning import LIMIT, morning
from autolab.report.overview import (
    Mark,
    Overview,
    Reader,
    detail,
    details,
    last_event,
    overview,
    requote,
)
from autolab.report.overview.slots import MOST_POINTS, _thinned
from autolab.report.overview.words import decimals, duration, number, percent, quote
from autolab.task import Edit


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """200 trials of agents that write what breaks pages; tests only read it."""
    with a_night(tmp_path_factory.mktemp("night")) as made:
        yield made


@pytest.fixture
def fresh(toy: Path) -> Lab:
    """A lab whose baseline was measured, and is the master."""
    return with_a_baseline(toy)


# every field is the ledger's ----------------------------------------------------------------------------


def test_every_trial_is_a_mark_with_the_ledgers_own_numbers(night: Night) -> None:
    rows = night.ask("SELECT * FROM trial WHERE campaign = ? ORDER BY ordinal", night.campaign)
    assert [mark.ordinal for mark in night.view.marks] == [row["ordinal"] for row in rows]
    for row, mark in zip(rows, night.view.marks, strict=True):
        proposal = json.loads(row["proposal"] or "{}")
        for name in ("id", "role", "agent", "surface", "score", "delta", "created_at", "finished_at"):
            assert getattr(mark, name) == row[name]
        assert (mark.low, mark.high) == (row["score_low"], row["score_high"])
        assert mark.status == (row["status"] or "") and mark.hypothesis == proposal.get("hypothesis", "")
        runs = night.runs(row["number"])
        assert mark.tokens == proposal.get("tokens", 0)
        judged = [run for run in runs if run["stage"] in ("screen", "replicate", "confirm")]
        assert mark.measurements == len(judged)
        assert mark.train_seconds == pytest.approx(sum(run["train_seconds"] for run in judged))
        assert mark.peak_memory_mb == max((run["peak_memory_mb"] for run in judged), default=0)
        assert mark.eval_seconds == pytest.approx(sum(run["eval_seconds"] for run in runs))
        slots = sum(run["train_seconds"] + run["eval_seconds"] for run in runs)
        assert mark.slot_seconds == pytest.approx(slots)
        spent = proposal.get("cost_usd", 0.0) + sum(run["cost_usd"] for run in runs)
        assert mark.dollars == pytest.approx(spent)


def test_a_mark_has_the_numbers_of_the_table(tmp_path: Path) -> None:
    """A master's too, which was measured again and again since: in turn with candidates, and for the sealed split."""
    lab = the_story(tmp_path / "toy")
    write_views(lab.ledger, lab.root, rebuild=True)
    with (lab.root / TABLE).open(encoding="utf-8", newline="") as file:
        rows = {row["trial_id"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    for mark in seen(lab).marks:
        assert str(mark.measurements) == rows[mark.id]["measurements"]
        assert mark.train_seconds == float(rows[mark.id]["train_seconds"])
        assert mark.peak_memory_mb == float(rows[mark.id]["peak_memory_mb"])
    assert seen(lab).marks[2].measurements == 3 < len(lab.ledger.measurements(3))


def test_a_mark_has_its_place_its_parent_and_its_generation(night: Night) -> None:
    order = night.ask(
        "SELECT id FROM trial WHERE campaign = ? AND state = 'done' ORDER BY finish_order", night.campaign
    )
    placed = sorted((m for m in night.view.marks if m.place is not None), key=lambda m: m.place or 0)
    assert [mark.id for mark in placed] == [row["id"] for row in order]
    assert [mark.place for mark in placed] == list(range(len(order)))
    rows = night.ask(
        "SELECT t.ordinal, p.ordinal FROM trial t LEFT JOIN trial p ON p.number = t.parent_trial"
    )
    above: dict[int, int | None] = dict(map(tuple, rows))
    for mark in night.view.marks:
        ancestors, at = 0, above[mark.ordinal]
        while at is not None:
            at, ancestors = above[at], ancestors + 1
        assert (mark.parent, mark.generation) == (above[mark.ordinal], ancestors)


def test_a_mark_says_what_was_spent_when_it_ended(night: Night) -> None:
    for mark in night.view.marks[:: len(night.view.marks) // 9]:
        if mark.finished_at is None:
            continue
        (seconds,) = night.ask(
            "SELECT total(json_extract(record, '$.train_seconds') + json_extract(record, '$.eval_seconds')) AS s"
            " FROM measurement WHERE status IS NOT NULL AND finished_at <= ?", mark.finished_at)  # fmt: skip
        (models,) = night.ask(
            "SELECT total(cost_usd) AS s FROM agent_session WHERE at <= ?", mark.finished_at
        )
        (jobs,) = night.ask("SELECT total(cost_usd) AS s FROM job WHERE ended_at <= ?", mark.finished_at)
        assert mark.compute_hours == pytest.approx(seconds["s"] / 3600)
        assert mark.spent_dollars == pytest.approx(models["s"] + jobs["s"])


def test_an_outcome_is_the_word_of_the_ledger_for_it(night: Night) -> None:
    known = states(steps(night.ledger, night.campaign))
    marks = {mark.id: mark for mark in night.view.marks}
    for trial in night.ledger.trials(night.campaign):
        assert marks[trial.id].outcome == outcome(trial, known)
    words = {mark.outcome for mark in night.view.marks}
    assert {
        DEMOTED,
        "certified",
        "simplification",
        "confirmed",
        "worse",
        "crash",
        "duplicate",
        "running",
        "open",
    } <= words


def test_the_headline_adds_up(night: Night) -> None:
    told = night.view.headline
    (row,) = night.ask("SELECT count(*) AS n, max(finished_at) AS last FROM trial WHERE state = 'done'")
    (spent,) = night.ask("SELECT total(tokens_in + tokens_out) AS t FROM agent_session")
    assert (told.trials, told.tokens) == (row["n"] - 1, spent["t"])
    assert told.dollars == costs(night.ledger, night.campaign)[0]
    assert told.seconds == pytest.approx(night.view.now - night.view.began) and night.view.now >= row["last"]
    assert told.compute_hours == pytest.approx(sum(m.slot_seconds for m in night.view.marks) / 3600)
    assert told.under_way == len(night.view.under_way)
    (standing,) = night.ask("SELECT * FROM standing")
    assert (told.score, told.low, told.high) == (standing["score"], standing["low"], standing["high"])
    (first,) = night.ask("SELECT score FROM promotion ORDER BY number LIMIT 1")
    assert told.before == first["score"]
    made = [row["kind"] for row in night.ask("SELECT kind FROM promotion")]
    assert told.demotions == made.count("demotion") == 1
    assert told.promotions == len(made) - 2
    assert told.confidence == 0.99  # the task asks for a level of 0.01


def test_every_change_of_the_master_is_a_climb(night: Night) -> None:
    rows = night.ask(
        "SELECT p.*, t.ordinal, t.id FROM promotion p JOIN trial t ON t.number = p.trial ORDER BY p.number"
    )
    by_ordinal = {mark.ordinal: mark for mark in night.view.marks}
    taken_back = {row["replaced"] for row in rows if row["kind"] == "demotion"}
    for row, climb in zip(rows, night.view.climbs, strict=True):
        assert (climb.trial, climb.id, climb.kind) == (row["ordinal"], row["id"], row["kind"])
        assert (climb.score, climb.low, climb.high) == (row["score"], row["score_low"], row["score_high"])
        assert (climb.gain, climb.at, climb.reason) == (row["gain"], row["at"], row["reason"])
        assert (climb.state == DEMOTED) == (row["number"] in taken_back)
        if climb.kind == "demotion":
            ended_by_then = [m for m in by_ordinal.values() if (m.finished_at or math.inf) <= climb.at]
            assert climb.place == max(m.place or 0 for m in ended_by_then)
        else:
            own = by_ordinal[climb.trial]
            assert (climb.place, climb.compute_hours) == (own.place, own.compute_hours)


def test_the_noise_is_a_band_around_the_baseline(night: Night) -> None:
    (standing,) = night.ask("SELECT noise_sd, noise_df FROM standing")
    band = night.view.noise
    assert band is not None and (band.sd, band.df) == (standing["noise_sd"], standing["noise_df"])
    assert (band.low, band.high) == (
        night.view.climbs[0].score - 2 * band.sd, night.view.climbs[0].score + 2 * band.sd
    )  # fmt: skip


# slots --------------------------------------------------------------------------------------------------


def test_the_spans_of_a_slot_do_not_overlap_and_their_sum_is_the_utilisation(night: Night) -> None:
    shown = night.view.slots
    rows = night.ask("SELECT started_at, finished_at FROM measurement WHERE status IS NOT NULL")
    running = [span for span in shown.spans if span.kind == "running"]
    busy = sum(row["finished_at"] - row["started_at"] for row in rows)
    busy += sum(span.end - span.begin for span in running)
    begin, end = min(row["started_at"] for row in rows), max(span.end for span in shown.spans)
    assert len(shown.lanes) == 4 and running
    assert shown.utilisation == pytest.approx(busy / (4 * (end - begin)))
    for lane in range(4):
        own = [span for span in shown.spans if span.lane == lane]
        assert all(one.end <= later.begin + 1e-6 for one, later in pairwise(own))


def test_a_span_is_training_then_evaluation_or_a_failure(night: Night) -> None:
    by_trial = {mark.ordinal: mark for mark in night.view.marks}
    for span in night.view.slots.spans:
        status = by_trial[span.trial].status
        if span.kind == "failed":
            assert status not in ("ok", "duplicate")
    evaluated = sum(span.end - span.begin for span in night.view.slots.spans if span.kind == "evaluation")
    (row,) = night.ask(
        "SELECT total(json_extract(record, '$.eval_seconds')) AS s FROM measurement WHERE status = 'ok'"
    )
    assert evaluated == pytest.approx(row["s"])


def test_the_queue_is_who_was_submitted_and_not_yet_measured(night: Night) -> None:
    rows = night.ask(
        "SELECT p.created_at AS since, (SELECT min(started_at) FROM measurement m WHERE m.trial = t.number) AS until"
        " FROM trial t JOIN program p ON p.id = t.program WHERE coalesce(t.status, '') != 'duplicate'")  # fmt: skip
    for at, waiting in night.view.slots.queue:
        if at < night.view.now - 60:  # what waits for a slot at the end has a measurement that was begun
            assert waiting == sum(row["since"] <= at < (row["until"] or math.inf) for row in rows)
    done = night.ask(
        "SELECT p.created_at AS since, min(m.started_at) AS until FROM trial t JOIN program p ON p.id = t.program"
        " JOIN measurement m ON m.trial = t.number WHERE t.state = 'done' GROUP BY t.number")  # fmt: skip
    waited = statistics.median(row["until"] - row["since"] for row in done)
    assert night.view.slots.queue_seconds == pytest.approx(waited)


def test_a_long_queue_is_shown_with_its_peaks() -> None:
    points = [(float(n), n % 97) for n in range(50_000)]
    thin = _thinned(points)
    assert len(thin) <= MOST_POINTS and set(thin) <= set(points)
    assert max(waiting for _, waiting in thin) == 96 and thin[-1] == points[-1]


def test_two_measurements_at_once_in_one_slot_are_shown_in_two(fresh: Lab) -> None:
    for n, begin in enumerate((100.0, 105.0, 120.0)):
        of = Measurement(f"x-{n}", 1, "replay-screen", seed=1, eval_seed=1, status=Status.OK, score=1.0)
        fresh.ledger.finish_measurement(
            of.replace(started_at=begin, finished_at=begin + 10, train_seconds=9.0)
        )
    shown = seen(fresh).slots
    assert shown.lanes == ("slot 0", "slot 1")
    assert shown.utilisation == pytest.approx(30 / (2 * 30))


def test_trials_under_way_are_open_queued_or_running(night: Night) -> None:
    rows = {row["id"]: row for row in night.ask("SELECT * FROM trial WHERE state != 'done'")}
    assert {one.id for one in night.view.under_way} == set(rows)
    begun = {row["trial"] for row in night.ask("SELECT trial FROM measurement WHERE status IS NULL")}
    for one in night.view.under_way:
        row = rows[one.id]
        assert one.state in ("running", row["state"]) and one.seconds >= 0
        assert (one.slot != "") == (one.state == "running")
        assert one.state != "running" or row["number"] in begun
    dead = overview(night.ledger, night.campaign, now=night.view.now, alive=False)
    assert dead.state == "interrupted" and not any(one.state == "running" for one in dead.under_way)


# what was learned ---------------------------------------------------------------------------------------


def test_groups_add_up_to_the_whole(night: Night) -> None:
    candidates = [mark for mark in night.view.marks if mark.ordinal > 0 and mark.status]
    for groups in (night.view.learned.by_surface, night.view.learned.by_role):
        assert sum(group.trials for group in groups) == night.view.headline.trials
        assert sum(group.valid for group in groups) == sum(mark.status == "ok" for mark in candidates)
        stood = [climb for climb in night.view.climbs if climb.kind in ("improvement", "simplification")
                 and climb.state != DEMOTED]  # fmt: skip
        assert sum(group.promoted for group in groups) == len({climb.id for climb in stood})
        assert sum(group.gain for group in groups) == pytest.approx(sum(climb.gain for climb in stood))
        assert sum(group.demoted for group in groups) == 1
        assert sum(group.dollars for group in groups) == pytest.approx(
            sum(mark.dollars for mark in candidates)
        )
        hours = sum(mark.slot_seconds for mark in candidates) / 3600
        assert sum(group.compute_hours for group in groups) == pytest.approx(hours)


def test_a_group_counts_its_own_trials(night: Night) -> None:
    for group in night.view.learned.by_surface:
        name = "" if group.name == "none" else group.name
        rows = night.ask(
            "SELECT status, verdict FROM trial WHERE surface = ? AND state = 'done' AND ordinal > 0", name
        )
        ends = [row["status"] for row in rows]
        assert (group.trials, group.valid) == (len(rows), ends.count("ok"))
        assert group.failed == sum(end not in ("ok", "duplicate", "infra_error") for end in ends)
        for verdict in ("provisional", "no_difference", "worse"):
            assert getattr(group, verdict) == sum(row["verdict"] == verdict for row in rows)


def test_dead_ends_are_those_that_have_not_expired(night: Night) -> None:
    changes = [climb.at for climb in night.view.climbs]
    ends = {one.trial: one for one in night.view.learned.dead_ends}
    for mark in night.view.marks:
        left = 2 - sum(at > (mark.finished_at or 0) for at in changes)
        unrelated = ("ok", "duplicate", "infra_error", "proposal_failed", "tampered", "")
        dead = mark.outcome == "worse" or mark.status not in unrelated
        assert (mark.id in ends) == (dead and left > 0)
        if mark.id in ends:
            assert ends[mark.id].expires == f"after {left} change{'s' if left > 1 else ''} of the master"
            assert ends[mark.id].evidence and ends[mark.id].hypothesis == mark.hypothesis


# opened rows --------------------------------------------------------------------------------------------


def test_an_opened_row_is_the_same_alone_and_among_all(night: Night) -> None:
    every = list(details(night.ledger, night.campaign))
    assert [ordinal for ordinal, _ in every] == [mark.ordinal for mark in night.view.marks]
    numbers = [row["number"] for row in night.ask("SELECT number FROM trial ORDER BY ordinal")]
    for (_, one), number_ in list(zip(every, numbers, strict=True))[::17]:
        assert one == detail(night.ledger, number_)


def test_an_opened_row_has_what_was_meant_and_what_was_measured(night: Night) -> None:
    for ordinal, one in details(night.ledger, night.campaign):
        (row,) = night.ask("SELECT * FROM trial WHERE ordinal = ?", ordinal)
        proposal = json.loads(row["proposal"] or "{}")
        assert one.note == row["note"] and one.rationale == proposal.get("rationale", "")
        assert list(one.sources) == list(proposal.get("sources", ()))
        children = night.ask("SELECT id FROM trial WHERE parent_trial = ? ORDER BY ordinal", row["number"])
        assert list(one.children) == [child["id"] for child in children]
        known = night.ask("SELECT * FROM measurement WHERE trial = ? ORDER BY started_at, id", row["number"])
        assert [run.stage for run in one.runs] == [m["stage"] for m in known]
        for run, m in zip(one.runs, known, strict=True):
            assert run.status == (m["status"] or "running")
            if "certify" not in m["stage"] and m["status"]:
                record = json.loads(m["record"])
                assert (run.score, run.seed, run.log) == (m["score"], m["seed"], record["log_excerpt"])
                assert run.metrics == record["metrics"] and run.cause == record["cause"]


def test_a_patch_is_against_the_parent_and_names_control_characters(night: Night) -> None:
    patches = {ordinal: one.patch for ordinal, one in details(night.ledger, night.campaign)}
    assert patches[0] == ""
    for trial in night.ledger.trials(night.campaign):
        if trial.program and trial.parent_program != trial.program and trial.ordinal:
            assert f"+RATE = {0.5 + trial.number * 1e-6!r}" in patches[trial.ordinal].splitlines()
    whole = "".join(patches.values())
    assert all(c in "\t\n" or c.isprintable() for c in whole)
    shown = named(HOSTILE_FILE)
    assert f"+++ b/{shown}\n" in whole and "</script>" in whole


def test_a_refused_change_is_shown_as_it_would_have_been(fresh: Lab) -> None:
    for n, old in ((2, "RATE = 0.5"), (3, "no such line")):
        ticket = fresh.open_trial(role="worker", agent="a")
        proposal = Proposal("half a line", (Edit(path="train.py", search=old, replace="RATE = ("),))
        assert fresh.submit(ticket, proposal).status != Status.OK
        patch = detail(fresh.ledger, n).patch
        assert ("-RATE = 0.5\n+RATE = (\n" in patch) if n == 2 else (patch == "")


def test_nothing_of_the_sealed_split_leaks(night: Night) -> None:
    rows = night.ask("SELECT score FROM measurement WHERE stage LIKE '%certify%' AND score IS NOT NULL")
    sealed = {row["score"] for row in rows}
    assert sealed and min(sealed) > SEALED
    floats, texts = set(), []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(key)
                walk(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                walk(inner)
        elif isinstance(value, float):
            floats.add(value)
        elif isinstance(value, str):
            texts.append(value)

    walk(dataclasses.asdict(night.view))
    walk([dataclasses.asdict(one) for _, one in details(night.ledger, night.campaign)])
    assert not floats & sealed
    assert not any(f"{score:.6g}" in text for score in sealed for text in texts)
    assert "sealed_loss" not in texts


def test_a_look_at_the_sealed_split_tells_nothing_but_that_it_was_made(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    (run,) = [run for run in detail(lab.ledger, 2).runs if run.stage == "certify"]
    assert (run.status, run.score, run.metrics, run.log, run.cause, run.curve) == ("ok", None, {}, "", "", ())


# read once ----------------------------------------------------------------------------------------------


def _acts() -> list[Callable[[Lab], object]]:
    """What can happen to a campaign, in an order in which it can."""

    def begun(lab: Lab) -> None:
        trial = opened(lab, "a slow one", "0.31")
        lab.ledger.start_measurement(lab.needed(trial, "screen"))

    def job(lab: Lab) -> None:
        (m,) = lab.ledger.begun(lab.campaign.id)
        made = reserve(lab.ledger, lab.campaign.id, m, bundle="b", flavor="cpu", most_usd=1.0, limit=None)
        note_job(lab.ledger, made.ticket, id="j", stage="COMPLETED", running_seconds=9.0, cost_usd=0.25)

    def session(lab: Lab) -> None:
        told = AgentSession(
            lab.campaign.id, 2, "worker", "a", "m", 10, 5, cost_usd=0.5, outcome="timeout", at=5.0
        )
        add_session(lab.ledger, told)

    def baseline(lab: Lab) -> None:
        ended(lab, next(lab.ledger.sequence(lab.campaign.id)), Verdict.CONFIRMED, 1.4, 0.0)

    return [
        baseline,
        lambda lab: promoted(lab, 1, "baseline"),
        lambda lab: ended(lab, opened(lab, "a larger rate", "0.6"), Verdict.CONFIRMED, 1.3, 0.1),
        lambda lab: promoted(lab, 2, "improvement", 0.1),
        session,
        lambda lab: ended(lab, opened(lab, "luck", "0.7"), Verdict.CONFIRMED, 1.28, 0.02),
        lambda lab: promoted(lab, 3, "improvement", 0.02),
        lambda lab: measured(lab, 2, "again-confirm", 1.31),
        lambda lab: looked(lab, 2, 7.0, "hand"),
        lambda lab: promoted(lab, 2, "demotion", 0.01, "x no longer beats it"),
        lambda lab: ended(lab, opened(lab, "nearly", "0.8"), Verdict.PROVISIONAL, 1.29, 0.01),
        begun,
        job,
        lambda lab: measured(lab, 1, "control-9", 1.41),
        lambda lab: promoted(lab, 4, "improvement", 0.01),
        lambda lab: stands(lab, lab.ledger.master(lab.campaign.id), score=1.29, runs=9, gain=0.01, se=0.002),
        lambda lab: lab.ledger.finish_trial(opened(lab, "lost", "0.9").number, Status.INFRA_ERROR, note="gone"),
        lambda lab: lab.ledger.set_campaign(lab.campaign.id, state="stopped"),
    ]  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 17), max_size=6))
def test_reading_on_gives_what_reading_anew_gives(
    tmp_path_factory: pytest.TempPathFactory, moments: set[int]
) -> None:
    lab = start(write_toy(tmp_path_factory.mktemp("on"), task=TASK))
    with Ledger(lab.ledger.path) as other:
        reader = Reader(other, lab.campaign.id)
        for moment, act in enumerate(_acts()):
            act(lab)
            if moment in moments or moment == 17:
                assert reader.changed()
                now = last_event(lab.ledger, lab.campaign.id) + 1
                anew = overview(lab.ledger, lab.campaign.id, now=now, alive=True)
                assert reader.read(now, True) == anew
                assert not reader.changed()
    lab.ledger.close()


def test_what_was_read_is_not_read_again(night: Night) -> None:
    asked: list[str] = []
    night.ledger.rows.set_trace_callback(asked.append)
    try:
        reader = Reader(night.ledger, night.campaign)
        first = reader.read(night.view.now, True)
        whole = len(asked)
        again = reader.read(night.view.now, True)
        more = len(asked) - whole
    finally:
        night.ledger.rows.set_trace_callback(None)
    assert first == again == night.view
    promotions = len(first.climbs)
    assert whole <= 30 + promotions and more <= whole  # not one question for each trial
    assert not any("FROM measurement WHERE id IN" in question for question in asked[whole:])


def test_an_overview_holds_up_no_writer(fresh: Lab) -> None:
    with Ledger(fresh.ledger.path) as other:
        overview(other, fresh.campaign.id, now=0.0, alive=False)
        assert not other.rows.in_transaction
    opened(fresh, "goes on", "0.6")


def test_the_same_arguments_generate_the_same_campaign(tmp_path: Path) -> None:
    views = []
    for name in ("one", "two"):
        path, campaign = generate(tmp_path / name, trials=25, seed=5)
        with Ledger(path) as ledger:
            views.append(overview(ledger, campaign, now=last_event(ledger, campaign), alive=False))
    assert views[0] == views[1] and views[0].headline.trials == 25


# campaigns with little in them --------------------------------------------------------------------------


def test_a_campaign_that_has_just_begun(toy: Path) -> None:
    view = seen(start(toy))
    assert view.headline.sentence.startswith("loss: no baseline yet, 0 trials, 0 s, $0.00")
    assert (view.headline.score, view.headline.confidence, view.noise, view.climbs) == (None, None, None, ())
    assert [mark.outcome for mark in view.marks] == ["queued"]
    assert view.slots.utilisation is None and view.slots.queue_seconds is None
    assert view.learned.by_surface == () and view.concerns == ()


def test_a_baseline_that_failed_comes_first(toy: Path) -> None:
    lab = start(toy)
    lab.ledger.finish_trial(1, Status.CRASH, note="no module named tourch")
    view = seen(lab)
    assert view.headline.sentence.startswith("loss: the baseline failed (crash), 0 trials")
    assert view.concerns[0].kind == "baseline" and "“no module named tourch”" in view.concerns[0].text


def test_nothing_better_than_the_baseline(fresh: Lab) -> None:
    view = seen(fresh)
    assert view.headline.sentence.startswith(
        "loss 1.400 [1.395, 1.405], nothing better than the baseline yet, 0 trials"
    )
    assert (view.headline.state, view.headline.confidence) == ("baseline", None)


def test_one_trial_that_is_better(fresh: Lab) -> None:
    ended(fresh, opened(fresh, "a larger rate", "0.6"), Verdict.CONFIRMED, 1.3, 0.1)
    promoted(fresh, 2, "improvement", 0.1)
    view = seen(fresh)
    assert view.headline.sentence.startswith(
        "loss 1.400 → 1.300 [1.295, 1.305], confirmed at 95 %, 1 trial, "
    )
    assert [group.name for group in view.learned.by_surface] == ["optimizer"]


def test_a_master_that_was_taken_back_is_not_promised(fresh: Lab) -> None:
    ended(fresh, opened(fresh, "luck", "0.6"), Verdict.CONFIRMED, 1.3, 0.1)
    promoted(fresh, 2, "improvement", 0.1)
    promoted(fresh, 1, "demotion", 0.1, "ab12-0002 no longer beats it: -0.01 ± 0.004")
    view = seen(fresh)
    assert "nothing better than the baseline yet (1 promotion, taken back), 1 trial" in view.headline.sentence
    assert "no longer beats it" in concern(view, "demotion").text


def test_self_reported_scores_say_so_in_the_first_sentence(fresh: Lab) -> None:
    of = Measurement(
        "own-1", 1, "replay-screen", seed=1, eval_seed=1, status=Status.OK, evidence="self_reported"
    )
    fresh.ledger.finish_measurement(of.replace(sandbox="none"))
    view = seen(fresh)
    assert "], self-reported, nothing better" in view.headline.sentence
    assert concern(view, "self_reported").trials == (view.marks[0].id,)
    assert concern(view, "no_sandbox").level == "warning"


def test_a_campaign_of_another_lab(tmp_path: Path) -> None:
    with results(tmp_path / "theirs") as theirs, Ledger(tmp_path / "ours" / "ledger.sqlite") as ours:
        finish(theirs, 3)
        finish_one(theirs, status=Status.CRASH)
        name = theirs.campaign().id
        merge(ours, [read_part(part.content, "p") for part in pack(theirs)])
        view = overview(ours, name, now=last_event(ours, name), alive=False)
        assert (view.state, view.headline.trials, view.headline.promotions) == ("pulled", 3, 2)
        assert [mark.id for mark in view.marks] == [theirs.trial_id(n) for n in range(1, 5)]
        assert [mark.parent for mark in view.marks] == [None, 0, 1, 2]
        assert view.headline.dollars == pytest.approx(sum(mark.dollars for mark in view.marks))
        assert view.headline.confidence is None and len(view.climbs) == 3
        assert (
            len(list(details(ours, name))) == 4
            and "+x = 2" in detail(ours, ours.find_trial(view.marks[1].id).number).patch
        )
        assert name in morning(ours, name, now=last_event(ours, name), alive=False)


def test_higher_can_be_better(tmp_path: Path) -> None:
    lab = start(write_toy(tmp_path / "up", task=TASK.replace("minimize", "maximize")))
    ended(lab, next(lab.ledger.sequence(lab.campaign.id)), Verdict.CONFIRMED, 1.4, 0.0)
    promoted(lab, 1, "baseline")
    assert seen(lab).direction == "maximize"


# words --------------------------------------------------------------------------------------------------


@given(st.text())
def test_a_quote_is_one_line_that_can_be_taken_out_again(text: str) -> None:
    said = quote(text)
    assert (
        not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in said) and len(said) <= 102
    )
    assert requote(f"a {said} b", lambda words: f"<{words}>") == f"a <{said[1:-1]}> b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (2280, "38 min"), (3600, "1.0 h"), (8640, "2.4 h"),
     (270_000, "3.1 days")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_show_as_much_as_is_known() -> None:
    assert number(2.18123, decimals(0.01, -0.13)) == "2.18"
    assert number(12345.678, decimals(20.0)) == "12346"
    assert number(1.081, decimals(0.0003)) == "1.0810"
    assert number(1.4, decimals(0.0, None)) == "1.4"
    assert (percent(0.95), percent(1 - 0.001), percent(0.9999)) == ("95 %", "99.9 %", "99.99 %")


# the morning report -------------------------------------------------------------------------------------


def told_in_the_morning(night: Night, limit: int = LIMIT) -> str:
    now = last_event(night.ledger, night.campaign)
    return morning(night.ledger, night.campaign, now=now, alive=True, limit=limit)


@pytest.mark.parametrize(("alive", "kind"), [(True, "hung"), (False, "interrupted")])
def test_the_morning_report_says_who_is_at_work_now(fresh: Lab, alive: bool, kind: str) -> None:
    """Whatever the campaign calls itself: who was killed could not change it any more."""
    number = opened(fresh, "long", "0.6").number
    fresh.ledger.start_measurement(Measurement("m-1", number, "screen", seed=1, eval_seed=2))
    name = fresh.campaign.id
    now = last_event(fresh.ledger, name) + 86_400
    text = morning(fresh.ledger, name, now=now, alive=alive)
    assert ("although it is called" in text, "would be long" in text) == (not alive, alive)
    assert f"campaign {'running' if alive else 'interrupted'};" in text
    told = {one.kind for one in overview(fresh.ledger, name, now=now, alive=alive).concerns}
    assert {"hung", "interrupted"} & told == {kind}


def test_the_morning_report_says_what_the_overview_says(night: Night) -> None:
    text = told_in_the_morning(night, limit=200_000)
    at_the_end = overview(
        night.ledger, night.campaign, now=last_event(night.ledger, night.campaign), alive=True
    )
    assert text.splitlines()[2].startswith(f"**{at_the_end.headline.sentence}.**")
    listed = text.split("## Look at this")[1].split("##")[0].strip().splitlines()
    told = [one for one in at_the_end.concerns if one.kind != "unconfirmed"]
    assert len(listed) == len(told)
    for line, one in zip(listed, told, strict=True):
        assert requote(one.text, lambda words: "")[:20].split("  ")[0] in line.replace("*", "")
        assert not one.trials or one.trials[0] in line


def test_the_morning_report_fits_and_is_the_same_again(night: Night) -> None:
    text = told_in_the_morning(night)
    assert text == told_in_the_morning(night)
    assert LIMIT // 2 < len(text.encode()) <= LIMIT


def test_no_markup_of_agents_has_an_effect_in_the_morning_report(night: Night) -> None:
    text = told_in_the_morning(night, limit=200_000)
    assert all(c == "\n" or c.isprintable() for c in text)
    for line in text.splitlines():
        outside = "".join(line.split("`")[::2])
        assert line.count("`") % 2 == 0 and not any(sign in outside for sign in ("<", "{{", "![", "\x1b"))


def marks_of(view: Overview, word: str) -> list[Mark]:
    return [mark for mark in view.marks if mark.outcome == word]


def test_a_trial_promoted_by_hand_is_no_longer_provisional(fresh: Lab) -> None:
    ended(fresh, opened(fresh, "near", "0.6"), Verdict.PROVISIONAL, 1.39, 0.01)
    reader = Reader(fresh.ledger, fresh.campaign.id)
    before = reader.read(0.0, True)
    promoted(fresh, 2, "improvement", 0.01)
    after = reader.read(0.0, True)
    assert len(marks_of(before, "provisional")) == 1 and not marks_of(after, "provisional")
    assert "unconfirmed" not in kinds(after) and after.learned.by_surface[0].promoted == 1
