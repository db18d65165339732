"""Whether the pack's files are what both generations of OpenCode read, and say nothing that is not there.

OpenCode takes most mistakes in these files without a word: an agent that it cannot parse is gone, a permission in the
other generation's shape means no limits at all. `python -m autolab.pack.lint [ROOT]` prints one line for each problem
and exits with 1 if there is one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.pack import front_matter
from autolab.pack.roles import MODES, agent_files
from autolab.pack.skills import Skill, listing_tokens, read_skill
from autolab.pack.templates import templates

AGENT_KEYS = {"description", "mode", "permission", "color", "hidden"}
SKILL_KEYS = {"name", "description", "license", "compatibility", "metadata"}
ACTIONS = {"allow", "deny"}
PERMISSIONS = {
    "*", "read", "edit", "glob", "grep", "list", "bash", "task", "external_directory", "todowrite", "question",
    "webfetch", "websearch", "lsp", "doom_loop", "skill",
    "invalid",  # what OpenCode answers a call with that it cannot read; refused, the model never learns why
}  # fmt: skip
REFUSED = ("external_directory", "webfetch", "websearch", "question")
LONGEST_AGENT, SHORTEST_SKILL, LONGEST_SKILL = 300, 20, 600  # characters of a description
LONGEST_ID, LONGEST_BODY, LISTING_TOKENS = 64, 80, 2000
LINKS = {
    ".opencode/agents": "agents",
    ".opencode/skills": "skills",
    ".opencode/plugins/autolab.js": "plugin/autolab.js",
}

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# The two generations call these differently, and other hosts do again: prose says what to do, not with which tool.
_HOST_WORDS = re.compile(
    r"\b(?:todowrite|todoread|webfetch|websearch|multiedit|apply_patch|subagent_type)\b"
    r"|\b(?:bash|shell|task|edit|write|read|skill|grep|glob|subagent)\W{0,2} tool\b"
    r"|`(?:bash|task|todo|subagent)`"
)
_SCRIPT = re.compile(r"(?<![\w./-])scripts/(\w+)\.py(?: ([a-z]+))?")
_COMMAND = re.compile(r"scripts/\w+\.py( [a-z]+)?\*?")
_VERB = re.compile(r"""\bverb\(\s*["'](\w+)["']""")
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def lint(root: Path) -> list[str]:
    """Every problem of the pack at `root` (the repository), one line each: `file: what (mend)`."""
    scripts = _scripts(root)
    found = [*_agents(root, scripts), *_skills(root, scripts), *_prompts(root, scripts)]
    return [*found, *_project(root), *_links(root)]


def _problem(where: str, what: str, mend: str) -> str:
    return str(LabError(what, where=where, mend=mend))


def _scripts(root: Path) -> dict[str, set[str]]:
    """The verbs of each script; none if it has no verbs."""
    return {
        path.stem: set(_VERB.findall(path.read_text(encoding="utf-8")))
        for path in sorted((root / "scripts").glob("*.py"))
    }


# agents ------------------------------------------------------------------------------------------------


def _agents(root: Path, scripts: dict[str, set[str]]) -> Iterator[str]:
    files = agent_files(root / "agents")
    if not files:
        yield _problem("agents", "there is no agent", "add agents/*.md")
    for name, path in files.items():
        where = f"agents/{name}.md"
        if not all(_ID.fullmatch(part) for part in name.split("/")):
            yield _problem(where, "every .md here is an agent, and this is no agent's name", "move it away")
            continue
        try:
            head, body = front_matter.read(path)
        except LabError as problem:
            yield _problem(where, problem.what, problem.mend)
            continue
        yield from _agent_head(where, head)
        yield from _permission(where, head.get("permission"), scripts, primary=head.get("mode") == "primary")
        if not body:
            yield _problem(where, "tells the agent nothing", "write its prompt below the front matter")
        yield from _prose(where, body, scripts)


def _agent_head(where: str, head: dict[str, Any]) -> Iterator[str]:
    description = head.get("description")
    if not isinstance(description, str) or not description.strip():
        yield _problem(where, "has no description", "say in one line when to call this agent")
    elif len(description) > LONGEST_AGENT:
        yield _problem(where, f"description has {len(description)} characters", f"{LONGEST_AGENT} at most")
    if head.get("mode") not in MODES:
        yield _problem(where, f"mode is {head.get('mode')!r}", f"write one of: {', '.join(MODES)}")
    if "permissions" in head:
        yield _problem(where, "`permissions` means nothing to OpenCode 1: no limits", "`permission:`, a map")
    if "model" in head:
        yield _problem(where, "pins a model", "leave it to the person's configuration")
    for key in sorted(head.keys() - AGENT_KEYS - {"permissions", "model"}):
        yield _problem(where, f"unknown key `{key}`", f"known: {', '.join(sorted(AGENT_KEYS))}")


def _permission(where: str, rules: object, scripts: dict[str, set[str]], *, primary: bool) -> Iterator[str]:
    if not isinstance(rules, dict):
        kind = "is an array, the shape of OpenCode 2" if isinstance(rules, list) else "is missing or no map"
        yield _problem(where, f"`permission` {kind}", "write OpenCode 1's map, both read it")
        return
    yield from _actions(where, rules)
    if "*" in rules and _first(rules) != ("*", "deny"):
        yield _problem(
            where, "`*` allows everything, or overrules what stands above it", '`"*": deny`, first'
        )
    for key in ("edit", "bash", "task"):
        if key not in rules:
            yield _problem(where, f"`permission` says nothing of `{key}`", f"write `{key}: deny` or a map")
        elif rules[key] == "allow" or (isinstance(rules[key], dict) and _first(rules[key]) != ("*", "deny")):
            yield _problem(
                where, f"`{key}` does not begin with a refusal", '`"*": deny` first, then what is allowed'
            )
    for key in REFUSED:
        if rules.get(key) != "deny":
            yield _problem(where, f"`{key}` is not refused", f"write `{key}: deny`")
    if _allowed(rules.get("task")) and not primary:
        yield _problem(where, "a subagent may delegate", "`task: deny`; only the coordinator delegates")
    for pattern in _allowed(rules.get("bash")):
        if not _COMMAND.fullmatch(pattern):
            yield _problem(
                where, f"the command {pattern!r} is no script of the pack", "scripts/NAME.py VERB*"
            )
        yield from _commands(where, pattern, scripts)


def _actions(where: str, rules: dict[str, Any]) -> Iterator[str]:
    """Problems of names and of actions: a map of `allow` and `deny`, by pattern where one is needed."""
    for key, value in rules.items():
        if key not in PERMISSIONS:
            yield _problem(where, f"unknown permission `{key}`", f"known: {', '.join(sorted(PERMISSIONS))}")
        for action in value.values() if isinstance(value, dict) else [value]:
            if action == "ask":
                yield _problem(where, f"`{key}` is at `ask`, and at night nobody answers", "allow or deny")
            elif action not in ACTIONS:
                yield _problem(where, f"`{key}` is {action!r}", "allow or deny")


def _first(rules: dict[str, str]) -> tuple[str, str] | None:
    return next(iter(rules.items()), None)


def _allowed(rules: object) -> list[str]:
    if isinstance(rules, dict):
        return [str(pattern) for pattern, action in rules.items() if action == "allow"]
    return ["*"] if rules == "allow" else []


# skills ------------------------------------------------------------------------------------------------


def _skills(root: Path, scripts: dict[str, set[str]]) -> Iterator[str]:
    found: dict[str, Skill] = {}
    for folder in sorted(path for path in (root / "skills").glob("*") if path.is_dir()):
        path = folder / "SKILL.md"
        where = f"skills/{folder.name}/SKILL.md"
        try:
            head, body = front_matter.read(path)
            found[folder.name] = skill = read_skill(path)
        except LabError as problem:
            yield _problem(where, problem.what, problem.mend)
            continue
        yield from _skill_head(where, folder.name, head, skill)
        if len(body.splitlines()) > LONGEST_BODY:
            yield _problem(where, f"has more than {LONGEST_BODY} lines", "move reference material beside it")
        for text in sorted(folder.rglob("*.md")):
            name = f"skills/{text.relative_to(root / 'skills').as_posix()}"
            words = body if text == path else text.read_text(encoding="utf-8")
            yield from _prose(name, words, scripts)
            for link in _LINK.findall(words):
                if "://" not in link and not (text.parent / link).exists():
                    yield _problem(
                        name, f"links to {link}, which is not there", "write it, or take the link out"
                    )
    for stray in sorted((root / "skills").glob("*.md")):
        yield _problem(f"skills/{stray.name}", "OpenCode 2 takes it for a skill", "move it away")
    if listing_tokens(found) >= LISTING_TOKENS:
        yield _problem("skills", f"descriptions take about {listing_tokens(found)} tokens",
                       f"fewer than {LISTING_TOKENS} in all")  # fmt: skip


def _skill_head(where: str, folder: str, head: dict[str, Any], skill: Skill) -> Iterator[str]:
    if skill.name != folder:
        yield _problem(where, f"is called {skill.name!r} in a folder {folder!r}", "make them equal")
    if not _ID.fullmatch(skill.name) or len(skill.name) > LONGEST_ID:
        yield _problem(where, f"{skill.name!r} is no id", f"a-b-c, {LONGEST_ID} characters at most")
    if not SHORTEST_SKILL <= len(skill.description) <= LONGEST_SKILL:
        yield _problem(where, f"description has {len(skill.description)} characters",
                       f"{SHORTEST_SKILL} to {LONGEST_SKILL}")  # fmt: skip
    if "use when" not in skill.description.lower():
        yield _problem(where, "description does not say when to load it", 'write "Use when …"')
    for key in sorted(head.keys() - SKILL_KEYS):
        yield _problem(where, f"unknown key `{key}`", f"known: {', '.join(sorted(SKILL_KEYS))}")


def _prompts(root: Path, scripts: dict[str, set[str]]) -> Iterator[str]:
    """The templates: jinja2 can read them, and their commands exist."""
    from jinja2 import Environment, TemplateSyntaxError

    for path in templates(root / "skills").values():
        where = path.relative_to(root.resolve()).as_posix()
        text = path.read_text(encoding="utf-8")
        try:
            Environment(autoescape=False).parse(text)
        except TemplateSyntaxError as problem:
            yield _problem(where, f"line {problem.lineno}: {problem.message}", "see jinja2's syntax")
        yield from _prose(where, text, scripts)


# what all texts have in common -------------------------------------------------------------------------


def _prose(where: str, text: str, scripts: dict[str, set[str]]) -> Iterator[str]:
    for words in sorted({found[0] for found in _HOST_WORDS.finditer(text)}):
        yield _problem(
            where, f"names a host's tool: {words!r}", "say what to do: run a command, delegate to …"
        )
    yield from _commands(where, text, scripts)


def _commands(where: str, text: str, scripts: dict[str, set[str]]) -> Iterator[str]:
    """Commands in a text that are none of the scripts, or none of a script's verbs."""
    for name, verb in sorted(set(_SCRIPT.findall(text))):
        if name not in scripts:
            yield _problem(
                where, f"scripts/{name}.py is not there", f"one of: {', '.join(scripts) or 'none'}"
            )
        elif verb and scripts[name] and verb not in scripts[name]:
            yield _problem(
                where, f"scripts/{name}.py has no `{verb}`", f"one of: {', '.join(sorted(scripts[name]))}"
            )


# the project's own files -------------------------------------------------------------------------------


def _project(root: Path) -> Iterator[str]:
    path = root / "opencode.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        yield _problem("opencode.json", f"cannot be read: {problem}", "restore it")
        return
    if "permissions" in config:
        yield _problem("opencode.json", "OpenCode 1 does not start with `permissions`", "`permission`, a map")
    for key in sorted({"model", "small_model", "provider"} & config.keys()):
        yield _problem("opencode.json", f"pins `{key}`", "leave it to the person's configuration")
    rules = config.get("permission", {})
    yield from _actions("opencode.json", rules if isinstance(rules, dict) else {"*": rules})


def _links(root: Path) -> Iterator[str]:
    for link, target in LINKS.items():
        path = root / link
        if not path.is_symlink() or path.resolve() != (root / target).resolve() or not path.exists():
            depth = "../" * link.count("/")
            yield _problem(link, f"is no link to {target}", f"ln -s {depth}{target} {link}")


def main() -> None:
    """Lint the repository in the first argument, or in the current directory."""
    problems = lint(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(problems) or "the pack's files are sound")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
