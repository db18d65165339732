"""What training left behind: collected as plain files under a cap, everything else refused.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import os
import stat

from . import output
from .bundle_folder import read_small
from .outcome import Outcome

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measurement import Measurement

CLOCK_LIMIT = 64 << 10  # bytes
DEEPEST = 16  # nesting of folders in an artifact
LONGEST = 512  # bytes of a path in it


def collect(measurement: Measurement) -> None:
    """Move the artifact's regular files out of the writable folder; everything that trained is dead.

    Raises Outcome `illegal`, `over_size`, or `crash` if there is no artifact.
    """
    bundle, facts = measurement.bundle, measurement.facts
    clock = read_small(os.path.join(bundle.clock, "clock.json"), CLOCK_LIMIT)
    facts["clock"] = None if clock is None else output.parse_clock(clock)
    if os.path.islink(bundle.artifact):
        raise Outcome("illegal", "the artifact's folder was replaced by a link")
    program = bundle.program_bytes(measurement.spec["editable"])
    room = measurement.artifact_cap - program
    size = 0
    files = 0
    for folder, name, info in _walk(bundle.artifact):
        relative = os.path.relpath(os.path.join(folder, name), bundle.artifact)
        if len(os.fsencode(relative)) > LONGEST:
            raise Outcome("illegal", f"the artifact holds a path of more than {LONGEST} bytes")
        target = os.path.join(bundle.collected, relative)
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(target, 0o755)
            continue
        kind = _not_plain(info)
        if kind is not None:
            raise Outcome("illegal", f"the artifact holds a {kind}: {relative}")
        files += 1
        size += info.st_size
        if size > room:
            cap = measurement.budget["artifact_kb"]
            have = f"{size / 1024:.0f} kB so far and the program {program / 1024:.0f} kB"
            raise Outcome("over_size", f"artifact: {have}, {cap} kB allowed together")
        _move(os.path.join(folder, name), target, info.st_size)
    facts["artifact_bytes"] = size
    if not files and measurement.spec["commands"].get("evaluate"):
        raise Outcome("crash", "exited 0 without an artifact")


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
