"""Where a dataset repo keeps the parts that labs tell each other: trials/<lab>-<first>-<last>.jsonl.

The name says whose trials, and which of its finished ones: so a lab sees in a listing what it has published, and two
labs never write the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FOLDER = "trials"
_NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{4}}|[0-9a-f]{{6}})-([0-9]{{6,12}})-([0-9]{{6,12}})\.jsonl")


def part_name(lab: str, first: int, last: int) -> str:
    """The path of a part."""
    return f"{FOLDER}/{lab}-{first:06d}-{last:06d}.jsonl"


def is_part(path: str) -> bool:
    """Is this the path of a part?"""
    return _NAME.fullmatch(path) is not None


def published(paths: Iterable[str], lab: str) -> int:
    """The last finish order of a lab that the parts among these paths hold; 0 if none."""
    found = [_NAME.fullmatch(path) for path in paths]
    return max((int(match[3]) for match in found if match and match[1] == lab), default=0)
