"""The only process that imports Trackio: shows the mirror on 127.0.0.1, or copies it to a private Space.

Started by `viewer.py`, with an environment that is meant for it. Says one JSON object on standard output and nothing of
what Trackio prints.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from autolab.errors import LabError


def take_in() -> None:
    """Take in what waits in the inbox, before anybody else in this process uses Trackio."""
    from trackio import fragments
    from trackio.sqlite_storage import SQLiteStorage

    # For each run Trackio looks whether its database is up to date, which takes longer than the run. Once will do.
    known = SQLiteStorage.init_db
    SQLiteStorage.init_db = staticmethod(functools.cache(known))  # type: ignore[method-assign]
    try:
        fragments.import_inbox_dir()
    finally:
        SQLiteStorage.init_db = staticmethod(known)  # type: ignore[method-assign]


def serve() -> dict[str, str]:
    """Take in what waits in the inbox, then serve; returns where."""
    import trackio

    take_in()
    _, url, _, _ = trackio.show(
        host="127.0.0.1", share=False, mcp_server=False, open_browser=False, block_thread=False
    )
    return {"url": url}


def sync(seconds: float, space: str, projects: Sequence[str]) -> dict[str, str]:
    """Copy projects to a Space, which is made if there is none. Raises LabError if others could see it there."""
    from autolab.hub.connection import connect, explained

    api = connect(seconds=seconds)
    bucket = f"{space}-bucket"
    with explained(space):
        _refuse_public(api, space, bucket)
        import huggingface_hub
        import trackio

        # Trackio would give the Space the token of whoever makes it. A Space that only shows needs none.
        huggingface_hub.add_space_secret = lambda *_, **__: None
        take_in()
        for project in projects:
            trackio.sync(project, space_id=space, private=True, bucket_id=bucket, force=True)
    return {"url": f"{api.endpoint}/spaces/{space}"}


def _refuse_public(api: Any, space: str, bucket: str) -> None:
    from huggingface_hub.errors import BucketNotFoundError, RepositoryNotFoundError

    looks = (
        ("Space", space, api.space_info, RepositoryNotFoundError),
        ("bucket", bucket, api.bucket_info, BucketNotFoundError),
    )
    for what, name, look, missing in looks:
        try:
            found = look(name)
        except missing:
            continue
        if not found.private:
            raise LabError(
                f"that {what} is public",
                where=name,
                mend="make it private in its settings, or give another name",
            )


def main(words: Sequence[str]) -> None:
    """`serve`, until standard input ends; `sync SECONDS OWNER/NAME PROJECT…`."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Trackio prints the token with which one may write
    try:
        said = serve() if words[0] == "serve" else sync(float(words[1]), words[2], words[3:])
    except LabError as problem:
        said = {"what": problem.what, "where": problem.where, "mend": problem.mend}
    except Exception as error:  # whatever Trackio raises is one line for whoever started us
        said = {"what": f"{type(error).__name__}: {error}", "where": "Trackio", "mend": "see dashboard.log"}
    print(json.dumps(said), file=answers, flush=True)
    if words[0] == "serve" and "url" in said:
        sys.stdin.read()  # ends with whoever started us, however that ended
    os._exit(0 if "url" in said else 1)  # Trackio's threads may hang in a request


if __name__ == "__main__":
    main(sys.argv[1:])
