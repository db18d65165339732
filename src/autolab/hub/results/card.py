"""The dataset card of published results: front matter for the viewer and for `load_dataset`, and a summary."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from autolab.ledger.naming import lab_and_place
from autolab.ledger.records import PROMOTED
from autolab.ledger.views import COLUMNS, MASTER, TABLE

CARD = "README.md"
PAGE = "report.html"
_NUMBERS = {
    "score": "float64", "score_ci_low": "float64", "score_ci_high": "float64", "delta_vs_master": "float64",
    "measurements": "int64", "train_seconds": "float64", "train_tokens": "int64", "peak_memory_mb": "float64",
    "cost_usd": "float64", "tokens": "int64",
}  # fmt: skip
# Every column has its type from here: guessed from their content, an id such as 12345678e9012345 would be a number.
_HEAD = """\
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
  keep_default_na: false
  na_values: [""]
dataset_info:
  config_name: default
  features:
{features}
---
<!-- Written by `autolab publish`, which replaces it whole. -->
# Autolab results

One row for each trial: what was proposed, what was measured, what became of it. Failed trials have no score.

| campaign | lab | metric | trials | promotions | last promoted, as it was then |
|---|---|---|--:|--:|---|
{campaigns}
{figures}
## Load

```python
from datasets import load_dataset

trials = load_dataset("{repo}", split="train")
```

## Check

In a lab, `autolab pull {repo}` adds these trials to its own ledger and table. In the lab that a trial is of,
`autolab replay TRIAL` measures it again and says whether the digits are the same. Anywhere else,
`git apply patches/TRIAL.patch` on its parent makes its program; scores compare only where the task, its evaluator,
the data, the budget and the class of machine are the same.

## Files

- `{table}`: the table, in the order in which the trials finished.
- `{master}`: the newest master of all labs, its files in full, its state and interval as they are seen now, and the way
  to it with every promotion that was taken back; `masters/` has one a campaign.
- `patches/`: what each measured trial changed in its parent.
- `trials/`: everything about every trial, as `autolab pull` reads it. These files never change.
- `figures/`: a folder for each campaign: its report, one page that needs nothing but a browser (download it), and its
  pictures as PNG and SVG.
"""


def card(table: str, repo: str, figures: Collection[str] = ()) -> str:
    """The card of a table; `figures` are the repo's pictures and pages. The same table gives the same card."""
    campaigns: dict[str, list[dict[str, str]]] = {}
    for line in table.split("\n")[1:-1]:
        row = dict(zip(COLUMNS, line.split("\t"), strict=True))
        campaigns.setdefault(row["campaign"], []).append(row)
    pictures = [f"![{_plain(name)}]({name})\n" for name in sorted(figures) if name.endswith(".png")]
    pages = [f"[{_plain(name)}]({name})\n" for name in sorted(figures) if name.endswith(f"/{PAGE}")]
    return _HEAD.format(
        table=TABLE,
        master=MASTER,
        repo=repo,
        features="\n".join(_features()),
        campaigns="\n".join(_summary(name, rows) for name, rows in sorted(campaigns.items())),
        figures="".join("\n" + shown for shown in (*pages, *pictures)),
    )


def _features() -> Iterator[str]:
    for column in COLUMNS:
        yield f"  - name: {column}\n    dtype: {_NUMBERS.get(column, 'string')}"


def _summary(campaign: str, rows: list[dict[str, str]]) -> str:
    promoted = [row for row in rows if row["verdict"] in PROMOTED]
    newest = ""
    if promoted:
        last = promoted[-1]
        newest = f"{_short(last['score'])} [{_short(last['score_ci_low'])}, {_short(last['score_ci_high'])}]"
        newest += f" {last['verdict']}"
    lab = lab_and_place(rows[0]["trial_id"])[0]
    counts = (str(len(rows)), str(max(0, len(promoted) - 1)))
    cells = (_plain(campaign), lab, _plain(rows[0]["metric"]), *counts, newest)
    return "| " + " | ".join(cells) + " |"


def _short(number: str) -> str:
    try:
        return f"{float(number):.5g}"
    except ValueError:
        return "-"


def _plain(text: str) -> str:
    """Text that means nothing in Markdown or HTML: names and numbers stay, the rest is a space."""
    return "".join(character if character.isalnum() or character in "-_.+/ " else " " for character in text)
