"""The bridge between a sandboxed agent and the pack's scripts, and the sandbox that headless agents share with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded import Labs, is_gone, make_labs
from measuring import needs_bubblewrap

from autolab.harness import bridge, confinement


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Labs:
    return make_labs(tmp_path_factory.mktemp("guard"))


@pytest.fixture
def scripts(labs: Labs) -> Iterator[bridge.Scripts]:
    found = bridge.Scripts(
        str(labs.pack / "scripts"), allows=lambda role, command: "forbidden" not in command
    )
    yield found
    found.close()


@pytest.fixture
def ask(labs: Labs, scripts: bridge.Scripts, tmp_path: Path) -> Iterator[Callable[[bytes], dict[str, Any]]]:
    """Send bytes to a bridge and close that direction; what comes back."""
    path = f"/tmp/autolab-test-{os.getpid()}"

    def send(request: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(path)
            with open(os.devnull, "rb"):
                try:
                    connection.sendall(request)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # it had heard enough
                answer = connection.makefile("rb").readline()
        return dict(json.loads(answer))

    with bridge.Bridge(path, bridge.Seat(str(labs.root), "worker", "ses_a", "t1"), scripts):
        yield send
    assert not os.path.exists(path)


def request(*argv: str, script: str = "trial.py", **more: object) -> bytes:
    return json.dumps({"script": script, "argv": argv, **more}).encode() + b"\n"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"hello\n",
        b"\xff\xfe\x00\n",
        b"[" * 100_000 + b"\n",
        b"9" * 100_000 + b"\n",
        b"null\n",
        b'{"script": "trial.py"}\n',
        b'{"script": 1, "argv": []}\n',
        b'{"script": "trial.py", "argv": [1]}\n',
        b'{"script": "trial.py", "argv": "status"}\n',
        b'{"script": "trial.py", "argv": ["\\u0000"]}\n',
        b'{"script": "trial.py", "argv": ["\\ud800"]}\n',
        b'{"script": "trial.py", "argv": [], "stdin": "\\ud800"}\n',
        b'{"script": "trial.py", "argv": ["sta',
        b"",
        b"x" * (5 << 20),
        request("x" * 200_000),
        request(*["x"] * 300_000),
        request(script=""),
        request(script="."),
        request(script="trial.py\0"),
        request(script="none.py"),
        request(script="../scripts/trial.py"),
        request("forbidden"),
    ],
    ids=range(24),
)
def test_what_is_no_proper_request_is_refused_and_the_next_one_served(
    ask: Callable[[bytes], dict[str, Any]], garbage: bytes
) -> None:
    answer = ask(garbage)
    assert answer["stdout"].startswith("[refused] ")
    assert answer["stdout"].count("\n") == 1
    assert answer["code"] == bridge.REFUSED
    assert ask(request("status"))["stdout"].endswith("[ok] ran\n")


def test_one_who_says_nothing_keeps_nobody_waiting(
    labs: Labs, ask: Callable[[bytes], dict[str, Any]]
) -> None:
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as gone:
        for connection in (silent, gone):
            connection.connect(f"/tmp/autolab-test-{os.getpid()}")
            connection.sendall(b'{"script"')
        gone.close()
        assert ask(request("status"))["code"] == 0


def test_several_scripts_run_at_once_and_too_many_are_refused(
    labs: Labs, ask: Callable[[bytes], dict[str, Any]]
) -> None:
    gate = labs.pack / "scripts" / "wait.py"
    fifo = labs.root.parent / "gate"
    os.mkfifo(fifo)
    gate.write_text(f"open({str(fifo)!r}).read(); print('[ok] waited')\n", encoding="utf-8")
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(request(script="wait.py"))))
        for _ in range(bridge.MOST_CALLS + 3)
    ]
    for thread in threads:
        thread.start()
    while len(answers) < 3:  # the refused ones answer first
        threads[0].join(0.01)
    assert all("scripts at once" in answer["stdout"] for answer in answers)
    while any(thread.is_alive() for thread in threads):
        with open(os.open(fifo, os.O_RDWR | os.O_NONBLOCK), "w", encoding="utf-8"):
            threads[0].join(0.01)
    assert sum(answer["stdout"] == "[ok] waited\n" for answer in answers) == bridge.MOST_CALLS
    gate.unlink()
    fifo.unlink()


def test_long_output_is_cut_in_the_middle_and_its_status_line_kept(
    ask: Callable[[bytes], dict[str, Any]],
) -> None:
    out = ask(request("--big"))["stdout"]
    assert len(out) < bridge.MOST_BYTES + 100
    assert "bytes left out" in out
    assert out.endswith("[ok] ran\n")


def test_a_script_that_takes_too_long_is_ended_with_all_that_it_started(labs: Labs) -> None:
    tag = f"88{os.getpid()}"
    slow = labs.pack / "scripts" / "slow.py"
    slow.write_text(f"import subprocess\nsubprocess.run(['sleep', '{tag}'])\n", encoding="utf-8")
    scripts = bridge.Scripts(str(labs.pack / "scripts"), seconds=0.5, allows=lambda role, command: True)
    with pytest.raises(bridge.Refused, match="took longer"):
        scripts.run(bridge.Seat(str(labs.root), "worker"), "slow.py", [])
    assert is_gone(f"sleep\0{tag}")
    slow.unlink()


def test_closing_ends_the_scripts_that_run_and_starts_no_more(labs: Labs, scripts: bridge.Scripts) -> None:
    fifo = labs.root.parent / "started"
    os.mkfifo(fifo)
    slow = labs.pack / "scripts" / "forever.py"
    slow.write_text(f"import time\nopen({str(fifo)!r}, 'w').close()\ntime.sleep(1000)\n", encoding="utf-8")
    seat = bridge.Seat(str(labs.root), "worker")
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(scripts.run(seat, "forever.py", []).code))
    thread.start()
    fifo.read_bytes()  # it runs
    scripts.close()
    thread.join()
    assert codes == [137]
    with pytest.raises(bridge.Refused, match="closing"):
        scripts.run(seat, "trial.py", [])
    slow.unlink()
    fifo.unlink()


def test_a_seat_decides_who_asks_whatever_the_environment_says() -> None:
    seat = bridge.Seat("/lab", "worker", "ses_a")
    outer = {"PATH": "/bin", "AUTOLAB_ROLE": "lab", "AUTOLAB_TRIAL": "t9", "AUTOLAB_BRIDGE": "/x"}
    assert seat.environment(outer) == {
        "PATH": "/bin",
        "AUTOLAB_LAB": "/lab",
        "AUTOLAB_ROLE": "worker",
        "AUTOLAB_SESSION": "ses_a",
    }


@needs_bubblewrap
def test_a_sandbox_for_a_headless_agent_shows_what_it_is_given_and_nothing_else(
    labs: Labs, tmp_path: Path
) -> None:
    folder, home = tmp_path / "private", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    argv = confinement.confined(
        [
            "/bin/sh",
            "-c",
            "id -u; env | sort; ls .autolab; ln -s a /seat/home/l; echo x > /seat/home/y; echo > train.py",
        ],
        folder=str(folder),
        environment={"PATH": "/usr/bin:/bin", "HOME": "/seat/home"},
        cwd=str(labs.root),
        read_only=[str(labs.root)],
        writable=[(str(home), "/seat/home")],
        hidden=[str(labs.root / ".autolab")],
    )
    done = subprocess.run(argv, capture_output=True, text=True, env={"SECRET": "very_secret"})
    assert done.stdout == f"65534\nHOME=/seat/home\nPATH=/usr/bin:/bin\nPWD={labs.root}\n"
    assert "Read-only file system" in done.stderr
    assert sorted(path.name for path in home.iterdir()) == ["l", "y"]
