"""What a measured program can see: command lines that put a process into a sandbox.

Standard library only, and nothing from autolab: the runner imports this by path on other machines.

Two modes. `bubblewrap`: the process sees the system's libraries, the Python installation, its workspace
and the training data, all read-only, plus one writable folder for the artifact; no network, no home, no
other process. `none`: a clean environment and nothing else; it can read and write whatever the user
can, so use it only for programs that you trust, or inside a container that holds no secret.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in typing, whose import would take longer than this module
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    Mode = Literal["bubblewrap", "none"]

WORKSPACE = "/lab/workspace"
DATA = "/lab/data"
ARTIFACT = "/lab/artifact"
CLOCK = "/lab/clock"
PACE = "/lab/pace.json"

TMP_BYTES = 64 << 20  # of memory, for each of /tmp and /dev/shm
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
)
_PROBED: tuple[Mode, str] | None = None


class SandboxError(Exception):
    """The sandbox cannot be built as asked; the message says why, in one line."""


def find_bubblewrap() -> str | None:
    """Path of `bwrap`, or None."""
    for folder in ("/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(":")):
        path = os.path.join(folder, "bwrap")
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def available() -> tuple[Mode, str]:
    """(mode, reason): "bubblewrap" if it really works here, else "none" and one line on how to mend it.

    Tries it once per process; takes some 10 ms.
    """
    global _PROBED
    if _PROBED is None:
        _PROBED = _probe()
    return _PROBED


def _probe() -> tuple[Mode, str]:
    import subprocess

    bwrap = find_bubblewrap()
    if bwrap is None:
        return "none", "bubblewrap is not installed (mend: `apt install bubblewrap`)"
    argv = [bwrap, *isolation(), *system_binds(), *own_mounts(()), *CLOSE, "--", "/bin/true"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "none", f"bubblewrap does not start: {error}"
    if done.returncode == 0:
        return "bubblewrap", "bubblewrap works"
    said = " ".join(done.stderr.split())[:160] or f"exit code {done.returncode}"
    if "nknown option" in said:
        mend = "mend: bubblewrap 0.8 or newer is needed"
    else:
        mend = (
            "mend: allow user namespaces, e.g. `sysctl kernel.unprivileged_userns_clone=1 "
            "kernel.apparmor_restrict_unprivileged_userns=0`; in a container, run it with "
            "`--security-opt seccomp=unconfined`"
        )
    return "none", f"bubblewrap does not work here: {said} ({mend})"


def isolation() -> list[str]:
    """New namespaces of every kind, no rights, and no life after the caller's."""
    # Every namespace is new. --disable-userns: without it a process could make its own user namespace,
    # and reach kernel interfaces that it has no use for.
    return [
        *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "lab", "--cap-drop", "ALL"),
    ]


def system_binds() -> list[str]:
    """The system's programs and libraries, read-only, and the few settings that they need."""
    args = ["--ro-bind", "/usr", "/usr"]
    for folder in _SYSTEM_FOLDERS:
        if os.path.islink(folder):
            args += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            args += ["--ro-bind", folder, folder]
    for path in _SYSTEM_FILES:
        if os.path.exists(path):
            args += ["--ro-bind", path, path]
    return args


def own_mounts(devices: Iterable[str]) -> list[str]:
    """/proc, /dev, /tmp. They come before what is shown, which may lie in /tmp.

    /proc is read-only as a whole: for a lab that runs as root, bubblewrap leaves /proc/sys writable, and
    with it the machine's settings.
    """
    args = ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    for device in devices:
        args += ["--dev-bind", device, device]
    for folder in ("/dev/shm", "/tmp"):
        args += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", folder]
    return args


# The last arguments: `/` and `/dev` are memory file systems without a limit, so nothing may write to them.
CLOSE = ["--remount-ro", "/dev", "--remount-ro", "/"]


def gpu_devices() -> list[str]:
    """Device files that CUDA programs open; empty without an NVIDIA driver."""
    return sorted(f"/dev/{name}" for name in os.listdir("/dev") if name.startswith("nvidia"))


def python_binds(python: str) -> tuple[list[str], list[str]]:
    """(bubblewrap arguments, real folders shown) that make the interpreter `python` work in a sandbox.

    Each folder appears once, at its real path, and other spellings are symbolic links: an overlay over a
    file then has no second way around it. Raises SandboxError if the installation cannot be found.
    """
    venv = os.path.dirname(os.path.dirname(python))
    homes = []
    config = os.path.join(venv, "pyvenv.cfg")
    if os.path.isfile(config):
        homes.append(venv)
        with open(config, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition("=")
                if key.strip() == "home":
                    homes.append(os.path.dirname(value.strip()))
    real = os.path.realpath(python)
    if not os.access(real, os.X_OK):
        raise SandboxError(f"there is no Python at {python}")
    homes.append(os.path.dirname(os.path.dirname(real)))
    args: list[str] = []
    shown = ["/usr"]
    for home in homes:
        target = os.path.realpath(home)
        if target == "/" or not (
            os.path.isfile(os.path.join(home, "pyvenv.cfg")) or os.path.isdir(os.path.join(home, "lib"))
        ):
            raise SandboxError(f"{home} does not look like a Python installation")
        if not inside(target, shown):
            args += ["--ro-bind", target, target]
            shown.append(target)
        if home != target and not inside(home, ["/usr", *_SYSTEM_FOLDERS]):
            args += ["--symlink", target, home]
    hop = python
    while hop != real:
        if not inside(hop, [*shown, *homes, *_SYSTEM_FOLDERS]):
            args += ["--symlink", real, hop]
        if not os.path.islink(hop):
            break
        hop = os.path.normpath(os.path.join(os.path.dirname(hop), os.readlink(hop)))
    return args, shown


def inside(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders or lies below one; both are taken as they are spelt."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def read_overlay(data: str | None) -> list[tuple[str, str]]:
    """[(real target, source)] from overlay.json in the data folder. Raises SandboxError if it is wrong."""
    if data is None or not os.path.exists(path := os.path.join(data, "overlay.json")):
        return []
    import json

    try:
        with open(path, encoding="utf-8") as file:
            pairs = [(str(target), str(source)) for target, source in json.load(file)]
    except (OSError, ValueError, TypeError) as error:
        raise SandboxError(f"overlay.json is not a list of [target, source]: {error}") from None
    checked = []
    for target, source in pairs:
        source = os.path.join(data, source)
        if not target.startswith("/") or not os.path.exists(source):
            raise SandboxError(f"overlay.json: cannot lay {source} over {target}")
        checked.append((os.path.realpath(target), source))
    return checked


def arguments(
    *,
    python: str,
    workspace: str,
    artifact: str,
    artifact_writable: bool,
    overlay: Iterable[tuple[str, str]],
    hidden: Iterable[str],
    gpu: bool = False,
    clock: str | None = None,
    train_data: str | None = None,
    pace: str | None = None,
    environment: dict[str, str] | None = None,
) -> list[str]:
    """bubblewrap's arguments for one process, without the command.

    The paths are the host's; inside they are WORKSPACE, ARTIFACT and so on. `hidden` are folders that
    must not become visible by accident: SandboxError if one lies inside the Python installation.
    """
    args = [*isolation(), *system_binds(), *own_mounts(gpu_devices() if gpu else ())]
    binds, shown = python_binds(python)
    for folder in hidden:
        if inside(os.path.realpath(folder), shown):
            raise SandboxError(f"{folder} lies inside {shown}, which every trial can read; move it elsewhere")
    args += [*binds, "--ro-bind", workspace, WORKSPACE]
    args += ["--bind" if artifact_writable else "--ro-bind", artifact, ARTIFACT]
    if clock is not None:
        args += ["--bind", clock, CLOCK]
    if train_data is not None:
        args += ["--ro-bind", train_data, f"{DATA}/train"]
    if pace is not None:
        args += ["--ro-bind", pace, PACE]
    for target, source in overlay:
        args += ["--ro-bind", source, target]
    args += [*CLOSE, "--chdir", WORKSPACE, "--clearenv"]
    for key, value in (environment or {}).items():
        args += ["--setenv", key, value]
    return args


def packed(args: Iterable[str]) -> bytes:
    """Arguments as bubblewrap's --args reads them.

    They go through a file and not the command line, which a process inside could read in /proc/1.
    """
    return b"".join(os.fsencode(arg) + b"\0" for arg in args)


def launch_prefix(bwrap: str, args_file: str, filter_file: str | None) -> list[str]:
    """An argv prefix that starts each command in a fresh sandbox with the arguments in `args_file`.

    `filter_file` holds a seccomp filter. bwrap itself gets an empty environment: /proc/1/environ inside
    shows what it was started with.
    """
    denied = "" if filter_file is None else " --seccomp 8"
    script = (
        'exec 9<"$1" 8<"$2" && shift 2 && exec /usr/bin/env -i ' + f"'{bwrap}'{denied}" + ' --args 9 -- "$@"'
    )
    return ["/bin/sh", "-c", script, "sandbox", args_file, filter_file or "/dev/null"]


def plain_prefix(workspace: str, environment: dict[str, str]) -> list[str]:
    """The same for mode `none`: a clean environment and the right working directory, no protection."""
    assignments = [f"{key}={value}" for key, value in environment.items()]
    return ["/usr/bin/env", "-i", "-C", workspace, *assignments]
