"""Trackio as `autolab dashboard` starts it: shows the mirror whatever the Hub does, and copies it to private Spaces."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from click.testing import CliRunner
from generated import generate
from stand_ins.hub import HubServer

from autolab.cli.main import cli
from autolab.errors import LabError
from autolab.ledger.store import Ledger
from autolab.report.trackio import Mirror, child, viewer

pytest.importorskip("trackio")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab after a short night."""
    root = tmp_path_factory.mktemp("night") / "lab"
    generate(root, trials=16, hostile=True)
    return root


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Trackio directory of a test."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "trackio"


@contextlib.contextmanager
def hanging_hub() -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A Hub that accepts and never answers, and the environment of somebody who has an account there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield server, {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_" + "x" * 34}


def projects(lab: Path, directory: Path) -> list[str]:
    with Ledger(lab / ".autolab" / "ledger.sqlite", create=False) as ledger:
        return Mirror(ledger, directory).projects()


def asked(url: str, name: str, **words: str) -> object:
    """What Trackio's own API answers."""
    body = json.dumps(words).encode()
    request = urllib.request.Request(f"{url}/api/{name}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


@pytest.mark.slow
def test_the_dashboard_opens_while_the_hub_hangs(lab: Path, directory: Path) -> None:
    with hanging_hub() as (hub, environment):
        command = [sys.executable, "-m", "autolab.cli.main", "dashboard", "-C", str(lab)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            try:
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in range(3)]
                addresses = [line.split()[1] for line in lines[:2]]
                names = projects(lab, directory)
                for address, name in zip(addresses, names, strict=True):
                    assert address.startswith("http://127.0.0.1:") and address.endswith("&smoothing=0")
                    assert f"project={name}&" in address
                    with urllib.request.urlopen(address, timeout=30) as page:
                        assert b"trackio" in page.read().lower()
                url = addresses[0].partition("/?")[0]
                assert set(names) <= set(asked(url, "get_all_projects"))  # type: ignore[call-overload]
                runs = asked(url, "get_runs_for_project", project=names[0])
                assert len(runs) >= 9  # type: ignore[arg-type]
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        hub.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody ever called
            hub.accept()


@pytest.mark.slow
def test_trackio_ends_with_the_dashboard_that_was_killed(lab: Path, directory: Path) -> None:
    command = [sys.executable, "-m", "autolab.cli.main", "dashboard", "-C", str(lab)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        process.kill()
        host, port = url.partition("/?")[0].removeprefix("http://").split(":")
        for _ in range(600):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                return
            signal.sigtimedwait([], 0.05)
    pytest.fail("Trackio still serves")


@pytest.mark.slow
def test_a_space_on_a_hub_that_hangs_is_one_line(lab: Path, directory: Path) -> None:
    with hanging_hub() as (_, environment):
        command = [
            sys.executable,
            "-m",
            "autolab.cli.main",
            "dashboard",
            "-C",
            str(lab),
            "--space",
            "alice/lab",
        ]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**environment, "AUTOLAB_HUB_SECONDS": "0.2"}
        )  # fmt: skip
    assert ended.returncode == 2
    said = [line for line in ended.stderr.splitlines() if line.startswith("autolab: ")]
    assert len(said) == 1 and "the Hub does not answer" in said[0]


def test_a_copy_to_a_space_has_a_time_limit(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_hub() as (_, environment):
        for name in ("HF_ENDPOINT", "HF_TOKEN"):
            monkeypatch.setenv(name, environment[name])
        with pytest.raises(LabError, match="did not take the mirror within 1 s"):
            viewer.sync(directory, "alice/lab", ["a-project"], seconds=1)


def test_nothing_is_copied_to_a_space_that_others_see(hub: HubServer) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo("alice/open", repo_type="space", space_sdk="gradio", private=False)
    with pytest.raises(LabError, match="that Space is public"):
        child.sync(30, "alice/open", ["a-project"])


def test_nothing_is_copied_to_a_bucket_that_others_see(hub: HubServer) -> None:
    from huggingface_hub import HfApi

    HfApi().create_bucket("alice/closed-bucket", private=False)
    with pytest.raises(LabError, match="that bucket is public"):
        child.sync(30, "alice/closed", ["a-project"])


def test_without_a_token_there_is_no_space(
    lab: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path),
        "HF_TOKEN_PATH": str(tmp_path / "none"),
        "HF_TOKEN": "",
    }
    command = [sys.executable, "-m", "autolab.cli.main", "dashboard", "-C", str(lab), "--space", "alice/lab"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 2 and "there is no Hugging Face token" in ended.stderr


@pytest.mark.parametrize("found", ["0.42.0", None])
def test_another_trackio_is_refused(lab: Path, monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    def version(name: str) -> str:
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    ended = CliRunner().invoke(cli, ["dashboard", "-C", str(lab)])
    assert isinstance(ended.exception, LabError) and "pip install 'autolab[trackio]'" in str(ended.exception)


def test_an_agent_may_not_make_a_space(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLAB_ROLE", "worker")
    ended = CliRunner().invoke(cli, ["dashboard", "-C", str(lab), "--space", "alice/lab"])
    assert isinstance(ended.exception, LabError) and "may not push" in str(ended.exception)


def test_trackio_gets_no_token_to_show_with(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-" + "x" * 34)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "alice/lab")
    found = viewer._environment(directory)
    assert not {"HF_TOKEN", "OPENROUTER_API_KEY", "TRACKIO_SPACE_ID"} & set(found)


@pytest.mark.parametrize("to_the_hub", [False, True])
def test_trackio_knows_of_our_environment_only_what_it_needs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, to_the_hub: bool
) -> None:
    """Nobody can name every variable that holds a secret."""
    secrets = {"DATABASE_URL", "MY_PASSPHRASE", "GITHUB_PAT", "AWS_SESSION", "TRACKIO_WRITE_TOKEN", "X_KEY"}
    for name in secrets:
        monkeypatch.setenv(name, "a-secret-value")
    for name, value in {"HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://127.0.0.1:9", "LC_ALL": "C.UTF-8",
                        "https_proxy": "http://me:word@127.0.0.1:9", "TRACKIO_THEME": "soft"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    given = told_to_a_child(monkeypatch)
    with pytest.raises(LabError, match="Trackio ended at once"):
        if to_the_hub:
            viewer.sync(directory, "alice/lab", ["a-project"])
        else:
            with viewer.shown(directory):
                pass
    assert "a-secret-value" not in given.values() and {"PATH", "LC_ALL", "TRACKIO_THEME"} <= set(given)
    hub = {"HF_TOKEN", "HF_ENDPOINT", "https_proxy"}
    assert hub & set(given) == (hub if to_the_hub else set())


def told_to_a_child(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...] = ("true",)) -> dict[str, str]:
    """The environment of the process that is started next, in place of which is this command."""
    given: dict[str, str] = {}
    start = subprocess.Popen

    def started(words: list[str], *, env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        given.update(env)
        return start(list(command), env=env, **more)

    monkeypatch.setattr(viewer.subprocess, "Popen", started)  # type: ignore[attr-defined]
    return given


def test_a_trackio_that_does_not_start_is_one_line(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told_to_a_child(monkeypatch, ("sleep", "60"))
    monkeypatch.setattr(viewer, "START_SECONDS", 0.1)
    said = r"Trackio did not start within .*see dashboard.log"
    with pytest.raises(LabError, match=said), viewer.shown(directory):
        pass


@pytest.mark.browser
def test_what_agents_write_stays_text_in_the_browser(lab: Path, directory: Path) -> None:
    with Ledger(lab / ".autolab" / "ledger.sqlite", create=False) as ledger:
        target = Mirror(ledger, directory)
        target.write(alive=False)
        trials, fleet = target.projects()
    with chromium() as browser, viewer.shown(directory) as (url, _):
        page = browser.new_page()
        wrong: list[str] = []
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith(url) else wrong.append(request.url))
        for place, project, shown in (
            ("", trials, "train"),
            ("runs", trials, "-baseline"),
            ("reports", fleet, "autolab show"),
        ):
            page.goto(viewer.address(url, project).replace("/?", f"/{place}?"))
            page.get_by_text(shown).first.wait_for(timeout=60_000)
            assert page.evaluate("document.querySelectorAll('img[src=x], svg[onload]').length") == 0
        assert "onerror=alert(1)>" in page.inner_text("body")
        assert [name for name in wrong if not name.startswith(("data:", "blob:"))] == []
