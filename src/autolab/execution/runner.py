"""Measure one program: train it under a budget, collect its artifact, let the evaluator score it.

    python runner.py BUNDLE_DIR [--lifeline] [--cpus 0,1] [--gpu 0]

In: BUNDLE_DIR/spec.json, workspace/ and pristine/. Out: BUNDLE_DIR/measurement.json, complete or not there
at all, and log.txt. Exit code 0: the result is there (whatever its status). 3: told to stop, no result.
With --lifeline the standard input is a pipe from the lab: when it closes, everything ends.

Standard library only, nothing from autolab: it runs the same way on this machine, in a cloud job and on a
cluster. Reads as chapters: bundle, log, watching a phase, training, artifact, evaluation, result.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import select
import stat
import sys
import time

TYPE_CHECKING = False  # as in typing, whose import would take longer than all of these
if TYPE_CHECKING or __package__:
    from . import output, process_tree, sandbox
else:
    if "process_tree" not in sys.modules:
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import output
    import process_tree
    import sandbox

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn
else:
    import _signal as signal  # what `signal` is made of; that also builds enums, for longer than we may take

MB = 1 << 20
RESULT = "measurement.json"
LOG = "log.txt"
STOPPED = 3  # exit code

LOG_LIMIT = 16 * MB  # of output, after which a phase is killed
LOG_HEAD, LOG_TAIL = 32 << 10, 96 << 10  # bytes kept
EXCERPT = 4000  # bytes
CLOCK_LIMIT = 64 << 10  # bytes
RESULT_LIMIT = 1 * MB
ENTRY_LIMIT = 1000  # files and folders a training run may write
OPEN_FILES = 1024
DATA_SLACK = 512 * MB  # RLIMIT_DATA above the memory budget: the polled limit should be met first
DEEPEST = 16  # nesting of folders in an artifact

EVALUATOR_STATUSES = ("ok", "nan", "illegal", "crash", "oom", "gate_missed")


class Stopped(Exception):
    """The lab is gone, or asked us to stop: leave no result."""


class Outcome(Exception):
    """The measurement is over, with this status and cause."""

    def __init__(self, status: str, cause: str = "") -> None:
        super().__init__(status, cause)
        self.status, self.cause = status, cause


# ------------------------------------------------------------------------------------------------- bundle


class Bundle:
    """The paths in a bundle: one owner of file names."""

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
        while block := file.read(MB):
            digest.update(block)
    return str(digest.hexdigest())


# ---------------------------------------------------------------------------------------------------- log


class Log:
    """The output of all phases: counted whole, kept as head and tail."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail = bytearray()
        self.total = 0
        self._phase_start = 0

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        room = LOG_HEAD - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        if len(self.tail) > 2 * LOG_TAIL:
            del self.tail[:-LOG_TAIL]

    def begin_phase(self, name: str) -> None:
        self.feed(f"{'' if self.total == 0 else chr(10)}--- {name}\n".encode())
        self._phase_start = self.total

    def text(self) -> bytes:
        """Head and tail, as they came."""
        tail = self.tail[-LOG_TAIL:]
        dropped = self.total - len(self.head) - len(tail)
        middle = f"\n… {dropped} bytes left out …\n".encode() if dropped > 0 else b""
        return bytes(self.head) + middle + bytes(tail)

    def phase_text(self) -> bytes:
        """The end of the present phase's output, at most LOG_TAIL bytes."""
        kept = bytes(self.head) + bytes(self.tail)
        length = min(self.total - self._phase_start, LOG_TAIL)
        return kept[-length:] if length else b""


# ------------------------------------------------------------------------------------- watching one phase


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
    ) -> None:
        self.wall, self.cpu, self.idle = wall, cpu, idle
        self.memory, self.processes = memory, processes
        self.disk, self.writable = disk, writable


class Ending:
    """How a phase ended. `verdict` is None if it ended by itself, else (status, cause)."""

    def __init__(self) -> None:
        self.verdict: tuple[str, str] | None = None
        self.status = 0  # wait status of the main process
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_memory = 0


class Signals:
    """Exits of children, requests to stop, and the lab's lifeline, as descriptors to poll."""

    def __init__(self, lifeline: bool) -> None:
        self.stop = False
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        self.poll = select.poll()
        self.poll.register(self.reader, select.POLLIN)
        self._children_only = select.poll()
        self._children_only.register(self.reader, select.POLLIN)
        if lifeline:
            # Only its end matters; a full pipe must not wake us for ever, so do not ask for POLLIN.
            self.poll.register(0, 0)

    def _on_stop(self, *_: object) -> None:
        self.stop = True

    def wait(self, seconds: float) -> list[int]:
        """Descriptors that are ready, after `seconds` at most. Raises Stopped."""
        ready = [descriptor for descriptor, _ in self.poll.poll(max(0, math.ceil(seconds * 1000)))]
        if self.reader in ready:
            self._drain()
        if self.stop or 0 in ready:
            raise Stopped
        return ready

    def wait_for_child(self, seconds: float) -> None:
        """Return when a child exits, at the latest after `seconds`; deaf to requests to stop."""
        if self._children_only.poll(math.ceil(seconds * 1000)):
            self._drain()

    def _drain(self) -> None:
        try:
            while os.read(self.reader, 4096):
                pass
        except BlockingIOError:
            pass


def run_phase(
    argv: list[str],
    *,
    env: dict[str, str],
    cwd: str,
    limits: Limits,
    rlimits: dict[int, int],
    cpus: list[int] | None,
    log: Log,
    signals: Signals,
    keep: tuple[int, ...] = (),
    dies_with_us: bool = True,
    once_started: Callable[[], object] | None = None,
) -> Ending:
    """Run a command to its end or to a limit; every process that it started is dead on return.

    `once_started` is called while the command starts up; for the rest see process_tree.spawn. Raises
    Stopped (everything is dead then, too).
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    tree = process_tree.ProcessTree(len(cpus) if cpus else os.cpu_count() or 1)
    began = time.monotonic()
    ending = Ending()
    pid = process_tree.spawn(
        argv,
        env=env,
        cwd=cwd,
        output=writer,
        limits=rlimits,
        cpus=cpus,
        keep=keep,
        dies_with_us=dies_with_us,
    )
    os.close(writer)
    if once_started is not None:
        once_started()
    signals.poll.register(reader, select.POLLIN)
    try:
        ending.verdict = _watch(pid, tree, limits, log, reader, signals, began)
        ending.seconds = time.monotonic() - began
    finally:
        signals.poll.unregister(reader)
        dead = tree.kill(signals.wait_for_child, at_once=ending.verdict is not None or pid not in tree.exits)
    if not dead:
        raise Outcome("infra_error", "a process of the trial could not be killed")
    while _read_some(reader, log):
        pass
    os.close(reader)
    ending.status = tree.exits[pid]
    ending.cpu_seconds = tree.cpu_seconds
    ending.peak_memory = tree.peak_memory
    return ending


def _watch(
    pid: int,
    tree: process_tree.ProcessTree,
    limits: Limits,
    log: Log,
    reader: int,
    signals: Signals,
    began: float,
) -> tuple[str, str] | None:
    """Wait until the main process ends (None) or a limit is met: (status, cause)."""
    deadline = began + limits.wall
    flood = log.total + LOG_LIMIT
    next_check = began + 0.02
    progress = _Progress(began)
    while True:
        now = time.monotonic()
        ready = signals.wait(min(next_check, deadline) - now)
        if reader in ready:
            if not _read_some(reader, log):
                signals.poll.modify(reader, 0)
            if log.total > flood:
                return "crash", f"log flood: more than {LOG_LIMIT // MB} MB of output"
        tree.reap()
        if pid in tree.exits:
            return None
        now = time.monotonic()
        if now >= deadline:
            return _over_time(tree, limits)
        if now >= next_check:
            # Quick at first, so that a run that goes wrong at once costs little.
            next_check = now + min(0.1, max(0.02, 0.3 * (now - began)))
            verdict = _over_limit(tree, limits, progress, log, now)
            if verdict is not None:
                return verdict


def _read_some(reader: int, log: Log) -> bool:
    """Read what is there. False at the end of the output."""
    try:
        data = os.read(reader, MB)
    except BlockingIOError:
        return False
    log.feed(data)
    return bool(data)


class _Progress:
    """When a tree last did anything: used CPU, wrote output, or stood ready to run."""

    def __init__(self, began: float) -> None:
        self.since = began
        self.cpu = 0.0
        self.output = 0


def _over_limit(
    tree: process_tree.ProcessTree, limits: Limits, progress: _Progress, log: Log, now: float
) -> tuple[str, str] | None:
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
    if used.runnable or used.cpu_seconds > progress.cpu or log.total > progress.output:
        progress.since, progress.cpu, progress.output = now, used.cpu_seconds, log.total
    elif limits.idle is not None and now - progress.since > limits.idle:
        return "timeout", f"idle: no CPU use and no output for {limits.idle:g} s"
    return None


def _over_time(tree: process_tree.ProcessTree, limits: Limits) -> tuple[str, str]:
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
    return f"CPU: used {used:.1f} s, {limit:g} s allowed with start-up"


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


# ----------------------------------------------------------------------------------------------- training


class Measuring:
    """One measurement in progress: its spec, its bundle, and what is known so far."""

    def __init__(self, spec: dict[str, Any], bundle: Bundle, signals: Signals) -> None:
        self.spec, self.bundle, self.signals = spec, bundle, signals
        self.budget: dict[str, Any] = spec["budget"]
        self.log = Log()
        self.sandboxed = spec["sandbox"] == "bubblewrap"
        self.gpu = spec["profile"] == "gpu"
        self.memory = int(self.budget["memory_gb"] * 1e9)
        self.artifact_cap = int(self.budget["artifact_kb"]) * 1024
        self.disk = self.artifact_cap * 4 + 16 * MB
        self.facts: dict[str, Any] = {
            "metrics": {},
            "train_seconds": 0.0,
            "train_cpu_seconds": 0.0,
            "eval_seconds": 0.0,
            "eval_cpu_seconds": 0.0,
            "peak_memory_mb": 0.0,
            "artifact_bytes": 0,
            "exit_code": None,
            "signal": None,
            "clock": None,
        }
        self.bwrap = ""
        if self.sandboxed:
            found = sandbox.find_bubblewrap()
            if found is None:
                raise Outcome("infra_error", "bubblewrap is not installed on this machine")
            self.bwrap = found
        self.overlay = sandbox.read_overlay(spec["data"])

    @property
    def own_files(self) -> list[str]:
        return [*self.spec["editable"], *self.spec["protected"]]

    def command(self, name: str) -> list[str]:
        argv = list(self.spec["commands"][name])
        return [self.spec["python"], *argv[1:]] if argv[0] == "python" else argv

    def rlimits(self, *, training: bool) -> dict[int, int]:
        limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: OPEN_FILES}
        if not self.gpu:  # CUDA maps far more than it uses
            limits[resource.RLIMIT_DATA] = self.memory + DATA_SLACK
        if training:
            limits[resource.RLIMIT_FSIZE] = self.disk
            cpu = self.cpu_limit()
            if cpu is not None:
                limits[resource.RLIMIT_CPU] = math.ceil(cpu) + 2
        return limits

    def cpu_limit(self) -> float | None:
        seconds = self.budget.get("cpu_seconds")
        return None if seconds is None else float(seconds) + float(self.budget["startup_seconds"])

    def clean_environment(self, home: str) -> dict[str, str]:
        """What every process of a trial gets: no variable of the lab's own environment is passed on."""
        python = os.path.dirname(self.spec["python"])
        env = {
            "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin",
            "HOME": home,
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "AUTOLAB_PROFILE": self.spec["profile"],
        }
        if not self.gpu:
            for name in ("OMP", "MKL", "OPENBLAS"):
                env[f"{name}_NUM_THREADS"] = "1"
        env.update(self.spec.get("environment") or {})
        return env

    def train_environment(self) -> dict[str, str]:
        spec, bundle, budget = self.spec, self.bundle, self.budget
        env = self.clean_environment("/tmp" if self.sandboxed else bundle.scratch)
        env["AUTOLAB_ARTIFACT"] = sandbox.ARTIFACT if self.sandboxed else bundle.artifact
        env["AUTOLAB_CLOCK"] = (sandbox.CLOCK if self.sandboxed else bundle.clock) + "/clock.json"
        env["AUTOLAB_SEED"] = str(spec["seed"])
        if spec["data"]:
            env["AUTOLAB_DATA"] = sandbox.DATA if self.sandboxed else spec["data"]
        if spec.get("pace"):
            env["AUTOLAB_PACE"] = sandbox.PACE if self.sandboxed else spec["pace"]
        if budget.get("cpu_seconds") is not None:
            env["AUTOLAB_CPU_SECONDS"] = str(float(budget["cpu_seconds"]))
        elif budget.get("tokens") is not None:
            env["AUTOLAB_TOKENS"] = str(int(budget["tokens"]))
        else:
            env["AUTOLAB_WALL_SECONDS"] = str(float(budget["wall_seconds"]))
        if not self.sandboxed:
            env["TMPDIR"] = bundle.scratch  # so that what it writes there is counted
        return env

    def sandbox_arguments(self, *, training: bool, env: dict[str, str]) -> list[str]:
        spec, bundle = self.spec, self.bundle
        data = spec["data"]
        train_data = os.path.join(data, "train") if data and training else None
        return sandbox.arguments(
            python=spec["python"],
            workspace=bundle.workspace,
            artifact=bundle.artifact if training else bundle.collected,
            artifact_writable=training,
            overlay=self.overlay,
            hidden=[bundle.root, *([data] if data else [])],
            gpu=self.gpu,
            clock=bundle.clock if training else None,
            train_data=train_data if train_data and os.path.isdir(train_data) else None,
            pace=spec.get("pace") if training else None,
            environment=env,
        )

    def train(self) -> None:
        """Run the training command. Raises Outcome unless it ended well by itself."""
        env = self.train_environment()
        argv = self.command("train")
        keep: tuple[int, ...] = ()
        status_reader = gate = -1
        if self.sandboxed:
            # A file and not a pipe: its size does not matter.
            args = os.memfd_create("sandbox")
            os.write(args, sandbox.packed(self.sandbox_arguments(training=True, env=env)))
            os.lseek(args, 0, os.SEEK_SET)
            status_reader, status_writer = os.pipe()
            gate_reader, gate = os.pipe()
            keep = (args, status_writer, gate_reader)
            options = ["--args", args, "--json-status-fd", status_writer, "--block-fd", gate_reader]
            argv = [self.bwrap, *map(str, options), "--", *argv]
            env = {}

        def open_gate() -> None:
            # The sandbox is being set up meanwhile, but nothing that we measure runs before this, so no
            # orphan can be missed.
            process_tree.become_subreaper()
            os.write(gate, b"1")
            os.close(gate)

        if not self.sandboxed:
            process_tree.become_subreaper()
        self.log.begin_phase("train")
        writable = [self.bundle.artifact, self.bundle.clock, self.bundle.scratch]
        try:
            ending = run_phase(
                argv,
                env=env,
                cwd=self.bundle.workspace,
                limits=Limits(
                    wall=self.budget["wall_seconds"],
                    cpu=self.cpu_limit(),
                    idle=self.budget["idle_seconds"],
                    memory=self.memory,
                    # bubblewrap itself is two processes.
                    processes=self.budget["processes"] + (2 if self.sandboxed else 0),
                    disk=self.disk,
                    writable=writable,
                ),
                rlimits=self.rlimits(training=True),
                cpus=self.spec.get("cpus"),
                keep=keep,
                dies_with_us=not self.sandboxed,  # bubblewrap sees to it itself
                once_started=open_gate if self.sandboxed else None,
                log=self.log,
                signals=self.signals,
            )
        finally:
            for descriptor in keep:
                os.close(descriptor)
        self.note("train", ending)
        if ending.verdict is None and ending.cpu_seconds > (self.cpu_limit() or math.inf):
            ending.verdict = "timeout", over_cpu(ending.cpu_seconds, self.cpu_limit() or math.inf)
        if ending.verdict is None and ending.peak_memory > self.memory:
            ending.verdict = "oom", over_memory(ending.peak_memory, self.memory)
        left = over_disk(writable, self.disk)
        ending.verdict = ending.verdict or left
        if ending.verdict is not None:
            raise Outcome(*ending.verdict)
        if status_reader >= 0:
            with os.fdopen(status_reader, "rb") as file:
                started = b'"exit-code"' in file.read()
            if not started and ending.status != 0:
                # The status descriptor is closed before the program starts, so it cannot fake this.
                said = self.last_words([])
                if "execvp" in said:
                    raise Outcome("crash", said.replace("bwrap: execvp", "cannot start"))
                raise Outcome("infra_error", f"the sandbox did not start: {said}")
        self.raise_for_exit(ending, self.sandboxed)

    def note(self, phase: str, ending: Ending) -> None:
        self.facts[f"{phase}_seconds"] = round(ending.seconds, 4)
        self.facts[f"{phase}_cpu_seconds"] = round(ending.cpu_seconds, 4)
        peak = round(ending.peak_memory / MB, 1)
        self.facts["peak_memory_mb"] = max(self.facts["peak_memory_mb"], peak)
        if phase == "train":
            code, name = process_tree.exit_of(ending.status, self.sandboxed)
            self.facts["exit_code"], self.facts["signal"] = code, name

    def raise_for_exit(self, ending: Ending, in_sandbox: bool) -> None:
        """Raise Outcome that tells apart why a process failed; return if it exited with 0."""
        code, name = process_tree.exit_of(ending.status, in_sandbox)
        if code == 0:
            return
        if name == "SIGXCPU":
            raise Outcome("timeout", over_cpu(ending.cpu_seconds, self.cpu_limit() or 0))
        if name == "SIGXFSZ":
            raise Outcome("over_size", f"disk: a file larger than {self.disk / MB:.1f} MB")
        if name is not None:
            near = ending.peak_memory > 0.8 * self.memory
            if name == "SIGKILL" and near:
                raise Outcome("oom", "killed by SIGKILL close to its memory limit")
            said = self.last_words(self.own_files)
            raise Outcome("crash", f"killed by {name}" + (f" after: {said}" if said else ""))
        said = self.last_words(self.own_files)
        status = output.failure_status(said)
        raise Outcome(status, said or f"exit code {code} without a word")

    def last_words(self, own_files: list[str]) -> str:
        """The line of this phase's output that says best why it failed."""
        return output.failure_line(output.scrub(self.log.phase_text()), own_files)

    # ---------------------------------------------------------------------------------------- artifact

    def collect(self) -> None:
        """Move the artifact's regular files out of the writable folder; everything that trained is dead.

        Raises Outcome `illegal`, `over_size`, or `crash` if there is no artifact.
        """
        clock = _read_small(os.path.join(self.bundle.clock, "clock.json"), CLOCK_LIMIT)
        self.facts["clock"] = None if clock is None else output.parse_clock(clock)
        if os.path.islink(self.bundle.artifact):
            raise Outcome("illegal", "the artifact's folder was replaced by a link")
        program = self.bundle.program_bytes(self.spec["editable"])
        room = self.artifact_cap - program
        size = 0
        files = 0
        for folder, name, info in _walk(self.bundle.artifact):
            relative = os.path.relpath(os.path.join(folder, name), self.bundle.artifact)
            target = os.path.join(self.bundle.collected, relative)
            if stat.S_ISDIR(info.st_mode):
                os.mkdir(target, 0o755)
                continue
            kind = _not_plain(info)
            if kind is not None:
                raise Outcome("illegal", f"the artifact holds a {kind}: {relative}")
            files += 1
            size += info.st_size
            if size > room:
                cap = self.budget["artifact_kb"]
                have = f"{size / 1024:.0f} kB so far and the program {program / 1024:.0f} kB"
                raise Outcome("over_size", f"artifact: {have}, {cap} kB allowed together")
            _move(os.path.join(folder, name), target, info.st_size)
        self.facts["artifact_bytes"] = size
        if not files and self.spec["commands"].get("evaluate"):
            raise Outcome("crash", "exited 0 without an artifact")

    # -------------------------------------------------------------------------------------- evaluation

    def evaluate(self) -> None:
        """Run the evaluator and raise the Outcome that it reports."""
        spec, bundle = self.spec, self.bundle
        stage = spec["stage"]
        scorer_env = self.clean_environment("/tmp" if self.sandboxed else bundle.scratch)
        scorer_env["AUTOLAB_ARTIFACT"] = sandbox.ARTIFACT if self.sandboxed else bundle.collected
        if self.sandboxed:
            args_file = os.path.join(bundle.run, "scorer.args")
            with open(args_file, "wb") as file:
                file.write(sandbox.packed(self.sandbox_arguments(training=False, env=scorer_env)))
            prefix = sandbox.launch_prefix(self.bwrap, args_file)
        else:
            prefix = sandbox.plain_prefix(bundle.workspace, scorer_env)
        result = os.path.join(bundle.evaluation, "result.json")
        env = self.clean_environment(os.environ.get("HOME", "/tmp"))
        env.update(
            PYTHONDONTWRITEBYTECODE="1",  # nothing may appear beside the protected files
            AUTOLAB_RESULT=result,
            AUTOLAB_ARTIFACT=bundle.collected,
            AUTOLAB_SCORER=output.to_json(prefix),
            AUTOLAB_STAGE=stage,
            AUTOLAB_EVAL_SEED=str(spec["eval_seed"]),
            AUTOLAB_SECRET=spec["secret"],
            AUTOLAB_TASK=output.to_json({"metric": spec["metric"], "budget": self.budget}),
        )
        if spec["data"]:
            env["AUTOLAB_DATA"] = spec["data"]
        self.log.begin_phase("evaluate")
        ending = run_phase(
            self.command("evaluate"),
            env=env,
            cwd=bundle.pristine,
            limits=Limits(
                wall=self.budget["eval_seconds"] * (1 if stage == "screen" else 4),
                cpu=None,
                idle=None,
                memory=self.memory,
                processes=self.budget["processes"] + 4,
                disk=None,
                writable=[],
            ),
            rlimits=self.rlimits(training=False),
            cpus=spec.get("cpus"),
            log=self.log,
            signals=self.signals,
        )
        self.note("eval", ending)
        if ending.verdict is not None:
            status, cause = ending.verdict
            if status == "timeout":
                status = "eval_timeout"
            raise Outcome(status, f"evaluation: {cause}")
        try:
            self.raise_for_exit(ending, in_sandbox=False)
        except Outcome as outcome:
            status = "oom" if outcome.status == "oom" else "crash"
            raise Outcome(status, f"evaluator left no result: {outcome.cause}") from None
        reported = _read_small(result, RESULT_LIMIT)
        if reported is None:
            raise Outcome("crash", "evaluator left no result")
        self.raise_reported(reported)

    def raise_reported(self, reported: bytes) -> NoReturn:
        """Check the evaluator's result file and raise its Outcome."""
        try:
            result = output.parse_json(reported)
        except (ValueError, RecursionError):
            raise Outcome("crash", "the evaluator's result is not JSON") from None
        if not isinstance(result, dict) or result.get("status") not in EVALUATOR_STATUSES:
            raise Outcome("crash", "the evaluator's result has no known status")
        metrics = result.get("metrics")
        numbers = {
            str(name): float(value)
            for name, value in (metrics if isinstance(metrics, dict) else {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        }
        name = self.spec["metric"]["name"]
        status, cause = result["status"], str(result.get("cause") or "")
        if status == "ok":
            value = metrics.get(name) if isinstance(metrics, dict) else None
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Outcome("crash", f"the evaluator's result has no {name}")
            self.raise_for_score(float(value))
        elif name in numbers and status != "gate_missed":
            del numbers[name]  # a failed measurement has no score
        self.facts["metrics"] = {key: value for key, value in numbers.items() if math.isfinite(value)}
        raise Outcome(status, cause)

    def raise_for_score(self, score: float) -> None:
        """Raise Outcome `nan` or `illegal` for a score that cannot be."""
        name = self.spec["metric"]["name"]
        if not math.isfinite(score):
            raise Outcome("nan", f"{name} is {score}")
        bounds = self.spec["metric"].get("bounds")
        if bounds and not bounds[0] <= score <= bounds[1]:
            raise Outcome("illegal", f"score {score:g} outside [{bounds[0]:g}, {bounds[1]:g}]")

    def self_reported(self) -> NoReturn:
        """Take the metric from the last line `name: value` of the log, and raise the Outcome."""
        name = self.spec["metric"]["name"]
        score = output.last_value(output.scrub(self.log.phase_text()), name)
        if score is None:
            raise Outcome("crash", f"no line `{name}: <number>` in the output")
        self.raise_for_score(score)
        self.facts["metrics"] = {name: score}
        raise Outcome("ok")

    # ------------------------------------------------------------------------------------------ result

    def run(self) -> NoReturn:
        """All phases in order; ends by raising Outcome or Stopped."""
        protected = self.spec["protected"]
        self.bundle.check_protected(protected, "before training")
        self.bundle.prepare()
        try:
            self.train()
        except Outcome:
            # How a tampering run ended does not matter.
            self.check_nothing_forged("during training")
            raise
        self.check_nothing_forged("during training")
        self.bundle.prepare_evaluation()
        self.collect()
        if self.spec["commands"].get("evaluate") is None:
            self.self_reported()
        try:
            self.evaluate()
        except Outcome:
            self.check_nothing_forged("during evaluation")
            raise
        raise AssertionError("an evaluation always has an outcome")

    def check_nothing_forged(self, when: str) -> None:
        self.bundle.check_protected(self.spec["protected"], when)
        if os.path.lexists(self.bundle.result):
            raise Outcome("tampered", f"something other than the runner wrote {RESULT} {when}")


def _walk(root: str, depth: int = 0) -> Iterator[tuple[str, str, os.stat_result]]:
    """(folder, name, lstat) of everything below `root`, folders before what they hold."""
    if depth > DEEPEST:
        raise Outcome("illegal", f"the artifact nests folders more than {DEEPEST} deep")
    try:
        with os.scandir(root) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise Outcome("illegal", f"the artifact has an unreadable folder: {error.strerror}") from None
    for entry in entries:
        info = entry.stat(follow_symlinks=False)
        yield root, entry.name, info
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(entry.path, depth + 1)


def _not_plain(info: os.stat_result) -> str | None:
    """What else than an ordinary file this is, or None."""
    if stat.S_ISLNK(info.st_mode):
        return "symbolic link"
    if stat.S_ISFIFO(info.st_mode):
        return "fifo"
    if not stat.S_ISREG(info.st_mode):
        return "special file"
    return "hard link" if info.st_nlink > 1 else None


def _move(source: str, target: str, size: int) -> None:
    """Copy to a fresh file, without modes and attributes of the old one, and remove that."""
    try:
        reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Outcome("illegal", f"the artifact has an unreadable file: {error.strerror}") from None
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        while size > 0 and (sent := os.sendfile(writer, reader, None, size)):
            size -= sent
    finally:
        os.close(reader)
        os.close(writer)
    os.unlink(source)


def _read_small(path: str, limit: int) -> bytes | None:
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


def measure(root: str, signals: Signals, cpus: list[int] | None, gpu: str | None) -> None:
    """Run the bundle and write its result. Raises Stopped, in which case there is no result."""
    bundle = Bundle(root)
    if os.path.exists(bundle.result):
        return
    started = time.time()
    measuring: Measuring | None = None
    spec: dict[str, Any] = {}
    try:
        try:
            with open(os.path.join(bundle.root, "spec.json"), encoding="utf-8") as file:
                spec = output.parse_json(file.read())
            if cpus is not None:
                spec["cpus"] = cpus
            if gpu is not None:
                spec["environment"] = {**(spec.get("environment") or {}), "CUDA_VISIBLE_DEVICES": gpu}
            measuring = Measuring(spec, bundle, signals)
            measuring.run()
        except (Outcome, Stopped):
            raise
        except sandbox.SandboxError as error:
            raise Outcome("infra_error", str(error)) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise Outcome("infra_error", "the disk is full" if full else f"runner: {error}") from error
        except Exception as error:
            raise Outcome("infra_error", f"runner: {type(error).__name__}: {error}") from error
    except Outcome as outcome:
        log = measuring.log if measuring else Log()
        facts = measuring.facts if measuring else {}
        text = output.scrub(log.text())
        result = {
            "id": spec.get("id", ""),
            "status": outcome.status,
            "cause": output.one_line(outcome.cause),
            **facts,
            "evidence": "measured" if (spec.get("commands") or {}).get("evaluate") else "self_reported",
            "host": os.uname().nodename,
            "sandbox": spec.get("sandbox", "none"),
            "started_at": started,
            "finished_at": time.time(),
            "log_excerpt": text.encode("utf-8", "replace")[-EXCERPT:].decode("utf-8", "ignore"),
        }
        write_atomically(bundle.log, text.encode("utf-8", "replace"), durable=False)
        write_atomically(bundle.result, output.to_json(result).encode(), durable=True)


def main(argv: list[str]) -> int:
    """Command line; see the top of this file."""
    root, cpus, gpu, lifeline = "", None, None, False
    words = iter(argv)
    try:
        for word in words:
            if word == "--lifeline":
                lifeline = True
            elif word == "--cpus":
                cpus = [int(cpu) for cpu in next(words).split(",")]
            elif word == "--gpu":
                gpu = next(words)
            elif word.startswith("-") or root:
                raise ValueError
            else:
                root = word
        if not os.path.isdir(root):
            raise ValueError
    except (ValueError, StopIteration):
        print("usage: runner.py BUNDLE_DIR [--lifeline] [--cpus 0,1] [--gpu 0]", file=sys.stderr)
        return 2
    os.umask(0o022)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whatever the parent forgot to close
    signals = Signals(lifeline)
    try:
        measure(root, signals, cpus, gpu)
    except Stopped:
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
