"""Who may ask the live page what: only a browser on this machine that was sent here, and only our own page may act.

Whatever is open in the same browser can send requests to 127.0.0.1: another site by a link, a form or a script, and one
that points its own name at 127.0.0.1 (DNS rebinding) even reads the answers. So every request must name this server,
and an action must come from our page, which alone knows the nonce.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

NONCE = "X-Autolab-Nonce"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # nobody lays our buttons under theirs; the page's own policy cannot say that
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}


def names(port: int) -> frozenset[str]:
    """What a request may call this server."""
    return frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})


def objection(headers: Mapping[str, str], port: int, *, page: bool) -> str | None:
    """Why a request is not answered; None if it is. The page itself may be asked for from anywhere, by a link."""
    if headers.get("Host", "").lower() not in names(port):
        return "this server is for 127.0.0.1 only"
    if not page and headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "another site may not ask"
    return None


def refusal(headers: Mapping[str, str], port: int, nonce: str) -> str | None:
    """Why a request may not act; None if it may. It has passed `objection`."""
    if headers.get("Origin", "").lower() not in {f"http://{name}" for name in names(port)}:
        return "only the page itself may do that"
    if not secrets.compare_digest(headers.get(NONCE, "").encode("utf-8", "replace"), nonce.encode()):
        return "the page is of an earlier server: reload it"
    return None
