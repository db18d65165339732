"""One trial in words, for `show`."""

from __future__ import annotations

import click

from autolab.cli.fitting import cut, harmless, width
from autolab.cli.told import (
    LABEL,
    control_lines,
    master_lines,
    price_of,
    score_text,
    sealed_lines,
    standing_text,
    wrapped,
)
from autolab.ledger.masters import Step, is_control, master_now, outcome, states, way_back
from autolab.ledger.records import Measurement, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, timestamp


def promotion_of(trial: Trial, chain: list[Step]) -> Step | None:
    """The promotion that made a trial the master, if it ever was."""
    return next((s for s in chain if s.trial.number == trial.number and s.kind != "demotion"), None)


def describe(
    ledger: Ledger, trial: Trial, chain: list[Step], measured: list[Measurement], children: list[str]
) -> list[str]:
    """Everything about a trial, as lines; `measured` without looks at the sealed split."""
    lines = _about(ledger, trial, chain) + _children(children)
    lines += control_lines([m for m in measured if is_control(m)])
    return lines + [line for m in measured if not is_control(m) for line in _measured(m)]


def _about(ledger: Ledger, trial: Trial, chain: list[Step]) -> list[str]:
    known = states(chain)
    parent = ledger.trial_id(trial.parent_trial) if trial.parent_trial else "-"
    word = outcome(trial, known)
    outcomes = dict.fromkeys(str(part) for part in (trial.status or trial.state, trial.verdict, word) if part)
    lines = [
        *wrapped("trial", f"{trial.id} ({trial.campaign}, {timestamp(trial.created_at)})"),
        *wrapped("outcome", " ".join(outcomes)),
        *wrapped(
            "score",
            score_text(trial.score, trial.score_low, trial.score_high)
            + (f", delta {trial.delta:+.4g}" if trial.delta is not None else "")
            + (" when it was judged" if trial.number in known else ""),
        ),
    ]
    step = promotion_of(trial, chain)
    if step is not None:
        lines += _since(ledger, step, chain)
    elif trial.verdict is Verdict.PROVISIONAL:
        lines += wrapped("next", f"better so far, not shown: `autolab confirm {trial.id}` measures on")
    by = " ".join(cell(part) for part in (trial.role, trial.agent) if part)
    lines += wrapped("by", by + (f" on {cell(trial.surface)}" if trial.surface else ""))
    lines += wrapped("program", f"{trial.program or '-'}, parent {parent}")
    lines += wrapped("hypothesis", cell(trial.hypothesis))
    return lines + (wrapped("note", cell(trial.note)) if trial.note else [])


def _since(ledger: Ledger, step: Step, chain: list[Step]) -> list[str]:
    """What became of a promoted trial: how it stands as the master, why it was demoted, its price, the sealed split."""
    lines = []
    if chain[-1].trial.number == step.trial.number:
        seen = master_now(ledger, step.promotion.campaign, chain)
        lines += wrapped("now", f"{standing_text(seen)}, the master") + master_lines(ledger, seen, chain)
    for back in chain:
        if back.kind == "demotion" and back.before is not None and back.before.trial == step.trial.number:
            lines += wrapped("demoted", way_back(ledger, back))
    cost = price_of(ledger, step)
    lines += wrapped("price", cost.text()) if cost else []
    return lines + sealed_lines(ledger, step)


def _children(children: list[str]) -> list[str]:
    if not children:
        return []
    return wrapped(
        "children", f"{len(children)}: {' '.join(children[:6])}{' …' if len(children) > 6 else ''}"
    )


def _measured(m: Measurement) -> list[str]:
    """One measurement in a line, and below it what is odd about it."""
    score = "" if m.score is None else f" {m.score:.6g}"
    lines = wrapped(
        "measured",
        f"{m.stage}: {m.status or 'running'}{score}, seed {m.seed}, {m.train_cpu_seconds:.1f} CPU-s of"
        f" {m.train_seconds:.1f} s, {m.tokens} tokens, {m.peak_memory_mb:.0f} MB",
    )
    others = {k: v for k, v in m.metrics.items() if v != m.score}
    lines += wrapped("", ", ".join(f"{cell(k)} {v:.5g}" for k, v in others.items())) if others else []
    lines += wrapped("", cell(m.cause)) if m.cause else []
    if m.evidence == "self_reported":
        lines.append(click.style("            self-reported by the recipe", fg="red"))
    if m.sandbox == "none":
        lines.append(click.style("            without a sandbox", fg="red"))
    if m.status != "ok" and m.log_excerpt:
        bar = " " * LABEL + "| "
        lines += [bar + _log_line(line, width() - len(bar)) for line in m.log_excerpt.splitlines()[-12:]]
    return lines


def _log_line(line: str, room: int) -> str:
    """A line of a program's output: colours are left out, other codes are named."""
    return cut(harmless(click.unstyle(line)), room)
