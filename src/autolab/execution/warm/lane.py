"""A lane: one measurement after another, each on a core of its own, in processes that are forked from warm ones.

There are more lanes than cores: while one measures, the next one has its order already, and begins when a core is free,
without waiting for the lab.

Its own process is outside of the sandbox, as the ordinary runner's is. It asks the template for a candidate, watches
that, collects the artifact when all of it is dead, and forks itself for the evaluation.

Standard library only, and nothing from autolab: these files run by themselves in the pool.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import socket
import struct
import time

from .. import curve as curves
from .. import evaluation, output, process_tree, training
from ..artifact import collect
from ..bundle_folder import Bundle
from ..limits import MB
from ..measurement import Measurement, result_of
from ..outcome import Outcome, Stopped
from ..phase import Signals, follow
from ..sandbox import TMP_BYTES, WORKSPACE
from . import script
from .tree import END, NamespaceTree

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, NoReturn

_LAB = 0  # the socket to the lab
_START_SECONDS = 60.0  # for a machine that swaps
_LENGTH = 4  # bytes before each message


class Cores:
    """The cores that lanes measure on, each with a socket to its template; who takes one has both alone. Made before
    the lanes are forked."""

    _NUMBER = struct.Struct("=H")

    def __init__(self, cpus: list[list[int]], templates: list[socket.socket]) -> None:
        self.cpus, self.templates = cpus, templates
        self.free, self._given_back = os.pipe()
        os.set_blocking(self.free, False)
        for number in range(len(cpus)):
            self.give_back(number)

    def take(self, signals: Signals) -> int:
        """The number of a core, once one is free. Raises Stopped."""
        signals.poll.register(self.free, select.POLLIN)
        try:
            while True:
                try:
                    return int(self._NUMBER.unpack(os.read(self.free, self._NUMBER.size))[0])
                except BlockingIOError:  # another lane took it
                    signals.wait(_START_SECONDS)
        finally:
            signals.forget(self.free)

    def give_back(self, number: int) -> None:
        """Nothing runs on this core any more."""
        os.write(self._given_back, self._NUMBER.pack(number))


class Lost(Exception):
    """The template is gone: nothing can be measured any more."""


class _Folders(Bundle):
    """What a measurement keeps where; nothing of it is on a disk."""

    def __init__(self, root: str, pristine: str, program: dict[str, str], opened: tuple[int, int]) -> None:
        super().__init__(root)
        self.pristine = pristine
        self.artifact, self.clock = (f"/proc/self/fd/{descriptor}/." for descriptor in opened)
        self.collected, self.evaluation = os.path.join(root, "artifact"), os.path.join(root, "evaluation")
        self._program = program

    def program_bytes(self, editable: list[str]) -> int:
        """Bytes of the candidate's own files."""
        return sum(len(self._program[name].encode()) for name in editable)


class Lane:
    """What all measurements of a lane have in common. `root` is a folder of its own."""

    def __init__(
        self,
        cores: Cores,
        spec: dict[str, Any],
        root: str,
        pristine: str,
        machine: str,
    ) -> None:
        self.cores, self.spec = cores, spec
        self.anywhere = os.sched_getaffinity(0)
        self.root, self.pristine, self.machine = root, pristine, machine
        self.signals = Signals(lifeline=True)
        self.signals.poll.modify(
            _LAB, select.POLLIN
        )  # while it measures, the lab has nothing to say but "stop"
        # Where the folders of artifact and clock of the candidate at hand are open; they stay what they are, whatever
        # it does to their names. Between candidates, nothing is behind these numbers, and no other file gets them.
        self.nothing = os.open(os.devnull, os.O_RDONLY)
        self.opened = os.dup(self.nothing), os.dup(self.nothing)
        evaluate = spec["commands"]["evaluate"]
        self.evaluator = script.Command(evaluate) if evaluate else None
        self.code: CodeType | None = None

    def serve(self) -> NoReturn:
        """Answer the lab's requests until it is gone."""
        os.mkdir(self.root)
        while True:
            request = _receive()
            if request is None:
                os._exit(0)
            if not request:  # "stop", when there was nothing to stop any more
                continue
            try:
                core = self.cores.take(self.signals)
                try:
                    answer = {**self._measure(request, core), "core": core}
                finally:
                    os.sched_setaffinity(
                        0, self.anywhere
                    )  # what comes now is not beside the next one's recipe
                    self.cores.give_back(core)
            except Stopped:
                if _receive() is None:
                    os._exit(0)
                answer = {"stopped": True}
            except Lost as reason:
                os.write(2, f"{reason}\n".encode())
                os._exit(1)
            send(answer)

    def _measure(self, request: dict[str, Any], core: int) -> dict[str, Any]:
        """The result of one measurement, as measurement.json holds it. Raises Stopped and Lost."""
        started, cpus, template = time.time(), self.cores.cpus[core], self.cores.templates[core]
        os.sched_setaffinity(0, cpus)
        program = request.pop("program")
        spec = {**self.spec, **request, "cpus": cpus}
        folders = _Folders(os.path.join(self.root, "measurement"), self.pristine, program, self.opened)
        measurement = Measurement(spec, folders, self.signals, self.machine)
        os.mkdir(folders.root)
        try:
            try:
                self._train(measurement, program, template)
                for folder in (folders.collected, folders.evaluation):
                    os.mkdir(folder)
                collect(measurement)
                self._close_folders()  # and the memory behind them is free
                if self.evaluator is None:
                    evaluation.self_reported(measurement)
                self._evaluate(measurement, self.evaluator)
            except (Outcome, Stopped, Lost):
                raise
            except Exception as error:
                raise Outcome("infra_error", f"pool: {type(error).__name__}: {error}") from error
        except Outcome as outcome:
            text = output.scrub(measurement.log.text()).encode("utf-8", "replace")
            return result_of(outcome, spec, measurement.facts, text, started)
        finally:
            self._close_folders()
            shutil.rmtree(folders.root)

    def _train(self, measurement: Measurement, program: dict[str, str], template: socket.socket) -> None:
        spec, folders = measurement.spec, measurement.bundle
        measurement.log.begin_phase("train")
        curve = curves.Curve(os.path.join(folders.clock, curves.FILE), spec["band"])
        writable = [folders.artifact, folders.clock]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        rlimits = measurement.rlimits(training=True)
        rlimits[resource.RLIMIT_NPROC] = 4 * measurement.budget["processes"] + 64  # threads count as well
        request = {
            "files": program,
            "env": {**training.environment(measurement), "PWD": WORKSPACE},  # which bubblewrap sets, too
            "rlimits": list(rlimits.items()),
            "room": measurement.disk + 2 * TMP_BYTES,
            "data": bool(spec["data"]) and os.path.isdir(os.path.join(spec["data"], "train")),
            "pace": spec["pace"],
        }
        tree = NamespaceTree(ours)

        def start(log: int) -> int:
            self._order(template, tree, request, log, theirs)
            self.signals.poll.register(ours, select.POLLIN)
            return 0

        try:
            try:
                ending = follow(
                    start,
                    tree,
                    training.limits_of(measurement, writable, curve),
                    measurement.log,
                    self.signals,
                )
            except EOFError as error:
                raise Lost(str(error)) from None
            training.raise_for_limits(measurement, ending, writable, curve)
            measurement.raise_for_exit(ending, in_sandbox=False)
        finally:
            self.signals.forget(ours.fileno())
            ours.close()
            tree.close()

    def _order(
        self,
        template: socket.socket,
        tree: NamespaceTree,
        request: dict[str, Any],
        log: int,
        theirs: socket.socket,
    ) -> None:
        content = os.memfd_create("request")
        try:
            with open(content, "wb", closefd=False) as file:
                file.write(json.dumps(request).encode())
            socket.send_fds(template, [b"run"], [content, log, theirs.fileno()])
        except OSError as error:
            raise EOFError(f"the template is gone: {error}") from None
        finally:
            os.close(content)
            theirs.close()
        tree.ends.settimeout(_START_SECONDS)
        message, descriptors, _, _ = socket.recv_fds(tree.ends, 256, 4, socket.MSG_CMSG_CLOEXEC)
        tree.ends.setblocking(False)
        if not message:
            raise EOFError("the template is gone")
        if message != b"started":
            said = "" if len(message) == END.size else message.decode(errors="replace")
            raise Outcome("infra_error", f"the sandbox did not start: {said or 'it was killed'}")
        *folders, tree.process = descriptors
        for descriptor, place in zip(folders, self.opened, strict=True):
            os.dup2(descriptor, place, inheritable=False)
            os.close(descriptor)
        tree.room = self.opened[0]

    def _close_folders(self) -> None:
        for place in self.opened:
            os.dup2(self.nothing, place, inheritable=False)

    def _evaluate(self, measurement: Measurement, command: script.Command) -> NoReturn:
        env = evaluation.environment(measurement)
        limits = measurement.rlimits(training=False)
        if self.code is None:
            self.code = script.load_code(os.path.join(self.pristine, command.script))
        parent = os.getpid()

        script.take_variables(env)  # here, and not in each child

        def start(log: int) -> int:
            pid = os.fork()
            if pid:
                return pid
            try:
                process_tree.begin_child(parent, log)
                process_tree.set_limits(limits)
                script.run(command, self.pristine, env, self.code)
            finally:
                os._exit(127)

        measurement.log.begin_phase("evaluate")
        tree = process_tree.ProcessTree()
        ending = follow(start, tree, evaluation.limits_of(measurement), measurement.log, self.signals)
        evaluation.raise_reported(measurement, ending)


def _receive() -> dict[str, Any] | None:
    """A request; {} for "stop"; None when the lab is gone."""
    head = _read_exactly(_LENGTH)
    if head is None:
        return None
    content = _read_exactly(int.from_bytes(head, "big"))
    return None if content is None else json.loads(content or b"{}")


def _read_exactly(count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(_LAB, min(count - len(parts), MB))
        if not part:
            return None
        parts += part
    return bytes(parts)


def send(answer: dict[str, Any]) -> None:
    content = json.dumps(answer, allow_nan=False).encode()
    left = memoryview(len(content).to_bytes(_LENGTH, "big") + content)
    while left:
        left = left[os.write(_LAB, left) :]
