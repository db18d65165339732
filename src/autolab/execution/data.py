"""The task's data: made once by its `prepare` command, then guarded by its manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError
from autolab.hub.data.holding import hold
from autolab.ledger.records import Campaign
from autolab.ledger.store import Ledger
from autolab.program.hashing import Files
from autolab.task import Task

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Data:
    """A prepared data directory and the text of its manifest."""

    directory: Path | None
    manifest: str

    def fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        """Name, inode, size and change time of the files in the manifest: cheap to compare around a run."""
        return tuple(self._stat(name) for name in self._files())

    def _stat(self, name: str) -> tuple[str, int, int, int]:
        assert self.directory is not None
        try:
            status = os.lstat(self.directory / name)
        except OSError:
            return name, 0, 0, 0
        return name, status.st_ino, status.st_size, status.st_ctime_ns

    def _files(self) -> dict[str, str]:
        files: dict[str, str] = json.loads(self.manifest).get("files", {}) if self.manifest else {}
        return files

    def damage(self) -> str | None:
        """The first file whose content is not what the manifest says, or None."""
        if self.directory is None:
            return None
        for name, expected in self._files().items():
            path = self.directory / name
            try:
                with open(path, "rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                        return name
            except OSError:
                return name
        return None


def data_folder(task: Task, protected: Files) -> str | None:
    """The name of the folder that this machine keeps the task's data in; None for a task without `prepare`.

    It says what determines the content: the command, the protected files, the profile, the interpreter and
    the dataset that the environment names.
    """
    if task.commands.prepare is None:
        return None
    spec = [
        task.commands.prepare,
        dict(protected),
        task.profile,
        sys.version,
        os.environ.get("AUTOLAB_DATASET", ""),
    ]
    name = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    return f"{task.name}-{task.profile}-{name}"


def folders_in_use(ledger: Ledger) -> set[str]:
    """The folders of the campaigns that can go on: the newest one, and those that were never ended."""
    campaigns = ledger.campaigns()
    used = [campaign for campaign in campaigns[:-1] if campaign.state not in ("finished", "stopped")]
    return {name for campaign in (*used, *campaigns[-1:]) if (name := _folder_of(ledger, campaign))}


def _folder_of(ledger: Ledger, campaign: Campaign) -> str | None:
    if "data" in campaign.config:
        return str(campaign.config["data"] or "") or None
    # It began before folders were written down: under this interpreter and dataset, presumably.
    task = Task.model_validate({**campaign.config["task"], "root": ledger.path.parent.parent})
    return data_folder(task, ledger.program(campaign.config["protected"]))


def prepare_data(task: Task, protected: Files, cache: Path) -> Data:
    """Run the task's `prepare` command on pristine copies of the protected files; a second time is quick.

    The folder is held for as long as the answer lives, so that nobody removes it. Raises LabError with the
    command's last line if it fails, and one that names the first file that is not what the manifest says.
    """
    name = data_folder(task, protected)
    if name is None:
        return Data(None, "")
    directory = cache.resolve() / name
    with contextlib.ExitStack() as held:
        held.enter_context(hold(directory))
        os.utime(directory)  # when it was last used
        _run_prepare(task, protected, directory)
        manifest = directory / MANIFEST
        data = Data(directory, manifest.read_text(encoding="utf-8") if manifest.exists() else "{}")
        damaged = data.damage()
        if damaged is not None:
            raise LabError(
                f"{damaged!r} is not what the manifest says",
                where=str(directory),
                mend="delete that directory; it is made anew",
            )
        weakref.finalize(data, held.pop_all().close)
    return data


def _run_prepare(task: Task, protected: Files, directory: Path) -> None:
    assert task.commands.prepare is not None
    with tempfile.TemporaryDirectory(prefix="autolab-prepare-") as workspace:
        for path, text in protected.items():
            target = Path(workspace, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="")
        argv = [sys.executable if word == "python" and i == 0 else word
                for i, word in enumerate(task.commands.prepare)]  # fmt: skip
        environment = {**os.environ, "AUTOLAB_DATA": str(directory), "AUTOLAB_PROFILE": task.profile}
        try:
            done = subprocess.run(
                argv, cwd=workspace, env=environment, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise LabError(
                f"the prepare command cannot be started: {error}",
                where="task.yaml",
                mend="correct commands.prepare",
            ) from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise LabError(
            f"the prepare command failed: {lines[-1] if lines else f'exit code {done.returncode}'}",
            where=" ".join(task.commands.prepare),
            mend="run it by hand to see all of its output",
        )
