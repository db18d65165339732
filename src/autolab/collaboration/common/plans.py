"""What planners and workers say of a round, read: goals for surfaces, learnings, concerns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

LONGEST_GOAL = 600  # characters
MOST_GOALS = 16  # of one surface

_GOAL = re.compile(r"^\W*GOAL\s+([\w-]+)\W*?:[\s*_]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_CONCERN = re.compile(r"^\W*CONCERNS?\W*?:[\s*_]*(\S.*)$", re.IGNORECASE | re.MULTILINE)


def read_goals(text: str, surfaces: Mapping[str, str]) -> dict[str, list[str]]:
    """The goals of each surface, from a planner's `GOAL surface: text` lines. A surface that has none there gets its
    own description, so that every worker has something to go by."""
    found: dict[str, list[str]] = {surface: [] for surface in surfaces}
    for surface, goal in _GOAL.findall(text):
        if surface in found and len(found[surface]) < MOST_GOALS:
            found[surface].append(" ".join(goal.split())[:LONGEST_GOAL])
    for surface, description in surfaces.items():
        if not found[surface] and description:
            found[surface].append(" ".join(description.split())[:LONGEST_GOAL])
    return found


def goal_lines(goals: Mapping[str, Sequence[str]]) -> str:
    """Goals as a planner writes them."""
    return "\n".join(f"GOAL {surface}: {goal}" for surface, known in goals.items() for goal in known)


def read_concerns(text: str) -> tuple[str, str]:
    """(learnings, concerns) of a worker's words: its `CONCERN:` lines, and the rest."""
    concerns = "\n".join(concern.strip() for concern in _CONCERN.findall(text))
    return _CONCERN.sub("", text).strip(), concerns
