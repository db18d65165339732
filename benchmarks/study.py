"""Does a study reproduce the published order of ways to work together? `autolab study` with models that err as stated.

The default task, made short: TOKENS of training and an evaluator that looks at fewer windows (all else of it as it
is), so that a trial takes a few seconds. The models are scripted (tests/stand_ins/researchers.py): 70 % of their
ideas fail at first (a width that heads do not divide, half a step, …), and a model keeps away from what its prompt
says has failed, and from its kind, in nine cases of ten. Expected, after arXiv 2605.05724 (lineage: 75 % invalid
without, 30 % with it) and arXiv 2603.29632 (subagents: more trials in short budgets; teams: fewer trials, several
surfaces each), with intervals over seeds that leave out zero, in two studies:

    order      subagents complete more trials        four subagents          against  a single agent
               teams touch more surfaces             a candidate of a team   against  one of a single agent
    lineage    lineage lowers the invalid share      two agents              against  the same with lineage off

An answer takes longer than most trials, as with real models; so agents know what came of most of their ideas before
they have the next.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toy import write_toy

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests"))

from stand_ins.model_server import ModelServer
from stand_ins.researchers import Idea, Rates, Researchers

ROOT = Path(__file__).resolve().parent.parent
FILES = ("task.yaml", "train.py", "prepare.py", "evaluate.py")
TOKENS = 50_000  # of training: about a second and a half on an idle core, and the same digits on a busy one


@dataclass(frozen=True)
class Question:
    """One study. `latency`: seconds that an answer takes; `arms` by their labels, and what the others, beside the
    first, are expected to differ in: a figure and the difference's sign."""

    name: str
    latency: float
    arms: dict[str, str]
    expected: dict[str, tuple[str, int]]


QUESTIONS = (
    Question(
        "order",
        20.0,
        {
            "single, lineage on, agents 1": "collaboration=single,lineage=on,agents=1",
            "subagents, lineage on, agents 4": "collaboration=subagents,lineage=on,agents=4",
            "team, lineage on, agents 1": "collaboration=team,lineage=on,agents=1",
        },
        {
            "subagents, lineage on, agents 4": ("trials_per_hour", 1),
            "team, lineage on, agents 1": ("surfaces_per_candidate", 1),
        },
    ),
    Question(
        "lineage",
        20.0,
        {
            "single, lineage on, agents 2": "collaboration=single,lineage=on,agents=2",
            "single, lineage off, agents 2": "collaboration=single,lineage=off,agents=2",
        },
        {"single, lineage off, agents 2": ("invalid", 1)},
    ),
)

IDEAS = (
    # one reason each for which they fail
    *(Idea("HEAD_DIM", value, "architecture", "heads", True) for value in ("24", "48", "20", "28", "40")),
    *(Idea("ASPECT", value, "architecture", "width", True) for value in ("33", "35", "37", "39", "41")),
    *(Idea("MUON_STEPS", value, "optimizer", "steps", True) for value in ("2.5", "3.5", "4.5", "5.5")),
    *(
        Idea("MUON_MOMENTUM", value, "optimizer", "words", True)
        for value in ('"high"', '"low"', "None", "()")
    ),
    *(Idea("WARMDOWN", value, "schedule", "shape", True) for value in ('"half"', '"late"', "None", "()")),
    *(Idea("SAVE_DTYPE", value, "systems", "dtype", True) for value in ('"half8"', '"float8"', '"mini16"')),
    # these run: good ones, bad ones, and some that change nothing that can be seen
    *(Idea("MLP_RATIO", value, "architecture") for value in ("2", "3", "5")),
    *(Idea("QK_NORM", value, "architecture") for value in ("False",)),
    *(Idea("SOFTCAP", value, "architecture") for value in ("10.0", "20.0", "30.0")),
    *(Idea("MATRIX_LR", value, "optimizer") for value in ("0.01", "0.03", "0.04")),
    *(Idea("HEAD_LR", value, "optimizer") for value in ("0.002", "0.005", "0.008")),
    *(Idea("WARMDOWN", value, "schedule") for value in ("0.3", "0.6", "0.8")),
    *(Idea("WARMUP", value, "schedule") for value in ("0.05", "0.1")),
    *(Idea("BATCH", value, "data") for value in ("2", "6", "8")),
    *(Idea("GRAD_CLIP", value, "regularisation") for value in ("1.0", "2.0")),
    *(Idea("WEIGHT_DECAY", value, "regularisation") for value in ("0.01", "0.1")),
    *(Idea("DTYPE", value, "systems") for value in ('"bfloat16"',)),
    *(Idea("LOG_EVERY", value, "systems") for value in ("50", "200", "400")),
)
TOY_IDEAS = (
    *(Idea("RATE", value, "optimizer", "words", True) for value in ('"fast"', '"slow"', '"high"', '"low"')),
    *(Idea("SHIFT", value, "architecture", "nothing", True) for value in ("None", "()", "[]", "{}")),
    *(Idea("RATE", str(value / 100), "optimizer") for value in range(30, 70, 3)),
    *(Idea("SHIFT", str(value / 100), "architecture") for value in range(-9, 10, 2)),
)


def short_default_task(directory: Path) -> Path:
    """A copy of the default task whose trials take a few seconds."""
    directory.mkdir(parents=True)
    for name in FILES:
        (directory / name).write_bytes((ROOT / name).read_bytes())
    for name, old, new in (
        ("task.yaml", "cpu_seconds: 20\n", f"tokens: {TOKENS}\n"),
        ("evaluate.py", "WINDOWS = 512 if CPU", "WINDOWS = 96 if CPU"),
        ("evaluate.py", "FRESH = 4096 if CPU", "FRESH = 96 if CPU"),
    ):
        text = (directory / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old)
        (directory / name).write_text(text.replace(old, new), encoding="utf-8")
    return directory


def main() -> int:
    """Print the study and the bars; exit code 1 if one is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=180.0, help="of each campaign; the baseline takes 30 to 50 of them"
    )
    parser.add_argument("--only", choices=[question.name for question in QUESTIONS])
    parser.add_argument("--errs", type=float, default=0.7, help="share of a model's ideas that fail at first")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument(
        "--toy", action="store_true", help="the tests' toy task: a dry run, with quick answers"
    )
    parser.add_argument("--keep", type=Path, help="work here, and go on with what is there")
    options = parser.parse_args()
    began = time.time()
    with TemporaryDirectory(prefix="autolab-study-") as temporary:
        place: Path = options.keep or Path(temporary)
        lab = place / ("toy" if options.toy else "default")
        if not lab.is_dir():
            (write_toy if options.toy else short_default_task)(lab)
        missed = 0
        for question in [one for one in QUESTIONS if options.only in (None, one.name)]:
            latency = 0.5 if options.toy else question.latency
            models = Researchers(
                TOY_IDEAS if options.toy else IDEAS, Rates(errs=options.errs, latency=latency)
            )
            with ModelServer(models) as server:
                record = study(question, lab, server.url, options)
                print(f"\n{len(server.requests)} answers of the models")
            missed += report(question, record)
    print(f"{(time.time() - began) / 60:.1f} minutes in all")
    return missed > 0


def study(question: Question, lab: Path, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run `autolab study` in a lab, and return its record."""
    # The port is another one each time, and what is set up for the models belongs to the study's files.
    (lab / "opencode.json").write_text(json.dumps({"provider": {"local": {
        "options": {"baseURL": "{env:AUTOLAB_STUDY_MODEL}", "apiKey": "none"}, "models": {"m": {}}}}}))  # fmt: skip
    arms: Sequence[str] = [word for arm in question.arms.values() for word in ("--arm", arm)]
    command = [
        sys.executable, "-m", "autolab.cli.main", "study", "-C", str(lab), *arms, "--seeds", str(options.seeds),
        "--minutes", str(options.seconds / 60), "--name", question.name,
        "--", "--harness", "chat", "--model", "local/m", "--archive", "best", "--slots", str(options.slots),
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "AUTOLAB_STUDY_MODEL": url})
    record: dict[str, Any] = json.loads(
        (lab / "results" / "studies" / question.name / "study.json").read_text()
    )
    return record


def report(question: Question, record: dict[str, Any]) -> int:
    """Say which of the expected differences are there; how many are not."""
    missed = 0
    for arm, (figure, sign) in question.expected.items():
        found = record["results"][figure][arm]["difference"]
        met = found is not None and min(sign * found["low"], sign * found["high"]) > 0
        missed += not met
        said = "-" if found is None else f"{found['mean']:+.3g} [{found['low']:+.3g}, {found['high']:+.3g}]"
        print(f"{arm}: {figure} {said} against {record['against']}: {'met' if met else 'MISSED'}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
