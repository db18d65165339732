"""The skill pack in other people's projects: installed, upgraded and removed, their own files untouched."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_code
import pytest
import yaml
from conftest import write_toy
from hypothesis import given, settings
from hypothesis import strategies as st
from open_code import Project, find_opencode, needs_opencode, seed_plugin_folder
from stand_ins.model_server import ModelServer, call, follow, say

from autolab.errors import LabError
from autolab.pack import PACK
from autolab.pack.install import install, place_for, remove, state
from autolab.pack.placement import read_manifest

LAB = """\
---
description: Coordinates the lab.
mode: primary
permission:
  edit: deny
  bash: {"*": deny, "scripts/lab.py status*": allow}
  task: {"*": deny, worker: allow, "specialists/*": allow}
---
Run `scripts/lab.py status`, then delegate to the worker agent or to specialists/optimizer.
"""
WORKER = """\
---
description: "Runs one trial: one change, measured."
mode: subagent
permission:
  edit: {"*": deny, ".autolab/workspaces/**": allow}
  bash:
    "*": deny
    "scripts/trial.py open*": allow
    "scripts/trial.py submit*": allow
  task: deny
  external_directory: deny
---
Start with `scripts/trial.py open`, or ./scripts/trial.py; my/scripts/trial.py is not meant.
"""
SKILL = """\
---
name: run-a-trial
description: Run one trial. Use when asked to try a change.
---
`scripts/trial.py open --hypothesis H` prints a trial.
"""
HOSTS = ("opencode", "claude", "codex", "pi", "hermes")


def write_pack(folder: Path) -> Path:
    """A small pack of the real shape."""
    files = {
        "agents/lab.md": LAB,
        "agents/worker.md": WORKER,
        "agents/specialists/optimizer.md": WORKER.replace("one trial", "trials of the optimizer"),
        "skills/run-a-trial/SKILL.md": SKILL,
        "skills/run-a-trial/reference.md": "Exit codes of scripts/trial.py\n",
        "scripts/trial.py": "#!/usr/bin/env python3\nprint('[ok] trial')\n",
        "scripts/lab.py": "#!/usr/bin/env python3\nprint('[ok] lab')\n",
        "plugin/autolab.js": "export default { id: 'autolab', server: async () => ({}), async setup() {} }\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """Every file, link and folder below, with its kind, mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        link = os.readlink(path).encode() if path.is_symlink() else b""
        content = path.read_bytes() if path.is_file() and not link else link
        found[path.relative_to(folder).as_posix()] = (stat.filemode(mode), stat.S_IMODE(mode), content)
    return found


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "pack")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with files and agents of its own, next to where ours go."""
    folder = tmp_path / "project"
    own = {
        "README.md": b"mine\r\nwith CRLF\r\n",
        "scripts/trial.py": b"print('my own script')\n",
        ".opencode/opencode.json": b'{"model": "local/mine"}',
        ".opencode/agents/mine.md": b"---\r\nmode: primary\r\n---\r\nmine\r\n",
        ".opencode/skills/mine/SKILL.md": b"---\nname: mine\ndescription: mine\n---\n",
        ".opencode/plugins/mine.js": b"export default async () => ({})\n",
        ".claude/settings.json": b'{\r\n\t"permissions": {"allow": ["Bash(ls *)"]},\r\n\t"model": "mine"\r\n}\r\n',
        ".codex/config.toml": b'model = "mine"\n',
        ".pi/agents/mine.md": b"mine\n",
    }
    for name, data in own.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / ".opencode" / "agents" / "linked.md").symlink_to("../../README.md")
    (folder / "README.md").chmod(0o444)
    (folder / ".claude/settings.json").chmod(0o600)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(LabError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# install ------------------------------------------------------------------------------------------


def test_references_to_scripts_point_to_where_they_were_put(pack: Path, project: Path, home: Path) -> None:
    install(project, source=pack)
    worker = (project / ".opencode/agents/worker.md").read_text()
    here = ".opencode/autolab/scripts"
    rules = yaml.safe_load(worker.split("---")[1])["permission"]["bash"]
    assert list(rules) == [
        "*",
        *(f"{folder}/trial.py {verb}*" for verb in ("open", "submit") for folder in (here, "scripts")),
    ], "what scripts say to do next names scripts/"
    lab = yaml.safe_load((project / ".opencode/agents/lab.md").read_text().split("---")[1])
    assert list(lab["permission"]["bash"]) == ["*", f"{here}/lab.py status*", "scripts/lab.py status*"]
    assert "`.opencode/autolab/scripts/trial.py open`, or .opencode/autolab/scripts/trial.py;" in worker
    assert "my/scripts/trial.py is not meant" in worker
    skill = project / ".opencode/skills/run-a-trial"
    assert "`.opencode/autolab/scripts/trial.py open" in (skill / "SKILL.md").read_text()
    assert "of .opencode/autolab/scripts/trial.py" in (skill / "reference.md").read_text()
    script = project / ".opencode/autolab/scripts/trial.py"
    assert subprocess.run([script], capture_output=True, text=True).stdout == "[ok] trial\n"
    assert (project / ".opencode/autolab/engine").read_text() == f"{sys.executable}\n"
    assert (project / ".opencode/plugins/autolab.js").is_file()


@pytest.mark.parametrize("hosts", [*[(host,) for host in HOSTS], HOSTS])
def test_a_second_install_changes_no_byte_and_removal_leaves_no_trace(
    pack: Path, project: Path, home: Path, hosts: tuple[str, ...]
) -> None:
    before = snapshot(project)
    assert install(project, hosts=hosts, source=pack).changes
    installed = snapshot(project)
    again = install(project, hosts=hosts, source=pack)
    assert "nothing changed" in again.headline and not again.changes
    assert snapshot(project) == installed
    assert all(installed[name] == own for name, own in before.items() if name != ".claude/settings.json")
    remove(project, source=pack)
    assert snapshot(project) == before
    assert "nothing to remove" in remove(project, source=pack).headline


def test_installed_for_the_user_it_names_scripts_by_their_absolute_path(
    pack: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in (None, tmp_path / "elsewhere" / "config"):
        if config:
            monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
        before = snapshot(tmp_path)
        install(tmp_path, globally=True, hosts=HOSTS, source=pack)
        base = (config or home / ".config") / "opencode"
        worker = (base / "agents/worker.md").read_text()
        assert f'"{base}/autolab/scripts/trial.py submit*": allow' in worker
        rule = yaml.safe_load(worker.split("---")[1])["permission"]["external_directory"]
        assert rule == {"*": "deny", f"{base}/skills/*": "allow"}, (
            "or it cannot read what lies beside a skill"
        )
        for shown in (".claude/agents/worker.md", ".codex/agents/worker.toml", ".pi/agent/agents/worker.md"):
            assert f"{base}/autolab/scripts/trial.py open" in (home / shown).read_text()
        assert not install(tmp_path, globally=True, hosts=HOSTS, source=pack).changes
        remove(tmp_path, globally=True, source=pack)
        assert snapshot(tmp_path) == before


def test_a_home_that_no_pattern_can_name_is_refused(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert "XDG_CONFIG_HOME" in refusal(lambda: install(tmp_path, globally=True, source=pack))
    assert [*(tmp_path / "my home").iterdir()] == []


def test_a_configuration_folder_that_is_a_link_as_a_whole_is_followed(
    pack: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "dotfiles").mkdir()
    (home / ".config").mkdir()
    (home / ".config/opencode").symlink_to(tmp_path / "dotfiles")
    install(tmp_path, globally=True, source=pack)
    assert (tmp_path / "dotfiles/agents/worker.md").is_file()
    remove(tmp_path, globally=True, source=pack)
    assert [*(tmp_path / "dotfiles").iterdir()] == []


def test_a_second_route_to_the_same_skill_is_warned_of(pack: Path, project: Path, home: Path) -> None:
    """As OpenCode shows either by chance, and they name their scripts differently."""
    install(project, globally=True, source=pack)
    shutil.copytree(pack / "skills/run-a-trial", project / ".agents/skills/run-a-trial")
    warnings = install(project, hosts=("opencode", "claude"), source=pack).warnings
    assert len(warnings) == 2 and all("other versions of run-a-trial" in line for line in warnings)
    assert {line.split()[0] for line in warnings} == {
        str(project / ".agents/skills"),
        str(home / ".config/opencode/skills"),
    }


def test_the_labs_own_repository_is_linked_already(pack: Path, tmp_path: Path) -> None:
    (pack / ".opencode").mkdir()
    (pack / ".opencode/agents").symlink_to("../agents")
    before = snapshot(pack)
    assert "linked already" in install(pack, source=pack).headline
    assert snapshot(pack) == before
    install(pack, hosts=("claude",), source=pack)
    assert "`scripts/trial.py open`" in (pack / ".claude/agents/worker.md").read_text()
    remove(pack, source=pack)
    assert snapshot(pack) == before


# what is in the way -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_file_of_the_users_is_never_overwritten(pack: Path, project: Path, home: Path, kind: str) -> None:
    path = project / ".opencode/agents/worker.md"
    if kind == "file":
        path.write_text("my own worker\n")
    elif kind == "link":
        path.symlink_to("../../README.md")
    else:
        path.mkdir()
    before = snapshot(project)
    problem = refusal(lambda: install(project, source=pack))
    assert ".opencode/agents/worker.md" in problem and "rename it" in problem
    assert snapshot(project) == before


def test_the_users_own_copy_of_the_same_content_stays_when_we_go(
    pack: Path, project: Path, home: Path
) -> None:
    path = project / ".opencode/plugins/autolab.js"
    shutil.copy(pack / "plugin/autolab.js", path)
    before = snapshot(project)
    install(project, source=pack)
    remove(project, source=pack)
    assert snapshot(project) == before


@pytest.mark.parametrize("folder", [".opencode", ".opencode/agents", ".opencode/skills/run-a-trial"])
def test_folders_that_lead_out_of_the_project_are_refused(
    pack: Path, home: Path, tmp_path: Path, folder: str
) -> None:
    outside, project = tmp_path / "outside", tmp_path / "empty"
    outside.mkdir()
    (project / folder).parent.mkdir(parents=True)
    (project / folder).symlink_to(outside)
    assert "leads out" in refusal(lambda: install(project, source=pack))
    assert [*outside.iterdir()] == [] and read_manifest(place_for(project, globally=False)) is None


def test_a_file_where_a_folder_must_be_is_refused(pack: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/.opencode").mkdir(parents=True)
    (tmp_path / "empty/.opencode/skills").write_text("mine")
    before = snapshot(tmp_path)
    assert "is a file" in refusal(lambda: install(tmp_path / "empty", source=pack))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("text", ["[1]", '{"permissions": []}', '{"permissions": {"allow": "all"}}', "{"])
def test_settings_that_cannot_be_merged_are_refused(pack: Path, project: Path, home: Path, text: str) -> None:
    (project / ".claude/settings.json").write_text(text)
    before = snapshot(project)
    assert "settings.json" in refusal(lambda: install(project, hosts=("claude",), source=pack))
    assert snapshot(project) == before


def test_a_settings_file_that_is_a_link_is_refused(pack: Path, project: Path, home: Path) -> None:
    settings = project / ".claude/settings.json"
    settings.rename(project / "elsewhere.json")
    settings.symlink_to("../elsewhere.json")
    before = snapshot(project)
    assert "is a link" in refusal(lambda: install(project, hosts=("claude",), source=pack))
    assert snapshot(project) == before


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": 1, "version": 2}'])
def test_a_damaged_manifest_is_one_line(pack: Path, project: Path, home: Path, text: str) -> None:
    (project / ".opencode/autolab").mkdir()
    (project / ".opencode/autolab/manifest.json").write_text(text)
    before = snapshot(project)
    assert "manifest.json" in refusal(lambda: install(project, source=pack))
    assert "manifest.json" in refusal(lambda: remove(project, source=pack))
    assert snapshot(project) == before


# upgrade ------------------------------------------------------------------------------------------


def upgrade(pack: Path) -> None:
    """The pack's next version: one file changed, one gone, one new."""
    agent = pack / "agents/worker.md"
    agent.write_text(agent.read_text() + "Version two.\n")
    (pack / "agents/lab.md").write_text(LAB + "Version two.\n")
    shutil.rmtree(pack / "agents/specialists")
    (pack / "agents/reviewer.md").write_text(WORKER)


def test_an_upgrade_replaces_what_nobody_touched_and_takes_away_what_is_gone(
    pack: Path, project: Path, home: Path
) -> None:
    before = snapshot(project)
    install(project, hosts=HOSTS, source=pack)
    upgrade(pack)
    report = install(project, source=pack)
    assert report.headline.startswith("upgraded") and not report.warnings
    agents = project / ".opencode/agents"
    assert "Version two." in (agents / "worker.md").read_text()
    assert not (agents / "specialists").exists() and (agents / "reviewer.md").is_file()
    assert "Version two." in (project / ".claude/agents/worker.md").read_text(), "they share the scripts"
    assert not install(project, source=pack).changes
    remove(project, source=pack)
    assert snapshot(project) == before


def test_what_the_user_edited_stays_and_the_new_version_lies_beside_it(
    pack: Path, project: Path, home: Path
) -> None:
    install(project, source=pack)
    worker = project / ".opencode/agents/worker.md"
    mine = worker.read_text() + "My own rule.\n"
    worker.write_text(mine)
    assert install(project, source=pack).changes.kept == [".opencode/agents/worker.md"]
    assert not worker.with_name("worker.md.new").exists(), "there is nothing new yet"
    upgrade(pack)
    report = install(project, source=pack)
    assert [line for line in report.warnings if "worker.md.new" in line and "edited" in line]
    assert worker.read_text() == mine
    assert "Version two." in worker.with_name("worker.md.new").read_text()
    settled = snapshot(project)
    assert not install(project, source=pack).changes and snapshot(project) == settled
    worker.with_name("worker.md.new").unlink()
    assert not install(project, source=pack).changes, "the owner has seen it"
    seen = state(project)
    assert seen is not None and seen.edited == (".opencode/agents/worker.md",)


def test_an_edit_that_became_the_packs_own_text_is_ours_again(pack: Path, project: Path, home: Path) -> None:
    before = snapshot(project)
    install(project, source=pack)
    (project / ".opencode/agents/lab.md").write_text("mine")
    upgrade(pack)
    install(project, source=pack)
    (project / ".opencode/agents/lab.md.new").rename(project / ".opencode/agents/lab.md")
    assert not install(project, source=pack).warnings
    remove(project, source=pack)
    assert snapshot(project) == before


def test_removal_keeps_what_the_user_edited_or_added_and_names_it(
    pack: Path, project: Path, home: Path
) -> None:
    install(project, source=pack)
    skill = project / ".opencode/skills/run-a-trial/SKILL.md"
    skill.write_text("mine now")
    (project / ".opencode/autolab/notes.txt").write_text("mine")
    before = {name for name in snapshot(project) if "autolab" not in name}
    report = remove(project, source=pack)
    assert ".opencode/skills/run-a-trial/SKILL.md" in " ".join(report.warnings)
    assert ".opencode/autolab is not empty" in " ".join(report.warnings)
    assert skill.read_text() == "mine now"
    left = set(snapshot(project))
    assert left < before | {".opencode/autolab", ".opencode/autolab/notes.txt"}
    assert ".opencode/agents/worker.md" not in left


def test_one_host_can_go_while_another_stays(pack: Path, project: Path, home: Path) -> None:
    before = snapshot(project)
    install(project, source=pack)
    only = snapshot(project)
    install(project, hosts=("claude",), source=pack)
    remove(project, hosts=("claude",), source=pack)
    assert snapshot(project) == only
    assert "nothing to remove" in remove(project, hosts=("claude",), source=pack).headline
    remove(project, source=pack)
    assert snapshot(project) == before


def test_rules_are_taken_out_of_settings_that_the_user_changed_meanwhile(
    pack: Path, project: Path, home: Path
) -> None:
    path = project / ".claude/settings.json"
    before = json.loads(path.read_bytes())
    install(project, hosts=("claude",), source=pack)
    changed = json.loads(path.read_bytes())
    assert changed["permissions"]["allow"][0] == "Bash(ls *)" and changed["model"] == "mine"
    changed["permissions"]["allow"].append("Bash(cat *)")
    path.write_text(json.dumps(changed))
    assert not install(project, hosts=("claude",), source=pack).changes.written
    remove(project, source=pack)
    before["permissions"]["allow"].append("Bash(cat *)")
    assert json.loads(path.read_bytes()) == before


# killed -------------------------------------------------------------------------------------------

STEPS = ("mkdir", "open", "replace", "rename", "unlink", "rmdir", "fsync", "chmod")


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process that is killed before its call number `step` that changes files."""
    child = os.fork()
    if child == 0:
        calls = 0

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal calls
                calls += 1
                if calls > step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("act", ["install", "upgrade", "remove"])
def test_a_run_that_was_killed_is_completed_by_the_next(
    pack: Path, project: Path, home: Path, act: str
) -> None:
    before = snapshot(project)
    if act != "install":
        install(project, hosts=("opencode", "claude"), source=pack)
    if act == "upgrade":
        upgrade(pack)
    start = project.with_name("start")
    shutil.copytree(project, start, symlinks=True)
    hosts = ("opencode", "claude")
    step = 0
    while True:
        shutil.rmtree(project)
        shutil.copytree(start, project, symlinks=True)
        if act == "remove":
            killed = killed_at(step, lambda: remove(project, source=pack))
        else:
            killed = killed_at(step, lambda: install(project, hosts=hosts, source=pack))
            install(project, hosts=hosts, source=pack)
            finished = state(project)
            assert finished is not None and finished.complete and not (finished.edited or finished.missing)
        remove(project, source=pack)
        assert snapshot(project) == before, step
        if not killed:
            break
        step += 1 if step < 8 else 7
    assert step > 20


# any layout ---------------------------------------------------------------------------------------

OWN = st.dictionaries(
    st.sampled_from(
        [
            ".opencode/agents/mine.md", ".opencode/agents/specialists/mine.md", ".opencode/autolab/mine",
            ".opencode/skills/run-a-trial/mine.md", ".opencode/package.json", ".claude/settings.json",
            ".claude/agents/mine.md", ".agents/skills/mine/SKILL.md", ".codex/rules/mine.rules", ".gitignore",
            ".opencode/agents/worker.md", ".claude/agents/lab.md", ".opencode/agents/worker.md.new",
        ]
    ),
    st.sampled_from([b"", b"{}", b"{}\r\n", b'{"permissions": {"allow": [], "deny": ["Read(.env)"]}}', b"\xff\r\n"]),
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    own=OWN, edits=st.lists(st.integers(0, 40), max_size=3), hosts=st.sets(st.sampled_from(HOSTS), min_size=1)
)
def test_whatever_was_there_is_there_afterwards(
    tmp_path_factory: pytest.TempPathFactory, own: dict[str, bytes], edits: list[int], hosts: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("layout")
    pack, project = write_pack(folder / "pack"), folder / "project"
    project.mkdir()
    for name, data in own.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(data)
    before = snapshot(project)
    try:
        install(project, hosts=sorted(hosts), source=pack)
    except LabError:
        assert snapshot(project) == before
        return
    manifest = read_manifest(place_for(project, globally=False))
    assert manifest is not None
    names = sorted(manifest.files)
    edited = {names[number % len(names)] for number in edits}
    for name in edited:
        (project / name).write_bytes(b"edited")
    upgrade(pack)
    report = install(project, hosts=sorted(hosts), source=pack)
    settled = snapshot(project)
    assert not install(project, hosts=sorted(hosts), source=pack).changes
    assert snapshot(project) == settled
    assert all((project / name).read_bytes() == b"edited" for name in edited)
    assert all(
        any(name in line for line in report.warnings) for name in edited if name in report.changes.kept
    )
    remove(project, source=pack)
    after = snapshot(project)
    assert {name: entry for name, entry in after.items() if name in before} == before
    files = {name for name in after if (project / name).is_file()} - set(before)
    assert files == edited


# hosts --------------------------------------------------------------------------------------------


def test_claude_gets_roles_with_their_own_tools_and_refuses_what_no_rule_allows(
    pack: Path, project: Path, home: Path
) -> None:
    install(project, hosts=("claude",), source=pack)
    agents = project / ".claude/agents"
    meta = {path.stem: yaml.safe_load(path.read_text().split("---")[1]) for path in agents.glob("*.md")}
    assert set(meta) == {"lab", "worker", "specialists-optimizer"}
    assert all(agent["name"] == name for name, agent in meta.items())
    assert {name for name, agent in meta.items() if agent.get("permissionMode") != "dontAsk"} == {"lab"}
    assert (
        "Agent(specialists-optimizer, worker)" in meta["lab"]["tools"] and "Edit" not in meta["lab"]["tools"]
    )
    assert "Edit, Write" in meta["worker"]["tools"] and "Agent" not in meta["worker"]["tools"]
    assert "or to specialists-optimizer" in (agents / "lab.md").read_text()
    rules = json.loads((project / ".claude/settings.json").read_bytes())["permissions"]
    assert "Bash(.opencode/autolab/scripts/trial.py submit*)" in rules["allow"]
    assert rules["ask"] == ["Bash(.opencode/autolab/scripts/lab.py status*)"], "only the coordinator's"
    assert [rule for rule in rules["allow"] if rule.startswith("Edit")] == ["Edit(/.autolab/workspaces/**)"]
    assert "Read(/.autolab/ledger.sqlite*)" in rules["deny"] and "Read(.env)" in rules["deny"]


def test_codex_gets_agents_with_a_sandbox_and_rules_for_the_scripts(
    pack: Path, project: Path, home: Path
) -> None:
    install(project, hosts=("codex",), source=pack)
    worker = tomllib.loads((project / ".codex/agents/worker.toml").read_text())
    assert worker["name"] == "worker" and worker["sandbox_mode"] == "workspace-write"
    assert worker["description"] == "Runs one trial: one change, measured."
    assert worker["developer_instructions"].startswith("Start with `.opencode/autolab/scripts/trial.py open`")
    rules = (project / ".codex/rules/autolab.rules").read_text()
    assert (
        'prefix_rule(pattern = [".opencode/autolab/scripts/trial.py", "open"], decision = "allow")' in rules
    )
    assert (project / ".agents/skills/autolab-lab/SKILL.md").is_file()
    assert (project / ".codex/config.toml").read_text() == 'model = "mine"\n'


def test_pi_gets_agents_with_tools_and_says_that_it_has_no_permissions(
    pack: Path, project: Path, home: Path
) -> None:
    report = install(project, hosts=("pi",), source=pack)
    text = (project / ".pi/agents/worker.md").read_text()
    assert "no permission file" in text and "no permission file" in " ".join(report.notes)
    meta = yaml.safe_load(text.split("---")[1])
    assert meta["name"] == "worker" and meta["tools"] == "read, grep, find, ls, bash, edit, write"
    assert (project / ".pi/prompts/autolab-lab.md").read_text().rstrip().endswith("$ARGUMENTS")
    assert (project / ".pi/skills/run-a-trial/SKILL.md").is_file()


def test_hermes_gets_a_profile_with_a_skill_for_each_role(pack: Path, project: Path, home: Path) -> None:
    report = install(project, hosts=("hermes",), source=pack)
    profile = project / ".hermes/autolab"
    assert yaml.safe_load((profile / "distribution.yaml").read_text())["name"] == "autolab"
    assert yaml.safe_load((profile / "config.yaml").read_text())["delegation"]["max_spawn_depth"] == 1
    assert "Load the skill autolab-NAME" in (profile / "SOUL.md").read_text()
    role = (profile / "skills/autolab-worker/SKILL.md").read_text()
    assert yaml.safe_load(role.split("---")[1])["name"] == "autolab-worker"
    assert "no list of allowed commands" in " ".join(report.notes)


@pytest.mark.parametrize("globally", [False, True])
def test_a_skill_reads_the_same_in_every_host(pack: Path, project: Path, home: Path, globally: bool) -> None:
    """OpenCode also reads Claude's and Codex's folders, and shows any one of the same name."""
    install(project, globally=globally, hosts=HOSTS, source=pack)
    root = home if globally else project
    copies = {path.read_bytes() for path in root.rglob("run-a-trial/SKILL.md")}
    assert len(copies) == 1


# command line -------------------------------------------------------------------------------------


def autolab(directory: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autolab.cli.main", *words]
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("XDG_CONFIG_HOME", None)
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_init_installs_the_real_pack_makes_the_lab_too_and_removes_it(project: Path, home: Path) -> None:
    before = snapshot(project)
    done = autolab(project, home, "init", "--opencode", "--host", "claude")
    assert done.returncode == 0 and "installed Autolab" in done.stdout, done.stderr
    assert (project / ".opencode/agents/lab.md").is_file() and not (project / "task.yaml").exists()
    agent = (project / ".opencode/agents/lab.md").read_text().split("\n---\n")[1]
    assert not re.search(r"(?<![\w/])scripts/\w+\.py", agent)
    script = project / ".opencode/autolab/scripts/lab.py"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, env={"PATH": "/nowhere"})
    assert done.returncode == 0 and "lab.py" in done.stdout, done.stderr
    assert "nothing changed" in autolab(project, home, "init", "--opencode").stdout
    assert "removed Autolab" in autolab(project, home, "init", "--remove").stdout
    assert snapshot(project) == before
    (project / "train.py").write_text('print(f"val_loss: {1.0}")\n')
    done = autolab(project, home, "init", "--opencode", "--script", "train.py")
    assert "wrote task.yaml" in done.stdout and "installed Autolab" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (("--global",), "--opencode --global"),
        (("--remove", "--script", "train.py"), "one by one"),
        (("--opencode", "nowhere"), "create it first"),
        (("--host", "emacs"), "--host"),
    ],
)
def test_bad_input_is_one_line(project: Path, home: Path, words: tuple[str, ...], mend: str) -> None:
    before = snapshot(project)
    done = autolab(project, home, "init", *words)
    assert done.returncode == 2 and mend in done.stderr and done.stderr.count("\n") == 1
    assert snapshot(project) == before


# OpenCode -----------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A lab that has scripts and skills of its own."""
    folder = write_toy(tmp_path / "foreign")
    for name, text in (
        ("scripts/trial.py", "print('FOREIGN')\n"),
        (".opencode/skills/mine/SKILL.md", "---\nname: mine\ndescription: mine\n---\nmine\n"),
    ):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def debug(setting: Project, about: str) -> Any:
    """What OpenCode knows, by a file: it ends before it has written more than 64 kB into a pipe."""
    answer = setting.home / f"{about}.json"
    with answer.open("wb") as file:
        command = [str(find_opencode()), "debug", about]
        subprocess.run(
            command, cwd=setting.directory, env=setting.variables(), stdin=subprocess.DEVNULL, stdout=file,
            check=True, timeout=100,
        )  # fmt: skip
    return json.loads(answer.read_bytes())


@needs_opencode
def test_opencode_lists_what_was_installed_in_a_project_exactly_once(tmp_path: Path, foreign: Path) -> None:
    setting = open_code.project(tmp_path / "run", "http://127.0.0.1:9/v1", directory=foreign)
    install(foreign, hosts=("opencode", "claude", "codex"))
    seed_plugin_folder(foreign / ".opencode")
    config, skills = debug(setting, "config"), debug(setting, "skill")
    agents = PACK / "agents"
    names = {path.relative_to(agents).with_suffix("").as_posix() for path in agents.glob("**/*.md")}
    assert names == set(config["agent"]) and len(config["plugin"]) == 1
    patterns = [pattern for agent in config["agent"].values() for pattern in agent["permission"]["bash"]]
    placed = {pattern for pattern in patterns if pattern.startswith(".opencode/autolab/scripts/")}
    assert {pattern.removeprefix(".opencode/autolab/") for pattern in placed} == {*patterns} - placed - {"*"}
    listed = sorted(skill["name"] for skill in skills if skill["location"] != "<built-in>")
    ours = [path.parent.name for path in PACK.glob("skills/*/SKILL.md")]
    assert listed == sorted(["mine", "autolab-lab", *ours])


@needs_opencode
def test_an_agent_that_was_installed_for_the_user_does_its_work_in_a_foreign_lab(
    tmp_path: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "run/home"
    base = home / ".config/opencode"
    scripts = base / "autolab/scripts"
    acts = (
        call("bash", command=f"{scripts}/lab.py task", description="by its place"),
        call("bash", command="scripts/trial.py status", description="as scripts name each other"),
        call("bash", command=f"{scripts}/papers.py search x", description="not the coordinator's"),
        call("skill", name="run-a-trial"),
        call("read", filePath=str(base / "skills/run-a-trial/reference.md")),
        call("read", filePath=str(base / "opencode.json")),
        say("done"),
    )
    with ModelServer(follow(*acts)) as server:
        setting = open_code.project(tmp_path / "run", server.url, directory=foreign)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        install(foreign, globally=True)
        session = open_code.run_opencode(setting, "What is the task?", agent="lab")
    assert session.texts == ("done",) and not session.errors, session.stderr
    by_place, by_name, not_its_own, skill, reference, outside = session.calls
    assert "minimize" in by_place.output
    assert "no campaign has begun" in by_name.output, "ours, not the foreign script of that name"
    assert not_its_own.status == "error" and outside.status == "error"
    assert f"{scripts}/trial.py open" in skill.output and "Statuses" in reference.output
