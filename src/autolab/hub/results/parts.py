"""Where a dataset repo keeps the parts that labs tell each other: trials/<lab>-<first>-<last>.jsonl.

The name says whose trials, and which of its finished ones: so a lab sees in a listing what it has published, and two
labs never write the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from autolab.errors import LabError

FOLDER = "trials"
_NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{4}}|[0-9a-f]{{6}})-([0-9]{{6,12}})-([0-9]{{6,12}})\.jsonl")


def part_name(lab: str, first: int, last: int) -> str:
    """The path of a part."""
    return f"{FOLDER}/{lab}-{first:06d}-{last:06d}.jsonl"


def is_part(path: str) -> bool:
    """Is this the path of a part?"""
    return _NAME.fullmatch(path) is not None


def published(paths: Iterable[str], lab: str, newest: int) -> int:
    """The last finish order of a lab that the parts among these paths hold; 0 if none.

    Raises LabError if that is past `newest`, the last one in the lab's ledger: its next trials would be left out.
    """
    last = 0
    for path in paths:
        match = _NAME.fullmatch(path)
        if match is None or match[1] != lab:
            continue
        last = max(last, int(match[3]))
        if last > newest:
            raise LabError(
                "holds trials of this lab that its ledger does not have",
                where=path,
                mend="was the ledger restored, or the directory copied? Publish to another repo",
            )
    return last
