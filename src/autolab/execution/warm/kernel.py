"""The calls to the kernel that Python has no names for: namespaces, mounts, capabilities, seccomp.

Standard library only, and nothing from autolab: the sandboxed template imports this by path.
"""

from __future__ import annotations

import ctypes
import os
import struct

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS = 0x00020000, 0x08000000, 0x10000000, 0x20000000
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8  # of mount(2), and the same bits as MOUNT_ATTR_*
_REMOUNT, _BIND = 32, 4096

# These numbers are the same on every kind of machine.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC, OPEN_TREE_CLONE
_SET_STRING, _CREATE = 1, 6
_AT_FDCWD, _EMPTY_PATH = -100, 4

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(number: int, what: str, *arguments: object) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *words), what)


def unshare(flags: int) -> None:
    """Leave some of the parent's namespaces. Raises OSError, as all of these do."""
    _checked(_libc.unshare(flags), "unshare")


def enter(namespace: int, flags: int) -> None:
    """Enter the namespace behind a descriptor of /proc/PID/ns."""
    _checked(_libc.setns(namespace, flags), "setns")


def new_filesystem(kind: str, attributes: int = 0, **options: str) -> int:
    """A descriptor of the root of a new file system that is mounted nowhere yet."""
    context = _call(_FSOPEN, f"fsopen {kind}", kind.encode(), _CLOEXEC)
    try:
        for key, value in options.items():
            _call(_FSCONFIG, f"fsconfig {key}", context, _SET_STRING, key.encode(), value.encode(), 0)
        _call(_FSCONFIG, f"fsconfig {kind}", context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, f"fsmount {kind}", context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def copy_of_mount(path: str) -> int:
    """A descriptor of a second mount of what `path` shows, mounted nowhere yet."""
    return _call(_OPEN_TREE, "open_tree", _AT_FDCWD, path.encode(), _CLOEXEC)


def attach(mount: int, path: str) -> None:
    """Show a mount at a folder."""
    _call(_MOVE_MOUNT, "move_mount", mount, b"", _AT_FDCWD, path.encode(), _EMPTY_PATH)


def mount_proc(path: str, flags: int) -> None:
    """Mount the processes of the caller's own PID namespace."""
    _checked(
        _libc.mount(b"proc", path.encode(), b"proc", flags | NO_SUID | NO_DEVICES | NO_EXEC, None),
        "mount proc",
    )


def bind(source: str, target: str) -> None:
    """Show a folder at another place as well."""
    _checked(_libc.mount(source.encode(), target.encode(), None, _BIND, None), f"bind {target}")


def make_read_only(path: str) -> None:
    """Nobody writes through the mount at `path` any more."""
    flags = _BIND | _REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES
    _checked(_libc.mount(None, path.encode(), None, flags, None), f"remount {path}")


def keep_identity(proc: str) -> None:
    """In a new user namespace: the ids that this process had. `proc` is a writable /proc."""
    write(f"{proc}/self/setgroups", b"deny")
    user, group = _identity
    write(f"{proc}/self/uid_map", b"%d %d 1" % (user, user))
    write(f"{proc}/self/gid_map", b"%d %d 1" % (group, group))


_identity = (os.getuid(), os.getgid())  # in a namespace without a map, everybody is 65534


def write(path: str, content: bytes) -> None:
    """Write to a file that is there."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def die_with_parent(signal: int = 9) -> None:
    """Be killed when the parent, more exactly the thread of it that forked, is gone."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")


def gain_no_privileges() -> None:
    """Neither this process nor what it starts gains a right by starting a program."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def drop_capabilities() -> None:
    """Give up every right of a namespace's owner."""
    header = struct.pack("=II", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")


def install_filter(program: bytes) -> None:
    """Bind this process and what it starts to a seccomp filter, as `syscalls.seccomp_filter` makes it."""
    lines = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(lines))
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    _checked(_libc.prctl(_PR_SET_SECCOMP, mode, description, 0, 0), "seccomp")
