"""What earlier trials teach, as a bounded text for one prompt.

What agents wrote (hypotheses, causes, ideas) is quoted as one line each, capped, without control characters:
it is evidence for the next agent, never an instruction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from autolab.ledger.agents import ideas
from autolab.ledger.masters import DEMOTED, Master, Step, master_now, outcome, states, steps, way_back
from autolab.ledger.records import IdeaState, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell

LOOK_BACK = 400  # finished trials that a slice is chosen from
SILENT = (Status.INFRA_ERROR,)  # says nothing about the program
FAILED = frozenset(Status) - {Status.OK, Status.DUPLICATE, Status.INFRA_ERROR, Status.PROPOSAL_FAILED}


def lineage_slice(ledger: Ledger, campaign: str, *, surface: str = "", limit: int = 6000) -> str:
    """Markdown of at most `limit` bytes: the master and its chain, what people said, what looked promising, what failed
    and why, what made no difference, what is under way, and open ideas. The same ledger gives the same bytes.

    Lines on `surface` come first within each part; parts share the room, so that none crowds out the others.
    """
    recent = list(ledger.trials(campaign, last=LOOK_BACK))[::-1]
    own = [t for t in recent if surface and t.surface == surface]
    ordered = own + [t for t in recent if t not in own] if own else recent
    open_ideas = [
        i for i in ideas(ledger, campaign, IdeaState.OPEN) if not surface or i.surface in ("", surface)
    ]
    chain = steps(ledger, campaign)
    known = states(chain)
    promising = [t for t in ordered if t.verdict is Verdict.PROVISIONAL and t.number not in known]
    not_better = [
        t for t in ordered if outcome(t, known) in (Verdict.WORSE, Verdict.NO_DIFFERENCE, DEMOTED)
    ]  # fmt: skip
    parts: list[tuple[str, list[str]]] = [
        ("Said by the person who runs this lab",
         [f"- {cell(text)[:300]}" for _, text in reversed(ledger.guidance(campaign))]),
        ("The master and how it came to be", _chain(ledger, campaign, chain)),
        ("Failed, with the cause", [_line(t) for t in ordered if t.status in FAILED]),
        ("Promising, not shown to be better", [_line(t) for t in promising]),
        ("Measured, not better", [_line(t, known) for t in not_better]),
        ("Under way: do not repeat", [_line(t) for t in ledger.undone(campaign) if t.proposal is not None]),
        ("Open ideas", [f"- idea {i.number} [{i.surface or 'any'}] {cell(i.change)[:160]}"
                        + (f" (from {cell(i.source)[:40]})" if i.source else "") for i in open_ideas]),
    ]  # fmt: skip
    return fit([part for part in parts if part[1]], limit)


def _chain(ledger: Ledger, campaign: str, chain: Sequence[Step]) -> list[str]:
    """The master as it is seen now, and before it the changes of the master, newest first."""
    if not chain:
        return []
    seen = master_now(ledger, campaign, chain)
    lines = [_master(seen)]
    for step in reversed(chain):
        made = step.promotion
        if step.kind == "demotion":
            lines.append(f"- {cell(way_back(ledger, step))[:200]}")
        elif step.trial.number != seen.trial.number:
            gain = f", gain {made.gain:+.4g} then" if step.trial.ordinal else ""
            score = f"{made.score:.5g} [{made.score_low:.4g}, {made.score_high:.4g}]"
            lines.append(f"- {step.trial.id} {score} {step.state}{gain}: {_what(step.trial)}")
    return lines


def _master(seen: Master) -> str:
    said = f"- {seen.trial.id} {seen.score:.5g} [{seen.low:.4g}, {seen.high:.4g}] {seen.state}"
    if seen.gain is not None and seen.over is not None:
        gain = f"{seen.gain:+.4g}"
        if seen.gain_low is not None and seen.gain_high is not None:
            gain += f" [{seen.gain_low:.4g}, {seen.gain_high:.4g}]"
        said += f", gain {gain} over {seen.over.id}"
    runs = "" if seen.runs is None else f", from {seen.runs} run{'' if seen.runs == 1 else 's'}"
    return f"{said}{runs}: {_what(seen.trial)}"


def _what(trial: Trial) -> str:
    return "the recipe as it was" if trial.ordinal == 0 else cell(trial.hypothesis)[:160]


def _line(trial: Trial, known: Mapping[int, str] | None = None) -> str:
    told = outcome(trial, known or {})
    delta = "" if trial.delta is None or told == DEMOTED else f" {trial.delta:+.3g}"
    cause = f"; {cell(trial.note)[:120]}" if trial.status in FAILED and trial.note else ""
    surface = f" [{cell(trial.surface)[:30]}]" if trial.surface else ""
    return f"- {trial.id} {told}{delta}{surface} {cell(trial.hypothesis)[:140]}{cause}"


def fit(parts: list[tuple[str, list[str]]], limit: int) -> str:
    """Markdown of at most `limit` bytes: as many lines of every part (title, lines) as fit, taken in turn, each part's
    first lines first."""
    chosen: list[list[str]] = [[] for _ in parts]
    room = limit - sum(len(f"## {title}\n\n".encode()) + len("- 000 more\n") for title, _ in parts)
    waiting = {place: iter(lines) for place, (_, lines) in enumerate(parts)}
    while waiting:
        for place in list(waiting):
            line = next(waiting[place], None)
            size = 0 if line is None else len(line.encode()) + 1
            if line is None or size > room:
                del waiting[place]
                continue
            chosen[place].append(line)
            room -= size
    texts = []
    for (title, every), some in zip(parts, chosen, strict=True):
        more = [f"- {len(every) - len(some)} more"] if len(every) > len(some) else []
        texts.append("\n".join([f"## {title}", *some, *more]))
    text = "\n\n".join(texts)
    return text.encode()[:limit].decode(errors="ignore")


def ancestors(ledger: Ledger, trial: Trial) -> list[Trial]:
    """The chain of parents that leads to a trial, the baseline first and the trial itself last."""
    chain = [trial]
    while (parent := chain[-1].parent_trial) is not None:
        chain.append(ledger.trial(parent))
    return chain[::-1]


def alike(ledger: Ledger, campaign: str, text: str, count: int = 8) -> list[tuple[float, Trial]]:
    """Trials whose hypothesis shares the most words with `text`, the likest first: (0 to 1, trial)."""
    wanted = _words(text)
    scored = [(_overlap(wanted, _words(t.hypothesis)), t) for t in _hypotheses(ledger, campaign)]
    found = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: (-pair[0], -pair[1].number))
    return found[:count]


def _hypotheses(ledger: Ledger, campaign: str) -> Iterator[Trial]:
    yield from (t for t in ledger.undone(campaign) if t.proposal is not None)
    yield from (
        t for t in ledger.trials(campaign, last=5 * LOOK_BACK) if t.status not in SILENT and t.ordinal > 0
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[a-z0-9_.]+", text.lower()) if len(word) > 2)


def _overlap(a: Iterable[str], b: Iterable[str]) -> float:
    one, other = set(a), set(b)
    return len(one & other) / len(one | other) if one and other else 0.0
