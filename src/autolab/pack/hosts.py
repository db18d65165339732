"""The pack in the shape that each host reads: OpenCode, Claude Code, Codex, Pi and Hermes, from the same files.

Where each format comes from:

- OpenCode: opencode.ai/docs, agents, skills and plugins; what the 1.18 binary does was tried.
- Claude Code: code.claude.com/docs/en/sub-agents (front matter, `Agent(…)`), /en/permissions (rules, `dontAsk`)
  and /en/settings.
- Codex: developers.openai.com/codex/subagents (`.codex/agents/*.toml`), /codex/skills (`.agents/skills`) and
  /codex/rules (`prefix_rule`).
- Pi: docs/skills.md, docs/prompt-templates.md, docs/security.md and examples/extensions/subagent of
  @earendil-works/pi-coding-agent, and docs/agents.md of pi-subagents.
- Hermes: hermes-agent.nousresearch.com/docs/user-guide: profile-distributions, features/delegation,
  features/skills and security.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import yaml

from autolab import __version__
from autolab.errors import LabError
from autolab.pack import front_matter
from autolab.pack.placement import Contents, File, Place, Rules

HOSTS = ("opencode", "claude", "codex", "pi", "hermes")

SECRETS = (".env", ".env.*")
"""What no role reads, besides the lab's own state."""
STATE = (".autolab/ledger.sqlite*", ".autolab/cache/**", ".autolab/runs/**")
"""The parts of the lab's state for hosts that cannot except a folder from a refusal."""
WORKSPACES = ".autolab/workspaces/**"
_ANY_PYTHON = b"#!/usr/bin/env python3\n"


@dataclass(frozen=True)
class Agent:
    """One role: its front matter, read for hosts that know no such permissions, and its prompt."""

    name: str
    meta: dict[str, Any]
    prompt: str
    reads: Callable[[str], str]

    @property
    def flat(self) -> str:
        """The name for hosts whose names are letters, digits and hyphens."""
        return self.name.replace("/", "-")

    @property
    def description(self) -> str:
        """When to call it; one line."""
        return " ".join(str(self.meta.get("description", "")).split())

    @property
    def primary(self) -> bool:
        """Whether people talk to it."""
        return bool(self.meta.get("mode") == "primary")

    @property
    def edits(self) -> bool:
        """Whether it may change any file at all."""
        return bool(self._allowed("edit"))

    @property
    def commands(self) -> list[str]:
        """The patterns of the commands that it may run."""
        return [self.reads(pattern) for pattern in self._allowed("bash") if pattern != "*"]

    @property
    def delegates(self) -> list[str]:
        """Patterns of the agents that it may call."""
        return self._allowed("task")

    def _allowed(self, key: str) -> list[str]:
        rules = (self.meta.get("permission") or {}).get(key, {})
        if isinstance(rules, str):
            return ["*"] if rules == "allow" else []
        return [pattern for pattern, action in rules.items() if action == "allow"]


@dataclass(frozen=True)
class Pack:
    """The files of the pack at `root`, as they read in `place`."""

    root: Path
    place: Place
    linked: bool = False

    @cached_property
    def scripts(self) -> str:
        """The folder of the scripts as commands name it, from a project's root or from anywhere."""
        if self.linked:
            return "scripts"
        folder = self.place.engine_room / "scripts"
        if not self.place.globally:
            return folder.relative_to(self.place.root).as_posix()
        if not re.fullmatch(r"[\w./+@-]+", str(folder)):
            raise LabError(
                "has a blank or a special sign in it, which no permission pattern can name",
                where=str(folder),
                mend="set XDG_CONFIG_HOME to a plain path, or install into the project: leave --global away",
            )
        return folder.as_posix()

    @cached_property
    def _reference(self) -> re.Pattern[str]:
        names = "|".join(sorted(re.escape(path.name) for path in self._files("scripts", "*.py")))
        return re.compile(rf"(?<![\w./~-])(?:\./)?scripts/(?=(?:{names or '$.'})\b|\*)")

    def reads(self, text: str) -> str:
        """`text` with its references to `scripts/` pointing to where the scripts are."""
        return self._reference.sub(f"{self.scripts}/", text)

    def _files(self, folder: str, pattern: str = "*") -> Iterator[Path]:
        """Links are followed at the top only: the pack's folders may be links to those of the repository."""
        top = (self.root / folder).resolve()
        for path in sorted(top.rglob(pattern)):
            hidden = any(
                part.startswith(".") or part == "__pycache__" for part in path.relative_to(top).parts
            )
            if path.is_file() and not hidden and path.suffix != ".pyc":
                yield path

    def tree(self, folder: str, pattern: str = "*", *, rewrite: bool = True) -> dict[str, File]:
        """The files below one of the pack's folders by their relative names, text rewritten for this place."""
        top = (self.root / folder).resolve()
        found = {}
        for path in self._files(folder, pattern):
            data = path.read_bytes()
            if rewrite and path.suffix in (".md", ".j2", ".txt", ".json", ".yaml", ".toml"):
                data = self.reads(data.decode("utf-8")).encode("utf-8")
            found[path.relative_to(top).as_posix()] = File(data, path.stat().st_mode & 0o111 != 0)
        if not found:
            raise LabError(
                f"holds no {folder}",
                where=str(self.root),
                mend="the installation is damaged: install autolab again",
            )
        return found

    @cached_property
    def agents(self) -> list[Agent]:
        """The roles, their prompts and commands rewritten."""
        top = (self.root / "agents").resolve()
        found = []
        for path in self._files("agents", "*.md"):
            meta, prompt = front_matter.read(path)
            name = path.relative_to(top).with_suffix("").as_posix()
            found.append(Agent(name, meta, self.reads(f"{prompt}\n"), self.reads))
        return found

    def prompt(self, agent: Agent) -> str:
        """An agent's prompt with the flat names of its colleagues."""
        nested = sorted((other.name for other in self.agents if "/" in other.name), key=len, reverse=True)
        text = agent.prompt
        for name in nested:
            text = re.sub(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-])", name.replace("/", "-"), text)
        return text

    def called_by(self, agent: Agent) -> list[Agent]:
        """The agents that `agent` may call."""
        return [
            other
            for other in self.agents
            if other is not agent and any(fnmatchcase(other.name, pattern) for pattern in agent.delegates)
        ]

    @cached_property
    def commands(self) -> list[str]:
        """Every command that a role may run which people do not talk to."""
        return sorted({command for agent in self.agents if not agent.primary for command in agent.commands})

    @cached_property
    def coordination(self) -> list[str]:
        """What only the coordinator runs: where rules hold for all agents alike, a person is asked."""
        return sorted({command for agent in self.agents for command in agent.commands} - {*self.commands})

    def skills(self, folder: Path) -> dict[Path, File]:
        """The skills, all hosts read the same format (agentskills.io)."""
        return {folder / name: file for name, file in self.tree("skills").items()}


def render(host: str, pack: Pack) -> Contents:
    """Every file that `host` needs in the pack's place, by its absolute path, the shared scripts included."""
    return {**_RENDERERS[host](pack), **_engine_room(pack)}


def notes(host: str, pack: Pack) -> list[str]:
    """What a user has to know about a host: what to do next, and which permissions it cannot express."""
    text = _template(f"{host}.txt").substitute(
        scripts=pack.scripts,
        profile=pack.place.root / ".hermes" / "autolab",
        primary=next((agent.name for agent in pack.agents if agent.primary), "lab"),
    )
    return [line for line in text.splitlines() if line]


def _engine_room(pack: Pack) -> Contents:
    """The scripts, and the interpreter that has autolab; the lab's own repository has both already."""
    if pack.linked:
        return {}
    room = pack.place.engine_room
    files: dict[Path, File | Rules] = {room / "engine": File(f"{sys.executable}\n".encode())}
    # Most hosts start the scripts themselves, and the first python3 on their path need not know autolab.
    plain = re.fullmatch(r"[\w./+@-]{1,120}", sys.executable)
    start = f"#!{sys.executable}\n".encode() if plain else _ANY_PYTHON
    for name, file in pack.tree("scripts", "*.py").items():
        data = file.data
        if data.startswith(_ANY_PYTHON):
            data = start + data.removeprefix(_ANY_PYTHON)
        files[room / "scripts" / name] = File(data, True)
    return files


def _opencode(pack: Pack) -> Contents:
    base = pack.place.opencode
    agents = {
        base / "agents" / name: _opencode_agent(pack, file.data.decode("utf-8"))
        for name, file in pack.tree("agents", "*.md", rewrite=False).items()
    }
    plugin = {base / "plugins" / name: file for name, file in pack.tree("plugin", "autolab.js").items()}
    return {**agents, **plugin, **pack.skills(base / "skills")}


def _opencode_agent(pack: Pack, text: str) -> File:
    """An agent that may call a script by its place, and as `scripts/…`, which the guard shell understands and what
    scripts say to do next is written in."""
    front, end, prompt = text.partition("\n---\n")

    def both(match: re.Match[str]) -> str:
        indent, rule = match["indent"], match["rule"]
        between = f"\n{indent}" if indent is not None else ", "
        return f"{indent or ''}{pack.reads(rule)}{between}{rule}" if pack.reads(rule) != rule else match[0]

    rule = r"(?P<rule>(?P<quote>[\"'])scripts/[^\"'\n]*(?P=quote)[ \t]*:[ \t]*\w+)"
    front = re.sub(rf"(?:^(?P<indent>[ \t]+))?{rule}", both, front, flags=re.MULTILINE)
    if pack.place.globally:
        # A skill's further files lie outside the project then. OpenCode's own leave to read them comes before an
        # agent's refusal, and the last rule wins.
        leave = f'{{"*": deny, "{pack.place.opencode}/skills/*": allow}}'
        front = re.sub(
            r"^([ \t]+external_directory:)[ \t]*deny[ \t]*$", rf"\1 {leave}", front, flags=re.MULTILINE
        )
    return File((front + end + pack.reads(prompt)).encode())


def _claude(pack: Pack) -> Contents:
    base = pack.place.root / ".claude"
    # A path that starts with / is relative to the project of the settings file; in a user's own settings only
    # a bare one is relative to where Claude Code was started.
    at = "" if pack.place.globally else "/"
    allow = [f"Bash({command})" for command in pack.commands]
    if any(agent.edits for agent in pack.agents):
        allow.append(f"Edit({at}{WORKSPACES})")
    # A refusal beats every permission, so `.autolab` cannot be refused as a whole.
    deny = [f"Read({secret})" for secret in SECRETS]
    deny += [f"{verb}({at}{path})" for path in STATE for verb in ("Read", "Edit")]
    files: dict[Path, File | Rules] = {
        base / "settings.json": Rules(
            {
                ("permissions", "allow"): allow,
                ("permissions", "ask"): [f"Bash({command})" for command in pack.coordination],
                ("permissions", "deny"): deny,
            }
        )
    }
    for agent in pack.agents:
        tools = ["Read", "Grep", "Glob", "Skill"]
        tools += ["Bash"] if agent.commands else []
        tools += ["Edit", "Write"] if agent.edits else []
        called = pack.called_by(agent)
        tools += [f"Agent({', '.join(other.flat for other in called)})"] if called else []
        meta = {
            "name": agent.flat,
            "description": agent.description,
            "tools": ", ".join(tools),
        }
        if not agent.primary:
            meta["permissionMode"] = "dontAsk"  # what no rule allows is refused
        files[base / "agents" / f"{agent.flat}.md"] = _markdown(meta, pack.prompt(agent))
    return {**files, **pack.skills(base / "skills")}


def _codex(pack: Pack) -> Contents:
    base, skills = pack.place.root / ".codex", pack.place.root / ".agents" / "skills"
    files: dict[Path, File | Rules] = {base / "rules" / "autolab.rules": _codex_rules(pack)}
    for agent in pack.agents:
        if agent.primary:
            # The session itself is the coordinator: Codex's own agents do not delegate further.
            files[skills / f"autolab-{agent.flat}" / "SKILL.md"] = _role_skill(pack, agent)
            continue
        mode = "workspace-write" if agent.edits else "read-only"
        prompt = pack.prompt(agent)
        body = f"'''\n{prompt}'''" if "'''" not in prompt else json.dumps(prompt, ensure_ascii=False)
        text = (
            f"name = {json.dumps(agent.flat, ensure_ascii=False)}\n"
            f"description = {json.dumps(agent.description, ensure_ascii=False)}\n"
            "# Some versions give a child the sandbox of the session that started it (openai/codex#45482):\n"
            "# start that session with `--sandbox read-only` or `workspace-write`, never with more.\n"
            f'sandbox_mode = "{mode}"\n'
            f"developer_instructions = {body}\n"
        )
        files[base / "agents" / f"{agent.flat}.toml"] = File(text.encode())
    return {**files, **pack.skills(skills)}


def _codex_rules(pack: Pack) -> File:
    """The scripts run outside Codex's sandbox, for they write the ledger."""
    lines = ["# The commands of Autolab's roles. Rules hold for a whole session, not for one role."]
    for decision, commands in (("allow", pack.commands), ("prompt", pack.coordination)):
        for command in commands:
            words = json.dumps(shlex.split(command.rstrip("* ")))
            lines.append(f'prefix_rule(pattern = {words}, decision = "{decision}")')
    return File(("\n".join(lines) + "\n").encode())


def _pi(pack: Pack) -> Contents:
    # In a home Pi's folder is ~/.pi/agent, in a project it is .pi.
    base = pack.place.root / ".pi" / "agent" if pack.place.globally else pack.place.root / ".pi"
    files: dict[Path, File | Rules] = {}
    for agent in pack.agents:
        if agent.primary:
            meta = {"description": agent.description}
            prompt = pack.prompt(agent) + "\n$ARGUMENTS\n"
            files[base / "prompts" / f"autolab-{agent.flat}.md"] = _markdown(meta, prompt)
            continue
        tools = ["read", "grep", "find", "ls"]
        tools += ["bash"] if agent.commands else []
        tools += ["edit", "write"] if agent.edits else []
        meta = {"name": agent.flat, "description": agent.description, "tools": ", ".join(tools)}
        why = "Pi has no permission file: these tools are all that limits a role"
        files[base / "agents" / f"{agent.flat}.md"] = _markdown(meta, pack.prompt(agent), why)
    return {**files, **pack.skills(base / "skills")}


def _hermes(pack: Pack) -> Contents:
    base = pack.place.root / ".hermes" / "autolab"
    files: dict[Path, File | Rules] = {}
    for agent in pack.agents:
        if agent.primary:
            soul = pack.prompt(agent) + "\n" + _template("hermes_delegation.md").template
            files[base / "SOUL.md"] = File(soul.encode())
        else:
            files[base / "skills" / f"autolab-{agent.flat}" / "SKILL.md"] = _role_skill(pack, agent)
    for name in ("config", "distribution"):
        text = _template(f"hermes_{name}.yaml").substitute(version=__version__)
        files[base / f"{name}.yaml"] = File(text.encode())
    return {**files, **pack.skills(base / "skills")}


_RENDERERS: dict[str, Callable[[Pack], Contents]] = {
    "opencode": _opencode,
    "claude": _claude,
    "codex": _codex,
    "pi": _pi,
    "hermes": _hermes,
}


def _role_skill(pack: Pack, agent: Agent) -> File:
    """A role for hosts without agent files: a skill that the session or its child loads."""
    meta = {"name": f"autolab-{agent.flat}", "description": agent.description}
    return _markdown(meta, pack.prompt(agent))


def _markdown(meta: dict[str, str], body: str, comment: str = "") -> File:
    front = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=10_000)
    note = f"# {comment}\n" if comment else ""
    return File(f"---\n{note}{front}---\n\n{body}".encode())


def _template(name: str) -> Template:
    return Template(
        resources.files("autolab.pack").joinpath(f"host_files/{name}").read_text(encoding="utf-8")
    )
