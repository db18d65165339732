"""The page of a running campaign: what it is told, who may ask for it, and what may be done there."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from overviews import campaign
from publishing import finish, finish_one, results

from autolab.campaign.lock import only_one, works_on
from autolab.cli.figures import figures
from autolab.cli.read import status as status_command
from autolab.cli.report import report, served
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.records import Status
from autolab.ledger.store import Ledger
from autolab.report.live import Lab, delta, server, watching
from autolab.report.live.changes import sharing
from autolab.report.live.server import Server, serving
from autolab.report.overview import overview
from autolab.report.overview.records import Overview
from autolab.report.page import encoded


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and signs of life come in hundredths of a second."""
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(server, "REST", 0.0)
    monkeypatch.setattr(server, "BEAT_SECONDS", 0.05)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A lab with a campaign of three trials, nobody at work on it."""
    with results(tmp_path) as ledger:
        finish(ledger, 3)
    return tmp_path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, root: Path) -> Made:
    """What is read is what a test says."""
    reader = Made()
    monkeypatch.setattr(watching, "Reader", lambda ledger, name: reader)
    return reader


class Made:
    """Stands where the reader of the ledger is: gives made-up overviews, or fails, or waits."""

    def __init__(self) -> None:
        self.view, self.fresh = campaign(5, alive=True), True
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()

    def show(self, view: Overview) -> None:
        self.view, self.fresh = view, True

    def changed(self) -> bool:
        self.free.wait(60)
        if self.error is not None:
            raise self.error
        return self.fresh

    def read(self, now: float, alive: bool) -> Overview:
        self.free.wait(60)
        if self.error is not None:
            raise self.error
        self.fresh = False
        return replace(self.view, now=now, alive=alive)


class Page:
    """What a page holds, as its script keeps it; `seen` are the events that came."""

    def __init__(self, stream: ClientResponse | None = None) -> None:
        self.stream, self.seen = stream, list[tuple[str, str, int]]()
        self.marks, self.spans, self.rest = dict[int, Any](), list[Any](), dict[str, Any]()

    def take(self, change: Mapping[str, Any]) -> None:
        """What js/data.js does."""
        self.marks |= {mark["ordinal"]: mark for mark in change["marks"]}
        self.spans[change["spans"]["from"] :] = change["spans"]["items"]
        self.rest = {name: change[name] for name in change if name not in ("marks", "spans")}

    def whole(self) -> dict[str, Any]:
        """All of it, to be compared."""
        return {**self.rest, "marks": [self.marks[key] for key in sorted(self.marks)], "spans": self.spans}

    async def event(self, wanted: str = "change") -> Any:
        """The data of the next event of a kind; what comes before it is taken too."""
        assert self.stream is not None
        while True:
            kind, data, number = "", "", ""
            async for raw in self.stream.content:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if not name and not value:
                    break
                kind, data = (value, data) if name == "event" else (kind, value if name == "data" else data)
                number = value if name == "id" else number
                kind = kind or ("beat" if raw.startswith(b":") else "")
            else:
                raise ConnectionError("the stream has ended")
            self.seen.append((kind, number, len(data)))
            told: Any = json.loads(data) if data else None
            if kind == "change":
                self.take(told)
            if kind == wanted:
                return told


def as_page(view: Overview) -> dict[str, Any]:
    """A page that was told everything at once."""
    page = Page()
    page.take(json.loads(encoded(delta(None, view))))
    return page.whole()


def run(lab: Lab, act: Callable[[ClientSession, str, Server], Awaitable[Any]]) -> Any:
    """Let a client use a server that really listens, for at most a minute."""

    async def use() -> Any:
        async with asyncio.timeout(60), serving(lab, 0) as its, ClientSession(its.address) as http:
            return await act(http, its.address.rstrip("/"), its)

    return asyncio.run(use())


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that a server brings about, by looking."""
    while not holds():
        await asyncio.sleep(0.005)


def ours(address: str, its: Server) -> dict[str, str]:
    """The headers that our page sends with an action."""
    return {"Origin": address, "X-Autolab-Nonce": its.nonce}


# changes ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2**32)), min_size=1, max_size=6))
def test_changes_one_after_the_other_give_the_same_as_all_at_once(steps: list[tuple[int, int]]) -> None:
    page, before = Page(), None
    whole, grown = campaign(15), 0
    for count, seed in steps:
        grown, chance = max(grown, count), random.Random(seed)
        marks = [
            replace(m, outcome="demoted") if chance.random() < 0.2 else m for m in whole.marks[: grown + 1]
        ]
        spans = [replace(s, end=s.end + 1) if chance.random() < 0.05 else s for s in whole.slots.spans]
        slots = replace(whole.slots, spans=tuple(spans[: chance.randrange(len(spans))]))
        after = replace(
            whole, marks=tuple(marks), slots=slots, climbs=whole.climbs[: chance.randrange(5)],
            alive=chance.random() < 0.5,
            noise=chance.choice([whole.noise, None]), now=whole.now + chance.random(),
        )  # fmt: skip
        page.take(json.loads(encoded(delta(before, after))))
        assert page.whole() == as_page(after)
        before = after


def test_a_change_holds_only_what_is_new() -> None:
    before = campaign(30)
    marks = (*before.marks[:-1], replace(before.marks[-1], outcome="worse"))
    spans = (*before.slots.spans, replace(before.slots.spans[-1], lane=1))
    change = delta(before, replace(before, marks=marks, slots=replace(before.slots, spans=spans)))
    assert change["marks"] == [marks[-1]]
    assert change["spans"] == {"from": len(spans) - 1, "items": [spans[-1]]}
    assert delta(before, before)["marks"] == [] == delta(before, before)["spans"]["items"]


def test_what_did_not_change_is_held_once() -> None:
    before, after = campaign(30), campaign(30)
    other = replace(after.marks[3], outcome="demoted")
    after = replace(after, marks=(*after.marks[:3], other, *after.marks[4:]), now=after.now + 1)
    shared = sharing(before, after)
    assert shared == after
    assert [new is old for new, old in zip(shared.marks, before.marks, strict=True)].count(False) == 1
    assert all(new is old for new, old in zip(shared.slots.spans, before.slots.spans, strict=True))


# over the wire ----------------------------------------------------------------------------------------


def test_a_page_is_told_of_a_trial_as_it_finishes_and_holds_what_the_ledger_says(root: Path) -> None:
    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            page = Page(stream)
            await page.event()  # everything
            with open_lab(root) as ledger:
                for count, status in ((3, Status.OK), (4, Status.CRASH)):
                    finish_one(ledger, status=status)
                    while page.rest["headline"]["trials"] < count:
                        await page.event()
                told = overview(ledger, name, now=page.rest["now"], alive=False)
        assert page.whole() == as_page(told)
        assert [mark["outcome"] for mark in page.whole()["marks"]][-2:] == ["confirmed", "crash"]

    with open_lab(root) as ledger:
        name = ledger.campaign().id
    run(served(root, name), watch)


def test_who_says_what_it_holds_is_told_only_what_changed_since(made: Made, root: Path) -> None:
    async def watch(http: ClientSession, address: str, its: Server) -> None:
        held = its.watcher.view
        assert held is not None
        for ask in ({"params": {"now": repr(held.now)}}, {"headers": {"Last-Event-ID": repr(held.now)}}):
            made.show(
                replace(
                    made.view,
                    marks=(*made.view.marks, replace(made.view.marks[-1], ordinal=len(made.view.marks))),
                )
            )
            async with http.get("/events", **ask) as stream:  # type: ignore[arg-type]
                page = Page(stream)
                while len(made.view.marks) - 1 not in page.marks:
                    await page.event()
                assert len(page.marks) < 3 and page.seen[-1][1] == repr(page.rest["now"])
        async with http.get("/events", params={"now": "12.5"}) as stream:  # of a server before this one
            page = Page(stream)
            await page.event()
            assert len(page.marks) == len(made.view.marks)

    run(served(root, ""), watch)


def test_two_who_watch_are_told_the_same_and_one_of_them_may_go(made: Made, root: Path) -> None:
    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as second:
            pages = [Page(second)]
            async with http.get("/events") as first:
                pages.append(Page(first))
                for page in pages:
                    await page.event()
                assert its.watching == 2 and pages[0].whole() == pages[1].whole()
                first.close()
            await until(lambda: its.watching == 1)
            made.show(replace(made.view, state="paused"))
            while pages[0].rest["state"] != "paused":
                await pages[0].event()

    run(served(root, ""), watch)


def test_signs_of_life_come_while_nothing_happens(made: Made, root: Path) -> None:
    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            page = Page(stream)
            for _ in range(3):
                await page.event("beat")
            assert [kind for kind, *_ in page.seen].count("change") == 1

    run(served(root, ""), watch)


def waits_for_somebody(its: Server) -> bool:
    """Whether nothing is looked at, and nothing will be before somebody watches."""
    return bool(its._somebody._waiters)


def test_while_nobody_watches_nothing_is_read(root: Path) -> None:
    looks: list[bool] = []

    def looked(ledger: Ledger) -> bool:
        looks.append(False)
        return False

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            await Page(stream).event()
            await until(lambda: len(looks) > 3)
        await until(lambda: its.watching == 0)
        await until(lambda: waits_for_somebody(its))  # the look that was under way has ended
        before = len(looks)
        for _ in range(20):  # as often as it may, and until whatever was begun has ended
            await asyncio.sleep(0.01)
            await its.watcher._aside.call(lambda: None)
        assert len(looks) == before and waits_for_somebody(its)

    with open_lab(root) as ledger:
        lab = served(root, ledger.campaign().id)
    run(replace(lab, alive=looked), watch)


def test_who_is_slow_keeps_nothing_in_memory_and_still_gets_to_the_end(
    made: Made, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty changes of half a megabyte each; what a slow one has not taken is not kept for it."""
    sends_little(monkeypatch)
    heavy = replace(made.view.under_way[0], hypothesis="x" * 500_000)

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        loop = asyncio.get_running_loop()
        with narrow(address) as slow:
            await loop.sock_sendall(slow, plain_request(address))
            async with http.get("/events", read_bufsize=1 << 22) as stream:
                page = Page(stream)
                for seconds in range(20):
                    made.show(replace(made.view, under_way=(replace(heavy, seconds=float(seconds)),)))
                    while not page.rest or page.rest["under_way"][0]["seconds"] != seconds:
                        await page.event()
            taken = bytearray()
            while taken.find(b'"seconds":19.0', max(0, len(taken) - (1 << 17))) < 0:
                taken += await loop.sock_recv(slow, 1 << 16)
            assert taken.count(b"event: change") < 15

    run(served(root, ""), watch)


def sends_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel keep little of what the server sends, however much it may (net.ipv4.tcp_wmem)."""
    from aiohttp import web

    make = web.TCPSite.start

    async def start(site: web.TCPSite) -> None:
        await make(site)
        for its in site._server.sockets:  # type: ignore[union-attr]
            its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # what it accepts has the same

    monkeypatch.setattr(web.TCPSite, "start", start)


def narrow(address: str) -> socket.socket:
    """A connection that takes in little at once."""
    its = socket.socket()
    its.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = address.removeprefix("http://").partition(":")
    its.connect((host, int(port)))
    its.setblocking(False)
    return its


def plain_request(address: str) -> bytes:
    """Asks for the events, without a library that reads ahead."""
    return f"GET /events HTTP/1.0\r\nHost: {address.removeprefix('http://')}\r\n\r\n".encode()


def test_who_takes_nothing_any_more_is_let_go(
    made: Made, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STUCK_SECONDS", 0.05)
    made.show(
        replace(
            made.view, campaign="x", under_way=(replace(made.view.under_way[0], hypothesis="x" * 8_000_000),)
        )
    )

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        with narrow(address) as stuck:
            stuck.setblocking(True)
            stuck.sendall(plain_request(address))
            await until(lambda: its.watching == 1)
            await until(lambda: its.watching == 0)

    run(served(root, ""), watch)


def test_not_more_watch_than_a_server_can_bear(
    made: Made, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_WATCHING", 1)

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            await Page(stream).event()
            async with http.get("/events") as refused:
                assert refused.status == 503

    run(served(root, ""), watch)


# what can go wrong ------------------------------------------------------------------------------------


def test_a_ledger_that_is_gone_is_said_and_comes_back(root: Path) -> None:
    path = root / ".autolab" / "ledger.sqlite"

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            page = Page(stream)
            await page.event()
            path.rename(path.with_suffix(".away"))
            assert "the ledger is gone (put it back)" in (await page.event("problem"))["text"]
            async with http.get("/trial/1") as answer:
                assert answer.status == 503
            async with http.get("/") as answer:  # what was known last
                assert answer.status == 200
            path.with_suffix(".away").rename(path)
            await page.event()

    with open_lab(root) as ledger:
        name = ledger.campaign().id
    run(served(root, name), watch)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (sqlite3.OperationalError("database is locked"), "stayed locked"),
        (sqlite3.DatabaseError("malformed"), "is damaged"),
        (LabError("no such campaign", mend="look"), "no such campaign (look)"),
        (RuntimeError("a mistake of ours"), "RuntimeError: a mistake of ours"),
    ],
)
def test_a_ledger_that_cannot_be_read_is_said_once_and_tried_again(
    made: Made, root: Path, error: Exception, said: str
) -> None:
    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            page = Page(stream)
            await page.event()
            made.error = error
            assert said in (await page.event("problem"))["text"]
            await page.event("beat")
            made.error = None
            await page.event()
            assert [kind for kind, *_ in page.seen].count("problem") == 1

    run(served(root, ""), watch)


def test_a_ledger_that_does_not_answer_is_said_and_nobody_waits_for_it(
    made: Made, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LATE_SECONDS", 0.1)

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            page = Page(stream)
            await page.event()
            made.free.clear()
            assert "has not answered" in (await page.event("problem"))["text"]
            await page.event("beat")
            made.free.set()
            await page.event()

    run(served(root, ""), watch)


def test_the_end_of_a_campaign_is_said(made: Made, root: Path) -> None:
    alive = [True]

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/events") as stream:
            page = Page(stream)
            await page.event()
            made.show(replace(made.view, state="finished"))
            alive.clear()
            assert (await page.event("problem"))["text"].endswith("has ended")
            assert page.rest["alive"] is False and page.rest["state"] == "finished"

    run(replace(served(root, ""), alive=lambda _: bool(alive)), watch)


def test_a_port_that_is_taken_is_one_line_that_says_what_helps(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open_lab(root) as ledger:
            lab = served(root, ledger.campaign().id)
        with pytest.raises(LabError, match=rf"port {port} is taken \(`--port 0` finds a free one\)"):
            server.serve(lab, port, lambda address: None)


# who may ask, and for what ----------------------------------------------------------------------------


def test_the_page_is_served_with_its_nonce_and_nobody_stores_it(root: Path) -> None:
    async def ask(http: ClientSession, address: str, its: Server) -> None:
        async with http.get("/") as answer:
            text = await answer.text()
            assert answer.status == 200 and answer.content_type == "text/html"
            assert its.nonce in text and "Content-Security-Policy" in text
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
        async with http.get("/trial/2") as answer:
            told = await answer.json()
            assert told["runs"][0]["stage"] == "screen" and told["sources"] == ["2407.21783"]
        async with http.get("/trial/99") as answer:
            assert answer.status == 404

    with open_lab(root) as ledger:
        name = ledger.campaign().id
    run(served(root, name), ask)


@pytest.mark.parametrize("path", ["/", "/trial/1", "/events", "/pause"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", ""])
def test_another_name_than_ours_is_refused(made: Made, root: Path, path: str, host: str) -> None:
    """A site that points its own name at 127.0.0.1 reads nothing."""

    async def ask(http: ClientSession, address: str, its: Server) -> None:
        method = http.post if path == "/pause" else http.get
        headers = ours(address, its) | {"Host": host.format(port=its.port)}
        async with method(path, headers=headers) as answer:
            assert answer.status == 403 and its.nonce not in await answer.text()
            assert answer.headers["Cache-Control"] == "no-store"
        async with http.get("/trial/1", headers={"Host": f"localhost:{its.port}"}) as answer:
            assert answer.status in (200, 503)  # that one is ours

    run(served(root, ""), ask)


@pytest.mark.parametrize(
    "changed",
    [
        {"X-Autolab-Nonce": "guessed"},
        {"X-Autolab-Nonce": "é"},
        {"X-Autolab-Nonce": None},
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_only_our_own_page_may_act(made: Made, root: Path, changed: dict[str, str | None]) -> None:
    acted: list[str] = []

    async def ask(http: ClientSession, address: str, its: Server) -> None:
        headers = {k: v for k, v in (ours(address, its) | changed).items() if v is not None}
        for name in ("pause", "resume", "stop"):
            async with http.post(f"/{name}", headers=headers) as answer:
                assert answer.status == 403, changed
        assert acted == []
        async with http.post(
            "/pause", headers=ours(address, its) | {"Sec-Fetch-Site": "same-origin"}
        ) as answer:
            assert (answer.status, acted) == (200, ["pause"])

    def pause() -> str:
        acted.append("pause")
        return "done"

    run(replace(served(root, ""), actions={"pause": pause, "resume": pause, "stop": pause}), ask)


def test_other_sites_may_link_to_the_page_and_may_ask_for_nothing_else(made: Made, root: Path) -> None:
    async def ask(http: ClientSession, address: str, its: Server) -> None:
        headers = {"Sec-Fetch-Site": "cross-site"}
        for path, status in (("/", 200), ("/events", 403), ("/trial/1", 403)):
            async with http.get(path, headers=headers) as answer:
                assert answer.status == status

    run(served(root, ""), ask)


def test_nothing_else_is_answered_and_nothing_is_written(root: Path) -> None:
    async def ask(http: ClientSession, address: str, its: Server) -> None:
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
            async with http.request(method, "/stop", headers=ours(address, its)) as answer:
                assert answer.status == 405
        for method in ("POST", "PUT", "DELETE"):
            for path in ("/", "/events", "/trial/1"):
                async with http.request(method, path, headers=ours(address, its)) as answer:
                    assert answer.status == 405
        for path in (
            "/steer",
            "/stop/",
            "/../task.yaml",
            "/trial/-1",
            "/trial/1%27",
            "/.autolab/ledger.sqlite",
        ):
            for method in ("GET", "POST"):
                async with http.request(method, path, headers=ours(address, its)) as answer:
                    assert answer.status == 404
        async with http.get("/events") as stream:
            await Page(stream).event()

    with open_lab(root) as ledger:
        before, lab = ledger.changes(), served(root, ledger.campaign().id)
        run(lab, ask)
        assert ledger.changes() == before


def test_pause_resume_and_stop_do_what_the_commands_do(root: Path) -> None:
    said = {}

    async def ask(http: ClientSession, address: str, its: Server) -> None:
        for name in ("pause", "resume", "stop", "resume"):
            async with http.post(f"/{name}", headers=ours(address, its)) as answer:
                said[name] = (await answer.json())["text"], state()

    def state() -> str:
        with open_lab(root) as ledger:
            return ledger.campaign().state

    with open_lab(root) as ledger:
        name = ledger.campaign().id
    with only_one(root):
        run(served(root, name), ask)
    assert said == {
        "pause": (f"{name}: paused; `autolab resume` goes on", "paused"),
        "stop": (f"{name}: stops when what is running has ended", "stopping"),
        "resume": (f"{name} is stopping already", "stopping"),
    }


def test_of_a_campaign_that_is_over_nothing_is_stopped(root: Path) -> None:
    with open_lab(root) as ledger:
        old = ledger.campaign()
        ledger.create_campaign(name="d", task="toy", key="k", config=old.config, baseline=old.baseline)

    async def ask(http: ClientSession, address: str, its: Server) -> None:
        async with http.post("/stop", headers=ours(address, its)) as answer:
            assert answer.status == 409 and "is over" in (await answer.json())["text"]

    with only_one(root):
        run(served(root, old.id), ask)
    with open_lab(root) as ledger:
        assert [one.state for one in ledger.campaigns()] == ["running", "running"]


# the command ------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_and_says_what_it_says_first(root: Path) -> None:
    told = CliRunner().invoke(report, ["-C", str(root)], catch_exceptions=False).stdout.splitlines()
    with open_lab(root) as ledger:
        path = Path("results") / ledger.campaign().id / "report.html"
    assert told[0].startswith("loss 1.99 → 1.97") and told[1] == f"wrote {path}"
    assert (root / path).read_text().startswith("<!DOCTYPE html>")


def test_the_command_gives_the_overview_to_machines(root: Path) -> None:
    told = CliRunner().invoke(report, ["-C", str(root), "--json"], catch_exceptions=False)
    view = json.loads(told.stdout)
    assert view["headline"]["trials"] == 2 and [mark["ordinal"] for mark in view["marks"]] == [0, 1, 2]
    assert not (root / "results").exists()


@pytest.fixture
def two(root: Path) -> tuple[str, str]:
    """A campaign that was interrupted, and a newer one."""
    with open_lab(root) as ledger:
        old = ledger.campaign()
        ledger.create_campaign(name="d", task="toy", key="k", config=old.config, baseline=old.baseline)
        return old.id, ledger.campaign().id


def test_who_works_on_the_newest_campaign_works_on_no_other(root: Path, two: tuple[str, str]) -> None:
    def at_work() -> list[bool]:
        with open_lab(root) as ledger:
            return [works_on(root, ledger, name) for name in (*two, "of-another-lab")]

    assert at_work() == [False, False, False]
    with only_one(root):
        assert at_work() == [False, True, False]


def test_an_older_campaign_is_shown_as_it_is_while_a_newer_one_runs(
    root: Path, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Overview] = []

    def draws(view: Overview, axis: str) -> dict[str, bytes]:
        drawn.append(view)
        return {}

    def told(command: Any, name: str) -> Any:
        words = ["-C", str(root), "--campaign", name, "--json"]
        return json.loads(CliRunner().invoke(command, words, catch_exceptions=False).stdout)

    async def watch(http: ClientSession, address: str, its: Server) -> None:
        assert its.watcher.view is not None
        drawn.append(its.watcher.view)

    monkeypatch.setattr("autolab.cli.figures.pictures", draws)
    with only_one(root):
        for name, state in zip(two, ("interrupted", "running"), strict=True):
            view = told(report, name)
            assert (view["state"], view["alive"]) == (state, state == "running")
            assert ("interrupted" in {one["kind"] for one in view["concerns"]}) == (state == "interrupted")
            assert told(status_command, name)["state"].startswith(state)
            told(figures, name)
            run(served(root, name), watch)
    assert [view.state for view in drawn] == ["interrupted", "interrupted", "running", "running"]


def test_the_command_reads_once_and_says_what_it_writes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Overview] = []

    def reads(*words: Any, **more: Any) -> Overview:
        read.append(replace(overview(*words, **more), state=f"of look {len(read)}"))
        return read[-1]

    monkeypatch.setattr("autolab.cli.report.overview", reads)
    monkeypatch.setattr("autolab.report.overview.overview", reads)
    CliRunner().invoke(report, ["-C", str(root)], catch_exceptions=False)
    (path,) = root.glob("results/*/report.html")
    assert len(read) == 1 and '"state":"of look 0"' in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_comes_and_ends_well(root: Path, number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "autolab.cli.main",
        "report",
        "-C",
        str(root),
        "--live",
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as its:
        assert its.stdout is not None
        address = json.loads("".join(iter(its.stdout.readline, "}\n")) + "}")["address"]
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{address}events", timeout=10) as stream:
            assert stream.readline().startswith(b"id: ")
            os.kill(its.pid, number)
            _, errors = its.communicate(timeout=20)
    assert (its.returncode, errors) == (0, "")
