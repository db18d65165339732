"""What a change costs: lines, memory, seconds, in words that stay the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.judge.price import Price, price
from autolab.ledger.records import Measurement, Status

SHORT = {"train.py": "x = 1\n"}
LONG = {"train.py": "x = 1\n" * 15}


def run(
    memory: float = 0,
    cpu: float = 0,
    wall: float = 0,
    *,
    artifact: int = 0,
    host: str = "one",
    status: Status | None = Status.OK,
) -> Measurement:
    return Measurement(
        *("m", 1, "screen", 0, 0),
        status=status,
        host=host,
        peak_memory_mb=memory,
        train_cpu_seconds=cpu,
        train_seconds=wall,
        artifact_bytes=artifact,
    )


def priced(master: list[Measurement], candidate: list[Measurement]) -> Price:
    return price(SHORT, SHORT, master, candidate)


def test_a_longer_program_costs_lines() -> None:
    assert price(SHORT, LONG, [], []) == Price(14, 42, None, None, None)
    assert price(LONG, SHORT, [], []) == Price(-14, -42, None, None, None)


def test_memory_and_artifact_are_compared_by_their_means() -> None:
    found = priced([run(100, artifact=10), run(300, artifact=10)], [run(220, artifact=11)])
    assert found.memory == pytest.approx(0.1) and found.artifact == pytest.approx(0.1)


def test_seconds_are_cpu_seconds_where_both_have_them() -> None:
    assert priced([run(cpu=10, wall=50)], [run(cpu=12, wall=90)]).seconds == pytest.approx(0.2)
    assert priced([run(cpu=10, wall=50)], [run(wall=60)]).seconds == pytest.approx(0.2)


def test_figures_that_nobody_took_are_unknown() -> None:
    assert priced([run()], [run(1, 1, 1, artifact=1)]) == Price(0, 0, None, None, None)
    assert priced([run(1, 1, 1, artifact=1)], []) == Price(0, 0, None, None, None)


def test_a_run_without_the_figure_does_not_lower_the_mean() -> None:
    assert priced([run(100)], [run(110), run(0)]).memory == pytest.approx(0.1)


@pytest.mark.parametrize("status", [Status.CRASH, Status.TIMEOUT, Status.NAN, None])
def test_runs_that_failed_or_still_run_are_ignored(status: Status | None) -> None:
    assert priced([run(100)], [run(110), run(900, status=status)]).memory == pytest.approx(0.1)
    assert priced([run(100)], [run(900, status=status)]).memory is None


def test_hosts_are_not_compared_with_each_other() -> None:
    slow, quick = run(cpu=20, host="slow"), run(cpu=10, host="quick")
    assert priced([slow, slow, quick], [slow, quick, quick]).seconds == 0
    assert priced([slow], [quick]).seconds is None


def test_the_size_of_the_artifact_does_not_depend_on_the_host() -> None:
    assert priced([run(artifact=100)], [run(artifact=150, host="two")]).artifact == 0.5


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Price(14, 90, 0.03, 0.12, None), "costs +14 lines, +3 % memory, +12 % seconds"),
        (Price(-8, -30, None, None, None), "saves 8 lines"),
        (Price(0, 0, 0.019, -0.019, 0.0), "costs nothing"),
        (Price(0, 0, None, None, None), "costs nothing"),
        (Price(1, 9, 0, -0.124, 0), "costs +1 line; saves 12 % seconds"),
        (Price(0, 0, 14.0, None, 0.5), "costs +1400 % memory, +50 % artifact"),
        (Price(0, 8, None, None, None), "costs +8 tokens"),
        (Price(0, 7, None, None, None), "costs nothing"),
        (Price(-9, 20, None, None, None), "costs +20 tokens; saves 9 lines"),
        (Price(-9, 0, None, None, None), "saves 9 lines"),
    ],
)
def test_a_price_in_words(found: Price, text: str) -> None:
    assert found.text() == text


AMOUNT = st.floats(min_value=0) | st.just(math.nan)
RUNS = st.lists(
    st.builds(run, AMOUNT, AMOUNT, AMOUNT, artifact=st.integers(0, 2**53), host=st.sampled_from("ab")),
    max_size=4,
)


@settings(deadline=None)
@given(RUNS, RUNS)
def test_no_figure_breaks_the_price(master: list[Measurement], candidate: list[Measurement]) -> None:
    found = priced(master, candidate)
    for change in (found.memory, found.seconds, found.artifact):
        assert change is None or -1 <= change < 1e9
    assert found.text().startswith(("costs", "saves"))
