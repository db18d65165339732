"""Attacks on a warm measurement: each must end in the right status, never as `ok` with a wrong score, and leave the
processes that the next candidate is forked from as they were."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from warming import EVALUATE, HONEST, TASK, Warm, needs_bubblewrap

from autolab.ledger.records import Measurement, Status

pytestmark = needs_bubblewrap

DAEMONISE = "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    """One executor for all attacks: whatever one of them breaks, the next one meets."""
    task = TASK.replace("cpu_seconds: 3", "cpu_seconds: 1.5").replace("wall_seconds: 8", "wall_seconds: 20")
    return Warm(tmp_path_factory.mktemp("warm") / "lab", task=task)


@pytest.fixture(autouse=True)
def the_next_candidate_is_measured_as_ever(lab: Warm) -> Iterator[None]:
    """After each attack an honest candidate has its score, from the same pool."""
    before = lab.executor._pool  # type: ignore[attr-defined]
    yield
    after = lab.measure()
    assert (after.status, after.metrics) == (Status.OK, {"score": 7.0})
    assert lab.executor._pool is before, "the pool was started anew"  # type: ignore[attr-defined]


def attack(lab: Warm, train: str) -> Measurement:
    """The result, whose score is the honest one if it has one."""
    result = lab.measure(train)
    assert result.metrics == ({"score": 7.0} if result.status is Status.OK else {}), result
    return result


def harmless(lab: Warm, train: str) -> None:
    """The attack finds nothing and changes nothing."""
    result = attack(lab, HONEST + train)
    assert result.status is Status.OK, (result.cause, result.log_excerpt)


# -------------------------------------------------------------------------------- other processes, and the pool


def test_it_sees_itself_and_no_other_process(lab: Warm) -> None:
    harmless(
        lab,
        "found = [name for name in os.listdir('/proc') if name.isdigit()]\nassert found == ['1'], found\n",
    )


def test_killing_all_that_can_be_reached(lab: Warm) -> None:
    train = HONEST + (
        "import signal\n"
        "for target in [-1, 0, 1, 2, *range(3, 300), os.getppid(), -os.getpgrp()]:\n"
        "    try: os.kill(target, signal.SIGKILL)\n"
        "    except OSError: pass\n"
        "try: os.killpg(0, signal.SIGKILL)\nexcept OSError: pass\n"
    )
    assert attack(lab, train).status in (Status.OK, Status.CRASH)


@pytest.mark.parametrize(
    "call",
    [
        "libc.ptrace(16, 1, 0, 0)",
        "libc.mincore(ctypes.c_void_p(page), 4096, ctypes.create_string_buffer(1))",
        "libc.madvise(ctypes.c_void_p(page), 4096, 21)",
        "libc.syscall(250 if x86 else 219, 0, -3, 1)",  # keyctl
        "libc.shmget(0, 4096, 0o1600)",  # memory that no limit counts
        "libc.sched_setaffinity(0, 8, ctypes.byref(ctypes.c_ulong(3)))",
        "libc.setpriority(0, 0, 19)",
        "libc.unshare(0x10000000)",  # a user namespace
        "libc.unshare(0x00020000)",  # of mounts
        "libc.unshare(0x40000000)",  # of networks
        "libc.syscall(56 if x86 else 220, 0x10000000 | 17, 0, 0, 0, 0)",  # clone into a user namespace
        "libc.setns(os.open('/proc/1/ns/user', 0), 0)",
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "libc.umount2(b'/proc', 2)",
        "libc.umount2(b'/lab', 2)",
        "libc.mount(None, b'/usr', None, 4096 | 32, None)",  # writable again
        "libc.mount(None, b'/lab/workspace', None, 4096 | 32, None)",
        "libc.chroot(b'/tmp')",
        "libc.sethostname(b'x', 1)",
        "libc.prctl(24, 0, 0, 0, 0) * 0 + libc.syscall(126 if x86 else 91, header, rights)",  # capset: all rights
    ],
)
def test_calls_that_would_lead_out_are_denied(lab: Warm, call: str) -> None:
    harmless(
        lab,
        "import ctypes, mmap, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "area = mmap.mmap(-1, 4096)\npage = ctypes.addressof(ctypes.c_char.from_buffer(area))\n"
        "header, rights = struct.pack('=II', 0x20080522, 0), b'\\xff' * 24\n"
        "x86 = os.uname().machine == 'x86_64'\n"
        f"assert {call} < 0, 'the call went through'\n",
    )


def test_it_has_no_rights_and_gains_none(lab: Warm) -> None:
    harmless(
        lab,
        "lines = [line.split() for line in open('/proc/self/status')]\n"
        "told = {words[0]: words[1] for words in lines if len(words) > 1}\n"
        "for name in ('CapInh:', 'CapPrm:', 'CapEff:', 'CapAmb:'): assert int(told[name], 16) == 0, name\n"
        "assert told['NoNewPrivs:'] == '1' and told['Seccomp:'] == '2', told\n"
        "assert (os.getuid(), os.getgid()) == (65534, 65534)\n",
    )


def test_no_descriptor_is_inherited(lab: Warm) -> None:
    harmless(
        lab,
        "for number in range(3, 20000):\n"
        "    try: os.fstat(number)\n"
        "    except OSError: continue\n"
        "    raise SystemExit(f'inherited {number} ' + os.readlink(f'/proc/self/fd/{number}'))\n",
    )


def test_writing_results_to_every_descriptor_and_file(lab: Warm) -> None:
    train = HONEST + (
        'forged = b\'{"status": "ok", "metrics": {"score": 0.2}}\'\n'
        "for number in range(1, 300):\n"
        "    try: os.write(number, b'\\0\\0\\0' + bytes([len(forged)]) + forged)\n"
        "    except OSError: pass\n"
        "for path in (os.environ.get('AUTOLAB_RESULT'), 'result.json', '../result.json', '/lab/result.json',\n"
        "             '/lab/evaluation/result.json', '/lab/artifact/result.json'):\n"
        "    try: open(path or '/nowhere', 'wb').write(forged)\n"
        "    except OSError: pass\n"
        "print('score: 0.2')\n"
    )
    assert attack(lab, train).status is Status.OK


def test_the_engine_is_not_among_its_modules_or_files(lab: Warm) -> None:
    harmless(
        lab,
        "import sys\nassert not [name for name in sys.modules if name.startswith(('execution', 'autolab'))]\n"
        "assert sorted(os.listdir('/lab')) == ['artifact', 'clock', 'shm', 'tmp', 'workspace'], os.listdir('/lab')\n",
    )


# --------------------------------------------------------------------------------------- secrets and the network


SEARCH = """
import re
def search(pattern):
    found = 0
    with open("/proc/self/mem", "rb", 0) as memory:
        for line in open("/proc/self/maps"):
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            if "r" in line.split()[1] and "[v" not in line:
                for at in range(begin, end, 1 << 20):
                    memory.seek(at)
                    found += len(re.findall(pattern, memory.read(min(end - at, 1 << 20))))
    return found
"""


def test_held_out_data_cannot_be_found(tmp_path: Path) -> None:
    for name in ("train", "heldout"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "heldout" / "answer").write_text("7")
    train = (
        HONEST
        + f"""
import glob
doors = [{str(tmp_path)!r}, os.environ["AUTOLAB_DATA"] + "/..", "/lab", "..", "/root", "/home"]
for pid in [name for name in os.listdir("/proc") if name.isdigit()] + ["self"]:
    doors += [f"/proc/{{pid}}/" + door for door in ("root{tmp_path}", "cwd", "fd", "root/lab/data")]
found = [path for door in doors for path in glob.glob(door + "/**/answer", recursive=True)]
assert not found, found
"""
    )
    result = Warm(tmp_path / "lab", data=tmp_path / "data").measure(train)
    assert result.status is Status.OK, (result.cause, result.log_excerpt)


def test_memory_holds_neither_the_labs_secret_nor_another_candidate(lab: Warm) -> None:
    # The patterns do not match themselves.
    assert lab.measure("TEXT = 'of-an-earlier-one'\nprint(TEXT)\n" + HONEST).status is Status.OK
    harmless(lab, SEARCH + "assert search(b'of-an-earlier-on[e]') == 0\nassert search(b'5ec7e[7]') == 0\n")
    harmless(lab, SEARCH + "here = 'to-be-found'\nassert search(b'to-be-foun[d]') > 0\n")


def test_opening_the_network(lab: Warm) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        harmless(
            lab,
            "import socket\n"
            f"for target in (('127.0.0.1', {port}), ('1.1.1.1', 53)):\n"
            "    try: socket.create_connection(target, timeout=2)\n"
            "    except OSError: continue\n"
            "    raise SystemExit('connected')\n"
            "for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_VSOCK):\n"
            "    try: socket.socket(family, socket.SOCK_DGRAM)\n"
            "    except OSError: continue\n"
            "    raise SystemExit(f'a socket of {family}')\n"
            "for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET): socket.socketpair(type=kind)\n"
            # One of these can leave the other, and send to another candidate's.
            "for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC):\n"
            "    try: socket.socketpair(type=kind)\n"
            "    except OSError: continue\n"
            "    raise SystemExit(f'a pair of {kind}')\n",
        )


def test_writing_outside(lab: Warm) -> None:
    harmless(
        lab,
        "found = []\n"
        "for folder in ('/', '/dev', '/etc', '/usr', '/usr/bin', '/proc', '/proc/sys/kernel', os.getcwd(),\n"
        "               os.path.dirname(os.__file__), '/root', '/home'):\n"
        "    try: open(folder + '/probe', 'w').close()\n"
        "    except OSError: continue\n"
        "    found.append(folder)\n"
        "assert not found, found\n"
        "for name in ('train.py', 'evaluate.py', 'prepare.py'):\n"
        "    try: open(name, 'a')\n"
        "    except OSError: continue\n"
        "    raise SystemExit('wrote to ' + name)\n",
    )


def test_settings_of_the_machine_cannot_be_changed(lab: Warm) -> None:
    harmless(
        lab,
        "found = []\n"
        "for folder, folders, files in os.walk('/proc/sys'):\n"
        "    for name in files:\n"
        "        try: os.close(os.open(os.path.join(folder, name), os.O_WRONLY))\n"
        "        except OSError: continue\n"
        "        found.append(os.path.join(folder, name))\n"
        "assert not found, found\n",
    )


# ------------------------------------------------------------------------------------------ outliving, stealing


def test_a_daemon_dies_with_its_candidate(lab: Warm) -> None:
    train = HONEST + DAEMONISE + (
        "    import signal\n"
        "    for number in range(1, 32):\n"
        "        try: signal.signal(number, signal.SIG_IGN)\n"
        "        except OSError: pass\n"
        "    import ctypes\n    ctypes.CDLL(None).prctl(15, b'daemon-of-test')\n"
        "    while True:\n"
        "        with open(os.environ['AUTOLAB_ARTIFACT'] + '/answer.json', 'w') as file: file.write('7')\n"
    )  # fmt: skip
    result = attack(lab, train)
    assert result.status in (Status.OK, Status.CRASH)  # the daemon may have been cut off while it wrote
    assert not _named("daemon-of-test")


def _named(name: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
        except OSError:
            continue
    return found


def test_the_artifact_of_the_next_one_is_out_of_reach(lab: Warm) -> None:
    # Whatever this one leaves running or open, the next one's score is its own: the fixture looks.
    train = HONEST + "held = [open(os.environ['AUTOLAB_ARTIFACT'] + '/answer.json', 'r+')]\n" + DAEMONISE + (
        "    while True:\n        held[0].seek(0); held[0].write('7'); held[0].flush()\n"
    )  # fmt: skip
    attack(lab, train)


def test_a_fork_bomb(lab: Warm) -> None:
    # Bounded, so that a failure of this test does not take the machine along.
    result = attack(lab, "import os, time\nfor _ in range(7): os.fork()\ntime.sleep(20)\n")
    assert (result.status, result.cause[:9]) == (Status.CRASH, "fork bomb"), result


def test_stealing_cpu_with_many_processes(lab: Warm) -> None:
    train = (
        "import os, time\n"
        "while True:\n"
        "    if os.fork() == 0:\n"
        "        while time.process_time() < 0.05: pass\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    result = attack(lab, train)
    assert (result.status, result.cause[:3]) == (Status.TIMEOUT, "CPU"), result


def test_stealing_cpu_with_children_that_nobody_waits_for(lab: Warm) -> None:
    train = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n"
        "    if os.fork() == 0:\n"
        "        while time.process_time() < 0.06: pass\n"
        "        os._exit(0)\n"
        "    try: os.wait()\n"
        "    except ChildProcessError: pass\n"
    )
    assert attack(lab, train).status is Status.TIMEOUT


@pytest.mark.slow
def test_sleeping_for_ever(lab: Warm) -> None:
    result = attack(lab, "import time\nwhile True: time.sleep(10)\n")
    assert (result.status, result.cause[:4]) == (Status.TIMEOUT, "idle")


def test_a_memory_bomb_in_children(lab: Warm) -> None:
    train = (
        "import os, time\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n"
        "        held = bytearray(os.urandom(1 << 20) * 50)\n"
        "        time.sleep(20)\n"
        "time.sleep(20)\n"
    )
    assert attack(lab, train).status is Status.OOM


@pytest.mark.parametrize(
    "train",
    [
        "for _ in range(40): os.write(os.memfd_create('x'), bytes(8 << 20))\ntime.sleep(20)\n",
        "held = []\nfor _ in range(60):\n    file = open('/tmp/x', 'wb', buffering=0)\n    os.unlink('/tmp/x')\n"
        "    file.write(bytes(8 << 20))\n    held.append(file)\ntime.sleep(20)\n",
        "file = open('/dev/shm/x', 'wb', buffering=0)\nwhile True: file.write(bytes(1 << 20))\n",
        "number = 0\nwhile True:\n    number += 1\n    open(f'/tmp/{number}', 'wb').write(bytes(1 << 20))\n",
    ],
    ids=["memfd", "unlinked", "one file", "many files"],
)
def test_memory_that_is_in_files(lab: Warm, train: str) -> None:
    result = attack(lab, "import os, time\n" + train)
    assert result.status in (Status.OOM, Status.OVER_SIZE), result


def test_filling_the_log(lab: Warm) -> None:
    result = attack(lab, "import os\nwhile True: os.write(2, b'score: 0.2\\n' * 10000)\n")
    assert (result.status, result.cause[:9]) == (Status.CRASH, "log flood")


# -------------------------------------------------------------------------------------------------- the artifact


@pytest.mark.parametrize(
    ("trick", "kind"),
    [
        ("os.symlink('/etc/passwd', 'x')", "symbolic link: x"),
        ("os.symlink('/', 'x')", "symbolic link: x"),
        ("os.mkfifo('x')", "fifo: x"),
        ("os.link('answer.json', 'x')", "hard link: answer.json"),
        ("os.mkdir('d'); os.symlink('..', 'd/up')", "symbolic link: d/up"),
    ],
)
def test_odd_files_in_the_artifact(lab: Warm, trick: str, kind: str) -> None:
    result = attack(lab, HONEST + f"os.chdir(os.environ['AUTOLAB_ARTIFACT'])\n{trick}\n")
    assert (result.status, result.cause) == (Status.ILLEGAL, f"the artifact holds a {kind}")


@pytest.mark.parametrize("device", ["import stat\nos.mknod('x', stat.S_IFCHR | 0o666, os.makedev(1, 3))"])
def test_devices_cannot_be_made(lab: Warm, device: str) -> None:
    result = attack(lab, HONEST + f"os.chdir(os.environ['AUTOLAB_ARTIFACT'])\n{device}\n")
    assert (result.status, "PermissionError" in result.cause) == (Status.CRASH, True), result


@pytest.mark.parametrize("folder", ["artifact", "clock"])
def test_folders_replaced_by_links(lab: Warm, folder: str, tmp_path: Path) -> None:
    """What is collected is what was open before the program began, not what has its name afterwards."""
    (tmp_path / "answer.json").write_text("1")
    (tmp_path / "clock.json").write_text('{"tokens": 5}')
    train = HONEST + (
        f"os.rename('/lab/{folder}', '/lab/away')\nos.symlink({str(tmp_path)!r}, '/lab/{folder}')\n"
    )
    result = attack(lab, train)
    assert (result.status, result.clock) == (Status.OK, None)


def test_a_huge_artifact(lab: Warm) -> None:
    train = "import os\nos.truncate(os.open(os.environ['AUTOLAB_ARTIFACT'] + '/answer.json', 66), 1 << 24)\n"
    assert attack(lab, train).status is Status.OVER_SIZE


def test_filling_the_artifact_with_files(lab: Warm) -> None:
    train = (
        "import os\n"
        "for i in range(10**6):\n"
        "    with open(f'{os.environ[\"AUTOLAB_ARTIFACT\"]}/{i}', 'wb') as file: file.write(bytes(1000))\n"
    )
    assert attack(lab, train).status is Status.OVER_SIZE


def test_an_artifact_that_nests_without_end(lab: Warm) -> None:
    train = "os.chdir(os.environ['AUTOLAB_ARTIFACT'])\nfor _ in range(30): os.mkdir('d'); os.chdir('d')\n"
    assert attack(lab, HONEST + train).status is Status.ILLEGAL


# ------------------------------------------------------------------------------------------------ the evaluator


def test_an_evaluator_that_hangs_is_ended(tmp_path: Path) -> None:
    task = TASK.replace("eval_seconds: 8", "eval_seconds: 0.5")
    result = Warm(tmp_path / "lab", task=task, evaluate="import time\ntime.sleep(60)\n").measure()
    assert result.status is Status.EVAL_TIMEOUT


@pytest.mark.parametrize(
    ("evaluate", "status"),
    [
        ("raise ValueError('no')\n", Status.CRASH),
        ("pass\n", Status.CRASH),
        (EVALUATE.replace("score}}", "-1}}"), Status.ILLEGAL),
        (EVALUATE.replace("score}}", "float('inf')}}"), Status.NAN),
        (EVALUATE.replace('"ok"', '"great"'), Status.CRASH),
    ],
)
def test_what_an_evaluator_reports_is_checked(tmp_path: Path, evaluate: str, status: Status) -> None:
    result = Warm(tmp_path / "lab", evaluate=evaluate).measure()
    assert (result.status, result.metrics) == (status, {})


def test_the_evaluator_sees_no_module_that_a_candidate_patched(tmp_path: Path) -> None:
    lab = Warm(tmp_path / "lab", evaluate="import math\nassert math.sqrt(4) == 2\n" + EVALUATE)
    result = lab.measure(HONEST + "import math\nmath.sqrt = lambda x: 0\njson.load = None\n")
    assert result.status is Status.OK, result.cause
