"""The node's side of a measurement on a Ray cluster: unpack the bundle, find its data, run the runner, hand back.

Standard library only, and nothing from autolab: Ray carries this module by value to nodes where autolab is not
installed. What it needs of the runner's side is shipped as files and loaded from there.

Everything lies in one folder of the node that only its user can enter:

    runner/<hash>/         the runner's files, as they were when the campaign was started
    data/<hash>-<python>/  prepared data, shipped once
    runs/<launch>/         one measurement; its folder is locked while its worker lives, and swept afterwards
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import types

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

STOP_SECONDS = 15.0  # for a runner to end everything before it is killed itself
KEEP_SECONDS = 14 * 86400.0  # runner files and data that nobody used for so long are removed
_START = "import sys; sys.path.insert(0, sys.argv[1]); import runner; sys.exit(runner.main(sys.argv[2:]))"


class Starts:
    """Which launches have begun, and when: what waits for room in the cluster is told from what hangs."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}

    def tell(self, launch: str) -> None:
        self._begun[launch] = time.monotonic()

    def seconds_ago(self, launch: str) -> float | None:
        """How long a launch has run; None before it has begun."""
        return time.monotonic() - self._begun[launch] if launch in self._begun else None

    def forget(self, launch: str) -> None:
        self._begun.pop(launch, None)


def describe(files: Any, digest: str, *, gpu: bool) -> dict[str, str]:
    """What kind of node this is, as far as scores depend on it, and what guards the node from a recipe."""
    folder = _runner_folder(_home(), files, digest)
    mode, reason = _load(folder, "sandbox").available()
    machine = _load(folder, "machine").describe(gpu=gpu)
    return {"machine": machine, "sandbox": mode, "reason": reason}


def measure(
    launch: str,
    packed: tuple[bytes, str],
    files: Any,
    digest: str,
    data: dict[str, Any] | None,
    starts: Any,
    *,
    gpu: bool,
    seconds: float,
) -> dict[str, bytes]:
    """Measure a packed bundle; {"receipt", "result"} as remote.py leaves them. `files` and `data["tar"]` are lists with
    one object reference, so that Ray fetches them only where they are missing.

    Raises what keeps a result from being made (OSError, ValueError); a KeyboardInterrupt, which is how Ray cancels,
    ends every process first.
    """
    starts.tell.remote(launch)
    content, sha256 = packed
    base = _home()
    with _private_folder(base, launch) as place:
        folder = _runner_folder(base, files, digest)
        remote = _load(folder, "remote")
        archive, bundle = os.path.join(place, "bundle.tar"), os.path.join(place, "bundle")
        with open(archive, "wb") as file:
            file.write(content)
        remote.unpack(archive, sha256, bundle)
        path = os.path.join(bundle, "spec.json")
        with open(path, encoding="utf-8") as file:
            spec: dict[str, Any] = json.load(file)
        spec |= {"python": sys.executable, "sandbox": _load(folder, "sandbox").available()[0], "data": None}
        pace = os.path.join(bundle, "pace.json")
        spec["pace"] = pace if os.path.exists(pace) else None
        before = None
        if data is not None:
            spec["data"] = _data_folder(base, data, remote, bundle, spec)
            before = _stats(spec["data"])
        with open(path, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        with _core(base, gpu=gpu) as core:
            _run(folder, bundle, remote.clean_environment(), gpu=gpu, core=core, seconds=seconds)
        if before is not None and before != _stats(spec["data"]):
            raise ValueError("the data on this node changed during the measurement")
        with open(os.path.join(bundle, "measurement.json"), "rb") as file:
            result = file.read()
    receipt = {"ticket": launch, "bundle": sha256, "measurement": hashlib.sha256(result).hexdigest()}
    return {"receipt": json.dumps(receipt).encode(), "result": result}


# the runner -----------------------------------------------------------------------------------------


def _run(
    folder: str, bundle: str, env: dict[str, str], *, gpu: bool, core: int | None, seconds: float
) -> None:
    """The runner, to its end. Raises ValueError if it fails or does not end within `seconds`."""
    argv = [sys.executable, "-I", "-S", "-c", _START, folder, bundle, "--lifeline"]
    if core is not None:
        argv += ["--cpus", str(core)]
    if gpu:
        argv += ["--gpu", os.environ.get("CUDA_VISIBLE_DEVICES") or "0"]  # which of them Ray gave this task
    errors = f"{bundle}.errors"
    # The pipe's other end is ours alone: when this worker dies, however, the runner sees it close.
    reader, writer = os.pipe()
    runner: subprocess.Popen[bytes] | None = None
    try:
        try:
            with open(errors, "wb") as said:
                runner = subprocess.Popen(
                    argv, stdin=reader, stdout=subprocess.DEVNULL, stderr=said,
                    env={**env, "AUTOLAB_BUNDLE": bundle}, start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(reader)
        _wait(runner, time.monotonic() + seconds)
    finally:
        os.close(writer)
        if runner is not None and runner.poll() is None:
            _end(runner, bundle)
    if runner.returncode != 0:
        _reap(bundle)
        with open(errors, encoding="utf-8", errors="replace") as file:
            words = " ".join(file.read().split()[-30:])
        raise ValueError(f"the runner ended with {runner.returncode} {words}".strip())


def _wait(runner: subprocess.Popen[bytes], deadline: float) -> None:
    # In slices, because Ray cancels between two byte codes of the main thread: it interrupts no system call.
    ended = os.pidfd_open(runner.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        while not poll.poll(100):
            if time.monotonic() > deadline:
                raise ValueError("the runner did not end in time")
    finally:
        os.close(ended)
    runner.wait()


def _end(runner: subprocess.Popen[bytes], bundle: str) -> None:
    """Wait until the runner, whose lifeline is closed, has ended everything."""
    try:
        runner.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        runner.kill()
        runner.wait()
        _reap(bundle)


def _reap(folder: str) -> None:
    """Kill what is left of a measurement whose runner was killed: what has its folder in its environment, or works in
    it."""
    mark = os.fsencode(folder)
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            known = os.readlink(f"/proc/{name}/cwd".encode())
            with open(f"/proc/{name}/environ", "rb") as file:
                known += b"\0" + file.read()
        except OSError:
            continue
        if mark in known:
            with contextlib.suppress(OSError):
                os.kill(int(name), signal.SIGKILL)


@contextlib.contextmanager
def _core(base: str, *, gpu: bool) -> Iterator[int | None]:
    """A core that no other measurement on this node has, as at home; None where cores are not Ray's to give: for GPU
    tasks, and in a container that may use a share of all cores."""
    import ray

    cores = sorted(os.sched_getaffinity(0))
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
    total = next((node["Resources"].get("CPU", 0) for node in nodes if node["NodeID"] == own), 0)
    with contextlib.ExitStack() as held:
        free = None
        for core in cores if not gpu and total >= len(cores) else ():
            try:
                held.enter_context(_locked(os.path.join(base, f"core-{core}.lock"), wait=False))
            except BlockingIOError:
                continue
            free = core
            break
        yield free


# the folder on the node -----------------------------------------------------------------------------


def _home() -> str:
    """This user's folder on the node. Raises ValueError if it is somebody else's."""
    base = os.path.join(os.path.realpath(tempfile.gettempdir()), f"autolab-ray-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(base, 0o700)
    found = os.lstat(base)
    if os.path.islink(base) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ValueError(f"{base} is not a folder of this user alone")
    for name in ("runner", "data", "runs"):
        os.makedirs(os.path.join(base, name), exist_ok=True)
    return base


@contextlib.contextmanager
def _locked(path: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that ends with this process. Raises BlockingIOError if it is taken and we are not to wait."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def _private_folder(base: str, launch: str) -> Iterator[str]:
    """A fresh folder for one measurement, gone afterwards; what dead workers left goes now."""
    place = os.path.join(base, "runs", launch)
    with contextlib.ExitStack() as held:
        with _locked(os.path.join(base, "runs.lock")):
            _sweep(base)
            os.mkdir(place, 0o700)
            held.enter_context(_locked(os.path.join(place, "lock")))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _sweep(base: str) -> None:
    for entry in list(os.scandir(os.path.join(base, "runs"))):
        try:
            with _locked(os.path.join(entry.path, "lock"), wait=False):
                _reap(entry.path)
                shutil.rmtree(entry.path, ignore_errors=True)
        except BlockingIOError:
            continue
        except OSError:
            shutil.rmtree(entry.path, ignore_errors=True)
    for kind in ("runner", "data"):
        for entry in list(os.scandir(os.path.join(base, kind))):
            with contextlib.suppress(OSError):
                if entry.is_dir() and time.time() - entry.stat().st_mtime > KEEP_SECONDS:
                    shutil.rmtree(entry.path)


def _runner_folder(base: str, files: Any, digest: str) -> str:
    """The runner's files on this node, written once."""
    folder = os.path.join(base, "runner", digest)
    if not os.path.isdir(folder):
        import ray

        with _new_folder(folder) as temporary:
            for name, content in ray.get(files[0]).items():
                with open(os.path.join(temporary, name), "wb") as file:
                    file.write(content)
    os.utime(folder)
    return folder


@contextlib.contextmanager
def _new_folder(path: str) -> Iterator[str]:
    """A folder that appears under its name when it is complete; somebody may have been quicker."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=os.path.dirname(path)) as temporary:
        inner = os.path.join(temporary, "folder")
        os.mkdir(inner, 0o700)
        yield inner
        if not os.path.isdir(path):
            os.rename(inner, path)


def _load(folder: str, name: str) -> Any:
    """One of the runner's modules, out of its folder: a package by a name of its own."""
    package = f"autolab_runner_{os.path.basename(folder)}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [folder]
    return importlib.import_module(f"{package}.{name}")


# data -----------------------------------------------------------------------------------------------


def _data_folder(base: str, data: dict[str, Any], remote: Any, bundle: str, spec: dict[str, Any]) -> str:
    """Where the prepared data lies on this node: where the lab has it, if that folder is shared, else a copy."""
    shared, manifest = str(data["path"]), str(data["manifest"])
    build = hashlib.sha256(f"{sys.executable} {sys.version}".encode()).hexdigest()[:8]
    cached = os.path.join(base, "data", f"{manifest[:32]}-{build}")
    with _locked(cached + ".lock"):
        for folder in (shared, cached):
            if _manifest_of(folder) == manifest and _is_whole(base, folder, manifest, remote):
                if folder == cached:
                    os.utime(folder)
                return folder
        import ray

        shutil.rmtree(cached, ignore_errors=True)  # damaged, or of another time
        with _new_folder(cached) as temporary:
            with tarfile.open(fileobj=io.BytesIO(ray.get(data["tar"][0]))) as tar:
                tar.extractall(temporary, filter="data")
            remote.check(temporary, manifest)
        remote.finish_data(bundle, spec, cached)
        if not _is_whole(base, cached, manifest, remote):
            raise ValueError("the task's prepare command changed the data")
        return cached


def _manifest_of(folder: str) -> str:
    try:
        with open(os.path.join(folder, "manifest.json"), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def _is_whole(base: str, folder: str, manifest: str, remote: Any) -> bool:
    """Whether every file is what the manifest says: by hash once, later by what the file system says."""
    name = hashlib.sha256(f"{folder} {manifest}".encode()).hexdigest()[:32]
    seen, found = os.path.join(base, "data", f"{name}.seen"), json.dumps(_stats(folder))
    with contextlib.suppress(OSError), open(seen, encoding="utf-8") as file:
        if file.read() == found:
            return True
    try:
        remote.check(folder, manifest)
    except (OSError, ValueError):
        return False
    with open(seen, "w", encoding="utf-8") as file:
        file.write(found)
    return True


def _stats(folder: str) -> list[tuple[str, int, int, int]]:
    """Name, inode, size and change time of the files in the manifest, as in data.py."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        names = sorted(json.load(file).get("files", {}))
    found = []
    for name in names:
        try:
            status = os.lstat(os.path.join(folder, name))
        except OSError:
            found.append((name, 0, 0, 0))
            continue
        found.append((name, status.st_ino, status.st_size, status.st_ctime_ns))
    return found
