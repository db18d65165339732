"""What of the prepared data nobody needs any more: folders here, pointers and content in the repo.

Nothing is lost by it: `prepare` makes data anew. And the history of the repo keeps every commit, so that a job
goes on which mounts an earlier one.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.hub.commits import head, repo_files
from autolab.hub.connection import explained, need_token
from autolab.hub.data.holding import alone
from autolab.hub.data.sharing import (
    MANIFEST,
    is_folder_name,
    is_of,
    new_scratch,
    pointers,
    scratch_folders,
    transferring,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Stale:
    """A folder that can go: its bytes, and for how many days nobody has used it."""

    name: str
    size: int
    days: float


@dataclass(frozen=True)
class Unneeded:
    """Files of a repo that can go: their paths with their bytes, as of a commit."""

    repo: str
    revision: str
    files: dict[str, int]


def stale_folders(cache: Path, used: set[str], days: float) -> list[Stale]:
    """Prepared folders, whole or not, that are not in `used`, were not used for so many days, and nobody holds;
    and what interrupted transfers left behind."""
    if not cache.is_dir():
        return []
    found = []
    for path in sorted(cache.glob("*-*")):
        if is_folder_name(path.name) and path.is_dir() and path.name not in used:
            idle = (time.time() - _touched(path)) / DAY
            with alone(path) as ours:
                if ours and idle >= days:
                    found.append(Stale(path.name, _size(path), idle))
    with contextlib.suppress(LabError), transferring(cache):
        found += [Stale(path.name, _size(path), 0.0) for path in scratch_folders(cache)]
    return found


def remove_folders(cache: Path, stale: list[Stale]) -> list[Stale]:
    """Remove them, each at once: out of its place first, then from the disk. Gives those that went; what somebody
    has begun to use meanwhile stays. Raises LabError while a transfer is under way."""
    gone = []
    with transferring(cache):
        for item in stale:
            path = cache / item.name
            if not is_folder_name(item.name):
                shutil.rmtree(path, ignore_errors=True)
                gone.append(item)
                continue
            with alone(path) as ours:
                if ours and path.is_dir():
                    scratch = new_scratch(cache, item.name)
                    path.rename(scratch / item.name)
                    shutil.rmtree(scratch)
                    gone.append(item)
    return gone


def unneeded_files(api: HfApi, repo: str, task: str, used: set[str], days: float) -> Unneeded:
    """What can go from a repo: pointers of the task's folders that are not in `used` and were sent so many days ago,
    pointers to content that is not there, and content that no other pointer names. Raises LabError."""
    revision = head(api, repo)
    files = {path: file.size for path, file in repo_files(api, repo, revision).items()}
    known = pointers(api, repo, revision)
    latest = time.time() - days * DAY
    kept = {
        name: pointer
        for name, pointer in known.items()
        if f"content/{pointer.content}/{MANIFEST}" in files
        and (name in used or not is_of(name, task) or pointer.sent_at > latest)
    }
    needed = {pointer.content for pointer in kept.values()}
    gone = {f"folders/{name}.json" for name in set(known) - set(kept)}
    gone |= {path for path in files if path.startswith("content/") and path.split("/")[1] not in needed}
    return Unneeded(repo, revision, {path: files[path] for path in sorted(gone)})


def remove_files(api: HfApi, unneeded: Unneeded) -> str:
    """Delete them in one commit, and give that. Raises LabError if the repo has changed since they were listed."""
    from huggingface_hub import CommitOperationDelete

    need_token()
    with explained(f"repo {unneeded.repo}"):
        done = api.create_commit(
            unneeded.repo,
            [CommitOperationDelete(path) for path in unneeded.files],
            commit_message="Prepared data that nobody needs any more",
            repo_type="dataset",
            parent_commit=unneeded.revision,
        )
    return str(done.oid)


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, folder / MANIFEST) if path.exists())


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
