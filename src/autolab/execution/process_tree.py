"""A process and all its descendants: start it, watch what it uses, end it without survivors.

Standard library only, and nothing from autolab: the runner imports this by path on other machines.

The caller makes itself a *subreaper*, so an orphaned descendant (a daemon, the init process of a
sandbox) becomes its child instead of vanishing under pid 1. "Nothing survives" is then not a hope but a
return value: waitpid says that there is no child left.
"""

from __future__ import annotations

import os
import resource
import sys
import time

TYPE_CHECKING = False  # as in typing, whose import would take longer than this module
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal  # what `signal` is made of; that also builds enums, which takes 6 ms

TICK = 1.0 / os.sysconf("SC_CLK_TCK")  # seconds; the unit of the times in /proc/PID/stat
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FORGET_STRANGERS_SECONDS = 2.0  # how long a process id is trusted to belong to somebody else
_SLACK_TICKS = 5  # rounding allowed between a child's time and what its parent was charged for it


def become_subreaper() -> None:
    """Adopt orphaned descendants of this process. Raises OSError where the kernel refuses."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    import ctypes  # takes 5 ms: late, so that the caller can choose when

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def spawn(
    argv: list[str],
    *,
    env: dict[str, str],
    cwd: str,
    output: int,
    limits: dict[int, int],
    cpus: list[int] | None = None,
    keep: tuple[int, ...] = (),
    dies_with_us: bool = True,
) -> int:
    """Start `argv` in its own session and return its process id.

    It reads nothing, writes stdout and stderr to `output`, inherits only the descriptors in `keep`, is
    bound to `cpus`, runs under `limits` ({resource.RLIMIT_*: value}) and, if `dies_with_us`, is killed
    when this process ends. What prevents its start is written to `output`, and it exits with 127. fork +
    exec instead of subprocess: importing that costs more than a whole short trial may.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        begin_child(parent if dies_with_us else 0, output, keep)
        for number in range(1, signal.NSIG):
            if number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
        if cpus:
            os.sched_setaffinity(0, cpus)
        set_limits(limits)
        os.chdir(cwd)
        os.execve(argv[0] if "/" in argv[0] else _which(argv[0], env), argv, env)
    except BaseException as error:
        os.write(2, f"cannot start {argv[0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def begin_child(parent: int, output: int, keep: tuple[int, ...] = ()) -> None:
    """In a process that was just forked: a session of its own, nothing to read, output to `output`, no other descriptor
    but those in `keep`, and death with `parent`, unless that is 0."""
    os.setsid()
    if parent:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask to die with it
            os._exit(127)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _close_others(keep)
    _volunteer_for_oom_killer()


def set_limits(limits: dict[int, int]) -> None:
    """Bind this process to {resource.RLIMIT_*: value}, or to what it has if that is less."""
    for which, value in limits.items():
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def _close_others(keep: tuple[int, ...]) -> None:
    start = 3
    for descriptor in sorted(keep):
        os.closerange(start, descriptor)
        os.set_inheritable(descriptor, True)
        start = descriptor + 1
    os.closerange(start, max(start, os.sysconf("SC_OPEN_MAX")))


def _volunteer_for_oom_killer() -> None:
    # If the machine runs out of memory, the trial goes first, not the lab.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")
    except OSError:
        pass


def _which(name: str, env: dict[str, str]) -> str:
    for folder in env.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(f"no such program on PATH: {name}")


class Stat:
    """One line of /proc/PID/stat: times in clock ticks, resident memory in bytes."""

    __slots__ = ("children_ticks", "own_ticks", "pid", "ppid", "resident", "start", "state")

    def __init__(self, pid: int, text: bytes) -> None:
        # The command's name may hold spaces and brackets, so count from the last bracket.
        fields = text[text.rindex(b")") + 2 :].split()
        self.pid = pid
        self.state = fields[0]
        self.ppid = int(fields[1])
        self.own_ticks = int(fields[11]) + int(fields[12])
        self.children_ticks = int(fields[13]) + int(fields[14])
        self.start = int(fields[19])
        self.resident = int(fields[21]) * PAGE


def read_stat(pid: int) -> Stat | None:
    """/proc/PID/stat, or None if there is no such process any more."""
    text = _read(f"/proc/{pid}/stat")
    return Stat(pid, text) if text else None


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 8192)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


class Usage:
    """What a tree uses at one moment: CPU seconds so far, resident bytes, processes (zombies too).

    `runnable`: some process runs, or would if its core were free.
    """

    __slots__ = ("cpu_seconds", "memory", "processes", "runnable")

    def __init__(self, cpu_seconds: float, memory: int, processes: int, runnable: bool) -> None:
        self.cpu_seconds, self.memory = cpu_seconds, memory
        self.processes, self.runnable = processes, runnable


class ProcessTree:
    """All descendants of this process, which must be a subreaper, and have no other children.

    `cores` is how many cores the tree may run on; used only against a tree that hides CPU time.
    """

    def __init__(self, cores: int = 1) -> None:
        self.me = os.getpid()
        self.cores = cores
        self.began = time.monotonic()
        self.exits: dict[int, int] = {}  # process id of a dead child: its wait status
        self.members: dict[int, Stat] = {}
        self.peak_memory = 0  # bytes
        self._reaped_cpu = 0.0
        self._cpu = 0.0
        self._strangers: set[int] = set()
        self._strangers_since = self.began
        self._vanished_ticks: dict[tuple[int, int], int] = {}
        self._hides_time = False

    def reap(self) -> bool:
        """Collect dead children without waiting. True while at least one child is left."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.exits[pid] = status
            self._reaped_cpu += used.ru_utime + used.ru_stime
            self.peak_memory = max(self.peak_memory, used.ru_maxrss * 1024)

    def scan(self) -> dict[int, Stat]:
        """The living descendants and zombies, from /proc.

        Costs one read per descendant and per process that is new on the machine: the process ids of
        strangers are remembered, for a short while since ids are used again.
        """
        now = time.monotonic()
        if now - self._strangers_since > _FORGET_STRANGERS_SECONDS:
            self._strangers.clear()
            self._strangers_since = now
        present = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._strangers &= present
        found: dict[int, Stat] = {}
        for pid in present - self._strangers:
            if pid != self.me and (stat := read_stat(pid)) is not None:
                found[pid] = stat
        members = {pid: stat for pid, stat in found.items() if self._is_descendant(stat, found)}
        self.members = members
        return members

    def _is_descendant(self, stat: Stat, found: dict[int, Stat]) -> bool:
        chain = []
        while True:
            chain.append(stat.pid)
            if stat.ppid == self.me:
                return True
            if stat.ppid == 0 or stat.ppid in self._strangers:
                self._strangers.update(chain)
                return False
            parent = found.get(stat.ppid)
            if parent is None or parent.pid in chain:
                # The parent died while we looked: undecided, ask again next time.
                return False
            stat = parent

    def sample(self) -> Usage:
        """Scan, and add up what the tree has used since this object was made."""
        before = self.members
        self.reap()
        members = self.scan()
        self._look_for_hidden_time(before, members)
        live = sum(stat.own_ticks + stat.children_ticks for stat in members.values()) * TICK
        used = live + self._reaped_cpu
        if self._hides_time:
            used = max(used, (time.monotonic() - self.began) * self.cores)
        self._cpu = max(self._cpu, used)
        memory = sum(stat.resident for stat in members.values())
        runnable = any(stat.state == b"R" for stat in members.values())
        return Usage(self._cpu, memory, len(members), runnable)

    def _look_for_hidden_time(self, before: dict[int, Stat], now: dict[int, Stat]) -> None:
        """A parent that ignores SIGCHLD is never charged for its children, so their time would be lost.

        It shows in its signal mask, or when more time has vanished with children than their living parent
        was charged for. From then on the tree counts as having used its cores without a pause.
        """
        for pid, last in before.items():
            if pid in now or last.ppid not in now:
                continue
            parent = now[last.ppid]
            key = (parent.pid, parent.start)
            vanished = self._vanished_ticks.get(key, 0) + last.own_ticks + last.children_ticks
            self._vanished_ticks[key] = vanished
            if vanished > parent.children_ticks + _SLACK_TICKS or _ignores_children(parent.pid):
                self._hides_time = True

    @property
    def cpu_seconds(self) -> float:
        """CPU used so far; exact once everything is dead."""
        return max(self._cpu, self._reaped_cpu)

    def shared_memory_counted_once(self) -> int:
        """Bytes used when pages shared between processes count once. Slow: for borderline cases only."""
        total = 0
        for pid, stat in self.members.items():
            size = stat.resident
            for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
                if line.startswith(b"Pss:"):
                    size = int(line.split()[1]) * 1024
            total += size
        return total

    def unlinked_bytes(self) -> int:
        """Bytes in files that the tree holds open but that have no name: deleted files and memfds."""
        seen: dict[tuple[int, int], int] = {}
        for pid in self.members:
            folder = f"/proc/{pid}/fd/"
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for name in names:
                try:
                    info = os.stat(folder + name)
                except OSError:
                    continue
                if info.st_nlink == 0 and info.st_blocks:
                    seen[info.st_dev, info.st_ino] = info.st_blocks * 512
        return sum(seen.values())

    def busy_processes(self) -> list[tuple[float, float]]:
        """(seconds run, seconds waited for a core that was taken) of each living process, longest first.

        Of a process with threads, its first thread.
        """
        found = []
        for pid in self.members:
            fields = _read(f"/proc/{pid}/schedstat").split()
            if len(fields) >= 2:
                found.append((int(fields[0]) / 1e9, int(fields[1]) / 1e9))
        return sorted(found, key=sum, reverse=True)

    def kill(self, wait: Callable[[float], None], *, at_once: bool, patience: float = 10.0) -> bool:
        """End every descendant. True when none is left, False if some outlive `patience` seconds.

        `wait(seconds)` returns when a child may have exited, at the latest after `seconds`. With
        `at_once` False the main process ended by itself, and its sandbox, if any, is dying already: that
        gets a moment, which saves a look at every process of the machine.
        """
        deadline = time.monotonic() + patience
        if not at_once and self.reap():
            wait(0.01)
        while self.reap():
            for pid in self.scan():
                _kill(pid)
            if time.monotonic() > deadline:
                return False
            wait(0.01)
        return True


def _kill(pid: int) -> None:
    try:  # noqa: SIM105  (contextlib takes a millisecond to import)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def exit_of(status: int, in_sandbox: bool) -> tuple[int | None, str | None]:
    """(exit code, signal's name) of a wait status; exactly one is not None.

    bubblewrap reports a command that was killed by signal n as exit code 128 + n.
    """
    code = os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else code - 128 if in_sandbox and code > 128 else 0
    if number:
        from signal import Signals

        try:
            return None, Signals(number).name
        except ValueError:
            return (code, None) if code >= 0 else (None, f"SIG{number}")
    return code, None


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("the runner needs Linux: it counts processes in /proc")


def _ignores_children(pid: int) -> bool:
    """Whether a process ignores SIGCHLD, so that the kernel reaps its children and forgets their time."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"SigIgn:"):
            return bool(int(line.split()[1], 16) >> 16 & 1)
    return False
