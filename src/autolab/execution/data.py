"""The task's data: made once by its `prepare` command, then guarded by its manifest."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError
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


def prepare_data(task: Task, protected: Files, cache: Path) -> Data:
    """Run the task's `prepare` command on pristine copies of the protected files; a second time is quick.

    The directory is named by what determines its content: the command, the protected files, the profile
    and the interpreter. Raises LabError with the command's last line if it fails.
    """
    if task.commands.prepare is None:
        return Data(None, "")
    spec = [
        task.commands.prepare,
        dict(protected),
        task.profile,
        sys.version,
        os.environ.get("AUTOLAB_DATASET", ""),
    ]
    name = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    directory = (cache / f"{task.name}-{task.profile}-{name}").resolve()
    directory.mkdir(parents=True, exist_ok=True)
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
    manifest = directory / MANIFEST
    data = Data(directory, manifest.read_text(encoding="utf-8") if manifest.exists() else "{}")
    damaged = data.damage()
    if damaged is not None:
        raise LabError(
            f"{damaged!r} is not what the manifest says",
            where=str(directory),
            mend="delete that directory; it is made anew",
        )
    return data
