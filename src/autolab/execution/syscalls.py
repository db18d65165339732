"""System calls that no training run needs, denied by a seccomp filter in every sandbox.

What a mount or a PID namespace does not separate: the page cache (one scorer could tell the next what it
saw through pages that are in memory or not), the kernel's key rings (shared by everything of one login),
and the scheduler (a trial could leave its cores, or starve itself on purpose). What counts for nobody's memory: System
V shared memory and queues, which no descriptor leads to.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import os
import struct

# machine: (AUDIT_ARCH, number of madvise, {call: number}); from the kernel's syscall tables
_COMMON = {"cachestat": 451, "io_uring_setup": 425}
_TABLES = {
    "x86_64": (
        0xC000003E,
        28,
        {
            **_COMMON,
            "shmget": 29,
            "semget": 64,
            "msgget": 68,
            "mincore": 27,
            "fadvise64": 221,
            "preadv2": 327,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "sched_setaffinity": 203,
            "setpriority": 141,
            "ioprio_set": 251,
            "sched_setparam": 142,
            "sched_setscheduler": 144,
            "sched_setattr": 314,
            "ptrace": 101,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "perf_event_open": 298,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        233,
        {
            **_COMMON,
            "shmget": 194,
            "semget": 190,
            "msgget": 186,
            "mincore": 232,
            "fadvise64": 223,
            "preadv2": 286,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "sched_setaffinity": 122,
            "setpriority": 140,
            "ioprio_set": 30,
            "sched_setparam": 118,
            "sched_setscheduler": 119,
            "sched_setattr": 274,
            "ptrace": 117,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "perf_event_open": 241,
            "bpf": 280,
            "userfaultfd": 282,
        },
    ),
}
# What makes a name in a folder that is not a plain file: links, pipes, devices.
_SPECIAL_FILES = {
    "x86_64": {"symlink": 88, "symlinkat": 266, "mknod": 133, "mknodat": 259},
    "aarch64": {"symlinkat": 36, "mknodat": 33},
}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_PAIR = {"x86_64": 53, "aarch64": 199}  # socketpair
_UNIX, _STREAM, _PACKETS, _KINDS = 1, 1, 5, 0xF  # AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET, SOCK_TYPE_MASK
_MADV_COLD, _MADV_PAGEOUT = 20, 21
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # BPF: ld [k], jeq, jge, and, ret
_NR, _ARCH = 0, 4  # offsets in struct seccomp_data
_FIRST, _SECOND, _THIRD = 16, 24, 32  # and in it, of the low words of the call's arguments
_Line = tuple[
    int, int, str | None, str | None
]  # code, value, where to go if true, if false; None: the next line
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM


def seccomp_filter(
    machine: str | None = None, *, special_files: bool = True, sockets: bool = True
) -> bytes | None:
    """The filter as bubblewrap's --seccomp reads it, or None on a kind of machine that we have no table of.

    Without `special_files` no symbolic link, pipe or device can be made, only plain files and folders. Without
    `sockets` there are only pairs of connected ones that stay so: for sandboxes that share the namespace of their
    network. (One of a pair for datagrams can leave the other and send to whom it likes.)
    """
    machine = machine or os.uname().machine
    table = _TABLES.get(machine)
    if table is None:
        return None
    arch, madvise, calls = table
    denied = [*calls.values()]
    if not special_files:
        denied += _SPECIAL_FILES[machine].values()
    pairs: list[_Line] = []
    if not sockets:
        denied.append(_SOCKET[machine])
        pairs = [
            (_EQUAL, _PAIR[machine], None, "others"),
            (_LOAD, _FIRST, None, None),
            (_EQUAL, _UNIX, None, "deny"),
            (_LOAD, _SECOND, None, None),
            (_AND, _KINDS, None, None),
            (_EQUAL, _STREAM, "allow", None),
            (_EQUAL, _PACKETS, "allow", "deny"),
        ]
    begin: list[_Line] = [
        (_LOAD, _ARCH, None, None),
        (_EQUAL, arch, None, "deny"),  # 32-bit calls have other numbers
        (_LOAD, _NR, None, None),
        (_AT_LEAST, 0x40000000, "deny", None),  # so have those of x32
        *((_EQUAL, number, "deny", None) for number in sorted(denied)),
    ]
    others: list[_Line] = [
        (_EQUAL, madvise, None, "allow"),
        (_LOAD, _THIRD, None, None),
        (_EQUAL, _MADV_COLD, "deny", None),
        (_EQUAL, _MADV_PAGEOUT, "deny", None),
    ]
    lines = [*begin, *pairs, *others]
    places = {"allow": len(lines), "deny": len(lines) + 1, "others": len(begin) + len(pairs)}
    code = b""
    for at, (operation, value, yes, no) in enumerate(lines):
        jumps = [places[target] - at - 1 if target else 0 for target in (yes, no)]
        code += struct.pack("=HBBI", operation, *jumps, value)
    return code + struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW) + struct.pack("=HBBI", _RETURN, 0, 0, _DENY)
