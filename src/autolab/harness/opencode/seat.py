"""A seat: one warm OpenCode server in a sandbox of its own, with one workspace, for one session after another.

One server for each agent at work, and not one for all of them: its sandbox then holds one workspace and nothing
of the others, a hung session is ended with its own process and harms nobody, and no server ever has more than
one project folder open, which is what made large shared ones hang. It stays up from trial to trial, because a
start costs twenty times what a session costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector

from autolab.errors import LabError
from autolab.execution.local import reap_orphans
from autolab.execution.sandbox import SandboxError, available, plain_prefix
from autolab.harness.confinement import confined
from autolab.harness.opencode.binary import OpenCode
from autolab.harness.opencode.gateway import Gateway
from autolab.harness.upstream import at_most

INSIDE = Path(__file__).with_name("inside.py")
START_SECONDS = 90.0
SESSIONS_A_SERVER = 25  # memory grows by some 20 MB a session and is never given back
LONGEST_REPLY = 16 << 20  # bytes
MODEL = {"providerID": "lab", "modelID": "model"}


class SessionEnded(Exception):
    """A session that did not end by itself. `how` is one of timeout, silent, died, model_error."""

    def __init__(self, how: str, why: str) -> None:
        super().__init__(why)
        self.how = how


@dataclass(frozen=True)
class Waiting:
    """How long a session may take, in seconds. `silent` is without a sign of life from agent or model."""

    wall: float = 900.0
    silent: float = 90.0


class Seat:
    """A place for one agent at a time. `heard` is told what the agent does, as (kind, text)."""

    def __init__(
        self,
        folder: Path,
        opencode: OpenCode,
        gateway: Gateway,
        configuration: Mapping[str, Any],
        read_only: list[Path],
        heard: Callable[[str, str], None] = lambda kind, text: None,
    ) -> None:
        self.folder, self.gateway = folder.resolve(), gateway
        self.room = self.folder / "room"  # what the sandbox can write; all else of the seat is the lab's
        self.workspace = self.room / "workspace"
        self.broken = False
        self._opencode, self._configuration, self._read_only = opencode, configuration, read_only
        self._heard = heard
        self._sockets: Path | None = None  # in /tmp: the path of a unix socket may have 107 characters
        self._process: asyncio.subprocess.Process | None = None
        self._http: ClientSession | None = None
        self._listener: asyncio.Task[None] | None = None
        self._served = 0

    # the server -----------------------------------------------------------------------------------

    @property
    def warm(self) -> bool:
        """Is there a server that has room for another session?"""
        alive = self._process is not None and self._process.returncode is None
        return alive and not self.broken and self._served < SESSIONS_A_SERVER

    async def ensure(self) -> None:
        """Have a healthy server. Raises LabError if it does not start."""
        if self.warm:
            return
        await self.stop()
        await self._start()

    async def _start(self) -> None:
        sockets = self._sockets = Path(tempfile.mkdtemp(prefix="autolab-"))
        control, model = sockets / "control", sockets / "model"
        await self.gateway.start(model)
        self._write_home()
        self.workspace.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *("nice", "-n", "19"),  # training comes first: an agent only thinks
                *self._command(sockets, [str(self._opencode.path), str(control), str(model)]),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._http = ClientSession(connector=UnixConnector(path=str(control), force_close=True))
        self.broken, self._served = False, 0
        try:
            await self._until_healthy()
        except BaseException:
            await self.stop()
            raise
        self._listener = asyncio.create_task(self._listen())

    def _command(self, sockets: Path, arguments: list[str]) -> list[str]:
        inside = [sys.executable, "-I", "-S", str(INSIDE), *arguments]
        if available()[0] == "none":
            return [*plain_prefix(str(self.room), self._environment()), *inside]
        read_only = [str(path) for path in (self._opencode.path.parent, INSIDE.parent, *self._read_only)]
        if self._opencode.ripgrep is not None:
            read_only.append(str(self._opencode.ripgrep.parent))
        try:
            return confined(
                inside,
                folder=str(sockets),
                environment=self._environment(),
                cwd=str(self.workspace),
                read_only=sorted({path for path in read_only if not path.startswith("/usr/")}),
                writable=[str(self.room), str(sockets)],
            )
        except SandboxError as error:
            raise LabError(str(error), where="sandbox", mend="see `autolab doctor`") from None

    def _environment(self) -> dict[str, str]:
        tools = [str(self._opencode.ripgrep.parent)] if self._opencode.ripgrep else []
        return {
            "HOME": str(self.room / "home"),
            "PATH": ":".join([*tools, "/usr/local/bin", "/usr/bin", "/bin"]),
            "PWD": str(self.workspace),  # OpenCode believes this, not its working directory
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "Malloc": "1",  # Bun's own allocator runs out of memory maps and then hangs
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_CLAUDE_CODE": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "AUTOLAB_BUNDLE": str(self.folder),  # by which orphans are found
        }

    def _write_home(self) -> None:
        """A fresh home: configuration, and what keeps OpenCode from installing its plugin package into it."""
        home = self.room / "home"
        if home.is_symlink():  # the last server's doing; no server runs now
            home.unlink()
        if home.exists():
            shutil.rmtree(home)
        folder = home / ".config" / "opencode"
        (folder / "node_modules").mkdir(parents=True)
        wanted = {"dependencies": {"@opencode-ai/plugin": "*"}}
        files = {
            "opencode.json": self._configuration,
            "package.json": wanted,
            "package-lock.json": {"lockfileVersion": 3, "packages": {"": wanted}},
        }
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content), encoding="utf-8")

    async def _until_healthy(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(ClientError, OSError, TimeoutError):
                await self._call("GET", "/global/health", seconds=5)
                return
            if self._process.returncode is not None or time.monotonic() > deadline:
                said = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")
                raise LabError(
                    f"OpenCode's server did not start: {' '.join(said.split())[-300:] or 'it said nothing'}",
                    where=str(self.folder / "server.log"),
                    mend="`autolab doctor` checks OpenCode and the sandbox",
                )
            await asyncio.sleep(0.25)

    async def stop(self) -> None:
        """End the server and everything that it started; harmless if there is none."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None
        if self._http is not None:
            await self._http.close()
            self._http = None
        if self._process is not None:
            # With a sandbox this ends all of it: its first process takes the others along.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None
            if available()[0] == "none":
                await asyncio.to_thread(reap_orphans, self.folder)
        await self.gateway.close()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    # sessions -------------------------------------------------------------------------------------

    async def open(self, agent: str) -> str:
        """Begin a session; its id. Raises SessionEnded."""
        self._served += 1
        self.gateway.usage.alive()
        try:
            made = await self._call("POST", "/session", {"title": "trial", "agent": agent}, seconds=60)
            if not isinstance(made, dict) or not isinstance(made.get("id"), str):
                raise ClientError(f"an answer without an id: {str(made)[:100]}")
        except (ClientError, OSError, TimeoutError) as error:
            self.broken = True
            raise SessionEnded("died", f"OpenCode began no session: {error}") from None
        return str(made["id"])

    async def ask(self, session: str, agent: str, prompt: str, waiting: Waiting) -> str:
        """Send a message and wait for the end of the agent's work; its last words.

        Raises SessionEnded if that does not come; the session is then over, and after a hang its server too.
        """
        body = {"agent": agent, "model": MODEL, "parts": [{"type": "text", "text": prompt}]}
        call = asyncio.ensure_future(self._call("POST", f"/session/{session}/message", body, seconds=None))
        began = time.monotonic()
        try:
            while not call.done():
                await asyncio.wait([call], timeout=0.5)
                self._overdue(began, waiting, call.done())
            reply = call.result()
        except (ClientError, OSError) as error:
            self.broken = True
            raise SessionEnded("died", f"OpenCode's server died: {error}") from None
        except SessionEnded:
            await self._abort(session)
            raise
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        said = reply if isinstance(reply, dict) else {}
        failed = _dict(said.get("info")).get("error")
        parts = [_dict(part) for part in said.get("parts") or ()]
        text = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        if failed and not text.strip():
            raise SessionEnded("model_error", _error_text(failed))
        return text

    def _overdue(self, began: float, waiting: Waiting, done: bool) -> None:
        now, usage = time.monotonic(), self.gateway.usage
        if done:
            return
        if self._process is None or self._process.returncode is not None:
            self.broken = True
            raise SessionEnded("died", "OpenCode's server died")
        if now - began > waiting.wall:
            self.broken = True  # whatever still works there must not meet the next trial's workspace
            raise SessionEnded("timeout", f"not done after {waiting.wall:g} s")
        if not usage.in_flight and now - usage.last_sign > waiting.silent:
            self.broken = True
            raise SessionEnded("silent", f"no sign of life for {waiting.silent:g} s")

    async def _abort(self, session: str) -> None:
        """Stop a session; a server that does not even hear that is hung."""
        try:
            await self._call("POST", f"/session/{session}/abort", {}, seconds=5)
        except (ClientError, OSError, TimeoutError):
            self.broken = True

    async def close(self, session: str) -> None:
        """Forget a session, so that its messages do not stay in the server's memory."""
        with contextlib.suppress(ClientError, OSError, TimeoutError):
            await self._call("DELETE", f"/session/{session}", seconds=5)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float | None
    ) -> Any:
        assert self._http is not None
        address = f"http://opencode{path}?{urlencode({'directory': str(self.workspace)})}"
        timeout = ClientTimeout(total=seconds)
        async with self._http.request(method, address, json=body, timeout=timeout) as reply:
            raw = await at_most(reply.content, LONGEST_REPLY)
            if reply.status >= 400:
                raise ClientError(f"HTTP {reply.status}: {raw[:200].decode(errors='replace')}")
            try:
                return json.loads(raw) if raw.strip() else None
            except ValueError:
                raise ClientError(f"OpenCode said no JSON: {raw[:100].decode(errors='replace')}") from None

    async def _listen(self) -> None:
        """Pass on what the agent does, and take it for a sign of life."""
        assert self._http is not None
        address = f"http://opencode/event?{urlencode({'directory': str(self.workspace)})}"
        while True:
            with contextlib.suppress(ClientError, OSError, TimeoutError, ValueError):
                async with self._http.get(address, timeout=ClientTimeout(total=None)) as reply:
                    buffer = b""
                    async for chunk in reply.content.iter_any():
                        *lines, buffer = (buffer + chunk).split(b"\n")
                        for line in lines:
                            if line.startswith(b"data:"):
                                self._hear(_dict(json.loads(line[5:])))
                        if len(buffer) > LONGEST_REPLY:
                            break
            await asyncio.sleep(1.0)

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event.get("type", "")
        if kind in ("server.heartbeat", "server.connected"):
            return
        self.gateway.usage.alive()
        part = _dict(_dict(event.get("properties")).get("part"))
        state = _dict(part.get("state"))
        if (
            kind == "message.part.updated"
            and part.get("type") == "tool"
            and state.get("status") in ("completed", "error")
        ):
            target = next(
                (
                    str(v)
                    for k, v in _dict(state.get("input")).items()
                    if k in ("filePath", "path", "pattern", "command")
                ),
                "",
            )
            refused = f" refused: {state.get('error')}" if state["status"] == "error" else ""
            self._heard("tool", f"{part.get('tool')} {os.path.basename(target)}{refused}"[:300])


def _dict(value: Any) -> dict[str, Any]:
    """A part of what OpenCode said, if it has the shape that it should have."""
    return value if isinstance(value, dict) else {}


def _error_text(error: Any) -> str:
    """OpenCode's description of what went wrong, in one line."""
    data = error.get("data") if isinstance(error, dict) else None
    said = data.get("message") if isinstance(data, dict) else None
    return " ".join(str(said or error).split())[:300]
