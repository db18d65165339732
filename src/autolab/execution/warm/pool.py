"""The lab's end of a pool of warm processes.

Nothing here is on a disk: what was being measured when a lab dies is measured again, which takes milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.execution.sandbox import find_bubblewrap
from autolab.execution.warm import script
from autolab.execution.warm.server import START

_ENGINE = Path(__file__).resolve().parent.parent
_LENGTH = 4
_START_SECONDS = 120.0


class Gone(Exception):
    """The pool, or a process of it, has died; the message says what is known."""


class Pool:
    """Processes that measure on `lanes` lanes; they live as long as this object, at most as long as this process."""

    def __init__(self, folder: Path, task: dict[str, Any], lanes: int, variables: dict[str, str]) -> None:
        """Start them; they die with the thread that does, at the latest, and are ready after `wait`. `folder` is an
        empty folder for what they keep in memory. Raises LabError and OSError if they cannot start."""
        pairs = [socket.socketpair() for _ in range(lanes)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the pool)
        self.lanes = [Lane(ours) for ours, _ in pairs]
        with tempfile.TemporaryFile() as content:
            content.write(json.dumps(task).encode())
            content.seek(0)
            theirs = [end.fileno() for _, end in pairs]
            try:
                self._process = subprocess.Popen(
                    _command(folder, task["spec"], content.fileno(), theirs),
                    stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, env=variables,
                    pass_fds=[content.fileno(), *theirs], start_new_session=True, cwd="/",
                )  # fmt: skip
            except OSError as error:
                raise LabError(f"the warm processes did not start: {error}") from None
        self.close = weakref.finalize(self, _end, self._process, [ours for ours, _ in pairs])
        for _, end in pairs:
            end.close()

    def wait(self) -> None:
        """Return when all lanes are ready. Raises LabError if they do not get there; all are dead then."""
        try:
            answers = [lane.first() for lane in self.lanes]
        except Gone:
            self.close()
            raise LabError(f"the warm processes died: {self.last_words()}") from None
        for answer in answers:
            if "error" in answer:
                self.close()
                raise LabError(
                    f"the warm processes did not start: {answer['error']} {self.last_words()}".strip(),
                    where="task.yaml: warm",
                    mend="without that key, every measurement starts its processes from nothing",
                )
        for lane in self.lanes:
            lane.socket.setblocking(False)

    def last_words(self) -> str:
        """What the processes said on their way out."""
        self._said.seek(0)
        return " ".join(self._said.read()[-2000:].decode(errors="replace").split())[-200:]


class Lane:
    """The socket to one lane, which does one measurement at a time."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        weakref.finalize(self, end.close)
        self._told = self._unwanted = False  # the request is out; nobody waits for the answer

    def first(self) -> dict[str, Any]:
        """What it says first. Raises Gone."""
        poll = select.poll()  # select takes no descriptor above 1023
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(1000 * _START_SECONDS):
            raise Gone("it does not answer")
        try:
            head = self.socket.recv(_LENGTH, socket.MSG_WAITALL)
            content = self.socket.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL) if head else b""
        except OSError as error:
            raise Gone(str(error)) from None
        if len(head) < _LENGTH or len(content) < int.from_bytes(head, "big"):
            raise Gone
        answer: dict[str, Any] = json.loads(content)
        return answer

    async def ask(self, request: dict[str, Any]) -> bytes:
        """The answer to a request, as JSON. When the caller cancels, the measurement is stopped, and all of it dead,
        before CancelledError goes on. Raises Gone."""
        content = json.dumps(request).encode()
        self._told = self._unwanted = False
        talk = asyncio.ensure_future(self._talk(len(content).to_bytes(_LENGTH, "big") + content))
        try:
            return await asyncio.shield(talk)
        except asyncio.CancelledError:
            self._unwanted = True
            self._stop()
            while not talk.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([talk])
            talk.exception()
            raise

    async def _talk(self, message: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self.socket, message)
            self._told = True
            self._stop()
            answer = bytearray()
            while len(answer) < _LENGTH or len(answer) < _LENGTH + int.from_bytes(answer[:_LENGTH], "big"):
                part = await loop.sock_recv(self.socket, 1 << 18)
                if not part:
                    raise Gone
                answer += part
        except (OSError, ValueError) as error:  # also of a socket that was closed
            raise Gone(str(error)) from None
        return bytes(answer[_LENGTH:])

    def _stop(self) -> None:
        if self._told and self._unwanted:
            with contextlib.suppress(OSError):
                self.socket.send(bytes(_LENGTH))


def _command(folder: Path, spec: dict[str, Any], task: int, lanes: Sequence[int]) -> list[str]:
    """The whole machine as it is, but for a PID namespace, with which everything of the pool ends, and `folder`, which
    is in memory."""
    bwrap = find_bubblewrap()
    assert bwrap is not None
    evaluate = spec["commands"]["evaluate"]
    options = script.Command(evaluate).options if evaluate else []
    numbers = ", ".join(repr(str(number)) for number in (task, *lanes))
    start = START.format(module="server", arguments=f"[{str(folder)!r}, {numbers}]")
    return [
        *(bwrap, "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--tmpfs", str(folder)),
        *(
            "--cap-add",
            "CAP_SYS_ADMIN",
            "--die-with-parent",
            "--",
            spec["python"],
            *options,
            "-c",
            start,
            str(_ENGINE),
        ),
    ]


def _end(process: subprocess.Popen[bytes], ends: list[socket.socket]) -> None:
    for end in ends:
        # Not closed: an event loop that waits for an answer would never hear of it.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
