"""Other labs' trials from a dataset repo into this lab's ledger: all that is new there, or nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.hub.commits import RemoteFile, read_remote, repo_files
from autolab.hub.connection import explained
from autolab.hub.results.parts import FOLDER, is_part, part_name
from autolab.ledger.exchange import merge
from autolab.ledger.facts import Part, read_part
from autolab.ledger.store import Ledger
from autolab.ledger.views import write_views

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PART_BYTES = 64 << 20
MOST_PARTS = 20_000


@dataclass(frozen=True)
class Pulled:
    """What a pull brought."""

    commit: str
    new: int
    labs: int  # how many the new ones are of
    known: int


def pull(api: HfApi, ledger: Ledger, root: Path, repo: str, revision: str | None = None) -> Pulled:
    """Add the trials that labs published in a repo to the ledger, and bring the views up to date.

    A part that was merged before is not fetched again. Raises LabError for a repo that is missing or holds no trials,
    for a part that is damaged, and for a trial that says something else under a known name; nothing is merged then.
    """
    subject = f"repo {repo}"
    with explained(subject):
        found = str(api.dataset_info(repo, revision=revision).sha)
    there = {path: file for path, file in repo_files(api, repo, found, FOLDER).items() if is_part(path)}
    if not there:
        raise LabError(
            "holds no trials of any lab",
            where=subject,
            mend="`autolab publish` puts them there; check the name",
        )
    if len(there) > MOST_PARTS:
        raise LabError(f"holds {len(there)} parts", where=subject, mend=f"at most {MOST_PARTS} are read")
    before = _merged_before(ledger, repo)
    new = {path: file for path, file in there.items() if before.get(path, ("", 0))[0] != file.blob}
    parts = _fetch(api, repo, found, new)
    with ledger.transaction():
        done = merge(ledger, parts.values())
        noted = {path: (there[path].blob, len(part.trials)) for path, part in parts.items()}
        ledger.set_meta(f"pulled {repo}", json.dumps({**before, **noted}))
    write_views(ledger, root)
    known = sum(trials for path, (_, trials) in before.items() if path in there and path not in new)
    return Pulled(found, done.new, done.labs, known + done.known)


def _merged_before(ledger: Ledger, repo: str) -> dict[str, tuple[str, int]]:
    """Of each part of a repo that was merged: the Hub's name of its content, and how many trials it holds."""
    noted = json.loads(ledger.meta(f"pulled {repo}") or "{}")
    return {path: (blob, trials) for path, (blob, trials) in noted.items()}


def _fetch(api: HfApi, repo: str, revision: str, wanted: Mapping[str, RemoteFile]) -> dict[str, Part]:
    """The parts, checked one by one as they come."""
    parts = {}
    for path, listed in sorted(wanted.items()):
        where = f"repo {repo} {path}"
        if listed.size > PART_BYTES:
            raise LabError(f"is larger than {PART_BYTES >> 20} MB", where=where, mend="nothing was merged")
        with tempfile.TemporaryDirectory(prefix="autolab-pull-") as scratch:
            file = read_remote(api, repo, path, revision, Path(scratch))
            if file is None:
                raise LabError("was taken away", where=where, mend="pull again")
            part = read_part(file.read_bytes(), where)
            if part_name(part.lab, part.first, part.last) != path:
                raise LabError(
                    f"is of lab {part.lab}, trials {part.first} to {part.last}, whatever its name says",
                    where=where,
                    mend="nothing was merged; delete that file from the repo",
                )
            parts[path] = part
    return parts
