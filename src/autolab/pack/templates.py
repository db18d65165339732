"""The prompts that the program itself writes: skills/*/templates/*.md.j2."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.pack import PACK

if TYPE_CHECKING:
    from jinja2 import Template

ENDING = ".md.j2"


def render(name: str, **values: object) -> str:
    """The prompt `name` (`trial`, `feedback`, `kickoff`) with its variables filled in.

    Raises LabError for an unknown name, and jinja2.UndefinedError if a variable that it needs is missing.
    """
    return _template(name).render(values)


def templates(folder: Path | None = None) -> dict[str, Path]:
    """The files of the pack's prompts, or of those in a `folder` of skills, by their names."""
    found = sorted((folder or PACK / "skills").resolve().glob(f"*/templates/*{ENDING}"))
    return {path.name.removesuffix(ENDING): path for path in found}


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    found = templates()
    if name not in found:
        raise LabError(f"there is no prompt {name!r}", mend=f"one of: {', '.join(found)}")
    # Prompts are no HTML, and values are never rendered again: what an agent wrote stays text.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(found[name].read_text(encoding="utf-8"))
