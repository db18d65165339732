"""Files of others as text: bounded, and in whatever encoding they were written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from autolab.errors import LabError

LARGEST = 200 << 20  # bytes
MEND = "name a results.tsv, a tree.tsv, a dag.json, or the directory of one"


def text_of(path: Path) -> str:
    """The text of a file, with "\\n" as the end of every line.

    Raises LabError for what is no text: absent, a link to nothing, unreadable, not a file, too large, empty, binary.
    """
    data = _content(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "replace")
    if "\0" in text:
        raise LabError("is binary, not a table", where=str(path), mend=MEND)
    text = text.replace("\r\n", "\n")
    text = text if "\n" in text else text.replace("\r", "\n")
    if not text.strip():
        raise LabError("is empty", where=str(path), mend=MEND)
    return text


def json_of(path: Path) -> Any:
    """What a JSON file holds. Raises LabError if it holds none, as `text_of` does."""
    try:
        return json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise LabError(f"is not valid JSON: {error}", where=str(path), mend="write it anew") from None


def _content(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if os.path.islink(path) and isinstance(error, FileNotFoundError):
            raise LabError("is a link to nothing", where=str(path), mend="mend the link") from None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LabError(f"cannot be read: {reason}", where=str(path), mend=MEND) from None
    with open(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise LabError("is not a file", where=str(path), mend=MEND)
        if about.st_size > LARGEST:
            raise LabError(
                f"has {about.st_size / 2**20:.0f} MB; at most {LARGEST >> 20} MB are read",
                where=str(path),
                mend="keep the rows of one campaign",
            )
        try:
            return file.read()
        except OSError as error:
            raise LabError(f"cannot be read: {error.strerror}", where=str(path), mend=MEND) from None
