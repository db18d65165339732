"""The report page of a campaign with 3,000 trials, in a real Chromium.

Bars: the page has less than 6 MB; its first panel is drawn 1.5 s after the browser began to open it; a filter shows in
all panels that are on the screen within 100 ms, at every place of the page; no request; nothing in the console.

A filter is timed inside the page: from the press of a button, or of a key in the search, to the end of the next frame.
Needs Chromium and `pip install playwright`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toy import write_toy  # noqa: F401, makes the tests' folder importable

from autolab.lab import open_lab
from autolab.report.overview import overview
from autolab.report.page import write_page

from browser import chromium, opened  # isort: skip
from generated import generate  # isort: skip

BYTES, DRAWN, RESPONSE = 6_000_000, 1500.0, 100.0
PLACES = ("#attention", "#staircase", "#lineage", "#slots", "#ledger", "#learned")
# What is pressed or typed, and the same again to take it back.
FILTERS = """[
  () => document.querySelector('#outcomes [data-key="worse"]').click(),
  () => document.querySelector('#outcomes [data-key="crash"]').click(),
  () => document.querySelector('#groups button').click(),
  () => { const find = document.getElementById("find"); find.value = find.value ? "" : "clip gradients";
          find.dispatchEvent(new Event("input", {bubbles: true})); },
  () => document.querySelector('[data-table="attention"] [data-filter]').click(),
  () => document.querySelector('#lanes button').click(),
]"""
TIMED = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done();
    channel.port2.postMessage(0);
  }));
  const took = [];
  for (const press of FILTERS) for (let twice = 0; twice < 2; twice += 1) {
    await new Promise((done) => setTimeout(done, 900));
    const begin = performance.now();
    press();
    await frame();
    took.push(performance.now() - begin);
  }
  return took;
}""".replace("FILTERS", FILTERS)


def opening(browser: Any, path: Path, times: int) -> list[float]:
    """Milliseconds from the beginning of each opening to the first panel."""
    took = []
    for _ in range(times):
        with opened(browser, path) as seen:
            drawn = "performance.getEntriesByName('staircase-drawn')[0].startTime"
            took.append(float(seen.page.evaluate(drawn)))
    return took


def filtering(browser: Any, path: Path) -> tuple[dict[str, list[float]], int, list[str]]:
    """Milliseconds of every filter at every place; requests; what stands in the console."""
    found = {}
    with opened(browser, path) as seen:
        for place in PLACES:
            seen.page.evaluate("place => document.querySelector(place).scrollIntoView()", place)
            seen.page.wait_for_timeout(500)
            found[place] = [float(took) for took in seen.page.evaluate(TIMED)]
        return found, len(seen.asked), seen.said


def main() -> int:
    """Print the results; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--openings", type=int, default=7)
    parser.add_argument("--page", type=Path, help="a page that is there already")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="autolab-bench-") as directory, chromium() as browser:
        path = options.page
        if path is None:
            root = Path(directory) / "lab"
            _, campaign = generate(root, options.trials)
            with open_lab(root) as ledger:
                begin = time.perf_counter()
                path = write_page(ledger, overview(ledger, campaign, now=1_800_090_000.0, alive=False), root)
            print(f"written in {time.perf_counter() - begin:.1f} s")
        size = path.stat().st_size
        print(f"page: {size / 1e6:.2f} MB")
        opening(browser, path, 1)
        drawn = opening(browser, path, options.openings)
        print(f"first panel: {statistics.median(drawn):.0f} ms (worst of {len(drawn)}: {max(drawn):.0f})")
        found, requests, said = filtering(browser, path)
        for place, took in found.items():
            print(
                f"  filter, seen from {place:11}: {statistics.median(took):4.0f} ms (worst {max(took):.0f})"
            )
        every = [took for some in found.values() for took in some]
        print(f"filter: {statistics.median(every):.0f} ms (worst of {len(every)}: {max(every):.0f})")
        print(f"requests: {requests}; in the console: {said or 'nothing'}")
    met = size < BYTES and max(drawn) < DRAWN and max(every) < RESPONSE and not requests and not said
    print("met" if met else "MISSED")
    return not met


if __name__ == "__main__":
    sys.exit(main())
