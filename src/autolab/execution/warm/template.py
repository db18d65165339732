"""The template: a sandboxed process with the task's modules loaded, from which every candidate is forked.

It starts inside bubblewrap, keeps the rights over namespaces of its own, and never reads what a candidate wrote: what
one leaves behind cannot reach the next.

Standard library only, and nothing from autolab: it is imported by path, inside the sandbox.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import socket
import sys

from .. import output
from ..process_tree import become_subreaper
from ..syscalls import seccomp_filter
from . import candidate, kernel, script
from .tree import END

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    import signal
    from typing import Any, NoReturn
else:
    import _signal as signal

FILES = "/lab/protected"  # the task's protected files
COMMON = (
    "argparse",
    "dataclasses",
    "json",
    "math",
    "random",
    "re",
    "time",
    "typing",
)  # small, and used by most
REQUEST_LIMIT = 64 << 20  # bytes


def main(orders: list[int], task: dict[str, Any]) -> NoReturn:
    """Serve the orders that come through the sockets `orders`, one for each core, until one of them closes."""
    command = script.Command(task["command"])
    proc = _own_namespaces()
    os.umask(0o022)
    servers = [socket.socket(fileno=core) for core in orders]
    files = {name: _read(os.path.join(FILES, name)) for name in task["protected"]}
    for module in (*COMMON, *task["warm"]):
        try:
            importlib.import_module(module)
        except Exception as error:
            servers[0].send(f"cannot load {module}: {output.one_line(str(error))}".encode())
            os._exit(1)
    if "random" in sys.modules:
        sys.modules["random"].seed(0)
    script.hide_engine()
    gc.collect()
    gc.freeze()
    denied = seccomp_filter(sockets=False)
    for server, cpus in zip(servers, task["cores"], strict=True):
        if os.fork() == 0:
            kernel.die_with_parent()
            for other in servers:
                if other is not server:
                    other.close()
            # For all that it forks; to bind each of them to the filter takes half a millisecond.
            os.sched_setaffinity(0, cpus)
            kernel.gain_no_privileges()
            if denied is not None:
                kernel.install_filter(denied)
            server.send(b"ready")
            _serve(server, command, files, proc)
    for server in servers:
        server.close()
    os.wait()
    os._exit(1)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _own_namespaces() -> str:
    """Become the first process of namespaces that this process owns, with rights over them alone; the path of a /proc
    that it can write to.

    bubblewrap's mounts are locked there: no right in here can make them writable again.
    """
    # A file system of processes may be mounted only where a whole one can be seen already.
    kernel.mount_proc("/proc", 0)
    kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNTS | kernel.NEW_IPC | kernel.NEW_PIDS)
    kernel.keep_identity("/proc")
    child = os.fork()
    if child:
        kernel.drop_capabilities()
        os.closerange(0, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _, status = os.waitpid(child, 0)
        os._exit(1 if status else 0)
    kernel.die_with_parent()
    proc = kernel.new_filesystem("proc", kernel.NO_SUID | kernel.NO_DEVICES | kernel.NO_EXEC)
    kernel.mount_proc("/proc", kernel.READ_ONLY)
    return f"/proc/self/fd/{proc}"


def _serve(server: socket.socket, command: script.Command, files: dict[str, bytes], proc: str) -> NoReturn:
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    wake, writer = os.pipe()
    for descriptor in (wake, writer):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    become_subreaper()
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(wake, select.POLLIN)
    running: dict[int, socket.socket] = {}
    while True:
        ready = dict(poll.poll())
        if wake in ready:
            os.read(wake, 4096)
            _report_ends(running)
        if server.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(server, 16, 3, socket.MSG_CMSG_CLOEXEC)
            if not message:
                os._exit(0)
            request, log, answers = descriptors
            kernel.unshare(kernel.NEW_PIDS)
            try:
                child = os.fork()
            except OSError:
                child = -1
            if child == 0:
                content = output.parse_json(os.pread(request, REQUEST_LIMIT, 0))
                candidate.become(command, content, files, proc, socket.socket(fileno=answers), log)
            kernel.enter(own, kernel.NEW_PIDS)
            os.close(request)
            os.close(log)
            if child > 0:
                running[child] = socket.socket(fileno=answers)
            else:
                os.close(answers)


def _report_ends(running: dict[int, socket.socket]) -> None:
    while running:
        child, status, used = os.wait4(-1, os.WNOHANG)
        if child == 0:
            return
        answers = running.pop(child, None)
        if answers is None:
            continue
        with contextlib.suppress(OSError):  # nobody waits for it any more
            answers.send(END.pack(status, used.ru_utime, used.ru_stime, used.ru_maxrss))
        answers.close()
