"""Who still runs: processes that know a folder, for tests that nothing is left over."""

from __future__ import annotations

import os
from pathlib import Path


def left_over(folder: Path) -> dict[int, str]:
    """Command line by id of the living processes, but this one, that have a path below the folder in their
    environment, in their arguments, or as their working directory."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            known = Path(f"/proc/{pid}/environ").read_bytes() + b" " + words
            known += b" " + os.readlink(f"/proc/{pid}/cwd").encode()
        except OSError:
            continue
        if str(folder).encode() in known:
            found[int(pid)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found
