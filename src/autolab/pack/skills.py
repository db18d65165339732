"""The skills, read from skills/*/SKILL.md (agentskills.io)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError
from autolab.pack import PACK, front_matter

CHARACTERS_A_TOKEN = (
    3.5  # of English; tokenizers of today's open models take 4 to 4.5, so this counts too many
)


@dataclass(frozen=True)
class Skill:
    """One skill: its id, the sentence by which a model chooses it, and its file."""

    name: str
    description: str
    path: Path


def skills(folder: Path | None = None) -> dict[str, Skill]:
    """Every skill of the pack by its id, or of a `folder` of skills. Raises LabError for one that cannot be read."""
    found = sorted((folder or PACK / "skills").resolve().glob("*/SKILL.md"))
    return {path.parent.name: read_skill(path) for path in found}


def read_skill(path: Path) -> Skill:
    """One SKILL.md. Raises LabError if it cannot be read, or lacks a name or a description."""
    head, _ = front_matter.read(path)
    name, description = head.get("name"), head.get("description")
    if not isinstance(name, str) or not isinstance(description, str):
        raise LabError("has no name or no description", where=str(path), mend="both are text")
    return Skill(name, " ".join(description.split()), path)


def listing_tokens(found: dict[str, Skill]) -> int:
    """About how many tokens the skills take in every context that lists them; an upper estimate."""
    return round(
        sum(len(skill.name) + len(skill.description) for skill in found.values()) / CHARACTERS_A_TOKEN
    )
