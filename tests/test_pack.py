"""The pack's own files: who may run what, what a host loads, what the linter catches, what the program asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from open_code import find_opencode, needs_opencode, seed_plugin_folder
from open_code import project as open_code_project

from autolab.errors import LabError
from autolab.harness.answer import parse_answer
from autolab.pack import PACK
from autolab.pack.lint import LISTING_TOKENS, lint
from autolab.pack.roles import allows_command, matches, read_role, roles
from autolab.pack.skills import listing_tokens, skills
from autolab.pack.templates import render
from autolab.program.edits import apply_edits

ROOT = Path(__file__).resolve().parent.parent
WRITERS = {"worker", "engineer"} | {name for name in roles() if name.startswith("specialists/")}
TASK = {
    "name": "small-gpt", "metric": "val_bpb", "direction": "minimize", "editable": ["train.py"],
    "protected": ["evaluate.py"], "budget": "20 CPU-seconds of training",
}  # fmt: skip


# roles -------------------------------------------------------------------------------------------------


def test_the_pack_has_the_roles_of_the_lab() -> None:
    surfaces = [
        "architecture",
        "data",
        "evaluation",
        "loss",
        "optimizer",
        "regularisation",
        "schedule",
        "systems",
    ]
    named = {"lab", "researcher", "planner", "worker", "reviewer", "engineer", "reporter", "coordinator"}
    assert set(roles()) == named | {f"specialists/{surface}" for surface in surfaces}
    assert [name for name, role in roles().items() if role.mode == "primary"] == ["lab"]


def test_every_surface_of_the_default_task_has_its_specialist() -> None:
    task = yaml.safe_load((ROOT / "task.yaml").read_text(encoding="utf-8"))
    assert {f"specialists/{surface}" for surface in task["surfaces"]} <= set(roles())


def test_only_workspaces_can_be_edited_and_only_by_those_who_run_trials() -> None:
    for name, role in roles().items():
        edit = role.permission["edit"]
        if name not in WRITERS:
            assert edit == "deny", name
            continue
        allowed = [pattern for pattern, action in edit.items() if action == "allow"]
        assert next(iter(edit.items())) == ("*", "deny")
        assert allowed and all(pattern.endswith(".autolab/workspaces/**") for pattern in allowed)


def test_only_the_coordinator_delegates_and_only_to_the_pack() -> None:
    known = roles()
    assert {name for name, role in known.items() if role.permission["task"] != "deny"} == {"lab"}
    allowed = [pattern for pattern, action in known["lab"].permission["task"].items() if action == "allow"]
    reached = {name for name in known if any(matches(pattern, name) for pattern in allowed)}
    assert reached == set(known) - {"lab", "coordinator"}, "the coordinator of winners works headless only"


@pytest.mark.parametrize(
    ("role", "command", "may"),
    [
        ("worker", "scripts/trial.py open --hypothesis 'x; y | z' --surface loss", True),
        ("worker", "scripts/trial.py check", True),
        ("worker", "scripts/trial.py repair 7", False),
        ("worker", "scripts/lab.py stop", False),
        ("worker", "scripts/ideas.py add --change x", False),
        ("specialists/loss", "scripts/trial.py submit --source 2502.16982", True),
        ("engineer", "scripts/trial.py repair 7", True),
        ("engineer", "scripts/trial.py open --hypothesis x", False),
        ("researcher", "scripts/papers.py search muon", True),
        ("researcher", "scripts/trial.py open --hypothesis x", False),
        ("planner", "scripts/ideas.py rank 1 --at 2", True),
        ("planner", "scripts/lab.py start", False),
        ("reviewer", "scripts/trial.py check 7", True),
        ("reviewer", "scripts/trial.py submit 7", False),
        ("reporter", "scripts/report.py --write", True),
        ("reporter", "scripts/publish.py push --repo a/b", False),
        ("lab", "scripts/lab.py start --slots 2", True),
        ("lab", "scripts/trial.py submit 7", False),
        ("lab", "rm -rf .", False),
        ("nobody", "scripts/lab.py status", False),
        ("../agents/lab", "scripts/lab.py status", False),
        ("", "scripts/lab.py status", False),
    ],
)
def test_a_role_runs_its_own_commands_and_no_others(role: str, command: str, may: bool) -> None:
    assert allows_command(role, command) is may


@pytest.mark.parametrize(
    "addition",
    [
        "; rm x", " && rm x", " | sh", " > evaluate.py", " < /etc/passwd", " $(rm x)", " `rm x`", " $HOME", "\nrm x",
        " &", ' "$(rm x)"', ' "`rm x`"', " 'open", ' "open', " \\", " \\\nrm x", " \0", " (x)", "\r rm x",
    ],
)  # fmt: skip
def test_what_a_shell_would_make_more_of_is_refused(addition: str) -> None:
    assert allows_command("worker", "scripts/trial.py check")
    assert not allows_command("worker", "scripts/trial.py check" + addition)


@pytest.mark.parametrize(
    "command",
    [
        "", " ", "x=1 scripts/trial.py check", "python scripts/trial.py check", "./scripts/trial.py check",
        "scripts/../scripts/trial.py check", "'scripts/trial.py' check", "scripts/trial.py  check",
        "scripts/trial.py -C /elsewhere check", "cd /; scripts/trial.py check", "scripts/trial.py",
    ],
)  # fmt: skip
def test_only_the_command_as_it_is_written_down_is_allowed(command: str) -> None:
    assert not allows_command("worker", command)


def write_role(folder: Path, bash: Any) -> Any:
    head = {"description": "x", "mode": "subagent", "permission": {"bash": bash, "edit": "deny"}}
    (folder / "r.md").write_text(f"---\n{yaml.safe_dump(head, sort_keys=False)}---\nx\n", encoding="utf-8")
    return read_role(folder / "r.md", "r")


def test_the_last_pattern_that_matches_decides(tmp_path: Path) -> None:
    role = write_role(tmp_path, {"*": "deny", "scripts/a.py *": "allow", "scripts/a.py stop*": "deny"})
    assert allows_command(role, "scripts/a.py status") and allows_command(role, "scripts/a.py")
    assert not allows_command(role, "scripts/a.py stop") and not allows_command(role, "scripts/a.pyx")
    assert not allows_command(write_role(tmp_path, {"scripts/a.py*": "allow", "*": "deny"}), "scripts/a.py x")


@pytest.mark.parametrize("rules", ["allow", "ask", None, [], {}, {"*": "ask"}, {1: "allow"}, {"*": True}])
def test_rules_that_are_not_clear_allow_nothing(tmp_path: Path, rules: Any) -> None:
    assert not allows_command(write_role(tmp_path, rules), "scripts/a.py x")


@given(st.sampled_from(sorted(roles())), st.text(), st.text(alphabet="'\"\\$`;&|<>()\n* a", max_size=12))
def test_no_text_upsets_the_check_of_commands(role: str, text: str, tricky: str) -> None:
    for command in (text, f"scripts/trial.py check {text}", f"scripts/trial.py check {tricky}", tricky):
        allows_command(role, command)


@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4)
)
def test_arguments_that_are_quoted_are_never_refused_for_what_they_say(arguments: list[str]) -> None:
    import shlex

    assert allows_command("worker", f"scripts/trial.py submit {shlex.join(arguments)}")


@given(st.text(alphabet="'\"\\$`;&|<>() ab\n", max_size=10))
def test_an_allowed_command_is_one_command_to_a_real_shell(tail: str) -> None:
    """Its words, as bash sees them, begin with the script and hold no operator."""
    if not allows_command("worker", f"scripts/trial.py check {tail}"):
        return
    line = f"printf '%s\\0' scripts/trial.py check {tail}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("scripts/trial.py\0check\0")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("no head", "no front matter"),
        ("---\na: [\n---\n", "no YAML"),
        ("---\n- a\n---\n", "no map"),
        ("---\nmode: primary\n---\n", "no description"),
        ("---\ndescription: x\n---\n", "mode is None"),
        ("---\ndescription: x\nmode: all\npermission: []\n---\n", "no permission map"),
    ],
)
def test_an_agent_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    with pytest.raises(LabError, match=what) as caught:
        roles(tmp_path)
    assert "a.md" in str(caught.value) and "\n" not in str(caught.value)


# skills and links --------------------------------------------------------------------------------------


def test_the_pack_has_ten_skills_that_cost_little() -> None:
    assert set(skills()) == {
        "search-papers", "plan-experiments", "run-a-trial", "read-the-lineage", "launch-hf-jobs", "warm-hub-cache",
        "publish-results", "report-progress", "bring-your-own-task", "steer-and-stop",
    }  # fmt: skip
    assert listing_tokens(skills()) < LISTING_TOKENS / 2


def test_every_skill_that_a_role_may_load_exists() -> None:
    for name, role in roles().items():
        rules = role.permission["skill"]
        allowed = {pattern for pattern, action in rules.items() if action == "allow"} - {"*"}
        assert allowed <= set(skills()), name


@pytest.mark.parametrize("folder", ["agents", "skills", "scripts", "plugin"])
def test_the_package_ships_the_same_files(folder: str) -> None:
    assert (PACK / folder).resolve() == ROOT / folder
    assert not (PACK / folder).readlink().is_absolute()


def test_every_script_that_an_agent_may_run_is_executable() -> None:
    named = {
        match[1]
        for role in roles().values()
        for pattern in role.permission["bash"]
        if (match := re.match(r"scripts/(\w+\.py)", pattern))
    }
    assert named and all((ROOT / "scripts" / name).stat().st_mode & 0o111 for name in named)


# the linter --------------------------------------------------------------------------------------------


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the repository's own pack."""
    for folder in ("agents", "skills", "scripts", "plugin"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / ".opencode" / "plugins", tmp_path / ".opencode" / "plugins", symlinks=True)
    for folder in ("agents", "skills"):
        (tmp_path / ".opencode" / folder).symlink_to(f"../{folder}")
    shutil.copy(ROOT / "opencode.json", tmp_path)
    return tmp_path


def test_the_repository_is_sound() -> None:
    assert lint(ROOT) == []


def test_a_copy_of_the_repository_is_sound(pack: Path) -> None:
    assert lint(pack) == []


WORKER, SKILL = "agents/worker.md", "skills/run-a-trial/SKILL.md"


def swap(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert old in text
        (root / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def put(path: str, text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")

    return change


def unlink(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def config(**changes: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        known = json.loads((root / "opencode.json").read_text(encoding="utf-8"))
        (root / "opencode.json").write_text(json.dumps(known | changes), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("fault", "where", "what"),
    [
        (put("agents/README.md", "# Agents\n"), "agents/README.md", "every .md here is an agent"),
        (put("agents/specialists/notes.md", "notes\n"), "agents/specialists/notes.md", "no front matter"),
        (swap(WORKER, "---\n", "---\nx: [\n"), WORKER, "no YAML"),
        (swap(WORKER, "mode: subagent\n", ""), WORKER, "mode is None"),
        (swap(WORKER, "mode: subagent", "mode: helper"), WORKER, "mode is 'helper'"),
        (swap(WORKER, "mode: subagent", "mode: subagent\nmodel: a/b"), WORKER, "pins a model"),
        (swap(WORKER, "mode: subagent", "mode: subagent\nsteps: 3"), WORKER, "unknown key `steps`"),
        (swap(WORKER, 'description: "', 'description: "' + 300 * "x"), WORKER, "characters (300 at most)"),
        (swap(WORKER, "permission:\n", "permissions: []\npermission:\n"), WORKER, "no limits"),
        (swap(WORKER, "  task: deny\n", "  task: ask\n"), WORKER, "at `ask`"),
        (swap(WORKER, "  task: deny\n", "  task: maybe\n"), WORKER, "'maybe'"),
        (swap(WORKER, "  task: deny\n", ""), WORKER, "says nothing of `task`"),
        (swap(WORKER, "  task: deny\n", '  task: {"*": deny, worker: allow}\n'), WORKER, "may delegate"),
        (swap(WORKER, '  bash:\n    "*": deny\n', "  bash:\n"), WORKER, "`bash` does not begin with a refusal"),
        (swap(WORKER, '  "*": deny\n', '  "*": allow\n'), WORKER, "allows everything"),
        (swap(WORKER, "  task: deny\n", '  task: deny\n  "*": deny\n'), WORKER, "names '*' twice"),
        (swap(WORKER, '  "*": deny\n  invalid: allow', '  invalid: allow\n  "*": deny'), WORKER, "overrules"),
        (swap(WORKER, "  webfetch: deny\n", "  webfetch: allow\n"), WORKER, "`webfetch` is not refused"),
        (swap(WORKER, "  question: deny\n", "  questions: deny\n"), WORKER, "unknown permission `questions`"),
        (swap(WORKER, '"scripts/trial.py open*"', '"git log*"'), WORKER, "no script of the pack"),
        (swap(WORKER, '"scripts/trial.py open*"', '"scripts/trial.py*; x"'), WORKER, "no script of the pack"),
        (swap(WORKER, "trial.py open --hyp", "trial.py begin --hyp"), WORKER, "has no `begin`"),
        (swap(WORKER, "You run", "With the bash tool you run"), WORKER, "'bash tool'"),
        (swap(WORKER, "You run", "Use todowrite. You run"), WORKER, "'todowrite'"),
        (put("skills/read-me/notes.txt", ""), "skills/read-me/SKILL.md", "cannot be read"),
        (put("skills/README.md", ""), "skills/README.md", "OpenCode 2 takes it for a skill"),
        (swap(SKILL, "name: run-a-trial", "name: Run_it"), SKILL, "in a folder 'run-a-trial'"),
        (swap(SKILL, "Use when", "For when"), SKILL, "when to load it"),
        (swap(SKILL, "# Run a trial", "x\n" * 90), SKILL, "more than 80 lines"),
        (swap(SKILL, "scripts/trial.py check", "scripts/trail.py check"), SKILL, "scripts/trail.py is not there"),
        (unlink("skills/run-a-trial/reference.md"), SKILL, "links to reference.md"),
        (swap(SKILL, "Open, edit", "Open, " + 600 * "x"), SKILL, "characters (20 to 600)"),
        (put("skills/run-a-trial/templates/bad.md.j2", "{% if %}"), "skills/run-a-trial/templates/bad.md.j2", "line 1"),
        (config(permissions=[]), "opencode.json", "does not start"),
        (config(permission={"bash": {"*": "ask"}}), "opencode.json", "at `ask`"),
        (config(model="a/b"), "opencode.json", "pins `model`"),
        (put("opencode.json", "{"), "opencode.json", "cannot be read"),
        (unlink(".opencode/skills"), ".opencode/skills", "no link to skills"),
        (unlink("plugin/autolab.js"), ".opencode/plugins/autolab.js", "no link"),
        (unlink("scripts/papers.py"), "agents/researcher.md", "scripts/papers.py is not there"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_one_line_that_names_its_file(
    pack: Path, fault: Callable[[Path], None], where: str, what: str
) -> None:
    fault(pack)
    lines = [line for line in lint(pack) if line.startswith(f"{where}: ")]
    assert any(what in line for line in lines), lint(pack)
    assert all("\n" not in line and line.endswith(")") for line in lines)


def test_a_permission_in_the_shape_of_opencode_2_is_an_error(pack: Path) -> None:
    path = pack / WORKER
    text = re.sub(r"permission:\n(  .*\n)+", "permission: [{action: edit, resource: '*', effect: allow}]\n",
                  path.read_text(encoding="utf-8"))  # fmt: skip
    path.write_text(text, encoding="utf-8")
    assert any("is an array, the shape of OpenCode 2" in line for line in lint(pack))


def test_descriptions_that_crowd_a_context_are_an_error(pack: Path) -> None:
    for number in range(12):
        head = f"name: extra-{number}\ndescription: Use when {'words ' * 98}\n"
        put(f"skills/extra-{number}/SKILL.md", f"---\n{head}---\nx\n")(pack)
    assert any("descriptions take about" in line for line in lint(pack))


def test_the_linter_exits_with_1_and_lines(pack: Path) -> None:
    (pack / "agents/README.md").write_text("x", encoding="utf-8")
    run = [sys.executable, "-m", "autolab.pack.lint"]
    done = subprocess.run([*run, str(pack)], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert subprocess.run(run, cwd=ROOT, capture_output=True, check=False).returncode == 0


# prompts -----------------------------------------------------------------------------------------------


def trial_prompt(**changes: object) -> str:
    values: dict[str, object] = {
        "role": "worker", "task": TASK, "trial": "ab12-0007", "workspace": "", "surface": "optimizer",
        "surface_text": "rates", "parent_score": 2.5703, "noise_sd": 0.0097, "guidance": ["try smaller batches"],
        "lineage": "## Failed\n- x", "can_edit": True, "files": {"train.py": "RATE = 0.5\n"},
    }  # fmt: skip
    return render("trial", **values | changes)


def test_the_prompt_of_a_trial_says_what_an_agent_needs() -> None:
    text = trial_prompt()
    for needed in ("ab12-0007", "minimize val_bpb", "train.py", "evaluate.py", "optimizer: rates", "2.5703", "0.0097",
                   "try smaller batches", "## Failed", "HYPOTHESIS:", "Open no trial"):  # fmt: skip
        assert needed in text, needed
    assert "RATE = 0.5" not in text and "SEARCH" not in text


def test_an_answer_as_the_prompt_asks_for_it_can_be_applied() -> None:
    text = trial_prompt(can_edit=False)
    assert '<file path="train.py">\nRATE = 0.5\n' in text
    block = text[text.index("HYPOTHESIS:") :].replace("exact lines of the file", "RATE = 0.5")
    files = {"train.py": "RATE = 0.5\nSHIFT = 0\n"}
    answer = parse_answer(block.replace("the new lines", "RATE = 0.6"), files)
    assert (answer.surface, answer.sources) == ("optimizer", ()), "nobody cites by copying"
    assert apply_edits(files, answer.edits)["train.py"] == "RATE = 0.6\nSHIFT = 0\n"


def test_a_prompt_without_surface_score_or_history_still_reads_well() -> None:
    text = trial_prompt(
        surface="", surface_text="", parent_score=None, noise_sd=None, guidance=[], lineage=""
    )
    assert "None" not in text and "<lineage>" not in text and "The person who runs the lab" not in text


@given(st.text(), st.text(), st.lists(st.text(), max_size=20))
def test_what_agents_wrote_is_bounded_and_stays_in_its_frame(
    lineage: str, hostile: str, said: list[str]
) -> None:
    text = trial_prompt(
        lineage=lineage + "</lineage>{{ 7 * 7 }}" + 50 * hostile, guidance=[9 * one for one in said],
        surface_text=99 * hostile,
    )  # fmt: skip
    assert text.count("</lineage>") == 1 and "{{ 7 * 7 }}" in text
    assert len(text) < 17_000


@given(st.text(), st.lists(st.text(), max_size=12))
def test_what_colleagues_say_is_bounded_and_stays_in_its_frame(goal: str, notes: list[str]) -> None:
    text = trial_prompt(
        goal=goal + "</goal>{{ 7 * 7 }}", notes=[*(99 * note for note in notes), "</notes>{{ 7 * 7 }}"]
    )
    assert text.count("</goal>") == 1 and text.count("</notes>") == 1 and text.count("{{ 7 * 7 }}") == 2
    assert len(text) < 40_000
    for role in ("planner", "worker", "reviewer"):
        text = consultation(
            role,
            goal="x" + goal + "</question></surfaces>",
            notes=[9 * note for note in notes] + ["</notes>"],
        )
        assert text.count("</notes>") == 1 and text.count("</surfaces>") + text.count("</question>") <= 2


def test_a_trial_says_what_the_planner_asks_and_what_colleagues_hand_over() -> None:
    text = trial_prompt(goal="larger rates", notes=["architecture: deeper"])
    assert "<goal>\nlarger rates\n</goal>" in text and "architecture: deeper" in text
    assert "<goal>" not in trial_prompt(goal="", notes=[]) and "<notes>" not in trial_prompt(
        goal="", notes=[]
    )


def test_an_engineer_and_a_coordinator_are_told_what_they_have_before_them() -> None:
    assert "the cause stands in the notes" in trial_prompt(role="engineer", goal="", notes=["crash: x"])
    assert "the cause stands in the lineage" in trial_prompt(role="engineer", goal="", notes=[])
    assert "Join them" in trial_prompt(role="coordinator", goal="", notes=["a", "b"])


def consultation(role: str, **changes: object) -> str:
    values: dict[str, object] = {
        "role": role, "task": TASK, "goal": "", "notes": [], "lineage": "## Failed\n- x", "surface": "loss",
        "standing": "",
    }  # fmt: skip
    return render("consult", **values | changes)


def test_a_planner_is_asked_for_goals_in_lines_that_can_be_read() -> None:
    from autolab.collaboration.common.plans import read_goals

    text = consultation(
        "planner", goal="loss: what\ndata: which", notes=["loss, concern: luck"], standing="2.39"
    )
    assert "loss: what" in text and "luck" in text and "2.39" in text and "## Failed" in text
    line = next(line for line in text.splitlines() if line.startswith("GOAL"))
    assert read_goals(line.replace("surface", "loss"), {"loss": ""})["loss"]


def test_a_worker_is_asked_what_its_round_taught_and_others_their_question() -> None:
    assert "Your round on loss is over" in consultation("worker") and "CONCERN:" in consultation("worker")
    assert "Is it fair?" in consultation("reviewer", goal="Is it fair?")


def test_a_refusal_is_told_once_and_bounded() -> None:
    text = render("feedback", reason="train.py, line 3: " + 9000 * "x")
    assert "once" in text and len(text) < 3000
    assert "SEARCH/REPLACE blocks against" in render("feedback", reason="x", can_edit=False)


def test_kickoff_starts_a_campaign_or_goes_on_with_one() -> None:
    fresh = render("kickoff", task=TASK, status=None, slots=2, surfaces={"loss": "x"})
    assert "scripts/lab.py start --slots 2" in fresh and "2 workers at once" in fresh
    master = {"score": 2.39, "trial": "ab12-0007"}
    status = {"campaign": "c-1", "state": "running", "trials": 7, "alive": True, "master": master}
    known = render("kickoff", task=TASK, status=status, slots=1, surfaces={})
    assert "c-1" in known and "2.39" in known and "start --slots" not in known and "1 worker at" in known


def test_a_missing_variable_or_prompt_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("trial")
    with pytest.raises(LabError, match="no prompt 'tale'"):
        render("tale")


# the real binary ---------------------------------------------------------------------------------------


@needs_opencode
def test_opencode_loads_every_agent_and_skill_once_from_the_repository(pack: Path, tmp_path: Path) -> None:
    project = open_code_project(tmp_path / "run", "http://127.0.0.1:1/v1", directory=pack)
    seed_plugin_folder(pack / ".opencode")
    (pack / ".opencode/plugins/autolab.js").unlink()  # which would register them as well

    # One after the other: two at once in one home sometimes find its database locked.
    for name, *words in (("agents.txt", "agent", "list"), ("skills.json", "debug", "skill")):
        with open(tmp_path / name, "wb") as file:  # it ends before a pipe has taken all that it says
            subprocess.run([str(find_opencode()), *words], cwd=pack, env=project.variables(),
                           stdin=subprocess.DEVNULL, stdout=file, timeout=300, check=True)  # fmt: skip
    text = (tmp_path / "agents.txt").read_text(encoding="utf-8")
    parts = re.split(r"^(\S+) \((?:primary|subagent|all)\)$", text, flags=re.MULTILINE)
    loaded = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(roles()) <= set(loaded) and len(loaded) == len(parts[1::2])
    found = [skill["name"] for skill in json.loads((tmp_path / "skills.json").read_text(encoding="utf-8"))]
    assert set(skills()) <= set(found) and len(found) == len(set(found))

    rules = json.loads(loaded["worker"])
    ours = rules[max(at for at, rule in enumerate(rules) if rule["permission"] == "*") :]
    assert ours[0]["action"] == "deny", "what an agent file does not name is refused"
    allowed = {rule["permission"] for rule in ours if rule["action"] == "allow"}
    assert allowed - {"external_directory", "invalid"} == {"bash", "edit", "read", "skill"}
