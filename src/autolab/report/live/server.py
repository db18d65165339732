"""`autolab report --live`: the page on 127.0.0.1, and its changes as server-sent events.

Reads only, except for three actions that are handed in. While nobody watches, nothing is read. Everybody who watches is
told of the same looks at the ledger, each of them what changed since the last thing that was told to this one: whoever
is slow misses the steps between, never the end, and nothing is kept for anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.ledger.store import Ledger
from autolab.report.live.changes import delta
from autolab.report.live.guard import HEADERS, objection, refusal
from autolab.report.live.watching import Watcher
from autolab.report.overview.records import Overview
from autolab.report.page import Live, encoded, page

if TYPE_CHECKING:
    from aiohttp import web

ADDRESS = "127.0.0.1"
LOOK_SECONDS = 1.0
REST = 9.0  # a look that took a second is followed by so many of rest: at most a tenth of a core
BEAT_SECONDS = 15.0  # between two signs of life
LATE_SECONDS = 10.0  # a look that takes longer is told of
STUCK_SECONDS = 60.0  # for somebody to take what was sent
MOST_WATCHING = 64
LARGEST_REQUEST = 4096  # bytes of a body; none is expected


@dataclass(frozen=True)
class Lab:
    """What is served, and what may be done. `alive` says whether somebody works on the campaign; each of `actions`
    (pause, resume, stop) does it, says in a line what came of it, and may raise LabError. All may block."""

    open_ledger: Callable[[], Ledger]
    campaign: str
    alive: Callable[[Ledger], bool]
    actions: Mapping[str, Callable[[], str]]


def serve(lab: Lab, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the address. Port 0 is any free one. Raises LabError."""
    asyncio.run(_serve(lab, port, ready))


async def _serve(lab: Lab, port: int, ready: Callable[[str], None]) -> None:
    with _told_to_stop() as stop:
        async with serving(lab, port) as server:
            ready(server.address)
            await stop.wait()


@contextlib.asynccontextmanager
async def serving(lab: Lab, port: int) -> AsyncIterator[Server]:
    """A server in this event loop that listens. Raises LabError if the port is taken, or nothing can be read."""
    from aiohttp import web

    server = Server(lab)
    try:
        await server.watcher.look()
        if server.watcher.view is None:
            raise LabError(server.watcher.problem, mend="")
        # What is no HTTP can come from any page in the person's browser; it is no news for the terminal.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        runner = web.AppRunner(
            server.application(), access_log=None, shutdown_timeout=0.5, handler_cancellation=True
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, ADDRESS, port)
            try:
                await site.start()
            except OSError as error:
                raise _port_problem(error, port) from None
            server.port = int(runner.addresses[0][1])
            async with server.looking():
                yield server
        finally:
            await runner.cleanup()
    finally:
        server.watcher.close()


class Server:
    """The handlers, and who watches."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.port, self.nonce = lab, 0, token_urlsafe(32)
        self.watcher = Watcher(lab.open_ledger, lab.campaign, lab.alive)
        self.watching = 0
        self._somebody = asyncio.Event()
        self._news = asyncio.Condition()
        self._page: tuple[Overview, str] | None = None
        self._sent: tuple[Overview | None, Overview, bytes] | None = None

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.port}/"

    def application(self) -> web.Application:
        """What is answered, and nothing else is."""
        from aiohttp import web

        async def prepared(request: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(HEADERS)

        @web.middleware
        async def guarded(request: web.Request, handler: Any) -> web.StreamResponse:
            said = objection(request.headers, self.port, page=request.path == "/")
            if said:
                return web.json_response({"text": said}, status=403)
            answer: web.StreamResponse = await handler(request)
            return answer

        application = web.Application(middlewares=[guarded], client_max_size=LARGEST_REQUEST)
        application.on_response_prepare.append(prepared)
        application.router.add_get("/", self._front)
        application.router.add_get("/trial/{ordinal:[0-9]{1,9}}", self._trial)
        application.router.add_get("/events", self._events, allow_head=False)
        for name in self.lab.actions:
            application.router.add_post(f"/{name}", self._act)
        return application

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look at the ledger while somebody watches."""
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _look(self) -> None:
        watcher, loop = self.watcher, asyncio.get_running_loop()
        while True:
            await self._somebody.wait()
            begin, view, problem = loop.time(), watcher.view, watcher.problem
            await watcher.look(LATE_SECONDS)
            if watcher.view is not view or watcher.problem != problem:
                async with self._news:
                    self._news.notify_all()
            await asyncio.sleep(max(LOOK_SECONDS, REST * (loop.time() - begin)))

    # what is asked for ----------------------------------------------------------------------------

    async def _front(self, request: web.Request) -> web.Response:
        from aiohttp import web

        await self.watcher.look(LATE_SECONDS)
        view = self.watcher.view
        if view is None:
            return web.Response(text=f"{self.watcher.problem}\n", status=503)
        if self._page is None or self._page[0] is not view:
            self._page = view, await asyncio.to_thread(page, view, (), live=Live(self.nonce))
        return web.Response(
            body=self._page[1].encode("utf-8", "replace"), content_type="text/html", charset="utf-8"
        )

    async def _trial(self, request: web.Request) -> web.Response:
        from aiohttp import web

        try:
            found = await self.watcher.detail(int(request.match_info["ordinal"]))
        except LabError as problem:
            return web.json_response({"text": str(problem)}, status=503)
        if found is None:
            return web.json_response({"text": "there is no such trial"}, status=404)
        return web.Response(text=encoded(found), content_type="application/json")

    async def _act(self, request: web.Request) -> web.Response:
        from aiohttp import web

        said = refusal(request.headers, self.port, self.nonce)
        if said:
            return web.json_response({"text": said}, status=403)
        try:
            done = await asyncio.to_thread(self.lab.actions[request.path.removeprefix("/")])
        except LabError as problem:
            return web.json_response({"text": str(problem)}, status=409)
        return web.json_response({"text": done})

    # who watches ----------------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if self.watching >= MOST_WATCHING:
            return web.json_response({"text": f"{MOST_WATCHING} pages are watching already"}, status=503)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        with self._counted():
            await stream.prepare(request)
            try:
                await self._tell(stream, self.watcher.held(_time_of(request)))
            except (TimeoutError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()  # what is left in it would wait for ever
        return stream

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.watching += 1
        self._somebody.set()
        try:
            yield
        finally:
            self.watching -= 1
            if not self.watching:
                self._somebody.clear()

    async def _tell(self, stream: web.StreamResponse, holds: Overview | None) -> None:
        """Send what changed since what a page holds, and go on; ends when nobody takes it any more."""
        problem = ""
        while True:
            view = self.watcher.view
            text = b""
            if view is not None and (view is not holds or (problem and not self.watcher.problem)):
                text += self._change(holds, view)
                text += _ended(holds, view)
                holds = view
            if self.watcher.problem and self.watcher.problem != problem:
                text += _event("problem", {"text": self.watcher.problem})
            problem = self.watcher.problem
            await asyncio.wait_for(stream.write(text or b": still here\n\n"), STUCK_SECONDS)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._something_new(holds, problem), BEAT_SECONDS)

    async def _something_new(self, holds: Overview | None, problem: str) -> None:
        async with self._news:
            await self._news.wait_for(
                lambda: self.watcher.view is not holds or self.watcher.problem != problem
            )

    def _change(self, holds: Overview | None, view: Overview) -> bytes:
        """The event for a page that holds `holds`; the last one is kept, for most pages hold the same."""
        if self._sent is None or self._sent[0] is not holds or self._sent[1] is not view:
            self._sent = holds, view, _event("change", delta(holds, view), view.now)
        return self._sent[2]


def _ended(holds: Overview | None, view: Overview) -> bytes:
    """The event that says that a campaign is not worked on any more; nothing if that is no news."""
    if holds is None or view.alive or not holds.alive:
        return b""
    how = (
        "has ended"
        if view.state in ("finished", "stopped")
        else "is not worked on any more: `autolab run` goes on"
    )
    return _event("problem", {"text": f"campaign {view.campaign} {how}"})


def _event(kind: str, data: Mapping[str, Any], number: float | None = None) -> bytes:
    """A server-sent event; the JSON is ASCII on one line."""
    head = "" if number is None else f"id: {number!r}\n"
    return f"{head}event: {kind}\ndata: {encoded(data)}\n\n".encode()


def _time_of(request: web.Request) -> float | None:
    """The time of the overview that a page holds: from the last event that reached it, or else as it says."""
    try:
        return float(request.headers.get("Last-Event-ID") or request.query["now"])
    except (KeyError, ValueError):
        return None


def _port_problem(error: OSError, port: int) -> LabError:
    if error.errno == errno.EADDRINUSE:
        return LabError(f"port {port} is taken", mend="`--port 0` finds a free one")
    return LabError(f"port {port} cannot be used: {error.strerror}", mend="`--port 0` finds a free one")


@contextlib.contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """Set by the first SIGINT or SIGTERM."""
    loop, stop, numbers = asyncio.get_running_loop(), asyncio.Event(), (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
