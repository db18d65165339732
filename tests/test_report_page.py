"""The report page, in a real browser: it asks for nothing, says what the ledger says, and runs nothing of anybody's."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, opened
from generated import generate
from hypothesis import given
from hypothesis import strategies as st

from autolab.lab import open_lab
from autolab.ledger.masters import outcome, states, steps
from autolab.report.overview import overview
from autolab.report.overview.records import Detail, Headline, Learned, Mark, Overview, Run, Slots
from autolab.report.page import Live, encoded, page, write_page
from autolab.report.page.details import pieces, unpacked
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
        return Made(root, campaign, write_page(ledger, campaign, root, now=LATE, alive=False), LATE)


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
        found = shown.evaluate("async () => (await axe.run(document)).violations")
        grave = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found
                 if one["impact"] in ("serious", "critical")]  # fmt: skip
        assert grave == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= shown.evaluate("innerWidth")
        shown.evaluate("scrollTo(0, 0)")
        shown.screenshot(path=pictures / f"report-{size}-{theme}.png", full_page=True)


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
        assert exact(cells["train_seconds"]) == pytest.approx(sum(m.train_seconds for m in done), rel=1e-12)
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
        shown.wait_for_function("n => document.querySelectorAll('#trials tr.row').length === n", arg=worse)
        assert shown.inner_text("#count").startswith(f"{worse} of ")
        assert shown.locator("#chips button").count() == 2
        names = [row["cells"][1]["value"] for row in table(shown, "trials")]
        assert set(names) == {"worse"}
        shown.wait_for_function("document.querySelector('[data-table=surface]').tBodies[0].rows.length === 1")
        assert exact(table(shown, "surface")[0]["cells"][1]) == worse
        drawn = [
            shown.evaluate("Staircase.sorted.get('worse').xs.length"),
            shown.evaluate("Lineage.held.get('regularization').xs.length"),
        ]
        assert drawn == [worse, 0]
        shown.wait_for_function("location.hash.includes('optimizer')")
        link = shown.evaluate("location.hash.slice(1)")
        shown.keyboard.press("Escape")
        assert shown.locator("#chips button").count() == 0
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
        shown.wait_for_function("View.range !== null")
        assert 0 < shown.evaluate("View.shown") < len(campaign.view.marks)


@pytest.mark.browser
def test_a_row_opens_with_the_keyboard_to_its_own_patch(browser: Any, campaign: Made) -> None:
    with opened(browser, campaign.path) as seen:
        shown = seen.page
        shown.click('#outcomes [data-key="worse"]')
        worse = sum(one.outcome == "worse" for one in campaign.view.marks)
        shown.wait_for_function(
            "n => document.querySelectorAll('#trials tr.row').length === n", arg=min(30, worse)
        )
        row = shown.locator("#trials tr.row").nth(3)
        ordinal, name = row.get_attribute("data-ordinal"), row.locator("button").inner_text()
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
        shown.wait_for_function(
            "![...document.querySelectorAll('.detail')].some(d => d.textContent === 'unpacking …')"
        )
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
