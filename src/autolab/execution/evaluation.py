"""Evaluation: the task's protected code scores the artifact, and its result is checked.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

import math
import os

from . import output, sandbox
from .bundle_folder import read_small
from .limits import Limits
from .outcome import Outcome
from .phase import run_phase
from .syscalls import seccomp_filter

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from typing import NoReturn

    from .measurement import Measurement
    from .phase import Ending

RESULT_LIMIT = 1 << 20  # bytes
ABSURD = 1e100  # no measurement is that large, and sums of such would overflow
STATUSES = ("ok", "nan", "illegal", "crash", "oom", "gate_missed")  # that an evaluator may report


def evaluate(measurement: Measurement) -> NoReturn:
    """Run the evaluator and raise the Outcome that it reports."""
    spec, bundle = measurement.spec, measurement.bundle
    scorer_env = measurement.clean_environment("/tmp" if measurement.sandboxed else bundle.scratch)
    scorer_env["AUTOLAB_ARTIFACT"] = sandbox.ARTIFACT if measurement.sandboxed else bundle.collected
    if measurement.sandboxed:
        args_file = os.path.join(bundle.run, "scorer.args")
        with open(args_file, "wb") as file:
            file.write(sandbox.packed(measurement.sandbox_arguments(training=False, env=scorer_env)))
        filter_file = None
        calls = seccomp_filter()
        if calls is not None:
            filter_file = os.path.join(bundle.run, "scorer.seccomp")
            with open(filter_file, "wb") as file:
                file.write(calls)
        prefix = sandbox.launch_prefix(measurement.bwrap, args_file, filter_file)
    else:
        prefix = sandbox.plain_prefix(bundle.workspace, scorer_env)
    env = {**environment(measurement), "AUTOLAB_SCORER": output.to_json(prefix)}
    measurement.log.begin_phase("evaluate")
    ending = run_phase(
        measurement.command("evaluate"),
        env=env,
        cwd=bundle.pristine,
        limits=limits_of(measurement),
        rlimits=measurement.rlimits(training=False),
        cpus=spec.get("cpus"),
        log=measurement.log,
        signals=measurement.signals,
    )
    raise_reported(measurement, ending)


def environment(measurement: Measurement) -> dict[str, str]:
    """The variables of the evaluator, but for the way to start a scorer."""
    spec, bundle = measurement.spec, measurement.bundle
    env = measurement.clean_environment(os.environ.get("HOME", "/tmp"))
    env.update(
        PYTHONDONTWRITEBYTECODE="1",  # nothing may appear beside the protected files
        AUTOLAB_RESULT=_result(measurement),
        AUTOLAB_ARTIFACT=bundle.collected,
        AUTOLAB_STAGE=spec["stage"],
        AUTOLAB_EVAL_SEED=str(spec["eval_seed"]),
        AUTOLAB_SECRET=spec["secret"],
        AUTOLAB_TASK=output.to_json({"metric": spec["metric"], "budget": measurement.budget}),
    )
    if spec["data"]:
        env["AUTOLAB_DATA"] = spec["data"]
    return env


def limits_of(measurement: Measurement) -> Limits:
    """What the evaluation may use."""
    longer = 1 if measurement.spec["stage"] == "screen" else 4  # the others look at more
    cpu = measurement.budget.get("eval_cpu_seconds")
    return Limits(
        wall=measurement.budget["eval_seconds"] * longer,
        cpu=None if cpu is None else cpu * longer,
        idle=None,
        memory=measurement.memory,
        processes=measurement.budget["processes"] + 4,
        disk=None,
        writable=[],
    )


def _result(measurement: Measurement) -> str:
    return os.path.join(measurement.bundle.evaluation, "result.json")


def raise_reported(measurement: Measurement, ending: Ending) -> NoReturn:
    """Raise the Outcome of an evaluation that has ended: what it reports, or why it failed."""
    measurement.note("eval", ending)
    if ending.verdict is not None:
        status, cause = ending.verdict
        if status == "timeout":
            status = "eval_timeout"
        raise Outcome(status, f"evaluation: {cause}")
    try:
        measurement.raise_for_exit(ending, in_sandbox=False)
    except Outcome as outcome:
        status = "oom" if outcome.status == "oom" else "crash"
        raise Outcome(status, f"evaluator left no result: {outcome.cause}") from None
    reported = read_small(_result(measurement), RESULT_LIMIT)
    if reported is None:
        raise Outcome("crash", "evaluator left no result")
    _raise_result(measurement, reported)


def _raise_result(measurement: Measurement, reported: bytes) -> NoReturn:
    """Check the evaluator's result file and raise its Outcome."""
    try:
        result = output.parse_json(reported)
    except (ValueError, RecursionError):
        raise Outcome("crash", "the evaluator's result is not JSON") from None
    if not isinstance(result, dict) or result.get("status") not in STATUSES:
        raise Outcome("crash", "the evaluator's result has no known status")
    metrics = result.get("metrics")
    numbers = {
        str(name): float(value)
        for name, value in (metrics if isinstance(metrics, dict) else {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    }
    name, sealed = _score_name(measurement), measurement.spec["metric"].get("sealed")
    status, cause = result["status"], str(result.get("cause") or "")
    if sealed in numbers and sealed != name:  # each look at that split is counted
        raise Outcome("crash", f"the evaluator looked at {sealed} in stage {measurement.spec['stage']}")
    if status == "ok":
        value = metrics.get(name) if isinstance(metrics, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Outcome("crash", f"the evaluator's result has no {name}")
        _raise_for_score(measurement, float(value))
    elif name in numbers and status != "gate_missed":
        del numbers[name]  # a failed measurement has no score
    measurement.facts["metrics"] = {key: value for key, value in numbers.items() if math.isfinite(value)}
    raise Outcome(status, cause)


def _score_name(measurement: Measurement) -> str:
    """The metric that counts in this stage."""
    metric: dict[str, str] = measurement.spec["metric"]
    return metric["sealed" if measurement.spec["stage"] == "certify" else "name"]


def _raise_for_score(measurement: Measurement, score: float) -> None:
    """Raise Outcome `nan` or `illegal` for a score that cannot be."""
    name = _score_name(measurement)
    if abs(score) > ABSURD and math.isfinite(score):
        raise Outcome("illegal", f"score {score:g} cannot be")
    if not math.isfinite(score):
        raise Outcome("nan", f"{name} is {score}")
    bounds = measurement.spec["metric"].get("bounds")
    if bounds and not bounds[0] <= score <= bounds[1]:
        raise Outcome("illegal", f"score {score:g} outside [{bounds[0]:g}, {bounds[1]:g}]")


def self_reported(measurement: Measurement) -> NoReturn:
    """Take the metric from the last line `name: value` of the log, and raise the Outcome."""
    name = measurement.spec["metric"]["name"]
    score = output.last_value(output.scrub(measurement.log.phase_text()), name)
    if score is None:
        raise Outcome("crash", f"no line `{name}: <number>` in the output")
    _raise_for_score(measurement, score)
    measurement.facts["metrics"] = {name: score}
    raise Outcome("ok")
