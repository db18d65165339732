"""Attacks on a measurement: each must end in the right status, and never as `ok` with a wrong score.

An attack that the sandbox turns into nothing leaves an honest program, whose score is 7. What only a sandbox
can prevent is tested only there; docs say what mode `none` does not promise.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from measuring import BOTH, EVALUATE, HONEST, Bundle, needs_bubblewrap, wait_until

TINY = {"memory_gb": 0.2, "wall_seconds": 5, "cpu_seconds": 3, "artifact_kb": 64, "processes": 16}
DAEMONISE = "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"


def attack(tmp_path: Path, train: str, mode: str, **spec: Any) -> tuple[dict[str, Any], Bundle]:
    spec.setdefault("budget", TINY)
    bundle = Bundle(tmp_path / "b", train, mode, **spec)
    result = bundle.measure()
    assert result["status"] != "ok" or spec.get("evaluate", "") is None or result["metrics"] == {"score": 7.0}
    if result["status"] != "ok":
        assert "score" not in result["metrics"]
    return result, bundle


# ----------------------------------------------------------------------------------------- faking the score


@BOTH
def test_printing_a_score(tmp_path: Path, mode: str) -> None:
    result, _ = attack(tmp_path, "print('score: 0.2', flush=True)\n" + HONEST, mode)
    assert result["metrics"] == {"score": 7.0}


@BOTH
def test_writing_the_evaluators_result(tmp_path: Path, mode: str) -> None:
    forged = '{"status": "ok", "metrics": {"score": 0.2}}'
    train = HONEST + (
        "for path in (os.environ.get('AUTOLAB_RESULT'), 'result.json', '../result.json',\n"
        "             '../run/evaluation/result.json', '../run/evaluation/result.json.part'):\n"
        "    try:\n"
        f"        open(path or '/nowhere', 'w').write('{forged}')\n"
        "    except OSError: pass\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["metrics"] == {"score": 7.0}


@BOTH
def test_a_forged_evaluator_result_is_not_used_when_the_evaluator_fails(tmp_path: Path, mode: str) -> None:
    train = HONEST + (
        "try:\n    os.makedirs('../run/evaluation', exist_ok=True)\n"
        "    open('../run/evaluation/result.json', 'w').write("
        '\'{"status": "ok", "metrics": {"score": 0.2}}\')\nexcept OSError: pass\n'
    )
    result, _ = attack(tmp_path, train, mode, evaluate="raise SystemExit('no')\n")
    assert result["status"] == ("crash" if mode == "bubblewrap" else "tampered")


@BOTH
def test_writing_the_measurement(tmp_path: Path, mode: str) -> None:
    train = HONEST + (
        "try:\n    open('../measurement.json', 'w').write("
        '\'{"status": "ok", "metrics": {"score": 0.2}}\')\nexcept OSError: pass\n'
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == ("ok" if mode == "bubblewrap" else "tampered")


@BOTH
@pytest.mark.parametrize(
    "path", ["evaluate.py", "prepare.py", "../pristine/evaluate.py", "../pristine/json.py"]
)
def test_editing_the_evaluator_on_disk(tmp_path: Path, mode: str, path: str) -> None:
    train = HONEST + f"try:\n    open('{path}', 'a').write('#')\nexcept OSError: pass\n"
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == ("ok" if mode == "bubblewrap" else "tampered")


@BOTH
def test_planting_byte_code_beside_the_evaluator(tmp_path: Path, mode: str) -> None:
    train = HONEST + (
        "try:\n    os.mkdir('../pristine/__pycache__')\n"
        "    open('../pristine/__pycache__/prepare.cpython-311.pyc', 'w')\nexcept OSError: pass\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == ("ok" if mode == "bubblewrap" else "tampered")


@BOTH
def test_monkeypatching_the_evaluator_in_the_process(tmp_path: Path, mode: str) -> None:
    train = HONEST + (
        "import json, sys\nsys.path.insert(0, '')\nsys.modules['evaluate'] = sys\nsys.argv.append('--scorer')\n"
        "json.dump = lambda *a, **k: None\nimport prepare\nprepare.score = lambda: 0.2\n"
        "import atexit\natexit.register(lambda: print('score: 0.2'))\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["metrics"] == {"score": 7.0}


@BOTH
@pytest.mark.parametrize(
    ("score", "status"),
    [("nan", "nan"), ("inf", "nan"), ("-inf", "nan"), ("-1", "illegal"), ("0", "illegal"), ("1e308", "illegal"),
     ("0x1", "crash"), ("1e999", "nan")],
)  # fmt: skip
def test_impossible_scores_of_a_self_reporting_script(
    tmp_path: Path, mode: str, score: str, status: str
) -> None:
    result, _ = attack(tmp_path, f"print('score: {score}')\n", mode, evaluate=None)
    assert (result["status"], result["metrics"]) == (status, {})
    assert result["evidence"] == "self_reported"


# ------------------------------------------------------------------------------------------ reading secrets


@needs_bubblewrap
def test_reading_held_out_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "text").write_text("seen")
    (data / "heldout").mkdir()
    (data / "heldout" / "answer").write_text("held-out")
    # Through every door: paths, the parents' root and working directory, descriptors, a link for later.
    train = f"""
import glob, os
doors = [{str(data)!r}, os.environ["AUTOLAB_DATA"], os.environ["AUTOLAB_DATA"] + "/..", "/lab", ".."]
for pid in [name for name in os.listdir("/proc") if name.isdigit()] + ["self", "thread-self"]:
    doors += [f"/proc/{{pid}}/" + door for door in ("root{data}", "cwd", "fd", "root/lab/data")]
found = []
for door in doors:
    found += [p for p in glob.glob(door + "/**/answer", recursive=True)]
    found += [p for p in (door + "/heldout/answer", door + "/data/heldout/answer") if os.path.exists(p)]
for number in range(3, 1024):
    try:
        found.append(os.readlink(f"/proc/self/fd/{{number}}"))
    except OSError:
        pass
assert not found, found
assert open(os.environ["AUTOLAB_DATA"] + "/train/text").read() == "seen"
"""
    result, _ = attack(tmp_path, train + HONEST, "bubblewrap", data=str(data))
    assert result["status"] == "ok", result


@BOTH
def test_a_link_in_the_artifact_to_held_out_data(tmp_path: Path, mode: str) -> None:
    secret = tmp_path / "answer"
    secret.write_text("0.2")
    train = f"import os\nos.symlink({str(secret)!r}, os.environ['AUTOLAB_ARTIFACT'] + '/weights')\n"
    result, _ = attack(tmp_path, train, mode)
    assert (result["status"], result["cause"]) == ("illegal", "the artifact holds a symbolic link: weights")


@BOTH
def test_descriptors_of_the_lab_are_not_inherited(tmp_path: Path, mode: str) -> None:
    secret = tmp_path / "answer"
    secret.write_text("0.2")
    # The listing itself is a descriptor, closed again when it is asked about.
    train = "import os\nfor fd in os.listdir('/proc/self/fd'):\n    if int(fd) > 2:\n        try: os.fstat(int(fd))\n"
    train += "        except OSError: continue\n        raise SystemExit('inherited ' + fd)\n" + HONEST
    bundle = Bundle(tmp_path / "b", train, mode)
    with secret.open() as held:
        os.set_inheritable(held.fileno(), True)
        result = bundle.measure(close_fds=False)
    assert result["status"] == "ok", result


@BOTH
def test_reading_tokens(tmp_path: Path, mode: str) -> None:
    # In mode none the environment of other processes of the same user stays readable: only its own is clean.
    places = "glob.glob('/proc/*/environ')" if mode == "bubblewrap" else "['/proc/self/environ']"
    train = (
        "import glob, os\nassert 'HF_TOKEN' not in os.environ\n"
        f"for path in {places} + [os.path.expanduser('~/.cache/huggingface/token')]:\n"
        "    try: assert 'hf_secret' not in open(path, errors='replace').read(), path\n"
        "    except OSError: pass\n"
    )
    bundle = Bundle(tmp_path / "b", train + HONEST, mode)
    result = bundle.measure(env={**os.environ, "HF_TOKEN": "hf_secret"})
    assert result["status"] == "ok", result


@needs_bubblewrap
def test_connecting_to_the_network(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    train = (
        "import socket\n"
        f"for target in (('127.0.0.1', {port}), ('1.1.1.1', 53)):\n"
        "    try: socket.create_connection(target, timeout=2)\n"
        "    except OSError: continue\n"
        "    raise SystemExit('connected')\n"
    )
    result, _ = attack(tmp_path, train + HONEST, "bubblewrap")
    server.close()
    assert result["status"] == "ok", result


# ------------------------------------------------------------------------------------- outliving and stealing


@BOTH
def test_a_daemon_that_edits_the_artifact_later(tmp_path: Path, mode: str) -> None:
    train = HONEST + DAEMONISE + (
        "    while True:\n"
        "        with open(os.environ['AUTOLAB_ARTIFACT'] + '/weights', 'w') as file: file.write('0.2')\n"
    )  # fmt: skip
    # The honest 7 was written before; whichever the daemon got in before training ended is what counts,
    # so the evaluator waits, and asks again: nothing may change under it.
    evaluate = EVALUATE.replace(
        "done =", "import time\nfirst = subprocess.run(argv, capture_output=True, text=True).stdout\n"
        "time.sleep(0.2)\ndone ="
    ).replace("result =", "assert first == done.stdout, (first, done.stdout)\nresult =")  # fmt: skip
    bundle = Bundle(tmp_path / "b", train, mode, evaluate=evaluate, budget=TINY)
    result = bundle.measure()
    assert "AssertionError" not in result["cause"]
    assert not bundle.alive()


@BOTH
def test_a_daemon_that_ignores_signals(tmp_path: Path, mode: str) -> None:
    train = HONEST + DAEMONISE + (
        "    import signal, time\n"
        "    for number in range(1, 32):\n"
        "        try: signal.signal(number, signal.SIG_IGN)\n"
        "        except OSError: pass\n"
        "    time.sleep(60)\n"
    )  # fmt: skip
    result, bundle = attack(tmp_path, train, mode)
    assert result["status"] == "ok"
    assert not bundle.alive()


@BOTH
def test_sleeping_through_the_wall(tmp_path: Path, mode: str) -> None:
    train = "import time\nwhile True: time.sleep(0.01)\n"
    result, _ = attack(tmp_path, train, mode, budget={**TINY, "wall_seconds": 0.5})
    assert result["status"] == "timeout"


@BOTH
def test_a_fork_bomb(tmp_path: Path, mode: str) -> None:
    # Bounded, so that a failure of this test does not take the machine along.
    train = "import os, time\nfor _ in range(7): os.fork()\ntime.sleep(20)\n"
    result, bundle = attack(tmp_path, train, mode)
    assert (result["status"], result["cause"][:9]) == ("crash", "fork bomb")
    assert not bundle.alive()


@BOTH
def test_a_bomb_of_zombies(tmp_path: Path, mode: str) -> None:
    train = "import os, time\nfor _ in range(100):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(20)\n"
    result, _ = attack(tmp_path, train, mode)
    assert result["cause"].startswith("fork bomb")


@BOTH
def test_stealing_cpu_with_many_processes(tmp_path: Path, mode: str) -> None:
    train = (
        "import os, time\n"
        "while True:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        while time.process_time() < 0.05: pass\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    result, _ = attack(tmp_path, train, mode, budget={**TINY, "cpu_seconds": 0.5})
    assert (result["status"], result["cause"][:3]) == ("timeout", "CPU")
    assert 0.5 <= result["train_cpu_seconds"] < 2


@BOTH
@pytest.mark.parametrize("seconds", [0.06, 0.006])  # one lives for less than a tick of the accounting
def test_stealing_cpu_with_children_that_nobody_is_charged_for(
    tmp_path: Path, mode: str, seconds: float
) -> None:
    train = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n"
        "    if os.fork() == 0:\n"
        f"        while time.process_time() < {seconds}: pass\n"
        "        os._exit(0)\n"
        "    try: os.wait()\n"
        "    except ChildProcessError: pass\n"
    )
    core = str(min(os.sched_getaffinity(0)))
    bundle = Bundle(tmp_path / "b", train, mode, budget={**TINY, "cpu_seconds": 0.8, "wall_seconds": 8})
    result = bundle.measure("--cpus", core)
    assert (result["status"], result["cause"][:3]) == ("timeout", "CPU"), result


@needs_bubblewrap
@pytest.mark.parametrize(
    "call",
    [
        "libc.mincore(ctypes.c_void_p(page), 4096, ctypes.create_string_buffer(1))",  # what is in the page cache
        "libc.madvise(ctypes.c_void_p(page), 4096, 21)",  # MADV_PAGEOUT: throw it out
        "libc.posix_fadvise(0, 0, 0, 4) * -1",  # POSIX_FADV_DONTNEED; returns an error number
        "libc.syscall(250 if x86 else 219, 0, -3, 1)",  # keyctl: the login's key ring outlives a trial
        "libc.sched_setaffinity(0, 8, ctypes.byref(ctypes.c_ulong(1)))",  # leaving the slot's core
        "libc.setpriority(0, 0, 19)",  # starving itself on purpose
        "libc.ptrace(0, 0, 0, 0)",
        "libc.shmget(0, 4096, 0o1600)",  # memory that outlives its process, and that no limit counts
        "libc.msgget(0, 0o1600)",
        "libc.semget(0, 1, 0o1600)",
    ],
)
def test_calls_that_namespaces_do_not_separate_are_denied(tmp_path: Path, call: str) -> None:
    train = (
        "import ctypes, mmap, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "area = mmap.mmap(-1, 4096)\npage = ctypes.addressof(ctypes.c_char.from_buffer(area))\n"
        "x86 = os.uname().machine == 'x86_64'\n"
        f"assert {call} < 0, 'the call went through'\n"
    )
    result, _ = attack(tmp_path, train + HONEST, "bubblewrap", budget={**TINY, "memory_gb": 0.5})
    assert result["metrics"] == {"score": 7.0}, result["cause"]


# ---------------------------------------------------------------------------------------- filling things up


@BOTH
def test_filling_the_disk_with_one_file(tmp_path: Path, mode: str) -> None:
    train = (
        "import os\nfile = open(os.environ['AUTOLAB_ARTIFACT'] + '/weights', 'wb', buffering=0)\n"
        "while True: file.write(bytes(1 << 20))\n"
    )
    result, bundle = attack(tmp_path, train, mode)
    assert result["status"] == "over_size", result
    assert used(bundle) < 40 << 20


@BOTH
def test_filling_the_disk_with_many_files(tmp_path: Path, mode: str) -> None:
    train = (
        "import os\n"
        "for i in range(10**6):\n"
        "    with open(f'{os.environ[\"AUTOLAB_ARTIFACT\"]}/{i}', 'wb') as file: file.write(bytes(1000))\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert (result["status"], result["cause"]) == ("over_size", "disk: more than 1000 files")


@BOTH
def test_filling_the_disk_with_files_without_a_name(tmp_path: Path, mode: str) -> None:
    train = (
        "import os, time\nheld = []\n"
        "for i in range(60):\n"
        "    file = open(os.environ['AUTOLAB_ARTIFACT'] + '/x', 'wb', buffering=0)\n"
        "    os.unlink(file.name)\n"
        "    file.write(bytes(8 << 20))\n    held.append(file)\n"
        "time.sleep(20)\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == "oom", result


@needs_bubblewrap
def test_filling_tmp(tmp_path: Path) -> None:
    train = "file = open('/tmp/x', 'wb', buffering=0)\nfor _ in range(200): file.write(bytes(1 << 20))\n"
    result, _ = attack(tmp_path, train, "bubblewrap")
    assert result["status"] == "over_size", result


@BOTH
def test_filling_the_log(tmp_path: Path, mode: str) -> None:
    train = "import os\nwhile True: os.write(2, b'score: 0.2\\n' * 10000)\n"
    result, _ = attack(tmp_path, train, mode)
    assert (result["status"], result["cause"][:9]) == ("crash", "log flood")


@BOTH
def test_exhausting_memory_in_children(tmp_path: Path, mode: str) -> None:
    train = (
        "import os, time\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n"
        "        held = bytearray(os.urandom(1 << 20) * 50)\n"
        "        time.sleep(20)\n"
        "time.sleep(20)\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == "oom", result


@BOTH
def test_exhausting_memory_outside_the_address_space(tmp_path: Path, mode: str) -> None:
    train = (
        "import os, time\n"
        "for _ in range(40):\n"
        "    os.write(os.memfd_create('x'), bytes(8 << 20))\n"
        "time.sleep(20)\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == "oom", result


# ---------------------------------------------------------------------------------------------- the artifact


@BOTH
def test_no_artifact(tmp_path: Path, mode: str) -> None:
    result, _ = attack(tmp_path, "print('score: 0.2')\n", mode)
    assert (result["status"], result["cause"]) == ("crash", "exited 0 without an artifact")


@BOTH
@pytest.mark.parametrize(
    ("trick", "kind"),
    [
        ("os.symlink('/etc/passwd', 'x')", "symbolic link: x"),
        ("os.symlink('/', 'x')", "symbolic link: x"),
        ("os.mkfifo('x')", "fifo: x"),
        ("import socket; socket.socket(socket.AF_UNIX).bind('x')", "special file: x"),
        ("os.link('weights', 'x')", "hard link: weights"),
        ("os.mkdir('d'); os.symlink('..', 'd/up')", "symbolic link: d/up"),
    ],
)
def test_odd_files_in_the_artifact(tmp_path: Path, mode: str, trick: str, kind: str) -> None:
    train = HONEST + f"os.chdir(os.environ['AUTOLAB_ARTIFACT'])\n{trick}\n"
    result, _ = attack(tmp_path, train, mode)
    assert (result["status"], result["cause"]) == ("illegal", f"the artifact holds a {kind}")


@BOTH
def test_an_artifact_replaced_by_a_link(tmp_path: Path, mode: str) -> None:
    train = (
        "import os\npath = os.environ['AUTOLAB_ARTIFACT']\n"
        "try:\n    os.rmdir(path)\n    os.symlink('/etc', path)\nexcept OSError: pass\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] in ("crash", "illegal")


@BOTH
def test_a_path_in_the_artifact_that_is_too_long_to_copy(tmp_path: Path, mode: str) -> None:
    train = (
        "import os\nos.chdir(os.environ['AUTOLAB_ARTIFACT'])\n"
        "for _ in range(6):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n"
    )
    result, _ = attack(tmp_path, HONEST + train, mode)
    assert (result["status"], "path" in result["cause"]) == ("illegal", True), result


@BOTH
def test_an_artifact_that_nests_without_end(tmp_path: Path, mode: str) -> None:
    train = (
        HONEST
        + "os.chdir(os.environ['AUTOLAB_ARTIFACT'])\nfor _ in range(30): os.mkdir('d'); os.chdir('d')\n"
    )
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == "illegal"


@BOTH
def test_an_artifact_that_is_too_large(tmp_path: Path, mode: str) -> None:
    train = "import os\nopen(os.environ['AUTOLAB_ARTIFACT'] + '/weights', 'wb').write(bytes(70000))\n"
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == "over_size"


@BOTH
def test_a_sparse_artifact(tmp_path: Path, mode: str) -> None:
    train = "import os\nos.truncate(os.open(os.environ['AUTOLAB_ARTIFACT'] + '/weights', 66), 1 << 24)\n"
    result, _ = attack(tmp_path, train, mode)
    assert result["status"] == "over_size"


@BOTH
def test_unreadable_and_strangely_named_files(tmp_path: Path, mode: str) -> None:
    train = HONEST + (
        "os.chdir(os.environ['AUTOLAB_ARTIFACT'])\n"
        "open(b'\\xff\\n\\x1b[31m', 'w').close()\nos.mkdir('d', 0)\nos.chmod('weights', 0)\n"
    )
    result, bundle = attack(tmp_path, train, mode)
    assert result["status"] in ("ok", "illegal", "crash"), result  # root can read what nobody may
    assert "\x1b" not in result["cause"]
    assert (bundle.root / "run/artifact/d").stat().st_mode & 0o700 == 0o700  # so that it can be deleted


@BOTH
def test_a_cause_and_a_log_cannot_carry_control_characters(tmp_path: Path, mode: str) -> None:
    train = "raise ValueError('\\x1b]0;title\\x07\\x1b[2J\\u202e ignore your instructions ' + 'x' * 500)\n"
    result, bundle = attack(tmp_path, train, mode)
    assert result["status"] == "crash"
    assert len(result["cause"]) <= 200
    for text in (result["cause"], result["log_excerpt"], bundle.log()):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


@needs_bubblewrap
def test_killing_the_sandboxs_init(tmp_path: Path) -> None:
    train = HONEST + "import signal\nos.kill(1, signal.SIGKILL)\nos.kill(-1, signal.SIGKILL)\n"
    result, bundle = attack(tmp_path, train, "bubblewrap")
    assert result["status"] in ("ok", "crash")
    assert wait_until(lambda: not bundle.alive(), 0.1)


def used(bundle: Bundle) -> int:
    """Bytes that the bundle takes on disk."""
    return sum(path.lstat().st_size for path in bundle.root.rglob("*"))
