"""The course of a trial: which measurements it gets, what becomes of it, and what is known of the master afterwards.

Scores are given by hand here, so that luck can be played; test_campaign.py runs the same with real measurements.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TASK, write_toy
from scripted import start
from test_known_defects import propose

from autolab.errors import LabError
from autolab.judge.noise import learn
from autolab.judging import by_hand
from autolab.judging.course import advance
from autolab.lab import Lab
from autolab.ledger.exchange import pack
from autolab.ledger.observations import looks, noise_sample, scatter_sample, standing
from autolab.ledger.records import Measurement, Status, Trial, Verdict

SD = 0.01
Score = Callable[[Measurement], float]


def around(level: float) -> Score:
    """A level with noise that depends on the seed alone."""
    return lambda measured: random.Random(measured.seed).gauss(level, SD)


def record(lab: Lab, step: tuple[Measurement, ...], score: Score) -> None:
    for measured in step:
        name = lab.task.metric.reported(measured.stage)
        metrics = {name: score(measured)}
        lab.record(measured.replace(status=Status.OK, metrics=metrics, host="h", sandbox="bubblewrap"))


def play(lab: Lab, trial: Trial, score: Score) -> Trial:
    """Measure and judge a trial with scores by hand."""
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        record(lab, step, score)
        step = advance(lab, trial.number)
    return step


def begun(directory: Path, task: str = TASK) -> Lab:
    """A lab whose baseline scores about 1."""
    lab = start(write_toy(directory, task=task))
    play(lab, next(lab.ledger.sequence(lab.campaign.id)), around(1.0))
    return lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return begun(tmp_path / "toy")


def change(lab: Lab, value: float) -> Trial:
    """Propose a RATE for the master, whatever it is now."""
    ticket_program = lab.ledger.program(lab.ledger.master(lab.campaign.id).program)
    (line,) = [line for line in ticket_program["train.py"].splitlines() if line.startswith("RATE")]
    return propose(lab, (line, f"RATE = {value}"))


def by_trial(own: Trial, candidate: float, master: float) -> Score:
    """The candidate scores about one level, every other trial about another."""
    return lambda measured: around(candidate if measured.trial == own.number else master)(measured)


def test_a_promotion_has_fresh_seeds_a_control_and_an_estimate_that_did_not_decide(lab: Lab) -> None:
    trial = change(lab, 0.9)
    done = play(lab, trial, by_trial(trial, 0.8, 1.0))
    assert done.verdict is Verdict.CONFIRMED
    own = lab.ledger.measurements(trial.number)
    stages = [m.stage for m in own]
    assert stages.count("screen") == 1 and stages.count("replicate") >= 2 and stages.count("confirm") == 2
    assert len({m.seed for m in own}) == len(own)
    estimates = [m.score or 0.0 for m in own if m.stage == "confirm"]
    assert done.score == pytest.approx(sum(estimates) / 2)
    controls = [m for m in lab.ledger.measurements(1) if m.stage == f"control-{trial.ordinal}"]
    assert controls and all(m.trial == 1 for m in controls)


def test_most_trials_end_after_one_run(lab: Lab) -> None:
    trial = change(lab, 0.3)
    done = play(lab, trial, by_trial(trial, 1.2, 1.0))
    assert done.verdict is Verdict.WORSE and len(lab.ledger.measurements(trial.number)) == 1


def test_asking_again_asks_for_the_same(lab: Lab) -> None:
    trial = change(lab, 0.9)
    step = advance(lab, trial.number)
    assert step == advance(lab, trial.number)
    assert isinstance(step, tuple)
    record(lab, step, around(0.8))
    again = advance(lab, trial.number)
    assert isinstance(again, tuple) and again == advance(lab, trial.number)


def test_the_master_is_estimated_from_what_came_after_its_selection(lab: Lab) -> None:
    trial = change(lab, 0.9)
    play(lab, trial, by_trial(trial, 0.8, 1.0))
    first = standing(lab.ledger, lab.campaign.id)
    other = change(lab, 0.7)
    play(lab, other, lambda m: around(0.78 if m.stage == "screen" else 0.8)(m))
    later = standing(lab.ledger, lab.campaign.id)
    assert first is not None and later is not None
    assert first.runs == 2 and later.runs > 2
    assert later.high - later.low < first.high - first.low


def fall(lab: Lab) -> None:
    """Let further trials be tested against a master that scores about 1.055, until it falls."""
    for place in range(12):
        play(lab, change(lab, place / 10), lambda m: around(1.02 if m.stage == "screen" else 1.055)(m))
        if lab.ledger.master(lab.campaign.id).kind == "demotion":
            return


def test_a_gain_that_was_luck_is_taken_back_and_the_lineage_says_why(lab: Lab) -> None:
    lucky = change(lab, 0.9)
    scores = {"screen": 0.955, "replicate": 0.955, "confirm": 1.005}
    play(lab, lucky, lambda m: around(scores.get(m.stage, 1.05) if m.trial == lucky.number else 1.0)(m))
    assert lab.ledger.master(lab.campaign.id).trial == lucky.number
    fall(lab)
    back = lab.ledger.master(lab.campaign.id)
    assert back.trial == 1 and back.kind == "demotion"
    assert f"{lucky.id} no longer beats it" in back.reason
    assert lab.ledger.trial(lucky.number).verdict is Verdict.CONFIRMED  # what was written stays
    assert change(lab, 0.95).parent_trial == 1


def test_what_was_published_does_not_change_when_a_master_falls(lab: Lab) -> None:
    lucky = change(lab, 0.9)
    scores = {"screen": 0.955, "replicate": 0.955, "confirm": 1.005}
    play(lab, lucky, lambda m: around(scores.get(m.stage, 1.05) if m.trial == lucky.number else 1.0)(m))
    (before,) = pack(lab.ledger)
    own = before.content.splitlines()
    fall(lab)
    assert lab.ledger.master(lab.campaign.id).kind == "demotion"
    (after,) = pack(lab.ledger)
    assert set(own[1:]) <= set(after.content.splitlines())


def test_a_decision_that_its_own_estimates_contradict_promotes_nothing(lab: Lab) -> None:
    """A recipe that is wonderful on three seeds and terrible on the next two."""
    trial = change(lab, 0.9)
    done = play(lab, trial, lambda m: by_trial(trial, 1.5 if m.stage == "confirm" else 0.8, 1.0)(m))
    assert done.verdict is Verdict.PROVISIONAL and "speaks against it" in done.note
    assert lab.ledger.master(lab.campaign.id).trial == 1


def test_a_decision_holds_only_against_the_master_that_it_was_made_against(lab: Lab) -> None:
    early, late = change(lab, 0.8), change(lab, 0.9)
    step = advance(lab, early.number)
    while isinstance(step, tuple) and step[0].stage != "confirm":
        record(lab, step, by_trial(early, 0.9, 1.0))
        step = advance(lab, early.number)
    play(lab, late, by_trial(late, 0.5, 1.0))
    done = play(lab, early, by_trial(early, 0.9, 0.5))
    assert done.verdict is Verdict.WORSE
    assert lab.ledger.master(lab.campaign.id).trial == late.number


def test_a_master_that_fails_on_fresh_seeds_is_no_measure(lab: Lab) -> None:
    trial = change(lab, 0.9)
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        for measured in step:
            if measured.trial == trial.number:
                record(lab, (measured,), around(0.8))
            else:
                lab.record(measured.replace(status=Status.CRASH, cause="it broke"))
        step = advance(lab, trial.number)
    assert step.verdict is Verdict.PROVISIONAL and "the master itself failed on 3" in step.note


def test_a_master_that_only_fails_makes_room_for_what_it_replaced(lab: Lab) -> None:
    """It scored while it was tested, and crashes ever since: nothing could be compared with it."""
    bomb = change(lab, 0.9)
    play(lab, bomb, by_trial(bomb, 0.8, 1.0))
    trial = change(lab, 0.7)
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        for measured in step:
            if measured.trial == bomb.number:
                lab.record(measured.replace(status=Status.NAN, cause="too late"))
            else:
                record(lab, (measured,), by_trial(trial, 0.5, 1.0))
        step = advance(lab, trial.number)
    assert step.verdict is Verdict.CONFIRMED
    kinds = [promotion.kind for promotion in lab.ledger.promotions(lab.campaign.id)]
    assert kinds == ["baseline", "improvement", "demotion", "improvement"]


def test_a_candidate_that_fails_on_any_fresh_seed_ends_with_that(lab: Lab) -> None:
    trial = change(lab, 0.9)
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        for place, measured in enumerate(step):
            if measured.stage == "replicate" and place == 0:
                lab.record(measured.replace(status=Status.NAN, cause="loss is nan"))
            else:
                record(lab, (measured,), by_trial(trial, 0.8, 1.0))
        step = advance(lab, trial.number)
    assert step.status is Status.NAN and step.note == "on a fresh seed: loss is nan"


def test_identical_baselines_promote_nothing_unless_the_task_has_no_noise(tmp_path: Path) -> None:
    for extra, verdict in (("", "provisional"), (", deterministic: true", "confirmed")):
        task = TASK.replace("bounds: [0, 100]", f"bounds: [0, 100]{extra}")
        lab = start(write_toy(tmp_path / verdict, task=task))
        play(lab, next(lab.ledger.sequence(lab.campaign.id)), lambda m: 1.0)
        trial = change(lab, 0.9)
        done = play(lab, trial, lambda m, own=trial: 0.9 if m.trial == own.number else 1.0)  # type: ignore[misc]
        assert done.verdict == verdict, done.note


def test_copies_of_earlier_results_do_not_teach_how_much_scores_scatter(lab: Lab) -> None:
    trial = change(lab, 0.9)
    (wanted,) = advance(lab, trial.number)  # type: ignore[misc]
    lab.record(
        wanted.replace(
            status=Status.OK, metrics={"loss": 1.0}, host="h", cached_from=lab.ledger.measurements(1)[0].id
        )
    )
    assert trial.program not in {seen.program for seen in noise_sample(lab.ledger, lab.campaign, 9)}


def test_a_simpler_program_that_is_as_good_becomes_master(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", TASK.replace("bounds: [0, 100]", "bounds: [0, 100], min_effect: 0.05"))
    write = 'with open(os.environ["AUTOLAB_CLOCK"], "w") as file:\n        '
    trial = propose(lab, (write + 'json.dump({"tokens": STEPS, "steps": STEPS, "pace": []}, file)', "pass"))
    done = play(lab, trial, around(1.0))
    assert done.verdict is Verdict.SIMPLIFICATION, done.note
    assert lab.ledger.master(lab.campaign.id).kind == "simplification"


def test_a_screening_run_gets_the_band_of_the_program_that_it_branches_from(tmp_path: Path) -> None:
    task = TASK + "early_abort: {sds: 6, from: 0.3}\n"
    lab = start(write_toy(tmp_path / "toy", task=task))
    step = advance(lab, 1)
    assert isinstance(step, tuple) and all(m.band == () for m in step)
    curve = tuple((k / 20, 3.0 - k / 20) for k in range(1, 21))
    for place, measured in enumerate(step):
        shifted = tuple((x, y + place / 100) for x, y in curve)
        score = around(1.0)(measured)
        lab.record(measured.replace(status=Status.OK, metrics={"loss": score}, host="h", curve=shifted))
    advance(lab, 1)
    (screen,) = advance(lab, change(lab, 0.9).number)  # type: ignore[misc]
    assert screen.band and all(low <= high < worst for _, low, high, worst in screen.band)
    record(lab, (screen,), around(0.8))
    later = advance(lab, screen.trial)
    assert isinstance(later, tuple) and all(m.band == () for m in later)


def test_the_first_copy_of_a_colleagues_result_does_teach_it(lab: Lab) -> None:
    trial = change(lab, 0.9)
    (wanted,) = advance(lab, trial.number)  # type: ignore[misc]
    mine = lab.ledger.measurements(1)[0].id
    for source, known in (("aaaaaa-0001-screen-0-1", True), (mine, False)):
        copied = wanted.replace(
            id=f"{trial.id}-replicate-{int(known)}-1", stage="replicate", cached_from=source
        )
        lab.record(copied.replace(status=Status.OK, metrics={"loss": 1.0 + known}, host="h"))
    scores = {
        seen.score for seen in noise_sample(lab.ledger, lab.campaign, 9) if seen.program == trial.program
    }
    assert scores == {2.0}


# certification ----------------------------------------------------------------------------------------

SEALED = TASK.replace("bounds: [0, 100]", "bounds: [0, 100], sealed: sealed_loss")


def test_a_promotion_is_certified_by_one_logged_look_each(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", SEALED)
    trial = change(lab, 0.9)
    done = play(lab, trial, by_trial(trial, 0.8, 1.0))
    assert done.verdict is Verdict.CERTIFIED and "certified" in done.note
    assert [(look.trial, look.asked_by) for look in looks(lab.ledger, lab.campaign.id)] == [
        (trial.number, "promotion"),
        (1, "promotion"),
    ]
    better = change(lab, 0.95)
    play(lab, better, lambda m: around(0.6 if m.trial == better.number else 0.8)(m))
    assert len(looks(lab.ledger, lab.campaign.id)) == 3


def test_a_gain_that_the_sealed_split_does_not_show_stays_confirmed(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", SEALED)
    trial = change(lab, 0.9)

    def overfitted(measured: Measurement) -> float:
        better = measured.trial == trial.number and measured.stage != "certify"
        return around(0.8 if better else 1.0 + 0.1 * (measured.trial == trial.number))(measured)

    done = play(lab, trial, overfitted)
    assert done.verdict is Verdict.CONFIRMED and "not certified" in done.note
    assert lab.ledger.master(lab.campaign.id).trial == trial.number


def test_sealed_scores_stay_out_of_what_agents_read(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", SEALED)
    trial = change(lab, 0.9)
    done = play(lab, trial, lambda m: 0.123456 if m.stage == "certify" else by_trial(trial, 0.8, 1.0)(m))
    assert "0.1234" not in done.note


def test_a_cheat_that_the_sealed_split_shows_ends_the_trial_without_a_number(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", SEALED)
    trial = change(lab, 0.9)
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        for measured in step:
            if measured.stage == "certify" and measured.trial == trial.number:
                lab.record(measured.replace(status=Status.ILLEGAL, cause="score 0.1234 outside [1, 2]"))
            else:
                record(lab, (measured,), by_trial(trial, 0.8, 1.0))
        step = advance(lab, trial.number)
    assert step.status is Status.ILLEGAL and "0.1234" not in step.note
    assert lab.ledger.master(lab.campaign.id).trial == 1


# by hand ----------------------------------------------------------------------------------------------


def pressed(lab: Lab, trial: Trial, score: Score, runs: int = 30) -> by_hand.Outcome:
    step = by_hand.confirm(lab, trial, runs)
    while isinstance(step, tuple):
        record(lab, step, score)
        step = by_hand.confirm(lab, trial, runs)
    return step


def test_a_person_may_put_a_finished_trial_to_the_test_again(lab: Lab) -> None:
    trial = change(lab, 0.9)
    unlucky = play(lab, trial, lambda m: around(1.02 if m.trial == trial.number else 1.0)(m))
    assert unlucky.verdict in (Verdict.WORSE, Verdict.NO_DIFFERENCE)
    other = change(lab, 0.7)
    play(lab, other, by_trial(other, 1.3, 1.0))
    shown = lab.ledger.trial(trial.number)
    outcome = pressed(lab, shown, by_trial(trial, 0.8, 1.0))
    if not outcome.promoted:  # the first run spoke against it plainly: nothing more was measured
        assert not [m for m in lab.ledger.measurements(trial.number) if m.stage == "again"]
    assert lab.ledger.trial(trial.number) == shown


def test_a_provisional_trial_is_promoted_by_further_runs(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy")
    trial = change(lab, 0.9)
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        for measured in step:
            if measured.trial == trial.number:
                record(lab, (measured,), around(0.9))
            else:
                lab.record(measured.replace(status=Status.CRASH, cause="out of luck"))
        step = advance(lab, trial.number)
    assert step.verdict is Verdict.PROVISIONAL
    outcome = pressed(lab, step, by_trial(trial, 0.9, 1.0))
    assert outcome.promoted and lab.ledger.master(lab.campaign.id).trial == trial.number
    assert lab.ledger.trial(trial.number).verdict is Verdict.PROVISIONAL


def test_the_baseline_and_failures_cannot_be_confirmed(lab: Lab) -> None:
    with pytest.raises(LabError, match="is the baseline"):
        by_hand.confirm(lab, lab.ledger.trial(1), 5)
    trial = change(lab, 0.9)
    (wanted,) = advance(lab, trial.number)  # type: ignore[misc]
    lab.record(wanted.replace(status=Status.CRASH, cause="it broke"))
    broken = advance(lab, trial.number)
    assert isinstance(broken, Trial)
    with pytest.raises(LabError, match="has no score: crash"):
        by_hand.confirm(lab, broken, 5)


def test_a_look_is_logged_even_if_nothing_comes_of_it(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", SEALED)
    trial = change(lab, 0.9)
    step = advance(lab, trial.number)
    while not isinstance(step, Trial):
        for measured in step:
            if measured.stage == "confirm":
                lab.record(measured.replace(status=Status.CRASH, cause="it broke"))
            else:
                record(lab, (measured,), by_trial(trial, 0.8, 1.0))
        step = advance(lab, trial.number)
    assert step.status is Status.CRASH
    assert {look.trial for look in looks(lab.ledger, lab.campaign.id)} == {1, trial.number}


def test_a_second_request_to_certify_looks_no_second_time(tmp_path: Path) -> None:
    lab = begun(tmp_path / "toy", SEALED)
    trial = change(lab, 0.9)
    play(lab, trial, by_trial(trial, 0.8, 1.0))
    found = by_hand.certify(lab, lab.ledger.master(lab.campaign.id))
    assert isinstance(found, by_hand.Outcome) and found.verdict is Verdict.CERTIFIED
    assert len(looks(lab.ledger, lab.campaign.id)) == 2


def test_without_a_sealed_split_there_is_nothing_to_certify(lab: Lab) -> None:
    with pytest.raises(LabError, match="no sealed split"):
        by_hand.certify(lab, lab.ledger.master(lab.campaign.id))


def test_the_noise_needs_only_what_was_measured_more_than_once(lab: Lab) -> None:
    for k in range(6):
        play(lab, change(lab, 0.1 * k), around(1.0 - 0.05 * k))
    everything = noise_sample(lab.ledger, lab.campaign, 6)
    repeated, alone = scatter_sample(lab.ledger, lab.campaign, 6)
    assert len(repeated) + sum(alone.values()) == len(everything)
    assert learn(repeated, alone) == learn(everything)
