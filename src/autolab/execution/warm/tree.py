"""A candidate and all its descendants, seen from outside of their namespace.

Standard library only, and nothing from autolab: these files run by themselves in the pool.
"""

from __future__ import annotations

import os
import select
import struct
import time

from ..process_tree import ProcessTree, Stat, read_stat

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable
else:
    import _signal as signal

END = struct.Struct(
    "=iddq"
)  # wait status, user and system seconds with children, highest resident memory in kB


class NamespaceTree(ProcessTree):
    """The processes of a PID namespace, whose first process is the candidate: with it, all of them end.

    The template waits for that process, and says on `ends` how it ended, after the last process of the namespace is
    gone. Once it runs, `process` is its pidfd, and `room` a folder in the memory file system that it writes to.
    """

    def __init__(self, ends: socket.socket) -> None:
        super().__init__()
        self.ends = ends
        self.process = self.room = -1
        self.root = 0  # its id, once somebody has to know

    def close(self) -> None:
        """Let the process go; it is dead."""
        if self.process >= 0:
            os.close(self.process)

    def reap(self) -> bool:
        """Look whether the candidate has ended, without waiting. True while it lives; EOFError if the template died."""
        if self.exits:
            return False
        try:
            message = self.ends.recv(256)
        except BlockingIOError:
            return True
        if len(message) != END.size:
            raise EOFError("the template is gone")
        status, user, system, peak = END.unpack(message)
        self.exits[0] = status
        self._reaped_cpu = user + system
        self.peak_memory = max(self.peak_memory, 1024 * peak)
        return False

    def scan(self) -> dict[int, Stat]:
        """The living processes and zombies, from /proc."""
        if not self.root:
            self.root = self.me = _process_of(self.process)
        first = read_stat(self.root) if self.root > 0 else None
        if first is None:
            return {}
        self.members = {first.pid: first, **super().scan()}
        return self.members

    def unlinked_bytes(self) -> int:
        """Memory that is in files: of the candidate's file system, and of memfds."""
        info = os.fstatvfs(self.room)
        return (info.f_blocks - info.f_bfree) * info.f_frsize + super().unlinked_bytes()

    def kill(self, wait: Callable[[float], None], *, at_once: bool, patience: float = 10.0) -> bool:
        """End every process; see ProcessTree.kill."""
        if self.reap():
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        deadline = time.monotonic() + patience
        gone = select.poll()
        gone.register(self.ends, select.POLLIN)
        while self.reap():
            if time.monotonic() > deadline:
                return False
            gone.poll(100)
        return True


def _process_of(pidfd: int) -> int:
    """The id of the process behind a pidfd; -1 if it is dead."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return -1
