"""A real Chromium for tests of pages. Where there is none, its tests are skipped, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-default-apps",
)  # fmt: skip
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


@dataclass
class Opened:
    """A page, and what happened in it: `asked` are the requests beside its own, `said` what stands in its console."""

    page: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def ready(self) -> None:
        """Wait until everything has been drawn."""
        self.page.wait_for_selector("html[data-ready]", state="attached")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, headless."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `apt-get install chromium`")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Any,
    path: Path,
    *,
    size: str = "desktop",
    theme: str = "light",
    scripts: bool = True,
    view: str = "",
) -> Iterator[Opened]:
    """A file in a browser of its own, of one of `SIZES`; `view` is what follows the `#`."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=scripts,
        has_touch=size == "phone", is_mobile=size == "phone", reduced_motion="reduce",
    )  # fmt: skip
    seen = Opened(context.new_page())
    own = path.resolve().as_uri()
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    try:
        seen.page.goto(f"{own}#{view}" if view else own)
        if scripts:
            seen.ready()
        seen.asked = [address for address in seen.asked if address.split("#")[0] != own]
        yield seen
    finally:
        context.close()
