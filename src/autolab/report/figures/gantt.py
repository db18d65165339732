"""Slots over time: what each did, what waited for one."""

from __future__ import annotations

from typing import Any

from autolab.report.figures.colors import BLACK, SPANS
from autolab.report.figures.frame import MANY, legend, nothing_yet, plain
from autolab.report.overview.records import Overview, Slots
from autolab.report.overview.words import HOUR, counted, duration

NAMED = 16  # lanes whose names have room
LABELS = {"failed": "no score", "running": "not ended yet"}


def draw_slots(figure: Any, view: Overview) -> None:
    """Draw a campaign's slots over time, with the queue above: trials that waited for one. White is idle."""
    slots = view.slots
    if not slots.spans:
        axes = figure.add_subplot()
        axes.set_title("slots: nothing has run yet")
        nothing_yet(axes, "nothing has been measured yet")
        return
    last = max(span.end for span in slots.spans)
    unit, seconds = ("hours", HOUR) if last - view.began > 2 * HOUR else ("minutes", 60.0)
    axes = _lanes(figure, view, seconds)
    axes.set_xlabel(f"{unit} since the campaign began")
    legend(figure, axes)


def _lanes(figure: Any, view: Overview, seconds: float) -> Any:
    """The queue and the lanes, in units of so many seconds; returns the axes of the lanes."""
    slots = view.slots
    if slots.queue:
        above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 4))
        _queue(above, view, seconds)
    else:
        above = axes = figure.add_subplot()
    above.set_title(_title(slots))
    few = len(slots.spans) <= 5 * MANY
    for kind, color in SPANS.items():
        some = [span for span in slots.spans if span.kind == kind]
        if not some:
            continue
        label: str | None = LABELS.get(kind, kind)
        for lane in sorted({span.lane for span in some}):
            bars = [
                ((span.begin - view.began) / seconds, max(0.0, span.end - span.begin) / seconds)
                for span in some if span.lane == lane
            ]  # fmt: skip
            axes.broken_barh(
                bars, (lane - 0.4, 0.8), facecolors=color, edgecolors="white", linewidth=0.3 if few else 0.0,
                hatch="///" if kind == "running" else None, rasterized=not few, label=label,
            )  # fmt: skip
            label = None
    axes.set_ylim(len(slots.lanes) - 0.4, -0.6)
    step = -(-len(slots.lanes) // NAMED)
    shown = range(0, len(slots.lanes), step)
    axes.set_yticks(list(shown), [plain(slots.lanes[lane], 20) for lane in shown])
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.01)
    return axes


def _queue(axes: Any, view: Overview, seconds: float) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(span.end for span in view.slots.spans)
    points = [(at, count) for at, count in view.slots.queue if at <= last]
    x = [(at - view.began) / seconds for at, _ in points] + [(last - view.began) / seconds]
    y = [count for _, count in points]
    y.append(y[-1] if y else 0)
    axes.fill_between(x, y, step="post", color=BLACK, alpha=0.25, lw=0)
    axes.step(x, y, where="post", color=BLACK, lw=0.8)
    axes.set_ylabel("queue")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))


def _title(slots: Slots) -> str:
    title = counted(len(slots.lanes), "slot")
    if slots.utilisation is not None:
        title += f", {100 * slots.utilisation:.0f} % busy"
    if slots.queue_seconds is not None:
        title += f"; a trial waited {duration(slots.queue_seconds)} (median)"
    return title
