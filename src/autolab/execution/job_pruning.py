"""What old jobs left in the bucket and nobody reads any more. Results that save others money stay."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from autolab.execution.job_store import bundle_folder, runner_files
from autolab.hub.connection import explained
from autolab.ledger.jobs import CloudJob

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DAY = 24 * 3600.0
LEAST_DAYS = 2  # a job may wait and run for a day, and its bundle must be there
FOLDERS = ("bundles", "out", "runner")
AT_ONCE = 500  # deletions in one request


def stale_files(api: HfApi, bucket: str, days: float, jobs: Iterable[CloudJob]) -> dict[str, int]:
    """Path and bytes of the bundles, outputs and runners that were sent more than so many days ago, and that neither
    the runner of this version nor any of `jobs` needs."""
    from huggingface_hub import BucketFile

    before = time.time() - DAY * max(days, LEAST_DAYS)
    with explained(f"bucket {bucket}"):
        files = [
            entry
            for folder in FOLDERS
            for entry in api.list_bucket_tree(bucket, f"{folder}/", recursive=True)
            if isinstance(entry, BucketFile)
        ]
    needed = [runner_files()[0] + "/"]
    for job in jobs:
        needed += [bundle_folder(job.bundle) + "/", f"out/{job.ticket}/"]
    return {
        file.path: file.size
        for file in files
        if (sent := file.uploaded_at or file.mtime) is not None
        and sent.timestamp() < before
        and not file.path.startswith(tuple(needed))
    }


def remove_files(api: HfApi, bucket: str, paths: list[str]) -> None:
    """Delete files of a bucket. Raises LabError."""
    for start in range(0, len(paths), AT_ONCE):
        with explained(f"bucket {bucket}"):
            api.batch_bucket_files(bucket, delete=paths[start : start + AT_ONCE])
