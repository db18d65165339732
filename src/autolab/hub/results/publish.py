"""Shared results on a dataset repo: table, masters, patches, trials, figures and a card in one commit, only when asked.

A repo may be shared by many labs. A lab writes its own rows and files and leaves those of others as they are, on top
of the commit that it looked at, so no row is ever lost.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.commits import commit, ensure_repo, read_remote, repo_files
from autolab.hub.connection import explained, need_token
from autolab.hub.leaks import Leak, find_leaks
from autolab.hub.results.card import CARD, card
from autolab.hub.results.parts import FOLDER, part_name, published
from autolab.ledger.exchange import newest_order, pack
from autolab.ledger.naming import TRIAL
from autolab.ledger.store import Ledger
from autolab.ledger.views import COLUMNS, HEADER, MASTER, TABLE, master_record, write_views
from autolab.program.patch import patch

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FIGURES = "figures"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_KEY = [COLUMNS.index(name) for name in ("finished_at", "trial_id")]


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    commit: str
    rows: int  # in the repo's table, of all labs
    new: int  # trials of this lab that were not there before
    private: bool
    changed: bool


def collect(
    ledger: Ledger, root: Path, repo: str = "OWNER/NAME", figures: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Every file that would be pushed to an empty repo, by path. Asks nothing of the Hub.

    Raises LabError if no trial has finished, or for secrets in the files.
    """
    rows, pictures = _own_rows(ledger, root), _pictures(figures)
    files, _ = _own_files(ledger, pictures, after=0)
    _refuse_secrets(ledger, root, files)
    return {**files, **_shared_files(merge_tables(rows, ""), repo, files, "", set(pictures))}


def push(
    api: HfApi,
    ledger: Ledger,
    root: Path,
    repo: str,
    *,
    public: bool = False,
    figures: Mapping[str, bytes] | None = None,
) -> Pushed:
    """Push this lab's results to a dataset repo, made if there is none; private unless `public`.

    `figures` are pictures and pages by their paths below figures/. Raises LabError for a secret in the files, a public
    repo without `public`, no token, no write access, a table of another version there.
    """
    rows, pictures = _own_rows(ledger, root), _pictures(figures)
    lab = ledger.meta("lab") or ""

    @cache
    def ours(after: int) -> tuple[dict[str, bytes], int]:
        files, trials = _own_files(ledger, pictures, after)
        _refuse_secrets(ledger, root, files)
        return files, trials

    private = _ready(api, repo, public=public, check=lambda: ours(0))
    parent, table, new = "", "", 0

    def build(revision: str) -> dict[str, bytes]:
        nonlocal parent, table, new
        parent = revision
        there = repo_files(api, repo, revision, FOLDER)
        files, new = ours(published(there, lab, newest_order(ledger)))
        table = merge_tables(rows, _read(api, repo, TABLE, revision))
        drawn = {*repo_files(api, repo, revision, FIGURES), *pictures}
        master = _read(api, repo, MASTER, revision)
        return {**files, **_shared_files(table, repo, files, master, drawn)}

    done, _ = commit(api, repo, f"trials of lab {lab}", build)
    return Pushed(done, table.count("\n") - 1, new, private, done != parent)


def _ready(api: HfApi, repo: str, *, public: bool, check: Any) -> bool:
    """Make sure that the repo is there and may be written to as asked; says whether it is private."""
    need_token()
    with explained(f"repo {repo}"):
        there = api.repo_exists(repo, repo_type="dataset")
        private = bool(api.dataset_info(repo).private) if there else False
    if not there:
        check()  # nothing is made for what is refused anyway
        private = ensure_repo(api, repo, private=not public)
    if not private and not public:
        raise LabError("is public", where=f"repo {repo}", mend="--public, if everybody may read the results")
    return private


def _read(api: HfApi, repo: str, path: str, revision: str) -> str:
    """A text file of a revision; empty if there is none. Somebody else may have put anything there."""
    with tempfile.TemporaryDirectory(prefix="autolab-publish-") as scratch:
        found = read_remote(api, repo, path, revision, Path(scratch))
        return found.read_bytes().decode("utf-8", "replace") if found else ""


# what is pushed ---------------------------------------------------------------------------------------


def _own_rows(ledger: Ledger, root: Path) -> list[str]:
    """This lab's rows of the table, from views that are brought up to date first."""
    write_views(ledger, root)
    own = f"{ledger.meta('lab')}-"
    with open(root / TABLE, encoding="utf-8", newline="\n") as table:
        rows = [line.removesuffix("\n") for line in table if line.startswith(own)]
    if not rows:
        raise LabError("no trial has finished yet", where=str(root), mend="publish later")
    return rows


def _pictures(figures: Mapping[str, bytes] | None) -> dict[str, bytes]:
    return {f"{FIGURES}/{name}": content for name, content in (figures or {}).items()}


def _own_files(ledger: Ledger, pictures: Mapping[str, bytes], after: int) -> tuple[dict[str, bytes], int]:
    """The files that no other lab writes, with parts and patches of the trials past finish order `after`, and how many
    such trials there are."""
    files, trials = dict(pictures), 0
    for campaign in ledger.campaigns():
        if ledger.newest_promotion(campaign.id) is not None:
            record = json.dumps(master_record(ledger, campaign.id), indent=2, ensure_ascii=False)
            files[f"masters/{campaign.id}.json"] = f"{record}\n".encode("utf-8", "replace")
    lab = ledger.meta("lab") or ""
    for part in pack(ledger, after):
        files[part_name(lab, part.first, part.last)] = part.content
        trials += len(part.trials)
        for trial in part.trials:
            if trial.program and trial.parent_program and ledger.measurements(trial.number):
                text = patch(ledger.program(trial.parent_program), ledger.program(trial.program))
                files[f"patches/{trial.id}.patch"] = text.encode("utf-8", "replace")
    return files, trials


def _shared_files(
    table: str, repo: str, ours: Mapping[str, bytes], their_master: str, figures: set[str]
) -> dict[str, bytes]:
    """The files that all labs of a repo write: the same trials give the same bytes, whoever pushes last."""
    files = {TABLE: table.encode(), CARD: card(table, repo, figures).encode()}
    masters = [content.decode() for name, content in ours.items() if name.startswith("masters/")]
    newest = max([*masters, their_master], key=_promoted_at)
    return files | ({MASTER: newest.encode()} if newest else {})


def _promoted_at(master: str) -> tuple[str, str]:
    """When the master of such a file was promoted, and its trial; empty for what is no such file."""
    try:
        record = json.loads(master)
        return str(record["promoted_at"]), str(record["trial"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", ""


def merge_tables(ours: list[str], theirs: str) -> str:
    """The rows of a repo's table and ours, each trial once, in the order in which they finished.

    Raises LabError if their table is damaged or of another version.
    """
    rows: dict[str, tuple[str, str]] = {}
    header, *lines = theirs.split("\n") if theirs else [HEADER.rstrip("\n")]
    if header + "\n" != HEADER:
        raise LabError("is of another version of Autolab", where=TABLE, mend="publish to another repo")
    for number, line in enumerate([*filter(None, lines), *ours], start=2):
        cells = line.split("\t")
        if len(cells) != len(COLUMNS) or not re.match(TRIAL, cells[0]) or not _TIME.fullmatch(cells[_KEY[0]]):
            raise LabError(
                "has a damaged row", where=f"{TABLE} line {number}", mend="publish to another repo"
            )
        rows[cells[0]] = cells[_KEY[0]], line
    ordered = sorted((at, trial, line) for trial, (at, line) in rows.items())
    return HEADER + "".join(line + "\n" for *_, line in ordered)


# secrets ----------------------------------------------------------------------------------------------


def _refuse_secrets(ledger: Ledger, root: Path, files: Mapping[str, bytes]) -> None:
    """Raise LabError that says where secrets are, and never what they are."""
    own = f"{ledger.meta('lab')}-"
    lines = (root / TABLE).read_text(encoding="utf-8").split("\n")
    # Rows of other labs are in the same file, but are not pushed.
    leaks = find_leaks(TABLE, "\n".join(line if line.startswith(own) else "" for line in lines))
    for name, content in sorted(files.items()):
        text = content.decode("utf-8", "replace")
        leaks += _part_leaks(name, text) if name.startswith(FOLDER) else find_leaks(name, text)
    refuse_leaks(leaks)


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Raise LabError that says where secrets are, if there are any."""
    if leaks:
        more = f" and {len(leaks) - 3} more" if len(leaks) > 3 else ""
        raise LabError(
            "holds secrets: " + "; ".join(str(leak) for leak in leaks[:3]) + more,
            where="what would be pushed",
            mend="revoke those tokens; nothing is pushed while they are there",
        )


def _part_leaks(name: str, text: str) -> list[Leak]:
    """Secrets in a part, looked for in what its lines say: in JSON a quote or a backslash looks different."""
    facts = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    return leaks_in(name, [(f"{fact['kind']} {fact['id']}", fact) for fact in facts])


def leaks_in(name: str, values: Sequence[tuple[str, Any]]) -> list[Leak]:
    """Secrets in what (what it is, JSON) pairs of a file say, each of them one line."""
    said = "\n".join(" ".join(" ".join(_texts(value)).split()) for _, value in values)
    return [
        Leak(f"{name} ({values[leak.line - 1][0]})", leak.line, leak.kind) for leak in find_leaks(name, said)
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
