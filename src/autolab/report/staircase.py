"""The staircase of the master, with the noise band that most such pictures leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autolab.judge.promotion import SIGMAS
from autolab.ledger.records import Trial
from autolab.ledger.store import Ledger

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLORS = {"worse": "#999999", "no_difference": "#56B4E9", "confirmed": "#009E73", "failed": "#D55E00"}


def draw_staircase(ledger: Ledger, campaign: str, paths: list[Path]) -> None:
    """Draw one campaign into each path; the suffix (.png, .svg) says how.

    Every `ok` trial is a mark with its 95 % interval, every failed one a cross on the rim (it has no
    score), the master a step with its interval, and the band is what two standard deviations of one
    measurement of the baseline look like.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = ledger.campaign(campaign)
    metric = settings.config["task"]["metric"]
    trials = list(ledger.trials(campaign))
    promotions = ledger.promotions(campaign)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    place = {trial.number: x for x, trial in enumerate(trials)}
    if promotions:
        _master(axes, promotions, place, len(trials), settings.noise_sd or 0.0)
    for kind in ("worse", "no_difference", "confirmed"):
        chosen = [(t, t.score) for t in trials if t.verdict == kind and t.score is not None]
        if chosen:
            x, y = [place[t.number] for t, _ in chosen], [score for _, score in chosen]
            below = [score - (score if t.score_low is None else t.score_low) for t, score in chosen]
            above = [(score if t.score_high is None else t.score_high) - score for t, score in chosen]
            axes.errorbar(
                x,
                y,
                yerr=[below, above],
                fmt="o",
                ms=5,
                lw=1,
                color=COLORS[kind],
                label=kind.replace("_", " "),
            )
    _frame(axes, trials, promotions, metric)
    failed = [place[t.number] for t in trials if t.score is None]
    if failed:
        axes.plot(
            failed,
            [0.985] * len(failed),
            "x",
            ms=6,
            color=COLORS["failed"],
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            label="no score (failed, duplicate)",
        )
    axes.set_xlabel("trial, in the order in which they finished")
    axes.set_ylabel(
        f"{metric['name']} ({'lower' if metric['direction'] == 'minimize' else 'higher'} is better)"
    )
    axes.set_title(_headline(trials, promotions, metric["name"]), loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def _master(axes: Any, promotions: list[Any], place: dict[int, int], count: int, sd: float) -> None:
    first = promotions[0]
    axes.axhspan(
        first.score - SIGMAS * sd,
        first.score + SIGMAS * sd,
        color="#000000",
        alpha=0.06,
        lw=0,
        label=f"baseline ± {SIGMAS:g} SD of one run",
    )
    x = [place[p.trial] for p in promotions] + [count - 0.5]
    axes.step(
        x,
        [p.score for p in promotions] + [promotions[-1].score],
        where="post",
        color="#000000",
        lw=1.6,
        label="master",
    )
    for step, begin, end in zip(promotions, x, x[1:], strict=False):
        axes.fill_between(
            [begin, end], step.score_low, step.score_high, color=COLORS["confirmed"], alpha=0.15, lw=0
        )


def _frame(axes: Any, trials: list[Trial], promotions: list[Any], metric: dict[str, Any]) -> None:
    """Keep the far outliers from flattening the staircase; they sit on the rim."""
    scores = sorted(t.score for t in trials if t.score is not None)
    if not scores or not promotions:
        return
    best, start = promotions[-1].score, promotions[0].score
    span = abs(start - best) or (scores[-1] - scores[0]) or 1.0
    if metric["direction"] == "minimize":
        axes.set_ylim(min(scores[0], best) - 0.3 * span, min(scores[-1] + 0.3 * span, start + 1.5 * span))
    else:
        axes.set_ylim(max(scores[0] - 0.3 * span, start - 1.5 * span), max(scores[-1], best) + 0.3 * span)


def _headline(trials: list[Trial], promotions: list[Any], metric: str) -> str:
    if not promotions:
        return f"{metric}: no master yet"
    first, last, count = promotions[0], promotions[-1], len(promotions) - 1
    noun = "promotion" if count == 1 else "promotions"
    return f"{metric} {first.score:.4g} → {last.score:.4g}, {count} {noun} in {len(trials)} trials"
