"""The commands that read, for people: they fit 80 columns, page when they are long, and nothing that agents or programs
wrote does anything to a terminal, a table or a JSON reader."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from generated import HOSTILE, HOSTILE_FILE, generate
from hypothesis import given
from hypothesis import strategies as st
from masters import ended, opened, the_story
from terminals import Terminal, write_quick
from test_cli import autolab

from autolab.cli import options
from autolab.cli.differences import MOST_ROWS, for_terminal
from autolab.cli.fitting import columns, cut, harmless, head, padded, wrap
from autolab.cli.main import cli
from autolab.cli.summary import summarise
from autolab.cli.told import noise_text
from autolab.ledger.records import Status, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import COLUMNS, TABLE, read_table, write_views
from autolab.program.difference import unified_diff
from autolab.report.overview import overview

READERS = (
    "status", "trials", "trials -n 0", "show 1", "show 7", "show master", "lineage", "lineage 40", "diff 20",
    "diff 20 --against baseline", "master", "audit", "noise", "power", "morning",
)  # fmt: skip
TRIALS = 60


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab after a long night, in which everybody who wrote something meant harm; tests only read it."""
    root = tmp_path_factory.mktemp("hostile") / "lab"
    generate(root, trials=TRIALS, hostile=True)
    with Ledger(root / ".autolab" / "ledger.sqlite") as ledger:
        write_views(ledger, root)
    return root


def told(root: Path, *words: str) -> str:
    done = CliRunner().invoke(cli, [words[0], "-C", str(root), *words[1:]])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


# what fits, and what does nothing ---------------------------------------------------------------------


@pytest.mark.parametrize("words", READERS)
def test_whatever_was_written_stays_text(night: Path, words: str) -> None:
    lines = told(night, *words.split()).split("\n")
    assert all(line.replace("\t", "").isprintable() for line in lines)


@pytest.mark.parametrize(
    "words", [w for w in READERS if w.split()[0] not in ("diff", "morning", "audit", "noise", "power")]
)
def test_lines_fit_80_columns(night: Path, words: str) -> None:
    assert max(map(columns, told(night, *words.split()).split("\n"))) <= 80


@pytest.mark.parametrize("words", [w for w in READERS if w.split()[0] != "morning"])
def test_json_is_one_document_of_numbers_that_exist(night: Path, words: str) -> None:
    text = told(night, *words.split(), "--json")
    text.encode()
    json.loads(text, parse_constant=pytest.fail)


def test_markup_is_shown_as_it_is(night: Path) -> None:
    with Ledger(night / ".autolab" / "ledger.sqlite") as ledger:
        found = [trial for trial in ledger.trials() if trial.proposal and trial.program]
    said = next(t.id for t in found if "</script>" in t.hypothesis)
    changed = next(t.id for t in found if t.proposal and HOSTILE_FILE in [e.path for e in t.proposal.edits])
    assert "</script><img src=x onerror=alert(1)>" in " ".join(told(night, "show", said).split())
    diff = told(night, "diff", changed)
    assert (
        "+++ b/lib/</script><img src=x onerror=alert(3)>{{7*7}}|`b`" in diff
        and "<U+001B>[1m<U+202E>.py" in diff
    )


def test_the_table_has_a_row_for_each_trial_whatever_was_written(night: Path) -> None:
    rows = read_table(night / TABLE)
    assert len(rows) == TRIALS + 1 and all(len(row) == len(COLUMNS) for row in rows)
    assert all(value.isprintable() for row in rows for value in row.values())


@pytest.mark.parametrize("words", HOSTILE)
def test_a_line_of_a_log_keeps_its_words_and_loses_its_power(words: str) -> None:
    for line in words.splitlines():
        shown = harmless(line)
        assert shown.isprintable() and all(word in shown for word in re.findall(r"[a-z]{3,}", line))


# fitting ----------------------------------------------------------------------------------------------

WORDS = st.text(st.sampled_from("ab 日本語é🙂\u0301\u200b-"), max_size=60)


@given(WORDS, st.integers(0, 40))
def test_what_is_cut_fits(text: str, room: int) -> None:
    assert columns(cut(text, room)) <= room and columns(padded(text, room)) == room
    assert text.startswith(head(text, room))


@given(WORDS, st.integers(2, 40))
def test_what_is_wrapped_fits_and_is_all_there(text: str, room: int) -> None:
    lines = wrap(text, room)
    assert all(columns(line) <= room for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(st.text(max_size=80))
def test_a_harmless_line_is_printable(text: str) -> None:
    assert harmless(text).replace("\xa0", "").isprintable()


def test_wide_letters_count_twice(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    ended(lab, opened(lab, "学習率を上げる" * 20, "0.31"), Verdict.WORSE, 1.5, -0.2)
    for words in ("trials", "lineage 7", "show 7", "status"):
        text = told(lab.root, *words.split())
        assert "学習率" in text or words == "status"
        assert max(map(columns, text.split("\n"))) <= 80


# status -----------------------------------------------------------------------------------------------


def test_status_begins_with_the_headline_of_the_report(night: Path, tmp_path: Path) -> None:
    story = the_story(tmp_path / "toy")
    for root in (night, story.root):
        with Ledger(root / ".autolab" / "ledger.sqlite") as ledger:
            campaign = ledger.campaign()
            said = summarise(ledger, campaign, root)["headline"]
            shown = overview(ledger, campaign.id, now=time.time(), alive=False)
        assert said == shown.headline.sentence
        assert told(root, "status").startswith(said[:60])


def test_status_names_what_needs_a_person_first(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    for n in range(6):
        trial = opened(lab, f"idea {n}", f"0.4{n}")
        lab.ledger.finish_trial(trial.number, Status.TAMPERED if n == 0 else Status.CRASH, note="boom")
    lines = told(lab.root, "status").splitlines()
    assert "1 trial broke the rules: `autolab trials --status tampered`" in lines
    assert "5 of 12 trials failed: `autolab trials --status crash`" in lines


def test_status_and_report_mean_the_same_by_failed(tmp_path: Path) -> None:
    """An early abort is no failure, nor is what the machine lost."""
    lab = the_story(tmp_path / "toy")
    ends = [Status.ABORTED, Status.ABORTED, Status.ABORTED, Status.INFRA_ERROR, Status.PROPOSAL_FAILED]
    for n, status in enumerate([*ends, Status.CRASH, Status.NAN, Status.OOM]):
        lab.ledger.finish_trial(opened(lab, f"idea {n}", f"0.4{n}").number, status, note=str(status))
    view = overview(lab.ledger, lab.campaign.id, now=time.time(), alive=False)
    assert sum(len(one.trials) for one in view.concerns if one.kind in ("failures", "crash_cluster")) == 3
    assert " failed: `autolab trials" not in told(lab.root, "status")
    for n in range(6):
        lab.ledger.finish_trial(opened(lab, f"more {n}", f"0.3{n}").number, Status.TIMEOUT, note="too slow")
    view = overview(lab.ledger, lab.campaign.id, now=time.time(), alive=False)
    assert sum(len(one.trials) for one in view.concerns if one.kind in ("failures", "crash_cluster")) == 9
    assert "9 of 20 trials failed: `autolab trials --status timeout`" in told(lab.root, "status").splitlines()


def test_a_task_without_noise_is_not_said_to_have_unknown_noise(tmp_path: Path) -> None:
    lab = write_quick(tmp_path / "quick")
    assert autolab(lab, "run", "--slots", "1", "--trials", "1").returncode == 0
    assert "noise     deterministic: the task says that no run scatters" in told(lab, "status").splitlines()
    assert "not known" not in told(lab, "master") + told(lab, "show", "master")
    assert json.loads(told(lab, "status", "--json"))["deterministic"] is True


@pytest.mark.parametrize(
    ("sd", "df", "words"),
    [
        (None, None, "not known"),
        (0.1, 0, "not known"),
        (0.0, 3, "none seen"),
        (0.0012, 14, "0.0012 a run, 14 degrees"),
    ],
)
def test_the_noise_in_words(sd: float | None, df: int | None, words: str) -> None:
    assert words in noise_text(sd, df)


def test_noise_that_a_task_denies_is_told_if_it_is_there() -> None:
    assert "0.01 a run" in noise_text(0.01, 3, deterministic=True)


# lineage and diff -------------------------------------------------------------------------------------


def test_the_lineage_is_a_chain_with_what_branched_from_it(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    lines = told(lab.root, "lineage").splitlines()
    marks = [line[0] for line in lines if re.search("-000[123]  ", line)]
    assert marks == ["●", "●", "★"] and "master  1.301" in lines[-6] + lines[-5]
    assert lines[-1].startswith("✗  ") and "└─ 3 children: 1 provisional, 1 demoted, 1 worse" in lines


def test_a_long_lineage_stays_short(tmp_path: Path) -> None:
    lab = the_story(tmp_path / "toy")
    last = lab.ledger.trial(1)
    for n in range(60):
        trial = lab.reserve(role="worker", agent="test", parent=(last.program or "", last.number))
        last = lab.ledger.finish_trial(trial.number, Status.CRASH, note=f"step {n}")
    text = told(lab.root, "lineage", str(last.number))
    assert "21 trials in between" in text and last.id in text


def test_a_diff_is_whole_in_a_pipe_and_folded_in_a_terminal() -> None:
    diff = unified_diff({"a.py": "x = 1\n"}, {"a.py": f"x = {'1' * 200}\n\ty = 2\n"})
    assert f"+x = {'1' * 200}\n" in diff and "+\ty = 2\n" in diff
    rows = [click.unstyle(row) for row in for_terminal(diff, 80)]
    assert max(map(columns, rows)) <= 80 and "".join(rows).replace("↪ ", "").count("1" * 200) == 1
    assert "\x1b[32m" in "".join(for_terminal(diff, 80))


def test_a_line_without_end_does_not_fill_the_screen() -> None:
    diff = unified_diff({"a": ""}, {"a": "z" * 100_000})
    rows = [click.unstyle(row) for row in for_terminal(diff, 80)]
    assert len(rows) == 3 + MOST_ROWS and rows[-1].endswith("more characters")


def test_a_diff_names_what_cannot_be_seen() -> None:
    diff = unified_diff({"a": "ok\n"}, {"a": "o\u202ek\u200b\x1b[2J\n", "b\n\x1b.py": "1\n"})
    assert "+o<U+202E>k<U+200B><U+001B>[2J" in diff and "+++ b/b<U+000A><U+001B>.py" in diff


# in a terminal ----------------------------------------------------------------------------------------


def test_what_is_longer_than_the_screen_is_paged_in_colours(night: Path) -> None:
    terminal = Terminal(night, ["trials", "-n", "0"])

    def leave(terminal: Terminal) -> None:
        if terminal.lines[-1].startswith(":"):
            terminal.type(b"q")

    assert terminal.run(leave) == 0
    assert terminal.raw.count(b"abc000-") < TRIALS and b"\x1b[33m" in terminal.raw


def test_the_pager_is_the_one_that_was_asked_for(night: Path) -> None:
    terminal = Terminal(night, ["trials", "-n", "0"], PAGER="cat")
    assert terminal.run() == 0
    assert (
        sum("abc000-" in line for line in terminal.everything) == TRIALS + 1 and b"\x1b[33m" in terminal.raw
    )


@pytest.mark.parametrize("size", [(80, 24), (50, 60)])
def test_what_fits_the_screen_is_not_paged(night: Path, size: tuple[int, int]) -> None:
    terminal = Terminal(night, ["trials", "-n", "9"], *size, PAGER="false")
    assert terminal.run() == 0 and sum("abc000-" in line for line in terminal.lines) == 9
    assert all(columns(line) <= size[0] for line in terminal.lines) and terminal.untouched


# JSON -------------------------------------------------------------------------------------------------


def test_json_has_null_for_what_is_no_number_and_escapes_half_characters() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5], "c": "\ud800 ü", "d": ("x", -float("inf"))}
    text = options.document(value)
    text.encode()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5],
        "c": "\ud800 ü",
        "d": ["x", None],
    }
    assert options.document({"c": "ü"}) == '{"c": "ü"}'
