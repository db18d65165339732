"""Commits that lose nothing: all files at once, on top of what was looked at, again if somebody was quicker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.hub.connection import Unavailable, explained, need_token, status_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TRIES = 24  # of many labs on one repo, one gets through each time
FAILURES = 8


def ensure_repo(api: HfApi, repo: str, *, private: bool) -> bool:
    """Make a dataset repo if there is none; says whether it is private. Raises LabError without a token."""
    need_token()
    with explained(f"repo {repo}"):
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        return bool(api.dataset_info(repo).private)


def head(api: HfApi, repo: str) -> str:
    """The newest commit of a dataset repo. Raises LabError if there is no such repo."""
    with explained(f"repo {repo}"):
        return str(api.dataset_info(repo).sha)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repo. Large ones are listed with their SHA-256; of small ones it is empty.

    `blob` is git's name for the content: another content has another name.
    """

    size: int
    sha256: str
    blob: str


def repo_files(api: HfApi, repo: str, revision: str, folder: str = "") -> dict[str, RemoteFile]:
    """Every file of a revision below a folder, by its path."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with explained(f"repo {repo}"):
        try:
            found = list(api.list_repo_tree(repo, folder or None, recursive=True, revision=revision,
                                            repo_type="dataset"))  # fmt: skip
        except RemoteEntryNotFoundError:
            return {}
    files = [item for item in found if isinstance(item, RepoFile)]
    return {
        file.path: RemoteFile(file.size, file.lfs.sha256 if file.lfs else "", file.blob_id) for file in files
    }


def read_remote(api: HfApi, repo: str, path: str, revision: str, into: Path) -> Path | None:
    """Fetch one file of a revision into a folder; None if the revision does not have it."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with explained(f"repo {repo}"):
        try:
            return Path(
                api.hf_hub_download(repo, path, repo_type="dataset", revision=revision, local_dir=into)
            )
        except RemoteEntryNotFoundError:
            return None


def commit(
    api: HfApi, repo: str, message: str, build: Callable[[str], Mapping[str, bytes | Path]]
) -> tuple[str, int]:
    """Commit the files that `build` gives for the newest revision, at once; gives the commit and how many tries.

    Another commit in between is answered by building again on top of it. The Hub ignores files that are
    as they were; if all are, no commit is made. Raises Unavailable when others are quicker every time.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    failed = 0
    for attempt in range(1, TRIES + 1):
        parent = head(api, repo)
        files = build(parent)
        operations = [
            CommitOperationAdd(path, str(content) if isinstance(content, Path) else content)
            for path, content in sorted(files.items())
        ]
        with explained(f"repo {repo}"):
            try:
                done = api.create_commit(
                    repo, operations, commit_message=message, repo_type="dataset", parent_commit=parent
                )
                return str(done.oid), attempt
            except HfHubHTTPError as error:
                # After a 5xx the commit may be there; then the next try finds nothing to change.
                if status_of(error) != 412 and status_of(error) < 500:
                    raise
                failed += status_of(error) >= 500
                if failed == FAILURES:
                    raise
        time.sleep(random.uniform(0.0, min(0.2 * attempt, 2.0)))  # or those who collided collide again
    raise Unavailable("others keep changing it", where=f"repo {repo}", mend="try again") from None
