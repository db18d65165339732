"""The staircase of the master, with the noise band that most such pictures leave out."""

from __future__ import annotations

import textwrap
from typing import Any

from autolab.report.figures.axis import Axis, axis_of
from autolab.report.figures.colors import BLACK, COLORS, MARKS, shown_as
from autolab.report.figures.frame import MANY, legend, nothing_yet, plain
from autolab.report.overview.records import Climb, Mark, Overview
from autolab.report.overview.words import counted

ORDER = (
    "worse", "no_difference", "provisional", "simplification", "demoted", "confirmed", "certified", "baseline",
)  # fmt: skip
COMMON = frozenset({"worse", "no_difference"})
WIDE = 80  # characters of the title's line
RIM = 0.985  # how far up the failed ones sit, of the height


def draw_staircase(figure: Any, view: Overview, x: str = "trials") -> None:
    """Draw a campaign's staircase; `x` is one of axis.AXES.

    Every trial with a score is a mark with its 95 % interval and its state now, every other one a cross on the rim (it
    has no score), the master a step with its interval: as it was when it was promoted, and the one in force also as it
    is seen now, at the right. A demotion is a step back. The band is what one run scatters around the baseline.
    """
    from matplotlib.ticker import MaxNLocator

    axes, axis = figure.add_subplot(), axis_of(view, x)
    axes.grid(visible=True)
    placed = [(at, mark) for mark in view.marks if (at := axis.mark(mark)) is not None]
    axes.set_xlabel(axis.label)
    if x == "trials":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    better = "lower" if view.direction == "minimize" else "higher"
    metric = plain(view.metric)
    axes.set_ylabel(f"{metric}{' ' if len(metric) < 13 else chr(10)}({better} is better)")
    axes.set_title(textwrap.fill(_title(view), WIDE))  # matplotlib's own wrapping reads formulas
    if not placed:
        nothing_yet(axes, "no trial has finished yet")
        return
    end = _end(axis, placed, view.climbs)
    if view.climbs:
        _master(axes, view, axis, end)
    few = len(placed) <= MANY
    for word in ORDER:
        _scored(axes, word, placed, few)
    _frame(axes, view, [at for at, _ in placed], end)
    _failed(axes, placed, few)
    legend(figure, axes, 1.0 if few else 1.5)


def _end(axis: Axis, placed: list[tuple[float, Mark]], climbs: tuple[Climb, ...]) -> float:
    """Where the picture ends: a little to the right of everything."""
    every = [at for at, _ in placed] + [axis.climb(climb) for climb in climbs]
    return max(every) + (max(every) - min(every) or 1.0) / max(20, min(len(placed), 60))


def _scored(axes: Any, word: str, placed: list[tuple[float, Mark]], few: bool) -> None:
    """The trials of one outcome, with their intervals; of very many only those that say something."""
    chosen = [
        (at, m.score, m.low, m.high)
        for at, m in placed if m.score is not None and _word(m) == word
    ]  # fmt: skip
    if not chosen:
        return
    whole = few or (word not in COMMON and len(chosen) <= MANY // 4)
    size = (46 if few else 26) if whole else 9
    x, y = [at for at, *_ in chosen], [score for _, score, *_ in chosen]
    axes.scatter(
        x, y, s=size, marker=list(MARKS[word]), color=COLORS[word], alpha=1.0 if whole else 0.6,
        edgecolors="#333333" if whole else "none", linewidths=0.5, zorder=3 if whole else 1.5, rasterized=not whole,
        label=word.replace("_", " "),
    )  # fmt: skip
    if whole:
        lows = [score if low is None else low for _, score, low, _ in chosen]
        highs = [score if high is None else high for _, score, _, high in chosen]
        axes.vlines(x, lows, highs, color=COLORS[word], lw=1.1, alpha=0.8, zorder=2)


def _word(mark: Mark) -> str:
    """What a trial is shown as; the baseline is judged too, and stays the baseline."""
    return "baseline" if mark.ordinal == 0 else shown_as(mark.outcome)


def _failed(axes: Any, placed: list[tuple[float, Mark]], few: bool) -> None:
    failed = [at for at, mark in placed if mark.score is None]
    if failed:
        axes.scatter(
            failed, [RIM] * len(failed), s=34 if few else 8, marker=list(MARKS["failed"]), color=COLORS["failed"],
            alpha=1.0 if few else 0.6, linewidths=0, clip_on=False, transform=axes.get_xaxis_transform(),
            rasterized=not few, label="no score",
        )  # fmt: skip


def _master(axes: Any, view: Overview, axis: Axis, end: float) -> None:
    """The staircase, with its intervals and the noise of one run."""
    made, noise, seen = view.climbs, view.noise, view.headline
    if noise is not None and noise.sd:
        axes.axhspan(
            noise.low, noise.high, color=BLACK, alpha=0.07, lw=0,
            label=f"baseline ± {noise.sds:g} SD of one run",
        )  # fmt: skip
    x = [axis.climb(climb) for climb in made] + [end]
    scores = [climb.score for climb in made]
    axes.step(x, [*scores, scores[-1]], where="post", color=BLACK, lw=1.8, label="master", zorder=2.5)
    for climb, begin, until in zip(made, x, x[1:], strict=False):
        color = COLORS[shown_as(climb.state)]
        axes.fill_between([begin, until], climb.low, climb.high, color=color, alpha=0.2, lw=0, zorder=1)
    back = [place for place, climb in enumerate(made) if climb.kind == "demotion" and place]
    if back:
        axes.vlines(
            [x[place] for place in back], [scores[place - 1] for place in back], [scores[place] for place in back],
            color=COLORS["demoted"], lw=2.4, zorder=2.6, label="taken back",
        )  # fmt: skip
    if seen.score is not None and seen.low is not None and seen.high is not None:
        axes.errorbar(
            [end], [seen.score], yerr=[[seen.score - seen.low], [seen.high - seen.score]], fmt="_", ms=11, lw=2,
            capsize=4, color=BLACK, label=f"master now ({plain(seen.state)})", zorder=4,
        )  # fmt: skip


def _frame(axes: Any, view: Overview, places: list[float], end: float) -> None:
    """Keep the far outliers from flattening the staircase; they lie outside."""
    margin = 0.02 * (end - min(places))
    axes.set_xlim(min(places) - margin, end + margin)
    scores = [mark.score for mark in view.marks if mark.score is not None]
    levels = [climb.score for climb in view.climbs]
    if view.headline.score is not None:
        levels.append(view.headline.score)
    if not scores or not levels:
        return
    low, high = min(scores), max(scores)
    minimize = view.direction == "minimize"
    best = min(levels) if minimize else max(levels)
    span = abs(levels[0] - best) or (high - low) or 1.0
    if minimize:
        axes.set_ylim(min(low, best) - 0.15 * span, min(high + 0.15 * span, levels[0] + 1.5 * span))
    else:
        axes.set_ylim(max(low - 0.15 * span, levels[0] - 1.5 * span), max(high, best) + 0.15 * span)


def _title(view: Overview) -> str:
    seen = view.headline
    metric = plain(view.metric)
    if seen.before is None or seen.score is None:
        return f"{metric}: no master yet"
    interval = "" if seen.low is None or seen.high is None else f" [{seen.low:.4g}, {seen.high:.4g}]"
    moves = counted(seen.promotions, "promotion")
    moves += f", {counted(seen.demotions, 'demotion')}" if seen.demotions else ""
    now = f"{seen.score:.4g}{interval} {plain(seen.state)}"
    return f"{metric} {seen.before:.4g} → {now}, {moves} in {counted(seen.trials, 'trial')}"
