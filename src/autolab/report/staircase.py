"""The staircase of the master, with the noise band that most such pictures leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autolab.ledger.masters import Master, Step, master_now, outcome, states, steps
from autolab.ledger.records import PROMOTED, Trial
from autolab.ledger.store import Ledger

BAND = 2  # standard deviations
# Okabe and Ito's colours: told apart by colour-blind readers too. A mark of its own each, for prints without colour.
COLORS = {
    "worse": "#999999", "no_difference": "#56B4E9", "provisional": "#E69F00", "confirmed": "#009E73",
    "certified": "#0072B2", "simplification": "#F0E442", "demoted": "#CC79A7", "failed": "#D55E00",
}  # fmt: skip
MARKS = {
    "worse": "o", "no_difference": "o", "provisional": "^", "confirmed": "o", "certified": "D",
    "simplification": "s", "demoted": "v",
}  # fmt: skip


def draw_staircase(ledger: Ledger, campaign: str, paths: list[Path]) -> None:
    """Draw one campaign into each path; the suffix (.png, .svg) says how.

    Every `ok` trial is a mark with its 95 % interval and its state now, every failed one a cross on the rim (it has no
    score), the master a step with its interval: as it was when it was promoted, and the one in force also as it is seen
    now, at the right. A demotion is a step back. The band is two standard deviations of one run around the baseline.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = ledger.campaign(campaign)
    metric = settings.config["task"]["metric"]
    trials = list(ledger.trials(campaign))
    chain = steps(ledger, campaign)
    known = states(chain)
    seen = master_now(ledger, campaign, chain) if chain else None
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    place = {trial.number: x for x, trial in enumerate(trials)}
    if seen is not None:
        _master(axes, chain, seen, trials)
    for kind, mark in MARKS.items():
        chosen = [(t, t.score) for t in trials if outcome(t, known) == kind and t.score is not None]
        if chosen:
            x, y = [place[t.number] for t, _ in chosen], [score for _, score in chosen]
            below = [score - (score if t.score_low is None else t.score_low) for t, score in chosen]
            above = [(score if t.score_high is None else t.score_high) - score for t, score in chosen]
            axes.errorbar(
                x,
                y,
                yerr=[below, above],
                fmt=mark,
                ms=5,
                lw=1,
                color=COLORS[kind],
                mec="#333333",
                mew=0.4,
                label=kind.replace("_", " "),
            )
    _frame(axes, trials, chain, seen, metric)
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
    axes.set_title(_headline(trials, chain, seen, metric["name"]), loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def _master(axes: Any, chain: list[Step], seen: Master, trials: list[Trial]) -> None:
    """The staircase, with its intervals and the noise of one run."""
    made = [step.promotion for step in chain]
    first, sd = made[0], seen.noise_sd or 0.0
    if sd:
        axes.axhspan(
            first.score - BAND * sd,
            first.score + BAND * sd,
            color="#000000",
            alpha=0.06,
            lw=0,
            label=f"baseline ± {BAND:g} SD of one run",
        )
    x = [_place(step, trials) for step in chain] + [len(trials) - 0.5]
    axes.step(
        x,
        [step.score for step in made] + [made[-1].score],
        where="post",
        color="#000000",
        lw=1.6,
        label="master",
    )
    for step, begin, end in zip(chain, x, x[1:], strict=False):
        color = COLORS.get(step.state, COLORS["confirmed"])
        axes.fill_between(
            [begin, end], step.promotion.score_low, step.promotion.score_high, color=color, alpha=0.15, lw=0
        )
        if step.kind == "demotion":
            axes.annotate("demoted", (begin, step.promotion.score), fontsize=7, color=COLORS["demoted"],
                          textcoords="offset points", xytext=(3, 4))  # fmt: skip
    if seen.runs is not None:
        axes.errorbar(
            [len(trials) - 0.5],
            [seen.score],
            yerr=[[seen.score - seen.low], [seen.high - seen.score]],
            fmt="_",
            ms=10,
            lw=2,
            capsize=4,
            color="#000000",
            label=f"master now ({seen.state}, from {seen.runs} runs)",
        )


def _place(step: Step, trials: list[Trial]) -> float:
    """Where a change of the master lies: at its trial; a demotion, or a promotion by hand, after the last trial that
    had ended."""
    ended = [at for at, trial in enumerate(trials) if (trial.finished_at or 0.0) <= step.promotion.at]
    own = [at for at, trial in enumerate(trials) if trial.number == step.trial.number]
    if step.kind == "demotion" or step.trial.verdict not in PROMOTED or not own:
        return ended[-1] if ended else 0
    return own[0]


def _frame(
    axes: Any, trials: list[Trial], chain: list[Step], seen: Master | None, metric: dict[str, Any]
) -> None:
    """Keep the far outliers from flattening the staircase; they sit on the rim."""
    scores = sorted(t.score for t in trials if t.score is not None)
    if not scores or seen is None:
        return
    levels = [step.promotion.score for step in chain] + [seen.score]
    start = levels[0]
    best = min(levels) if metric["direction"] == "minimize" else max(levels)
    span = abs(start - best) or (scores[-1] - scores[0]) or 1.0
    if metric["direction"] == "minimize":
        axes.set_ylim(min(scores[0], best) - 0.3 * span, min(scores[-1] + 0.3 * span, start + 1.5 * span))
    else:
        axes.set_ylim(max(scores[0] - 0.3 * span, start - 1.5 * span), max(scores[-1], best) + 0.3 * span)


def _headline(trials: list[Trial], chain: list[Step], seen: Master | None, metric: str) -> str:
    if seen is None:
        return f"{metric}: no master yet"
    count = sum(step.kind not in ("baseline", "demotion") for step in chain)
    back = len(chain) - 1 - count
    moves = f"{count} promotion{'' if count == 1 else 's'}"
    moves += f", {back} demotion{'' if back == 1 else 's'}" if back else ""
    now = f"{seen.score:.4g} [{seen.low:.4g}, {seen.high:.4g}]"
    return f"{metric} {chain[0].promotion.score:.4g} → {now} {seen.state}, {moves} in {len(trials)} trials"
