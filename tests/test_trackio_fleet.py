"""The fleet in Trackio, and what it alerts of: from a campaign's history, whoever looks and whenever."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from overviews import campaign

from autolab.ledger.records import Campaign, Promotion
from autolab.report.overview.records import Overview, Slots, Span
from autolab.report.overview.slots import idle_while_waiting
from autolab.report.trackio.alarms import Alarm, of_campaign
from autolab.report.trackio.fleet import rows
from autolab.report.trackio.trials import Series


def series(view: Overview) -> Series:
    """What the runs of a made-up campaign have in common."""
    promotions = [
        Promotion(n, view.campaign, climb.trial, "p", n - 1 or None, climb.score, climb.low, climb.high, climb.gain, "",
                  climb.at)
        for n, climb in enumerate(view.climbs, start=1)
    ]  # fmt: skip
    return Series("p", view.campaign, view.task, view.key, view.metric, -1.0, promotions, {})


def alarms(view: Overview, **config: object) -> dict[str, list[Alarm]]:
    """What a campaign with these settings alerts of, by the sort of it."""
    made = Campaign(view.campaign, view.task, view.key, config, "finished", "p", None, view.began)
    found: dict[str, list[Alarm]] = {}
    for alarm in of_campaign(view, made):
        found.setdefault(alarm.id.partition(":")[0], []).append(alarm)
    return found


def busy(*spans: tuple[int, float, float], queue: tuple[tuple[float, int], ...]) -> Overview:
    """A campaign with two slots that did this."""
    view = campaign(1, lanes=2)
    done = tuple(
        Span(lane, "training", view.began + begin, view.began + end, 1, "screen")
        for lane, begin, end in spans
    )
    waited = tuple((view.began + at, count) for at, count in queue)
    return replace(view, slots=Slots(("slot 0", "slot 1"), done, waited, None, None))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 5), st.booleans(), st.floats(0, 3000))
def test_the_rest_of_the_rows_is_the_rest(trials: int, climbs: int, alive: bool, later: float) -> None:
    """Whether they are written bit by bit or at once."""
    view = campaign(trials, climbs=climbs)
    view = replace(view, alive=alive, now=view.now + later)
    every = list(rows(view, series(view)))
    numbers = [row.bucket for row in every if row.bucket is not None]
    assert numbers == sorted(set(numbers))
    for number in numbers[:: max(1, len(numbers) // 3)]:
        assert list(rows(view, series(view), number)) == [
            r for r in every if r.bucket is None or r.bucket > number
        ]


def test_when_it_is_looked_at_does_not_matter_once_it_is_over() -> None:
    view = campaign(30)
    assert list(rows(view, series(view))) == list(rows(replace(view, now=view.now + 1e6), series(view)))


def test_the_last_row_counts_everything() -> None:
    view = campaign(40)
    last = list(rows(view, series(view)))[-1].values
    assert last["fleet/done"] == 40
    assert last[f"best/{view.metric}"] == view.climbs[-1].score
    lost = [mark.status for mark in view.marks if mark.status not in ("ok", "duplicate", "")]
    assert sum(count for name, count in last.items() if name.startswith("failures/")) == len(lost)


def test_utilisation_is_the_share_of_the_slots_time() -> None:
    view = busy((0, 0, 10), (1, 5, 10), (0, 10, 20), queue=())
    first, second = list(rows(view, series(view)))[:2]
    assert (first.values["fleet/utilisation"], second.values["fleet/utilisation"]) == (0.75, 0.5)
    assert first.values["fleet/active"] == 1  # at its end, the next measurement has begun


def test_an_idle_slot_while_trials_wait_is_told_once() -> None:
    found = alarms(busy((0, 0, 200), queue=((0, 0), (20, 3), (190, 0))))["idle"]
    assert len(found) == 1 and "170 s" in found[0].text


def test_moments_between_measurements_are_no_idle_slot() -> None:
    """The same rule as for the concern: a slot that takes the next trial after a few seconds was not idle."""
    spans = [(lane, float(at), at + 55.0) for lane in (0, 1) for at in range(0, 600, 60)]
    view = busy(*spans, queue=((0, 3), (590, 0)))
    assert "idle" not in alarms(view) and idle_while_waiting(view.slots) == 0


def test_a_slot_that_is_idle_for_a_moment_or_without_work_is_no_alert() -> None:
    assert "idle" not in alarms(busy((0, 0, 200), queue=((0, 0), (20, 3), (70, 0))))
    assert "idle" not in alarms(busy((0, 0, 200), queue=()))


def test_a_master_that_stands_for_long_is_told_once() -> None:
    assert "stale-master" not in alarms(campaign(40, climbs=0))
    assert "stale-master" not in alarms(replace(campaign(120, climbs=0), climbs=()))  # there is no master yet
    found = alarms(campaign(120, climbs=0))["stale-master"]
    assert len(found) == 1 and "50 trials" in found[0].text


def test_budgets_are_told_when_they_are_nearly_and_when_they_are_used_up() -> None:
    view = campaign(40)
    assert [alarm.level for alarm in alarms(view, serving={"trials": 40})["budget"]] == ["warn", "error"]
    assert [alarm.level for alarm in alarms(view, serving={"trials": 45})["budget"]] == ["warn"]
    spent = max(mark.spent_dollars for mark in view.marks)
    assert [alarm.level for alarm in alarms(view, max_usd=1.1 * spent)["budget"]] == ["warn"]
    assert "budget" not in alarms(view)
