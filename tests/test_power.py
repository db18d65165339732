"""How many runs an effect needs: the judge's own rule, played on simulated trials."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

import pytest
from click.testing import CliRunner

from autolab.cli.power import power
from autolab.errors import LabError
from autolab.judge.noise import Noise
from autolab.judge.power import outlook, runs_per_arm, sd_bounds
from autolab.judge.promotion import Criterion

KNOWN = Noise("known", sd=0.1, df=60)
MASTER = [0, 0, 0, 3, 5, 8]


def test_a_large_effect_is_found_and_a_small_one_is_not() -> None:
    large = outlook(Criterion(-1.0), KNOWN, MASTER, 9, 0.4, trials=40)
    small = outlook(Criterion(-1.0), KNOWN, MASTER, 9, 0.02, trials=40)
    assert large.found > 0.95 and small.found < 0.1


def test_nothing_is_cheap_and_is_not_promoted() -> None:
    nothing = outlook(Criterion(-1.0), KNOWN, MASTER, 9, 0.0, trials=60)
    target = outlook(Criterion(-1.0), KNOWN, MASTER, 9, 0.2, trials=30)
    assert nothing.found == 0
    assert nothing.runs.mean < target.runs.mean / 2


def test_the_same_question_has_the_same_answer_in_either_direction() -> None:
    down = outlook(Criterion(-1.0), KNOWN, MASTER, 9, 0.2, trials=20)
    assert down == outlook(Criterion(-1.0), KNOWN, MASTER, 9, 0.2, trials=20)
    assert outlook(Criterion(1.0), KNOWN, MASTER, 9, 0.2, trials=20).found == pytest.approx(
        down.found, abs=0.2
    )


def test_the_unit_of_the_metric_does_not_matter() -> None:
    large = Noise("known", sd=100.0, df=60)
    one, other = (outlook(Criterion(-1.0), noise, MASTER, 9, 2 * noise.sd, 20) for noise in (KNOWN, large))
    assert one.runs == other.runs and one.found == other.found


def test_min_effect_is_no_difference() -> None:
    assert outlook(Criterion(-1.0, min_effect=0.5), KNOWN, MASTER, 9, 0.4, trials=30).found == 0


def test_runs_in_groups_give_the_promised_power() -> None:
    """Played: two groups of that size, Student's t-test at 5 % (one-sided, 1.686 at 38 degrees of freedom)."""
    count = runs_per_arm(0.8, 1.0)
    assert count == 20
    draw = random.Random(0)
    found = 0
    for _ in range(1000):
        one, other = ([draw.gauss(mean, 1) for _ in range(count)] for mean in (0.8, 0.0))
        pooled = math.sqrt((statistics.variance(one) + statistics.variance(other)) / count)
        found += (statistics.fmean(one) - statistics.fmean(other)) / pooled > 1.686
    assert found / 1000 == pytest.approx(0.8, abs=0.04)


def test_the_bounds_of_a_standard_deviation_are_those_of_the_tables() -> None:
    """Chi-square, 2 degrees of freedom: 0.0506 and 7.378; 10: 3.247 and 20.483."""
    assert sd_bounds(1, 2) == pytest.approx((math.sqrt(2 / 7.378), math.sqrt(2 / 0.05064)), rel=1e-3)
    assert sd_bounds(1, 10) == pytest.approx((math.sqrt(10 / 20.483), math.sqrt(10 / 3.247)), rel=1e-3)


# the command ------------------------------------------------------------------------------------------


def asked(*words: str) -> str:
    done = CliRunner().invoke(power, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_it_needs_no_lab_if_the_noise_is_told() -> None:
    said = asked("--effect", "0.001", "--noise-sd", "0.00037")
    assert "2.7 SD" in said
    assert "of such trials are promoted" in said and "a change that does nothing takes" in said
    assert "a single t-test needs 3 runs of each" in said


def test_without_an_effect_there_is_a_table() -> None:
    said = asked("--noise-sd", "0.5")
    first = [line.split()[0] for line in said.splitlines() if line.strip()[:1].isdigit()]
    assert first == ["0", "0.25", "0.5", "1", "2"]
    assert max(map(len, said.splitlines())) <= 110


def test_json_has_the_same_figures() -> None:
    record = json.loads(asked("--effect", "0.4", "--noise-sd", "0.1", "--level", "0.2", "--json"))
    (row,) = record["effects"]
    assert record["level"] == 0.2 and row["in_sd"] == pytest.approx(4) and row["found"] > 0.95
    assert row["runs"]["mean"] > record["no_effect"]["runs"]["mean"]


@pytest.mark.parametrize(
    "words", [("--effect", "0"), ("--effect", "nan"), ("--noise-sd", "inf"), ("--level", "2")]
)
def test_figures_that_make_no_sense_are_refused(words: tuple[str, str]) -> None:
    done = CliRunner().invoke(power, ["--noise-sd", "1", *words])
    assert isinstance(done.exception, LabError) and words[0] in str(done.exception)


def test_without_a_campaign_it_says_so(toy: Path) -> None:
    done = CliRunner().invoke(power, ["-C", str(toy)])
    assert isinstance(done.exception, LabError)
