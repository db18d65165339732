#!/usr/bin/env python3
"""Share prepared data through a private dataset repo: status, warm, verify. A changed file is refused by name."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _lab

from autolab.hub import connection, consent
from autolab.hub.data import sharing as cache
from autolab.task import load_task

WAIT_SECONDS = 90.0  # then the transfer goes on by itself
LOG = "transfer.log"


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Look, move or compare."""
    root = _lab.lab_root(arguments)
    folder = root / ".autolab" / "cache"
    if arguments.verb == "status":
        return _status(folder, arguments.repo)
    api = connection.connect()
    repo = cache.data_repo(api, folder, arguments.repo)
    if arguments.verb == "verify":
        right = cache.verify(api, folder, repo)
        said = f"{_count(right)} as the manifests say, here and in {repo}"
        return _lab.Answer(said, "\n".join(right), {"verified": right})
    consent.may_push(repo)
    if not arguments.here:
        return _detached(root, folder, repo)
    api = connection.connect(seconds=cache.TRANSFER_SECONDS)
    sent, fetched = cache.warm(api, folder, load_task(root).name, repo)
    said = f"{len(sent)} sent to {repo}, {len(fetched)} fetched"
    lines = [f"sent     {name}" for name in sent] + [f"fetched  {name}" for name in fetched]
    return _lab.Answer(
        said if lines else "nothing to move: both sides have it",
        "\n".join(lines),
        {"sent": sent, "fetched": fetched},
    )


def _status(folder: Path, repo: str | None) -> _lab.Answer:
    rows, where = cache.overview(folder, repo)
    said = f"{_count(rows)} of prepared data ({where})"
    if cache.is_transferring(folder):
        said += "; a transfer is under way (next: scripts/cache.py status)"
    elif (folder / LOG).exists():
        said += f"; the last transfer: {(_lines(folder) or ['it was ended'])[-1]}"
    return _lab.Answer(
        said, "\n".join(map(str, rows)), {"folders": [asdict(row) for row in rows], "repo": where}
    )


def _detached(root: Path, folder: Path, repo: str) -> _lab.Answer:
    """Run the transfer as a process of its own, and wait for it as long as an answer may take."""
    with cache.transferring(folder):
        pass  # refused here if another one is under way
    words = [sys.executable, str(Path(__file__).resolve()), "warm", "-C", str(root), "--repo", repo, "--here"]
    with open(folder / LOG, "w", encoding="utf-8") as log:
        moving = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        code = moving.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        return _lab.Answer(
            "still moving; it goes on by itself (next: scripts/cache.py status)", data={"moving": True}
        )
    *lines, last = _lines(folder) or ["[error] it ended without a word"]
    kind, _, said = last.partition("] ")
    return _lab.Answer(
        said, "\n".join(lines), {"said": said, "moved": lines}, refused=code != 0 or kind != "[ok"
    )


def _lines(folder: Path) -> list[str]:
    return (folder / LOG).read_text(encoding="utf-8").splitlines()


def _count(things: list[Any]) -> str:
    return f"{len(things)} folder{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    parser, verb = _lab.parser("cache.py", __doc__)
    status = verb("status", "what is here, and what is in the repo")
    warm = verb("warm", "bring prepared data to where it is missing")
    warm.add_argument("--here", action="store_true", help="in this process, however long it takes")
    verify = verb("verify", "hash everything, here and in the repo")
    for command in (status, warm, verify):
        command.add_argument("--repo", help="OWNER/NAME of a private dataset repo (default: your account's)")
    _lab.main(parser, run)
