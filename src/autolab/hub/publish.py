"""Shared results: the table, the live master and a card, in one commit on a dataset repo, and only when asked.

A repo may be shared by several labs. Every push merges its trials with those that are there, on top of the
commit that it looked at, so no row is ever lost.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.hub.commits import commit, ensure_repo, head, read_remote
from autolab.hub.leaks import Leak, find_leaks
from autolab.ledger.store import Ledger
from autolab.ledger.views import COLUMNS, HEADER, MASTER, TABLE, write_views

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
_CARD = """\
---
pretty_name: Autolab results
tags: [autolab]
configs:
- config_name: default
  data_files:
  - split: train
    path: {table}
  sep: "\\t"
  quoting: 3
---
# Autolab results

One row for each trial: what was proposed, what was measured, what became of it. Failed trials have no score.

| campaign | metric | trials | promotions | best confirmed |
|---|---|---|---|---|
{rows}

`{master}` holds the program that is best so far, in full, and the way to it. In its lab,
`autolab replay TRIAL` measures a trial again.

```python
from datasets import load_dataset

trials = load_dataset("{repo}", split="train")
```
"""


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    commit: str
    rows: int
    private: bool
    changed: bool


def collect(ledger: Ledger, root: Path, repo: str = "OWNER/NAME") -> dict[str, bytes]:
    """The files that would be pushed, by name, from views that are brought up to date first.

    Raises LabError if no trial has finished.
    """
    write_views(ledger, root)
    table = (root / TABLE).read_text(encoding="utf-8")
    if table == HEADER:
        raise LabError("no trial has finished yet", where=str(root), mend="publish later")
    merged = merge_tables(table, "")
    files = {TABLE: merged.encode(), CARD: card(merged, repo).encode()}
    if (root / MASTER).is_file():
        files[MASTER] = (root / MASTER).read_bytes()
    return files


def secrets(files: dict[str, bytes]) -> list[Leak]:
    """Every line of the files that holds what looks like a token or a key."""
    return [leak for name, content in sorted(files.items())
            for leak in find_leaks(name, content.decode("utf-8", "replace"))]  # fmt: skip


def push(api: HfApi, ledger: Ledger, root: Path, repo: str, *, public: bool = False) -> Pushed:
    """Push the results to a dataset repo, made if there is none; private unless `public`.

    Raises LabError for a secret in the files, a public repo without `public`, no token, no write access.
    """
    files = collect(ledger, root, repo)
    refuse_secrets(files)
    private = ensure_repo(api, repo, private=not public)
    if not private and not public:
        raise LabError("is public", where=f"repo {repo}", mend="--public, if everybody may read the results")
    before = head(api, repo)
    merged = ""

    def build(parent: str) -> dict[str, bytes]:
        nonlocal merged
        with tempfile.TemporaryDirectory(prefix="autolab-publish-") as scratch:
            found = read_remote(api, repo, TABLE, parent, Path(scratch))
            theirs = found.read_text(encoding="utf-8") if found else ""
        merged = merge_tables(files[TABLE].decode(), theirs)
        return {**files, TABLE: merged.encode(), CARD: card(merged, repo).encode()}

    rows = len(files[TABLE].splitlines()) - 1
    done, _ = commit(api, repo, f"{rows} trials", build)
    return Pushed(done, merged.count("\n") - 1, private, done != before)


def refuse_secrets(files: dict[str, bytes]) -> None:
    """Raise LabError that says where secrets are, and never what they are."""
    leaks = secrets(files)
    if leaks:
        more = f" and {len(leaks) - 3} more" if len(leaks) > 3 else ""
        raise LabError(
            "holds secrets: " + "; ".join(str(leak) for leak in leaks[:3]) + more,
            where="what would be pushed",
            mend="revoke those tokens; nothing is pushed while they are there",
        )


def merge_tables(ours: str, theirs: str) -> str:
    """The trials of both tables, each once, in the order in which they were opened.

    A trial is known by campaign, id and time; of one that both have, ours stands. Raises LabError if
    their table is of another version.
    """
    rows: dict[tuple[str, ...], str] = {}
    key = [COLUMNS.index(name) for name in ("created_at", "campaign", "trial_id")]
    for text in (theirs, ours):
        header, *lines = text.split("\n") if text else [HEADER.rstrip("\n")]
        if header + "\n" != HEADER:
            raise LabError("is of another version of Autolab", where=TABLE, mend="publish to another repo")
        for line in filter(None, lines):
            cells = line.split("\t")
            if len(cells) != len(COLUMNS):
                raise LabError("has a damaged row", where=TABLE, mend="publish to another repo")
            rows[tuple(cells[i] for i in key)] = line
    return HEADER + "".join(rows[name] + "\n" for name in sorted(rows))


def card(table: str, repo: str) -> str:
    """The dataset card of a table: front matter for the viewer, and a line for each campaign."""
    campaigns: dict[str, list[dict[str, str]]] = {}
    for line in table.splitlines()[1:]:
        row = dict(zip(COLUMNS, line.split("\t"), strict=True))
        campaigns.setdefault(row["campaign"], []).append(row)
    lines = []
    for name, rows in sorted(campaigns.items()):
        confirmed = [row for row in rows if row["verdict"] in ("confirmed", "certified")]
        best = confirmed[-1]["score"] if confirmed else ""
        cells = (name, rows[0]["metric"], str(len(rows)), str(max(0, len(confirmed) - 1)), best)
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return _CARD.format(table=TABLE, master=MASTER, repo=repo, rows="\n".join(lines))


def _plain(text: str) -> str:
    """Text that means nothing in Markdown or HTML: names and numbers stay, the rest is a space."""
    return "".join(character if character.isalnum() or character in "-_.+ " else " " for character in text)
