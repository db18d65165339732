"""Starts Trackio in a process of its own, which cannot hang this one: without tokens to show, with a time limit to
copy the mirror to a Space."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from autolab.errors import LabError
from autolab.hub.untrusted import one_line
from autolab.report.trackio.inbox import VERSION

START_SECONDS = 180.0  # taking in a long campaign for the first time is part of it
SYNC_SECONDS = 1200.0  # a new Space is built for minutes
INSTALL = "pip install 'autolab[trackio]'"
LOG = "dashboard.log"
ORDER = "train/*,final/*,measured/*,best/*,fleet/*,failures/*,cost/*"  # of the plots, the curves first
_KEPT = re.compile(  # of our environment: what a program needs to run at all, and how Trackio is to look
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHONPATH|PYTHONHOME|LD_LIBRARY_PATH|TRACKIO_\w+"
)
_TO_THE_HUB = re.compile(  # besides, for a Space: where the Hub is, who asks, and the way there
    r"HF_(ENDPOINT|HOME|TOKEN|TOKEN_PATH|HUB_OFFLINE)|HUGGING_FACE_HUB_TOKEN|XDG_CACHE_HOME|AUTOLAB_HUB_SECONDS"
    r"|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|ACCESS_KEY", re.IGNORECASE)
_ELSEWHERE = re.compile(  # would make Trackio log to, read from or be reached from another place
    r"TRACKIO_(SPACE_ID|SERVER_URL|BUCKET_ID|REGISTRY_BUCKET_ID|DATASET_ID|WEBHOOK_.*|PAUSE_WRITES)"
)


def need_trackio() -> None:
    """Raise LabError unless Trackio is there, in the version whose fragments are written."""
    try:
        found = importlib.metadata.version("trackio")
    except importlib.metadata.PackageNotFoundError:
        raise LabError("Trackio is not installed", mend=INSTALL) from None
    if found != VERSION:
        raise LabError(f"this is Trackio {found}, and the mirror is written for {VERSION}", mend=INSTALL)


@contextlib.contextmanager
def shown(directory: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve a mirror on 127.0.0.1: (its address, the process). It never asks the Hub for anything.

    Raises LabError if Trackio does not start, after `START_SECONDS` at the latest.
    """
    environment = {"TRACKIO_PLOT_ORDER": ORDER, **_environment(directory), "HF_HUB_OFFLINE": "1",
                   "HF_TOKEN_PATH": os.devnull, "TRACKIO_INBOX_POLL_INTERVAL": "5"}  # fmt: skip
    with _started(directory, ["serve"], environment) as process:
        try:
            url = _answer(process, directory, START_SECONDS)["url"]
        except TimeoutError:
            raise LabError(
                f"Trackio did not start within {START_SECONDS:.0f} s",
                where=str(directory),
                mend=f"see {LOG} there, and try again: what it has taken in stays",
            ) from None
        yield url, process


def sync(directory: Path, space: str, projects: Sequence[str], seconds: float = SYNC_SECONDS) -> str:
    """Copy projects to a private Space; returns its address. Raises LabError, after `seconds` at the latest."""
    environment = _environment(directory)
    environment |= {name: value for name, value in os.environ.items() if _TO_THE_HUB.fullmatch(name)}
    words = ["sync", str(seconds), space, *projects]
    with _started(directory, words, environment) as process:
        try:
            return str(_answer(process, directory, seconds)["url"])
        except TimeoutError:
            raise LabError(
                f"the Hub did not take the mirror within {seconds:.0f} s",
                where=space,
                mend="nothing here is lost: try again later",
            ) from None


def address(url: str, project: str) -> str:
    """Where a project is seen as it was measured: Trackio smooths curves unless told not to."""
    return f"{url.rstrip('/')}/?project={quote(project)}&smoothing=0"


def _environment(directory: Path) -> dict[str, str]:
    """What the process may know of our environment: what it needs, and nothing that looks like a secret."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)
            and not _SECRET.search(name) and not _ELSEWHERE.fullmatch(name)}  # fmt: skip
    return {
        **kept,
        "TRACKIO_DIR": str(directory.resolve()),
        # A database that can be written again need not be safe from power cuts: four times as quick.
        "TRACKIO_SQLITE_SYNCHRONOUS": "OFF",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@contextlib.contextmanager
def _started(
    directory: Path, words: Sequence[str], environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    directory.mkdir(parents=True, exist_ok=True)
    # -P: nothing is imported from the directory that it runs in.
    command = [sys.executable, "-P", "-m", "autolab.report.trackio.child", *words]
    with open(directory / LOG, "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _answer(process: subprocess.Popen[str], directory: Path, seconds: float) -> dict[str, Any]:
    """What the child says first. Raises LabError for its problems, TimeoutError if it says nothing."""
    assert process.stdout is not None
    line = _line(process.stdout, seconds)
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        raise LabError("Trackio ended at once", where=str(directory), mend=f"see {LOG} there") from None
    if "url" not in said:
        raise LabError(one_line(said["what"], 300), where=said["where"], mend=said["mend"])
    return said


def _line(stream: IO[str], seconds: float) -> str:
    until = time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
        if ready:
            return stream.readline()
        if time.monotonic() >= until:
            raise TimeoutError
