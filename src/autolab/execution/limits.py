"""What one phase of a measurement may use, and the verdict on a process tree that uses more.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from .curve import Curve
    from .process_tree import ProcessTree

MB = 1 << 20
LOG_LIMIT = 16 * MB  # of output, after which a phase is killed
ENTRY_LIMIT = 1000  # files and folders a training run may write


class Limits:
    """What one phase may use: seconds, bytes, counts. None: no limit."""

    def __init__(
        self,
        *,
        wall: float,
        cpu: float | None,
        idle: float | None,
        memory: int,
        processes: int,
        disk: int | None,
        writable: list[str],
        curve: Curve | None = None,
    ) -> None:
        self.wall, self.cpu, self.idle = wall, cpu, idle
        self.memory, self.processes = memory, processes
        self.disk, self.writable = disk, writable
        self.curve = curve


class Progress:
    """When a tree last did anything: used CPU, wrote output, or stood ready to run."""

    def __init__(self, began: float) -> None:
        self.since = began
        self.cpu = 0.0
        self.output = 0


def over_limit(
    tree: ProcessTree, limits: Limits, progress: Progress, written: int, now: float
) -> tuple[str, str] | None:
    """The verdict on a tree that has `written` bytes of output, or None; for calls every now and then."""
    used = tree.sample()
    if used.processes > limits.processes:
        return "crash", f"fork bomb: {used.processes} processes alive, {limits.processes} allowed"
    if limits.cpu is not None and used.cpu_seconds > limits.cpu:
        return "timeout", over_cpu(used.cpu_seconds, limits.cpu)
    hidden = tree.unlinked_bytes()
    memory = used.memory + hidden
    if memory > limits.memory:
        memory = tree.shared_memory_counted_once() + hidden
    tree.peak_memory = max(tree.peak_memory, memory)
    if memory > limits.memory:
        return "oom", over_memory(memory, limits.memory)
    if limits.disk is not None:
        verdict = over_disk(limits.writable, limits.disk)
        if verdict is not None:
            return verdict
    if limits.curve is not None and (why := limits.curve.objection()) is not None:
        return "aborted", why
    if used.runnable or used.cpu_seconds > progress.cpu or written > progress.output:
        progress.since, progress.cpu, progress.output = now, used.cpu_seconds, written
    elif limits.idle is not None and now - progress.since > limits.idle:
        return "timeout", f"idle: no CPU use and no output for {limits.idle:g} s"
    return None


def over_time(tree: ProcessTree, limits: Limits) -> tuple[str, str]:
    """The wall limit is met: by the program's own doing, or because others had its core?

    Starved is a tree whose one busy process waited for most of the time, and that got less than half a
    core in all; a program that crowds its core with its own processes or threads is not.
    """
    used = tree.sample()
    busy = [times for times in tree.busy_processes() if sum(times) > 0.25 * limits.wall]
    waited = busy[0][1] if len(busy) == 1 else 0.0
    if waited > 0.5 * limits.wall and used.cpu_seconds < 0.5 * limits.wall:
        cause = (
            f"starved of CPU: ran {used.cpu_seconds:.1f} s of {limits.wall:g} s, "
            f"waited {waited:.1f} s for its core"
        )
        return "infra_error", cause
    return "timeout", f"wall: still running after {limits.wall:g} s"


def over_cpu(used: float, limit: float) -> str:
    return f"CPU: used {used:.1f} s, {limit:g} s allowed"


def over_memory(used: int, limit: int) -> str:
    return f"memory: used {used / MB:.0f} MB, {limit / MB:.0f} MB allowed"


def over_disk(folders: list[str], limit: int) -> tuple[str, str] | None:
    """("over_size", cause) if `folders` hold more than `limit` bytes or ENTRY_LIMIT entries.

    Gives folders that their owner locked their usual rights: they would hide files from this count, and
    could not be deleted.
    """
    total = entries = 0
    todo = list(folders)
    while todo:
        folder = todo.pop()
        try:
            mode = os.lstat(folder).st_mode
            if stat.S_ISLNK(mode):
                continue
            if mode & 0o700 != 0o700:
                _open_folder(folder)
            listing = os.scandir(folder)
        except OSError:  # removed while we looked
            continue
        with listing:
            for entry in listing:
                entries += 1
                if entries > ENTRY_LIMIT:
                    return "over_size", f"disk: more than {ENTRY_LIMIT} files"
                try:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    if total >= limit:
        return "over_size", f"disk: wrote {total / MB:.1f} MB, {limit / MB:.1f} MB allowed"
    return None


def _open_folder(path: str) -> None:
    # By descriptor: while the program runs, it could put a link in the folder's place.
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)
