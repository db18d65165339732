"""Runs the real OpenCode binary in tests: offline, in a home of its own, against a model server of ours.

    project = open_code.project(tmp_path, server.url)
    session = open_code.run_opencode(project, "say hello", agent="build")
    assert session.texts == ("hello",)

Provider and model are configured in the home, never in the project, whose own opencode.json may be under test.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
MODEL = "local/scripted"
TAG = "AUTOLAB_TEST_RUN"  # in the environment of every process of a run, which is how strays are found


def pinned_version() -> str:
    """The version of OpenCode that the project's own files install."""
    return str(
        json.loads((TOOLS / "package.json").read_text(encoding="utf-8"))["dependencies"]["opencode-ai"]
    )


def find_opencode() -> Path | None:
    """The binary: where AUTOLAB_OPENCODE says, in tools/, or on PATH."""
    named = os.environ.get("AUTOLAB_OPENCODE")
    on_path = shutil.which("opencode")
    candidates = [named] if named else [TOOLS / "node_modules/.bin/opencode", on_path]
    found = [Path(one) for one in candidates if one and os.access(one, os.X_OK)]
    return found[0] if found else None


def find_ripgrep() -> Path | None:
    """The ripgrep that OpenCode searches with: the one installed beside it, or the one on PATH."""
    binary = find_opencode()
    beside = binary.parent.parent.glob("@vscode/ripgrep-*/bin/rg") if binary else ()
    found = [*beside, *(Path(one) for one in [shutil.which("rg")] if one)]
    return found[0] if found else None


needs_opencode = pytest.mark.opencode  # conftest.py skips these, loudly, where there is no binary
MISSING = "THE OPENCODE BINARY IS MISSING, SO NOTHING THAT NEEDS IT WAS TESTED: run `make opencode`"


@dataclass(frozen=True)
class Project:
    """A project for OpenCode, and the home in which it runs."""

    directory: Path
    home: Path
    environment: Mapping[str, str]

    def variables(self, **more: str) -> dict[str, str]:
        """The whole environment of a process in this project; nothing of the caller's but its Python."""
        ripgrep = find_ripgrep()
        path = [Path(sys.executable).parent, *([ripgrep.parent] if ripgrep else [])]
        return {
            "HOME": str(self.home),
            "PATH": os.pathsep.join([*map(str, path), "/usr/local/bin", "/usr/bin", "/bin"]),
            "PWD": str(self.directory),  # OpenCode believes it before the current directory
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "Malloc": "1",  # Bun's own allocator runs out of memory maps and then spins for ever
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_CLAUDE_CODE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **self.environment,
            **more,
        }


@dataclass(frozen=True)
class ToolCall:
    """One tool call and what came of it. `output` is what the model saw, `error` why it failed."""

    tool: str
    input: Mapping[str, Any]
    status: str
    output: str
    error: str
    session: str
    agent: str  # "" where the record does not say


@dataclass(frozen=True)
class Session:
    """What `opencode run` did. Only the first agent's events are here; subagents' are in `recorded_calls`."""

    id: str
    texts: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    errors: tuple[str, ...]
    tokens_in: int
    tokens_out: int
    cost: float
    returncode: int
    timed_out: bool
    seconds: float
    stderr: str
    strays: tuple[str, ...]  # command lines that were still running when OpenCode had ended
    events: tuple[Mapping[str, Any], ...] = field(repr=False)


def seed_plugin_folder(directory: Path) -> None:
    """Keeps OpenCode from installing its plugin package (63 MB) into a configuration folder.

    It installs unless there is a `node_modules` and the package and its lock name that dependency.
    """
    needed = {"dependencies": {"@opencode-ai/plugin": "*"}}
    (directory / "node_modules").mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("package.json", needed),
        ("package-lock.json", {"lockfileVersion": 3, "packages": {"": needed}}),
    ):
        if not (directory / name).exists():
            (directory / name).write_text(json.dumps(content), encoding="utf-8")


def configuration(
    server_url: str, *, key: str = "none", context: int = 131072, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A user's OpenCode configuration that knows one model, without anything that needs the internet.

    `context` is the window in tokens that OpenCode believes the model has; `options` are more options of
    its provider, such as headerTimeout and chunkTimeout in milliseconds.
    """
    model = {"name": "Scripted", "tool_call": True, "limit": {"context": context, "output": 8192}}
    return {
        "$schema": "https://opencode.ai/config.json",
        "model": MODEL,
        "small_model": MODEL,
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "enabled_providers": ["local"],
        "provider": {
            "local": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Scripted models",
                "options": {"baseURL": server_url, "apiKey": key, **(options or {})},
                "models": {"scripted": model},
            }
        },
    }


def project(
    base: Path,
    server_url: str,
    *,
    directory: Path | None = None,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Project:
    """A project that is ready to run, with a home of its own under `base`.

    Args:
        directory: an existing project; without it, an empty git repository is made at `base`/project.
        config: keys of the user's opencode.json that replace those of `configuration(server_url)`.
        environment: more variables for its processes.
    """
    if directory is None:
        directory = base / "project"
        directory.mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet", str(directory)], check=True)
    home = base / "home"
    folder = home / ".config/opencode"
    folder.mkdir(parents=True)
    chosen = {**configuration(server_url), **(config or {})}
    (folder / "opencode.json").write_text(json.dumps(chosen, indent=2), encoding="utf-8")
    seed_plugin_folder(folder)
    if (directory / ".opencode").is_dir():
        seed_plugin_folder(directory / ".opencode")
    return Project(directory.resolve(), home.resolve(), dict(environment or {}))


def run_opencode(
    project: Project,
    prompt: str,
    *,
    agent: str = "build",
    timeout: float = 120,
    session: str = "",
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Session:
    """Runs one prompt to its end, or to its timeout, and leaves no process behind.

    `session` continues an earlier session. Raises FileNotFoundError without a binary. The exit code tells
    little (an agent that was cut short exits 0): judge by texts, calls and errors.
    """
    binary = find_opencode()
    if binary is None:
        raise FileNotFoundError("opencode is not installed: run `make opencode`")
    # An own title saves the model call that would make one; the prompt goes in by stdin, because a
    # positional one is wrapped in quotes.
    command = [str(binary), "run", "--format", "json", "--agent", agent, "--title", "test", *arguments]
    command += ["--session", session] if session else []
    tag = uuid.uuid4().hex
    begun = time.monotonic()
    timed_out = False
    process = subprocess.Popen(
        command,
        cwd=project.directory,
        env=project.variables(**{TAG: tag, **(environment or {})}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(prompt.encode(), timeout=timeout)
        strays = end_strays(tag)
    except subprocess.TimeoutExpired:
        timed_out = True
        end_group(process.pid)
        process.wait()
        strays = end_strays(tag)
        out, err = process.communicate()
    except BaseException:
        end_group(process.pid)
        end_strays(tag)
        raise
    seconds = time.monotonic() - begun
    return read_session(out.decode(), err.decode(), process.returncode, timed_out, seconds, strays)


def read_session(
    out: str, err: str, returncode: int, timed_out: bool, seconds: float, strays: tuple[str, ...]
) -> Session:
    """Reads the events of `opencode run --format json`."""
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if timed_out and lines and not out.endswith("\n"):
        lines.pop()
    events = [json.loads(line) for line in lines]
    parts = [event.get("part", {}) for event in events]
    ends = [part for part in parts if part.get("type") == "step-finish"]
    return Session(
        id=next((str(event["sessionID"]) for event in events if event.get("sessionID")), ""),
        texts=tuple(part["text"] for part in parts if part.get("type") == "text"),
        calls=tuple(tool_call(part) for part in parts if part.get("type") == "tool"),
        errors=tuple(error_text(event["error"]) for event in events if event.get("type") == "error"),
        tokens_in=sum(part["tokens"]["input"] + part["tokens"]["cache"]["read"] for part in ends),
        tokens_out=sum(part["tokens"]["output"] + part["tokens"]["reasoning"] for part in ends),
        cost=sum(part["cost"] for part in ends),
        returncode=returncode,
        timed_out=timed_out,
        seconds=seconds,
        stderr=err,
        strays=strays,
        events=tuple(events),
    )


def recorded_calls(project: Project) -> tuple[ToolCall, ...]:
    """Every tool call in this project's home, of subagents too, in the order in which they were made.

    OpenCode prints only the first agent's events; the others are in its database.
    """
    with closing(sqlite3.connect(project.home / ".local/share/opencode/opencode.db")) as database:
        parts = database.execute(
            "SELECT part.data, session.id, session.agent FROM part JOIN session ON session.id = part.session_id"
            " WHERE part.data ->> 'type' = 'tool' ORDER BY part.time_created, part.id"
        ).fetchall()
    return tuple(
        tool_call(json.loads(data) | {"sessionID": session}, agent or "") for data, session, agent in parts
    )


def tool_call(part: Mapping[str, Any], agent: str = "") -> ToolCall:
    """A tool call from OpenCode's record of it."""
    state = part["state"]
    return ToolCall(
        tool=str(part["tool"]),
        input=state.get("input") or {},
        status=str(state["status"]),
        output=str(state.get("output") or ""),
        error=str(state.get("error") or ""),
        session=str(part.get("sessionID") or ""),
        agent=agent,
    )


def error_text(error: Any) -> str:
    """The name and message of an error event."""
    data = error.get("data", {}) if isinstance(error, dict) else {}
    return f"{error.get('name')}: {data.get('message', '')}" if isinstance(error, dict) else str(error)


def end_group(leader: int) -> None:
    """Kills a process group, if there still is one."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def end_strays(tag: str) -> tuple[str, ...]:
    """Kills every process with this tag in its environment; returns what they were running.

    Shell commands run in sessions of their own and outlive OpenCode, so killing its group is not enough.
    """
    strays: list[str] = []
    wanted = f"{TAG}={tag}".encode()
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if not entry.name.isdigit() or wanted not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                os.kill(int(entry.name), signal.SIGKILL)
                found.append(line)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        if not found:
            return tuple(strays)
        strays += [line for line in found if line not in strays]
        time.sleep(0.02)
