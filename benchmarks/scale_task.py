"""The task of the scale benchmark, for both systems: eight numbers, scored by a shifted Rastrigin function.

Comment lines pad the program to a realistic size.
"""

from __future__ import annotations

from pathlib import Path

PROGRAM = """\
# EVOLVE-BLOCK-START
PARAMS = [{zeros}]
# EVOLVE-BLOCK-END


def run_experiment(**kwargs):
{padding}    return PARAMS
"""
WRITE = """\


if __name__ == "__main__":
    import json, os

    with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "numbers.json"), "w") as file:
        json.dump(run_experiment(), file)
"""
SCORE = '''\
import json, math


def score(xs):
    """Negated, shifted Rastrigin; the optimum is 1 at x_i = 1.234."""
    s = sum(10 + (x - 1.234) ** 2 - 10 * math.cos(2 * math.pi * (x - 1.234)) for x in xs)
    return 1.0 / (1.0 + s)
'''
EVALUATE = (
    SCORE
    + """

if __name__ == "__main__":
    import os

    with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "numbers.json")) as file:
        numbers = [float(x) for x in json.load(file)]
    result = {"status": "ok", "cause": "", "metrics": {"score": score(numbers), "first": numbers[0]}}
    with open(os.environ["AUTOLAB_RESULT"] + ".tmp", "w") as file:
        json.dump(result, file)
    os.rename(os.environ["AUTOLAB_RESULT"] + ".tmp", os.environ["AUTOLAB_RESULT"])
"""
)
OPENEVOLVE = (
    SCORE
    + """

def evaluate(path):
    import ast, re

    found = re.search(r"^PARAMS = (.*)$", open(path).read(), re.M).group(1)
    return {"combined_score": score(ast.literal_eval(found))}
"""
)
TASK = """\
name: numbers
metric: {name: score, direction: maximize, bounds: [0, 1], deterministic: true}
editable: [train.py]
protected: [evaluate.py]
commands: {train: [python, train.py], evaluate: [python, evaluate.py]}
budget: {wall_seconds: 10, eval_seconds: 10, idle_seconds: 10, memory_gb: 1, artifact_kb: 64}
descriptors: [{metric: first}]
warm: [numpy]
"""


def program(kilobytes: float) -> str:
    """The seed program, padded to a size in kB."""
    padding = ""
    while len(padding) < kilobytes * 1024 - 140:
        padding += (
            f"    # filler line {len(padding)}: stands for real code of the same length in the program\n"
        )
    return PROGRAM.format(zeros=", ".join(["0.0"] * 8), padding=padding)


def write_lab(directory: Path, kilobytes: float, port: int) -> Path:
    """The task as a lab's directory whose agents ask the model at `port`."""
    directory.mkdir(parents=True)
    (directory / "train.py").write_text(program(kilobytes) + WRITE, encoding="utf-8")
    (directory / "evaluate.py").write_text(EVALUATE, encoding="utf-8")
    (directory / "task.yaml").write_text(TASK, encoding="utf-8")
    (directory / "opencode.json").write_text(
        f'{{"provider": {{"bench": {{"options": {{"baseURL": "http://127.0.0.1:{port}/v1", "apiKey": "x"}},'
        ' "models": {"mutator": {}}}}}',
        encoding="utf-8",
    )
    return directory


def write_openevolve(directory: Path, kilobytes: float) -> Path:
    """The same task as OpenEvolve takes it."""
    directory.mkdir(parents=True)
    (directory / "initial.py").write_text(program(kilobytes), encoding="utf-8")
    (directory / "evaluator.py").write_text(OPENEVOLVE, encoding="utf-8")
    return directory
