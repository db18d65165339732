"""The mirror in Trackio: taken in by the real Trackio, it is what the ledger says, once, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from generated import SEALED, generate
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.cli.main import cli
from autolab.lab import Lab, begin_campaign, open_lab
from autolab.ledger.masters import is_sealed, outcome, states, steps
from autolab.ledger.records import Proposal, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell
from autolab.report.trackio import Mirror, cursor, fleet
from autolab.report.trackio.child import take_in
from autolab.report.trackio.inbox import VERSION, Inbox, metric_record
from autolab.report.trackio.naming import fleet_name, plain, project_name, run_name
from autolab.task import Edit

trackio = pytest.importorskip("trackio")

from trackio import fragments, sqlite_storage, utils  # noqa: E402
from trackio.sqlite_storage import SQLiteStorage  # noqa: E402

TRIALS = 24


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab after a night, with everything that can happen to a trial in it."""
    root = tmp_path_factory.mktemp("night") / "lab"
    generate(root, trials=TRIALS, hostile=True)
    return root


@pytest.fixture
def lab(night: Path, tmp_path: Path) -> Path:
    """A copy of that lab."""
    return Path(shutil.copytree(night, tmp_path / "lab", symlinks=True))


@contextlib.contextmanager
def trackio_in(path: Path) -> Iterator[Path]:
    """Trackio with its directory there; it reads where that is when it is imported."""
    settings = {"TRACKIO_DIR": str(path), "TRACKIO_SQLITE_SYNCHRONOUS": "OFF", "HF_HUB_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for module in (utils, sqlite_storage):
            patch.setattr(module, "TRACKIO_DIR", path)
        for name, value in settings.items():
            patch.setenv(name, value)
        yield path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The Trackio directory of a test."""
    with trackio_in(tmp_path / "trackio") as path:
        yield path


@pytest.fixture(scope="module")
def expected(night: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """What Trackio keeps of that lab if nothing goes wrong."""
    with trackio_in(tmp_path_factory.mktemp("expected") / "trackio") as path:
        write(night, path)
        take_in()
        return content(path)


def opened(lab: Path) -> Ledger:
    return Ledger(lab / ".autolab" / "ledger.sqlite", create=False)


def write(lab: Path, directory: Path, *, rebuild: bool = False) -> int:
    """Mirror what is missing; returns how many records were written."""
    with opened(lab) as ledger:
        return Mirror(ledger, directory).write(alive=False, rebuild=rebuild)


def rows(directory: Path, table: str = "metrics") -> list[dict[str, Any]]:
    """Every row that Trackio keeps, of all projects."""
    found = []
    for path in sorted(directory.glob("*.db")):
        with sqlite3.connect(path) as db:
            db.row_factory = sqlite3.Row
            found += [
                {"project": path.stem, **dict(row)}
                for row in db.execute(f"SELECT * FROM {table} ORDER BY id")
            ]
    for row in found:
        for name in ("metrics", "config"):
            if name in row:
                row[name] = json.loads(row[name])
    return found


def content(directory: Path) -> tuple[Any, ...]:
    """What Trackio keeps, without its own numbers and times."""
    own = ("id", "created_at")
    tables = []
    for table in ("metrics", "configs", "alerts"):
        kept = [
            {name: value for name, value in row.items() if name not in own} for row in rows(directory, table)
        ]
        tables.append(sorted(json.dumps(row, sort_keys=True) for row in kept))
    return tuple(tables)


def mirrored(ledger: Ledger) -> dict[str, Trial]:
    """The trials that there is something to show of, by id."""
    campaign = ledger.campaign().id
    return {trial.id: trial for trial in ledger.sequence(campaign) if trial.state != "open"}


def test_what_trackio_shows_is_what_the_ledger_says(lab: Path, directory: Path) -> None:
    write(lab, directory)
    fragments.import_inbox_dir()
    with opened(lab) as ledger:
        campaign = ledger.campaign()
        project, trials = project_name(campaign.task, campaign.key), mirrored(ledger)
        curves: dict[str, list[tuple[int, float]]] = {}
        finals: dict[str, dict[str, float]] = {}
        for row in rows(directory):
            if row["project"] == project and "train/claimed" in row["metrics"]:
                curves.setdefault(row["run_id"], []).append((row["step"], row["metrics"]["train/claimed"]))
            if "final/loss" in row["metrics"]:
                finals[row["run_id"]] = row["metrics"]
        for trial in trials.values():
            seen = [m for m in ledger.measurements(trial.number) if m.id.startswith(f"{trial.id}-screen-0-")]
            told = [
                (round(1000 * at), value)
                for m in seen[-1:]
                if m.status != "infra_error"
                for at, value in m.curve
            ]
            assert sorted(curves.get(trial.id, [])) == told
            if trial.score is None:
                assert trial.id not in finals
            elif trial.state == "done":
                assert finals[trial.id]["final/loss"] == trial.score
                assert finals[trial.id].get("final/delta_vs_master") == trial.delta
        assert any(curves.values())


def test_a_run_says_what_became_of_its_trial(lab: Path, directory: Path) -> None:
    write(lab, directory)
    fragments.import_inbox_dir()
    with opened(lab) as ledger:
        campaign = ledger.campaign()
        known = states(steps(ledger, campaign.id))
        configs = SQLiteStorage.get_all_run_configs(project_name(campaign.task, campaign.key))
        by_trial = {config["trial"]: config for config in configs.values()}
        trials = mirrored(ledger)
        assert by_trial.keys() == trials.keys()
        for name, config in by_trial.items():
            assert config["outcome"] == outcome(trials[name], known)
            assert config["status"] == str(trials[name].status or trials[name].state)
            assert config["_Group"] == campaign.id
            assert config.get("hypothesis", "") == plain(trials[name].hypothesis)


def test_a_trial_that_never_logs_is_there(lab: Path, directory: Path) -> None:
    write(lab, directory)
    fragments.import_inbox_dir()
    with opened(lab) as ledger:
        silent = [trial for trial in mirrored(ledger).values() if trial.status is Status.PREFLIGHT_FAILED]
    shown = {row["run_name"] for row in rows(directory)}
    assert silent and all(run_name(trial) in shown for trial in silent)


def test_writing_it_again_adds_nothing(lab: Path, directory: Path, expected: tuple[Any, ...]) -> None:
    write(lab, directory)
    fragments.import_inbox_dir()
    assert write(lab, directory) == 0
    assert write(lab, directory, rebuild=True) > 0
    fragments.import_inbox_dir()
    assert content(directory) == expected


@pytest.mark.parametrize("damage", ["lost", "half", "other"])
def test_the_cursor_only_saves_work(
    lab: Path, directory: Path, expected: tuple[Any, ...], damage: str
) -> None:
    write(lab, directory)
    (path,) = directory.glob("*.cursor.json")
    text = path.read_text()
    path.write_text({"lost": "", "half": text[: len(text) // 2], "other": '{"format": 0}'}[damage])
    assert write(lab, directory) > 0
    fragments.import_inbox_dir()
    assert content(directory) == expected


def test_what_somebody_removed_is_written_anew(lab: Path, directory: Path, expected: tuple[Any, ...]) -> None:
    write(lab, directory)
    for path in directory.rglob("*.jsonl"):
        path.unlink()
    write(lab, directory)
    fragments.import_inbox_dir()
    assert content(directory) == expected


def test_a_mirror_that_was_there_all_the_while_has_what_one_has_that_came_later(
    toy: Path, directory: Path
) -> None:
    with open_lab(toy, create=True) as ledger:
        lab = begin_campaign(toy, ledger, name=None, profile="cpu", config={"slots": 1, "seed": 0})
        for _ in growing(lab):
            with opened(toy) as own:
                Mirror(own, directory).write(alive=True)
            fragments.import_inbox_dir()
    write(toy, directory)
    fragments.import_inbox_dir()
    rows_before, configs_before, alerts_before = content(directory)
    shutil.rmtree(directory)
    write(toy, directory)
    fragments.import_inbox_dir()
    metrics, configs, alerts = content(directory)
    assert configs == configs_before and alerts == alerts_before
    assert [row for row in metrics if "fleet" not in row] == [
        row for row in rows_before if "fleet" not in row
    ]


def growing(lab: Lab) -> Iterator[None]:
    """Three trials, the last of which is promoted and then taken back, with a pause wherever something was recorded."""
    ledger, campaign = lab.ledger, lab.campaign.id
    first = next(ledger.sequence(campaign))
    master = ledger.finish_trial(first.number, Status.OK, score=1.4, interval=(1.3, 1.5))
    ledger.promote(master, score=1.4, interval=(1.3, 1.5), gain=0.0, reason="", kind="baseline")
    yield
    for number, status in enumerate([Status.OK, Status.NAN, Status.OK], start=1):
        ticket = lab.open_trial(role="worker", agent="a")
        yield
        edit = Edit(path="train.py", search="RATE = 0.5", replace=f"RATE = 0.{number}")
        lab.submit(ticket, Proposal(f"rate {number}", (edit,)))
        yield
        measurement = lab.needed(ledger.trial(ticket.number), "screen")
        ledger.start_measurement(measurement)
        yield
        score = 1.4 - number / 10 if status is Status.OK else None
        curve = tuple((step / 10, 2 - step / 10) for step in range(1, 11))
        times = {"started_at": time.time(), "finished_at": time.time()}
        ledger.finish_measurement(measurement.replace(status=status, score=score, curve=curve, **times))
        yield
        verdict = Verdict.CONFIRMED if number == 3 else Verdict.WORSE if score else None
        done = ledger.finish_trial(ticket.number, status, verdict=verdict, score=score, delta=score and 0.1)
        yield
    ledger.promote(done, score=1.1, interval=(1.0, 1.2), gain=0.3, reason="better")
    yield
    ledger.promote(master, score=1.4, interval=(1.3, 1.5), gain=-0.3, reason="luck", kind="demotion")
    yield


KILLED = """
import os, signal, sys
from pathlib import Path
from autolab.ledger.store import Ledger
from autolab.report.trackio import Mirror, mirror

mirror.BATCH, left = 200, int(sys.argv[3])

def counted(event, arguments):
    global left
    if event in ("open", "os.rename") and sys.argv[2] in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

with Ledger(Path(sys.argv[1]), create=False) as ledger:
    target = Mirror(ledger, Path(sys.argv[2]))
    sys.addaudithook(counted)
    target.write(alive=False)
"""


@pytest.mark.parametrize("after", [0, 3, 5])
def test_killed_in_the_middle_it_misses_nothing_and_has_nothing_twice(
    lab: Path, directory: Path, expected: tuple[Any, ...], after: int
) -> None:
    directory.mkdir()
    words = [str(lab / ".autolab" / "ledger.sqlite"), str(directory), str(after)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *words], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    if after == 3:
        fragments.import_inbox_dir()
    write(lab, directory)
    fragments.import_inbox_dir()
    assert content(directory) == expected


def test_what_agents_write_stays_text(lab: Path, directory: Path) -> None:
    write(lab, directory)
    for path in directory.rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            record = json.loads(line.decode("utf-8"))
            texts = [
                record["run"],
                *(record.get("config") or {}).values(),
                record.get("title"),
                record.get("text"),
            ]
            for text in texts:
                if isinstance(text, str):
                    assert text == cell(text)
    fragments.import_inbox_dir()
    told = [config["config"].get("hypothesis", "") for config in rows(directory, "configs")]
    assert any("<img src=x" in text for text in told)
    assert all(utils.canonical_project_name(row["project"]) == row["project"] for row in rows(directory))


def test_looks_at_the_sealed_split_are_never_shown(lab: Path, directory: Path) -> None:
    write(lab, directory)
    with opened(lab) as ledger:
        measured = [m for trial in mirrored(ledger).values() for m in ledger.measurements(trial.number)]
    looks = [one for one in measured if is_sealed(one)]
    assert looks and all(one.score is not None and one.score > SEALED for one in looks if one.status == "ok")
    text = "".join(path.read_text() for path in directory.rglob("*.jsonl"))
    assert not any(one.id in text or f"{one.score!r}" in text for one in looks)


def test_failures_have_no_score(lab: Path, directory: Path) -> None:
    write(lab, directory)
    fragments.import_inbox_dir()
    with opened(lab) as ledger:
        failed = {name for name, trial in mirrored(ledger).items() if trial.status not in (Status.OK, None)}
    assert failed
    for row in rows(directory):
        if row["run_id"] in failed:
            assert not any(name.startswith("final/") for name in row["metrics"])


def test_every_failure_has_one_alert(lab: Path, directory: Path) -> None:
    write(lab, directory)
    write(lab, directory, rebuild=True)
    fragments.import_inbox_dir()
    alerts = [row["alert_id"] for row in rows(directory, "alerts")]
    assert len(alerts) == len(set(alerts))
    with opened(lab) as ledger:
        for trial in mirrored(ledger).values():
            broke = trial.status in (Status.TAMPERED, Status.ILLEGAL)
            assert (f"nan:{trial.id}" in alerts) == (trial.status is Status.NAN)
            assert (f"tampering:{trial.id}" in alerts) == broke
        masters = [
            step.trial.id for step in steps(ledger, ledger.campaign().id) if step.kind == "improvement"
        ]
    assert all(any(name.startswith(f"master:{trial}:") for name in alerts) for trial in masters)


def test_the_fleet_ends_where_the_ledger_does(lab: Path, directory: Path) -> None:
    write(lab, directory)
    fragments.import_inbox_dir()
    with opened(lab) as ledger:
        campaign = ledger.campaign()
        name = fleet_name(campaign.task, ledger.meta("lab") or "")
        trials = [trial for trial in ledger.trials(campaign.id) if trial.ordinal > 0]
        seen = [row for row in rows(directory) if row["project"] == name]
        last = max(seen, key=lambda row: row["timestamp"])["metrics"]
        assert last["fleet/done"] == len(trials)
        assert last["best/loss"] == ledger.master(campaign.id).score
        assert last["failures/crash"] == sum(trial.status is Status.CRASH for trial in trials)
        done = [row["metrics"]["fleet/done"] for row in sorted(seen, key=lambda row: row["step"])]
    assert done == sorted(done) and len(done) > 5


def test_a_full_disk_is_one_line_and_nothing_is_missing_later(
    lab: Path, directory: Path, expected: tuple[Any, ...]
) -> None:
    limit = 1 << 16
    command = [sys.executable, "-m", "autolab.cli.main", "mirror", "-C", str(lab)]
    full = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "TRACKIO_DIR": str(directory)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert full.returncode == 2
    assert full.stderr.count("\n") == 1 and str(directory) in full.stderr
    assert not list(directory.rglob("*.tmp"))
    write(lab, directory)
    fragments.import_inbox_dir()
    assert content(directory) == expected


def test_watching_goes_on_when_the_disk_was_full(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so once, and what could not be written is written when there is room."""
    from autolab.cli.mirror import follow

    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    turns, said = iter(range(10)), []

    def wait(seconds: float) -> None:
        if next(turns) == 2:
            blocked.unlink()

    with opened(lab) as ledger:
        target = Mirror(ledger, blocked)
        follow(target, lab, lambda: bool(said), wait, said.append, ends=False)
    assert capsys.readouterr().err.count("\n") == 1
    assert said[0] > 0


def test_the_command_says_what_it_wrote(lab: Path, directory: Path) -> None:
    first = CliRunner().invoke(cli, ["mirror", "-C", str(lab), "--json"])
    told = json.loads(first.stdout)
    assert told["records"] > 0 and told["directory"] == str(directory)
    again = CliRunner().invoke(cli, ["mirror", "-C", str(lab), "--watch"])  # nobody is at work: it ends
    assert again.exit_code == 0, again.output


def test_trackio_is_not_imported_to_write(lab: Path, directory: Path) -> None:
    script = "import sys; from autolab.cli.main import cli; cli(sys.argv[1:], standalone_mode=False);" \
        " assert not {'trackio', 'huggingface_hub', 'matplotlib'} & set(sys.modules)"  # fmt: skip
    words = ["mirror", "-C", str(lab)]
    subprocess.run([sys.executable, "-c", script, *words], check=True, timeout=60, stdout=subprocess.DEVNULL)


def test_the_format_is_that_of_the_trackio_that_is_here() -> None:
    assert trackio.__version__ == VERSION
    ours = metric_record("p", "r", "i", "l", step=1, at=0.0, metrics={"a/b": float("nan")}, config={"c": 1})
    theirs = fragments.metric_record({**ours, "metrics": {"a/b": float("nan")}})
    assert ours == theirs


tasks = st.from_regex(r"[a-z0-9][a-z0-9-]*", fullmatch=True) | st.text()
keys = st.from_regex(r"[0-9a-f]{16}", fullmatch=True) | st.text()


@settings(max_examples=40)
@given(st.lists(st.tuples(tasks, keys), min_size=2, max_size=8, unique=True))
def test_no_two_keys_share_a_project(pairs: list[tuple[str, str]]) -> None:
    names = [project_name(task, key) for task, key in pairs] + [
        fleet_name(task, "abc123") for task, _ in pairs[:1]
    ]
    assert len(set(names)) == len(names)
    for name in names:
        assert utils.canonical_project_name(name) == name == name.lower() and len(name) < 80
        SQLiteStorage.validate_project_name(name)


@given(st.text(), st.integers(1, 100))
def test_plain_text_is_one_short_line(text: str, room: int) -> None:
    line = plain(text, room)
    assert len(line) <= room and "\n" not in line and line == cell(line)
    json.dumps(line).encode()


shapes = st.dictionaries(
    st.sampled_from(["format", "fragment", "campaigns"]),
    st.integers() | st.dictionaries(st.text(), st.text()),
)


@given(st.binary() | shapes.map(lambda shape: json.dumps(shape).encode()))
def test_any_cursor_can_be_read(raw: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        assert cursor.load(Path(file.name)) == cursor.Cursor()


def test_stretches_of_time_follow_each_other() -> None:
    ends = [fleet.bucket_end(number) for number in range(1, 2000)]
    widths = [after - before for before, after in zip([0.0, *ends], ends, strict=False)]
    assert set(widths) == {10.0, 60.0, 600.0} and widths == sorted(widths)


def test_a_later_fragment_has_a_later_name(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, "w")
    record = metric_record("p", "r", "i", "l", step=1, at=0.0, metrics={})
    assert [inbox.write([record], 1), inbox.write([record], 1), inbox.write([record], 9)] == [1, 2, 9]
    assert [path.name for path in sorted(tmp_path.rglob("*.jsonl"))][-1] == "000000000009.jsonl"
