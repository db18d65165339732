"""What a sandboxed agent can ask of the outside: that one of the pack's scripts be run for it.

A socket belongs to one seat. Who asks is decided by which socket was asked, never by what the request says, so a
process inside can claim nothing: role, session and trial are the seat's, and the role's own command patterns say
which scripts and verbs it may use.

One request is one line of JSON, `{"script": "trial.py", "argv": [...], "stdin": "...", "cwd": "..."}`; the answer
is one line, `{"code": 0, "stdout": "...", "stderr": "..."}`. It is served by threads, as a call is a process that
is waited for: the guard shell has no event loop, and an asyncio harness needs only `start` and `close`, which do
not block. Standard library only until a script is really asked for, for the guard shell's sake.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading

TYPE_CHECKING = False  # as in typing, whose import would take longer than this module
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

SECONDS = 115.0  # for one script; OpenCode ends a shell command after 120
MOST_BYTES = 1 << 20  # of a script's output, each of stdout and stderr
MOST_CALLS = 8  # at once, of one seat
REFUSED = 1  # the exit code, as of the scripts themselves
_MOST_REQUEST = 4 << 20
_REQUEST_SECONDS = 10.0  # from the connection to the end of the line
_MOST_CONNECTIONS = 32
_TAIL = 4096  # of a cut output, so that the status line at its end is kept
_NOT_FOR_AGENTS = ("guard_shell.py",)
_OTHER_LAB = "-C"  # an option of every script; a lab made up in a workspace would be believed outside


CONSENT = "AUTOLAB_AGENTS_MAY_"  # see hub/consent.py


class Seat:
    """Who is at the other end of a socket: facts that the lab knows, and no request can change."""

    __slots__ = ("lab", "role", "session", "trial")

    def __init__(self, lab: str, role: str, session: str = "", trial: str = "") -> None:
        self.lab, self.role, self.session, self.trial = lab, role, session, trial

    def environment(self, outer: Mapping[str, str]) -> dict[str, str]:
        """`outer` with this seat's AUTOLAB_ variables, and no others but what a person allowed all agents."""
        kept = {k: v for k, v in outer.items() if not k.startswith("AUTOLAB_") or k.startswith(CONSENT)}
        kept |= {"AUTOLAB_LAB": self.lab, "AUTOLAB_ROLE": self.role, "AUTOLAB_SESSION": self.session}
        return {**kept, "AUTOLAB_TRIAL": self.trial} if self.trial else kept


class Answer:
    """What a script said, as the one who asked gets to see it."""

    __slots__ = ("code", "stderr", "stdout")

    def __init__(self, code: int, stdout: str, stderr: str = "") -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr


class Refused(Exception):
    """A request that is not carried out; the text is one line: what, why, next step."""

    def answer(self) -> Answer:
        """What the one who asked gets to see."""
        return Answer(REFUSED, f"[refused] {self}\n")


class Scripts:
    """Runs the pack's scripts for seats, outside every sandbox, and remembers them until they have ended.

    `folder` holds the scripts, `environment` is what they get besides the seat's variables (by default this
    process's own). `allows(role, command)` says whether a role may run a command.
    """

    def __init__(
        self,
        folder: str,
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
        allows: Callable[[str, str], bool] | None = None,
    ) -> None:
        self._folder = os.path.realpath(folder)
        self._environment = environment
        self._seconds = seconds
        self._allows = allows or _allowed_by_pack
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, seat: Seat, script: str, argv: Sequence[str], stdin: str = "", cwd: str = "") -> Answer:
        """Run one script for a seat. Raises Refused if there is no such script or the role may not run it so."""
        import shlex
        import subprocess

        path = os.path.join(self._folder, script)
        if (
            not script.endswith(".py")
            or script.startswith(("_", "."))
            or script in _NOT_FOR_AGENTS
            or os.path.basename(script) != script
            or not os.path.isfile(path)
        ):
            raise Refused(f"there is no script {script[:80]!r} (mend: run one that your instructions name)")
        try:
            given = stdin.encode("utf-8", "surrogateescape")
            if any(b"\0" in word.encode("utf-8", "surrogateescape") for word in argv):
                raise Refused("an argument holds a NUL character (mend: leave it out)")
        except UnicodeEncodeError:
            raise Refused("that is no text (mend: pass text in UTF-8)") from None
        if any(word.startswith(_OTHER_LAB) for word in argv):
            raise Refused(f"an agent cannot choose another lab (mend: leave {_OTHER_LAB} away)")
        command = f"scripts/{script} {shlex.join(argv)}".strip()
        if not self._allows(seat.role, command):
            shown = command if len(command) <= 120 else command[:117] + "..."
            raise Refused(
                f"{seat.role} may not run {shown!r} (mend: use your own commands; leave this to the agent"
                " whose task it is)".replace("\n", " ")
            )
        outer = os.environ if self._environment is None else self._environment
        with self._lock:
            if self._closed:
                raise Refused("the shell is closing (mend: run the script again, on its own)")
            try:
                process = subprocess.Popen(
                    [sys.executable, path, *argv],
                    cwd=_directory(seat.lab, cwd),
                    env=seat.environment(outer),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:  # too many or too long arguments, or no memory
                raise Refused(
                    f"{script} could not be started: {error.strerror} (mend: use shorter arguments)"
                ) from None
            self._running.add(process)
        try:
            out, err = process.communicate(given, self._seconds)
        except subprocess.TimeoutExpired:
            raise Refused(
                f"{script} took longer than {self._seconds:.0f} s and was stopped (mend: look at its status)"
            ) from None
        finally:
            _kill(process)
            with self._lock:
                self._running.discard(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):  # it had not read all of its input
                    stream.close()  # type: ignore[union-attr]
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return Answer(code, _cut(out), _cut(err))

    def close(self) -> None:
        """End the scripts that are still running, and run no more."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            _kill(process)


def _allowed_by_pack(role: str, command: str) -> bool:
    from autolab.pack.roles import allows_command

    return allows_command(role, command)


def _directory(lab: str, cwd: str) -> str:
    """The asker's current directory if it is one of the lab's, else the lab's root."""
    real = os.path.realpath(cwd) if cwd and "\0" not in cwd else lab
    return real if (real + "/").startswith(lab + "/") and os.path.isdir(real) else lab


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a script that still runs, and what it started, unless that made a session of its own."""
    import signal

    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _cut(output: bytes) -> str:
    if len(output) > MOST_BYTES:
        note = f"\n[{len(output) - MOST_BYTES} bytes left out]\n".encode()
        output = output[: MOST_BYTES - _TAIL] + note + output[-_TAIL:]
    return output.decode("utf-8", "surrogateescape")


class Bridge:
    """A socket at which one seat's sandbox is listened to, from `start` to `close`.

    `path` is at most 100 bytes long, in a folder that only its owner can enter.
    """

    def __init__(self, path: str, seat: Seat, scripts: Scripts) -> None:
        self._path, self._seat, self._scripts = path, seat, scripts
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._calls = threading.Semaphore(MOST_CALLS)
        self._connections = threading.Semaphore(_MOST_CONNECTIONS)

    def start(self) -> Bridge:
        """Listen. Raises OSError if the socket cannot be made."""
        self._listener.bind(self._path)
        os.chmod(self._path, 0o600)
        self._listener.listen(_MOST_CONNECTIONS)
        threading.Thread(target=self._accept, name="bridge", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop listening; harmless if called twice. Scripts that run are ended by `Scripts.close`."""
        with contextlib.suppress(OSError):  # it never listened, or was closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def __enter__(self) -> Bridge:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            self._connections.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        import json

        try:
            with connection:
                try:
                    answer = self._answer(_read_line(connection))
                except Refused as refusal:
                    answer = refusal.answer()
                body = {"code": answer.code, "stdout": answer.stdout, "stderr": answer.stderr}
                connection.settimeout(_REQUEST_SECONDS)
                connection.sendall(json.dumps(body).encode("ascii") + b"\n")
        except OSError:
            pass  # the asker is gone
        finally:
            self._connections.release()

    def _answer(self, line: bytes) -> Answer:
        script, argv, stdin, cwd = _request(line)
        if not self._calls.acquire(blocking=False):
            raise Refused(f"more than {MOST_CALLS} scripts at once (mend: wait for some to end)")
        try:
            return self._scripts.run(self._seat, script, argv, stdin, cwd)
        finally:
            self._calls.release()


def _read_line(connection: socket.socket) -> bytes:
    """The request. Raises Refused if it is too long or does not end, OSError if the asker is gone."""
    import time

    deadline = time.monotonic() + _REQUEST_SECONDS
    chunks: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Refused("the request did not end in time (mend: send one line of JSON)")
        connection.settimeout(left)
        try:
            chunk = connection.recv(1 << 16)
        except TimeoutError:
            continue
        if not chunk:
            raise Refused("the request broke off (mend: send one line of JSON)")
        chunks.append(chunk)
        size += len(chunk)
        if b"\n" in chunk:
            return b"".join(chunks).split(b"\n", 1)[0]
        if size > _MOST_REQUEST:
            raise Refused("the request is too long (mend: pass large texts in a file of your workspace)")


def _request(line: bytes) -> tuple[str, list[str], str, str]:
    """(script, argv, stdin, cwd) of a request. Raises Refused if it is none."""
    import json

    try:
        said = json.loads(line)
        script, argv = said["script"], said["argv"]
        stdin, cwd = said.get("stdin", ""), said.get("cwd", "")
        known = isinstance(argv, list) and all(isinstance(text, str) for text in [script, stdin, cwd, *argv])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known = False
    if not known:
        raise Refused("that was no request (mend: run the script itself)")
    return script, argv, stdin, cwd
