"""The tables of other loops are read whole: every row is a trial or a problem that names its line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import foreign_ledgers as foreign
import pytest
from foreign_ledgers import code
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from publishing import finish, finish_one, results

from autolab.errors import LabError
from autolab.ledger.imports import files
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.metrics import direction_of, never
from autolab.ledger.imports.reading import group_repeats, read_results
from autolab.ledger.records import Status
from autolab.ledger.views import COLUMNS, TABLE, write_views

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
NIGHT = [
    ("a1b2c3d", 0.9979, "keep", "baseline"),
    ("b2c3d4e", 0.9932, "keep", "increase LR to 0.04"),
    ("c3d4e5f", 1.005, "discard", "switch to GeLU activation"),
    ("d4e5f6a", 0.0, "crash", "double model width (OOM)"),
    ("e5f6a7b", 0.9921, "keep", "warmdown 0.3"),
]


def texts(campaign: ImportedCampaign) -> list[tuple[int, str]]:
    """The problems, short."""
    return [(problem.line, problem.text) for problem in campaign.problems]


def said(campaign: ImportedCampaign, line: int) -> str:
    """All that is said of one line."""
    return "; ".join(problem.text for problem in campaign.problems if problem.line == line)


def written(path: Path, *lines: str, end: str = "\n") -> Path:
    """A file of these lines."""
    path.write_bytes((end.join(lines) + end).encode())
    return path


def alone_of(path: Path) -> Path:
    """The table without what is kept beside it."""
    folder = path.parents[1] / "somewhere" / "else"
    folder.mkdir(parents=True)
    return path.rename(folder / path.name)


# karpathy/autoresearch


def test_a_night_of_karpathy_is_a_campaign(tmp_path: Path) -> None:
    night = read_results(foreign.karpathy(tmp_path / "results.tsv", NIGHT))
    assert (night.format, night.metric, night.direction, night.rows) == ("karpathy", "val_bpb", "minimize", 5)
    assert [trial.score for trial in night.trials] == [0.9979, 0.9932, 1.005, None, 0.9921]
    assert [trial.parent for trial in night.trials] == [None, "a1b2c3d", "b2c3d4e", "b2c3d4e", "b2c3d4e"]
    assert [trial.id for trial in night.trials if trial.promoted] == ["a1b2c3d", "b2c3d4e", "e5f6a7b"]
    assert [(trial.order, trial.line) for trial in night.trials] == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert night.trials[1].program == "b2c3d4e"
    assert night.master == "e5f6a7b"
    assert night.problems == ()


def test_the_same_commit_with_the_same_description_is_a_repeat(tmp_path: Path) -> None:
    path = written(
        tmp_path / "results.tsv",
        HEADER,
        "a1\t0.9979\t44\tkeep\tbaseline",
        "a1\t0.9985\t44\tdiscard\tbaseline",
    )
    night = read_results(path)
    assert [(trial.id, trial.program) for trial in night.trials] == [("a1", "a1"), ("a1-2", "a1")]
    assert texts(night) == [(3, "measures the commit a1 again, as line 2 did")]


def test_the_commit_that_an_agent_went_back_to_does_not_name_its_code(tmp_path: Path) -> None:
    path = written(
        tmp_path / "results.tsv", HEADER, "a1\t0.9979\t44\tkeep\tbaseline", "a1\t1.2\t44\tdiscard\tno warm-up"
    )
    night = read_results(path)
    assert [(trial.id, trial.program) for trial in night.trials] == [("a1", "a1"), ("a1-2", "")]
    assert "taken as other code" in said(night, 3)


def test_a_score_that_no_run_gives_is_none_and_the_row_keeps_its_place(tmp_path: Path) -> None:
    path = written(
        tmp_path / "results.tsv", HEADER,
        "a1\t0.000000\t0.0\tkeep\tbaseline",
        "a2\t-1\t0.0\tdiscard\tnegative",
        "a3\tnan\t0.0\tdiscard\tnot a number",
        "a4\t0,97\t0.0\tdiscard\ta comma",
        "a5\t\t\tdiscard\tnothing",
        "a6\t1e999\t\tkeep\tendless",
        "a7\t0.99\t44.0\tcrash\tcrashed, and yet",
        "a8\t0.98\t44.0\tkeep\tgood",
    )  # fmt: skip
    night = read_results(path)
    assert [trial.score for trial in night.trials] == [None] * 7 + [0.98]
    assert [problem.line for problem in night.problems] == [2, 3, 4, 5, 6, 7, 8]
    assert night.trials[0].promoted  # as they say; that it cannot stand is for the audit to say
    assert night.trials[5].promoted
    assert "not a number" in said(night, 5)
    assert "not used" in said(night, 8)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + HEADER + "\r\na1\t0.9979\t44.0\tkeep\tbaseline of it\r\n",
        "\n\n" + HEADER.upper() + "\n\na1\t 0.9979 \t44.0\tKEEP\tbaseline of it",
        "commit val_bpb memory_gb status description\na1  0.9979   44.0  keep   baseline of it\n",
        HEADER + "\na1 0.9979 44.0 keep baseline of it\n",
        HEADER.replace("\t", ",") + "\na1,0.9979,44.0,keep,baseline of it\n",
        HEADER + '\n"a1"\t"0.9979"\t"44.0"\t"keep"\t"baseline of it"\n',
        HEADER + "\tbranch\na1\t0.9979\t44.0\tkeep\tbaseline of it\tmain\n",
        "commit\tval_bpb\tstatus\tdescription\na1\t0.9979\tkeep\tbaseline\tof\tit\n",
        HEADER.replace("\t", "\t").replace("\n", "") + "\ra1\t0.9979\t44.0\tkeep\tbaseline of it\r",
    ],
    ids=[
        "windows",
        "capitals",
        "spaces",
        "a row of spaces",
        "commas",
        "quotes",
        "more columns",
        "tabs",
        "old mac",
    ],
)
def test_tables_as_agents_write_them(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.tsv"
    path.write_bytes(content.encode())
    night = read_results(path)
    (trial,) = night.trials
    assert (trial.id, trial.score, trial.promoted) == ("a1", 0.9979, True)
    assert trial.description == "baseline of it"
    assert night.problems == ()


def test_what_powershell_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "results.tsv").write_bytes((HEADER + "\r\na1\t0.9\t1\tkeep\tb\r\n").encode("utf-16"))
    assert read_results(tmp_path).trials[0].score == 0.9


def test_bytes_that_are_not_utf8_cost_no_row(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_bytes(HEADER.encode() + b"\na1\t0.9\t1\tkeep\tcaf\xe9 \x1b[31m\n")
    (trial,) = read_results(path).trials
    assert trial.description == "caf\ufffd [31m"


def test_lines_that_are_no_rows_are_named(tmp_path: Path) -> None:
    row = "a1\t0.9979\t44.0\tkeep\tbaseline"
    path = written(
        tmp_path / "results.tsv", HEADER, row, HEADER, "", "```", row, "and so I went on to other things"
    )
    night = read_results(path)
    assert [trial.id for trial in night.trials] == ["a1"]
    assert texts(night) == [
        (3, "is the header again"),
        (5, 'is no row of this table: "```"'),
        (6, "says the same as line 2, and is not counted again"),
        (7, 'is no row of this table: "and so I went on to other things"'),
    ]
    assert night.rows == 5


def test_a_row_that_is_cut_off_in_its_score_has_none(tmp_path: Path) -> None:
    """0.9 can be the beginning of 0.97."""
    path = written(tmp_path / "results.tsv", "commit\tstatus\tval_bpb\tdescription", "a1\tkeep\t0.9")
    night = read_results(path)
    assert night.trials[0].score is None
    assert said(night, 2) == 'is cut off in its val_bpb: "0.9"'


def test_columns_that_are_missing_at_the_end_of_a_row_cost_nothing(tmp_path: Path) -> None:
    night = read_results(written(tmp_path / "results.tsv", HEADER, "a1\t0.9979\t44.0\tkeep"))
    assert night.trials[0].score == 0.9979
    assert night.problems == ()


def test_a_status_of_their_own_is_a_problem_and_its_score_is_kept(tmp_path: Path) -> None:
    night = read_results(
        written(tmp_path / "results.tsv", HEADER, "a1\t0.99\t44\tmaybe\tx", "\t0.99\t44\t\ty")
    )
    assert [(trial.score, trial.promoted) for trial in night.trials] == [(0.99, False), (None, False)]
    assert said(night, 2) == 'has the unknown status "maybe"'
    assert said(night, 3) == "has no status; has no id"


# multiautoresearch


def lab(**changes: Any) -> list[dict[str, Any]]:
    """A baseline, a better program measured twice, a worse one, one without a metric."""
    return [
        {"candidate_hash": code("base"), "val_bpb": 0.9979, "status": "legacy_seed", "promoted": True},
        {
            "candidate_hash": code("a"),
            "parent_hash": code("base"),
            "val_bpb": 0.9932,
            "promoted": True,
            **changes,
        },
        {"candidate_hash": code("a"), "parent_hash": code("base"), "val_bpb": 0.9939},
        {"candidate_hash": code("b"), "parent_hash": code("a"), "val_bpb": 1.01},
        {"candidate_hash": code("c"), "parent_hash": code("a"), "status": "missing_metric"},
    ]


def test_a_lab_of_multiautoresearch_is_a_campaign(tmp_path: Path) -> None:
    foreign.multiautoresearch(tmp_path, lab())
    campaign = read_results(tmp_path)
    assert (campaign.format, campaign.master, campaign.problems) == ("multiautoresearch", "job-2", ())
    assert [trial.score for trial in campaign.trials] == [0.9979, 0.9932, 0.9939, 1.01, None]
    assert [trial.parent for trial in campaign.trials] == [None, "job-1", "job-1", "job-2", "job-2"]
    assert [trial.promoted for trial in campaign.trials] == [True, True, False, False, False]
    assert campaign.trials[1].program == campaign.trials[2].program == code("a")
    assert [trial.host for trial in campaign.trials][:3] == ["NVIDIA-H100-80GB-HBM3"] * 2 + [""]


@pytest.mark.parametrize("bad", [-1, 0, float("-inf"), float("nan")])
def test_what_their_loop_promotes_by_mistake_has_no_score(tmp_path: Path, bad: float) -> None:
    foreign.multiautoresearch(tmp_path, lab(val_bpb=bad), master={"val_bpb": bad})
    campaign = read_results(tmp_path)
    assert campaign.trials[1].score is None
    assert campaign.trials[1].promoted
    assert [problem.line for problem in campaign.problems] == [3]


def test_rows_written_by_hand_keep_their_place(tmp_path: Path) -> None:
    rows = [*lab(), {"candidate_hash": "", "status": "failed", "hypothesis": "hung in its evaluation"}]
    foreign.multiautoresearch(tmp_path, rows)
    trial = read_results(tmp_path).trials[5]
    assert (trial.program, trial.score, trial.status) == ("", None, "failed")
    assert read_results(tmp_path).problems == ()


def test_a_promoted_row_without_a_hash_is_a_problem(tmp_path: Path) -> None:
    campaign = read_results(foreign.multiautoresearch(tmp_path, lab(candidate_hash="")))
    assert "is promoted, but has no candidate_hash" in said(campaign, 3)


def test_one_job_for_two_programs_is_a_problem(tmp_path: Path) -> None:
    rows = lab()
    rows[3]["job_id"] = "2"
    campaign = read_results(foreign.multiautoresearch(tmp_path, rows))
    assert "has the job of line 3, which ran other code" in said(campaign, 5)


@pytest.mark.parametrize(
    ("master", "problem"),
    [
        ({"hash": code("elsewhere")}, "master.json names"),
        ({"val_bpb": 0.961175}, "master.json has val_bpb 0.961175"),
        ({"val_bpb": None}, "master.json has no val_bpb"),
    ],
)
def test_a_master_that_is_not_the_one_of_the_table(
    tmp_path: Path, master: dict[str, Any], problem: str
) -> None:
    campaign = read_results(foreign.multiautoresearch(tmp_path, lab(), master=master))
    assert [problem.line for problem in campaign.problems] == [3]
    assert problem in said(campaign, 3)
    assert campaign.master == master.get("hash", "job-2")


def test_a_master_of_a_table_in_which_nothing_was_promoted(tmp_path: Path) -> None:
    path = foreign.multiautoresearch(tmp_path, lab())
    path.write_text(path.read_text().replace("true", "false"))
    (tmp_path / "research" / "live" / "dag.json").unlink()
    campaign = read_results(path)
    assert said(campaign, 0) == f'master.json names "{code("a")}", and no row was promoted'
    assert campaign.master == "job-3"


def test_a_seed_with_two_hashes_is_one_program(tmp_path: Path) -> None:
    rows = lab(parent_hash=code("old name"))
    rows[0]["candidate_hash"] = code("old name")
    rows = [rows[0], *({**row, "promoted": False} for row in rows[1:])]
    path = foreign.multiautoresearch(
        tmp_path, rows, master={"hash": code("base"), "legacy_hash": code("old name")}
    )
    campaign = read_results(path)
    assert campaign.trials[0].program == code("base")
    assert [trial.parent for trial in campaign.trials[1:3]] == ["job-1", "job-1"]
    assert campaign.master == "job-1"
    assert not [problem for problem in campaign.problems if "master.json" in problem.text]


def test_a_tree_that_tells_another_story_than_the_table(tmp_path: Path) -> None:
    entries = [
        foreign.dag_entry({"candidate_hash": code("base"), "val_bpb": 0.9979}, is_master=True),
        foreign.dag_entry({"candidate_hash": code("lost"), "val_bpb": 0.95}, is_master=True),
    ]
    campaign = read_results(foreign.multiautoresearch(tmp_path, lab(), dag=entries))
    assert "dag.json has 2 masters" in said(campaign, 0)
    assert f'"{code("lost")}" as promoted, and no row has' in said(campaign, 0)
    assert said(campaign, 3) == "is promoted, but not in dag.json"


def test_files_beside_the_table_may_be_broken_or_absent(tmp_path: Path) -> None:
    path = foreign.multiautoresearch(tmp_path, lab())
    (tmp_path / "research" / "live" / "master.json").write_text('{"hash": "9')
    (tmp_path / "research" / "live" / "dag.json").write_text("{}")
    campaign = read_results(path)
    assert "master.json beside it is not valid JSON" in said(campaign, 0)
    assert "dag.json beside it is no list" in said(campaign, 0)
    alone = read_results(alone_of(path))
    assert (alone.master, alone.problems) == ("job-2", ())


def test_a_parent_that_no_row_has_is_named_once(tmp_path: Path) -> None:
    rows = [{**row, "parent_hash": code("gone")} for row in lab()]
    campaign = read_results(alone_of(foreign.multiautoresearch(tmp_path, rows)))
    assert [trial.parent for trial in campaign.trials] == [code("gone")] * 5
    assert texts(campaign) == [
        (2, f'has the parent "{code("gone")}", which is no earlier row (nor is it for 4 more)')
    ]


# dag.json


def seed(count: int = 6) -> list[dict[str, Any]]:
    """Their seed: every run, of which the root, its child and a repeat of that child became master."""
    runs = [("root", "", "baseline", 0.9979), ("a", "root", "batch 2**18", 0.9869)]
    runs += [(f"r{n}", "a", f"best64{'_' if n % 2 else ' '}rep{n}", 0.963 + n / 10000) for n in range(count)]
    return [
        foreign.dag_entry(
            {"candidate_hash": code(name), "parent_hash": code(parent) if parent else "", "comment": message,
             "val_bpb": score, "created_at": foreign.clock(number)},
            platform="H100\n" * 8 if name == "a" else "H100", is_master=name == "r0", live=False,
        )
        for number, (name, parent, message, score) in enumerate(runs)
    ]  # fmt: skip


def test_the_seed_promoted_the_way_to_its_master(tmp_path: Path) -> None:
    campaign = read_results(foreign.dag(tmp_path / "dag.seed.json", seed()))
    assert (campaign.format, campaign.metric, campaign.problems) == ("dag", "val_bpb", ())
    assert [trial.id for trial in campaign.trials if trial.promoted] == [code("root"), code("a"), code("r0")]
    assert campaign.master == code("r0")
    assert [trial.host for trial in campaign.trials[:3]] == ["H100", "8 x H100", "H100"]
    assert len({trial.program for trial in campaign.trials}) == 8


def test_entries_that_are_not_in_the_order_of_time_are_put_in_it(tmp_path: Path) -> None:
    campaign = read_results(foreign.dag(tmp_path / "dag.seed.json", seed()[::-1]))
    assert [trial.description for trial in campaign.trials[:2]] == ["baseline", "batch 2**18"]
    assert [trial.line for trial in campaign.trials[:2]] == [8, 7]


def test_a_seed_without_a_master_takes_the_best_score_for_it(tmp_path: Path) -> None:
    entries = [{**entry, "is_master": False} for entry in seed()]
    campaign = read_results(foreign.dag(tmp_path / "dag.seed.json", entries))
    assert campaign.master == code("r0")
    assert "no entry says that it is" in said(campaign, 3)


def test_a_labs_own_tree_has_promoted_runs_only(tmp_path: Path) -> None:
    foreign.multiautoresearch(tmp_path, lab())
    campaign = read_results(tmp_path / "research" / "live")
    assert [(trial.id, trial.promoted) for trial in campaign.trials] == [
        (code("base"), True),
        (code("a"), True),
    ]
    assert (campaign.master, campaign.problems) == (code("a"), ())


def test_entries_that_are_none_and_masters_that_are_several_are_named(tmp_path: Path) -> None:
    entries = seed()
    broken: list[Any] = [*entries, "text", {"hash": ""}, entries[1], {**entries[2], "val_bpb": None}]
    broken += [{**entries[3], "hash": code("x"), "parent_hash": code("x"), "is_master": True}]
    campaign = read_results(foreign.dag(tmp_path / "dag.json", broken))
    assert [problem.line for problem in campaign.problems] == [9, 10, 11, 12, 12, 12, 13, 13]
    assert "names itself as its parent" in said(campaign, 13)
    assert campaign.rows == 13


# the specialist-agents release

PARAMETER_GOLF: list[dict[str, Any]] = [
    {"status": "keep", "score": 1.081},
    {"status": "keep", "score": 1.075, "parent_exp": "exp_0001", "specialist": "opt"},
    {"status": "discard", "score": 1.076, "parent_exp": "exp_0001"},
    {"status": "eval_budget_overrun", "score": 1.07, "parent_exp": "exp_0002"},
    {"status": "preflight_crash", "parent_exp": "exp_0002"},
    {"status": "keep", "score": 1.072, "parent_exp": "exp_0002"},
]


def test_a_run_of_specialists_is_a_campaign(tmp_path: Path) -> None:
    campaign = read_results(foreign.specialists(tmp_path / "results.tsv", PARAMETER_GOLF))
    assert (campaign.format, campaign.master, campaign.problems) == ("specialists", "exp_0006", ())
    assert [trial.score for trial in campaign.trials] == [1.081, 1.075, 1.076, None, None, 1.072]
    assert campaign.trials[5].parent == "exp_0002"
    assert {trial.program for trial in campaign.trials} == {""}


def test_a_tree_is_put_back_in_the_order_of_time(tmp_path: Path) -> None:
    path = foreign.tree(tmp_path / "tree.tsv", PARAMETER_GOLF)
    assert [line.split("\t")[2] for line in path.read_text().splitlines()[1:4]] == [
        "exp_0001",
        "exp_0002",
        "exp_0004",
    ]
    table = read_results(foreign.specialists(tmp_path / "results.tsv", PARAMETER_GOLF))
    assert [trial.id for trial in read_results(path).trials] == [trial.id for trial in table.trials]


def test_the_score_is_known_by_its_place_not_by_its_name(tmp_path: Path) -> None:
    """CIFAR's score is train_s, and so is another column."""
    rows = [{"status": "keep", "score": 26.356, "train_s": 99.0}]
    campaign = read_results(foreign.specialists(tmp_path / "results.tsv", rows, score="train_s"))
    assert (campaign.metric, campaign.direction, campaign.trials[0].score) == ("train_s", "minimize", 26.356)
    core = read_results(foreign.specialists(tmp_path / "core.tsv", rows, score="core"))
    assert core.direction == "maximize"


def test_truncated_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = foreign.specialists(tmp_path / "results.tsv", PARAMETER_GOLF)
    lines = path.read_text().splitlines()
    lines[2] = "\t".join(lines[2].split("\t")[:7])
    lines[3] = "\t".join(lines[3].split("\t")[:10])[:-2]
    lines[4] = lines[4].replace("eval_budget_overrun", "")
    campaign = read_results(written(path, *lines, "exp_00"))
    assert [trial.score for trial in campaign.trials] == [1.081, None, None, None, None, 1.072]
    assert texts(campaign) == [
        (3, "is cut off before its status"),
        (4, 'is cut off in its val_bpb: "1.0"'),
        (5, "has no status"),
        (8, 'is no row of this table: "exp_00"'),
    ]


def test_ids_that_occur_twice_and_parents_that_are_none(tmp_path: Path) -> None:
    rows = [{"exp_id": "x", **row} for row in PARAMETER_GOLF[:2]]
    rows[1]["parent_exp"] = "x-3"
    campaign = read_results(foreign.specialists(tmp_path / "results.tsv", [*rows, {**rows[0], "score": 2.0}]))
    assert [trial.id for trial in campaign.trials] == ["x", "x-2", "x-3"]
    assert said(campaign, 3) == 'has the id x, as line 2 has; names "x-3", which came later, as its parent'
    assert campaign.trials[1].parent is None


# our own


def test_our_own_table_is_read_too(tmp_path: Path) -> None:
    with results(tmp_path) as ledger:
        finish(ledger, 3)
        finish_one(ledger, status=Status.CRASH)
        write_views(ledger, tmp_path)
        trials = list(ledger.trials())
    campaign = read_results(tmp_path)
    assert (campaign.format, campaign.metric, campaign.problems) == ("autolab", "loss", ())
    assert [trial.id for trial in campaign.trials] == [trial.id for trial in trials]
    assert [trial.score for trial in campaign.trials] == [trial.score for trial in trials]
    assert [trial.promoted for trial in campaign.trials] == [True, True, True, False]
    assert campaign.trials[2].parent == campaign.trials[1].id
    assert campaign.master == trials[2].id


def test_one_of_several_campaigns_is_chosen_by_its_name(tmp_path: Path) -> None:
    verdicts = ("confirmed", "certified", "simplification", "provisional", "worse", "no_difference")
    rows = [
        {
            "trial_id": f"t-{number}",
            "verdict": verdict,
            "score": 1.0 - number / 100,
            "campaign": f"c-{number % 2}",
        }
        for number, verdict in enumerate(verdicts)
    ]
    path = foreign.own(tmp_path / TABLE, rows)
    with pytest.raises(LabError, match=r"holds 2 campaigns .--campaign c-0 or c-1"):
        read_results(path)
    assert [trial.promoted for trial in read_results(path, campaign="c-0").trials] == [True, True, False]
    assert [trial.promoted for trial in read_results(path, campaign="c-1").trials] == [True, False, False]
    with pytest.raises(LabError, match="has no campaign 'c-2'"):
        read_results(path, campaign="c-2")


# which way is better


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val_bpb", "minimize"), ("valLoss", "minimize"), ("val_rmse", "minimize"), ("train_s", "minimize"),
        ("p50_latency", "minimize"), ("step_ms", "minimize"), ("wait_s", "minimize"),
        ("accuracy", "maximize"), ("test_acc", "maximize"), ("CORE", "maximize"), ("eval_score", "maximize"),
        ("tokens_per_second_mean", "maximize"), ("tok/s", "maximize"), ("macro-F1", "maximize"),
    ],
)  # fmt: skip
def test_a_metrics_name_says_which_way_is_better(metric: str, direction: str) -> None:
    assert direction_of(metric, None, where=Path("results.tsv")) == direction


@pytest.mark.parametrize("metric", ["robustness_gap", "accuracy_loss", "performance"])
def test_a_metric_whose_name_says_nothing_or_both_needs_a_direction(tmp_path: Path, metric: str) -> None:
    path = foreign.karpathy(tmp_path / "results.tsv", NIGHT, metric=metric)
    with pytest.raises(LabError, match=r"results\.tsv: .*--direction minimize or --direction maximize"):
        read_results(path)
    assert read_results(path, direction="maximize").direction == "maximize"
    with pytest.raises(LabError, match="no direction 'up'"):
        read_results(path, direction="up")


def test_another_column_can_be_the_metric(tmp_path: Path) -> None:
    path = foreign.karpathy(tmp_path / "results.tsv", NIGHT)
    assert read_results(path, metric="memory_gb", direction="minimize").trials[0].score == 44.0
    with pytest.raises(
        LabError, match=r"has no column 'f1' .--metric with one of: commit, val_bpb, memory_gb"
    ):
        read_results(path, metric="f1")


def test_an_accuracy_of_zero_is_a_score() -> None:
    assert not never("accuracy", 0.0)
    assert not never("val_loss", -0.1)
    assert never("val_loss", 0.0)
    assert never("tok/s", 0.0)


# repeats


def test_repeats_are_one_program_if_the_caller_says_how_to_know_them(tmp_path: Path) -> None:
    campaign = read_results(foreign.dag(tmp_path / "dag.seed.json", seed()))
    grouped = group_repeats(campaign, r"best64[_ ]rep\d+")
    assert [trial.program for trial in grouped.trials[2:]] == [code("r0")] * 6
    assert grouped.trials[:2] == campaign.trials[:2]


def test_named_groups_tell_programs_apart_and_known_repeats_stay_together(tmp_path: Path) -> None:
    names = ["big rep1", "big rep2", "small rep1", "small rep2", "as big rep2"]
    rows = [
        {"candidate_hash": code(hash), "val_bpb": 0.99, "hypothesis": name}
        for hash, name in zip("abcdb", names, strict=True)
    ]
    campaign = read_results(foreign.multiautoresearch(tmp_path, rows))
    grouped = group_repeats(campaign, r"(?P<code>big|small) rep(\d+)")
    assert [trial.program for trial in grouped.trials] == [code(hash) for hash in "aacca"]


@pytest.mark.parametrize(
    ("pattern", "problem"), [("best(", "is no regular expression"), ("best", "matches none of 8")]
)
def test_a_pattern_that_finds_nothing_is_refused(tmp_path: Path, pattern: str, problem: str) -> None:
    campaign = read_results(foreign.dag(tmp_path / "dag.seed.json", seed()))
    with pytest.raises(LabError, match=problem):
        group_repeats(campaign, pattern)


# what is no table


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (HEADER.encode(), "has a header and no rows"),
        (b"name\tage\nx\t3\n", 'is none of the tables that are known; its header is "name age"'),
        (b"exp_id status val_bpb delta_vs_best\na keep 1 2\n", "has spaces between its columns"),
        (b"\x7fELF\x00\x00", "is binary"),
        (b"[1, 2", "is neither a table nor valid JSON"),
        (b"[1, 2]", "is JSON, but no list of runs"),
        (b'{"hash": "765a", "val_bpb": 0.96}', "is JSON, but no list of runs"),
        (b"[" * 100_000, "is neither a table nor valid JSON"),
        (b'[{"hash": "a", "core": 0.2}]', "has no entry with 'val_bpb' .--metric with one of: core, hash"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "results.tsv"
    path.write_bytes(content)
    with pytest.raises(LabError, match=problem) as refused:
        read_results(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert refused.value.mend


def test_what_is_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be read: No such file"):
        read_results(tmp_path / "gone.tsv")
    with pytest.raises(LabError, match="is a directory without a results"):
        read_results(tmp_path)
    (tmp_path / "results.tsv").symlink_to("elsewhere")
    with pytest.raises(LabError, match="is a link to nothing"):
        read_results(tmp_path / "results.tsv")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LabError, match="is not a file"):
        read_results(tmp_path / "pipe")
    with open(tmp_path / "big.tsv", "wb") as big:
        big.truncate(files.LARGEST + 1)
    with pytest.raises(LabError, match="at most 200 MB are read"):
        read_results(tmp_path / "big.tsv")


# whatever is in the file

HEADERS = [HEADER, HEADER.replace("\t", " "), HEADER.replace("\t", ",")]
HEADERS += [
    "\t".join(columns) for columns in (foreign.MULTIAUTORESEARCH, foreign.SPECIALISTS, foreign.TREE, COLUMNS)
]
WORDS = [
    "keep",
    "discard",
    "crash",
    "completed",
    "ok",
    "true",
    "0.97",
    "-1",
    "nan",
    "",
    '"',
    "exp_1",
    "exp_2",
    code("a"),
]
WORDS += ["2026-03-14T00:25:00Z", "confirmed", "val_bpb", "c-1", "x y", "\r", "\x0b", "é", "\ufeff", "-"]
CELLS = st.sampled_from(WORDS) | st.text(max_size=6)
LINES = st.lists(CELLS, max_size=30).map("\t".join) | st.sampled_from(HEADERS)
TABLES = st.tuples(st.sampled_from(HEADERS), st.lists(LINES, max_size=8)).map(
    lambda parts: "\n".join([parts[0], *parts[1]])
)
FILES = st.binary(max_size=300) | TABLES.map(lambda text: text.encode("utf-8", "replace"))
FILES |= st.tuples(st.sampled_from(HEADERS), st.binary(max_size=300)).map(
    lambda parts: parts[0].encode() + b"\n" + parts[1]
)


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def accounted(campaign: ImportedCampaign, wanted: set[int]) -> None:
    """Every line is a trial or named, ids are unique, parents lead back to a beginning."""
    trials = {trial.line for trial in campaign.trials}
    assert wanted <= trials | {problem.line for problem in campaign.problems}
    assert campaign.rows == len(wanted)
    by_id: dict[str, ImportedTrial] = {trial.id: trial for trial in campaign.trials}
    assert len(by_id) == len(campaign.trials) == len(trials)
    for trial in campaign.trials:
        assert trial.parent not in by_id or by_id[trial.parent].order < trial.order
        assert not CONTROL.search(trial.id + trial.description + trial.host + trial.status)
        assert (
            trial.score is not None or not trial.promoted or trial.line in {p.line for p in campaign.problems}
        )


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=FILES)
@example(content=HEADER.encode() + b'\n"\t"\t"\t"\n\xff\xfe\n')
def test_every_line_of_any_file_is_accounted_for(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.tsv"
    path.write_bytes(content)
    try:
        campaign = read_results(path, direction="minimize")
    except LabError as error:
        assert "\n" not in str(error)
        return
    lines = [number for number, line in enumerate(files.text_of(path).split("\n"), 1) if line.strip()]
    accounted(campaign, set(lines[1:]))


NODES = st.dictionaries(
    st.sampled_from(["hash", "parent_hash", "val_bpb", "message", "platform", "created_at", "is_master", "status"]),
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["a", "b", "c", ""]) | st.text(max_size=5)
    | st.lists(st.none(), max_size=2),
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(NODES | st.none() | st.text(max_size=3), max_size=8))
def test_every_entry_of_any_tree_is_accounted_for(tmp_path: Path, entries: list[Any]) -> None:
    path = foreign.dag(tmp_path / "dag.json", entries)
    try:
        campaign = read_results(path)
    except LabError:
        return
    accounted(campaign, set(range(1, len(entries) + 1)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    master=st.binary(max_size=60) | NODES.map(lambda node: str(node).encode()),
    tree=st.lists(NODES, max_size=4),
)
def test_nothing_beside_a_table_stops_its_reading(tmp_path: Path, master: bytes, tree: list[Any]) -> None:
    path = foreign.multiautoresearch(tmp_path, lab(), dag=tree)
    (tmp_path / "research" / "live" / "master.json").write_bytes(master)
    assert [trial.score for trial in read_results(path).trials] == [0.9979, 0.9932, 0.9939, 1.01, None]
