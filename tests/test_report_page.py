"""The report page, in a real browser: it asks for nothing, says what the ledger says, and runs nothing of anybody's."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from browser import Opened, chromium, opened
from generated import generate
from hypothesis import given
from hypothesis import strategies as st
from overviews import unpacked
from publishing import finish, finish_one, results

from autolab.campaign.lock import only_one
from autolab.cli.report import served
from autolab.lab import open_lab
from autolab.ledger.masters import outcome, states, steps
from autolab.ledger.records import Status
from autolab.ledger.views import evidence
from autolab.report.live import server
from autolab.report.overview import overview
from autolab.report.overview.records import Detail, Headline, Learned, Mark, Overview, Run, Slots
from autolab.report.page import Live, encoded, page, write_page
from autolab.report.page.details import pieces
from autolab.report.page.shown import decimals, said

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "src" / "autolab" / "report" / "page"
LATE = 1_800_090_000.0  # after everything in a generated campaign


@dataclass(frozen=True)
class Made:
    """A campaign and its page."""

    root: Path
    campaign: str
    path: Path
    now: float

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def view(self) -> Overview:
        with open_lab(self.root) as ledger:
            return overview(ledger, self.campaign, now=self.now, alive=False)


def made(root: Path, trials: int, *, hostile: bool = False) -> Made:
    _, campaign = generate(root, trials, 0, hostile)
    with open_lab(root) as ledger:
        return Made(
            root, campaign, write_page(ledger, overview(ledger, campaign, now=LATE, alive=False), root), LATE
        )


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("campaign"), 60)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("hostile"), 60, hostile=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def empty(**changes: Any) -> Overview:
    """A campaign in which nothing has happened yet."""
    headline = Headline("loss: no baseline yet", None, None, None, None, "", None, 0, 0, 0, 0, 0.0, 0.0,
                        "slot-hours", 0.0, 0)  # fmt: skip
    view = Overview(
        "night-1", "toy", "0123456789abcdef", "running", True, "loss", "minimize", 10.0, 0.0, headline, (), (), (),
        None, Slots((), (), (), None, None), Learned((), (), ()), (),
    )  # fmt: skip
    return replace(view, **changes)


def mark(ordinal: int, **changes: Any) -> Mark:
    known = Mark(
        f"ab12-{ordinal:04d}", ordinal, "crash", "crash", "worker", "a", "optimizer", 0 if ordinal else None,
        min(ordinal, 1), None, None, None, None, 1, 2.0, 0.0, 0.0, 10, 90.0, float(ordinal), ordinal + 1.0,
        0.001 * ordinal, 0.0, ordinal, f"change {ordinal}",
    )  # fmt: skip
    return replace(known, **changes)


def detail(**changes: Any) -> Detail:
    known = Detail("ab12-0001", "", "because", "less", (), "--- a\n+++ b\n", (), ())
    return replace(known, **changes)


# what is written, without a browser ---------------------------------------------------------------------------


def test_the_libraries_are_those_of_their_packages() -> None:
    for folder in (PAGE / "vendor", ROOT / "tests" / "vendor"):
        known = json.loads((folder / "vendored.json").read_text())
        assert {path.name for path in folder.glob("*.js")} == set(known)
        for name, origin in known.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == origin["sha256"], name


def test_the_scripts_that_a_page_may_run_are_named_by_their_hashes(campaign: Made) -> None:
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', campaign.text)
    assert found
    policy = html.unescape(found[1])
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert len(re.findall(r"<script>", campaign.text)) == policy.count("'sha256-")


def test_only_a_live_page_may_ask_its_server_and_has_buttons() -> None:
    served = page(empty(), (), live=Live("secret"))
    assert "connect-src &#39;self&#39;" in served and 'id="pause"' in served and '"nonce":"secret"' in served
    assert 'id="pause"' not in page(empty(), ())


@given(st.text())
def test_no_data_can_end_the_script_that_holds_it(text: str) -> None:
    written = encoded({"a": [text], "b": {text: 1.5}})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"a": [text], "b": {text: 1.5}}


def test_numbers_that_json_does_not_know_become_words_and_others_stay_whole() -> None:
    values = [float("nan"), float("inf"), 0.1 + 0.2, 1e-300]
    assert json.loads(encoded(values)) == ["nan", "inf", 0.1 + 0.2, 1e-300]


def test_signs_that_cannot_be_seen_are_shown() -> None:
    assert said("a\x1b[31m\u202eb\ud800\tc\n") == "a␛[31m⟨U+202E⟩b⟨U+D800⟩\tc\n"


def test_a_score_has_two_digits_of_its_noise(campaign: Made) -> None:
    assert campaign.view.noise is not None
    assert decimals(replace(campaign.view.noise, sd=0.004)) == 4
    assert decimals(replace(campaign.view.noise, sd=12.0)) == 1
    assert decimals(None) == 5


def test_details_are_cut_to_the_room_that_there_is_and_say_so() -> None:
    noise = [hashlib.sha256(bytes([k % 256, k // 256])).hexdigest() for k in range(4000)]
    some = [
        (k, detail(patch="\n".join(noise[k : k + 400]), runs=(run(log="\n".join(noise[k : k + 200])),)))
        for k in range(250)
    ]
    packed = list(pieces(some, 250, 400_000))
    assert [number for number, _ in packed] == [0, 1, 2]
    assert sum(len(text) for _, text in packed) <= 400_000
    assert all("patch" in one["cut"] and "log" in one["cut"] for one in unpacked(packed[0][1]).values())
    whole = list(pieces(some, 250, 40_000_000))
    assert unpacked(whole[0][1])["7"]["patch"] == some[7][1].patch
    assert unpacked(whole[0][1])["7"]["cut"] == []


def run(**changes: Any) -> Run:
    known = Run("screen", "ok", 1.0, 7, "here", 3.0, 2.0, 90.0, "measured", "bubblewrap", "", {}, (), "")
    return replace(known, **changes)


def test_nothing_in_a_hostile_campaign_leaves_the_text(hostile: Made) -> None:
    own = re.sub(r"<script>.*?</script>", "", hostile.text, flags=re.DOTALL)
    assert "<img" not in own and "<svg onload" not in own and "{{ 7 * 7 }}" in own
    assert hostile.text.count("<script") == hostile.text.count("</script>")


# in a browser -------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        seen.page.locator("#trials tr.row button").first.click()
        seen.page.wait_for_selector(".detail h3")
        seen.page.click("#theme")
        seen.page.click('[data-x="time"]')
        seen.page.click('[data-color="role"]')
        seen.page.click("#frame")
        assert seen.asked == [] and seen.said == []


@pytest.mark.browser
@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_it(browser: Any, campaign: Made, size: str, theme: str, tmp_path: Path) -> None:
    """No serious fault by axe-core, no page wider than its screen; and pictures for people to look at."""
    pictures = Path(os.environ.get("AUTOLAB_SCREENSHOTS") or tmp_path)
    with opened(browser, campaign.path, size=size, theme=theme) as seen:
        shown = seen.page
        shown.locator("#trials tr.row button").nth(9).click()
        shown.wait_for_selector(".detail h3")
        shown.evaluate((ROOT / "tests" / "vendor" / "axe.min.js").read_text())
        # What is far from the screen is not laid out; a picture of all of it, and axe, need that it is.
        shown.add_style_tag(content="section { content-visibility: visible !important }")
        shown.wait_for_timeout(300)
        assert faults(shown) == []
        shown.click('#outcomes [data-key="worse"]')  # what it leaves out is paler, and must still read
        until(shown, "document.querySelector('tr.aside') !== null")
        assert faults(shown) == []
        shown.keyboard.press("Escape")
        until(shown, "document.querySelector('tr.aside') === null")
        assert shown.evaluate("document.documentElement.scrollWidth") <= shown.evaluate("innerWidth")
        shown.evaluate("scrollTo(0, 0)")
        shown.screenshot(path=pictures / f"report-{size}-{theme}.png", full_page=True)


def until(shown: Any, condition: str) -> None:
    """Wait for a condition in the page, from outside: the page's policy forbids what Playwright would do in it."""
    ends = time.monotonic() + 20
    while not shown.evaluate(condition):
        assert time.monotonic() < ends, condition
        time.sleep(0.05)


def faults(shown: Any) -> list[tuple[str, list[str]]]:
    """What axe-core finds that is serious or critical: its name, and where."""
    found = shown.evaluate("async () => (await axe.run(document)).violations")
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def table(shown: Any, name: str) -> list[dict[str, Any]]:
    """The rows of a table: what is in `data-…` of each, and of its cells, as (exact value, text)."""
    rows: list[dict[str, Any]] = shown.evaluate(
        """name => [...document.querySelector(`[data-table="${name}"]`).tBodies[0].rows].map(row => ({
            ...row.dataset, cells: [...row.cells].map(cell => ({...cell.dataset, text: cell.textContent.trim()}))}))""",
        name,
    )
    return rows


def exact(cell: dict[str, str]) -> float | None:
    return float(cell["value"]) if "value" in cell else None


@pytest.mark.browser
def test_the_tables_have_the_ledgers_numbers(browser: Any, campaign: Made) -> None:
    """Every trial of every page of the table, against the ledger itself."""
    rows = []
    with opened(browser, campaign.path) as seen:
        while True:
            rows += table(seen.page, "trials")
            if seen.page.locator("[data-pager] .on").first.is_disabled():
                break
            seen.page.locator("[data-pager] .on").first.click()
    with open_lab(campaign.root) as ledger:
        trials = {trial.id: trial for trial in ledger.sequence(campaign.campaign)}
        known = states(steps(ledger, campaign.campaign))
        measured = {one.id: ledger.measurements(one.number) for one in trials.values()}
    assert {row["cells"][0]["value"] for row in rows} == set(trials)
    digits = decimals(campaign.view.noise)
    for row in rows:
        cells = {cell["column"]: cell for cell in row["cells"]}
        trial = trials[cells["ordinal"]["value"]]
        assert exact(cells["score"]) == trial.score
        assert cells["score"]["text"] == ("" if trial.score is None else f"{trial.score:.{digits}f}")
        assert exact(cells["delta"]) == trial.delta
        assert [float(cells["low"][side]) if side in cells["low"] else None for side in ("low", "high")] == [
            trial.score_low, trial.score_high,
        ]  # fmt: skip
        if trial.status is not None:
            assert cells["outcome"]["value"] == outcome(trial, known)
        done = [m for m in measured[trial.id] if m.status is not None]
        judged = sum(m.train_seconds for m in evidence(trial, done))
        assert exact(cells["train_seconds"]) == pytest.approx(judged, rel=1e-12)
        assert exact(cells["eval_seconds"]) == pytest.approx(sum(m.eval_seconds for m in done), rel=1e-12)
        assert exact(cells["finished_at"]) == trial.finished_at


@pytest.mark.browser
def test_the_other_numbers_are_those_of_the_overview(browser: Any, campaign: Made) -> None:
    view = campaign.view
    with opened(browser, campaign.path) as seen:
        facts = seen.page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('[data-fact]')]"
            ".map(place => [place.dataset.fact, place.dataset.value]))"
        )
        climbs, by_role = table(seen.page, "climbs"), table(seen.page, "role")
        concerns = table(seen.page, "attention")
        assert seen.page.inner_text("h1").replace("\u00a0", " ") == view.headline.sentence
    for name in ("before", "score", "low", "high", "confidence", "promotions", "demotions", "trials", "under_way",
                 "seconds", "compute_hours", "dollars", "tokens"):  # fmt: skip
        assert float(facts[name]) == getattr(view.headline, name), name
    assert [exact(row["cells"][3]) for row in climbs] == [climb.score for climb in reversed(view.climbs)]
    assert [exact(row["cells"][8]) for row in climbs] == [
        climb.compute_hours for climb in reversed(view.climbs)
    ]
    assert [[exact(cell) for cell in row["cells"][1:10]] for row in by_role] == [
        [group.trials, group.valid, group.promoted, group.provisional, group.no_difference, group.worse, group.demoted,
         group.failed, group.gain] for group in view.learned.by_role
    ]  # fmt: skip
    assert [exact(row["cells"][2]) for row in concerns] == [len(one.trials) for one in view.concerns]


@pytest.mark.browser
def test_what_scripts_write_anew_is_what_was_written(browser: Any, campaign: Made) -> None:
    """A live page draws its tables again; they must read the same."""
    with opened(browser, campaign.path) as seen:
        names = ["attention", "under_way", "climbs", "surface", "role", "dead_ends"]
        before = {name: table(seen.page, name) for name in names}
        facts = seen.page.inner_text("#facts"), seen.page.inner_text("h1")
        seen.page.evaluate("Tables.renew(); Tables.filter()")
        for name in names:
            for old, new in zip(before[name], table(seen.page, name), strict=True):
                assert [cell["text"] for cell in new["cells"]] == [cell["text"] for cell in old["cells"]]
                assert [exact(cell) for cell in new["cells"]] == [exact(cell) for cell in old["cells"]]
        assert (seen.page.inner_text("#facts"), seen.page.inner_text("h1")) == facts


@pytest.mark.browser
def test_groups_counted_by_the_page_are_those_counted_by_the_lab(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        for kind, groups in (
            ("role", campaign.view.learned.by_role),
            ("surface", campaign.view.learned.by_surface),
        ):
            counted = seen.page.evaluate("kind => Tables.count(kind)", kind)
            for mine, lab in zip(counted, groups, strict=True):
                for name, value in mine.items():
                    expected = getattr(lab, name)
                    assert value == (pytest.approx(expected) if isinstance(value, float) else expected), name


@pytest.mark.browser
def test_one_choice_filters_every_panel_and_a_link_shows_it_again(browser: Any, campaign: Made) -> None:
    worse = sum(one.outcome == "worse" and one.surface == "optimizer" for one in campaign.view.marks)
    assert worse
    with opened(browser, campaign.path) as seen:
        shown = seen.page
        shown.click('#outcomes [data-key="worse"]')
        shown.click('#groups [data-key="optimizer"]')
        until(shown, f"document.querySelectorAll('#trials tr.row').length === {min(25, worse)}")
        until(shown, f"document.getElementById('count').textContent.startsWith('{worse} of ')")
        assert shown.locator("#chips button").count() == 2
        names = [row["cells"][1]["value"] for row in table(shown, "trials")]
        assert set(names) == {"worse"}
        until(shown, "document.querySelector('[data-table=surface]').tBodies[0].rows.length === 1")
        assert exact(table(shown, "surface")[0]["cells"][1]) == worse
        drawn = [
            shown.evaluate("Staircase.sorted.get('worse').xs.length"),
            shown.evaluate("Lineage.held.get('regularization').xs.length"),
        ]
        assert drawn == [worse, 0]
        until(shown, "location.hash.includes('optimizer')")
        link = shown.evaluate("location.hash.slice(1)")
        shown.keyboard.press("Escape")
        until(shown, "document.querySelectorAll('#chips button').length === 0")
    with opened(browser, campaign.path, view=link) as again:
        assert again.page.inner_text("#count").startswith(f"{worse} of ")


@pytest.mark.browser
def test_concerns_slots_families_ranges_and_words_filter_too(browser: Any, campaign: Made) -> None:
    view = campaign.view
    place, concern = next((k, one) for k, one in enumerate(view.concerns) if len(one.trials) > 1)
    with opened(browser, campaign.path) as seen:
        shown = seen.page
        chosen = "Data.now.marks.id.filter((_, i) => View.mask[i])"
        shown.click(f'[data-table="attention"] [data-key="{place}"]')
        assert set(shown.evaluate(chosen)) == set(concern.trials)
        shown.keyboard.press("Escape")
        shown.click('#lanes [data-key="0"]')
        ran = {span.trial for span in view.slots.spans if span.lane == 0}
        assert set(shown.evaluate(chosen)) == {one.id for one in view.marks if one.ordinal in ran}
        shown.keyboard.press("Escape")
        shown.fill("#from", "10")
        shown.fill("#to", "19")
        shown.press("#to", "Enter")
        assert set(shown.evaluate(chosen)) == {
            one.id for one in view.marks if one.place and 10 <= one.place <= 19
        }
        shown.evaluate("View.clear()")
        shown.evaluate("View.set('family', Data.now.climbs[Data.now.climbs.length - 1].trial)")
        assert 0 < len(shown.evaluate(chosen)) < len(view.marks)
        shown.evaluate("View.clear()")
        shown.locator("h1").click()
        shown.keyboard.press("/")
        shown.keyboard.type("CLIP gradients")
        found = {one.id for one in view.marks if "clip" in one.hypothesis and "gradients" in one.hypothesis}
        assert set(shown.evaluate(chosen)) == found


@pytest.mark.browser
def test_dragging_over_the_staircase_chooses_a_range(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        shown = seen.page
        shown.locator("#staircase-chart").scroll_into_view_if_needed()
        box = shown.locator("#staircase-chart").bounding_box()
        y = box["y"] + 120
        shown.mouse.move(box["x"] + 0.3 * box["width"], y)
        shown.mouse.down()
        shown.mouse.move(box["x"] + 0.5 * box["width"], y, steps=5)
        shown.mouse.up()
        until(shown, "View.range !== null")
        assert 0 < shown.evaluate("View.shown") < len(campaign.view.marks)


@pytest.mark.browser
def test_a_row_opens_with_the_keyboard_to_its_own_patch(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        shown = seen.page
        shown.click('#outcomes [data-key="worse"]')
        until(
            shown,
            """[...document.querySelectorAll('#trials td[data-column="outcome"]')]
            .every(cell => cell.dataset.value === 'worse')""",
        )
        row = shown.locator("#trials tr.row").nth(3)
        ordinal, name = row.get_attribute("data-ordinal"), row.locator("button").text_content()
        row.locator("button").focus()
        shown.keyboard.press("Enter")
        shown.wait_for_selector(f"#below-{ordinal} pre.patch .token.inserted-sign")
        patch = shown.text_content(f"#below-{ordinal} pre.patch")
        runs = table(shown, "runs")
        shown.keyboard.press("Enter")
        assert shown.locator("tr.below").count() == 0
    with open_lab(campaign.root) as ledger:
        trial = next(one for one in ledger.sequence(campaign.campaign) if one.id == name)
        assert trial.program and trial.parent_program
        new = ledger.program(trial.program)["train.py"]
        added = [line for line in new.splitlines() if line.startswith("RATE")]
        measured = ledger.measurements(trial.number)
    assert f"+{added[0]}" in patch.splitlines()
    assert [exact(row["cells"][2]) for row in runs] == [m.score for m in measured if "certify" not in m.stage]


@pytest.mark.browser
def test_columns_sort_up_and_down_with_nothing_last(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        scores = "Ledger.shown().map(i => Data.now.marks.score[i])"
        seen.page.click('th[data-column="score"] button')
        up = seen.page.evaluate(scores)
        seen.page.click('th[data-column="score"] button')
        down = seen.page.evaluate(scores)
    known = [one for one in up if one is not None]
    assert known == sorted(known) and up[: len(known)] == known
    assert down[: len(known)] == known[::-1] and not any(down[len(known) :])


@pytest.mark.browser
def test_nothing_of_a_hostile_campaign_runs(browser: Any, hostile: Made) -> None:
    with opened(browser, hostile.path) as seen:
        shown = seen.page
        shown.on("dialog", lambda dialog: pytest.fail("something ran"))
        for button in shown.locator("#trials tr.row button").all()[::3]:
            button.click()
        shown.wait_for_selector(".detail pre.log")
        until(shown, "![...document.querySelectorAll('.detail')].some(d => d.textContent === 'unpacking …')")
        strange = shown.evaluate(
            "[...document.querySelectorAll('img, iframe, object, [onerror], [onload]')].map(one => one.outerHTML)"
        )
        assert strange == []
        assert set(shown.evaluate("[...document.links].map(a => a.protocol)")) <= {
            "https:",
            "file:",
        }
        assert "</script><img src=x onerror=alert(1)>" in shown.evaluate("document.body.textContent")
        assert seen.said == [] and seen.asked == []


@pytest.mark.browser
def test_only_arxiv_ids_and_https_addresses_become_links(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        link = "source => { const made = Row.source(source); return made.href || null; }"
        assert seen.page.evaluate(link, "2401.01234v2") == "https://arxiv.org/abs/2401.01234v2"
        assert seen.page.evaluate(link, "https://example.org/a?b=c") == "https://example.org/a?b=c"
        for source in (
            "javascript:alert(1)",
            "http://example.org",
            "https://a@b.org",
            "https://exa mple.org",
            "a b",
        ):
            assert seen.page.evaluate(link, source) is None, source


@pytest.mark.browser
def test_it_reads_without_scripts(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path, scripts=False) as seen:
        text = seen.page.inner_text("body")
        assert "Scripts are off" in text and "Changes of the master" in text
        assert campaign.view.concerns[0].text in text
        assert campaign.view.climbs[-1].id in text
        assert not seen.page.locator("#lineage").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["no trials", "only a baseline", "everything failed"])
def test_it_stands_with_little_in_it(browser: Any, tmp_path: Path, kind: str) -> None:
    marks = {
        "no trials": (),
        "only a baseline": (mark(0, outcome="confirmed", status="ok", score=2.0, low=1.9, high=2.1),),
        "everything failed": tuple(mark(ordinal) for ordinal in range(9)),
    }[kind]
    path = tmp_path / "report.html"
    path.write_text(page(empty(marks=marks), ((one.ordinal, detail(id=one.id)) for one in marks)))
    with opened(browser, path) as seen:
        assert seen.page.locator("#trials tr.row").count() == len(marks)
        if marks:
            seen.page.locator("#trials tr.row button").first.click()
            seen.page.wait_for_selector(".detail h3")
        pictures = os.environ.get("AUTOLAB_SCREENSHOTS")
        if pictures:
            seen.page.screenshot(path=f"{pictures}/report-{kind.replace(' ', '-')}.png", full_page=True)
        assert seen.said == [] and seen.asked == []


@pytest.mark.browser
def test_it_prints(browser: Any, campaign: Made, tmp_path: Path) -> None:
    """On paper it is light, without controls, and charts have the paper's width."""
    pictures = Path(os.environ.get("AUTOLAB_SCREENSHOTS") or tmp_path)
    with opened(browser, campaign.path, theme="dark") as seen:
        written = seen.page.pdf(path=pictures / "report.pdf", format="A4")
        assert written.startswith(b"%PDF")
        seen.page.emulate_media(media="print")
        assert not seen.page.locator("#filters").is_visible()
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert seen.said == []


# while a campaign runs ----------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with a campaign of twelve trials, of which two failed; its page is told of changes at once."""
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(server, "REST", 0.0)
    with results(tmp_path) as ledger:
        finish(ledger, 10)
        for _ in range(2):
            finish_one(ledger, status=Status.CRASH)
    return tmp_path


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The live server, as `autolab report --live` starts it, in a thread; gives its address."""
    with open_lab(root) as ledger:
        campaign = ledger.campaign().id
    told, ready = list[Callable[[], object]](), threading.Event()
    addresses = list[str]()

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        async with server.serving(served(root, campaign), 0) as its:
            addresses.append(its.address)
            told.append(lambda: loop.call_soon_threadsafe(end.set))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield addresses[0]
    finally:
        told[0]()
        thread.join(20)


@contextmanager
def watched(browser: Any, root: Path) -> Iterator[Opened]:
    """The live page of a lab, in a browser; nothing may come into its console."""
    with serving(root) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        seen = Opened(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
        seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
        try:
            seen.page.goto(address)
            seen.ready()
            yield seen
            assert seen.said == []
        finally:
            context.close()


@pytest.mark.browser
def test_a_live_page_takes_what_changes_and_leaves_the_reader_where_he_is(browser: Any, lab: Path) -> None:
    with watched(browser, lab) as seen:
        shown = seen.page
        shown.click('#outcomes [data-key="crash"]')
        until(shown, "document.querySelectorAll('#trials tr.row').length === 2")
        shown.locator("#trials tr.row button").first.click()
        shown.wait_for_selector(".detail h3")
        shown.evaluate("document.getElementById('lineage').scrollIntoView()")
        at, before = shown.evaluate("scrollY"), shown.inner_text("h1")
        climbed = len(table(shown, "climbs"))
        with open_lab(lab) as ledger:
            promoted = finish_one(ledger)
            failed = finish_one(ledger, status=Status.CRASH)
        until(shown, "document.querySelectorAll('#trials tr.row').length === 3")
        assert shown.inner_text("#count") == "3 of 14 trials"
        assert shown.inner_text("h1") != before and "13 trials" in shown.inner_text("h1")
        rows, climbs = table(shown, "trials"), table(shown, "climbs")
        assert rows[0]["ordinal"] == str(failed.ordinal)
        assert len(climbs) == climbed + 1 and climbs[0]["ordinal"] == str(promoted.ordinal)
        assert shown.evaluate("Staircase.sorted.get('confirmed')") is None  # the filter holds for what is new
        assert shown.evaluate("scrollY") == at and shown.locator(".detail h3").count()
        shown.evaluate("View.clear()")
        until(shown, "document.querySelectorAll('#trials tr.row').length === 14")


@pytest.mark.browser
def test_a_promotion_that_is_taken_back_arrives_at_its_old_trial(browser: Any, lab: Path) -> None:
    with watched(browser, lab) as seen, open_lab(lab) as ledger:
        campaign = ledger.campaign().id
        newest = ledger.newest_promotion(campaign)
        assert newest is not None
        before = ledger.trial(newest.trial - 1)
        assert before.score is not None
        state = f"Data.now.marks.outcome[Data.byId.get('{ledger.trial_id(newest.trial)}')]"
        assert seen.page.evaluate(state) == "confirmed"
        ledger.promote(before, score=before.score, interval=(before.score - 0.01, before.score + 0.01), gain=0.01,
                       reason="it no longer beats it", kind="demotion")  # fmt: skip
        until(seen.page, f"{state} === 'demoted'")
        assert seen.page.evaluate("Data.count") == 12
        ordinal = str(ledger.trial(newest.trial).ordinal)
        (row,) = (row for row in table(seen.page, "trials") if row["ordinal"] == ordinal)
        assert row["cells"][1]["value"] == "demoted"
        assert table(seen.page, "climbs")[0]["kind"] == "demotion"
        assert seen.page.evaluate("Staircase.sorted.get('demoted').ordinals") == [int(ordinal)]


@pytest.mark.browser
def test_pause_and_stop_reach_the_campaign(browser: Any, lab: Path) -> None:
    def state() -> str:
        with open_lab(lab) as ledger:
            return ledger.campaign().state

    with only_one(lab), watched(browser, lab) as seen:
        pause, stop = seen.page.locator("#pause"), seen.page.locator("#stop")
        pause.click()
        until(seen.page, "document.getElementById('state').textContent === 'paused'")
        assert state() == "paused" and pause.inner_text() == "Resume"
        pause.click()
        until(seen.page, "document.getElementById('state').textContent === 'running'")
        stop.click()
        assert stop.inner_text() == "Really stop?" and state() == "running"
        stop.click()
        until(seen.page, "document.getElementById('state').textContent === 'stopping'")
        assert state() == "stopping"


@pytest.mark.browser
def test_a_page_says_why_its_buttons_do_nothing(browser: Any, lab: Path) -> None:
    with watched(browser, lab) as seen:
        until(seen.page, "document.getElementById('live').textContent.startsWith('nobody is at work')")
        assert seen.page.locator("#pause").is_disabled() and seen.page.locator("#stop").is_disabled()
