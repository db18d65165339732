"""A candidate's process: into namespaces of its own, then it is the program.

Standard library only, and nothing from autolab: the sandboxed template imports this by path.
"""

from __future__ import annotations

import array
import os
import socket

from .. import sandbox
from ..process_tree import set_limits
from . import kernel, script

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from typing import Any, NoReturn

_ROOM = os.path.dirname(sandbox.WORKSPACE)  # the candidate's own file system
TEMPORARY, SHARED_MEMORY = "/lab/tmp", "/lab/shm"  # where the sandbox's /tmp and /dev/shm lead to


def become(
    command: script.Command,
    request: dict[str, Any],
    files: dict[str, bytes],
    proc: str,
    answers: socket.socket,
    log: int,
) -> NoReturn:
    """Be the program, as the first process of the PID namespace that it was forked into.

    `files` are the task's own, `proc` is a writable /proc, and `answers` takes descriptors of what the lane has to
    watch: the folders of artifact and clock, and this process. All output goes to `log`.
    """
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        kernel.die_with_parent()
        os.setsid()
        kernel.write(f"{proc}/self/oom_score_adj", b"800")
        kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_IPC)
        watched = _make_room(request, files)
        watched.append(os.pidfd_open(os.getpid()))
        kernel.unshare(kernel.NEW_USER)
        kernel.keep_identity(proc)
        set_limits(dict(request["rlimits"]))
        kernel.write(f"{proc}/sys/user/max_user_namespaces", b"0")
        kernel.drop_capabilities()
        highest = highest_descriptor()
        answers.sendmsg([b"started"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", watched))])
        os.closerange(3, highest + 1)
    except BaseException as error:
        answers.send(f"{type(error).__name__}: {error}".encode(errors="replace")[:200])
        os._exit(127)
    script.run(command, sandbox.WORKSPACE, request["env"])


def highest_descriptor() -> int:
    """The highest open descriptor of this process, or one above it; it may be above the limit, which may have been
    lowered since."""
    return max(map(int, os.listdir("/proc/self/fd")))


def _make_room(request: dict[str, Any], files: dict[str, bytes]) -> list[int]:
    """Mount what the candidate sees of its own; descriptors of its artifact's and its clock's folder.

    One file system in memory holds all that it may write, so that it has one limit and vanishes with the last process.
    """
    room = kernel.new_filesystem(
        "tmpfs", kernel.NO_SUID | kernel.NO_DEVICES, size=str(request["room"]), mode="755"
    )
    base = f"/proc/self/fd/{room}"
    data = kernel.copy_of_mount(f"{sandbox.DATA}/train") if request["data"] else -1
    shown = (sandbox.WORKSPACE, sandbox.ARTIFACT, sandbox.CLOCK, TEMPORARY, SHARED_MEMORY)
    for folder in shown:
        os.mkdir(base + folder.removeprefix(_ROOM), 0o755)
    if data >= 0:
        os.makedirs(f"{base}{sandbox.DATA.removeprefix(_ROOM)}/train")
    workspace = base + sandbox.WORKSPACE.removeprefix(_ROOM)
    for texts in (files, request["files"]):
        for name, content in texts.items():
            _write_new(workspace, name, content)
    if request["pace"] is not None:
        _write_new(base, sandbox.PACE.removeprefix(_ROOM + "/"), request["pace"])
    kernel.attach(room, _ROOM)
    if not os.path.islink("/tmp"):
        _mount_temporary()
    if data >= 0:
        kernel.attach(data, f"{sandbox.DATA}/train")
    kernel.bind(sandbox.WORKSPACE, sandbox.WORKSPACE)
    kernel.make_read_only(sandbox.WORKSPACE)
    kernel.mount_proc("/proc", kernel.READ_ONLY)
    return [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (sandbox.ARTIFACT, sandbox.CLOCK)]


def _mount_temporary() -> None:
    """The candidate's own /tmp over the template's, with what is shown there (the Python installation) in it again."""
    with open("/proc/self/mountinfo") as file:
        mounted = [line.split()[4] for line in file]
    shown = [folder for folder in mounted if folder.startswith("/tmp/")]
    copies = [kernel.copy_of_mount(folder) for folder in shown]
    kernel.bind(TEMPORARY, "/tmp")
    for folder, copy in zip(shown, copies, strict=True):
        os.makedirs(folder, exist_ok=True)
        kernel.attach(copy, folder)


def _write_new(folder: str, name: str, content: str | bytes) -> None:
    path = os.path.join(folder, name)
    if "/" in name:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        left = memoryview(content.encode() if isinstance(content, str) else content)
        while left:
            left = left[os.write(file, left) :]
    finally:
        os.close(file)
