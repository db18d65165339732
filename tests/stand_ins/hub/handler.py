"""The HTTP side of the stand-ins: connections, tokens, faults, answers."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from stand_ins.hub.faults import Fault
from stand_ins.hub.routing import HttpError, Route

GONE = (BrokenPipeError, ConnectionResetError, TimeoutError)


class Listener(ThreadingHTTPServer):
    """A thread for each connection; clients may come all at once, and go whenever they want."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exception(), GONE):
            super().handle_error(request, client_address)


class Site:
    """What answers at an address: from `with` on, to its end. `faults` are what it does wrong."""

    def __init__(self, table: list[Route]) -> None:
        self.tokens: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.RLock()
        self.closed = threading.Event()
        handler = type("Handler", (Handler,), {"hub": self, "table": table})
        self._listener = Listener(("127.0.0.1", 0), handler)
        self.base = f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> Self:
        serve = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)
        serve.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._listener.shutdown()
        self._listener.server_close()

    def asked(self, pattern: str) -> list[str]:
        """The requests ("METHOD /path?query") that match."""
        return [request for request in self.requests if re.search(pattern, request)]


class Handler(BaseHTTPRequestHandler):
    """One connection. Routes get it as `call`: what was asked, who asks, and ways to answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    hub: Any  # the site
    table: list[Route]
    fault: Fault | None

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def dispatch(self) -> None:
        """Read a request, and answer it or do it wrong."""
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = self._chunks() if chunked else self._read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.command} {self.path}"
        with self.hub.lock:
            self.hub.requests.append(asked)
            self.hub.headers.append(dict(self.headers))
            self.fault = next((fault for fault in self.hub.faults if fault.strikes(asked)), None)
        try:
            if self.fault and self.fault.hang_before:
                return self._say_nothing()
            if self.fault and self.fault.refuses:
                error = HttpError(self.fault.status, "an injected fault")
                error.headers = self.fault.headers
                raise error
            self._route(url.path)
        except HttpError as error:
            headers = {**error.headers, "X-Error-Message": error.message}
            if error.code:
                headers["X-Error-Code"] = error.code
            with contextlib.suppress(*GONE):
                self.json({"error": error.message, **error.body}, error.status, headers)
        except GONE:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = dispatch

    def _route(self, path: str) -> None:
        for method, pattern, function in self.table:
            match = pattern.match(path)
            if match and method == self.command:
                values = {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
                return function(self, self.hub, **values)
        raise HttpError(404, f"no route for {self.command} {path}")

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionResetError("the client went away while it asked")
        return data

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            parts.append(self._read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _say_nothing(self) -> None:
        """Until the client has gone, or the Hub has."""
        self.close_connection = True
        while not self.hub.closed.is_set():
            ready, _, _ = select.select([self.connection], [], [], 0.1)
            if ready and not self.connection.recv(4096):
                return

    def _withheld(self) -> bool:
        """Whether a fault takes the answer away."""
        if self.fault and self.fault.hang:
            self._say_nothing()
        elif self.fault and self.fault.lost:
            self._drop()
        else:
            return False
        return True

    # what routes use ------------------------------------------------------------------------------

    def user(self) -> str:
        """Who asks; 401 for a missing or unknown token."""
        name = self.reader()
        if not name:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return name

    def writer(self, owner: str) -> str:
        """Who asks, if they may write there; else 403."""
        name = self.user()
        if name != owner:
            raise HttpError(403, f"You don't have the rights to write to {owner}")
        return name

    def reader(self) -> str:
        """Who asks, or "" for nobody; 401 for an unknown token."""
        given = self.headers.get("Authorization")
        if given is None:
            return ""
        name: str | None = self.hub.tokens.get(given.removeprefix("Bearer "))
        if name is None:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return name

    def send(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer, unless a fault takes the answer away."""
        if self._withheld():
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

    def page(self, rows: list[Any], cursor: int | None) -> None:
        """Answer with a part of a listing; `cursor` is where the next part begins, if there is one."""
        headers = {}
        if cursor is not None:
            url = urlsplit(self.path)
            query = urlencode({**self.query, "cursor": [cursor]}, doseq=True)
            headers["Link"] = f'<{self.hub.base}{url.path}?{query}>; rel="next"'
        self.json(rows, headers=headers)

    def file(self, size: int, read: Callable[[], bytes], headers: dict[str, str]) -> None:
        """Answer with a file, or the part of it that was asked for; a HEAD does not read it."""
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(size), **headers}
        status, data = 200, b""
        if self.command != "HEAD":
            data = read()
            if part := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(part[1]), min(int(part[2] or size), size - 1)
                if first >= size:
                    raise HttpError(416, f"the file ends at {size}")
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
                status, data = 206, data[first : last + 1]
                headers["Content-Length"] = str(len(data))
        self.send(status, data, "application/octet-stream", headers)

    def events(self, events: Iterable[Any]) -> None:
        """Answer with a stream of server-sent events: JSON values, or None for a sign of life."""
        if self._withheld():
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")  # or a drop would look like an end
        self.end_headers()
        for number, event in enumerate(events):
            if self.fault and self.fault.cut_after is not None and number >= self.fault.cut_after:
                self._drop()
                return
            data = b": keep-alive\n\n" if event is None else f"data: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
