"""The ideas of a campaign: what each says, where it comes from, and what became of it."""

from __future__ import annotations

from typing import Any

from autolab.hub.untrusted import one_line
from autolab.ledger.records import Idea, IdeaState

TEXT = 200  # characters of one field


def idea_record(idea: Idea, trials: list[str]) -> dict[str, Any]:
    """An idea for a machine; `trials` are the ids of all that were opened for it."""
    return {
        "idea": idea.number,
        "state": idea.state,
        "surface": idea.surface,
        "change": one_line(idea.change, 2 * TEXT),
        "claim": one_line(idea.claim, TEXT),
        "source": one_line(idea.source, TEXT),
        "effect": one_line(idea.effect, TEXT),
        "author": idea.author,
        "trials": trials,
        "note": one_line(idea.note, TEXT),
    }


def idea_line(idea: Idea, trials: list[str]) -> str:
    """An idea in one line, without its claim."""
    state = "" if idea.state is IdeaState.OPEN else f" {idea.state}"
    state += f" by {', '.join(trials)}" if trials and state else ""
    source = f" (from {one_line(idea.source, 60)})" if idea.source else ""
    effect = f"; expects {one_line(idea.effect, 80)}" if idea.effect else ""
    note = f"; {one_line(idea.note, 60)}" if idea.note else ""
    return f"{idea.number:>3} [{idea.surface or 'any'}]{state} {one_line(idea.change, TEXT)}{source}{effect}{note}"


def idea_lines(idea: Idea, trials: list[str]) -> list[str]:
    """A cited idea in a few lines of at most 100 characters, its source first."""
    head = f"{idea.number:>3}  {one_line(idea.source, 40)}  [{idea.surface or 'any'}]  {idea.state}"
    lines = [
        head[:100],
        f"     change  {one_line(idea.change, 86)}",
        f"     claim   {one_line(idea.claim, 86)}",
    ]
    if trials:
        newest = ", ".join(trials[-5:])
        lines.append(f"     trials  {newest if len(trials) < 6 else f'{len(trials)}, newest {newest}'}"[:100])
    return [*lines, f"     note    {one_line(idea.note, 86)}"] if idea.note else lines
