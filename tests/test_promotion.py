"""The first judge: beyond two standard deviations, and again on a second seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from autolab.judge.promotion import judge, noise_sd
from autolab.task import Task, load_task


@pytest.fixture
def task(toy: Path) -> Task:
    return load_task(toy)


def test_within_two_standard_deviations_is_no_difference(task: Task) -> None:
    assert judge(task, 0.1, 1.0, 0.85, None).verdict == "no_difference"
    assert judge(task, 0.1, 1.0, 1.15, None).verdict == "no_difference"
    assert judge(task, 0.1, 1.0, 1.25, None).verdict == "worse"


def test_beyond_needs_a_second_seed(task: Task) -> None:
    assert judge(task, 0.1, 1.0, 0.7, None).verdict == "provisional"
    assert judge(task, 0.1, 1.0, 0.7, 0.75).verdict == "confirmed"
    assert judge(task, 0.1, 1.0, 0.7, 0.95).verdict == "no_difference"
    assert judge(task, 0.1, 1.0, 0.7, 1.3).verdict == "worse"


def test_the_reported_score_did_not_select_the_candidate(task: Task) -> None:
    judged = judge(task, 0.1, 1.0, 0.5, 0.75)
    assert judged.score == 0.75 and judged.gain == pytest.approx(0.25)


def test_maximize_is_the_mirror_image(task: Task) -> None:
    up = task.model_copy(update={"metric": task.metric.model_copy(update={"direction": "maximize"})})
    assert judge(up, 0.1, 1.0, 1.3, 1.3).verdict == "confirmed"
    assert judge(up, 0.1, 1.0, 0.7, None).verdict == "worse"


def test_a_gain_below_min_effect_is_no_difference_even_without_noise(task: Task) -> None:
    small = task.model_copy(update={"metric": task.metric.model_copy(update={"min_effect": 0.01})})
    assert judge(small, 0.0, 1.0, 0.995, None).verdict == "no_difference"
    assert judge(task, 0.0, 1.0, 0.995, 0.995).verdict == "confirmed"
    assert judge(task, 0.0, 1.0, 1.0, None).verdict == "no_difference"


def test_noise_is_rarely_promoted(task: Task) -> None:
    """100 null trials: strict `<` promotes about four, this rule hardly ever one."""
    draw = random.Random(0)
    strict = ours = 0
    for _ in range(200):
        sd = noise_sd([draw.gauss(1, 0.1) for _ in range(3)])
        best = master = draw.gauss(1, 0.1)
        for _ in range(100):
            score = draw.gauss(1, 0.1)
            strict += score < best
            best = min(best, score)
            judged = judge(task, sd, master, score, None)
            if judged.verdict == "provisional":
                judged = judge(task, sd, master, score, draw.gauss(1, 0.1))
            if judged.verdict == "confirmed":
                ours, master = ours + 1, judged.score
    assert strict / 200 > 3.5
    assert ours / 200 < strict / 200 / 3
