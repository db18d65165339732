"""Which table this is, by its header; and which of its rows ran the same code, if only their descriptions tell."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

from autolab.errors import LabError
from autolab.ledger.imports.dag import is_dag, read_dag
from autolab.ledger.imports.files import MEND, text_of
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.karpathy import is_karpathy, read_karpathy
from autolab.ledger.imports.multiautoresearch import is_multiautoresearch, read_multiautoresearch
from autolab.ledger.imports.own import is_own, read_own
from autolab.ledger.imports.specialists import is_specialists, read_specialists
from autolab.ledger.imports.table import quoted, table_of
from autolab.ledger.views import TABLE

TABLES = (TABLE, "results.tsv", "research/results.tsv", "pre-training/research/results.tsv", "tree.tsv")
TREES = (
    "dag.json", "live/dag.json", "research/live/dag.json",
    "dag.seed.json", "reference/dag.seed.json", "research/reference/dag.seed.json",
)  # fmt: skip


def read_results(
    path: Path, *, metric: str | None = None, direction: str | None = None, campaign: str | None = None
) -> ImportedCampaign:
    """The campaign that a file holds, or the first table that is found in a directory.

    `metric` is the column of the score where the format leaves it open, `direction` "minimize" or "maximize" where
    the metric's name does not say, `campaign` which one is meant of our own table. Whatever is wrong with rows is
    in the problems. Raises LabError for what is no such table: absent, a link to nothing, empty, binary, larger than
    200 MB, of another format, without a row; and for a metric, direction or campaign that does not fit it.
    """
    path = _in_directory(path) if os.path.isdir(path) else path
    text = text_of(path)
    if text.lstrip()[0] in "[{":
        return _read_json(path, text, metric, direction)
    table = table_of(text)
    if not any(known(table.header) for known in (is_own, is_multiautoresearch, is_specialists, is_karpathy)):
        raise LabError(f"is none of the tables that are known; its header is {quoted(' '.join(table.header))}",
                       where=str(path), mend=MEND)  # fmt: skip
    if not table.rows:
        raise LabError("has a header and no rows", where=str(path), mend="run some trials first")
    if not table.tabular and not is_karpathy(table.header):
        raise LabError("has spaces between its columns", where=str(path), mend="write it with tabs")
    if is_own(table.header):
        return read_own(path, table, metric=metric, direction=direction, campaign=campaign)
    if campaign is not None:
        raise LabError("does not name its campaigns", where=str(path), mend="leave --campaign out")
    if is_multiautoresearch(table.header):
        return read_multiautoresearch(path, table, metric=metric, direction=direction)
    if is_specialists(table.header):
        return read_specialists(path, table, metric=metric, direction=direction)
    return read_karpathy(path, table, metric=metric, direction=direction)


def group_repeats(campaign: ImportedCampaign, pattern: str) -> ImportedCampaign:
    """The campaign with one program for all trials whose description the pattern matches from end to end.

    With named groups in the pattern, as in `(?P<code>best\\d+)[_ ]rep\\d+`, one for each text of them. Programs that
    were known to be the same stay so. Raises LabError for a pattern that is invalid, or matches no description.
    """
    try:
        regex = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise LabError(
            f"{pattern!r} is no regular expression: {error}", mend="--repeats 'best64[_ ]rep[0-9]+'"
        ) from None
    matches = {trial.id: match for trial in campaign.trials if (match := regex.fullmatch(trial.description))}
    if not matches:
        raise LabError(
            f"{pattern!r} matches none of {len(campaign.trials)} descriptions",
            where=campaign.source,
            mend="it must match a description from its first letter to its last",
        )
    named: dict[tuple[tuple[str, str | None], ...], str] = {}
    program: dict[str, str] = {}  # of each trial that matches
    same: dict[str, str] = {}  # the new name of a program that such a trial ran
    for trial in campaign.trials:
        if trial.id in matches:
            key = tuple(matches[trial.id].groupdict().items())
            own = same.get(trial.program) if trial.program else None
            program[trial.id] = named.setdefault(key, own or trial.program or f"repeats of {trial.id}")
            if trial.program:
                same.setdefault(trial.program, program[trial.id])

    def grouped(trial: ImportedTrial) -> ImportedTrial:
        new = program.get(trial.id) or same.get(trial.program, trial.program)
        return dataclasses.replace(trial, program=new)

    return dataclasses.replace(campaign, trials=tuple(grouped(trial) for trial in campaign.trials))


def _in_directory(directory: Path) -> Path:
    found = [directory / name for name in (*TABLES, *TREES) if os.path.isfile(directory / name)]
    if not found:
        raise LabError(
            "is a directory without a results.tsv, tree.tsv or dag.json", where=str(directory), mend=MEND
        )
    return found[0]


def _read_json(path: Path, text: str, metric: str | None, direction: str | None) -> ImportedCampaign:
    try:
        content = json.loads(text)
        if not is_dag(content):
            raise LabError("is JSON, but no list of runs with a hash", where=str(path), mend=MEND)
        return read_dag(path, content, metric=metric, direction=direction)
    except (ValueError, RecursionError) as error:
        raise LabError(f"is neither a table nor valid JSON: {error}", where=str(path), mend=MEND) from None
