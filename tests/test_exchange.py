"""Trials cross labs as parts: a union of sets, whatever the order; what is damaged or hostile merges nothing."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import write_toy
from hypothesis import given, settings
from hypothesis import strategies as st
from old_ledgers import old_lab
from publishing import finish, finish_one, results
from stand_ins.hub import BOB, HubServer
from stand_ins.hub.repos import read_file

from autolab.cli.main import cli
from autolab.errors import LabError
from autolab.hub.connection import connect
from autolab.hub.results.publish import push
from autolab.hub.results.pull import pull
from autolab.ledger.exchange import merge, pack
from autolab.ledger.facts import read_part
from autolab.ledger.lineage import lineage_slice
from autolab.ledger.naming import campaign_lab, foreign_name, foreign_number
from autolab.ledger.records import Status
from autolab.ledger.store import Ledger
from autolab.ledger.views import TABLE, master_record, read_table, write_views
from autolab.program.hashing import program_id
from autolab.report.morning import morning
from autolab.report.overview import last_event

pytestmark = pytest.mark.hub

REPO = "alice/results"


def a_lab(root: Path, trials: int) -> Path:
    """A lab with so many finished trials, one of them failed."""
    write_toy(root)
    with results(root) as ledger:
        if trials:
            finish(ledger, trials - 1)
            finish_one(ledger, status=Status.CRASH)
    return root


def opened(root: Path) -> Ledger:
    return Ledger(root / ".autolab" / "ledger.sqlite")


def one_part(root: Path) -> bytes:
    with opened(root) as ledger:
        return b"".join(part.content for part in pack(ledger))


def table_after(root: Path, ledger: Ledger) -> str:
    write_views(ledger, root, rebuild=True)
    return (root / TABLE).read_text()


# a union of sets --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some_parts() -> Iterator[list[bytes]]:
    """Six parts of three labs, the second part of each later than its first."""
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for number in range(3):
            root = a_lab(Path(scratch) / str(number), 3)
            found.append(one_part(root))
            with opened(root) as ledger:
                finish(ledger, 2)
                found += [part.content for part in pack(ledger, after=3)]
        yield found


def facts_of(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Everything about trials that a merge may change, without the order in which they came."""
    queries = (
        "SELECT number, id, campaign, ordinal, parent_trial, parent_program, program, status, score, proposal, note,"
        " finished_at FROM trial ORDER BY id",
        "SELECT id, trial, score, record FROM measurement ORDER BY id",
        "SELECT id, config, noise_sd, lab, created_at FROM campaign ORDER BY id",
        "SELECT id, files FROM program ORDER BY id",
        "SELECT campaign, trial, program, score, at FROM promotion ORDER BY campaign, at",
    )
    return [tuple(row) for query in queries for row in ledger.rows.execute(query)]


@settings(max_examples=25, deadline=None)
@given(order=st.lists(st.integers(0, 5), min_size=1, max_size=10))
def test_the_order_and_the_number_of_merges_make_no_difference(
    some_parts: list[bytes], order: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        at_once, one_by_one = (Ledger(Path(scratch) / name / "ledger.sqlite") for name in ("a", "b"))
        for number in order:
            merge(one_by_one, [read_part(some_parts[number], "p")])
        done = merge(
            at_once, [read_part(some_parts[number], "p") for number in sorted(set(order), reverse=True)]
        )
        assert done.new == sum(3 if number % 2 == 0 else 2 for number in set(order))
        assert facts_of(at_once) == facts_of(one_by_one)
        tables = {table_after(Path(scratch), ledger) for ledger in (at_once, one_by_one)}
        assert len(tables) == 1 and tables.pop().count("\n") == done.new + 1
        assert merge(at_once, [read_part(some_parts[number], "p") for number in order]).new == 0


def test_what_came_is_what_its_lab_has(tmp_path: Path) -> None:
    theirs = a_lab(tmp_path / "theirs", 4)
    ours = a_lab(tmp_path / "ours", 2)
    with opened(theirs) as there, opened(ours) as here:
        done = merge(here, [read_part(one_part(theirs), "p")])
        assert (done.new, done.known, done.labs) == (4, 0, 1)
        name = there.campaign().id
        assert table_after(theirs, there).splitlines()[1:] == [
            line for line in table_after(ours, here).splitlines() if f"\t{name}\t" in line
        ]
        theirs_master, ours_master = (master_record(ledger, name) for ledger in (there, here))
        assert theirs_master == ours_master
        assert here.campaign(name).noise_sd == 0.002


def test_a_trial_may_come_before_its_parent(tmp_path: Path) -> None:
    """A candidate that is refused finishes before the baseline, and a campaign may end there."""
    theirs = write_toy(tmp_path / "theirs")
    with results(theirs) as ledger:
        campaign = ledger.campaign().id
        kept = {"role": "worker", "agent": "w", "surface": "", "parent_program": ledger.campaign().baseline}
        baseline = ledger.open_trial(campaign, parent_trial=None, **kept)
        child = ledger.open_trial(campaign, parent_trial=baseline.number, **kept)
        ledger.finish_trial(child.number, Status.PROPOSAL_FAILED, note="no answer")
    with Ledger(tmp_path / "ours" / "ledger.sqlite") as here:
        merge(here, [read_part(one_part(theirs), "p")])
        assert f"\t{baseline.id}\t" in table_after(tmp_path, here)


def test_large_ledgers_come_in_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolab.ledger.exchange.MOST_TRIALS", 2)
    theirs = a_lab(tmp_path / "theirs", 5)
    with opened(theirs) as ledger:
        found = list(pack(ledger))
    assert [(part.first, part.last) for part in found] == [(1, 2), (3, 4), (5, 5)]
    with Ledger(tmp_path / "ours" / "ledger.sqlite") as here:
        assert merge(here, [read_part(part.content, "p") for part in found]).new == 5


def test_the_same_trials_give_the_same_bytes_even_in_other_labs_company(tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 3)
    before = one_part(ours)
    with opened(ours) as here:
        merge(here, [read_part(one_part(theirs), "p")])
        assert [part.content for part in pack(here)] == [before]


def test_names_of_trials_and_their_numbers_abroad_are_one_to_one() -> None:
    names = ["000000-0001", "0000-0001", "ffffff-9999999999", "ffff-12345", "3fa2c1-0007", "00003f-0007"]
    numbers = [foreign_number(name) for name in names]
    assert [foreign_name(number) for number in numbers] == names
    assert len(set(numbers)) == len(names) and all(-(2**63) < number < 0 for number in numbers)


# own things stay --------------------------------------------------------------------------------------


def test_a_lab_goes_on_as_if_nothing_had_come(tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 6), a_lab(tmp_path / "ours", 3)
    with opened(ours) as here:

        def sight() -> list[object]:
            name = here.campaign().id
            return [
                [campaign.id for campaign in here.campaigns()], here.count(), here.find_trial("master").id,
                lineage_slice(here, name), morning(here, name, now=last_event(here, name), alive=True),
                here.find_trial("2").id,
            ]  # fmt: skip

        before = sight()
        merge(here, [read_part(one_part(theirs), "p")])
        assert sight() == before
        assert finish_one(here).id.endswith("-0004")


def test_own_trials_that_come_back_are_compared(tmp_path: Path) -> None:
    ours = a_lab(tmp_path / "ours", 3)
    part = one_part(ours)
    with opened(ours) as here:
        before = facts_of(here)
        done = merge(here, [read_part(part, "p")])
        assert (done.new, done.known) == (0, 3) and facts_of(here) == before
        trial = next(here.trials())
        with pytest.raises(LabError, match=f"p: trial {trial.id} says something else there than here"):
            merge(here, [read_part(part.replace(b'"note":""', b'"note":"better"'), "p")])


def test_a_copied_lab_that_went_on_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    ours = a_lab(tmp_path / "ours", 2)
    copy = Path(shutil.copytree(ours, tmp_path / "copy"))
    with opened(copy) as ledger:
        finish(ledger, 1)
    with opened(ours) as here, pytest.raises(LabError, match="of this lab, which its ledger does not have"):
        merge(here, [read_part(one_part(copy), "p")])


def test_another_content_under_a_known_name_merges_nothing(tmp_path: Path) -> None:
    theirs, others = a_lab(tmp_path / "theirs", 3), a_lab(tmp_path / "others", 2)
    part = one_part(theirs)
    with Ledger(tmp_path / "ours" / "ledger.sqlite") as here:
        merge(here, [read_part(part, "p")])
        before = facts_of(here)
        forged = part.replace(b'"seed":7', b'"seed":9')
        with pytest.raises(LabError, match=r"trial \w+-0001 says something else"):
            merge(here, [read_part(one_part(others), "o"), read_part(forged, "p")])
        assert facts_of(here) == before
        forged = part.replace(b'"task":"toy"', b'"task":"other"')
        with pytest.raises(LabError, match=r"campaign c-\w+-1 says something else"):
            merge(here, [read_part(forged, "p")])


def die_in_the_middle(ledger_path: Path, part: bytes) -> None:
    ledger = Ledger(ledger_path)
    found = read_part(part, "p")
    steps = itertools.count()
    ledger.rows.set_trace_callback(
        lambda statement: (
            os.kill(os.getpid(), signal.SIGKILL)
            if "INSERT INTO trial" in statement and next(steps) == 2
            else None
        )
    )
    merge(ledger, [found])


def test_a_merge_that_is_killed_leaves_nothing_half(tmp_path: Path) -> None:
    part = one_part(a_lab(tmp_path / "theirs", 4))
    path = tmp_path / "ours" / "ledger.sqlite"
    with Ledger(path) as here:
        before = facts_of(here)
    process = multiprocessing.get_context("spawn").Process(target=die_in_the_middle, args=(path, part))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with Ledger(path) as here:
        assert facts_of(here) == before == []
        assert merge(here, [read_part(part, "p")]).new == 4


def test_labs_of_an_earlier_version_share_their_trials_once_they_are_upgraded(
    hub: HubServer, tmp_path: Path
) -> None:
    """In both, the campaign was called `c-1`."""
    roots = [tmp_path / "a", tmp_path / "b", a_lab(tmp_path / "new", 1)]
    for root, lab in zip(roots, ("3fa2", "77c0"), strict=False):
        old_lab(root, lab)
    publish_all(*roots)
    for root in roots:
        with opened(root) as ledger:
            pull(connect(), ledger, root, REPO)
    tables = {(root / TABLE).read_bytes() for root in roots}
    assert tables == {read_file(hub, "datasets", REPO, TABLE)}
    campaigns = {row["campaign"] for row in read_table(roots[0] / TABLE)}
    assert len(campaigns) == 3 and campaigns > {"c-3fa2-1", "c-77c0-1"}


def test_a_trial_from_the_future_is_refused_by_name(tmp_path: Path, good: list[dict[str, Any]]) -> None:
    name, now = good[-1]["id"], time.time()
    with Ledger(tmp_path / "ledger.sqlite") as here:
        part = read_part(forged(good, "trial", finished_at=now + 3600), "p")
        with pytest.raises(
            LabError, match=f"p: trial {name} finished in the future, at 20.*nothing was merged"
        ):
            merge(here, [part])
        assert facts_of(here) == []
        merge(here, [read_part(forged(good, "trial", finished_at=now + 60), "p")])  # clocks differ a little


@pytest.mark.parametrize(
    ("campaign", "lab"),
    [("c-3fa2-1", "3fa2"), ("c-3fa2c1-12", "3fa2c1"), ("net-2024-3fa2c1-1", "3fa2c1"), ("c-1", "")],
)
def test_a_campaign_says_whose_it_is(campaign: str, lab: str) -> None:
    assert campaign_lab(campaign) == lab


# damaged and hostile parts ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The facts of a part: its lab, a program, a campaign, a trial, …"""
    part = one_part(a_lab(tmp_path_factory.mktemp("good"), 3))
    return [json.loads(line) for line in part.splitlines()]


def forged(facts: list[dict[str, Any]], about: str, **changes: Any) -> bytes:
    """A part whose last fact of a kind says something else."""
    facts = [dict(fact) for fact in facts]
    chosen = [fact for fact in facts if fact["kind"] == about][-1]
    chosen.update(changes)
    return "".join(json.dumps(fact) + "\n" for fact in facts).encode()


EVIL = {"../../evil.py": "x"}


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("lab", {"version": 2}, "line 1: is damaged: it was written by another version"),
        ("lab", {"trials": 4}, "its end is missing"),
        ("lab", {"id": "abcdef"}, "is of another lab"),
        ("program", {"files": {"a.py": "other"}}, "the content is not the one of that id"),
        ("program", {"files": EVIL, "id": program_id(EVIL)}, "not a plain one below"),
        ("program", {"files": {"/etc/x": ""}, "id": program_id({"/etc/x": ""})}, "not a plain one below"),
        ("program", {"files": {".git/config": ""}, "id": program_id({".git/config": ""})}, "not a plain one"),
        ("campaign", {"id": "../../results"}, "campaign.id"),
        ("campaign", {"id": "c-abcdef-1"}, "the campaign is of another lab"),
        ("campaign", {"config": {}}, "metric: Field required"),
        ("campaign", {"created_at": 1e300}, "created_at"),
        ("trial", {"id": "abcdef-0009"}, "of another lab"),
        ("trial", {"id": "1; DROP TABLE trial"}, "trial.id"),
        ("trial", {"score": 1.0}, "it failed and has a score"),
        ("trial", {"delta": float("nan")}, "trial.delta"),
        ("trial", {"delta": float("inf")}, "trial.delta"),
        ("trial", {"ordinal": -1}, "trial.ordinal"),
        ("trial", {"ordinal": 10**30}, "trial.ordinal"),
        ("trial", {"finished_at": "now"}, "trial.finished_at"),
        ("trial", {"status": "great"}, "trial.status"),
        ("trial", {"program": "0" * 16}, "a program that is not in this part"),
        ("trial", {"campaign": "other"}, "a campaign that is not in this part"),
        ("trial", {"note": "\ud800"}, "is damaged"),
        ("trial", {"agent": "\x1b[2J"}, "control or invisible characters"),
        ("trial", {"surface": "\u202eevil"}, "control or invisible characters"),
        ("trial", {"colour": "red"}, "Extra inputs are not permitted"),
        ("trial", {"kind": "tribble"}, "tribble"),
    ],
)
def test_a_part_that_cannot_be_believed_is_one_line(
    good: list[dict[str, Any]], kind: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(LabError) as problem:
        read_part(forged(good, kind, **changes), "repo alice/results trials/x.jsonl")
    text = str(problem.value)
    assert text.startswith("repo alice/results trials/x.jsonl line ") and said in text
    assert "nothing was merged" in text and len(text) < 400 and text.isprintable()


def test_a_chain_of_parents_that_is_a_ring_is_refused(good: list[dict[str, Any]]) -> None:
    name = good[-1]["id"]
    with pytest.raises(LabError, match="its parent was opened later"):
        read_part(forged(good, "trial", parent=name), "p")
    with pytest.raises(LabError, match="of another lab"):
        read_part(forged(good, "trial", parent="abcdef-0001"), "p")


def test_a_measurement_cannot_take_another_trials_name(good: list[dict[str, Any]]) -> None:
    (measured,) = good[-1]["measurements"]
    for name in ("abcdef-0001-screen-0-1", good[-1]["id"]):
        with pytest.raises(LabError, match="a measurement has another trial's name"):
            read_part(forged(good, "trial", measurements=[{**measured, "id": name}]), "p")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{", b"[]\n", b"\xff\xfe", b"[" * 100_000, b'{"kind":"lab"}\n', b"null\n" * 3, b"1" * 5000],
)
def test_what_is_no_part_at_all_is_one_line(content: bytes) -> None:
    with pytest.raises(LabError, match="p line 1: is damaged"):
        read_part(content, "p")


def test_a_part_that_was_cut_or_doubled_is_refused(good: list[dict[str, Any]]) -> None:
    lines = forged(good, "lab").splitlines(keepends=True)
    for content in (
        lines[:-1],
        [*lines, lines[-1]],
        [*lines, lines[0]],
        lines[1:],
        [*lines[:-1], lines[-1][:90]],
    ):
        with pytest.raises(LabError, match="is damaged"):
            read_part(b"".join(content), "p")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_change_of_a_byte_does_more_than_refuse(good: list[dict[str, Any]], data: st.DataObject) -> None:
    content = bytearray(forged(good, "lab"))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as scratch, Ledger(Path(scratch) / "ledger.sqlite") as here:
        try:
            merge(here, [read_part(bytes(content), "p")])
        except LabError:
            assert facts_of(here) == []
        table_after(Path(scratch), here)


# over the Hub -----------------------------------------------------------------------------------------


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def publish_all(*roots: Path) -> None:
    for root in roots:
        with opened(root) as ledger:
            push(connect(), ledger, root, REPO)


def test_labs_that_share_a_repo_come_to_the_same_bytes(hub: HubServer, tmp_path: Path) -> None:
    roots = [a_lab(tmp_path / name, 3) for name in ("a", "b", "c")]
    publish_all(*roots)
    for root in roots:
        with opened(root) as ledger:
            done = pull(connect(), ledger, root, REPO)
            assert (done.new, done.labs, done.known) == (6, 2, 3)
    tables = {(root / TABLE).read_bytes() for root in roots}
    assert tables == {read_file(hub, "datasets", REPO, TABLE)}
    publish_all(*roots)  # with everything of all others in their ledgers
    assert read_file(hub, "datasets", REPO, TABLE) in tables
    assert len(hub.repos["datasets", REPO].commits) == 4


def test_labs_that_publish_at_the_same_moment_lose_no_row(hub: HubServer, tmp_path: Path) -> None:
    roots = [a_lab(tmp_path / str(number), 3) for number in range(4)]
    together = threading.Barrier(len(roots))

    def one(root: Path) -> bytes:
        api = connect()
        with opened(root) as ledger:
            together.wait(60)
            push(api, ledger, root, REPO)
            together.wait(60)
            pull(api, ledger, root, REPO)
        return (root / TABLE).read_bytes()

    with ThreadPoolExecutor(len(roots)) as pool:
        tables = set(pool.map(one, roots))
    assert tables == {read_file(hub, "datasets", REPO, TABLE)}
    assert tables.pop().count(b"\n") == 13
    assert len(hub.repos["datasets", REPO].commits) == 5


def test_the_command_says_what_came(hub: HubServer, tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 4), a_lab(tmp_path / "ours", 1)
    publish_all(theirs, ours)
    assert run("pull", REPO, "-C", str(ours)).startswith("4 new trials of 1 lab, 1 known (alice/results at ")
    assert run("pull", REPO, "-C", str(ours)).startswith("0 new trials, 5 known")
    with opened(theirs) as ledger:
        name, trial = ledger.campaign().id, ledger.find_trial("master").id
    assert trial in run("trials", "-C", str(ours), "--campaign", name)
    assert name in run("show", "-C", str(ours), trial)
    for command in ("status", "master", "morning"):
        assert name in run(command, "-C", str(ours), "--campaign", name)
    assert "1 trials finished" in run("status", "-C", str(ours))


def test_a_part_is_fetched_once(hub: HubServer, tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 0)
    publish_all(theirs)
    with opened(ours) as here:
        pull(connect(), here, ours, REPO)
        with opened(theirs) as there:
            finish(there, 1)
        publish_all(theirs)
        hub.requests.clear()
        done = pull(connect(), here, ours, REPO)
    assert (done.new, done.known) == (1, 2)
    (fetched,) = {request.split("/")[-1] for request in hub.asked("GET .*/resolve/")}
    assert fetched.endswith("-000003-000003.jsonl")


def test_a_lab_without_a_campaign_can_read_others(hub: HubServer, tmp_path: Path) -> None:
    publish_all(a_lab(tmp_path / "theirs", 3))
    ours = write_toy(tmp_path / "ours")
    with opened(ours) as here:
        assert pull(connect(), here, ours, REPO).new == 3
        assert here.campaigns() == []
    assert (ours / TABLE).read_text().count("\n") == 4


def test_a_public_repo_of_another_account_can_be_pulled(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 1)
    with opened(theirs) as ledger:
        push(connect(), ledger, theirs, REPO, public=True)
    monkeypatch.setenv("HF_TOKEN", BOB)
    with opened(ours) as here:
        assert pull(connect(), here, ours, REPO).new == 2


def test_an_earlier_revision_can_be_pulled(hub: HubServer, tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 1)
    publish_all(theirs)
    earlier = hub.repos["datasets", REPO].commits[-1].name
    with opened(theirs) as ledger:
        finish(ledger, 2)
    publish_all(theirs)
    with opened(ours) as here:
        assert pull(connect(), here, ours, REPO, earlier).new == 2
        assert pull(connect(), here, ours, REPO).new == 2


def test_a_hub_that_does_not_answer_is_one_line(hub: HubServer, tmp_path: Path) -> None:
    ours = a_lab(tmp_path / "ours", 1)
    hub.__exit__()
    with opened(ours) as here, pytest.raises(LabError, match="the Hub does not answer"):
        pull(connect(seconds=1), here, ours, REPO)


def test_a_hostile_part_in_the_repo_merges_nothing(hub: HubServer, tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 1)
    publish_all(theirs)
    path = "trials/ffffff-000001-000001.jsonl"
    connect().upload_file(
        path_or_fileobj=b'{"kind":"lab","\x1b[2J', path_in_repo=path, repo_id=REPO, repo_type="dataset"
    )
    with opened(ours) as here:
        before = facts_of(here)
        with pytest.raises(LabError, match=f"repo {REPO} {path} line 1: is damaged"):
            pull(connect(), here, ours, REPO)
        assert facts_of(here) == before


@pytest.mark.parametrize(
    ("repo", "revision", "said"),
    [
        ("alice/nothing", None, "repo alice/nothing"),
        ("no name", None, "OWNER/NAME"),
        (REPO, "0123456789", "no such"),
        ("alice/empty", None, "holds no trials of any lab"),
    ],
)
def test_a_repo_that_cannot_be_pulled_is_one_line(
    hub: HubServer, tmp_path: Path, repo: str, revision: str | None, said: str
) -> None:
    ours = a_lab(tmp_path / "ours", 1)
    publish_all(ours)
    connect().create_repo("alice/empty", repo_type="dataset", private=True)
    with opened(ours) as here, pytest.raises(LabError, match=said):
        pull(connect(), here, ours, repo, revision)


def test_another_labs_trial_is_shown_but_never_measured_here(tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 1)
    with opened(ours) as here:
        merge(here, [read_part(one_part(theirs), "p")])
    with opened(theirs) as there:
        name = there.find_trial("2").id
    assert CliRunner().invoke(cli, ["show", name, "-C", str(ours)]).exit_code == 0
    refused = CliRunner().invoke(cli, ["replay", name, "-C", str(ours)]).exception
    assert isinstance(refused, LabError) and "another lab's" in str(refused)


def test_ancestors_that_have_not_come_are_named(tmp_path: Path) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 3), a_lab(tmp_path / "ours", 1)
    with opened(theirs) as there, opened(ours) as here:
        merge(here, [read_part(part.content, "p") for part in pack(there, after=1)])
        child, parent = there.trial(2).id, there.trial(1).id
    refused = CliRunner().invoke(cli, ["lineage", child, "-C", str(ours)]).exception
    assert isinstance(refused, LabError) and f"trial {parent} of another lab has not come here" in str(
        refused
    )


def test_a_lab_whose_ledger_is_behind_what_it_published_is_told(hub: HubServer, tmp_path: Path) -> None:
    ours = a_lab(tmp_path / "ours", 2)
    restored = Path(shutil.copytree(ours, tmp_path / "restored"))
    with opened(ours) as ledger:
        finish(ledger, 2)
    publish_all(ours)
    with opened(restored) as ledger:
        finish(ledger, 1)
    before = len(hub.repos["datasets", REPO].commits)
    with pytest.raises(
        LabError, match=r"trials/\w{6}-000001-000004.jsonl: holds trials of this lab that its ledger"
    ):
        publish_all(restored)
    assert len(hub.repos["datasets", REPO].commits) == before


def test_a_part_under_another_labs_name_is_refused(tmp_path: Path, hub: HubServer) -> None:
    theirs, ours = a_lab(tmp_path / "theirs", 2), a_lab(tmp_path / "ours", 1)
    connect().create_repo(REPO, repo_type="dataset", private=True)
    wrong = "trials/abcdef-000001-000002.jsonl"
    connect().upload_file(
        path_or_fileobj=one_part(theirs), path_in_repo=wrong, repo_id=REPO, repo_type="dataset"
    )
    with opened(ours) as here, pytest.raises(LabError, match="whatever its name says"):
        pull(connect(), here, ours, REPO)
