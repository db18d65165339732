"""The sandbox: what a program inside can see, read and write, and how the mode is chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from measuring import EVALUATE, HONEST, Bundle, needs_bubblewrap

from autolab.execution import sandbox


def inside(tmp_path: Path, code: str, **spec: Any) -> Any:
    """What `code`, which sets `found`, finds in a training sandbox."""
    train = f"import os, json\n{code}\nprint('FOUND' + json.dumps(found))\n" + HONEST
    bundle = Bundle(tmp_path / "b", train, "bubblewrap", **spec)
    result = bundle.measure()
    assert result["status"] == "ok", result
    return json.loads(bundle.log().split("FOUND")[1].splitlines()[0])


@needs_bubblewrap
def test_it_sees_the_system_python_and_its_folders_only(tmp_path: Path) -> None:
    top = set(inside(tmp_path, "found = os.listdir('/')"))
    python = {Path(home).parts[1] for home in (sys.prefix, sys.base_prefix)}
    assert top <= {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"} | {
        *("dev", "proc", "tmp", "lab"),
        *python,
    }
    assert inside(tmp_path / "2", "found = sorted(os.listdir('/lab'))") == ["artifact", "clock", "workspace"]


@needs_bubblewrap
def test_it_is_nobody_without_rights_on_a_nameless_host(tmp_path: Path) -> None:
    code = (
        "status = open('/proc/self/status').read()\n"
        "found = [os.getuid(), os.getgid(), os.uname().nodename,"
        " [line.split()[1] for line in status.splitlines() if line.startswith(('CapEff', 'CapPrm'))]]"
    )
    assert inside(tmp_path, code) == [65534, 65534, "lab", ["0" * 16, "0" * 16]]


@needs_bubblewrap
def test_it_sees_its_own_processes_only(tmp_path: Path) -> None:
    code = (
        "found = {p: [open(f'/proc/{p}/environ').read(), open(f'/proc/{p}/cmdline').read()]"
        " for p in os.listdir('/proc') if p.isdigit()}"
    )
    found = inside(tmp_path, code, secret="c0ffee")
    assert len(found) == 2  # the namespace's init, and itself
    text = json.dumps(found)
    assert "c0ffee" not in text
    assert str(tmp_path) not in text


@needs_bubblewrap
def test_only_the_artifact_the_clock_and_small_folders_can_be_written(tmp_path: Path) -> None:
    code = """
def can(path):
    try:
        open(path + '/probe', 'w').close()
        return True
    except OSError:
        return False
folders = [folder for folder, _, _ in os.walk('/lab')] + [
    '/', '/dev', '/etc', '/usr', '/usr/bin', '/proc', '/proc/self', os.path.dirname(os.__file__),
    '/tmp', '/dev/shm']
found = [folder for folder in folders if can(folder)]
"""
    found = inside(tmp_path, code)
    assert sorted(found) == ["/dev/shm", "/lab/artifact", "/lab/clock", "/tmp"]


@needs_bubblewrap
def test_it_cannot_change_settings_of_the_machine(tmp_path: Path) -> None:
    # Opening is enough to know; nothing is written, in case it can be.
    code = """
found = []
for folder, folders, files in os.walk('/proc/sys'):
    folders[:] = [name for name in folders if folder != '/proc/sys' or name in ('kernel', 'vm')]
    for name in files:
        try:
            os.close(os.open(os.path.join(folder, name), os.O_WRONLY))
            found.append(os.path.join(folder, name))
        except OSError:
            pass
"""
    assert inside(tmp_path, code) == []


@needs_bubblewrap
def test_it_cannot_make_namespaces_of_its_own(tmp_path: Path) -> None:
    code = "import ctypes\nfound = ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER"
    assert inside(tmp_path, code) == -1


@needs_bubblewrap
def test_memory_folders_are_small(tmp_path: Path) -> None:
    code = """
def room(path):
    info = os.statvfs(path)
    return info.f_blocks * info.f_frsize
found = [room('/tmp'), room('/dev/shm')]
"""
    assert max(inside(tmp_path, code)) <= sandbox.TMP_BYTES


@needs_bubblewrap
def test_the_scorer_sees_the_artifact_read_only_and_no_data_or_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "heldout").mkdir()
    scorer = """
    assert sorted(os.listdir('/lab')) == ['artifact', 'workspace'], os.listdir('/lab')
    assert os.getcwd() == '/lab/workspace' and os.listdir() != []
    seen = ''.join(open(f'/proc/{p}/{f}').read() for p in ('1', 'self') for f in ('environ', 'cmdline'))
    assert '5ec7e7' not in seen and 'heldout' not in seen and 'HF_' not in seen, seen
    for path in ('/lab/artifact/weights', '/lab/workspace/train.py'):
        try:
            open(path, 'a')
            raise SystemExit('writable: ' + path)
        except OSError:
            pass
"""
    evaluate = EVALUATE.replace('if "--scorer" in sys.argv:\n', 'if "--scorer" in sys.argv:' + scorer)
    bundle = Bundle(tmp_path / "b", HONEST, "bubblewrap", evaluate=evaluate, data=str(data))
    assert bundle.measure(env={**os.environ, "HF_TOKEN": "hf_x"})["status"] == "ok", bundle.log()


@needs_bubblewrap
def test_each_scorer_is_fresh(tmp_path: Path) -> None:
    scorer = "\n    assert 'memory' not in os.listdir('/tmp')\n    open('/tmp/memory', 'w').write('x')\n"
    evaluate = EVALUATE.replace('if "--scorer" in sys.argv:\n', 'if "--scorer" in sys.argv:' + scorer)
    evaluate = evaluate.replace("done =", "subprocess.run(argv, check=True, capture_output=True)\ndone =")
    assert Bundle(tmp_path / "b", HONEST, "bubblewrap", evaluate=evaluate).measure()["status"] == "ok"


@needs_bubblewrap
def test_an_overlay_hides_a_system_file_in_both_sandboxes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "hidden").write_text("raise SystemExit('hidden')")
    target = os.path.realpath(os.path.join(os.path.dirname(os.__file__), "colorsys.py"))
    spelled = os.path.join(os.path.dirname(os.__file__), "colorsys.py")
    (data / "overlay.json").write_text(json.dumps([[target, "hidden"]]))
    look = f"open({spelled!r}).read() == \"raise SystemExit('hidden')\""
    evaluate = EVALUATE.replace(
        'if "--scorer" in sys.argv:\n', f'if "--scorer" in sys.argv:\n    assert {look}\n'
    )
    bundle = Bundle(
        tmp_path / "b", f"assert {look}\n" + HONEST, "bubblewrap", evaluate=evaluate, data=str(data)
    )
    result = bundle.measure()
    assert result["status"] == "ok", bundle.log()


@needs_bubblewrap
def test_an_interpreter_behind_links_works(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "env").symlink_to(sys.prefix)
    python = tmp_path / "opt" / "env" / "bin" / "python"
    assert inside(tmp_path, "found = 1", python=str(python)) == 1
    (tmp_path / "python").symlink_to(python)
    assert inside(tmp_path / "2", "found = 1", python=str(tmp_path / "python")) == 1


def test_a_folder_inside_the_installation_cannot_be_hidden(tmp_path: Path) -> None:
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    (env / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix, 'bin')}\n")
    (env / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    with pytest.raises(sandbox.SandboxError, match="move it elsewhere"):
        sandbox.arguments(
            python=str(env / "bin" / "python"),
            workspace="/w",
            artifact="/a",
            artifact_writable=True,
            overlay=[],
            hidden=[str(env / "data")],
        )


def test_a_home_folder_is_not_taken_for_an_installation(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with pytest.raises(sandbox.SandboxError, match="does not look like"):
        sandbox.python_binds(str(program))


@pytest.mark.parametrize("text", ["{", "[1]", '[["relative", "x"]]', '[["/usr/x", "missing"]]'])
def test_a_wrong_overlay_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "overlay.json").write_text(text)
    with pytest.raises(sandbox.SandboxError, match=r"overlay\.json"):
        sandbox.read_overlay(str(tmp_path))


def test_available_says_why_not_and_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: None)
    mode, reason = sandbox._probe()
    assert (mode, "apt install bubblewrap" in reason) == ("none", True)
    fake = tmp_path / "bwrap"
    for message, mend in (
        ("No permissions to create new namespace", "user namespaces"),
        ("Unknown option --disable-userns", "0.8"),
    ):
        fake.write_text(f"#!/bin/sh\necho 'bwrap: {message}' >&2\nexit 1\n")
        fake.chmod(0o755)
        monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: str(fake))
        mode, reason = sandbox._probe()
        assert mode == "none"
        assert message in reason
        assert mend in reason
        assert "\n" not in reason


def test_the_probe_agrees_with_reality() -> None:
    mode, reason = sandbox.available()
    if sandbox.find_bubblewrap() is None:
        assert mode == "none"
    done = subprocess.run(["bwrap", "--version"], capture_output=True) if mode == "bubblewrap" else None
    assert done is None or done.returncode == 0, reason
