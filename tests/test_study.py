"""Studies: arms with several seeds each, at an equal budget, with intervals; nothing is run twice, nothing is lost."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import TRAIN, rows, write_toy
from hypothesis import given
from hypothesis import strategies as st
from scripted import search
from stand_ins.model_server import ModelServer
from stand_ins.researchers import Idea, Rates, Researchers, line_of, mentions
from stand_ins.steps import Request

from autolab.campaign.lock import at_work
from autolab.campaign.study import Budget, Study, keep_study, kept_study, slug
from autolab.cli.study import label_of, read_arms
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.records import Proposal, Status
from autolab.report.study import (
    MEASURES,
    Outcome,
    difference,
    figures_of,
    interval,
    is_apart,
    of_arm,
    study_text,
)
from autolab.task import Edit

TRIALS, INVALID = MEASURES[[m.name for m in MEASURES].index("trials_per_hour")], MEASURES[1]


def outcomes(**arms: list[float]) -> list[Outcome]:
    """Campaigns with these trials an hour, one for each seed."""
    return [
        Outcome(arm, seed, {"trials_per_hour": value})
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]


# ------------------------------------------------------------------------------------------------------------
# Statistics and text.


def test_an_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found is not None and (found.mean, found.n) == (2.0, 3)
    half = pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert found.high - 2 == half and 2 - found.low == half


def test_one_seed_has_no_interval_and_what_was_not_measured_does_not_count() -> None:
    assert interval([1.0]) is None and interval([1.0, math.nan]) is None
    found = interval([1.0, math.nan, 3.0])
    assert found is not None and (found.mean, found.n) == (2.0, 2)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(2000):
        found = interval(rng.gauss(1.0, 2.0) for _ in range(5))
        assert found is not None
        held += found.low <= 1.0 <= found.high
    assert 0.93 < held / 2000 < 0.97


def test_differences_are_paired_by_seed() -> None:
    found = outcomes(a=[10, 100, 1000], b=[11, 101, 1001])
    apart = difference(found, "b", "a", TRIALS)
    assert apart is not None and (apart.low, apart.mean, apart.high) == (1, 1, 1) and is_apart(apart)
    alone = of_arm(found, "a", TRIALS)
    assert alone is not None and alone.low == 0  # no rate is below it


def test_two_seeds_that_differ_alike_show_nothing() -> None:
    apart = difference(outcomes(a=[1, 2], b=[2, 3]), "b", "a", TRIALS)
    assert apart is not None and apart.low == apart.high and not is_apart(apart)


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    found = outcomes(a=[1, 2, 3], b=[2, 3])
    apart = difference(found, "b", "a", TRIALS)
    assert apart is not None and apart.n == 2
    assert difference(outcomes(a=[1, 2], b=[2]), "b", "a", TRIALS) is None


values = st.lists(st.floats(0, 1e6), min_size=2, max_size=8)


@given(values, values)
def test_a_difference_turned_round_is_its_negative(one: list[float], other: list[float]) -> None:
    found = outcomes(a=one, b=other)
    forth, back = difference(found, "b", "a", TRIALS), difference(found, "a", "b", TRIALS)
    assert forth is not None and back is not None
    assert forth.mean == pytest.approx(-back.mean) and forth.low == pytest.approx(-back.high)
    assert forth.low <= forth.mean <= forth.high


def test_the_table_marks_what_is_apart_and_fits_a_terminal() -> None:
    found = outcomes(a=[10, 11, 12], b=[20, 21, 23], c=[10, 13, 11])
    text = study_text(found, ["a", "b", "c"], "a study")
    block = text[text.index("trials run an hour") :].split("\n\n")[0].splitlines()
    assert [line.endswith("*") for line in block] == [False, False, True, False]
    assert max(map(len, text.splitlines())) <= 100


def test_a_campaigns_figures_are_those_of_its_trials(toy: Path) -> None:
    def proposal(move: str, *surfaces: str, rate: str) -> Proposal:
        edit = Edit(path="train.py", search="RATE = 0.5", replace=f"RATE = {rate}")
        names = json.dumps({"surfaces": list(surfaces)}) if len(surfaces) > 1 else ""
        return Proposal(move, (edit,), surface=surfaces[0], move=names)

    script = [
        proposal("fine", "optimizer", rate="0.45"),
        proposal("crashes", "architecture", rate='"fast"'),
        proposal("no Python", "optimizer", rate="("),
        proposal("both", "optimizer", "architecture", rate="0.44"),
        proposal("again", "optimizer", rate="0.45"),
    ]
    lab, _, _ = search(toy, script)
    found = figures_of(lab.ledger, lab.campaign.id, hours=0.5)
    ended = [trial.status for trial in lab.ledger.sequence(lab.campaign.id)][1:]
    assert ended == [Status.OK, Status.CRASH, Status.PREFLIGHT_FAILED, Status.OK, Status.DUPLICATE]
    shares = {"ok": 0.4, "invalid": 0.6, "crash": 0.2, "refused": 0.4}
    assert {name: found[name] for name in shares} == pytest.approx(shares)
    assert (found["trials"], found["trials_per_hour"], found["scored_per_hour"]) == (5, 6, 4)
    assert found["surfaces"] == 2 and found["surfaces_per_candidate"] == pytest.approx(6 / 5)
    assert (found["gain"], found["usd"], found["tokens"]) == (0, 0, 0)


# ------------------------------------------------------------------------------------------------------------
# Arms.


def test_what_is_varied_makes_every_combination() -> None:
    arms = read_arms([], ["collaboration=single,team", "lineage=on,off"])
    assert list(arms) == [
        "single, lineage on",
        "single, lineage off",
        "team, lineage on",
        "team, lineage off",
    ]
    assert arms["team, lineage off"] == {"collaboration": "team", "lineage": "off"}


def test_an_arm_may_name_several_models() -> None:
    arms = read_arms(["collaboration=team,model=a/b=2,c/d=1,agents=4", "lineage=off"], [])
    assert next(iter(arms.values())) == {"collaboration": "team", "model": "a/b=2,c/d=1", "agents": "4"}
    assert list(arms)[1] == "lineage off"


@pytest.mark.parametrize(
    ("said", "varied", "words"),
    [
        ([], [], "nothing to compare"),
        (["team"], [], "'team' is no setting"),
        (["colour=red"], [], "'colour=red' is no setting"),
        (["lineage=on,lineage=off"], [], "lineage is there twice"),
        (["lineage=on"], ["lineage=on,off"], "the arm 'lineage on' is there twice"),
        ([], ["trials=3,4"], "'trials' is nothing that an arm can set"),
        ([], ["lineage"], "'lineage' is nothing that an arm can set"),
        (["generic=maybe"], [], "'maybe' is no value of generic"),
        (["collaboration="], [], "'' is no value of collaboration"),
    ],
)
def test_arms_that_are_none_are_named(said: list[str], varied: list[str], words: str) -> None:
    with pytest.raises(LabError, match=words):
        read_arms(said, varied)


@given(st.lists(st.text("ab ,=/:-.Ä", min_size=1, max_size=12), min_size=2, max_size=6, unique=True))
def test_models_with_different_names_get_different_folders(models: list[str]) -> None:
    labels = {label_of({"model": model}) for model in models}
    assert len({slug(label) for label in labels}) == len(labels)
    assert all("/" not in slug(label) and not slug(label).startswith(".") for label in labels)


def plan(toy: Path, **changes: Any) -> Study:
    arms = {"single": {"collaboration": "single"}}
    made: dict[str, Any] = {
        "name": "s",
        "arms": arms,
        "seeds": [0, 1],
        "budget": Budget(trials=2),
        "words": [],
        "files": "x",
    }
    return Study(**(made | changes))


def test_a_study_takes_more_arms_and_seeds_and_no_other_conditions(toy: Path) -> None:
    keep_study(toy, plan(toy))
    whole = keep_study(toy, plan(toy, arms={"team": {"collaboration": "team"}}, seeds=[0, 1, 2]))
    assert list(whole.arms) == ["single", "team"] and whole.seeds == [0, 1, 2]
    assert kept_study(toy, "s") == whole
    for changes in ({"budget": Budget(trials=3)}, {"words": ["--slots", "1"]}, {"files": "y"}):
        with pytest.raises(LabError, match="would not compare"):
            keep_study(toy, plan(toy, **changes))
    assert kept_study(toy, "s") == whole


# ------------------------------------------------------------------------------------------------------------
# The command.


def study(toy: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autolab.cli.main", "study", "-C", str(toy), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


VARIED = ("--vary", "lineage=on,off")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*VARIED, "--seeds", "1", "--trials", "2"), "one seed says nothing of an arm"),
        (VARIED, "a comparison needs an equal budget"),
        ((*VARIED, "--minutes", "inf"), "--minutes inf is no limit"),
        (("--vary", "collaboration=single,duel", "--trials", "2"), "arm 'duel': Invalid value"),
        ((*VARIED, "--trials", "2", "--", "--trials", "9"), "--trials is the study's own"),
        ((*VARIED, "--trials", "2", "--", "--new"), "--new is the study's own"),
        (
            (*VARIED, "--trials", "2", "--", "--patience", "3"),
            "--patience would end campaigns before their budget",
        ),
        ((*VARIED, "--trials", "2", "--", "--colour"), "No such option"),
        (
            ("--vary", "harness=offline,chat", "--trials", "2", "--", "--model", "ollama/x"),
            "arm 'offline': is for agents",
        ),
        (
            ("--vary", "model=ollama/x,no-such-provider/y", "--trials", "2", "--", "--harness", "chat"),
            "arm 'model no-such-provider/y'",
        ),
        ((*VARIED, "--trials", "2", "--name", "../up"), "is no name for a study"),
        (("--show",), "there is no study 'study'"),
    ],
)
def test_what_says_nothing_or_cannot_run_is_refused_in_one_line(
    toy: Path, words: tuple[str, ...], said: str
) -> None:
    done = study(toy, *words)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (toy / ".autolab" / "studies").exists()


@pytest.mark.slow
def test_every_arm_and_seed_is_a_campaign_of_its_own_and_none_is_run_twice(toy: Path) -> None:
    words, slots = (*VARIED, "--seeds", "2", "--trials", "2"), ("--", "--slots", "2")
    done = study(toy, *words, "--json", *slots)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert list(record["arms"]) == ["lineage on", "lineage off"] and record["seeds"] == [0, 1]
    assert [(c["arm"], c["seed"], c["trials"]) for c in record["campaigns"]] == [
        ("lineage on", 0, 2), ("lineage on", 1, 2), ("lineage off", 0, 2), ("lineage off", 1, 2),
    ]  # fmt: skip
    assert record["results"]["ok"]["lineage off"]["difference"]["n"] == 2
    place = toy / "results" / "studies" / "study"
    assert len(rows(place / "study.tsv")) == 4 and json.loads((place / "study.json").read_text()) == record
    labs = sorted((toy / ".autolab" / "studies" / "study").glob("lineage-*"))
    assert [lab.name for lab in labs] == ["lineage-off-0", "lineage-off-1", "lineage-on-0", "lineage-on-1"]
    with open_lab(labs[0]) as ledger:
        config = ledger.campaign().config
        assert (config["lineage"], config["seed"]) == ("off", 0) and len(ledger.campaigns()) == 1
    assert not (toy / ".autolab" / "ledger.sqlite").exists()
    assert {(lab / ".autolab" / "cache").resolve() for lab in labs} == {
        (toy / ".autolab" / "cache").resolve()
    }

    before = {lab: (lab / ".autolab" / "ledger.sqlite").stat().st_mtime_ns for lab in labs}
    again = study(toy, *words, *slots)
    assert again.returncode == 0 and again.stdout.count("(kept)") == 4, again.stderr
    assert {lab: (lab / ".autolab" / "ledger.sqlite").stat().st_mtime_ns for lab in labs} == before
    assert study(toy, "--show", "--json").stdout == done.stdout


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    slow = TRAIN.replace("    seed = int", "    import time; time.sleep(0.3)\n    seed = int")
    toy = write_toy(tmp_path / "toy", train=slow)
    words = (*VARIED, "--seeds", "2", "--trials", "2", "--", "--slots", "1")
    command = [sys.executable, "-m", "autolab.cli.main", "study", "-C", str(toy), *words]
    first = toy / ".autolab" / "studies" / "study" / "lineage-on-0"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(lambda: opened(first) >= 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: at_work(first) is None)  # the campaign died with it
    assert json.loads((first / "work.json").read_text())["spent"] is False

    done = study(toy, *words)
    assert done.returncode == 0, done.stderr
    for lab in first.parent.glob("lineage-*"):
        with open_lab(lab) as ledger:
            (campaign,) = ledger.campaigns()
            trials = list(ledger.sequence(campaign.id))
        assert [trial.ordinal for trial in trials] == [0, 1, 2]
    work = json.loads((first / "work.json").read_text())
    assert work["spent"] is True and [segment["end"] is None for segment in work["segments"]] == [True, False]


def opened(lab: Path) -> int:
    """How many trials a campaign that is at work has opened beside its baseline."""
    try:
        with open_lab(lab) as ledger:
            return max(
                (trial.ordinal for c in ledger.campaigns() for trial in ledger.sequence(c.id)), default=0
            )
    except LabError:  # it has not begun
        return 0


def until(true: Any) -> None:
    """Look again and again, for a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_campaign_that_cannot_run_ends_the_study_with_its_words(toy: Path) -> None:
    (toy / "train.py").write_text("raise SystemExit('no')\n")
    done = study(toy, *VARIED, "--seeds", "2", "--trials", "2")
    assert (
        done.returncode == 2
        and "arm 'lineage on', seed 0" in done.stderr
        and "baseline failed" in done.stderr
    )


# ------------------------------------------------------------------------------------------------------------
# Scripted researchers.

IDEAS = (
    *(Idea("RATE", value, "optimizer", "words", True) for value in ('"fast"', '"slow"', '"high"')),
    *(Idea("RATE", value, "optimizer") for value in ("0.4", "0.45", "0.3")),
    *(Idea("SHIFT", value, "architecture") for value in ("-0.01", "-0.02")),
)


def asked(told: str = "", surface: str = "", recipe: str = TRAIN, more: str = "") -> Request:
    prompt = f'<lineage>\n{told}\n</lineage>\n{more}\n<file path="train.py">\n{recipe}\n</file>\n'
    prompt = (f"Your surface is {surface}: …\n" if surface else "") + prompt
    body = {"messages": [{"role": "system", "content": "…"}, {"role": "user", "content": prompt}]}
    return Request(1, "chat", body, {}, 1, len(prompt), 0.0)


def answers(rates: Rates, request: Request, count: int = 200) -> list[str]:
    researchers = Researchers(IDEAS, rates)
    return [researchers(request).text for _ in range(count)]


def test_researchers_err_at_the_stated_rate() -> None:
    found = answers(Rates(errs=0.7, breaks=0.1), asked(), 1000)
    broken = [text for text in found if "REPLACE" not in text]
    bad = [text for text in found if text not in broken and 'RATE = "' in text.split("=======")[1]]
    assert 0.07 < len(broken) / 1000 < 0.13
    assert 0.65 < len(bad) / (1000 - len(broken)) < 0.75


def test_researchers_keep_away_from_the_kind_of_what_they_are_told_of() -> None:
    told = '- ab12-0003 crash [optimizer] RATE = "fast" fits; TypeError'
    found = answers(Rates(errs=0.7, heeds=0.9, breaks=0), asked(told), 1000)
    assert 0.04 < sum('RATE = "' in text for text in found) / 1000 < 0.11
    assert all("RATE = 0.5" in text or "SHIFT = 0.0" in text for text in found)  # lines that are there


def test_researchers_stay_on_the_surface_they_are_given() -> None:
    assert all(
        "SURFACE: architecture" in text for text in answers(Rates(breaks=0), asked(surface="architecture"))
    )


def test_an_engineer_undoes_what_failed() -> None:
    broken = TRAIN.replace("RATE = 0.5", 'RATE = "slow"')
    found = answers(Rates(breaks=0), asked(recipe=broken, more="Make one conservative repair"), 5)
    assert all('RATE = "slow"\n=======\nRATE = 0.4\n' in text for text in found)


def test_ideas_are_recognised_in_words_and_as_changes() -> None:
    idea = Idea("RATE", "0.4", "optimizer")
    assert mentions("RATE = 0.4 fits", idea) and mentions("RATE 0.5 → 0.4", idea)
    assert not mentions("RATE = 0.45 fits", idea) and not mentions("OVERATE = 0.4", idea)
    assert line_of(TRAIN, "STEPS") == "STEPS = 10" and line_of(TRAIN, "NONE") is None


@pytest.mark.slow
def test_models_that_forget_repeat_what_fails(tmp_path: Path) -> None:
    """A study with agents: lineage is in the prompts of one arm and not of the other; tokens are counted."""
    toy = write_toy(tmp_path / "toy")
    with ModelServer(Researchers(IDEAS, Rates(errs=0.5, breaks=0))) as server:
        provider = {"options": {"baseURL": server.url, "apiKey": "none"}, "models": {"m": {}}}
        (toy / "opencode.json").write_text(json.dumps({"provider": {"local": provider}}))
        arms = (
            "--arm",
            "collaboration=single,lineage=on",
            "--arm",
            "collaboration=team,lineage=off,agents=2",
        )
        limits = ("--seeds", "2", "--trials", "3", "--json")
        done = study(
            toy, *arms, *limits, "--", "--harness", "chat", "--model", "local/m", "--archive", "best"
        )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert results["surfaces_per_candidate"]["team, lineage off, agents 2"]["difference"]["low"] > 0
    assert min(c["tokens"] for c in json.loads(done.stdout)["campaigns"]) > 0
    told = ["<lineage>" in json.dumps(request.body) for request in server.requests]
    assert any(told) and not all(told)
