"""The real OpenCode binary against the scripted model server: what the harness and the skill pack rely on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import open_code
import pytest
from open_code import needs_opencode
from stand_ins.model_server import Call, ModelServer, Step, by_system, call, follow, say

ECHO = Call("bash", {"command": "echo hello", "description": "Says hello"})


@needs_opencode
def test_the_binary_is_the_pinned_version(tmp_path: Path) -> None:
    binary = open_code.find_opencode()
    assert binary is not None
    project = open_code.project(tmp_path, "http://127.0.0.1:9/v1")
    done = subprocess.run([binary, "--version"], env=project.variables(), capture_output=True, text=True)
    assert done.stdout.strip() == open_code.pinned_version()


@needs_opencode
def test_opencode_gets_over_the_faults_of_a_model_server(tmp_path: Path) -> None:
    turns = follow(
        Step(calls=(ECHO,), status=429, retry_after=0.1, times=1),
        Step(calls=(ECHO,), cut="reset", times=1),
        say("a word that is cut off", cut="end"),
        Step(calls=(Call("bash", raw='{"command": "ls'),)),
        call("no_such_tool", path="x"),
        call("grep", pattern="x"),
        say("done", reports_usage=False),
    )
    with ModelServer(turns) as server:
        session = open_code.run_opencode(open_code.project(tmp_path, server.url), "Go.")
    sent = [(request.turn, request.attempt) for request in server.requests]
    rate_limited_and_lost_connection = [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert sent[:4] == rate_limited_and_lost_connection, "both are sent again"
    assert len(sent) == 9, "a truncated stream is a turn like any other"
    first, second, bad_arguments, unknown_tool, grep = session.calls
    assert (first.output, second.output) == ("hello\n", "hello\n")
    assert (bad_arguments.tool, unknown_tool.tool) == ("invalid", "invalid")
    assert "JSON parsing failed" in bad_arguments.output, "the model is told"
    assert "unavailable tool 'no_such_tool'" in unknown_tool.output
    assert grep.status == "completed", "ripgrep is there without a download"
    assert session.texts[-1] == "done"
    assert (session.errors, session.returncode, session.strays) == ((), 0, ())
    assert session.tokens_in > 0 and session.tokens_out > 0


LEAD = """\
---
description: leads
mode: primary
permission: {edit: deny}
---
You lead.
"""

HELPER = """\
---
description: helps
mode: subagent
permission: {edit: deny}
---
You help.
"""


@needs_opencode
def test_a_project_is_played_by_its_own_agents(tmp_path: Path) -> None:
    """Its own opencode.json needs no provider; nothing is installed; what a shell left behind is ended."""
    agents = tmp_path / "lab/.opencode/agents"
    agents.mkdir(parents=True)
    (agents / "lead.md").write_text(LEAD, encoding="utf-8")
    (agents / "helper.md").write_text(HELPER, encoding="utf-8")
    (tmp_path / "lab/opencode.json").write_text(json.dumps({"default_agent": "lead"}), encoding="utf-8")
    (tmp_path / "lab/train.py").write_text("x = 1\n", encoding="utf-8")
    leave = "sleep 600 >/dev/null 2>&1 & echo started"
    roles = by_system({
        "You lead.": follow(
            call("task", description="help", prompt="Edit it.", subagent_type="helper"), say("led")
        ),
        "You help.": follow(
            call("write", filePath=str(tmp_path / "lab/train.py"), content="x = 2\n"),
            call("bash", command=leave, description="Leaves a process behind"),
            lambda request: say(request.results[-1]),
        ),
    })  # fmt: skip
    with ModelServer(roles) as server:
        project = open_code.project(tmp_path, server.url, directory=tmp_path / "lab")
        session = open_code.run_opencode(project, "Go.", agent="lead")
    assert session.texts == ("led",)
    (task,) = session.calls
    assert "started" in task.output
    made = {(one.agent, one.tool): one for one in open_code.recorded_calls(project)}
    assert set(made) == {("lead", "task"), ("helper", "invalid"), ("helper", "bash")}
    assert "unavailable tool 'write'" in made["helper", "invalid"].output
    assert (tmp_path / "lab/train.py").read_text(encoding="utf-8") == "x = 1\n"
    assert session.strays == ("sleep 600",)
    for folder in (project.home / ".config/opencode", project.directory / ".opencode"):
        assert list((folder / "node_modules").iterdir()) == []


def stand_in_binary(path: Path, *lines: str) -> str:
    """A shell script in the place of the binary."""
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_run_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"type": "text", "sessionID": "ses_1", "part": {"type": "text", "text": "so far"}}
    hang = stand_in_binary(
        tmp_path / "opencode",
        "cat >/dev/null",
        "setsid sleep 601 &",  # keeps the output open, in a session of its own
        f"echo '{json.dumps(event)}'",
        """printf '{"type": "te'""",
        "sleep 602",
    )
    monkeypatch.setenv("AUTOLAB_OPENCODE", hang)
    session = open_code.run_opencode(open_code.project(tmp_path, ""), "Go.", timeout=3)
    assert session.timed_out
    assert (session.id, session.texts) == ("ses_1", ("so far",))
    assert "sleep 601" in session.strays  # the other one may be found before its group has ended


def test_the_model_server_is_configured_in_the_home_and_the_prompt_goes_in_by_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"type": "error", "sessionID": "s", "error": {"name": "APIError", "data": {"message": "no"}}}
    echo = stand_in_binary(
        tmp_path / "opencode",
        "cat >prompt",
        'echo "$PWD $HOME $Malloc $SECRET" >&2',
        f"echo '{json.dumps(error)}'",
        "exit 1",
    )
    monkeypatch.setenv("AUTOLAB_OPENCODE", echo)
    monkeypatch.setenv("SECRET", "of the caller")
    project = open_code.project(tmp_path, "http://127.0.0.1:9/v1", environment={"EXTRA": "1"})
    session = open_code.run_opencode(project, 'Say "hi" twice.')
    assert (project.directory / "prompt").read_text(encoding="utf-8") == 'Say "hi" twice.'
    assert session.stderr == f"{project.directory} {project.home} 1 \n"
    assert (session.errors, session.returncode) == (("APIError: no",), 1)
    written = json.loads((project.home / ".config/opencode/opencode.json").read_text(encoding="utf-8"))
    assert written["provider"]["local"]["options"]["baseURL"] == "http://127.0.0.1:9/v1"
    assert sorted(one.name for one in project.directory.iterdir()) == [".git", "prompt"]
