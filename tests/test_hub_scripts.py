"""Jobs and results go through the real client; nothing is overspent, leaked, lost or pushed unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import close_session
from publishing import finish, results
from stand_ins.hub import ALICE, BOB, APaper, Fault, HubServer
from stand_ins.hub.running import run_script

from autolab.errors import LabError
from autolab.hub import consent
from autolab.hub.connection import connect
from autolab.hub.leaks import find_leaks, redact

pytestmark = pytest.mark.hub

Script = Callable[..., tuple[int, str]]
OPENAI_LIKE = "sk" + "-" + "proj" + "A1b2" * 8


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
    with results(lab) as ledger:
        campaign, name = ledger.campaign().id, ledger.meta("lab")
    monkeypatch.setenv("AUTOLAB_TRIAL", "3fa2c1-0007")
    dump = "import glob, os; print(dict(os.environ)); print([open(p).read(999) for p in glob.glob('*')])"
    job = launched(script, "python3", "-c", dump, "--", "--flag")
    wait_for(hub, job)
    spec = hub.jobs[job].spec
    assert spec["command"] == ["python3", "-c", dump, "--", "--flag"]
    assert (spec["environment"], spec.get("secrets"), spec["timeoutSeconds"]) == ({}, None, 600)
    labels = hub.jobs[job].labels
    assert (labels["campaign"], labels["trial"], labels["made-by"]) == (campaign, "3fa2c1-0007", "autolab")
    assert (labels["lab"], labels["name"], labels["most-usd-micro"]) == (name, "3fa2c1-0007", "1670")
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
    monkeypatch.setattr("autolab.hub.jobs.launching.time.sleep", lambda seconds: None)
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
    close_session()  # another process has no connection left from before
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


# secrets and consent ---------------------------------------------------------------------------------


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
