"""What old jobs left in the bucket and nobody reads any more. Results that save others money stay."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from autolab.hub.connection import explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DAY = 24 * 3600.0
LEAST_DAYS = 2  # a job may wait and run for a day, and its bundle must be there
FOLDERS = ("bundles", "out", "runner")
AT_ONCE = 500  # deletions in one request


def stale_files(api: HfApi, bucket: str, days: float) -> dict[str, int]:
    """Path and bytes of the bundles, outputs and runners that were sent more than so many days ago."""
    from huggingface_hub import BucketFile

    before = time.time() - DAY * max(days, LEAST_DAYS)
    with explained(f"bucket {bucket}"):
        files = [
            entry
            for folder in FOLDERS
            for entry in api.list_bucket_tree(bucket, f"{folder}/", recursive=True)
            if isinstance(entry, BucketFile)
        ]
    return {
        file.path: file.size
        for file in files
        if (sent := file.uploaded_at or file.mtime) is not None and sent.timestamp() < before
    }


def remove_files(api: HfApi, bucket: str, paths: list[str]) -> None:
    """Delete files of a bucket. A runner that is still needed is sent again by the next campaign."""
    for start in range(0, len(paths), AT_ONCE):
        with explained(f"bucket {bucket}"):
            api.batch_bucket_files(bucket, delete=paths[start : start + AT_ONCE])
