"""The web pages of papers at arXiv and ar5iv, for papers that the Hub has no Markdown of.

Asked politely: by name, never with a token, and at most one request every three seconds from all processes that share
a shelf; a file there says when the next one may be made. AUTOLAB_ARXIV and AUTOLAB_AR5IV name other addresses than
https://arxiv.org and https://ar5iv.labs.arxiv.org, such as a mirror's.
"""

from __future__ import annotations

import fcntl
import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from autolab import __version__
from autolab.hub.connection import Unavailable
from autolab.hub.papers.html import to_markdown
from autolab.hub.papers.shelf import AR5IV, ARXIV

if TYPE_CHECKING:
    import ssl

    import httpx2

SITES = (
    (ARXIV, "AUTOLAB_ARXIV", "https://arxiv.org"),
    (AR5IV, "AUTOLAB_AR5IV", "https://ar5iv.labs.arxiv.org"),
)
INTERVAL = 3.0  # seconds between requests; what arXiv asks of programs
LONGEST_PAUSE = 3600.0  # seconds; a next turn farther away is a clock that was put back
DOWNLOAD_LIMIT = 20_000_000  # bytes; a longer page is cut there
CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0
HOPS = 4  # requests for one page, redirections and a second try included
_TURN = "arxiv.turn"


def read(shelf: Path, wanted: str, *, until: float) -> tuple[str, str]:
    """(source, Markdown) of a paper from the first site that has it; two empty texts if none has.

    Takes no longer than `until` (monotonic seconds). Raises Unavailable if one that could not be asked may have it.
    """
    import httpx2

    missed: Unavailable | None = None
    limits = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    named = {"User-Agent": f"autolab/{__version__}"}
    with httpx2.Client(headers=named, timeout=limits, verify=_certificates()) as client:
        for source, variable, usual in SITES:
            site = (os.environ.get(variable) or usual).rstrip("/")
            try:
                text = to_markdown(_page(client, shelf, f"{site}/html/{wanted}", until))
            except Unavailable as problem:
                missed = missed or problem
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as problem:
                missed = missed or _unavailable(f"does not answer ({type(problem).__name__})", site)
            else:
                if text:
                    return source, text
    if missed is not None:
        raise missed
    return "", ""


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The trusted certificates; to read them takes longer than many a request, so a process does it once."""
    import httpx2

    return httpx2.create_ssl_context()


def _page(client: httpx2.Client, shelf: Path, address: str, until: float) -> str:
    """The HTML at an address; empty if there is none. ar5iv sends those that it has not to arXiv's abstract."""
    for _ in range(HOPS):
        _wait_for_turn(shelf, until, address)
        with client.stream("GET", address) as response:
            status = response.status_code
            if response.next_request is not None:
                target = response.next_request.url
                if target.host != response.url.host or "/abs/" in target.path:
                    return ""
                address = str(target)
            elif status in (429, 503):
                _pause(shelf, response.headers.get("retry-after", ""))
            elif status in (404, 410):
                return ""
            elif status != 200:
                raise _unavailable(f"has a problem (HTTP {status})", address)
            elif "html" not in response.headers.get("content-type", "html"):
                return ""
            else:
                return _download(response, until)
    raise _unavailable("answers with nothing but redirections and delays", address)


def _download(response: httpx2.Response, until: float) -> str:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) >= DOWNLOAD_LIMIT:
            break
        if time.monotonic() >= until:
            raise _unavailable("takes too long", str(response.url))
    return bytes(body[:DOWNLOAD_LIMIT]).decode("utf-8", errors="replace")


def _unavailable(what: str, where: str) -> Unavailable:
    return Unavailable(what, where=where, mend="try again later")


# taking turns ---------------------------------------------------------------------------------------


def _wait_for_turn(shelf: Path, until: float, address: str) -> None:
    """Reserve the next turn of all processes, and wait for it. Raises Unavailable if it comes too late."""
    shelf.mkdir(parents=True, exist_ok=True)
    with open(shelf / _TURN, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        now = time.time()
        turn = _time(file.read())
        wait = turn - now if now < turn <= now + LONGEST_PAUSE else 0.0
        if time.monotonic() + wait >= until:
            raise _unavailable(f"wants to be left alone for {wait:.0f} s", address)
        file.truncate(0)
        file.write(repr(now + wait + INTERVAL))
    if wait:
        time.sleep(wait)


def _pause(shelf: Path, asked: str) -> None:
    """Let no process ask for as many seconds as a site wants."""
    seconds = min(float(asked), LONGEST_PAUSE) if asked.strip().isdecimal() else 10 * INTERVAL
    with open(shelf / _TURN, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(repr(time.time() + seconds))


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
