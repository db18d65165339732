"""The container's side of a job, without any Hub: what it refuses, and what it leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from cloud import write_toy_with_data
from conftest import TASK, TRAIN, write_toy
from measuring import processes_with, wait_until
from scripted import start

from autolab.execution import job_store
from autolab.execution.executor import stage_bundle
from autolab.execution.job_store import pack
from autolab.lab import Lab

pytestmark = pytest.mark.hub


@dataclass
class Remote:
    """The container's side, run without any Hub; `words` is its command line, `out` where it leaves results."""

    words: list[str]
    out: Path

    def run(self, *more: str) -> tuple[int, str]:
        """Its exit code and what it printed."""
        done = subprocess.run([*self.words, *more], capture_output=True, text=True)
        return done.returncode, done.stdout


def _remote(tmp_path: Path, lab: Lab, sha256: str = "", **files: str) -> Remote:
    """A bundle as jobs get it; `files` replace some of its files."""
    trial = next(lab.ledger.sequence(lab.campaign.id))
    bundle = stage_bundle(
        lab.runs, lab.task, lab.protected, "5ec7e7", lab.needed(trial, "screen"), lab.program(trial),
        sandbox="none", data=None, python="python",
    )  # fmt: skip
    for name, text in files.items():
        (bundle / name).write_text(text)
    packed, out = pack(bundle), tmp_path / "out"
    out.mkdir()
    (tmp_path / "bundle.tar").write_bytes(packed.content)
    script = str(Path(job_store.__file__).with_name("remote.py"))
    words = [sys.executable, script, "--ticket", "t1", "--bundle", str(tmp_path / "bundle.tar")]
    return Remote([*words, "--sha256", sha256 or packed.sha256, "--out", str(out)], out)


def test_what_was_measured_comes_back_with_a_receipt(tmp_path: Path, toy: Path) -> None:
    remote = _remote(tmp_path, start(toy))
    code, said = remote.run()
    assert (code, said.splitlines()[-1]) == (0, "measured: ok")
    assert sorted(os.listdir(remote.out)) == ["log.txt", "measurement.json", "receipt.json"]


def test_a_bundle_that_is_not_what_was_sent_is_not_run(tmp_path: Path, toy: Path) -> None:
    remote = _remote(tmp_path, start(toy), sha256="0" * 64)
    assert remote.run() == (1, "cannot measure here: the bundle is not what was sent\n")
    assert os.listdir(remote.out) == ["log.txt"]


def test_a_container_that_is_told_to_stop_leaves_no_receipt(tmp_path: Path) -> None:
    token = uuid.uuid4().hex
    slow = TRAIN.replace("value = RATE", "import time; time.sleep(60); value = RATE")
    task = TASK.replace("[python, train.py]", f"[python, train.py, '{token}']")
    remote = _remote(tmp_path, start(write_toy(tmp_path / "toy", train=slow, task=task)))
    process = subprocess.Popen(remote.words, stdout=subprocess.PIPE, text=True)
    assert wait_until(lambda: processes_with(token))
    process.terminate()
    said, _ = process.communicate()
    assert (process.returncode, said.splitlines()[-1]) == (1, "the runner ended with 3")
    assert os.listdir(remote.out) == ["log.txt"] and not processes_with(token)


@pytest.mark.parametrize("damage", ["missing", "changed", "manifest", "other"])
def test_other_data_than_was_announced_is_not_measured_with(tmp_path: Path, damage: str) -> None:
    lab, data = start(write_toy_with_data(tmp_path / "toy")), tmp_path / "data"
    assert lab.data.directory is not None
    shutil.copytree(lab.data.directory, data)
    manifest = hashlib.sha256((data / "manifest.json").read_bytes()).hexdigest()
    files = {}
    if damage == "missing":
        (data / "val" / "text.txt").unlink()
    elif damage == "changed":
        (data / "val" / "text.txt").write_text("other")
    elif damage == "manifest":
        (data / "manifest.json").write_text("{}")
    else:
        other = "import os\nopen(os.environ['AUTOLAB_DATA'] + '/val/text.txt', 'w').write('mine')\n"
        files["pristine/prepare.py"] = other
    remote = _remote(tmp_path, lab, **files)
    code, said = remote.run("--data", str(data), "--manifest", manifest)
    assert code == 1
    assert ("manifest" if damage == "manifest" else "val/text.txt") in said
    assert os.listdir(remote.out) == ["log.txt"]
