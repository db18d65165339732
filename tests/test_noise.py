"""How much one measurement scatters: what is learned from replicates, and how `autolab noise` tells it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from autolab.cli.noise import noise
from autolab.cli.power import power
from autolab.errors import LabError
from autolab.judge.noise import learn, replicates, residuals
from autolab.lab import begin_campaign, open_lab
from autolab.ledger.observations import observe
from autolab.ledger.records import Measurement, Observation, Status


def runs(program: str, scores: list[float], host: str = "a", at: int = 0) -> list[Observation]:
    return [Observation(program, host, score, at) for score in scores]


# learning ---------------------------------------------------------------------------------------------


def test_the_scatter_is_pooled_over_programs() -> None:
    known = learn(runs("p", [1.0, 3.0]) + runs("q", [10.0, 10.0, 13.0]))
    assert known.state == "known" and known.df == 3
    assert known.sd == pytest.approx(math.sqrt((2 + 6) / 3))


def test_single_runs_say_nothing_of_the_scatter() -> None:
    known = learn(runs("p", [1.0]) + runs("q", [2.0]) + runs("p", [1.5], host="b"))
    assert (
        known.state == "unknown"
        and known.sd == 0
        and {host: one.runs for host, one in known.hosts.items()} == {"a": 2, "b": 1}
    )
    assert learn([]).state == "unknown"


def test_identical_digits_are_silence_and_not_certainty() -> None:
    assert learn(runs("p", [0.1 + 0.2, 0.3, 0.3])).state == "silent"


def test_hosts_do_not_mix() -> None:
    """Between two hosts lies far more than within each; only the latter is the noise."""
    draw = random.Random(0)
    sample = []
    for k in range(40):
        for host, level in (("a", 0.0), ("b", 7.0)):
            sample += runs(f"p{k}", [level + k + draw.gauss(0, 1) for _ in range(2)], host, at=k)
    known = learn(sample)
    assert known.sd == pytest.approx(1, abs=0.2) and known.df == 80
    assert {host: one.df for host, one in known.hosts.items()} == {"a": 40, "b": 40}
    offsets = [known.hosts[host].offset for host in ("a", "b")]
    assert offsets == pytest.approx([-3.5, 3.5], abs=0.2)
    assert known.total == pytest.approx(math.hypot(known.sd, 3.5), abs=0.2)


def test_without_a_program_that_ran_everywhere_there_are_no_offsets() -> None:
    known = learn(runs("p", [1.0, 2.0], "a") + runs("q", [5.0, 6.0], "b"))
    assert known.hosts["a"].offset is None and known.total == known.sd


def test_drift_between_trials_does_not_inflate_the_scatter() -> None:
    draw = random.Random(1)
    sample = [one for k in range(60) for one in runs("p", [k + draw.gauss(0, 1) for _ in range(2)], at=k)]
    assert learn(sample).sd == pytest.approx(1, abs=0.2)


def test_scores_that_are_no_numbers_are_left_out() -> None:
    known = learn(runs("p", [1.0, float("nan"), 3.0, float("inf")]))
    assert known.df == 1 and known.sd == pytest.approx(math.sqrt(2))
    assert known.hosts["a"].runs == 2


def test_heavy_tails_are_seen_once_there_are_residuals_enough() -> None:
    draw = random.Random(2)
    wild = [draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 2 / 3)) for _ in range(400)]
    calm = [draw.gauss(0, 1) for _ in range(400)]
    heavy, normal = learn(runs("p", wild)).tails, learn(runs("p", calm)).tails
    assert heavy is not None and normal is not None and heavy > 2 > abs(normal) * 3
    assert learn(runs("p", calm[:20])).tails is None


def test_the_picture_shows_what_the_noise_was_learned_from() -> None:
    sample = runs("p", [1.0, 3.0]) + runs("q", [10.0, 10.0, 13.0], "b") + runs("r", [5.0])
    groups = [group for by_host in replicates(sample).values() for group in by_host]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(r**2 * (len(group) - 1) / len(group) for group in groups for r in residuals(group))
    known = learn(sample)
    assert freedom == known.df and math.sqrt(squares / freedom) == pytest.approx(known.sd)


# the command ------------------------------------------------------------------------------------------


class Measured:
    """A toy lab whose baseline has the given scores, without anything being run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with open_lab(directory, create=True) as ledger:
            config = {"seed": 1, "executor": "local"}
            self.campaign = begin_campaign(
                directory, ledger, name=None, profile="cpu", config=config
            ).campaign.id

    def add(self, scores: list[float], host: str = "here") -> None:
        """Record scores of the baseline."""
        with open_lab(self.directory) as ledger:
            (trial,) = ledger.sequence(self.campaign)
            count = len(ledger.measurements(trial.number))
            for k, score in enumerate(scores, count):
                measured = Measurement(
                    f"m{k}", trial.number, "screen", k, k, status=Status.OK, score=score, host=host
                )
                ledger.start_measurement(measured)
                ledger.finish_measurement(measured)
                observe(ledger, measured)

    def promote(self) -> None:
        """Make the baseline the master."""
        with open_lab(self.directory) as ledger:
            (trial,) = ledger.sequence(self.campaign)
            ledger.promote(
                trial, score=1.0, interval=(1.0, 1.0), gain=0.0, reason="baseline", kind="baseline"
            )

    def ask(self, *words: str) -> str:
        """What `autolab noise` says."""
        done = CliRunner().invoke(noise, ["-C", str(self.directory), *words])
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def measured(toy: Path) -> Measured:
    return Measured(toy)


def test_it_tells_the_scatter_and_what_it_means(measured: Measured) -> None:
    measured.add([1.0, 1.1, 1.2])
    said = measured.ask()
    assert "loss scatters by 0.1 from run to run on one host (SD, 95 %: 0.052 … 0.63)" in said
    assert "from 3 runs of 1 program measured more than once, 2 degrees of freedom" in said
    assert "differ by more than 0.28 one time in twenty" in said
    assert "beside 3 of the master shows a gain of 0.19 or more" in said
    assert "looks for gains of 0.2 (target 2 SD, min_effect 0)" in said
    assert max(map(len, said.splitlines())) <= 100


def test_each_host_has_its_line(measured: Measured) -> None:
    measured.add([1.0, 1.1, 1.2], "near")
    measured.add([2.0, 2.1, 2.2], "far")
    said = measured.ask()
    lines = {line.split()[0]: line.split() for line in said.splitlines()}
    assert lines["near"] == ["near", "3", "0.1", "-0.5"] and lines["far"] == ["far", "3", "0.1", "+0.5"]
    assert "programs are compared within a host only" in said


def test_it_draws_a_picture(measured: Measured) -> None:
    pytest.importorskip("matplotlib")
    measured.add([1.0, 1.1, 1.2])
    assert f"picture   results/{measured.campaign}/noise.png" in measured.ask()
    picture = measured.directory / "results" / measured.campaign / "noise.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_has_the_figures_and_draws_nothing(measured: Measured) -> None:
    measured.add([1.0, 1.1, 1.2])
    record = json.loads(measured.ask("--json"))
    assert record["state"] == "known" and record["sd"] == pytest.approx(0.1) and record["df"] == 2
    assert record["hosts"][0]["host"] == "here" and record["campaign"] == measured.campaign
    assert not (measured.directory / "results" / measured.campaign / "noise.png").exists()


def test_unknown_noise_says_what_is_missing(measured: Measured) -> None:
    measured.add([1.0], "near")
    measured.add([1.1], "far")
    said = measured.ask()
    assert "noise     unknown: 2 runs, none of them of the same program on the same host" in said
    assert "every run landed on another host" in said and "nothing is promoted until" in said


def test_a_campaign_without_a_score_is_no_error(measured: Measured) -> None:
    assert "noise     unknown: no run" in measured.ask()


def test_silence_says_what_to_check(measured: Measured) -> None:
    measured.add([1.0, 1.0, 1.0])
    said = measured.ask()
    assert "3 runs of 1 program gave the same digits each time" in said
    assert "AUTOLAB_SEED" in said and "metric.deterministic: true" in said


def test_a_lab_without_a_campaign_says_so(toy: Path) -> None:
    done = CliRunner().invoke(noise, ["-C", str(toy)])
    assert isinstance(done.exception, LabError)


def test_power_takes_the_noise_of_the_campaign(measured: Measured) -> None:
    measured.add([1.0, 1.1, 1.2])
    measured.promote()
    done = CliRunner().invoke(power, ["-C", str(measured.directory), "--effect", "0.4", "--json"])
    record = json.loads(done.output)
    assert record["noise_sd"] == pytest.approx(0.1) and record["noise_df"] == 2
    assert record["master_runs"] == 3 and record["ordinal"] == 1


@pytest.mark.parametrize(("scores", "reason"), [([1.0], "noise is unknown"), ([1.0, 1.0], "same digits")])
def test_power_needs_noise(measured: Measured, scores: list[float], reason: str) -> None:
    measured.add(scores)
    done = CliRunner().invoke(power, ["-C", str(measured.directory)])
    assert isinstance(done.exception, LabError) and reason in str(done.exception)
    assert "--noise-sd" in str(done.exception)
