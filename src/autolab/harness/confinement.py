"""Where an agent's processes live: a bubblewrap sandbox in which a lab can be read and one workspace written.

Standard library only, and nothing from autolab but the equally plain `execution.sandbox` and `.syscalls`: the
guard shell builds one of these for every command that an agent runs, and may not cost a noticeable time.

The sandbox holds the system and the Python installation, read-only, and what the caller names. It has no
network, no home, no capabilities, no processes but its own, and none of the caller's environment; when its
first process ends, or the caller does, nothing in it survives.
"""

from __future__ import annotations

import os
import sys

from autolab.execution.sandbox import (
    CLOSE,
    SandboxError,
    find_bubblewrap,
    inside,
    isolation,
    launch_prefix,
    own_mounts,
    packed,
    python_binds,
    system_binds,
)
from autolab.execution.syscalls import seccomp_filter

TYPE_CHECKING = False  # as in typing, whose import would take longer than this module
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Place = str | tuple[str, str]  # a path, the same inside and outside; or (path outside, path inside)

STATE = ".autolab"
REPOSITORY = "repository.git"  # what the workspaces, which are git worktrees, point to
WORKSPACES = "workspaces"
OWNERS = "owners"  # of each workspace a file that names the session which may write in it
BRIDGE = "/run/autolab/bridge"  # the socket's path inside

# Who may write in a workspace of their own, and who may look into everybody's.
WRITERS = ("worker", "engineer")
SPECIALISTS = "specialists/"
READERS = ("lab", "reviewer")

_SKIPPED = ("node_modules", "__pycache__")
_DEPTH = 6  # of folders below a lab's root that are searched for .env files
_MOST_FOLDERS = 2000


def confined(
    command: Iterable[str],
    *,
    folder: str,
    environment: Mapping[str, str],
    cwd: str,
    read_only: Iterable[Place] = (),
    writable: Iterable[Place] = (),
    hidden: Iterable[str] = (),
    python: str = sys.executable,
    special_files: bool = True,
) -> list[str]:
    """The argv that runs `command` in a sandbox, with `environment` and nothing else of the caller's.

    `folder` is a private folder of the caller's, which receives two files and must live until the sandbox has
    started. Places are mounted from the shallowest to the deepest, so that a workspace can be writable within a
    hidden folder within a read-only lab; what lies in no hidden folder must exist to be mounted over. A hidden
    folder is empty, a hidden file cannot be opened. Without `special_files` no links, pipes and devices can be
    made: for workspaces in which something outside the sandbox writes at the same time.

    What a process inside is started with can be read by every other process inside: put no secret into
    `environment` or `command`. Raises SandboxError without bubblewrap or with a strange Python installation.
    """
    bwrap = find_bubblewrap()
    if bwrap is None:
        raise SandboxError("bubblewrap is not installed (mend: `apt install bubblewrap`)")
    binds, _ = python_binds(python)
    args = [*isolation(), *system_binds(), *own_mounts(()), *binds]
    mounts: dict[str, list[str]] = {}
    for path in hidden:
        mounts[path] = ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
    for option, places in (("--ro-bind", read_only), ("--bind", writable)):
        for place in places:
            source, target = (place, place) if isinstance(place, str) else place
            mounts[target] = [option, source, target]
    order = sorted(mounts, key=lambda path: path.count("/"))
    for path in order:
        args += mounts[path]
    for path in order:
        if mounts[path][0] == "--tmpfs":
            args += ["--remount-ro", path]
    args += [*CLOSE, "--chdir", cwd, "--clearenv"]
    for key, value in environment.items():
        args += ["--setenv", key, value]
    args_file, filter_file = os.path.join(folder, "args"), os.path.join(folder, "filter")
    _write(args_file, packed(args))
    calls = seccomp_filter(special_files=special_files)
    if calls is not None:
        _write(filter_file, calls)
    return [*launch_prefix(bwrap, args_file, filter_file if calls is not None else None), *command]


def _write(path: str, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def may_write(role: str) -> bool:
    """Whether a role has a workspace to write in."""
    return role in WRITERS or role.startswith(SPECIALISTS)


def owned(lab: str, session: str) -> list[str]:
    """The names of the workspaces that belong to a session, newest last."""
    folder = os.path.join(lab, STATE, OWNERS)
    found = []
    if session:
        for name in _names(folder):
            try:
                with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                    if file.readline(1000).strip() == session:
                        found.append((os.stat(file.fileno()).st_mtime, name))
            except OSError:
                continue  # given up at this moment
    workspaces = os.path.join(lab, STATE, WORKSPACES)
    return [name for _, name in sorted(found) if _is_folder(os.path.join(workspaces, name))]


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def check_lab(lab: str) -> None:
    """Raises SandboxError if showing the lab's root would show a whole home or machine."""
    home = os.path.realpath(os.path.expanduser("~"))
    if lab == "/" or inside(home, [lab]) or inside(lab, ["/usr", "/proc", "/dev", "/etc"]):
        raise SandboxError(
            f"{lab} cannot be a lab: it holds more than a project (mend: use a folder of its own)"
        )


def shell_places(lab: str, role: str, session: str) -> tuple[list[Place], list[Place], list[str]]:
    """(read-only, writable, hidden) places of an agent's shell in an interactive lab; `lab` is a real path."""
    state = os.path.join(lab, STATE)
    read_only: list[Place] = [lab]
    writable: list[Place] = []
    hidden = _secrets(lab)
    if os.path.isdir(repository := os.path.join(state, REPOSITORY)):
        read_only.append(repository)
    if os.path.isdir(git := os.path.join(lab, ".git")):
        hidden.append(git)  # an address with a password in it may stand in there
    workspaces = os.path.join(state, WORKSPACES)
    if role in READERS and _is_folder(workspaces):
        read_only.append(workspaces)
    if may_write(role):
        for name in owned(lab, session):
            workspace = os.path.join(workspaces, name)
            writable.append(workspace)
            # Git outside the sandbox would believe it, and run what it names.
            if os.path.lexists(link := os.path.join(workspace, ".git")):
                read_only.append(link)
    return read_only, writable, hidden


def _secrets(lab: str) -> list[str]:
    """The .env files of a project, which usually hold its keys, and the state of every lab in it."""
    found: list[str] = []
    todo = [(lab, 0)]
    for at, (folder, depth) in enumerate(todo):
        if at == _MOST_FOLDERS:
            break
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            name, is_folder = entry.name, entry.is_dir(follow_symlinks=False)
            if is_folder and os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                continue  # a Python environment, which some call .env
            if (name.startswith(".env") or name == STATE) and not entry.is_symlink():
                found.append(entry.path)
            elif is_folder and name[0] != "." and name not in _SKIPPED and depth < _DEPTH:
                todo.append((entry.path, depth + 1))
    return found


def shell_environment(lab: str, role: str, session: str, trial: str, python: str) -> dict[str, str]:
    """The whole environment of an agent's shell command."""
    values = {
        "PATH": f"{os.path.dirname(python)}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PAGER": "cat",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "AUTOLAB_LAB": lab,
        "AUTOLAB_ROLE": role,
        "AUTOLAB_SESSION": session,
        "AUTOLAB_BRIDGE": BRIDGE,
    }
    return {**values, "AUTOLAB_TRIAL": trial} if trial else values
