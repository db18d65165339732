"""The shell of an agent in a session: what works in it, what does not, and how it is called."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guarded import Labs, make_labs, make_pack, nothing_else_changes, running
from measuring import needs_bubblewrap


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Labs:
    return make_labs(tmp_path_factory.mktemp("guard"))


@pytest.fixture(autouse=True)
def untouched(labs: Labs) -> Iterator[None]:
    with nothing_else_changes(labs):
        yield


# The shell: what must work ------------------------------------------------------------------------------------------


@needs_bubblewrap
def test_a_shell_command_edits_the_own_workspace_and_git_shows_the_change(labs: Labs) -> None:
    done = labs.shell(
        "cd .autolab/workspaces/t1 && echo 'y = 2' >> train.py && git diff && git status --short"
    )
    assert "+y = 2" in done.stdout
    assert " M train.py" in done.stdout
    assert "y = 2" in (labs.workspace() / "train.py").read_text(encoding="utf-8")


@needs_bubblewrap
def test_pipes_quotes_unicode_exit_codes_and_much_output_are_those_of_a_shell(labs: Labs) -> None:
    done = labs.shell("printf '%s\\n' \"a b\" 'ç $HOME' | sort -r | tr a-z A-Z; (exit 5) || exit $?")
    assert (done.stdout, done.returncode) == ("ç $HOME\nA B\n", 5)
    assert labs.shell("seq 200000 | tail -1; kill -9 $$").returncode == 137
    assert len(labs.shell("seq 200000").stdout) == 1288895


@needs_bubblewrap
def test_scripts_run_outside_with_the_facts_of_their_session(labs: Labs) -> None:
    done = labs.shell(
        "cd .autolab/workspaces/t1; echo 'å in' | ../../../../pack/scripts/trial.py status --fail 'a  b'"
    )
    found = json.loads(done.stdout.splitlines()[0])
    assert found["argv"] == ["status", "--fail", "a  b"]
    assert found["stdin"] == "å in\n"
    assert found["cwd"] == str(labs.workspace())
    assert found["env"] == {
        "AUTOLAB_LAB": str(labs.root),
        "AUTOLAB_ROLE": "worker",
        "AUTOLAB_SESSION": "ses_a",
        "AUTOLAB_TRIAL": "t1",
        "HF_TOKEN": "hf_very_secret",
    }
    assert "unicode: å → 字" in done.stdout
    assert done.returncode == 7


@needs_bubblewrap
def test_scripts_are_found_where_instructions_name_them_though_the_lab_has_no_such_folder(labs: Labs) -> None:
    done = labs.shell(
        "scripts/trial.py status | grep -o 'ok. ran'; scripts/trial.py status >/dev/null && echo fine"
    )
    assert "ok] ran" in done.stdout
    assert done.stdout.splitlines()[-1] == "fine"


@needs_bubblewrap
def test_many_scripts_can_be_asked_for_at_once(labs: Labs) -> None:
    command = "for i in 1 2 3 4; do scripts/trial.py status $i & done; wait"
    assert labs.shell(command).stdout.count("[ok] ran") == 4


@needs_bubblewrap
def test_a_script_whose_reader_has_enough_ends_quietly(labs: Labs) -> None:
    done = labs.shell("scripts/trial.py status --big | head -c 10")
    assert "x" * 10 in done.stdout
    assert "Traceback" not in done.stdout and "Exception" not in done.stdout


@needs_bubblewrap
def test_a_reviewer_reads_every_workspace_and_writes_in_none(labs: Labs) -> None:
    done = labs.shell(
        "cat .autolab/workspaces/*/evaluate.py; echo >> .autolab/workspaces/t1/train.py", "reviewer", "ses_a"
    )
    assert done.stdout.startswith("protected\nprotected\n")
    assert "Read-only file system" in done.stdout


# The shell: what must not ---------------------------------------------------------------------------------------------


@needs_bubblewrap
@pytest.mark.parametrize(
    "command",
    [
        "scripts/trial.py status > evaluate.py",
        "scripts/trial.py status >> .autolab/ledger.sqlite",
        "cat > evaluate.py <<E\nmine\nE",
        "echo $(echo mine > train.py)",
        "python3 -c \"open('evaluate.py', 'w').write('mine')\"",
        "cp train.py evaluate.py",
        "sed -i s/protected/mine/ evaluate.py",
        "rm -rf deep evaluate.py .autolab .git",
        "mv evaluate.py away.py",
        "chmod 777 evaluate.py && echo > evaluate.py",
        "echo > .autolab/owners/t2",
        "mkdir .autolab/workspaces/t3",
        "git -C .autolab/workspaces/t1 commit -qam mine",
        "echo 'gitdir: /tmp' > .autolab/workspaces/t1/.git",
        "mv .autolab/workspaces/t1/.git .autolab/workspaces/t1/gone",
        "echo > ../pack/scripts/trial.py",
    ],
)
def test_a_worker_writes_nowhere_else(labs: Labs, command: str) -> None:
    done = labs.shell(command)
    assert done.returncode != 0 or "Read-only file system" in done.stdout or "No such file" in done.stdout


@needs_bubblewrap
def test_everybody_but_its_owner_is_shut_out_of_a_workspace(labs: Labs) -> None:
    for role, session in (
        ("worker", "ses_a"),
        ("worker", ""),
        ("specialists/data", "ses_c"),
        ("planner", "ses_b"),
    ):
        done = labs.shell(
            "ls .autolab/workspaces/t2; echo mine > .autolab/workspaces/t2/train.py", role, session
        )
        assert "train.py\n" not in done.stdout
        assert done.returncode != 0
    other = labs.shell("echo 'y = 2' > .autolab/workspaces/t2/notes.txt", "specialists/data", "ses_b")
    assert other.returncode == 0
    (labs.workspace("t2") / "notes.txt").unlink()


@needs_bubblewrap
def test_a_role_without_a_workspace_writes_nothing_even_if_its_session_owns_one(labs: Labs) -> None:
    assert labs.shell("echo > .autolab/workspaces/t1/mine", "researcher", "ses_a").returncode != 0


@needs_bubblewrap
def test_state_keys_and_the_projects_own_repository_cannot_be_read(labs: Labs) -> None:
    command = "cat .autolab/cache/held.txt .autolab/ledger.sqlite .env deep/er/.env.local .git/config"
    for reach in (command, f"grep -r . {labs.root} --include='*'", "find / -name 'held*' -exec cat {} +"):
        done = labs.shell(reach)
        assert not [secret for secret in ("HELD OUT", "LEDGER", "HIDDEN") if secret in done.stdout]


@needs_bubblewrap
def test_nothing_of_the_callers_environment_is_inside(labs: Labs) -> None:
    done = labs.shell("env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; ls -l /proc/*/fd")
    assert "very_secret" not in done.stdout
    assert "AUTOLAB_ROLE=worker" in done.stdout


@needs_bubblewrap
def test_there_is_no_network_and_no_socket_of_somebody_else(labs: Labs) -> None:
    name = f"\0autolab-test-{os.getpid()}"
    with socket.socket() as server, socket.socket(socket.AF_UNIX) as hidden:
        server.bind(("127.0.0.1", 0))
        server.listen()
        hidden.bind(name)
        hidden.listen()
        code = (
            "import socket\n"
            f"for family, place in ((2, ('127.0.0.1', {server.getsockname()[1]})), (2, ('10.255.255.1', 80)),"
            f" (1, {name!r})):\n"
            "    s = socket.socket(family)\n"
            "    s.settimeout(5)\n"
            "    print('no' if s.connect_ex(place) else 'connected')\n"
        )
        assert labs.shell(f"python3 - <<'E'\n{code}E").stdout == "no\nno\nno\n"


@needs_bubblewrap
def test_the_home_and_other_folders_are_not_there(labs: Labs) -> None:
    (labs.root.parent / "private").write_text("HOME SECRET", encoding="utf-8")
    assert "HOME SECRET" not in labs.shell(f"cat {labs.root.parent}/private ~/private; ls ~").stdout


@needs_bubblewrap
def test_no_link_or_pipe_can_be_made_to_lead_a_file_tool_astray(labs: Labs) -> None:
    own = labs.workspace()
    done = labs.shell(
        "cd .autolab/workspaces/t1; ln -s ../../../evaluate.py a; ln ../../../evaluate.py b; mkfifo c;"
        " python3 -c \"import os; os.symlink('/', 'd')\"; ln -s x /tmp/e; mv /tmp/e e"
    )
    assert done.stdout.count("Operation not permitted") >= 3
    assert not [path for path in own.iterdir() if path.is_symlink() or path.name in "abcde"]


@needs_bubblewrap
def test_no_process_outlives_its_command(labs: Labs) -> None:
    tag = f"86{os.getpid()}"
    labs.shell(f"sleep {tag} & nohup setsid sleep {tag} >/dev/null 2>&1 & disown -a; (sleep {tag} &)")
    assert not running(f"sleep\0{tag}")


@needs_bubblewrap
def test_a_command_that_is_aborted_takes_its_processes_and_scripts_along(labs: Labs, tmp_path: Path) -> None:
    tag = f"87{os.getpid()}"
    process = subprocess.Popen(
        [labs.pack / "scripts" / "guard_shell.py", "-c", f"echo up; sleep {tag}"],
        cwd=labs.root,
        env=labs.environment("worker", "ses_a"),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.read() == b""  # until every process that holds it is gone
    process.wait()
    assert not running(f"sleep\0{tag}")
    process.stdout.close()


@needs_bubblewrap
def test_nothing_is_left_in_the_temporary_folder(labs: Labs) -> None:
    before = set(os.listdir("/tmp"))
    labs.shell("echo x > /tmp/mine; true && scripts/trial.py status")
    assert not [name for name in set(os.listdir("/tmp")) - before if name == "mine"]


@needs_bubblewrap
def test_a_file_cannot_fill_the_disk(labs: Labs) -> None:
    done = labs.shell("cd .autolab/workspaces/t1; truncate -s 1G big; stat -c %s big; rm -f big")
    assert "1073741824" not in done.stdout


@needs_bubblewrap
def test_processes_are_limited(labs: Labs) -> None:
    """For root the kernel counts none; for everybody else this limit holds."""
    done = labs.shell("bash -c 'ulimit -Hu'")
    assert 0 < int(done.stdout.split()[0]) <= 1024


@needs_bubblewrap
def test_a_role_forged_inside_changes_nothing(labs: Labs) -> None:
    done = labs.shell(
        "export AUTOLAB_ROLE=lab AUTOLAB_SESSION=ses_b AUTOLAB_TRIAL=t2; scripts/lab.py start;"
        " scripts/trial.py status; ../pack/scripts/guard_shell.py -c 'echo > .autolab/workspaces/t2/train.py'"
    )
    assert "[refused] worker may not run 'scripts/lab.py start'" in done.stdout
    assert '"AUTOLAB_SESSION": "ses_a"' in done.stdout
    assert '"AUTOLAB_ROLE": "worker"' in done.stdout


@needs_bubblewrap
def test_the_bridge_inside_runs_nothing_but_what_the_role_may(labs: Labs) -> None:
    asked = [
        {"script": "lab.py", "argv": ["start"]},
        {"script": "publish.py", "argv": ["push"]},
        {"script": "guard_shell.py", "argv": ["-c", "echo pwned"]},
        {"script": "_bridge.py", "argv": []},
        {"script": "../../lab/train.py", "argv": []},
        {"script": "/bin/sh", "argv": ["-c", "echo pwned"]},
        {"script": "trial.py", "argv": ["status; echo pwned > evaluate.py"]},
        {"script": "trial.py", "argv": ["status", "-C", ".autolab/workspaces/t1"]},
        {"script": "trial.py", "argv": ["status", "-C/etc"]},
        {
            "script": "trial.py",
            "argv": ["status"],
            "role": "lab",
            "env": {"AUTOLAB_ROLE": "lab"},
            "cwd": "/etc",
        },
    ]
    code = (
        "import json, os, socket\n"
        f"for request in json.loads({json.dumps(json.dumps(asked))}):\n"
        "    with socket.socket(socket.AF_UNIX) as s:\n"
        "        s.connect(os.environ['AUTOLAB_BRIDGE'])\n"
        "        s.sendall(json.dumps(request).encode() + b'\\n')\n"
        "        print(json.loads(s.makefile().readline())['stdout'].splitlines()[0])\n"
    )
    lines = labs.shell(f"python3 - <<'E'\n{code}E").stdout.splitlines()
    assert all(line.startswith("[refused] ") for line in lines[:-1]), lines
    last = json.loads(lines[-1])
    assert last["env"]["AUTOLAB_ROLE"] == "worker"
    assert last["cwd"] == str(labs.root)


# The shell: how it is called ----------------------------------------------------------------------------------------


def test_somebody_who_is_no_agent_of_ours_gets_the_ordinary_shell(labs: Labs) -> None:
    done = labs.shell("echo $HF_TOKEN; echo $0 $1", role="")
    assert done.stdout.splitlines()[0] == "hf_very_secret"
    args = [labs.pack / "scripts" / "guard_shell.py", "-c", 'echo "$0-$1"', "name", "first"]
    assert subprocess.check_output(args, env=labs.environment("", "")) == b"name-first\n"


def test_a_command_that_the_user_types_keeps_the_users_aliases(labs: Labs) -> None:
    bashrc = labs.root.parent / ".bashrc"
    bashrc.write_text("alias greet='echo hello'\n", encoding="utf-8")
    done = labs.shell("greet 'a b' $HF_TOKEN", role="", AUTOLAB_TYPED="1")
    assert done.stdout == "hello a b hf_very_secret\n"
    bashrc.unlink()


def test_a_plain_script_needs_no_sandbox(labs: Labs) -> None:
    done = labs.shell("""scripts/trial.py status "a 'b' \\"c\\"" 'd $HOME; `x`' e=f --fail""", PATH="/bin")
    assert json.loads(done.stdout.splitlines()[0])["argv"] == [
        *("status", "a 'b' \"c\"", "d $HOME; `x`", "e=f", "--fail")
    ]
    assert done.returncode == 7


def test_a_plain_script_that_the_role_may_not_run_is_refused_in_one_line(labs: Labs) -> None:
    done = labs.shell("scripts/lab.py start --slots 2")
    assert done.stdout.startswith("[refused] worker may not run 'scripts/lab.py start --slots 2' (mend: ")
    assert (done.stdout.count("\n"), done.returncode) == (1, 1)


WEAK = """
import sys
sys.argv[0] = sys.argv.pop(1)
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
import guard_shell
from autolab.execution import sandbox
sandbox.find_bubblewrap = lambda: None
sys.exit(guard_shell.main(sys.argv[1:]))
"""


def test_without_bubblewrap_single_scripts_run_and_nothing_else(labs: Labs) -> None:
    guard = str(labs.pack / "scripts" / "guard_shell.py")

    def shell(command: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", WEAK, guard, "-c", command],
            cwd=labs.root,
            env=labs.environment("worker", "ses_a"),
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    assert "[ok] ran" in shell("scripts/trial.py status 'a b'")
    for command in (
        "scripts/trial.py status > evaluate.py",
        "scripts/trial.py status; echo > evaluate.py",
        "scripts/trial.py status\necho > evaluate.py",
        "scripts/trial.py $(echo > evaluate.py)",
        "scripts/trial.py `echo > evaluate.py`",
        'scripts/trial.py "$(echo > evaluate.py)"',
        "X=1 scripts/trial.py status",
        "scripts/trial.py status & echo",
        "scripts/trial.py 'unended",
        "./evaluate.py",
        "../lab/scripts/trial.py status",
        "echo hello",
        "",
    ):
        answer = shell(command)
        assert answer.startswith("[refused] without bubblewrap"), command
        assert answer.count("\n") == 1


def test_a_home_or_a_whole_machine_is_no_lab(labs: Labs) -> None:
    for root in ("/", str(labs.root.parent)):
        done = labs.shell("ls", cwd=Path(root), AUTOLAB_LAB=root)
        assert done.stdout.startswith(f"[refused] {root} cannot be a lab")


def test_a_command_elsewhere_than_in_the_lab_is_refused(labs: Labs) -> None:
    assert labs.shell("true && ls", cwd=labs.pack).stdout.startswith(
        f"[refused] {labs.pack} lies outside the lab"
    )


def test_the_engine_of_the_command_line_is_found_where_no_interpreter_is_named(
    labs: Labs, tmp_path: Path
) -> None:
    pack = make_pack(tmp_path / "pack")
    (pack / "engine").unlink()
    (tmp_path / "autolab").write_text(f"#!{sys.executable}\nimport autolab\n", encoding="utf-8")
    (tmp_path / "autolab").chmod(0o755)
    done = Labs(labs.root, pack).shell("scripts/trial.py status", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert "[ok] ran\n" in done.stdout


def test_a_python_without_the_engine_is_told_in_one_line(labs: Labs, tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "pack")
    (pack / "engine").write_text("/usr/bin/python3\n", encoding="utf-8")
    done = Labs(labs.root, pack).shell("ls")
    assert done.stdout.startswith("[refused] the lab's engine is not installed for /usr/bin/python3 (mend: ")
