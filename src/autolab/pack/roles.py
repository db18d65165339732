"""The roles, read from agents/*.md: who they are, what they are told, and which commands they may run.

The `permission` map of an agent file is the one source of what a role may do. OpenCode enforces it, and
`allows_command` enforces its command patterns again wherever OpenCode is not there to do it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.pack import PACK, front_matter

MODES = ("primary", "subagent", "all")
_SPECIAL = frozenset("$`;&|<>()\n\r\0")  # outside of quotes they make a command more than words


@dataclass(frozen=True)
class Role:
    """One agent file. `permission` is OpenCode's map of the first generation, its order kept."""

    name: str
    description: str
    mode: str
    prompt: str
    permission: dict[str, Any]
    path: Path


def roles(folder: Path | None = None) -> dict[str, Role]:
    """Every role by its name (`worker`, `specialists/optimizer`) in the pack, or in a `folder` of agent files.

    Raises LabError for a file that cannot be read.
    """
    folder = folder or PACK / "agents"
    return {name: read_role(path, name) for name, path in agent_files(folder).items()}


def agent_files(folder: Path) -> dict[str, Path]:
    """The files that a host takes for agents, by the names that it gives them: every .md at any depth."""
    found = sorted(folder.resolve().rglob("*.md"))
    return {path.relative_to(folder.resolve()).with_suffix("").as_posix(): path for path in found}


def read_role(path: Path, name: str) -> Role:
    """One agent file. Raises LabError if it cannot be read, or lacks what every role has."""
    head, prompt = front_matter.read(path)
    description, mode, permission = (head.get(key) for key in ("description", "mode", "permission"))
    if not isinstance(description, str) or not description.strip():
        raise LabError("has no description", where=str(path), mend="say in one line when to call this agent")
    if mode not in MODES:
        raise LabError(f"mode is {mode!r}", where=str(path), mend=f"one of: {', '.join(MODES)}")
    if not isinstance(permission, dict):
        raise LabError(
            "has no permission map", where=str(path), mend="write `permission:` with a map below it"
        )
    return Role(name, " ".join(description.split()), str(mode), prompt, permission, path)


def allows_command(role: Role | str, command: str) -> bool:
    """Whether a role may run one plain command, such as `scripts/trial.py check`.

    Patterns mean what they mean to OpenCode: of those that match the whole command, the last one decides, and none
    at all is a no. Whatever a shell would not take for one command with literal words is a no too: operators,
    redirections, substitutions, open quotes; and so is an unknown role.
    """
    if isinstance(role, str):
        known = _known(role)
        if known is None:
            return False
        role = known
    rules = role.permission.get("bash")
    if not isinstance(rules, dict) or not _is_plain(command):
        return False
    verdict = "deny"
    for pattern, action in rules.items():
        if not isinstance(pattern, str):
            return False
        if matches(pattern, command.strip(" \t")):
            verdict = action
    return verdict == "allow"


def matches(pattern: str, text: str) -> bool:
    """OpenCode's wildcards: `*` is any text, `?` any one character, and ` *` at the end may be missing with its
    blank. Backslashes are slashes on both sides."""
    body = re.escape(pattern.replace("\\", "/")).replace(r"\*", ".*").replace(r"\?", ".")
    if body.endswith(r"\ .*"):
        body = body[: -len(r"\ .*")] + "( .*)?"
    return re.fullmatch(body, text.replace("\\", "/"), re.DOTALL) is not None


def _is_plain(command: str) -> bool:
    """One command with literal words, nothing that a shell would act on outside of single quotes."""
    quote = ""
    characters = iter(command.strip(" \t"))
    for char in characters:
        if char == "\0":
            return False
        if quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            if next(characters, "\n") == "\n":
                return False
        elif quote:
            if char in "$`":
                return False
            quote = "" if char == '"' else quote
        elif char in "'\"":
            quote = char
        elif char in _SPECIAL:
            return False
    return not quote and bool(command.strip())


@cache
def _known(name: str) -> Role | None:
    path = agent_files(PACK / "agents").get(name)
    try:
        return read_role(path, name) if path else None
    except LabError:
        return None  # nobody may do anything in the name of a role that cannot be read
