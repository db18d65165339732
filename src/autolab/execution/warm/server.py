"""The pool's first process: it stages the task, starts the template in its sandbox, and forks the lanes.

It has the task's modules loaded as well, for the evaluations. Whatever of the pool dies, all of it dies, and with the
lab's end of a lane's socket, too; the lab starts a new one.

Standard library only, and nothing from autolab: these files run by themselves in the pool.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket

from .. import output, process_tree, sandbox
from ..machine import describe
from ..measurement import clean_environment
from . import kernel, script, template
from .candidate import SHARED_MEMORY, TEMPORARY
from .lane import Cores, Lane, send

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from typing import Any, NoReturn

ENGINE = "/lab/engine"  # where the template imports itself from
START = """import os, sys
package = type(sys)("execution")
package.__path__ = [sys.argv[1]]
sys.modules["execution"] = package
from execution.warm import {module}
{module}.main({arguments})"""
_DEVICES = ("null", "zero", "full", "random", "urandom")


def main(words: list[str]) -> NoReturn:
    """`words`: a folder to write in, the descriptor of the task, and one of a socket to the lab for each lane."""
    root, task_file, *lanes = words
    # bubblewrap's is not whole for root, and the template's sandbox could have none then.
    kernel.mount_proc("/proc", 0)
    if os.getuid() != 0:
        kernel.gain_no_privileges()
        kernel.drop_capabilities()
    with open(int(task_file), "rb") as file:
        task = json.loads(file.read())
    try:
        orders = _start(root, task)
    except (sandbox.SandboxError, _Broken, OSError) as error:
        for lane in lanes:
            os.dup2(int(lane), 0)
            send({"error": output.one_line(str(error))})
        os._exit(1)
    machine = describe(gpu=False)
    script.hide_engine()
    gc.collect()
    gc.freeze()
    cores = Cores(task["cores"], orders)
    for index, lane in enumerate(lanes):
        if os.fork() == 0:
            kernel.die_with_parent()
            os.dup2(int(lane), 0)
            for other in lanes:
                os.close(int(other))
            process_tree.become_subreaper()
            send({"ready": True})
            folder, pristine = os.path.join(root, str(index)), os.path.join(root, "pristine")
            Lane(cores, task["spec"], folder, pristine, machine).serve()
    for lane in lanes:
        os.close(int(lane))
    os.wait()
    os._exit(1)


class _Broken(Exception):
    """The task cannot be measured warm; the message says why, in one line."""


def _start(root: str, task: dict[str, Any]) -> list[socket.socket]:
    """Everything that lanes share; a socket to the template for each core. Raises _Broken, SandboxError or OSError."""
    pristine = os.path.join(root, "pristine")
    for name, text in task["protected"].items():
        path = os.path.join(pristine, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text.encode())
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in task["cores"]]
    _start_template(task, pristine, [theirs.fileno() for _, theirs in pairs])
    for _, theirs in pairs:
        theirs.close()
    for module in (*template.COMMON, *task["warm"]):
        try:
            importlib.import_module(module)
        except Exception as error:
            raise _Broken(f"cannot load {module}: {error}") from None
    for ours, _ in pairs:
        said = ours.recv(4096).decode(errors="replace")
        if said != "ready":
            raise _Broken(said or "the template did not start")
    return [ours for ours, _ in pairs]


def _start_template(task: dict[str, Any], pristine: str, orders: list[int]) -> None:
    spec = task["spec"]
    command = script.Command(spec["commands"]["train"])
    told = {
        "command": spec["commands"]["train"],
        "protected": list(task["protected"]),
        "warm": task["warm"],
        "cores": task["cores"],
    }
    start = START.format(module="template", arguments=f"{orders}, {told!r}")
    bwrap = sandbox.find_bubblewrap()
    if bwrap is None:
        raise _Broken("bubblewrap is not installed")
    args = os.memfd_create("sandbox")
    os.write(args, sandbox.packed(_sandbox(spec, pristine)))
    os.lseek(args, 0, os.SEEK_SET)
    argv = [bwrap, "--args", str(args), "--", spec["python"], *command.options, "-c", start, ENGINE]
    process_tree.spawn(argv, env={}, cwd="/", output=2, limits={}, keep=(args, *orders))
    os.close(args)


def _sandbox(spec: dict[str, Any], pristine: str) -> list[str]:
    """As for any training, but that namespaces can be made inside, and that what each candidate has of its own is
    missing: the template mounts that. There are no terminals, which all candidates would share."""
    data = spec["data"]
    args = [word for word in sandbox.isolation() if word != "--disable-userns"]
    args += ["--cap-add", "CAP_SYS_ADMIN", *sandbox.system_binds()]
    args += ["--proc", "/proc", "--remount-ro", "/proc", "--tmpfs", "/dev"]
    for name in _DEVICES:
        args += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        args += ["--symlink", f"/proc/self/{target}", f"/dev/{name}"]
    args += ["--symlink", SHARED_MEMORY, "/dev/shm"]
    binds, shown = sandbox.python_binds(spec["python"])
    # Nothing can be shown below a link: where Python lies in /tmp, candidates mount their own over a folder.
    here = any(sandbox.inside(folder, ["/tmp"]) for folder in shown)
    args += ["--tmpfs", "/tmp"] if here else ["--symlink", TEMPORARY, "/tmp"]
    for folder in (pristine, *([data] if data else [])):
        if sandbox.inside(os.path.realpath(folder), shown):
            raise sandbox.SandboxError(
                f"{folder} lies inside {shown}, which every trial can read; move it elsewhere"
            )
    args += [*binds, "--ro-bind", pristine, template.FILES]
    args += ["--ro-bind", os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ENGINE]
    train = os.path.join(data or "", "train")
    if data and os.path.isdir(train):
        args += ["--ro-bind", train, f"{sandbox.DATA}/train"]
    for target, source in sandbox.read_overlay(data):
        args += ["--ro-bind", source, target]
    args += [*sandbox.CLOSE, "--chdir", "/", "--clearenv"]
    for key, value in clean_environment(spec, "/tmp").items():
        args += ["--setenv", key, value]
    return args
