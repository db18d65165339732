"""Pictures for papers: what they say, in text that stays text whatever it holds."""

from __future__ import annotations

import json
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from overviews import HOSTILE, campaign, without_master
from publishing import finish, results

from autolab.cli.figures import figures
from autolab.ledger.masters import outcome
from autolab.ledger.records import Status, TrialState, Verdict
from autolab.report.figures import AXES, pictures, staircase
from autolab.report.figures.colors import COLORS, MARKS, palette, shown_as, svg_path
from autolab.report.figures.frame import plain, rendered
from autolab.report.figures.gantt import draw_slots
from autolab.report.figures.lineage import draw_lineage
from autolab.report.overview.records import Overview


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """A warning of matplotlib is something that a reader does not see, such as a letter that is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def texts(svg: bytes) -> list[str]:
    """What an SVG says, read by an XML parser."""
    root = ElementTree.fromstring(svg)
    return ["".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")]


def said(view: Overview) -> dict[str, list[str]]:
    """What each of the pictures says."""
    drawn = pictures(view, formats=("svg",))
    return {name.removesuffix(".svg"): texts(content) for name, content in drawn.items()}


@pytest.fixture(scope="module")
def usual() -> dict[str, list[str]]:
    """What the pictures of a usual campaign say."""
    return said(campaign())


def test_pictures_are_of_the_staircase_the_lineage_and_the_slots() -> None:
    from PIL import Image

    drawn = pictures(campaign(8), formats=("png",))
    assert [*drawn] == ["staircase.png", "lineage.png", "slots.png"]
    for content in drawn.values():
        picture = Image.open(BytesIO(content))
        picture.load()
        assert picture.size == (1600, 900) and len(set(picture.convert("L").tobytes())) > 50


def test_the_staircase_says_what_was_gained_with_its_interval_and_shows_the_noise(
    usual: dict[str, list[str]],
) -> None:
    seen, words = campaign().headline, usual["staircase"]
    interval = f"[{seen.low:.4g}, {seen.high:.4g}]"
    assert f"loss 2.3 → {seen.score:.4g} {interval} {seen.state}, 4 promotions in 40 trials" in words
    assert {"baseline ± 2 SD of one run", "master", f"master now ({seen.state})", "no score", "worse"} <= {
        *words
    }
    assert "loss (lower is better)" in words
    other = staircase(replace(campaign(3), direction="maximize"), formats=("svg",))
    assert "loss (higher is better)" in texts(other["staircase.svg"])


@pytest.mark.parametrize(
    ("x", "label"),
    [
        ("trials", "trial, in the order in which they finished"),
        ("time", "minutes since the campaign began"),
        ("compute", "slot-hours spent"),
        ("cost", "US dollars spent"),
    ],
)
def test_the_staircase_climbs_along_trials_time_compute_or_cost(x: str, label: str) -> None:
    assert x in AXES and label in texts(staircase(campaign(), x, ("svg",))["staircase.svg"])


def test_the_lineage_names_surfaces_and_the_master_and_counts_generations(
    usual: dict[str, list[str]],
) -> None:
    view, words = campaign(), usual["lineage"]
    master = view.climbs[-1].id
    assert {master, "path to the master", "no score", "other or none"} <= {*words}
    deepest = max(mark.generation for mark in view.marks)
    away = view.marks[view.climbs[-1].trial].generation
    assert (
        f"lineage of 43 trials, {deepest + 1} generations; the master is {away} away from the baseline"
        in words
    )


def test_the_slots_say_how_busy_they_were_and_how_long_trials_waited(usual: dict[str, list[str]]) -> None:
    words = usual["slots"]
    assert "3 slots, 83 % busy; a trial waited 12 s (median)" in words
    assert {"slot 0", "slot 1", "slot 2", "queue", "training", "evaluation", "no score", "not ended yet"} <= {
        *words
    }


def test_of_many_slots_only_as_many_are_named_as_can_be_read() -> None:
    view = campaign(60, lanes=50)
    many = texts(rendered(partial(draw_slots, view=view), ("svg",))["svg"])
    assert 12 <= sum(word.startswith("slot ") for word in many) <= 16


def test_a_campaign_without_a_master_is_drawn_and_says_so() -> None:
    words = said(without_master(campaign(3)))
    assert {"loss: no master yet", "no trial has finished yet"} <= {*words["staircase"]}
    assert "slots: nothing has run yet" in words["slots"]
    assert "lineage of 1 trial, 1 generation" in words["lineage"]


def test_a_campaign_whose_every_trial_failed_is_drawn() -> None:
    view = campaign(5, climbs=0)
    failed = [
        replace(mark, score=None, low=None, high=None, outcome="crash", status="crash") for mark in view.marks
    ]
    drawn = staircase(replace(without_master(view), marks=tuple(failed)), formats=("svg",))
    assert "no score" in texts(drawn["staircase.svg"])


def test_names_stay_text_whatever_they_hold() -> None:
    for content in pictures(campaign(12, words=HOSTILE), formats=("svg",)).values():
        root = ElementTree.fromstring(content)
        assert not any(one.tag.endswith(("script", "image")) for one in root.iter())
        assert all(text.isprintable() for text in texts(content))
        assert any("$\\frac1$" in text for text in texts(content))  # nobody took it for a formula


def test_a_plain_name_has_only_letters_that_the_font_has() -> None:
    assert plain("a\tb\x1b[31m\u202ec\ud800") == "a b [31m c"
    assert plain("val_bpb$^2$") == "val_bpb$^2$"
    assert plain("中文") == "��"
    assert plain("_hidden") == " _hidden"  # such names are left out of a legend
    assert plain("x" * 100) == "x" * 23 + "…"


def test_pictures_of_3000_trials_stay_small_and_keep_their_text() -> None:
    view = campaign(3000, climbs=30)
    stairs = staircase(view, formats=("svg",))["staircase.svg"]
    lineage = rendered(partial(draw_lineage, view=view), ("svg",))["svg"]
    assert len(stairs) + len(lineage) < 1_500_000  # dots are pixels there
    assert "30 promotions in 3,000 trials" in " ".join(texts(stairs))
    assert view.climbs[-1].id in texts(lineage)


def test_the_same_campaign_gives_the_same_bytes_whatever_matplotlib_is_told_on_this_machine() -> None:
    import matplotlib

    first = staircase(campaign(8))
    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path", "font.size": 30}):
        assert staircase(campaign(8)) == first
        assert matplotlib.rcParams["font.size"] == 30  # and a caller's settings are left as they were


# colours and marks --------------------------------------------------------------------------------------


def test_every_outcome_has_a_colour_and_a_mark_of_its_own() -> None:
    assert COLORS.keys() == MARKS.keys()
    assert len({svg_path(mark) for mark in MARKS.values()}) == len(MARKS)
    known = {str(word) for word in (*Verdict, *Status, *TrialState)} | {"demoted", "running", "baseline"}
    assert {shown_as(word) for word in known} <= COLORS.keys()
    assert shown_as("crash") == "failed" and shown_as("no_difference") == "no_difference"
    assert outcome.__doc__  # the words are those of ledger.masters.outcome


def test_the_palette_is_json_and_its_marks_lie_in_a_box() -> None:
    known = json.loads(json.dumps(palette()))
    assert known["paths"]["provisional"].startswith("M0,-1L") and known["colors"]["confirmed"] == "#009E73"
    assert all(-1 <= value <= 1 for mark in MARKS.values() for point in mark for value in point)


# the command --------------------------------------------------------------------------------------------


def test_the_command_writes_all_of_them_and_says_where(tmp_path: Path) -> None:
    with results(tmp_path) as ledger:
        finish(ledger, 3)
        folder = Path("results") / ledger.campaign().id
    told = CliRunner().invoke(figures, ["-C", str(tmp_path), "--x", "cost", "--json"], catch_exceptions=False)
    paths = json.loads(told.stdout)["files"]
    assert paths == [str(folder / f"{name}.{suffix}") for name in ("staircase", "lineage", "slots")
                     for suffix in ("png", "svg")]  # fmt: skip
    assert all((tmp_path / path).stat().st_size > 1000 for path in paths)
    assert "US dollars spent" in texts((tmp_path / folder / "staircase.svg").read_bytes())
