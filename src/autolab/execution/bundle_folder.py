"""A bundle as the runner sees it: what lies where, and whether anybody tampered with it.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import os
import stat

from .outcome import Outcome

SPEC = "spec.json"
RESULT = "measurement.json"
LOG = "log.txt"


class Bundle:
    """The paths in a bundle, and the folders that a measurement makes in it."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.workspace = os.path.join(self.root, "workspace")
        self.pristine = os.path.join(self.root, "pristine")
        self.result = os.path.join(self.root, RESULT)
        self.log = os.path.join(self.root, LOG)
        self.run = os.path.join(self.root, "run")  # everything that a run leaves behind
        self.artifact = os.path.join(self.run, "artifact")
        self.clock = os.path.join(self.run, "clock")
        self.scratch = os.path.join(self.run, "scratch")
        self.collected = os.path.join(self.run, "collected")
        self.evaluation = os.path.join(self.run, "evaluation")

    def prepare(self) -> None:
        """Fresh, empty folders for training, also when an earlier runner died half-way."""
        if os.path.lexists(self.run):
            import shutil

            shutil.rmtree(self.run)
        os.mkdir(self.run, 0o700)
        for folder in (self.artifact, self.clock, self.scratch):
            os.mkdir(folder, 0o700)

    def prepare_evaluation(self) -> None:
        """Fresh folders that training cannot have touched. Raises Outcome if something is there."""
        try:
            os.mkdir(self.collected, 0o700)
            os.mkdir(self.evaluation, 0o700)
        except FileExistsError:
            raise Outcome("tampered", "something was planted where the evaluation writes") from None

    def program_bytes(self, editable: list[str]) -> int:
        return sum(os.lstat(os.path.join(self.workspace, path)).st_size for path in editable)

    def check_protected(self, protected: dict[str, str], when: str) -> None:
        """Raise Outcome `tampered` if a protected file is not what the task says."""
        for path, expected in protected.items():
            for folder in (self.workspace, self.pristine):
                if _sha256(os.path.join(folder, path)) != expected:
                    raise Outcome("tampered", f"{path} was changed or removed {when}")
        # A module planted beside the evaluator would be imported instead of the real one.
        for folder, _, names in os.walk(self.pristine):
            for name in names:
                found = os.path.relpath(os.path.join(folder, name), self.pristine)
                if found not in protected:
                    raise Outcome("tampered", f"{found} was planted beside the evaluator {when}")


def _sha256(path: str) -> str | None:
    try:
        # hashlib loads OpenSSL, which takes longer than all the hashing here.
        from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            from hashlib import sha256
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


def read_small(path: str, limit: int) -> bytes | None:
    """Content of a regular file of at most `limit` bytes, else None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def write_atomically(path: str, content: bytes, *, durable: bool) -> None:
    """Write to a temporary name and rename: readers see all of it or nothing."""
    temporary = f"{path}.{os.getpid()}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(descriptor)
    os.replace(temporary, path)
