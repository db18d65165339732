"""`autolab run` and `autolab serve` in a terminal: what stands there while they work, and what is left afterwards."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sqlite3
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masters import promoted, the_story
from rich.text import Text
from terminals import TRAIN, Terminal, write_quick
from test_cli import autolab

from autolab.campaign.loop import Event, Limits
from autolab.cli.fitting import columns
from autolab.cli.in_place import InPlace
from autolab.cli.live import Reporter
from autolab.cli.screen import rows_for_view, view
from autolab.cli.seen import Busy, Seen, Standing, Watch
from autolab.cli.view import MOST_LINES, View
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.records import Measurement, Status

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SIZES = ((80, 24), (40, 10))
LIMITS = ["--slots", "2", "--trials", "900", "--patience", "50", "--hours", "1"]
HOSTILE = (
    "[red]no[/] \x1b[31m\x1b]0;title\x07 </script>\tand\nlines \u202eturned\u202c \u200f[/] {{7*7}} \ud800"
)


@dataclass
class Shown:
    """A command that ran in a terminal, and every screen that was seen meanwhile."""

    terminal: Terminal
    code: int = 0
    screens: list[list[str]] = field(default_factory=list)

    @property
    def left(self) -> str:
        """What stands there in the end, with what has scrolled away."""
        return "\n".join(self.terminal.everything)


def has(screen: list[str], words: tuple[str, ...]) -> bool:
    return all(any(word in line for line in screen) for word in words)


def shown(lab: Path, words: list[str], size: tuple[int, int], *until: tuple[str, ...]) -> Shown:
    """Run a command; press Ctrl-C as soon as screens with each of these words were seen, one after another."""
    found, wanted = Shown(Terminal(lab, words, *size)), [*until]

    def look(terminal: Terminal) -> None:
        found.screens.append(terminal.lines)
        if wanted and has(terminal.lines, wanted[0]):
            del wanted[0]
            if not wanted:
                terminal.type(b"\x03")

    found.code = found.terminal.run(look)
    assert not wanted, f"no screen had {wanted[0]}: {found.screens[-1]}"
    return found


@pytest.fixture(scope="module", params=SIZES, ids=str)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A search in a terminal of each size, interrupted after the first promotion."""
    lab = write_quick(tmp_path_factory.mktemp("terminal") / "quick")
    return shown(lab, ["run", *LIMITS], request.param, ("NEW MASTER", "worse", "━", "budget"))


# in a real terminal -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_master_the_slots_the_queue_and_the_budget_are_shown(ran: Shown) -> None:
    screen = next(s for s in ran.screens if has(s, ("NEW MASTER", "━", "budget")))
    below = screen[max(place for place, line in enumerate(screen) if "NEW MASTER" in line) + 1 :]
    assert has(below, ("master  loss 1.", "queue   ", " being proposed", " of 900 trials, 1.0 h left"))
    slots = [line for line in below if re.match(r"(slot )?[01] ", line)]
    assert len(slots) == 2 and any("━" in line for line in slots)


def test_no_line_is_wider_than_the_terminal_and_none_is_folded(ran: Shown) -> None:
    written = ANSI.sub("", ran.terminal.raw.decode()).replace("\r", "\n").split("\n")
    assert max(map(columns, written)) <= ran.terminal.screen.columns


def test_outcomes_remain_and_the_view_is_gone(ran: Shown) -> None:
    assert ran.code == 0 and "baseline 1.975" in ran.left and "NEW MASTER" in ran.left and "worse" in ran.left
    assert "queue   " not in ran.left and "━" not in ran.left


def test_an_interrupt_ends_it_in_order(ran: Shown) -> None:
    assert "draining: interrupted" in ran.left and "confirmed, " in ran.left.split("slots were busy")[1]


@pytest.mark.slow
def test_when_its_terminal_is_closed_what_runs_comes_to_its_end(tmp_path: Path) -> None:
    lab = write_quick(tmp_path / "quick", TRAIN.replace("sleep(0.1)", "sleep(1)"))

    running: list[str] = []

    def under_way() -> list[str]:
        with open_lab(lab) as ledger:
            return [one.id for one in ledger.begun(ledger.campaigns()[-1].id)]

    def close_while_one_runs(terminal: Terminal) -> None:
        if any("baseline 1" in line for line in terminal.everything) and under_way():
            running.append(under_way()[0])  # the others wait for the slot
            terminal.close()

    ended = Terminal(lab, ["run", "--slots", "1", "--trials", "50"]).run(close_while_one_runs)
    assert (ended, running[0] in under_way(), len(under_way()) > 0) == (129, False, True)


def test_the_terminal_is_left_as_it_was(ran: Shown) -> None:
    assert ran.terminal.untouched and ran.terminal.lines[ran.terminal.screen.cursor.y] == ""


def test_a_failure_is_told_below_the_log(tmp_path: Path) -> None:
    broken = write_quick(tmp_path / "quick", TRAIN.replace("time", "nothing", 1))
    ended = shown(broken, ["run", "--slots", "1"], (80, 24))
    assert ended.code == 2 and ended.terminal.untouched
    left = ended.terminal.lines
    (first,) = [place for place, line in enumerate(left) if line.startswith("autolab: ")]
    assert "the baseline failed: crash" in "".join(left[first:])


@pytest.mark.slow
def test_another_size_leaves_one_view(tmp_path: Path) -> None:
    sizes = [(50, 30), (110, 30), (60, 24)]
    terminal = Terminal(write_quick(tmp_path / "quick"), ["run", *LIMITS])
    views = []

    def resize(terminal: Terminal) -> None:
        if not terminal.raw.endswith(b"\x1b[J"):
            return  # in the middle of a drawing
        views.append(sum(line.startswith("budget") for line in terminal.lines))
        if sizes:
            terminal.resize(*sizes.pop())
        elif len(views) == 5:
            terminal.type(b"\x03")

    assert terminal.run(resize) == 0 and terminal.untouched
    assert len(views) >= 5 and set(views) <= {0, 1}


@pytest.mark.slow
def test_what_ended_earlier_is_shown_again(tmp_path: Path) -> None:
    lab = write_quick(tmp_path / "quick")
    assert autolab(lab, "run", "--slots", "2", "--trials", "1").returncode == 0
    again = shown(lab, ["run", "--slots", "2", "--trials", "2"], (80, 24))
    assert "baseline 1.975" in again.left.partition("trial  ")[0]


def test_serve_shows_the_same(tmp_path: Path) -> None:
    lab = write_quick(tmp_path / "quick")
    view = ("measures what agents submit", "master  loss 1.975", "slot 1  idle", "queue   0 waiting")
    served = shown(lab, ["serve", "--slots", "2"], (80, 24), view)
    assert served.code == 0 and served.terminal.untouched and "interrupted" in served.left


@pytest.mark.slow
def test_a_terminal_that_can_do_nothing_gets_plain_lines(tmp_path: Path) -> None:
    lab = write_quick(tmp_path / "quick")
    terminal = Terminal(lab, ["run", "--slots", "1", "--trials", "1"], TERM="dumb")
    assert terminal.run() == 0 and b"\x1b[1A" not in terminal.raw and b"screen     loss" in terminal.raw


# elsewhere --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    done = autolab(write_quick(tmp_path / "quick"), "run", "--slots", "1", "--trials", "2")
    assert done.returncode == 0 and "\x1b" not in done.stdout and "queue " not in done.stdout
    assert re.search(r"^\d\d:\d\d:\d\d  \w+-0001  screen +loss 1.975  \(\d+ s\)$", done.stdout, re.MULTILINE)


def test_events_are_json_whatever_is_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab = the_story(tmp_path / "toy")
    trial, odd = lab.ledger.trial(6), "half \ud800 \x1b[31m\n"
    measured = Measurement(
        "m", 6, "screen", 1, 2, status=Status.CRASH, cause=odd, curve=((0.5, float("nan")),),
        metrics={odd: float("inf")}, host=odd,
    )  # fmt: skip
    reporter = Reporter(lab, Limits(), json_lines=True)
    for event in (
        Event("judged", replace(trial, note=odd, agent=odd, score=float("-inf"))),
        Event("measured", None, measured), Event("notice", text=odd),
    ):  # fmt: skip
        reporter.heed(event)
    lines = capsys.readouterr().out.encode().splitlines()
    first, second, third = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert first["trial"]["note"] == odd and first["trial"]["score"] is None
    assert second["measurement"]["curve"] == [[0.5, None]] and third["text"] == odd


def test_events_need_no_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(the_story(tmp_path / "toy"), Limits(), json_lines=True)
    monkeypatch.setattr("sys.stdout", None)  # as where descriptor 1 was closed
    reporter.heed(Event("notice", text="nobody reads this"))


def test_plain_lines_have_no_codes_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab = the_story(tmp_path / "toy")
    trial = lab.ledger.trial(6)
    assert trial.proposal is not None
    hostile = replace(trial, proposal=replace(trial.proposal, hypothesis=HOSTILE), note=HOSTILE)
    reporter = Reporter(lab, Limits(), json_lines=False)
    for event in (
        Event("judged", hostile), Event("refused", hostile), Event("notice", text=HOSTILE),
        Event("promoted", replace(hostile, ordinal=0)), Event("promoted", hostile), Event("draining", text=HOSTILE),
    ):  # fmt: skip
        reporter.heed(event)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(line.isprintable() and "[red]no[/]" in line for line in lines)


# the parts --------------------------------------------------------------------------------------------


def seen(**changes: object) -> Seen:
    """A campaign at work, with words of an agent that mean harm."""
    busy = tuple(
        Busy(slot, f"abc123-{slot:04d}", "control-12", HOSTILE, 12.0 * slot, 20.0) for slot in range(4)
    )
    master = Standing("abc123-0007", "loss 1.301 [1.299, 1.303] confirmed, from 26 runs", "+0.1 [0.09, 0.11]")
    known = Seen(
        "toy-abc123-1", "toy", "running", 754.0, 6, busy, 3, 1, 2, 41, Limits(100, 2.0, 20.0, 30), 1800.0, 0.125, 7,
        master, {"worse": 12, "crash": 3},
    )  # fmt: skip
    return replace(known, **changes)  # type: ignore[arg-type]


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def test_the_view_tells_everything_where_there_is_room() -> None:
    lines = plain(view(seen(), 100, 16))
    assert lines[0] == "toy-abc123-1  toy  running for 13 min"
    assert lines[1].startswith("master  loss 1.301 [1.299, 1.303] confirmed") and lines[2].startswith("gain")
    assert [line[:6] for line in lines[3:9]] == [f"slot {n}" for n in range(6)] and lines[8].endswith("idle")
    assert (
        "7 of 30 without a promotion" in lines[10] and "$0.12 of $20" in lines[10] and "12 worse" in lines[11]
    )


def test_slots_that_have_no_room_are_counted() -> None:
    lines = plain(view(seen(slots=64), 80, 7))
    assert len(lines) == 7 and "and 2 more at work, 60 idle" in lines


def test_the_view_takes_markup_for_text() -> None:
    assert any("[red]no[/]" in line for line in plain(view(seen(), 120, 16)))


@given(st.integers(8, 200), st.integers(1, 60), st.integers(0, 9), st.text(max_size=60))
def test_the_view_always_fits(width: int, rows: int, slots: int, words: str) -> None:
    from autolab.ledger.views import cell

    busy = tuple(Busy(n, cell(words)[:9], "screen", cell(words), 1e5 * n, 0.001) for n in range(slots))
    lines = view(seen(busy=busy, slots=slots, campaign=cell(words)), width, rows_for_view(rows))
    assert len(lines) <= max(2, rows - 1) and all(line.cell_len <= width for line in lines)


def drawn(*frames: tuple[list[Text], list[Text]]) -> str:
    file = io.StringIO()
    place = InPlace(file)
    for log, lines in frames:
        place.draw(log, lines)
    return file.getvalue()


def test_a_new_view_stands_where_the_last_one_stood() -> None:
    written = drawn(([], [Text("one"), Text("two")]), ([Text("log")], [Text("three")]))
    assert written.count("\x1b[2A") == 1 and written.index("log") < written.index("three")


def test_what_is_written_in_place_has_no_codes_but_our_own() -> None:
    written = drawn(([Text("[red]x[/red] :smile:")], [Text("[bold]")]))
    assert "[red]x[/red] :smile:" in written and "[bold]" in written


def test_below_what_somebody_else_wrote_the_view_begins_anew() -> None:
    file = io.StringIO()
    place = InPlace(file)
    place.draw([], [Text("one")])
    place.forget()
    place.draw([], [Text("two")])
    assert "\x1b[1A" not in file.getvalue()


def test_of_many_outcomes_at_once_most_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    async def hundred() -> None:
        keep = View(seen)
        keep.start()
        for n in range(100):
            keep.outcome("worse", lambda n=n: f"outcome {n}")
        keep.stop()

    asyncio.run(hundred())
    written = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert (
        written.count("outcome ") == MOST_LINES
        and f"{100 - MOST_LINES} more: {100 - MOST_LINES} worse" in written
    )


def test_a_terminal_that_is_gone_is_told_to_whoever_speaks_next(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise OSError(5, "gone")

    monkeypatch.setattr(sys, "stdout", Gone())

    async def alone() -> None:
        keep = View(seen)
        keep.start()
        await asyncio.sleep(0.01)
        with pytest.raises(OSError, match="gone"):
            keep.say("anybody?")
        keep.stop()

    asyncio.run(alone())


def test_a_view_that_cannot_be_drawn_says_so_once_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, looks = io.StringIO(), 0
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr("autolab.cli.view.PERIOD", 0.001)

    def look() -> Seen:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise sqlite3.OperationalError("database is locked")
        if looks == 5:
            raise LabError("it is gone", mend="put it back")
        return seen()

    def broken() -> str:
        raise KeyError("no such thing")

    async def alone() -> None:
        keep = View(look)
        keep.start()
        keep.say("before")
        keep.outcome("worse", broken)
        while looks < 8:
            await asyncio.sleep(0.001)
        keep.say("after")
        keep.stop()

    asyncio.run(asyncio.wait_for(alone(), 60))
    written = screen.getvalue()
    for text in ("OperationalError: database is locked", "LabError: it is gone", "KeyError: 'no such thing'"):
        assert written.count(f"the view cannot be drawn now: {text}") == 1
    assert written.count("before") == written.count("after") == 1
    assert written.index("database is locked") < written.index(seen().campaign) < written.index("after")


def test_what_others_print_goes_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)

    async def noisy() -> None:
        keep = View(seen)
        keep.start()
        print("a warning\x1b[2J", file=sys.stderr)
        click.secho("an agent asks", dim=True)
        keep.stop()

    errors = sys.stderr
    asyncio.run(noisy())
    assert (
        "a warning<U+001B>[2J\x1b[K\n" in screen.getvalue() and "an agent asks\x1b[K\n" in screen.getvalue()
    )
    assert sys.stderr is errors and sys.stdout is screen


def test_what_is_seen_agrees_with_the_ledger(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    lab.open_trial(role="worker", agent="test")
    running = {1: Measurement("m", 3, "control-7", 1, 2)}
    watch = Watch(lab, Limits(trials=9, patience=3), running, 2)
    watch.heed(Event("judged", lab.ledger.trial(6)))
    now = watch.look()
    assert (now.trials, now.proposing, now.waiting, now.judging) == (5, 1, 0, 0)
    assert now.fruitless == 2 and now.outcomes == {"worse": 1} and now.dollars == 0.0
    assert now.master is not None and now.master.score.startswith("loss 1.301 [1.299, 1.303] simplification")
    assert [(one.slot, one.trial, one.about) for one in now.busy] == [
        (1, lab.ledger.trial_id(3), "as the master")
    ]
    promoted(lab, 4, "improvement", 0.01)  # by hand: the limit goes by how trials ended
    assert Watch(lab, Limits(), {}, 2).look().fruitless == 1
