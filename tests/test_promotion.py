"""The judge: a sequential test against the master, within hosts, that noise does not pass."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.judge.comparison import compare
from autolab.judge.error_budget import log_share
from autolab.judge.evidence import log_evidence, log_ratio, student
from autolab.judge.noise import learn
from autolab.judge.promotion import Criterion, Finding, decide
from autolab.ledger.records import Observation, Verdict

LOWER = Criterion(sign=-1.0)
SD = 0.01


def runs(program: str, scores: Sequence[float], *, host: str = "a", at: int = 0) -> list[Observation]:
    return [Observation(program, host, score, at) for score in scores]


MASTER = runs("m", [1.00, 1.01, 0.99, 1.01, 0.99])
SAMPLE = [*MASTER, *runs("x", [1.2, 1.22, 1.21, 1.19], at=1)]
NOISE = learn(SAMPLE)


def judged(
    draw: Callable[[str], Observation], criterion: Criterion = LOWER, ordinal: int = 5
) -> tuple[Finding, list[Observation], list[Observation]]:
    """A trial measured until it is judged; `draw` makes one measurement of "c" or of "m"."""
    candidate, master = [draw("c")], list(MASTER)
    for _ in range(100):
        noise = learn([*SAMPLE, *candidate, *master[len(MASTER) :]])
        finding = decide(criterion, noise, candidate, master, ordinal)
        if not finding.want:
            return finding, candidate, master
        for want in finding.want:
            (candidate if want == "candidate" else master).append(draw("c" if want == "candidate" else "m"))
    raise AssertionError("it never ends")


def drawing(gain: float, seed: int = 0, sd: float = SD) -> Callable[[str], Observation]:
    rng = random.Random(seed)
    return lambda program: Observation(program, "a", rng.gauss(1.0 - gain * (program == "c"), sd), 5)


# the test ---------------------------------------------------------------------------------------------


def test_a_plainly_worse_candidate_ends_after_one_run() -> None:
    finding = decide(LOWER, NOISE, runs("c", [1.3], at=5), MASTER, 5)
    assert not finding.want and finding.verdict is Verdict.WORSE and finding.gain < 0


def test_a_promising_candidate_is_measured_again_in_turn_with_the_master() -> None:
    finding = decide(LOWER, NOISE, runs("c", [0.7], at=5), MASTER, 5)
    assert finding.verdict is None and set(finding.want) == {"candidate", "master"}


def test_a_large_effect_is_confirmed_with_fresh_seeds_and_a_control() -> None:
    finding, candidate, master = judged(drawing(0.1))
    assert finding.verdict is Verdict.CONFIRMED
    assert len(candidate) >= 3 and len(master) > len(MASTER)
    assert finding.log_evidence >= finding.needed and finding.gain == pytest.approx(0.1, abs=3 * SD)


def test_two_standard_deviations_are_found_and_nothing_is_not() -> None:
    found = [judged(drawing(2 * SD, seed))[0].verdict for seed in range(40)]
    null = [judged(drawing(0.0, seed))[0].verdict for seed in range(40)]
    assert found.count(Verdict.CONFIRMED) >= 34
    assert Verdict.CONFIRMED not in null


def test_maximize_is_the_mirror_image() -> None:
    mirrored = [Observation("m", "a", -one.score, 0) for one in MASTER]
    up = decide(Criterion(sign=1.0), NOISE, runs("c", [-0.7], at=5), mirrored, 5)
    down = decide(LOWER, NOISE, runs("c", [0.7], at=5), MASTER, 5)
    assert up.gain == pytest.approx(down.gain) and up.want == down.want


def test_a_gain_of_min_effect_is_no_difference_however_sure() -> None:
    finding, _, _ = judged(drawing(0.05, sd=0.001), Criterion(-1.0, min_effect=0.05))
    assert finding.verdict is not Verdict.CONFIRMED


def test_a_candidate_that_scatters_more_needs_more() -> None:
    steady = decide(LOWER, NOISE, runs("c", [0.97, 0.97, 0.97, 0.97], at=5), MASTER, 5)
    wild = decide(LOWER, NOISE, runs("c", [0.87, 1.07, 0.92, 1.02], at=5), MASTER, 5)
    assert wild.log_evidence < steady.log_evidence / 2 and wild.se > steady.se


def test_what_cannot_be_told_apart_ends_as_provisional_or_no_difference() -> None:
    undecided = [0.985] * 6
    finding = decide(LOWER, NOISE, runs("c", undecided, at=5), MASTER, 5, most_runs=6)
    assert finding.verdict is Verdict.PROVISIONAL and "6 runs" in finding.note


def test_equal_with_less_code_is_a_simplification_where_the_task_says_what_is_equal() -> None:
    exact = Criterion(-1.0, min_effect=4 * SD)
    candidate, master = runs("c", [1.0], at=5), list(MASTER)
    finding = decide(exact, NOISE, candidate, master, 5, simpler=True)
    assert finding.want  # without being simpler it would have ended here
    assert not decide(exact, NOISE, candidate, master, 5).want
    rng = random.Random(1)
    while finding.want:
        candidate += runs("c", [rng.gauss(1.0, SD) for want in finding.want if want == "candidate"], at=5)
        master += runs("m", [rng.gauss(1.0, SD) for want in finding.want if want == "master"], at=5)
        finding = decide(exact, learn([*SAMPLE, *candidate]), candidate, master, 5, simpler=True)
    assert finding.verdict is Verdict.SIMPLIFICATION and "less code" in finding.note


def test_worse_with_less_code_is_no_simplification() -> None:
    finding = decide(
        Criterion(-1.0, min_effect=4 * SD), NOISE, runs("c", [1.2], at=5), MASTER, 5, simpler=True
    )
    assert finding.verdict is Verdict.WORSE


# bad input --------------------------------------------------------------------------------------------


def test_without_replicates_nothing_is_promoted() -> None:
    master = [*runs("m", [1.0]), *runs("m", [1.0], at=5)]
    finding = decide(LOWER, learn(runs("m", [1.0])), runs("c", [0.1] * 3, at=5), master, 5)
    assert finding.verdict is Verdict.PROVISIONAL and "noise is unknown" in finding.note


def test_identical_replicates_are_no_proof_of_no_noise() -> None:
    silent = learn(runs("m", [1.0, 1.0, 1.0]))
    master = runs("m", [1.0, 1.0, 1.0])
    assert set(decide(LOWER, silent, runs("c", [0.9], at=5), master, 5).want) == {"candidate", "master"}
    finding = decide(LOWER, silent, runs("c", [0.9] * 3, at=5), [*master, *runs("m", [1.0], at=5)], 5)
    assert silent.state == "silent"
    assert finding.verdict is Verdict.PROVISIONAL and "metric.deterministic" in finding.note


def test_a_task_that_says_so_needs_one_more_run_that_agrees() -> None:
    exact, one = Criterion(-1.0, deterministic=True), learn(runs("m", [1.0]))
    assert decide(exact, one, runs("c", [0.9]), runs("m", [1.0]), 5).want == ("candidate",)
    assert decide(exact, one, runs("c", [0.9, 0.9]), runs("m", [1.0]), 5).verdict is Verdict.CONFIRMED
    assert decide(exact, one, runs("c", [1.0]), runs("m", [1.0]), 5).verdict is Verdict.NO_DIFFERENCE


def test_a_task_that_says_so_wrongly_promotes_nothing() -> None:
    finding = decide(Criterion(-1.0, deterministic=True), NOISE, runs("c", [0.5, 0.5]), MASTER, 5)
    assert finding.verdict is Verdict.PROVISIONAL and "deterministic" in finding.note


def test_a_metric_that_saturates_promotes_nothing() -> None:
    """The master is at the best value there is, and so is the candidate."""
    master = runs("m", [0.0] * 5)
    finding = decide(
        LOWER, learn([*master, *runs("x", [0.2, 0.25, 0.22])]), runs("c", [0.0], at=5), master, 5
    )
    while finding.want:
        at = [Observation("c", "a", 0.0, 5)] * 24
        finding = decide(LOWER, NOISE, at, [*master, Observation("m", "a", 0.0, 5)], 5)
    assert finding.verdict is Verdict.NO_DIFFERENCE


def test_a_recipe_that_ignores_its_seed_is_not_promoted_for_one_lucky_draw() -> None:
    master = [*MASTER, *runs("m", [1.0, 1.01, 0.99], at=5)]
    finding = decide(LOWER, NOISE, runs("c", [0.93] * 4, at=5), master, 5)
    assert finding.verdict is Verdict.PROVISIONAL and "ignores the seed" in finding.note


def test_programs_that_ignore_their_seed_do_not_shrink_the_noise() -> None:
    fixed = [one for place in range(9) for one in runs(f"f{place}", [1.0] * 4, at=place)]
    assert learn([*SAMPLE, *fixed]).sd == pytest.approx(NOISE.sd)


def test_one_wild_recipe_does_not_blind_the_campaign() -> None:
    rng = random.Random(0)
    calm = [one for p in range(20) for one in runs(f"p{p}", [rng.gauss(1, SD) for _ in range(3)], at=p)]
    wild = runs("w", [0.7, 1.4, 0.9, 1.2], at=21)
    assert learn([*calm, *wild]).sd < 2 * SD


def test_a_host_that_scatters_more_weighs_less() -> None:
    noisy = [one for p in range(8) for one in runs(f"n{p}", [1.0, 1.2, 0.8], host="b", at=p)]
    calm = [one for p in range(20) for one in runs(f"p{p}", [1.0, 1.01, 0.99], at=p)]
    noise = learn([*noisy, *calm])
    assert noise.ratio("a") <= 1.0 and noise.ratio("b") > 1.5
    assert noise.ratio("never seen") == math.inf
    one_wild_run = [*runs("c", [0.99]), *runs("c", [0.4], host="b"), *runs("c", [0.99])]
    master = [*runs("m", [1.0] * 5), *runs("m", [1.0] * 5, host="b")]
    assert decide(LOWER, noise, one_wild_run, master, 5).verdict is not Verdict.CONFIRMED


def test_scores_that_are_not_finite_teach_nothing() -> None:
    assert learn(runs("m", [1.0, math.nan, math.inf])).state == "unknown"


# hosts ------------------------------------------------------------------------------------------------


def test_a_better_host_is_not_a_better_program() -> None:
    """Both scored on host b only 0.1 lower, where the master never ran."""
    finding = decide(LOWER, NOISE, runs("c", [0.9, 0.9], host="b", at=5), MASTER, 5)
    assert finding.want == ("master",)
    there = [*MASTER, *runs("m", [0.9, 0.91], host="b", at=5)]
    finding = decide(LOWER, NOISE, runs("c", [0.9, 0.9], host="b", at=5), there, 5)
    assert abs(finding.gain) < 0.01


def test_a_host_that_is_gone_leaves_no_comparison_and_no_promotion() -> None:
    candidate, master = runs("c", [0.5] * 4, host="b", at=5), [*MASTER, *runs("m", [1.0] * 6, at=5)]
    finding = decide(LOWER, NOISE, candidate, master, 5)
    assert finding.verdict is Verdict.PROVISIONAL and "no comparison" in finding.note


def test_hosts_are_joined_by_their_precision() -> None:
    candidate = [*runs("c", [0.9]), *runs("c", [1.9, 1.9, 1.9, 1.9], host="b")]
    master = [*runs("m", [1.0]), *runs("m", [2.0, 2.0, 2.0, 2.0], host="b")]
    found = compare(candidate, master, 0.01, -1.0)
    assert found.gain == pytest.approx(0.1, abs=1e-6)
    assert found.spread == pytest.approx(1 / (1 / 2 + 2), rel=1e-3)


def test_old_measurements_of_the_master_count_less() -> None:
    now = compare(runs("c", [0.9], at=100), runs("m", [1.0] * 5, at=100), 0.01, -1.0)
    stale = compare(runs("c", [0.9], at=100), runs("m", [1.0] * 5, at=0), 0.01, -1.0)
    assert stale.spread > 1.5 * now.spread


def test_a_level_that_wandered_is_followed() -> None:
    """The host became 2 SD worse between trial 0 and 200; a program that is as good as the master scores so too."""
    master = [*runs("m", [1.0] * 5, at=0), *runs("m", [1.04] * 3, at=200)]
    assert abs(compare(runs("c", [1.04, 1.04], at=200), master, 0.02, -1.0).gain) < 0.02


def test_one_wild_run_of_the_master_does_not_make_everything_look_better() -> None:
    wild = [*MASTER, Observation("m", "a", 9.0, 5)]
    assert compare(runs("c", [1.0], at=5), wild, 0.01, -1.0).gain < 0.03


def test_a_host_that_became_better_makes_no_candidate_better() -> None:
    """A neighbour left: everything is better by 4 SD from now on, the master's fresh runs as well."""
    promoted = 0
    for seed in range(20):
        draw = random.Random(seed)
        finding, _, _ = judged(lambda program, draw=draw: Observation(program, "a", draw.gauss(0.96, SD), 5))  # type: ignore[misc]
        promoted += finding.verdict is Verdict.CONFIRMED
    assert promoted == 0


def test_fresh_runs_on_hosts_where_the_master_was_not_measured_do_not_count() -> None:
    candidate = [*runs("c", [0.93], at=5), *runs("c", [1.9, 1.9], host="b", at=5)]
    finding = decide(LOWER, NOISE, candidate, [*MASTER, *runs("m", [1.5], host="c", at=5)], 5)
    assert finding.verdict is not Verdict.CONFIRMED


def test_a_task_without_noise_is_not_compared_across_hosts() -> None:
    exact, one = Criterion(-1.0, deterministic=True), learn(runs("m", [1.0]))
    elsewhere = decide(exact, one, runs("c", [0.9, 0.9], host="b"), runs("m", [1.0]), 5)
    assert elsewhere.verdict is not Verdict.CONFIRMED
    differing = decide(exact, one, [*runs("c", [0.9]), *runs("c", [0.5], host="b")], runs("m", [1.0]), 5)
    assert differing.verdict is not Verdict.CONFIRMED


# noise ------------------------------------------------------------------------------------------------


def test_what_wandered_between_trials_is_no_noise() -> None:
    drifting = [one for at in range(10) for one in runs("m", [1.0 + at, 1.0 + at + 0.01], at=at)]
    assert learn(drifting).sd == pytest.approx(0.01 / math.sqrt(2))


def test_several_hosts_have_a_spread_of_their_own() -> None:
    noise = learn([*runs("m", [1.0, 1.01, 0.99]), *runs("m", [1.2, 1.21, 1.19], host="b")])
    assert noise.sd == pytest.approx(0.01) and noise.total == pytest.approx(0.1, rel=0.02)
    assert noise.sd < noise.yardstick < noise.total


# error rates ------------------------------------------------------------------------------------------


def test_the_error_shares_add_up_to_the_allowance() -> None:
    assert math.fsum(math.exp(log_share(k)) for k in range(1, 200_000)) == pytest.approx(0.05, rel=0.01)
    assert all(log_share(k + 1) < log_share(k) for k in range(1, 1000))


@pytest.mark.parametrize(
    ("p", "df", "value"), [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 5, 2.571), (0.975, 30, 2.042)]
)
def test_quantiles_of_students_t(p: float, df: int, value: float) -> None:
    assert student(p, df) == pytest.approx(value, rel=0.01)


def test_a_huge_effect_is_evidence_even_with_an_uncertain_scale() -> None:
    assert log_ratio(300.0, 1.0, 2, 0.0, 2.0) < 1  # the target alone would take it for noise
    assert log_evidence(300.0, 1.0, 4, 0.0, 2.0) > 10


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.integers(1, 10_000),
)
def test_every_case_has_a_next_step(own: list[float], master: list[float], ordinal: int) -> None:
    candidate, incumbent = runs("c", own, at=ordinal), runs("m", master)
    finding = decide(LOWER, learn([*candidate, *incumbent]), candidate, incumbent, ordinal)
    assert bool(finding.want) == (finding.verdict is None)
    assert math.isfinite(finding.gain)
