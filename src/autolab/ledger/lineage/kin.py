"""Trials that belong to one: its ancestors, and those whose hypotheses look like its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from autolab.ledger.records import Status, Trial
from autolab.ledger.store import Ledger

LOOK_BACK = 2000  # finished trials among which look-alikes are looked for


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
    for trial in ledger.trials(campaign, last=LOOK_BACK):
        if trial.status is not Status.INFRA_ERROR and trial.ordinal > 0:  # a lost machine says nothing
            yield trial


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[\w.]+", text.lower()) if len(word) > 2)


def _overlap(a: Iterable[str], b: Iterable[str]) -> float:
    one, other = set(a), set(b)
    return len(one & other) / len(one | other) if one and other else 0.0
