"""The audit: which promotions of somebody's campaign stand, given its noise; and that nothing else does."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import foreign_ledgers as foreign
import pytest
from click.testing import CliRunner, Result
from foreign_ledgers import code
from hypothesis import given, settings
from hypothesis import strategies as st
from publishing import finish, results
from scripted import search

from autolab.cli.audit import audit as command
from autolab.errors import LabError
from autolab.judge.audit import Audit, AuditedPromotion, Entry, audit, expected_best, expected_records
from autolab.judge.audit_sources import from_ledger, from_table
from autolab.judge.promotion import Criterion
from autolab.ledger.exchange import merge, pack
from autolab.ledger.facts import read_part
from autolab.ledger.imports.reading import group_repeats, read_results
from autolab.ledger.records import Measurement, Observation, Proposal, Status, Verdict
from autolab.ledger.store import Ledger

SD = 0.001
LOWER = Criterion(-1.0)
SAME_CODE = r"(?P<code>\w+)( again)?"

Row = tuple[str, float, bool]  # program, score, whether it was promoted


def night() -> list[Row]:
    """A baseline run six times, three lucky rows that a strict rule keeps, a real gain of 20 SD run four times, and one
    more lucky row. Scores scatter by SD."""
    rng = random.Random(4)
    scores = [1.0 + rng.gauss(0, SD) for _ in range(40)]
    rows: list[Row] = [("base", score, place == 0) for place, score in enumerate(scores[:6])]
    rows += [
        ("luck1", 0.9985, True),
        ("luck2", 0.9979, True),
        ("dull", 1.0004, False),
        ("luck3", 0.9975, True),
    ]
    rows += [("real", score - 20 * SD, place == 0) for place, score in enumerate(scores[6:10])]
    rows += [("luck4", min(score for _, score, _ in rows) - 0.0002, True)]
    return rows


def judged(rows: Iterable[Row], criterion: Criterion = LOWER, hosts: str = "", **more: Any) -> Audit:
    """The audit of rows in this order; `hosts` names the host of each row by a letter."""
    entries = [
        Entry(f"t{place}", place, program,
              (Observation(program, hosts[place - 1 : place], score, place),), promoted, "", score)
        for place, (program, score, promoted) in enumerate(rows, 1)
    ]  # fmt: skip
    return audit(entries, criterion, **more)


def outcomes(found: Audit) -> list[str]:
    """What became of each promotion, in order."""
    return [verdict.outcome for verdict in found.verdicts]


def only(found: Audit) -> AuditedPromotion:
    """The verdict, where there is one."""
    (verdict,) = found.verdicts
    return verdict


def spoken(*words: object) -> Result:
    """What the command says."""
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


# each format


def karpathy(directory: Path, rows: list[Row]) -> Path:
    return foreign.karpathy(
        directory / "results.tsv",
        [(code(name)[:7], score, "keep" if kept else "discard", name) for name, score, kept in rows],
    )


def multiautoresearch(directory: Path, rows: list[Row]) -> Path:
    return foreign.multiautoresearch(
        directory,
        [{"candidate_hash": code(name), "val_bpb": score, "promoted": kept, "hypothesis": name}
         for name, score, kept in rows],
    )  # fmt: skip


def dag(directory: Path, rows: list[Row]) -> Path:
    chain = [place for place, (_, _, kept) in enumerate(rows) if kept]
    entries = []
    for place, (name, score, kept) in enumerate(rows):
        parent = max((other for other in chain if other < place), default=None)
        row = {
            "candidate_hash": code(f"row {place}"), "parent_hash": "" if parent is None else code(f"row {parent}"),
            "val_bpb": score, "comment": name if kept else f"{name} again", "created_at": foreign.clock(place),
        }  # fmt: skip
        entries.append(foreign.dag_entry(row, is_master=place == chain[-1], live=False))
    return foreign.dag(directory / "dag.seed.json", entries)


def specialists(directory: Path, rows: list[Row], write: Any = foreign.specialists) -> Path:
    path: Path = write(
        directory / ("tree.tsv" if write is foreign.tree else "results.tsv"),
        [{"score": score, "status": "keep" if kept else "discard", "hypothesis": name if kept else f"{name} again"}
         for name, score, kept in rows],
    )  # fmt: skip
    return path


def tree(directory: Path, rows: list[Row]) -> Path:
    return specialists(directory, rows, foreign.tree)


def own(directory: Path, rows: list[Row]) -> Path:
    return foreign.own(
        directory / "research_results.tsv",
        [{"trial_id": f"t-{place}", "program_id": code(name), "score": score,
          "verdict": "confirmed" if kept else "worse", "hypothesis": name}
         for place, (name, score, kept) in enumerate(rows)],
    )  # fmt: skip


FORMATS = [karpathy, multiautoresearch, dag, specialists, tree, own]


@pytest.mark.parametrize("write", FORMATS)
def test_in_each_format_the_real_gain_stands_and_luck_does_not(
    tmp_path: Path, write: Callable[[Path, list[Row]], Path]
) -> None:
    path = write(tmp_path, night())
    unnamed = ["--repeats", SAME_CODE] if write in (dag, specialists, tree) else []
    record = json.loads(spoken(path, "--json", *unnamed).output)
    stands = {verdict["description"]: verdict["outcome"] == "stands" for verdict in record["verdicts"]}
    assert stands == {"luck1": False, "luck2": False, "luck3": False, "real": True, "luck4": False}
    assert record["standing_gain"] == pytest.approx(20 * SD, abs=2 * SD)


@pytest.mark.parametrize("write", FORMATS)
def test_without_a_repeat_nothing_stands(tmp_path: Path, write: Callable[[Path, list[Row]], Path]) -> None:
    path = write(
        tmp_path, list({name: (name, score, kept) for name, score, kept in night()[::-1]}.values())[::-1]
    )
    source = from_table(read_results(path))
    found = audit(source.entries, source.criterion)
    assert found.noise.state == "unknown"
    assert set(outcomes(found)) == {"not shown"}
    assert "noise is unknown" in found.verdicts[0].note


def test_the_noise_can_be_told(tmp_path: Path) -> None:
    rows = [("base", 1.0, True), ("luck", 0.998, True), ("real", 0.98, True)]
    assert outcomes(judged(rows, noise_sd=SD)) == ["not shown", "stands"]
    assert outcomes(judged(rows, noise_sd=10 * SD)) == ["not shown", "not shown"]
    assert outcomes(judged(rows)) == ["not shown", "not shown"]


# the rule


def test_what_follows_a_promotion_that_does_not_stand_is_compared_with_the_master_before_it() -> None:
    found = judged([("base", 1.0, True), ("luck", 0.998, True), ("real", 0.98, True), ("next", 0.95, True)],
                   noise_sd=SD)  # fmt: skip
    assert [verdict.against for verdict in found.verdicts] == ["t1", "t1", "t3"]
    assert found.master == "t4"
    assert found.claimed_gain == pytest.approx(0.05)
    assert found.standing_gain == pytest.approx(0.05, abs=1e-5)


def test_more_is_better_where_it_is() -> None:
    rows = [("base", 0.5, True), ("real", 0.6, True), ("worse", 0.4, True)]
    found = judged(rows, Criterion(1.0), noise_sd=0.005)
    assert outcomes(found) == ["stands", "not shown"]
    assert found.verdicts[1].note == "not better by what was measured"


def test_the_later_the_trial_the_more_it_needs() -> None:
    """The best of many is lucky: all trials share the campaign's allowance for errors."""
    base, better = ("base", 1.0, True), ("better", 0.995, True)
    dull = [(f"dull{number}", 1.001, False) for number in range(997)]
    soon = only(judged([base, better], noise_sd=SD)).needed
    late = only(judged([base, *dull, better], noise_sd=SD)).needed
    assert soon is not None and late is not None
    assert late > soon + 2  # seven times the odds


def test_repeats_anywhere_in_the_table_count() -> None:
    once = [("base", 1.0, True), ("better", 1.0 - 4 * SD, True)]
    again = [("base", 1.0 + SD / 2, False), ("better", 1.0 - 3.8 * SD, False)] * 5
    assert outcomes(judged(once, noise_sd=SD)) == ["not shown"]
    assert outcomes(judged([*once, *again], noise_sd=SD)) == ["stands"]


def test_a_program_that_scatters_more_than_others_needs_more() -> None:
    rng = random.Random(8)
    calm = [("base", rng.gauss(1.0, SD), place == 0) for place in range(20)]
    wild = [("wild", score, place == 0) for place, score in enumerate((0.98, 1.02, 0.96, 0.97))]
    assert outcomes(judged([*calm, *wild])) == ["not shown"]
    assert outcomes(judged([*calm, *wild], noise_sd=SD)) == ["stands"]


def test_a_small_gain_stands_when_it_was_run_often_enough() -> None:
    rng = random.Random(5)
    rows = [("base", rng.gauss(1.0, SD), True), ("small", rng.gauss(1.0 - 0.8 * SD, SD), True)]
    rows += [row for _ in range(150) for row in (("base", rng.gauss(1.0, SD), False),
                                                 ("small", rng.gauss(1.0 - 0.8 * SD, SD), False))]  # fmt: skip
    assert outcomes(judged(rows)) == ["stands"]


def test_what_is_open_says_how_many_runs_would_settle_it() -> None:
    verdict = only(judged([("base", 1.0, True), ("better", 1.0 - 3 * SD, True)], noise_sd=SD))
    assert verdict.gain == pytest.approx(3 * SD, rel=0.01)
    assert verdict.se == pytest.approx(math.sqrt(2) * SD, rel=0.01)
    assert verdict.log_evidence is not None and verdict.needed is not None
    assert verdict.log_evidence < verdict.needed
    runs = verdict.runs_needed
    assert runs is not None and 3 < runs < 12
    rows = [("base", 1.0, True), ("better", 1.0 - 3 * SD, True)]
    rows += [(name, score, False) for name, score, _ in rows] * (runs - 1)
    assert outcomes(judged(rows, noise_sd=SD)) == ["stands"]


def test_a_gain_that_is_no_difference_by_the_task_does_not_stand() -> None:
    rows = [("base", 1.0, True), ("better", 0.98, True)]
    assert outcomes(judged(rows, Criterion(-1.0, min_effect=0.03), noise_sd=SD)) == ["not shown"]


def test_a_simplification_stands_if_it_is_shown_to_be_as_good() -> None:
    scores = [1.0 + SD * (place % 3 - 1) for place in range(24)]
    entries = [
        Entry(name, order, name, tuple(Observation(name, "", score, order) for score in scores), True, claimed=1.0,
              simpler=order > 0)
        for order, name in enumerate(("base", "simpler"))
    ]  # fmt: skip
    verdict = only(audit(entries, Criterion(-1.0, min_effect=2 * SD)))
    assert (verdict.outcome, verdict.note) == ("stands", "as good, with less code")
    assert outcomes(audit(entries, LOWER)) == ["not shown"]


def test_hosts_are_never_compared_with_each_other() -> None:
    """All of the baseline on A, all of the others on B, which is faster."""
    rows = [("base", 1.0, True), ("base", 1.0005, False), ("same", 0.9, True), ("same", 0.9004, False)]
    verdict = only(judged(rows, hosts="AABB"))
    assert verdict.outcome == "no comparison"
    assert verdict.note == "measured on B, t1 on A"
    assert outcomes(judged([*rows, ("same", 1.0002, False)], hosts="AABBA")) == ["not shown"]


def test_a_host_that_is_named_for_the_promoted_alone_is_taken_for_all(tmp_path: Path) -> None:
    """multiautoresearch names the platform of promoted runs only."""
    source = from_table(read_results(multiautoresearch(tmp_path, night())))
    assert {one.host for entry in source.entries for one in entry.observations} == {"NVIDIA-H100-80GB-HBM3"}


def test_scores_of_an_unnamed_host_are_left_out_where_several_are_named(tmp_path: Path) -> None:
    multiautoresearch(tmp_path, night())
    tree = tmp_path / "research" / "live" / "dag.json"
    tree.write_text(tree.read_text().replace("NVIDIA-H100-80GB-HBM3", "L4", 1))
    source = from_table(read_results(tmp_path))
    assert any("9 scores are of rows that name no host" in note for note in source.notes)


# repeats that contradict


def test_a_lucky_master_is_contradicted_by_its_repeats() -> None:
    """As on the public record: two clusters, the master is the lowest of all runs of its code."""
    rng = random.Random(6)

    def run() -> float:
        return rng.gauss(0.963589, 0.00017) if rng.random() < 0.57 else rng.gauss(0.96427, 0.00012)

    scores = [run() for _ in range(300)]
    lowest = min(range(300), key=scores.__getitem__)
    rows = [("best63", run(), place == 0) for place in range(5)]
    rows += [("best64", score, place == lowest) for place, score in enumerate(scores)]
    found = judged(rows)
    verdict = only(found)
    assert verdict.outcome != "stands"
    assert "299 other runs average 0.9638" in verdict.note or (verdict.gain is not None and verdict.gain > 0)
    assert found.noise.sd == pytest.approx(0.00037, rel=0.1)
    worse = judged([(name, score + (0.0004 if name == "best64" else 0), kept) for name, score, kept in rows])
    assert only(worse).outcome == "contradicted"
    assert "299 other runs average" in only(worse).note


def test_the_same_code_again_is_no_improvement() -> None:
    verdict = only(judged([("base", 1.0, True), ("base", 0.9995, False), ("base", 0.99, True)]))
    assert (verdict.outcome, verdict.note) == ("contradicted", "the same code as t1, measured again")


def test_one_bad_repeat_of_a_small_gain_does_not_contradict_it() -> None:
    rows = [("base", 1.0, True), ("better", 1.0 - SD, True), ("better", 1.0002, False)]
    assert outcomes(judged(rows, noise_sd=SD)) == ["not shown"]


# what must never stand


@pytest.mark.parametrize("again", [1.0, math.nan, math.inf])
def test_repeats_with_the_same_digits_are_no_noise(again: float) -> None:
    """Copies of a row, a seed that is not used, a metric that saturates."""
    rows = [("base", 1.0, True), ("base", again, False), ("better", 0.9, True)]
    found = judged(rows)
    assert found.noise.state == ("silent" if again == 1.0 else "unknown")
    assert outcomes(found) == ["not shown"]


def test_programs_whose_runs_are_copies_do_not_make_the_noise_small() -> None:
    rows = [("base", 1.0, True), ("base", 1.002, False), ("base", 0.999, False), ("lucky", 0.998, True)]
    copies = [(f"copied{number}", 1.0 + number / 10, False) for number in range(50) for _ in range(2)]
    found = judged([*rows, *copies])
    assert found.copies == 50
    assert (found.noise.sd, found.noise.df) == (judged(rows).noise.sd, 2)
    assert outcomes(found) == ["not shown"]


def test_a_task_without_noise_says_so() -> None:
    rows = [("base", 1.0, True), ("base", 1.0, False), ("better", 0.9, True), ("worse", 0.95, True)]
    assert outcomes(judged(rows, Criterion(-1.0, deterministic=True))) == ["stands", "not shown"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_a_score_that_is_no_figure_never_stands(bad: float) -> None:
    rows = [("base", 1.0, True), ("base", 1.001, False), ("broken", bad, True), ("real", 0.5, True)]
    found = judged(rows, noise_sd=SD)
    assert outcomes(found) == ["no score", "stands"]
    assert judged([("broken", bad, True), *rows[:2]]).baseline == "t2"


FIGURES = st.floats() | st.sampled_from([1.0, 1.001, 0.0, 1e-320, 1e49, -1.0])
ROWS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), FIGURES, st.booleans()), max_size=12)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, sd=st.none() | st.floats(1e-30, 1e50), sign=st.sampled_from([1.0, -1.0]))
def test_whatever_the_scores_the_audit_ends_with_figures(
    rows: list[Row], sd: float | None, sign: float
) -> None:
    found = judged(rows, Criterion(sign), noise_sd=sd)
    for verdict in found.verdicts:
        figures = (verdict.gain, verdict.se, verdict.log_evidence, verdict.claimed_gain)
        assert all(figure is None or math.isfinite(figure) for figure in figures)
        assert verdict.outcome != "stands" or found.noise.state == "known"


def test_nothing_promoted_and_nothing_at_all() -> None:
    assert judged([("base", 1.0, True)]).verdicts == ()
    assert judged([("base", 1.0, False)]).baseline is None
    assert audit([], LOWER).master is None


# luck


def test_what_luck_alone_gives() -> None:
    """The expected number of records is H(n) - 1; the expected maxima are tabulated (Harter 1961)."""
    assert expected_records(1) == 0
    assert expected_records(4) == pytest.approx(1 / 2 + 1 / 3 + 1 / 4)
    assert [expected_best(n) for n in (1, 2, 10, 100, 1000)] == pytest.approx(
        [0, 0.56419, 1.53875, 2.50759, 3.24144], abs=1e-4
    )


def test_null_campaigns_have_no_promotion_that_stands() -> None:
    for seed in range(15):
        rng = random.Random(seed)
        lowest, rows = math.inf, []
        for trial in range(120):
            score = rng.gauss(1.0, SD)
            rows += [(f"p{trial}", score, score < lowest)]
            rows += [("p0", rng.gauss(1.0, SD), False)] if trial in (0, 60) else []
            lowest = min(lowest, score)
        found = judged(rows)
        assert found.verdicts and found.count("stands") == 0


# campaigns of the ledger


def measured(ledger: Ledger, trial: int, stage: str, number: int, score: float, **more: Any) -> None:
    made = Measurement(f"{ledger.trial_id(trial)}-{stage}-{number}-1", trial, stage, seed=number, eval_seed=0)
    ledger.start_measurement(made)
    done = {"status": Status.OK, "score": score, "host": "here", **more}
    ledger.finish_measurement(made.replace(**done))


def opened(ledger: Ledger, name: str) -> int:
    trial = ledger.open_trial(ledger.campaign().id, role="worker", agent="w", surface="",
                              parent_program=None, parent_trial=None)  # fmt: skip
    ledger.queue_trial(trial.number, {"a.py": f"x = {name!r}\n"}, Proposal(name, ()))
    return trial.number


def ended(ledger: Ledger, number: int, score: float, kind: str | None = "improvement") -> None:
    verdict = Verdict.CONFIRMED if kind else Verdict.WORSE
    done = ledger.finish_trial(number, Status.OK, verdict=verdict, score=score, interval=(score, score))
    if kind:
        ledger.promote(done, score=score, interval=(score, score), gain=0.0, reason="", kind=kind)


def campaign(root: Path) -> Ledger:
    """A baseline, a gain of 50 SD measured as the judge does, and a lucky promotion."""
    ledger = results(root)
    base = opened(ledger, "baseline")
    for number, score in enumerate((1.0, 1.0012, 0.9991)):
        measured(ledger, base, "screen", number, score)
    ended(ledger, base, 1.0, "baseline")
    real = opened(ledger, "real")
    for stage, score in (("screen", 0.9498), ("replicate", 0.9509), ("confirm", 0.9503)):
        measured(ledger, real, stage, 0, score)
    measured(ledger, base, "control-1", 0, 0.9996)
    ended(ledger, real, 0.9503)
    lucky = opened(ledger, "lucky")
    measured(ledger, lucky, "screen", 0, 0.9489)
    measured(ledger, lucky, "again", 0, 0.9502)
    for stage in ("replay-0", "certify"):
        measured(ledger, lucky, stage, 0, 0.5)
    ended(ledger, lucky, 0.9489)
    return ledger


def test_a_campaign_of_the_ledger_is_judged_by_all_that_was_measured_to_judge(tmp_path: Path) -> None:
    with campaign(tmp_path) as ledger:
        source = from_ledger(ledger, ledger.campaign())
    found = audit(source.entries, source.criterion)
    assert outcomes(found) == ["stands", "not shown"]
    assert [verdict.description for verdict in found.verdicts] == ["real", "lucky"]
    assert (found.verdicts[0].runs, found.verdicts[0].controls, found.verdicts[1].runs) == (3, 4, 2)
    control = next(one for one in source.entries[0].observations if one.stage == "control-1")
    assert control.at == 1


def test_a_campaign_that_was_pulled_can_be_judged(tmp_path: Path) -> None:
    with campaign(tmp_path / "there") as there, results(tmp_path / "here") as here:
        merge(here, [read_part(part.content, "part") for part in pack(there)])
        pulled = from_ledger(here, here.campaign(there.campaign().id))
    found = audit(pulled.entries, pulled.criterion)
    assert [verdict.description for verdict in found.verdicts] == ["real", "lucky"]
    assert found.verdicts[0].runs == found.verdicts[0].controls == 3
    assert outcomes(audit(pulled.entries, pulled.criterion, noise_sd=SD)) == ["stands", "not shown"]
    hosts = {one.host for entry in pulled.entries for one in entry.observations}
    assert hosts != {""} or pulled.notes  # where it does not say, a reader is told


def test_copies_of_a_measurement_are_no_more_evidence(tmp_path: Path) -> None:
    with campaign(tmp_path) as ledger:
        original = ledger.measurements(3)[0].id
        before = from_ledger(ledger, ledger.campaign()).entries[2].observations
        measured(ledger, 3, "confirm", 0, 0.9489, cached_from=original)
        assert from_ledger(ledger, ledger.campaign()).entries[2].observations == before


def test_what_the_lab_took_back_itself_is_no_claim(tmp_path: Path) -> None:
    with campaign(tmp_path) as ledger:
        real = ledger.trial(2)
        ledger.promote(real, score=0.9503, interval=(0.9503, 0.9503), gain=0.0, reason="", kind="demotion")
    text = spoken("-C", tmp_path).output
    assert text.startswith("1 of 1 promotion stands; 1 more withdrawn by the loop itself.")


def test_a_real_campaign_is_judged_as_its_judge_did(tmp_path: Path) -> None:
    from conftest import write_toy

    lab, _, _ = search(write_toy(tmp_path / "toy"), [0.9, 0.2])
    source = from_ledger(lab.ledger, lab.campaign)
    assert source.criterion.level == 0.05
    found = audit(source.entries, source.criterion)
    assert outcomes(found) == ["stands"] * (len(lab.ledger.promotions(lab.campaign.id)) - 1) == ["stands"]


# the command


def test_the_command_says_it_in_words(tmp_path: Path) -> None:
    text = spoken(karpathy(tmp_path, night())).output
    assert text.startswith("1 of 5 promotions stands; 4 not shown.")
    for part in ("karpathy", "lower is better", "SD 0.00", "8 repeats of 2 programs", "“keep what is better”",
                 "is claimed; +0.0", "run", "in turn, would show it", "No hosts are named"):  # fmt: skip
        assert part in text
    assert max(map(len, text.splitlines()[5:])) <= 120


def test_problems_of_the_table_are_counted_and_named(tmp_path: Path) -> None:
    path = karpathy(tmp_path, night())
    with open(path, "a") as file:
        file.write("and so to bed\nabc\tnan\t1\tkeep\tbroken\n" + "".join(f"{n}\t0\n" for n in range(9)))
    text = spoken(path).output
    assert "line 17 is no row of this table" in text or "more problems" in text
    record = json.loads(spoken(path, "--json").output)
    assert {17, 18} <= {problem["line"] for problem in record["problems"]}
    assert record["verdicts"][-1]["outcome"] == "no score"
    assert record["rows"] == len(night()) + 11


def test_json_has_figures_only(tmp_path: Path) -> None:
    path = karpathy(tmp_path, [*night(), ("odd", math.nan, True), ("crashed", 0.0, False)])
    assert "NaN" not in spoken(path, "--json").output and "Infinity" not in spoken(path, "--json").output
    record = json.loads(spoken(path, "--json").output)
    assert (record["trials"], record["scored"], record["level"]) == (17, 15, 0.05)
    assert record["noise"]["state"] == "known"


def test_a_lab_without_replicates_is_told_what_is_missing(tmp_path: Path) -> None:
    with results(tmp_path) as ledger:
        finish(ledger, 3)
    text = spoken("-C", tmp_path).output
    assert text.startswith("None of 2 promotions stand; 2 not shown.")
    assert "no program was measured twice" in text and "To settle them" in text


def test_a_campaign_with_a_baseline_alone_has_nothing_to_judge(tmp_path: Path) -> None:
    with results(tmp_path) as ledger:
        finish(ledger, 1)
    assert spoken("-C", tmp_path).output.startswith("Nothing was promoted after the baseline.")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gone.tsv"], "cannot be read"),
        (["--metric", "loss"], "are for tables"),
        (["results.tsv", "--noise-sd", "0"], "no standard deviation"),
        (["results.tsv", "--noise-sd", "nan"], "no standard deviation"),
        (["results.tsv", "--repeats", "("], "no regular expression"),
        (["results.tsv", "--campaign", "c"], "does not name its campaigns"),
        (["results.tsv", "--metric", "f1"], "has no column"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    karpathy(tmp_path, night())
    with pytest.raises(LabError, match=problem):
        spoken(*words)


def test_the_exit_code_is_0_whatever_stands_and_2_for_what_cannot_be_read(tmp_path: Path) -> None:
    def run(*words: str) -> int:
        command = [sys.executable, "-m", "autolab.cli.main", "audit", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True).returncode

    karpathy(tmp_path, [("base", 1.0, True), ("luck", 0.999, True)])
    assert run(".") == 0
    assert run("elsewhere") == 2


def test_repeats_that_only_the_caller_can_name(tmp_path: Path) -> None:
    table = read_results(specialists(tmp_path, night()))
    source = from_table(group_repeats(table, SAME_CODE))
    assert audit(source.entries, source.criterion).noise.df == 8
    assert audit(from_table(table).entries, LOWER).noise.state == "unknown"
