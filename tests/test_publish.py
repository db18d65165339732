"""Results go to a dataset repo in one commit, only when asked, and nothing of others is lost."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import write_toy
from overviews import unpacked
from publishing import finish, finish_one, results
from stand_ins.hub import BOB, Fault, HubServer
from stand_ins.hub.repos import read_file
from stand_ins.hub.running import run_script

from autolab.cli.publish import publish
from autolab.errors import LabError
from autolab.hub.connection import connect
from autolab.hub.results.publish import merge_tables, push
from autolab.ledger.records import Proposal, Status, Trial
from autolab.ledger.store import Ledger
from autolab.ledger.views import HEADER, MASTER, TABLE, read_table
from autolab.report.overview import Concern, details, overview, quote
from autolab.report.published import published, published_detail, to_publish
from autolab.task import Edit

pytestmark = pytest.mark.hub

Script = Callable[..., tuple[int, str]]
REPO = "alice/results"
OPENAI_LIKE = "sk" + "-" + "proj" + "A1b2" * 8
HF = Path(sys.executable).parent / "hf"


@pytest.fixture
def script(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Script:
    """`script("push", …)` runs scripts/publish.py in the lab, without figures: its exit code and what it said."""
    monkeypatch.setattr("autolab.cli.publish.draw", lambda ledger: {})
    return lambda *words, at=lab: run_script(monkeypatch, capsys, at, "publish", *words)


def last(output: str) -> str:
    return output.rstrip("\n").split("\n")[-1]


def paths(hub: HubServer) -> list[str]:
    return sorted(hub.repos["datasets", REPO].commits[-1].tree)


def file(hub: HubServer, path: str) -> str:
    return read_file(hub, "datasets", REPO, path).decode()


# one lab ----------------------------------------------------------------------------------------------


def test_preview_says_what_would_be_pushed_and_asks_nothing_of_the_hub(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        name, campaign = ledger.meta("lab"), ledger.campaign().id
    code, output = script("preview")
    assert code == 0 and [line.split()[-1] for line in output.splitlines()[:-1]] == [
        "README.md",
        f"masters/{campaign}.json",
        f"patches/{name}-0002.patch",
        MASTER,
        TABLE,
        f"trials/{name}-000001-000002.jsonl",
    ]
    assert last(output).startswith("[ok] 2 trials, no secret found, nothing was pushed")
    assert hub.requests == []


def test_a_push_is_one_commit_on_a_private_repo_and_a_second_one_changes_nothing(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        name, campaign = ledger.meta("lab"), ledger.campaign().id
    code, output = script("push", "--repo", REPO)
    assert code == 0 and last(output).startswith(f"[ok] pushed 2 new trials: 2 in {REPO} at ")
    assert last(output).endswith("only its owner sees it")
    repo = hub.repos["datasets", REPO]
    assert repo.private and [len(commit.tree) for commit in repo.commits] == [0, 6]
    assert file(hub, MASTER) == file(hub, f"masters/{campaign}.json") == (lab / MASTER).read_text()
    assert file(hub, TABLE) == (lab / TABLE).read_text()
    card = file(hub, "README.md")
    assert (
        f"path: {TABLE}" in card
        and f"| {campaign} | {name} | loss | 2 | 1 | 1.98 [1.97, 1.99] confirmed |" in card
    )
    assert last(script("push", "--repo", REPO)[1]).startswith("[ok] nothing new: 2 in ")
    assert len(repo.commits) == 2


def test_a_later_push_adds_a_part_and_leaves_the_first_as_it_was(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        script("push", "--repo", REPO)
        name = ledger.meta("lab")
        first = file(hub, f"trials/{name}-000001-000002.jsonl")
        finish(ledger, 1)
    assert "pushed 1 new trial: 3 in" in script("push", "--repo", REPO)[1]
    assert [path for path in paths(hub) if path.startswith("trials/")] == [
        f"trials/{name}-000001-000002.jsonl",
        f"trials/{name}-000003-000003.jsonl",
    ]
    assert file(hub, f"trials/{name}-000001-000002.jsonl") == first


def test_a_patch_makes_the_trials_program_of_its_parent(
    script: Script, hub: HubServer, lab: Path, tmp_path: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 3)
        finish_one(ledger, status=Status.CRASH)
        trials = list(ledger.trials())
        script("push", "--repo", REPO)
        tree = tmp_path / "tree"
        for trial in trials[1:]:
            assert trial.parent_program and trial.program
            tree.mkdir(exist_ok=True)
            (tree / "a.py").write_text(ledger.program(trial.parent_program)["a.py"])
            patch = file(hub, f"patches/{trial.id}.patch")
            subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=tree, check=True)
            assert (tree / "a.py").read_text() == ledger.program(trial.program)["a.py"]
    assert f"patches/{trials[0].id}.patch" not in paths(hub)  # the baseline changed nothing


def test_a_push_whose_answer_was_lost_is_repeated_without_harm(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
    hub.faults.append(Fault("POST .*/commit/", lost=True))
    code, output = script("push", "--repo", REPO)
    assert code == 1 and "the Hub does not answer" in output
    before = paths(hub)
    code, output = script("push", "--repo", REPO)
    assert code == 0 and "nothing new: 2 in" in output
    assert paths(hub) == before and len(hub.repos["datasets", REPO].commits) == 2


def test_the_command_pushes_the_report_and_the_figures_of_each_campaign(hub: HubServer, lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        folder = f"figures/{ledger.campaign().id}"
    done = CliRunner().invoke(publish, [REPO, "-C", str(lab), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["new"] == 2
    drawn = [f"{name}.{suffix}" for name in ("lineage", "slots", "staircase") for suffix in ("png", "svg")]
    assert [path for path in paths(hub) if path.startswith(folder)] == [
        f"{folder}/{name}" for name in sorted([*drawn, "report.html"])
    ]
    assert read_file(hub, "datasets", REPO, f"{folder}/staircase.png").startswith(b"\x89PNG")
    card = file(hub, "README.md")
    assert f"]({folder}/staircase.png)" in card and f"]({folder}/report.html)" in card
    again = CliRunner().invoke(publish, [REPO, "-C", str(lab)], catch_exceptions=False)
    assert again.stdout.startswith("nothing new: 2 in ")


def test_what_is_published_of_a_campaign_names_no_host_and_holds_no_log(lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        view, page = to_publish(ledger, ledger.campaign().id, alive=False)
        own = overview(ledger, ledger.campaign().id, now=view.now, alive=False)
        (detail, *_) = (one for _, one in details(ledger, ledger.campaign().id))
    assert (detail.runs[0].host, detail.runs[0].log) == ("here", "of this machine")
    shown = published_detail(detail)
    assert (shown.runs[0].host, shown.runs[0].log) == ("", "") and shown.patch == detail.patch
    assert "of this machine" not in page and '"here"' not in page
    lanes = replace(own.slots, lanes=("gpu-7, slot 0", "gpu-8, slot 0"))
    told = Concern("hung", "warning", f"0002 has run for 9 h on {quote('gpu-8, slot 0')}", (), "")
    other = Concern("budget", "info", "the budget is used up", (), "")
    shift = Concern("host_shift", "warning", "a host scores higher", (), "")
    safe = published(replace(own, slots=lanes, concerns=(told, other, shift)))
    assert safe.slots.lanes == ("slot 0", "slot 1")
    assert safe.concerns == (replace(told, text="0002 has run for 9 h on “slot 1”"), other)


def test_a_host_with_a_short_name_hides_no_concern(lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
        own = overview(ledger, ledger.campaign().id, now=0.0, alive=False)
    lanes = replace(own.slots, lanes=("a, slot 0", "node, slot 0", "slot 0"))
    grave = Concern("baseline", "error", "The baseline failed (crash): “a node is not a leaf”", (), "")
    told = Concern("hung", "error", "a-1 has run for 9 h on “slot 0”, “a, slot 0”", (), "")
    safe = published(replace(own, slots=lanes, concerns=(grave, told)))
    assert [one.text for one in safe.concerns] == [grave.text, "a-1 has run for 9 h on “slot 2”, “slot 0”"]


def proposed(ledger: Ledger, rationale: str, hypothesis: str = "a wider layer") -> Trial:
    """A trial that waits to be measured."""
    master = ledger.newest_promotion(ledger.campaign().id)
    assert master is not None
    opened = ledger.open_trial(
        ledger.campaign().id, role="worker", agent="w", surface="",
        parent_program=master.program, parent_trial=master.trial,
    )  # fmt: skip
    edit = Edit(path="a.py", search="x = 1", replace="x = 2")
    proposal = Proposal(hypothesis, (edit,), rationale=rationale)
    ledger.queue_trial(opened.number, {"a.py": "x = 2\n"}, proposal)
    return opened


def packed(page: str) -> str:
    """Everything that opened rows show, of a whole page."""
    return json.dumps([unpacked(piece) for piece in re.findall(r'id="details-[0-9]+">([^<]*)<', page)])


def test_nothing_goes_out_of_what_an_unfinished_trial_means(lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        queued = proposed(ledger, f"it is said that {OPENAI_LIKE}")
        view, page = to_publish(ledger, ledger.campaign().id, alive=True)
    assert queued.id in {mark.id for mark in view.marks}
    assert "x = 2" in packed(page) and OPENAI_LIKE not in packed(page) and "it is said" not in packed(page)


def test_a_secret_in_a_finished_trial_is_found_before_it_is_packed(lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        bad = proposed(ledger, f"it is said that\n{OPENAI_LIKE}")
        ledger.finish_trial(bad.number, Status.CRASH, note="it broke")
        with pytest.raises(LabError, match=rf"report.html \(trial {bad.id}\).*OpenAI") as refused:
            to_publish(ledger, ledger.campaign().id, alive=False)
    assert OPENAI_LIKE not in str(refused.value)


def test_a_secret_in_a_headline_of_an_unfinished_trial_is_found(lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
        proposed(ledger, "", hypothesis=f"wider:\n{OPENAI_LIKE}")
        with pytest.raises(LabError, match=r"report.html \(overview\)"):
            to_publish(ledger, ledger.campaign().id, alive=False)


# many labs --------------------------------------------------------------------------------------------


def test_two_labs_on_one_repo_lose_no_row_whoever_is_quicker(
    script: Script, hub: HubServer, lab: Path, tmp_path: Path
) -> None:
    other = write_toy(tmp_path / "other")
    for root, count in ((lab, 2), (other, 3)):
        with results(root) as ledger:
            finish(ledger, count)
    hub.faults.append(Fault("POST .*/commit/", status=412))  # as if somebody had been quicker
    assert script("push", "--repo", REPO)[0] == 0
    hub.faults.append(Fault("POST .*/commit/", status=503))
    code, output = script("push", "--repo", REPO, at=other)
    assert code == 0 and "pushed 3 new trials: 5 in" in last(output)
    both = file(hub, TABLE)
    assert both.count("\n") == 6 and both.startswith(HEADER)
    newest = json.loads(file(hub, MASTER))
    for root in (lab, other, lab):
        assert "nothing new: 5 in" in script("push", "--repo", REPO, at=root)[1]
    assert file(hub, TABLE) == both and json.loads(file(hub, MASTER)) == newest
    assert len(hub.repos["datasets", REPO].commits) == 3


def test_what_others_wrote_in_the_repo_stays(script: Script, hub: HubServer, lab: Path) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
        script("push", "--repo", REPO)
        connect().upload_file(
            path_or_fileobj=b"mine", path_in_repo="notes.md", repo_id=REPO, repo_type="dataset"
        )
        finish(ledger, 1)
    assert "pushed 1 new trial" in script("push", "--repo", REPO)[1]
    assert file(hub, "notes.md") == "mine"


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ("trial_id\tscore\n", "is of another version"),
        (HEADER + "a\tb\n", "line 2: has a damaged row"),
        (HEADER + "\t".join(["x"] * HEADER.count("\t")) + "\tx\n", "line 2: has a damaged row"),
    ],
)
def test_a_table_that_is_none_of_ours_is_refused_by_its_line(theirs: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        merge_tables([], theirs)


def test_rows_are_sorted_by_the_time_at_which_they_finished_then_by_name(tmp_path: Path) -> None:
    with results(tmp_path) as ledger:
        finish(ledger, 3)
        from autolab.ledger.views import write_views

        write_views(ledger, tmp_path)
    header, *lines = (tmp_path / TABLE).read_text().splitlines()
    assert merge_tables(lines[::-1], "") == (tmp_path / TABLE).read_text()
    assert merge_tables(lines[:1], f"{header}\n{lines[2]}\n{lines[1]}\n") == (tmp_path / TABLE).read_text()


# what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["preview"], ["push", "--repo", REPO, "--public"]])
def test_a_secret_is_refused_by_its_place_and_never_shown(
    script: Script, hub: HubServer, lab: Path, verb: list[str]
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
        finish_one(ledger, f"log in with {OPENAI_LIKE} first", Status.CRASH)
        name = ledger.meta("lab")
    code, output = script(*verb)
    assert code == 1 and len(output.splitlines()) == 1
    assert f"{TABLE} line 3: OpenAI or Anthropic key" in output
    assert f"trials/{name}-000001-000002.jsonl (trial {name}-0002) line 7: OpenAI or Anthropic key" in output
    assert OPENAI_LIKE not in output and hub.repos == {}


def test_a_secret_in_a_program_is_found_however_json_writes_it(
    script: Script, hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_PASSWORD", 'say "friend" \\ enter')
    with results(lab) as ledger:
        finish(ledger, 1)
        ledger.create_campaign(
            name="d", task="toy", key="k", config=ledger.campaign().config,
            baseline=ledger.add_program({"a.py": 'login(\'say "friend" \\ enter\')\n'}),
        )  # fmt: skip
        finish_one(ledger, status=Status.CRASH)
    code, output = script("push", "--repo", REPO)
    assert code == 1 and "(program " in output and "value of MY_SERVICE_PASSWORD" in output
    assert "friend" not in output and hub.repos == {}


def test_results_are_not_pushed_to_a_public_repo_unless_meant(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
    connect().create_repo(REPO, repo_type="dataset", private=False)
    code, output = script("push", "--repo", REPO)
    assert code == 1 and "is public" in output
    assert len(hub.repos["datasets", REPO].commits) == 1
    code, output = script("push", "--repo", REPO, "--public")
    assert code == 0 and last(output).endswith("everybody sees it")


def test_no_write_access_no_trial_and_no_campaign_are_one_line(
    script: Script, hub: HubServer, lab: Path
) -> None:
    code, output = script("preview")
    assert code == 1 and len(output.splitlines()) == 1
    with results(lab) as ledger:
        assert "no trial has finished yet" in script("preview")[1]
        finish(ledger, 1)
    code, output = script("push", "--repo", "bob/results")
    assert code == 1 and "repo bob/results: no write access" in output and len(output.splitlines()) == 1


@pytest.mark.parametrize("every", ["30s", "0m", "10", "25h", "m", "1.5h"])
def test_a_time_that_cannot_be_meant_is_refused(lab: Path, every: str) -> None:
    with pytest.raises(LabError, match="is not a time from 1m to 24h"):
        CliRunner().invoke(publish, [REPO, "-C", str(lab), "--every", every], catch_exceptions=False)


# beside a campaign ------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns without a pause; what happens in them is told to the test by the Hub."""
    monkeypatch.setattr("autolab.cli.publish.parse_pause", lambda text: 0.01)
    monkeypatch.setattr("autolab.cli.publish.draw", lambda ledger: {})


class Watching:
    """Lets a test act once a push with a certain number of trials has been made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
        self.pushes: list[int] = []

        def pushed(*arguments: object, **options: object) -> object:
            done = push(*arguments, **options)  # type: ignore[arg-type]
            self.pushes.append(done.rows)
            act(done.rows)
            return done

        monkeypatch.setattr("autolab.cli.publish.push", pushed)


@pytest.mark.usefixtures("quick")
def test_every_pushes_what_is_new_until_the_campaign_has_ended(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)

        def act(rows: int) -> None:
            if rows < 3:
                finish(ledger, 1)
            else:
                ledger.set_campaign(ledger.campaign().id, state="finished")

        watching = Watching(monkeypatch, act)
        done = CliRunner().invoke(publish, [REPO, "-C", str(lab), "--every", "1m"], catch_exceptions=False)
    assert done.exit_code == 0 and watching.pushes == [1, 2, 3]
    assert len(hub.repos["datasets", REPO].commits) == 4


@pytest.mark.usefixtures("quick")
def test_every_waits_for_the_first_trial(hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with results(lab) as ledger:
        looks = itertools.count()

        def ended(*_: object) -> bool:
            if next(looks) == 1:  # while it waits
                finish(ledger, 1)
                ledger.set_campaign(ledger.campaign().id, state="stopped")
            return ledger.campaign().state == "stopped"

        monkeypatch.setattr("autolab.cli.publish._ended", ended)
        done = CliRunner().invoke(publish, [REPO, "-C", str(lab), "--every", "1m"], catch_exceptions=False)
    assert done.stdout.startswith("pushed 1 new trial: 1 in ") and done.exit_code == 0


@pytest.mark.usefixtures("quick")
def test_a_hub_that_is_away_is_one_line_and_the_next_turn_tries_again(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolab.hub.connection.time.sleep", lambda seconds: None)
    with results(lab) as ledger:
        finish(ledger, 1)
        hub.faults.append(Fault("GET /api/datasets", status=503, times=200))

        def back(*_: object) -> None:
            hub.faults.clear()

        monkeypatch.setattr("autolab.cli.publish.click.echo", lambda text, err=False: back() if err else None)
        Watching(monkeypatch, lambda rows: ledger.set_campaign(ledger.campaign().id, state="finished"))
        done = CliRunner().invoke(publish, [REPO, "-C", str(lab), "--every", "1m"], catch_exceptions=False)
    assert done.exit_code == 0 and file(hub, TABLE).count("\n") == 2


@pytest.mark.usefixtures("quick")
def test_a_wrong_token_at_the_first_push_ends_it(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
    monkeypatch.setenv("HF_TOKEN", BOB)
    with pytest.raises(LabError, match="no write access"):
        CliRunner().invoke(publish, [REPO, "-C", str(lab), "--every", "1m"], catch_exceptions=False)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_last_push(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)

        def act(rows: int) -> None:
            if rows == 1:
                finish(ledger, 1)
                os.kill(os.getpid(), number)

        watching = Watching(monkeypatch, act)
        before = signal.getsignal(number)
        done = CliRunner().invoke(publish, [REPO, "-C", str(lab), "--every", "1m"], catch_exceptions=False)
    assert done.exit_code == 0 and watching.pushes == [1, 2]
    assert signal.getsignal(number) is before


# other people's programs ------------------------------------------------------------------------------

LOAD = f"""
import json
from datasets import load_dataset
rows = load_dataset("{REPO}", split="train")
print(json.dumps([rows[0], {{name: feature.dtype for name, feature in rows.features.items()}}, rows["trial_id"][:]]))
"""


def test_load_dataset_gives_one_row_for_each_trial(script: Script, hub: HubServer, lab: Path) -> None:
    pytest.importorskip("datasets")
    with results(lab) as ledger:
        finish_one(ledger, hypothesis='NA "quoted", 1e5')
        finish_one(ledger, status=Status.CRASH)
        finish(ledger, 2)
    script("push", "--repo", REPO)
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, types, names = json.loads(done.stdout)
    table = read_table(lab / TABLE)
    assert names == [row["trial_id"] for row in table]
    assert (first["hypothesis"], first["score"], first["tokens"]) == ('NA "quoted", 1e5', 1.99, 0)
    assert (first["program_id"], first["note"]) == (table[0]["program_id"], None)
    assert (types["score"], types["measurements"], types["program_id"]) == ("float64", "int64", "string")


def test_hf_download_fetches_what_was_published(
    script: Script, hub: HubServer, lab: Path, tmp_path: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
    script("push", "--repo", REPO)
    done = subprocess.run(
        [HF, "download", REPO, "--repo-type", "dataset", "--local-dir", tmp_path / "copy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "copy" / TABLE).read_bytes() == (lab / TABLE).read_bytes()
