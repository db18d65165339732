"""Where the agent of one trial edits: a git worktree with the parent program committed.

An agent can do what it likes in there, its `.git` included, so git never runs in a workspace on the lab's side:
what was changed is read file by file, without following links, and compared with the parent in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from autolab.errors import LabError
from autolab.program.hashing import Files, program_id

REPOSITORY = "repository.git"
WORKSPACES = "workspaces"
OWNERS = "owners"
BUILDING = "building"
IGNORED = "# What belongs to the lab and not to a search through the project's files.\n"
HIDDEN = (
    "cache/",
    "runs/",
    "seats/",
    "owners/",
    "building/",
    "repository.git*",
    "ledger.sqlite*",
    "campaign.lock",
)


class WorkspaceRefused(Exception):
    """Why what stands in a workspace cannot become a program; the text is fed back to the agent."""

    def __init__(self, reason: str, *, tampered: bool = False) -> None:
        super().__init__(reason)
        self.tampered = tampered  # a protected file was changed


def create_workspace(
    state: Path, name: str, files: Files, protected: Files, where: Path | None = None
) -> Path:
    """Make the workspace `name` with `files` (the parent program) and read-only copies of `protected`.

    `state` is the lab's `.autolab`; `where` another folder for it than `workspaces`. A workspace that is there
    already, from a start that was cut short, is made anew. Raises LabError if git is missing or fails.
    """
    repository = state / REPOSITORY
    _hide(state)
    path = (where or state / WORKSPACES) / name
    with _alone(state):
        if not repository.exists():
            fresh = state / f"{REPOSITORY}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            _git(state, "init", "--quiet", "--bare", str(fresh))
            fresh.rename(repository)
        branch = f"refs/programs/{program_id({**files, **protected})}"
        _git(repository, "fast-import", "--quiet", "--force", stdin=_commit(branch, {**protected, **files}))
        remove_workspace(state, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made where no agent can reach, then moved: a link planted at `path` meanwhile is not followed by a rename.
        made = state / BUILDING / path.name
        remove_workspace(state, made)
        made.parent.mkdir(exist_ok=True)
        _git(repository, "worktree", "add", "--quiet", "--force", "--detach", str(made), branch)
        for read_only in protected:
            (made / read_only).chmod(0o444)
        _say_moved(repository, made, path)
        try:
            made.rename(path)
        except OSError as error:
            raise LabError(
                f"cannot be made: {error.strerror}", where=str(path), mend="is something else in it?"
            ) from None
    return path


def _say_moved(repository: Path, made: Path, path: Path) -> None:
    """Tell git where the worktree goes, or it would forget it at its next tidying up."""
    for entry in (repository / "worktrees").glob("*/gitdir"):
        if Path(entry.read_text(encoding="utf-8").strip()).parent == made:
            entry.write_text(f"{path}/.git\n", encoding="utf-8")


def remove_workspace(state: Path, path: Path) -> None:
    """Delete a workspace and forget it; harmless if it is gone."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    (state / OWNERS / path.name).unlink(missing_ok=True)
    for entry in (state / REPOSITORY / "worktrees").glob("*/gitdir"):
        with contextlib.suppress(FileNotFoundError):  # another process forgets its own at the same time
            if Path(entry.read_text(encoding="utf-8", errors="replace").strip()).parent == path:
                shutil.rmtree(entry.parent, ignore_errors=True)


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the repository's lock: git fails, rather than waits, where two of it write the same file."""
    with open(state / f"{REPOSITORY}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_owner(state: Path, name: str, session: str) -> None:
    """Say which session of an agent host may write in a workspace; the guard around agents reads it."""
    folder = state / OWNERS
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.write_text(session + "\n", encoding="utf-8")
    temporary.rename(folder / name)


def read_workspace(path: Path, editable: Sequence[str], protected: Files, limit: int) -> dict[str, str]:
    """The editable files as they stand in a workspace, at most `limit` bytes each.

    Raises WorkspaceRefused if one is missing, a link, too large or no text, if a protected file was changed, or
    if there is new code that would not travel with the program.
    """
    found = {name: _read_text(path, name, limit) for name in editable}
    for name, text in protected.items():
        if _read_text(path, name, max(limit, len(text.encode()) + 1)) != text:
            raise WorkspaceRefused(
                f"{name} is protected and was changed; put it back as it was", tampered=True
            )
    for extra in sorted(_new_code(path, {*editable, *protected})):
        raise WorkspaceRefused(
            f"{extra} is no editable file and would be left behind; put its code into {editable[0]}"
        )
    return found


def _read_text(root: Path, name: str, limit: int) -> str:
    """A plain file below `root` as text; no component of its path may be a link."""
    *folders, last = Path(name).parts
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for folder in folders:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            # A pipe would block, a device could do anything: look at what it is before reading.
            file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        with open(file, "rb") as handle:
            if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                raise WorkspaceRefused(f"{name} is no plain file any more")
            content = handle.read(limit + 1)
    except OSError as error:
        raise WorkspaceRefused(f"{name} cannot be read any more: {error.strerror}") from None
    if len(content) > limit:
        raise WorkspaceRefused(f"{name} is larger than {limit} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise WorkspaceRefused(f"{name} is not UTF-8 text any more") from None


def _new_code(root: Path, known: set[str]) -> list[str]:
    """Python files in a workspace that were not there at first, at most a hundred looked at."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if name.endswith(".py") and path not in known:
                found.append(path)
        if len(found) > 100:
            break
    return found


def _hide(state: Path) -> None:
    """Keep searches through the project out of the lab's own files (ripgrep reads .ignore, git .gitignore)."""
    for name, lines in ((".ignore", HIDDEN), (".gitignore", ("*",))):
        path = state / name
        if not path.exists():
            state.mkdir(parents=True, exist_ok=True)
            path.write_text(IGNORED + "\n".join(lines) + "\n", encoding="utf-8")


def _commit(branch: str, files: Files) -> bytes:
    """A stream for `git fast-import`: the files as one commit that is the same whoever makes it when."""
    lines = [f"commit {branch}".encode(), b"committer autolab <autolab> 0 +0000"]
    lines += [*_data("parent program"), b"deleteall"]
    for path in sorted(files):
        quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
        lines += [f"M 100644 inline {quoted}".encode(), *_data(files[path])]
    return b"\n".join([*lines, b"", b"done", b""])


def _data(text: str) -> list[bytes]:
    raw = text.encode()
    return [b"data %d" % len(raw), raw]


def _git(directory: Path, *arguments: str, stdin: bytes | None = None) -> None:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0", "HOME": os.devnull, "LC_ALL": "C",
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "advice.detachedHead=false",
    ]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=directory,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError:
        raise LabError("git is missing", mend="install git: every agent's workspace is a worktree") from None
    except subprocess.TimeoutExpired:
        raise LabError(
            "git did not answer for 60 s", where=str(directory), mend="is the disk healthy?"
        ) from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise LabError(f"git {arguments[0]} failed: {said}", where=str(directory), mend="see the message")
