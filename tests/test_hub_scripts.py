"""Jobs, prepared data and results go through the real client; nothing is overspent, leaked, lost or pushed unasked."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import write_toy
from stand_ins.hub import ALICE, BOB, APaper, Fault, HubServer
from stand_ins.hub.repos import read_file
from stand_ins.hub.running import run_script, use

from autolab.errors import LabError
from autolab.hub import consent
from autolab.hub.cache import warm
from autolab.hub.connection import connect
from autolab.hub.leaks import find_leaks, redact
from autolab.ledger.records import Proposal, Status, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import HEADER, MASTER, TABLE

Script = Callable[..., tuple[int, str]]
FOLDER = "toy-cpu-0123456789ab"
OPENAI_LIKE = "sk" + "-" + "proj" + "A1b2" * 8


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        use(monkeypatch, server, tmp_path / "home")
        yield server


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "lab")


@pytest.fixture
def script(
    hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Script:
    """`script("jobs", "status")` runs scripts/jobs.py in the lab: its exit code and what it printed."""
    return lambda name, *words, at=lab: run_script(monkeypatch, capsys, at, name, *words)


def last(output: str) -> str:
    return output.rstrip("\n").split("\n")[-1]


# jobs -----------------------------------------------------------------------------------------------


def launched(script: Script, *command: str) -> str:
    code, output = script(
        "jobs", "launch", "--flavor", "cpu-basic", "--timeout", "10m", "--max-usd", "0.01", "--", *command
    )
    assert code == 0, output
    return last(output).split()[2].rstrip(",")


def wait_for(hub: HubServer, job: str) -> None:
    with hub.jobs[job].changed:
        assert hub.jobs[job].changed.wait_for(lambda: hub.jobs[job].stage in ("COMPLETED", "ERROR"), 20)


def test_hardware_lists_flavors_with_prices_cheapest_first(script: Script) -> None:
    code, output = script("jobs", "hardware")
    names = [line.split()[0] for line in output.splitlines()]
    assert (code, names[:4]) == (0, ["cpu-basic", "t4-small", "a100-large", "h200"])
    assert "5.00/h" in output and last(output).startswith("[ok] 4 flavors")


def test_a_job_is_labelled_and_gets_no_token(
    script: Script, hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with results(lab):
        pass
    monkeypatch.setenv("AUTOLAB_TRIAL", "ab12-0007")
    dump = "import glob, os; print(dict(os.environ)); print([open(p).read(999) for p in glob.glob('*')])"
    job = launched(script, "python3", "-c", dump, "--", "--flag")
    wait_for(hub, job)
    spec = hub.jobs[job].spec
    assert spec["command"] == ["python3", "-c", dump, "--", "--flag"]
    assert (spec["environment"], spec.get("secrets"), spec["timeoutSeconds"]) == ({}, None, 600)
    labels = hub.jobs[job].labels
    assert (labels["campaign"], labels["trial"], labels["made-by"]) == ("c-1", "ab12-0007", "autolab")
    log = "\n".join(line["data"] for line in hub.jobs[job].log)
    assert "JOB_ID" in log and ALICE not in log


def test_a_job_that_could_cost_too_much_is_not_launched(script: Script, hub: HubServer) -> None:
    code, output = script(
        "jobs", "launch", "--flavor", "h200", "--timeout", "1h", "--max-usd", "2", "--", "true"
    )
    assert code == 1
    assert last(output) == (
        "[refused] h200 for 1h can cost $5.00, and --max-usd is $2.00 "
        "(mend: --timeout 24m or less, or a cheaper flavor)"
    )
    assert hub.jobs == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--flavor", "h900", "--timeout", "1m", "--max-usd", "1", "--", "true"], "unknown flavor 'h900'"),
        (["--flavor", "h200", "--timeout", "60", "--max-usd", "1", "--", "true"], "'60' is not a time"),
        (["--flavor", "h200", "--timeout", "90h", "--max-usd", "1", "--", "true"], "'90h' is not a time"),
        (
            ["--flavor", "h200", "--timeout", "1m", "--max-usd", "nan", "--", "true"],
            "--max-usd: is not an amount",
        ),
        (["--flavor", "h200", "--timeout", "1m", "--max-usd", "1"], "there is no command"),
        (
            ["--flavor", "h200", "--timeout", "1m", "--max-usd", "1", "--", "curl", "-H", OPENAI_LIKE],
            "holds a secret",
        ),
        (["--flavor", "h200", "--timeout", "1m", "--max-usd", "1", "--", "echo", ALICE], "holds a secret"),
        (["--timeout", "1m", "--max-usd", "1", "--", "true"], "--flavor"),
    ],
)
def test_a_launch_that_cannot_be_meant_is_one_line(
    script: Script, hub: HubServer, words: list[str], said: str
) -> None:
    code, output = script("jobs", "launch", *words)
    assert code != 0 and said in output and len(output.splitlines()) == 1
    assert ALICE not in output and hub.jobs == {}


def test_a_launch_whose_answer_is_lost_is_found_and_not_repeated(script: Script, hub: HubServer) -> None:
    hub.faults.append(Fault("POST /api/jobs/alice", lost=True))
    job = launched(script, "true")
    assert list(hub.jobs) == [job]
    assert len(hub.asked("POST /api/jobs/alice")) == 1


def test_a_launch_that_never_arrived_launches_nothing(
    script: Script, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolab.hub.jobs.time.sleep", lambda seconds: None)
    hub.faults.append(Fault("POST /api/jobs/alice", status=503))
    words = ["launch", "--flavor", "cpu-basic", "--timeout", "1m", "--max-usd", "1", "--", "true"]
    code, output = script("jobs", *words)
    assert code == 1 and "HTTP 503" in output and hub.jobs == {}


def test_status_and_logs_of_a_job_and_no_word_of_a_result(script: Script, hub: HubServer) -> None:
    job = launched(
        script,
        "sh",
        "-c",
        f"for i in $(seq 900); do echo step $i; done; echo {BOB[:3]}''{BOB[3:]}; printf '<<<END\\033[2J'",
    )
    wait_for(hub, job)
    code, output = script("jobs", "status", job)
    assert (code, last(output)) == (0, f"[ok] {job} is COMPLETED")
    code, output = script("jobs", "logs", job, "--tail", "800")
    assert code == 0 and len(output) < 4_000
    lines = output.splitlines()
    assert (
        lines[0].startswith(f"<<<UNTRUSTED log of job {job}") and lines[-2] == f"<<<END log of job {job}>>>"
    )
    assert "step 900" in output and BOB not in output and "\x1b" not in output and output.count("<<<") == 2
    assert last(output) == "[ok] 800 lines of a log, for people: it may be cut short, and is never a result"
    code, output = script("jobs", "status", "--json")
    assert json.loads(output.splitlines()[0])["jobs"][0]["stage"] == "COMPLETED"


def test_a_log_stream_that_drops_is_an_error_and_not_a_short_log(script: Script, hub: HubServer) -> None:
    job = launched(script, "sh", "-c", "seq 50")
    wait_for(hub, job)
    hub.faults.append(Fault("GET .*/logs", cut_after=5))
    code, output = script("jobs", "logs", job)
    assert code == 1 and "does not answer" in output


def test_a_job_of_ours_is_cancelled_and_no_other(script: Script, hub: HubServer) -> None:
    job = launched(script, "sleep", "60")
    code, output = script("jobs", "cancel", job)
    assert (code, last(output)) == (0, f"[ok] {job} is CANCELED")
    foreign = connect().run_job(image="x", command=["sleep", "60"], flavor="cpu-basic", namespace="alice")
    code, output = script("jobs", "cancel", foreign.id)
    assert code == 1 and "was not launched by Autolab" in output
    assert hub.jobs[foreign.id].stage != "CANCELED"


def test_who_we_are_is_asked_once(script: Script, hub: HubServer) -> None:
    for _ in range(3):
        assert script("jobs", "status")[0] == 0
    assert len(hub.asked("whoami")) == 1


@pytest.mark.parametrize("words", [["status", "0" * 24], ["logs", "0" * 24], ["cancel", "nonsense"]])
def test_a_job_that_is_not_there_is_one_line(script: Script, words: list[str]) -> None:
    code, output = script("jobs", *words)
    assert code == 1 and len(output.splitlines()) == 1 and "job" in output


# tokens and the network -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "status"],
        ["cache", "warm", "--here", "--repo", "alice/d"],
        ["publish", "push", "--repo", "alice/r"],
    ],
)
def test_a_lost_token_a_wrong_token_and_no_hub_are_one_line_each(
    script: Script, hub: HubServer, lab: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("autolab.hub.connection.time.sleep", lambda seconds: None)
    with results(lab) as ledger:
        finish(ledger, 1)
    monkeypatch.setenv("HF_TOKEN", "")
    assert script(*words) == (
        1,
        "[refused] there is no Hugging Face token (mend: `hf auth login`, or set HF_TOKEN)\n",
    )
    wrong = "hf" + "_" + "wrong" * 7
    monkeypatch.setenv("HF_TOKEN", wrong)
    code, output = script(*words)
    assert code == 1 and "does not accept the token" in output and len(output.splitlines()) == 1
    assert wrong not in output
    hub.__exit__()
    code, output = script(*words)
    assert code == 1 and "the Hub does not answer" in output and len(output.splitlines()) == 1


def test_a_stalled_hub_is_given_up_on(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("autolab.hub.connection.READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        code, output = script("jobs", "hardware")
    assert code == 1 and "does not answer (ReadTimeout)" in output


def test_a_script_runs_on_its_own_from_below_the_lab(script: Script, hub: HubServer, lab: Path) -> None:
    hub.papers["2407.21783"] = APaper("Herd", "Llama.", "# Herd\n\nText.")
    (lab / "sub").mkdir()
    code, output = script("papers", "section", "2407.21783", "1", "--json", at=lab / "sub")
    assert code == 0 and "Text." in json.loads(output.splitlines()[0])["text"]
    assert (lab / ".autolab/cache/papers/2407.21783.json").exists()


# prepared data --------------------------------------------------------------------------------------


def prepared(lab: Path, name: str = FOLDER, content: bytes = b"\0tokens" * 9000) -> Path:
    folder = lab / ".autolab" / "cache" / name
    files = {"train/train.bin": content, "heldout/meta.json": b'{"vocab": 256}'}
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(data)
    (folder / "overlay.json").write_text("[]")  # belongs to this machine
    manifest = {"files": {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def move(script: Script) -> tuple[int, str]:
    return script("cache", "warm", "--here", "--repo", "alice/prepared")


def test_prepared_data_goes_to_a_private_repo_and_comes_back_the_same(
    script: Script, hub: HubServer, lab: Path, tmp_path: Path
) -> None:
    folder = prepared(lab)
    assert move(script)[1].splitlines()[-2:] == [
        f"sent     {FOLDER}",
        "[ok] 1 sent to alice/prepared, 0 fetched",
    ]
    repo = hub.repos["datasets", "alice/prepared"]
    assert repo.private and len(repo.commits) == 2
    assert last(move(script)[1]) == "[ok] nothing to move: both sides have it"
    other = write_toy(tmp_path / "other")
    code, output = script("cache", "warm", "--here", "--repo", "alice/prepared", at=other)
    assert (code, last(output)) == (0, "[ok] 0 sent to alice/prepared, 1 fetched")
    names = ["train/train.bin", "heldout/meta.json", "manifest.json"]
    copy = other / ".autolab" / "cache" / FOLDER
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == sorted(names)
    assert all((copy / name).read_bytes() == (folder / name).read_bytes() for name in names)
    code, output = script("cache", "verify", "--repo", "alice/prepared", at=other)
    assert (code, last(output)) == (0, "[ok] 1 folder as the manifests say, here and in alice/prepared")


def test_a_transfer_runs_as_a_process_of_its_own(script: Script, lab: Path, hub: HubServer) -> None:
    prepared(lab)
    code, output = script("cache", "warm", "--repo", "alice/prepared")
    assert (code, last(output)) == (0, "[ok] 1 sent to alice/prepared, 0 fetched")
    code, output = script("cache", "status", "--repo", "alice/prepared")
    assert "here+repo" in output and "the last transfer: [ok] 1 sent" in last(output)


def test_a_file_that_was_changed_here_is_refused_by_name(script: Script, hub: HubServer, lab: Path) -> None:
    folder = prepared(lab)
    (folder / "heldout" / "meta.json").write_text('{"vocab": 255}')
    for words in (["warm", "--here"], ["verify"]):
        hub.repos.clear()
        connect().create_repo("alice/prepared", repo_type="dataset", private=True)
        code, output = script("cache", *words, "--repo", "alice/prepared")
        assert code == 1 and f"{FOLDER}: heldout/meta.json was changed" in output
        assert len(hub.repos["datasets", "alice/prepared"].commits) == 1


@pytest.mark.parametrize("name", ["train/train.bin", "heldout/meta.json", "manifest.json"])
def test_a_file_that_was_changed_in_the_repo_is_refused_by_name(
    script: Script, hub: HubServer, lab: Path, name: str
) -> None:
    folder = prepared(lab)
    move(script)
    path = next(
        path for path in hub.repos["datasets", "alice/prepared"].commits[-1].tree if path.endswith(name)
    )
    forged = read_file(hub, "datasets", "alice/prepared", path) + b"\0"
    connect().upload_file(
        path_or_fileobj=forged, path_in_repo=path, repo_id="alice/prepared", repo_type="dataset"
    )
    code, output = script("cache", "verify", "--repo", "alice/prepared")
    assert code == 1 and f"{path} was changed" in output
    shutil.rmtree(folder)
    code, output = move(script)
    assert code == 1 and f"{path} was changed" in output
    assert not folder.exists() and list(folder.parent.glob(".*")) == []


def test_a_manifest_that_names_files_elsewhere_is_refused(script: Script, hub: HubServer, lab: Path) -> None:
    for wrong in ("../../../train.py", "/etc/hostname"):
        manifest = json.dumps({"files": {wrong: "0" * 64}}).encode()
        content = hashlib.sha256(manifest).hexdigest()[:32]
        api = connect()
        api.create_repo("alice/prepared", repo_type="dataset", private=True, exist_ok=True)
        pointer = json.dumps({"content": content}).encode()
        for path, data in (
            (f"content/{content}/manifest.json", manifest),
            (f"folders/{FOLDER}.json", pointer),
        ):
            api.upload_file(
                path_or_fileobj=data, path_in_repo=path, repo_id="alice/prepared", repo_type="dataset"
            )
        code, output = move(script)
        assert code == 1 and "its manifest names" in output
        assert not (lab / ".autolab" / "cache" / FOLDER).exists()


def test_data_is_not_sent_to_a_public_repo(script: Script, hub: HubServer, lab: Path) -> None:
    prepared(lab)
    connect().create_repo("alice/prepared", repo_type="dataset", private=False)
    code, output = move(script)
    assert code == 1 and "repo alice/prepared: is public" in output
    assert len(hub.repos["datasets", "alice/prepared"].commits) == 1


def test_other_data_under_the_same_name_is_refused(script: Script, hub: HubServer, lab: Path) -> None:
    folder = prepared(lab)
    move(script)
    shutil.rmtree(folder)
    prepared(lab, content=b"\0other" * 9000)
    code, output = move(script)
    assert code == 1 and f"{FOLDER}: holds other data here than in the repo" in output


def test_data_of_another_task_stays_where_it_is(script: Script, hub: HubServer, lab: Path) -> None:
    cache = lab / ".autolab" / "cache"
    prepared(lab, "other-cpu-0123456789ab")
    assert warm(connect(), cache, "toy", "alice/prepared") == ([], [])
    assert warm(connect(), cache, "other", "alice/prepared") == (["other-cpu-0123456789ab"], [])


@pytest.mark.parametrize(
    ("repo", "said"), [("alice/nope", "no such thing"), ("no name", "OWNER/NAME"), ("bob/x", "no such thing")]
)
def test_an_unknown_repo_is_one_line(script: Script, lab: Path, repo: str, said: str) -> None:
    prepared(lab)
    code, output = script("cache", "verify", "--repo", repo)
    assert code == 1 and said in output and len(output.splitlines()) == 1


# results --------------------------------------------------------------------------------------------


def results(root: Path) -> Ledger:
    ledger = Ledger(root / ".autolab" / "ledger.sqlite")
    metric = {"name": "loss", "direction": "minimize"}
    ledger.create_campaign(name="c", task="toy", key="k", config={"task": {"metric": metric}},
                           baseline=ledger.add_program({"a.py": "x = 0"}))  # fmt: skip
    return ledger


def finish(ledger: Ledger, count: int, hypothesis: str = "a wider layer") -> None:
    campaign = ledger.campaign().id
    for _ in range(count):
        opened = ledger.open_trial(
            campaign, role="worker", agent="w", surface="", parent_program=None, parent_trial=None
        )
        ledger.queue_trial(opened.number, {"a.py": f"x = {opened.number}"}, Proposal(hypothesis, ()))
        done = ledger.finish_trial(
            opened.number, Status.OK, verdict=Verdict.CONFIRMED, score=float(opened.number)
        )
        ledger.promote(done, score=1.0, interval=(0.9, 1.1), gain=0.0, reason="baseline")


def test_preview_says_what_would_be_pushed_and_asks_nothing_of_the_hub(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
    code, output = script("publish", "preview")
    assert code == 0 and [line.split()[-1] for line in output.splitlines()[:3]] == [
        "README.md",
        MASTER,
        TABLE,
    ]
    assert last(output).startswith("[ok] 2 trials, no secret found, nothing was pushed")
    assert hub.requests == []


def test_a_push_is_one_commit_on_a_private_repo_and_a_second_one_changes_nothing(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 2)
    code, output = script("publish", "push", "--repo", "alice/results")
    assert code == 0 and last(output).startswith("[ok] pushed: 2 trials in alice/results at ")
    assert last(output).endswith("only its owner sees it")
    repo = hub.repos["datasets", "alice/results"]
    assert repo.private and [len(commit.tree) for commit in repo.commits] == [0, 3]
    assert read_file(hub, "datasets", "alice/results", MASTER) == (lab / MASTER).read_bytes()
    card = read_file(hub, "datasets", "alice/results", "README.md").decode()
    assert f"path: {TABLE}" in card and "| c-1 | loss | 2 | 1 | 2 |" in card
    assert last(script("publish", "push", "--repo", "alice/results")[1]).startswith(
        "[ok] nothing new: 2 trials"
    )
    assert len(repo.commits) == 2


def test_two_labs_on_one_repo_lose_no_row_whoever_is_quicker(
    script: Script, hub: HubServer, lab: Path, tmp_path: Path
) -> None:
    other = write_toy(tmp_path / "other")
    for root, count in ((lab, 2), (other, 3)):
        with results(root) as ledger:
            finish(ledger, count)
    hub.faults.append(Fault("POST .*/commit/", status=412))  # as if somebody had been quicker
    assert script("publish", "push", "--repo", "alice/results")[0] == 0
    hub.faults.append(Fault("POST .*/commit/", status=503))
    code, output = script("publish", "push", "--repo", "alice/results", at=other)
    assert code == 0 and "5 trials" in last(output)
    both = read_file(hub, "datasets", "alice/results", TABLE).decode()
    assert both.count("\n") == 6 and both.startswith(HEADER)
    assert "nothing new: 5 trials" in script("publish", "push", "--repo", "alice/results", at=other)[1]
    script("publish", "push", "--repo", "alice/results")
    assert read_file(hub, "datasets", "alice/results", TABLE).decode() == both


@pytest.mark.parametrize("verb", [["preview"], ["push", "--repo", "alice/results", "--public"]])
def test_a_secret_is_refused_by_its_place_and_never_shown(
    script: Script, hub: HubServer, lab: Path, verb: list[str]
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
        finish(ledger, 1, hypothesis=f"log in with {OPENAI_LIKE} first")
    code, output = script("publish", *verb)
    assert code == 1 and len(output.splitlines()) == 1
    assert f"{TABLE} line 3: OpenAI or Anthropic key" in output
    assert OPENAI_LIKE not in output and hub.repos == {}


def test_results_are_not_pushed_to_a_public_repo_unless_meant(
    script: Script, hub: HubServer, lab: Path
) -> None:
    with results(lab) as ledger:
        finish(ledger, 1)
    connect().create_repo("alice/results", repo_type="dataset", private=False)
    code, output = script("publish", "push", "--repo", "alice/results")
    assert code == 1 and "is public" in output
    assert len(hub.repos["datasets", "alice/results"].commits) == 1
    code, output = script("publish", "push", "--repo", "alice/results", "--public")
    assert code == 0 and last(output).endswith("everybody sees it")


def test_no_write_access_no_trial_and_no_campaign_are_one_line(
    script: Script, hub: HubServer, lab: Path
) -> None:
    code, output = script("publish", "preview")
    assert code == 1 and len(output.splitlines()) == 1
    with results(lab) as ledger:
        assert "no trial has finished yet" in script("publish", "preview")[1]
        finish(ledger, 1)
    code, output = script("publish", "push", "--repo", "bob/results")
    assert code == 1 and "repo bob/results: no write access" in output and len(output.splitlines()) == 1


@pytest.mark.parametrize(
    "secret",
    [ALICE, OPENAI_LIKE, "ghp" + "_" + "a1B2" * 9, "AKIA" + "ABCDEFGH12345678", "-----BEGIN RSA " + "PRIVATE KEY-----",
     "AIza" + "Sy" * 17 + "x", "xoxb" + "-1234567890-abc", "glpat" + "-" + "a1B2" * 5],
)  # fmt: skip
def test_well_known_tokens_are_found_and_redacted(secret: str) -> None:
    (leak,) = {leak.line for leak in find_leaks("f", f"first\nx = '{secret}'")}
    assert leak == 2
    assert secret not in redact(f"say {secret}.")


def test_a_secret_of_this_environment_is_found_whatever_it_looks_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SERVICE_PASSWORD", "correct horse battery")
    assert [str(leak) for leak in find_leaks("f", "a correct horse battery")] == [
        "f line 1: value of MY_SERVICE_PASSWORD"
    ]
    assert redact("a correct horse battery") == "a [MY_SERVICE_PASSWORD]"
    assert find_leaks("f", "hf_token, sk-learn, the horse, tokens=12") == []


def test_an_agent_spends_and_pushes_only_what_a_person_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    consent.may_spend(100)  # a person at the command line
    consent.may_push("me/results")
    monkeypatch.setenv("AUTOLAB_ROLE", "lab")
    with pytest.raises(LabError, match=r"may spend \$0.00 on a job.*AUTOLAB_AGENTS_MAY_SPEND=0.50"):
        consent.may_spend(0.5)
    with pytest.raises(LabError, match=r"may not push there.*AUTOLAB_AGENTS_MAY_PUSH=me/results"):
        consent.may_push("me/results")
    monkeypatch.setenv(consent.SPEND, "0.50")
    monkeypatch.setenv(consent.PUSH, "me/results")
    consent.may_spend(0.5)
    consent.may_push("me/results")
    for amount in (0.51, float("nan"), float("inf")):
        with pytest.raises(LabError):
            consent.may_spend(amount)
