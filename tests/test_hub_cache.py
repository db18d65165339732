"""Prepared data goes through the real client to a private repo and comes back the same; what differs is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_toy
from huggingface_hub import close_session
from stand_ins.hub import BOB, Fault, HubServer
from stand_ins.hub.repos import read_file
from stand_ins.hub.running import run_script

from autolab.cli import cache as cli
from autolab.errors import LabError
from autolab.execution.data import data_folder, folders_in_use, prepare_data
from autolab.hub.commits import commit
from autolab.hub.connection import connect
from autolab.hub.data import sharing as cache
from autolab.hub.data.holding import hold
from autolab.ledger.store import Ledger
from autolab.task import load_task

pytestmark = pytest.mark.hub

Say = Callable[..., str]
ROOT = Path(__file__).resolve().parent.parent
FOLDER = "toy-cpu-0123456789ab"
REPO = "alice/autolab-data"
FILES = {
    "train/train.bin": b"\0tokens" * 9000,
    "heldout/val.bin": b"\0val" * 9000,
    "heldout/meta.json": b"{}",
}


def prepared(lab: Path, name: str = FOLDER, files: dict[str, bytes] = FILES) -> Path:
    folder = lab / ".autolab" / "cache" / name
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "overlay.json").write_text("[]")  # belongs to this machine
    manifest = {"files": {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def say(hub: HubServer, lab: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """`say("status")` runs `autolab cache status` in the lab: what it printed, or the one line of its problem."""

    def run(*words: str, at: Path = lab) -> str:
        capsys.readouterr()
        try:
            cli.cache.main([words[0], "-C", str(at), *words[1:]], standalone_mode=False)
        except LabError as problem:
            assert "\n" not in str(problem)
            return f"autolab: {problem}"
        return capsys.readouterr().out

    return run


def upload(path: str, data: bytes, repo: str = REPO) -> None:
    connect().upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=repo, repo_type="dataset")


def last(output: str) -> str:
    return output.rstrip("\n").split("\n")[-1]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# there and back ---------------------------------------------------------------------------------------


def test_prepared_data_goes_to_a_private_repo_and_comes_back_the_same(
    say: Say, hub: HubServer, lab: Path, tmp_path: Path
) -> None:
    folder = prepared(lab)
    assert say("warm") == f"sent     {FOLDER}\n1 sent to {REPO}, 0 fetched\n"
    repo = hub.repos["datasets", REPO]
    assert repo.private and len(repo.commits) == 2
    assert (
        last(say("warm"))
        == f"nothing to move: {REPO} and this lab have the same folders (`autolab cache verify` hashes them)"
    )
    other = write_toy(tmp_path / "other")
    assert last(say("warm", at=other)) == f"0 sent to {REPO}, 1 fetched"
    copy = other / ".autolab" / "cache" / FOLDER
    assert names(copy) == {*FILES, "manifest.json"}
    assert all((copy / name).read_bytes() == (folder / name).read_bytes() for name in names(copy))
    assert last(say("verify", at=other)) == f"1 folder as the manifests say, here and in {REPO}"


def test_another_repo_can_be_named(say: Say, hub: HubServer, lab: Path) -> None:
    prepared(lab)
    assert last(say("warm", "--repo", "alice/other")) == "1 sent to alice/other, 0 fetched"
    assert list(hub.repos) == [("datasets", "alice/other")]


def test_status_says_what_is_where(say: Say, hub: HubServer, lab: Path, tmp_path: Path) -> None:
    prepared(lab)
    say("warm")
    other = write_toy(tmp_path / "other")
    prepared(other, "toy-gpu-0123456789ab")
    here, there, said = say("status", at=other).splitlines()
    assert here.startswith("toy-gpu-0123456789ab") and here.endswith("  here")
    assert there.startswith(FOLDER) and there.endswith("not fetched  repo")
    assert said == f"2 folders of prepared data ({REPO})"
    told = json.loads(say("status", "--json", at=other))
    assert [(row["here"], row["in_repo"]) for row in told["folders"]] == [(True, False), (False, True)]


def test_status_tells_of_what_is_here_without_a_hub(
    say: Say, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(lab)
    assert "no repo was looked at: there is no such thing on the Hub" in last(say("status"))
    monkeypatch.setenv("HF_TOKEN", "")
    said = say("status")
    assert FOLDER in said and "no repo was looked at: there is no Hugging Face token" in last(said)


def test_data_of_another_task_stays_where_it_is(hub: HubServer, lab: Path) -> None:
    folder = prepared(lab, "other-cpu-0123456789ab").parent
    with pytest.raises(LabError, match="nothing is prepared yet"):
        cache.warm(connect(), folder, "toy", REPO)
    assert hub.repos == {}
    assert cache.warm(connect(), folder, "other", REPO) == (["other-cpu-0123456789ab"], [])


def test_two_machines_warm_at_once_and_both_end_well(hub: HubServer, tmp_path: Path) -> None:
    labs = [prepared(tmp_path / name).parent for name in ("one", "two")]
    prepared(tmp_path / "two", "toy-gpu-0123456789ab")
    start = threading.Barrier(2)
    ended: list[object] = []

    def machine(folder: Path) -> None:
        start.wait()
        ended.append(cache.warm(connect(), folder, "toy", REPO))

    threads = [threading.Thread(target=machine, args=[folder]) for folder in labs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2
    assert set(cache.in_repo(connect(), REPO)) == {FOLDER, "toy-gpu-0123456789ab"}
    assert cache.verify(connect(), labs[0], REPO) == [FOLDER, "toy-gpu-0123456789ab"]


def overtaken(monkeypatch: pytest.MonkeyPatch, theirs: Path) -> None:
    """The next commit finds that another machine was quicker with its own data."""

    def slow(*words: Any) -> Any:
        monkeypatch.setattr(cache, "commit", commit)
        cache.warm(connect(), theirs.parent, "toy", REPO)
        return commit(*words)

    monkeypatch.setattr(cache, "commit", slow)


def test_who_is_slower_with_the_same_data_has_nothing_to_send(
    hub: HubServer, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken(monkeypatch, prepared(tmp_path / "other"))
    cache.warm(connect(), prepared(lab).parent, "toy", REPO)
    assert len(hub.repos["datasets", REPO].commits) == 2


def test_who_is_slower_with_other_data_is_refused(
    hub: HubServer, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken(monkeypatch, prepared(tmp_path / "other", files={"train/train.bin": b"other"}))
    with pytest.raises(LabError, match="holds other data here than in the repo"):
        cache.warm(connect(), prepared(lab).parent, "toy", REPO)
    assert len(hub.repos["datasets", REPO].commits) == 2


def test_a_second_transfer_waits_for_its_turn(say: Say, lab: Path) -> None:
    folder = prepared(lab).parent
    with cache.transferring(folder):
        assert "a transfer is under way" in say("warm")
        assert last(say("status")) == "a transfer is under way"


# what differs ---------------------------------------------------------------------------------------


def test_other_data_under_the_same_name_is_refused(say: Say, lab: Path) -> None:
    folder = prepared(lab)
    say("warm")
    shutil.rmtree(folder)
    prepared(lab, files={"train/train.bin": b"other"})
    for verb in ("warm", "verify"):
        assert f"{FOLDER}: holds other data here than in the repo" in say(verb)


@pytest.mark.parametrize("content", [b"\0eas" * 9000, b"\0val", b"", None])
def test_a_validation_shard_that_was_changed_here_is_refused_by_name(
    say: Say, hub: HubServer, lab: Path, content: bytes | None
) -> None:
    shard = prepared(lab) / "heldout" / "val.bin"
    say("warm")
    shard.unlink()
    if content is not None:
        shard.write_bytes(content)
    said = say("verify")
    assert f"{FOLDER}: heldout/val.bin {'is missing' if content is None else 'was changed'}" in said
    hub.repos.clear()
    assert "heldout/val.bin" in say("warm")
    assert len(hub.repos["datasets", REPO].commits) == 1  # nothing was sent


@pytest.mark.parametrize("name", ["train/train.bin", "heldout/val.bin", "heldout/meta.json", "manifest.json"])
@pytest.mark.parametrize("replaced", [lambda data: data + b"\0", lambda data: data[:-1]])
def test_a_file_that_was_changed_in_the_repo_is_refused_by_name(
    say: Say, hub: HubServer, lab: Path, name: str, replaced: Callable[[bytes], bytes]
) -> None:
    folder = prepared(lab)
    say("warm")
    path = next(path for path in hub.repos["datasets", REPO].commits[-1].tree if path.endswith(name))
    upload(path, replaced(read_file(hub, "datasets", REPO, path)))
    assert f"repo {REPO}: {path} was changed" in say("verify")
    shutil.rmtree(folder)
    assert f"repo {REPO}: {path} was changed" in say("warm")
    assert not folder.exists() and cache.scratch_folders(folder.parent) == []


def test_a_file_that_is_missing_in_the_repo_or_too_many_is_named(say: Say, hub: HubServer, lab: Path) -> None:
    prepared(lab)
    say("warm")
    (path,) = (path for path in hub.repos["datasets", REPO].commits[-1].tree if path.endswith("val.bin"))
    extra = path.replace("val.bin", "hints.txt")
    upload(extra, b"the answers")
    assert f"{extra} is not in the manifest" in say("verify")
    connect().delete_file(path, REPO, repo_type="dataset")
    assert f"{path} is missing" in say("verify")


@pytest.mark.parametrize("wrong", ["../../../train.py", "/etc/hostname"])
def test_a_manifest_that_names_files_elsewhere_is_refused(say: Say, lab: Path, wrong: str) -> None:
    manifest = json.dumps({"files": {wrong: "0" * 64}}).encode()
    content = cache.content_name(manifest)
    connect().create_repo(REPO, repo_type="dataset", private=True)
    upload(f"content/{content}/manifest.json", manifest)
    upload(f"folders/{FOLDER}.json", json.dumps({"content": content}).encode())
    assert "its manifest names" in say("warm")
    assert not (lab / ".autolab" / "cache" / FOLDER).exists()


# what goes wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify"], f"repo {REPO}: there is no such thing on the Hub"),
        (["verify", "--repo", "alice/nope"], "repo alice/nope: there is no such thing on the Hub"),
        (["status", "--repo", "alice/nope"], "repo alice/nope: there is no such thing on the Hub"),
        (["prune", "--repo", "alice/nope"], "repo alice/nope: there is no such thing on the Hub"),
        (["verify", "--repo", "no name"], "OWNER/NAME"),
        (["warm", "--repo", "bob/data"], "repo bob/data: no write access"),
    ],
)
def test_a_repo_that_cannot_be_meant_is_one_line(say: Say, lab: Path, words: list[str], said: str) -> None:
    prepared(lab)
    assert said in say(*words)


def test_data_is_not_sent_to_a_public_repo(say: Say, hub: HubServer, lab: Path) -> None:
    prepared(lab)
    connect().create_repo(REPO, repo_type="dataset", private=False)
    assert f"repo {REPO}: is public" in say("warm")
    assert len(hub.repos["datasets", REPO].commits) == 1


def test_before_anything_is_prepared_it_says_what_prepares_it(say: Say, hub: HubServer) -> None:
    assert "nothing is prepared yet" in say("warm") and hub.repos == {}
    assert say("status").startswith("0 folders of prepared data")
    assert say("prune", "--yes") == "nothing to prune\n"


@pytest.mark.parametrize("verb", ["warm", "verify"])
def test_a_lost_token_a_wrong_token_and_no_hub_are_one_line_each(
    say: Say, hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("autolab.hub.connection.time.sleep", lambda seconds: None)
    prepared(lab)
    wrong = "hf" + "_" + "wrong" * 7
    monkeypatch.setenv("HF_TOKEN", wrong)
    said = say(verb)
    assert "does not accept the token" in said and wrong not in said
    hub.__exit__()
    close_session()  # the old connections of the client would still be answered
    assert "the Hub does not answer" in say(verb)
    monkeypatch.setenv("HF_TOKEN", "")
    assert "there is no Hugging Face token" in say(verb)


def test_an_interrupted_fetch_leaves_nothing_and_can_be_repeated(
    say: Say, hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(lab)
    say("warm")
    shutil.rmtree(folder)
    monkeypatch.setattr("autolab.hub.connection.time.sleep", lambda seconds: None)
    hub.faults.append(Fault(r"(HEAD|GET) .*/resolve/.*val\.bin", times=99, status=500))
    assert say("warm").startswith("autolab: ")
    assert names(folder.parent) == {"transfer.lock", "hub/accounts.json"}
    hub.faults.clear()
    assert last(say("warm")) == f"0 sent to {REPO}, 1 fetched"


def test_what_a_killed_fetch_and_a_failed_prepare_left_is_no_hindrance(say: Say, lab: Path) -> None:
    folder = prepared(lab)
    say("warm")
    shutil.rmtree(folder)
    killed = cache.new_scratch(folder.parent, FOLDER)
    (folder / ".building-abc").mkdir(parents=True)
    assert last(say("warm")) == f"0 sent to {REPO}, 1 fetched"
    assert names(folder) == {*FILES, "manifest.json"} and not killed.exists()


def test_data_that_is_being_prepared_is_not_replaced(say: Say, lab: Path) -> None:
    folder = prepared(lab)
    say("warm")
    shutil.rmtree(folder)
    with hold(folder):
        assert f"{FOLDER}: is being prepared here" in say("warm")
    assert last(say("warm")) == f"0 sent to {REPO}, 1 fetched"


def test_a_full_disk_is_noticed_before_the_fetch(
    say: Say, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(lab)
    say("warm")
    shutil.rmtree(folder)
    usage = shutil.disk_usage(lab)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert f"{FOLDER}: needs 0.1 MB, of 0.0 MB free" in say("warm")
    assert not folder.exists()


# sharing for jobs -----------------------------------------------------------------------------------


def shared(folder: Path) -> cache.Shared:
    return cache.share(connect(), folder.parent, folder, REPO)


def test_shared_data_is_named_by_a_commit_and_sent_once(hub: HubServer, lab: Path) -> None:
    folder = prepared(lab)
    there = shared(folder)
    repo = hub.repos["datasets", REPO]
    assert repo.private and len(repo.commits) == 2
    assert (there.repo, there.revision) == (REPO, repo.commits[-1].name)
    below = {
        path.removeprefix(there.path + "/") for path in repo.commits[-1].tree if path.startswith("content")
    }
    assert below == {*FILES, "manifest.json"}  # the overlay stays here
    assert shared(folder) == there
    assert len(repo.commits) == 2


def test_a_second_lab_shares_what_the_first_one_sent(hub: HubServer, lab: Path, tmp_path: Path) -> None:
    first = shared(prepared(lab))
    assert shared(prepared(tmp_path / "other", "toy-cpu-ffffffffffff")) == first


def test_whoever_was_quicker_the_data_is_there(hub: HubServer, lab: Path) -> None:
    hub.faults += [Fault("POST .*/commit/", status=412), Fault("POST .*/commit/", status=503)]
    there = shared(prepared(lab))
    assert there.revision == hub.repos["datasets", REPO].commits[-1].name


def test_other_data_of_that_name_in_the_repo_is_left_alone(hub: HubServer, lab: Path, tmp_path: Path) -> None:
    first = shared(prepared(lab))
    second = shared(prepared(tmp_path / "other", files={"train/train.bin": b"other"}))
    assert second.content != first.content
    assert cache.in_repo(connect(), REPO) == {FOLDER: first.content}


@pytest.mark.parametrize("manifest", [None, "{}", '{"files": {}}'])
def test_a_folder_without_data_cannot_be_shared(hub: HubServer, lab: Path, manifest: str | None) -> None:
    folder = lab / ".autolab" / "cache" / FOLDER
    folder.mkdir(parents=True)
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    with pytest.raises(LabError, match="holds no prepared data"):
        shared(folder)
    assert hub.repos == {}


def test_a_changed_file_is_not_shared(hub: HubServer, lab: Path) -> None:
    folder = prepared(lab)
    (folder / "heldout/val.bin").write_bytes(b"easier")
    with pytest.raises(LabError, match=r"heldout/val\.bin was changed"):
        shared(folder)


def test_a_file_that_was_changed_in_the_repo_is_not_shared(hub: HubServer, lab: Path) -> None:
    folder = prepared(lab)
    there = shared(folder)
    upload(f"{there.path}/heldout/val.bin", b"\0easier" * 9000)
    with pytest.raises(LabError, match=r"heldout/val\.bin was changed"):
        shared(folder)


def test_a_file_that_is_missing_in_the_repo_is_sent_again(hub: HubServer, lab: Path) -> None:
    folder = prepared(lab)
    there = shared(folder)
    connect().delete_file(f"{there.path}/heldout/val.bin", REPO, repo_type="dataset")
    assert shared(folder).revision == hub.repos["datasets", REPO].commits[-1].name


# pruning --------------------------------------------------------------------------------------------


def aged(folder: Path, days: float) -> Path:
    for path in (folder / "manifest.json", folder):
        os.utime(path, (then := time.time() - days * 86_400, then))
    return folder


def test_prune_shows_first_and_deletes_only_when_told(say: Say, lab: Path) -> None:
    old, new = aged(prepared(lab), 15), aged(prepared(lab, "toy-cpu-ffffffffffff"), 13)
    shown, said = say("prune").splitlines()
    assert shown == f"{FOLDER}  0.1 MB  unused for 15 days"
    assert said == "0.1 MB can go; `autolab cache prune --yes` deletes that"
    assert old.exists()
    assert last(say("prune", "--yes")) == "deleted 0.1 MB"
    assert not old.exists() and new.exists() and cache.scratch_folders(lab / ".autolab" / "cache") == []
    assert say("prune", "--yes") == "nothing to prune\n"
    say("prune", "--days", "0", "--yes")
    assert not new.exists()


def test_prune_clears_what_interrupted_transfers_left(say: Say, lab: Path) -> None:
    scratch = cache.new_scratch(prepared(lab).parent, FOLDER)
    assert scratch.name in say("prune")
    say("prune", "--yes")
    assert not scratch.exists()


def test_prune_leaves_data_that_a_process_uses(say: Say, lab: Path) -> None:
    folder = aged(prepared(lab), 30)
    with hold(folder):
        assert say("prune", "--yes") == "nothing to prune\n"
    say("prune", "--yes")
    assert not folder.exists()


PREPARE = """
import hashlib, json, os
folder = os.environ["AUTOLAB_DATA"]
path = os.path.join(folder, "text.bin")
if not os.path.exists(path):
    open(path, "wb").write(b"text")
files = {"text.bin": hashlib.sha256(b"text").hexdigest()}
json.dump({"files": files}, open(os.path.join(folder, "manifest.json"), "w"))
"""


@pytest.fixture
def preparing(lab: Path) -> Path:
    """The toy lab with a `prepare` command."""
    (lab / "prepare.py").write_text(PREPARE)
    task = (lab / "task.yaml").read_text()
    task = task.replace("[evaluate.py]", "[evaluate.py, prepare.py]", 1)
    (lab / "task.yaml").write_text(task.replace("{train:", "{prepare: [python, prepare.py], train:"))
    return lab


def protected(lab: Path) -> dict[str, str]:
    return {name: (lab / name).read_text() for name in load_task(lab).protected}


@pytest.mark.parametrize("states", [["finished"], ["paused", "finished"]])
def test_prune_leaves_the_data_of_campaigns_that_can_go_on(
    say: Say, preparing: Path, states: list[str]
) -> None:
    task, files = load_task(preparing), protected(preparing)
    name = data_folder(task, files)
    assert name is not None
    with Ledger(preparing / ".autolab" / "ledger.sqlite") as ledger:
        config = {"task": task.model_dump(mode="json"), "protected": ledger.add_program(files)}
        for state in states:
            begun = ledger.create_campaign(name="c", task="toy", key="k", config=config,
                                           baseline=ledger.add_program({"a.py": "x = 0"}))  # fmt: skip
            ledger.set_campaign(begun.id, state=state)
            config = {**config, "data": "toy-cpu-ffffffffffff"}  # of the next campaign
        assert name in folders_in_use(ledger)
    used, unused = aged(prepared(preparing, name), 30), aged(prepared(preparing), 30)
    say("prune", "--yes")
    assert used.exists() and not unused.exists()


def test_data_is_held_and_fresh_while_a_lab_has_it(say: Say, preparing: Path) -> None:
    folder = preparing / ".autolab" / "cache"
    data = prepare_data(load_task(preparing), protected(preparing), folder)
    assert data.directory is not None
    aged(data.directory, 30)
    assert say("prune") == "nothing to prune\n"
    again = prepare_data(load_task(preparing), protected(preparing), folder)
    del data
    assert say("prune", "--days", "0") == "nothing to prune\n"
    del again
    assert say("prune") == "nothing to prune\n"  # the second time counts
    assert say("prune", "--days", "0") != "nothing to prune\n"


def test_a_changed_shard_is_refused_by_name_before_a_campaign(preparing: Path) -> None:
    folder = preparing / ".autolab" / "cache"
    data = prepare_data(load_task(preparing), protected(preparing), folder)
    assert data.directory is not None
    (data.directory / "text.bin").write_bytes(b"easier")
    with pytest.raises(LabError, match=r"'text\.bin' is not what the manifest says"):
        prepare_data(load_task(preparing), protected(preparing), folder)


def sent_long_ago(days: float, *folders: str) -> None:
    for name in folders:
        content = cache.in_repo(connect(), REPO)[name]
        said = {"content": content, "sent_at": time.time() - days * 86_400}
        upload(f"folders/{name}.json", json.dumps(said).encode())


def test_prune_of_a_repo_drops_what_nobody_needs_in_one_commit(say: Say, hub: HubServer, lab: Path) -> None:
    old, new, other = FOLDER, "toy-cpu-ffffffffffff", "else-cpu-0123456789ab"
    prepared(lab, old, {"train/train.bin": b"old"})
    prepared(lab, new)
    say("warm")
    prepared(lab, other, {"train/train.bin": b"of another task"})
    cache.warm(connect(), lab / ".autolab" / "cache", "else", REPO)
    sent_long_ago(30, old, other)
    upload("content/" + "0" * 32 + "/manifest.json", b"nobody points to this")
    repo = hub.repos["datasets", REPO]
    before = len(repo.commits)
    gone = cache.in_repo(connect(), REPO)[old]
    said = say("prune", "--repo", REPO)
    assert f"folders/{old}.json" in said and f"content/{gone}/train/train.bin" in said
    assert len(repo.commits) == before
    assert "4 files on the Hub" in last(say("prune", "--repo", REPO, "--yes"))
    assert len(repo.commits) == before + 1
    assert set(cache.in_repo(connect(), REPO)) == {new, other}
    assert (lab / ".autolab" / "cache" / old).exists()  # it is fresh here
    assert cache.verify(connect(), lab / ".autolab" / "cache", REPO) == [other, old, new]


def test_content_that_two_folders_share_stays_while_one_needs_it(say: Say, hub: HubServer, lab: Path) -> None:
    prepared(lab)
    prepared(lab, "toy-cpu-ffffffffffff")
    say("warm")
    sent_long_ago(30, FOLDER)
    assert "1 file on the Hub" in last(say("prune", "--repo", REPO, "--yes"))
    assert last(say("verify")) == f"2 folders as the manifests say, here and in {REPO}"


def test_a_job_keeps_the_data_of_its_commit(say: Say, lab: Path) -> None:
    there = shared(prepared(lab))
    sent_long_ago(30, FOLDER)
    say("prune", "--repo", REPO, "--yes")
    path = f"{there.path}/heldout/val.bin"
    kept = connect().hf_hub_download(REPO, path, repo_type="dataset", revision=there.revision)
    assert Path(kept).read_bytes() == FILES["heldout/val.bin"]


def test_a_repo_that_changed_while_one_looked_is_not_pruned(say: Say, hub: HubServer, lab: Path) -> None:
    prepared(lab)
    say("warm")
    sent_long_ago(30, FOLDER)
    hub.faults.append(Fault("POST .*/commit/", status=412))
    assert f"repo {REPO}: others keep changing it" in say("prune", "--repo", REPO, "--yes")
    assert FOLDER in cache.in_repo(connect(), REPO)


def test_a_reader_cannot_prune(say: Say, hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(lab)
    say("warm")
    sent_long_ago(30, FOLDER)
    hub.repos["datasets", REPO].private = False
    monkeypatch.setenv("HF_TOKEN", BOB)
    assert f"repo {REPO}: no write access" in say("prune", "--repo", REPO, "--yes")


# agents ---------------------------------------------------------------------------------------------


def test_a_transfer_of_agents_runs_as_a_process_of_its_own(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(*words: str) -> tuple[int, str]:
        return run_script(monkeypatch, capsys, lab, "cache", *words)

    prepared(lab)
    code, output = script("warm")
    assert (code, last(output)) == (0, f"[ok] 1 sent to {REPO}, 0 fetched")
    code, output = script("status")
    assert "here+repo" in output and "the last transfer: [ok] 1 sent" in last(output)
    code, output = script("verify")
    assert (code, last(output)) == (0, f"[ok] 1 folder as the manifests say, here and in {REPO}")
    monkeypatch.setenv("AUTOLAB_ROLE", "lab")
    code, output = script("warm")
    assert code == 1 and f"repo {REPO}: an agent may not push there" in output


# the default task -----------------------------------------------------------------------------------

DATASETS = """
def load_dataset(name, revision, split, streaming):
    return Rows()


class Rows:
    def skip(self, count):
        return ({"text": f"document {number} " + "of some words " * 20} for number in range(count, 900))
"""
NO_DATASETS = """
def load_dataset(*words, **named):
    raise ConnectionError("no route to host")
"""


@pytest.mark.parametrize("interpreter", ["the same", "another"])
def test_a_dataset_is_read_from_the_hub_by_one_machine_only(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str
) -> None:
    for module in ("rustbpe", "tiktoken"):
        pytest.importorskip(module)
    task = load_task(ROOT, "gpu")
    files = protected(ROOT)
    monkeypatch.setenv("AUTOLAB_DATASET", "a/b@c")

    def machine(name: str, datasets: str) -> Path:
        home = tmp_path / name
        (home / "modules").mkdir(parents=True)
        (home / "modules" / "datasets.py").write_text(datasets)
        monkeypatch.setenv("PYTHONPATH", str(home / "modules"))
        monkeypatch.setenv("AUTOLAB_CACHE", str(home / "raw"))
        return home / ".autolab" / "cache"

    first = machine("first", DATASETS)
    made = prepare_data(task, files, first)
    cache.warm(connect(), first, task.name, REPO)
    second = machine("second", NO_DATASETS)
    if interpreter == "another":
        monkeypatch.setattr(sys, "version", "3.99.0")
    with pytest.raises(LabError, match=r"cannot read a/b@c .*no route to host"):
        prepare_data(task, files, second)
    cache.warm(connect(), second, task.name, REPO)
    assert prepare_data(task, files, second).manifest == made.manifest
    assert cache.verify(connect(), second, REPO)
    (shard,) = (path for path in second.glob(f"{data_folder(task, files)}/heldout/val.bin"))
    shard.write_bytes(b"easier")
    with pytest.raises(LabError, match=r"heldout/val\.bin was changed"):
        prepare_data(task, files, second)
