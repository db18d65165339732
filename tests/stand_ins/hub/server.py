"""The HTTP side of the stand-in Hub: connections, tokens, faults, answers."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import uuid
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from stand_ins.hub import jobs, papers, repos, uploads
from stand_ins.hub.faults import Fault
from stand_ins.hub.routing import HttpError, Routes

# In pieces, so that nobody's scanner takes them for real ones.
ALICE, BOB = "hf" + "_" + "alice" * 7, "hf" + "_" + "bobby" * 7

account = Routes()


class HubServer:
    """The Hub: everything that it knows, and a thread that serves it. `base` is its HF_ENDPOINT."""

    def __init__(self, root: Path, *, scheduling_seconds: float = 0.0) -> None:
        self.root = root
        self.tokens = {ALICE: "alice", BOB: "bob"}
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], repos.Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.store = uploads.Store(root / "cas")
        self.jobs: dict[str, jobs.Job] = {}
        self.scheduling_seconds = scheduling_seconds
        self.papers: dict[str, papers.APaper] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.jobs.values():
            job.kill()
        self._server.shutdown()
        self._server.server_close()

    def asked(self, pattern: str) -> list[str]:
        """The requests ("METHOD /path?query") that match."""
        return [request for request in self.requests if re.search(pattern, request)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    hub: HubServer
    fault: Fault | None

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def dispatch(self) -> None:
        url = urlsplit(self.path)
        self.query, self.fault = parse_qs(url.query), None
        length = int(self.headers.get("Content-Length") or 0)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = self._chunks() if chunked else self.rfile.read(length)
        asked = f"{self.command} {self.path}"
        with self.hub.lock:
            self.hub.requests.append(asked)
            self.hub.headers.append(dict(self.headers))
            for fault in self.hub.faults:
                if fault.times > 0 and re.search(fault.match, asked):
                    fault.times -= 1
                    self.fault = fault
                    break
        try:
            if self.fault and not self.fault.lost and self.fault.cut_after is None:
                error = HttpError(self.fault.status, "an injected fault")
                error.headers = self.fault.headers
                raise error
            self._route(url.path)
        except HttpError as error:
            headers = {**error.headers, "X-Error-Message": error.message}
            if error.code:
                headers["X-Error-Code"] = error.code
            self.json({"error": error.message, **error.body}, error.status, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = dispatch

    def _route(self, path: str) -> None:
        for method, pattern, function in TABLE:
            match = pattern.match(path)
            if match and method == self.command:
                values = {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
                return function(self, self.hub, **values)
        raise HttpError(404, f"no route for {self.command} {path}")

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    # what routes use ------------------------------------------------------------------------------

    def user(self) -> str:
        """Who asks; 401 for a missing or unknown token."""
        name = self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if name is None:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return name

    def writer(self, owner: str) -> str:
        """Who asks, if they may write there; else 403."""
        name = self.user()
        if name != owner:
            raise HttpError(403, f"You don't have the rights to write to {owner}")
        return name

    def reader(self) -> str:
        """Who asks, or nobody."""
        return self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "), "")

    def send(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer; where the fault says so, the answer is lost on the way."""
        if self.fault and self.fault.lost:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        named = {"Content-Type": kind, "X-Request-Id": uuid.uuid4().hex, **(headers or {})}
        named.setdefault("Content-Length", str(len(body)))
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send(status, json.dumps(value).encode(), headers=headers)

    def events(self, events: Iterable[Any]) -> None:
        """Answer with a stream of server-sent events: JSON values, or None for a sign of life."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")  # or a drop would look like an end
        self.end_headers()
        for number, event in enumerate(events):
            if self.fault and self.fault.cut_after is not None and number >= self.fault.cut_after:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            data = b": keep-alive\n\n" if event is None else f"data: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


@account.add("GET", "/api/whoami-v2")
def _whoami(call: _Handler, hub: HubServer) -> None:
    name = call.user()
    call.json({"type": "user", "id": f"u-{name}", "name": name, "fullname": name.title(), "orgs": [],
               "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}})  # fmt: skip


@account.add("GET", "/api/agent-harnesses")
def _harnesses(call: _Handler, hub: HubServer) -> None:
    call.json({"standardEnvVars": [], "agents": []})


@account.add("POST", "/api/validate-yaml")
def _validate(call: _Handler, hub: HubServer) -> None:
    call.json({"errors": [], "warnings": []})


TABLE = [
    route
    for module in (account, jobs.routes, papers.routes, uploads.routes, repos.routes)
    for route in module.table
]
