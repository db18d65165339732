"""Read and check task.yaml; the comparability key says which scores may be compared.

A task names the files that may be edited, the metric that an evaluator measures, and a budget.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from autolab.errors import LabError

TASK_FILE = "task.yaml"

# Strict: `true` and '20' are no numbers. The limits are beyond every machine, and before every overflow.
Number = Annotated[float, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=1e9)]
Count = Annotated[int, Field(strict=True, gt=0, le=10**15)]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_./-]*$")]


class _Strict(BaseModel):
    """An unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Metric(_Strict):
    """What is measured. `bounds` are the values that a sane evaluation can give; others are `illegal`.

    A gain of `min_effect` or less is no difference, however small the noise. `sealed` is the name of what the
    evaluator reports in stage `certify`, on a split that is looked at in no other; None: there is no such split.
    `deterministic` says that the same program always scores the same, so that one measurement is evidence enough;
    without it, replicates that are identical mean that the noise is unknown.
    """

    name: MetricName
    direction: Literal["minimize", "maximize"] = "minimize"
    bounds: tuple[Number, Number] | None = None
    min_effect: Number = Field(default=0.0, ge=0)
    sealed: MetricName | None = None
    deterministic: Annotated[bool, Field(strict=True)] = False

    def reported(self, stage: str) -> str:
        """The name under which the evaluator reports the score in a measurement's stage."""
        return self.sealed if stage == "certify" and self.sealed is not None else self.name

    @model_validator(mode="after")
    def _consistent(self) -> Metric:
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError("bounds must be [low, high] with low < high")
        if self.sealed == self.name:  # an evaluator that ignores the stage would certify what was searched on
            raise ValueError("sealed must be another name than the metric's")
        return self

    @model_serializer(mode="wrap")
    def _what_is_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of later versions that the task does not use: what is hashed and sent stays as it was."""
        told: dict[str, Any] = dump(self)
        unused = {"sealed": None, "deterministic": False}
        return {key: value for key, value in told.items() if key not in unused or value != unused[key]}


class Budget(_Strict):
    """What one measurement may use. Training spends CPU seconds, tokens, or else wall seconds.

    `cpu_seconds` counts the whole process tree, imports included; `tokens` is a budget that gives the
    same digits on any load; `wall_seconds` always ends a run, and is the budget itself when neither of
    the others is given. `eval_cpu_seconds` bounds what a recipe could still compute while it is scored.
    """

    cpu_seconds: Seconds | None = None
    tokens: Count | None = None
    wall_seconds: Seconds = 600
    eval_seconds: Seconds = 120
    eval_cpu_seconds: Seconds | None = None
    idle_seconds: Seconds = 60
    startup_seconds: Number = Field(default=10, ge=0, le=1e9)
    memory_gb: Number = Field(default=4, gt=0, le=1e6)
    artifact_kb: Annotated[int, Field(strict=True, gt=0, le=10**12)] = 1_048_576
    program_kb: Count = 1024
    processes: Annotated[int, Field(strict=True, gt=0, le=10**6)] = 64

    @model_validator(mode="after")
    def _one_currency(self) -> Budget:
        if self.cpu_seconds is not None and self.tokens is not None:
            raise ValueError("give cpu_seconds or tokens, not both")
        return self


class EarlyAbort(_Strict):
    """When to stop a screening run whose learning curve is far outside the master's band.

    `sds`: by how many standard deviations; `start` (`from` in task.yaml): from which share of the budget on.
    """

    sds: Number = Field(default=6, gt=0, le=1e6)
    start: Number = Field(default=0.3, ge=0, lt=1, validation_alias=AliasChoices("from", "start"))


class Gate(_Strict):
    """A condition beside the metric; a trial that misses it is `gate_missed`, whatever its score."""

    metric: str
    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> Gate:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a gate needs at_least or at_most")
        return self

    def miss(self, metrics: dict[str, float]) -> str | None:
        """Why these metrics miss the gate, or None."""
        value = metrics.get(self.metric)
        if value is None:
            return f"{self.metric} was not measured"
        if self.at_least is not None and value < self.at_least:
            return f"{self.metric} {value:.6g} is below {self.at_least:.6g}"
        if self.at_most is not None and value > self.at_most:
            return f"{self.metric} {value:.6g} is above {self.at_most:.6g}"
        return None


class Edit(_Strict):
    """Replace `search`, which must occur exactly once in `path`, by `replace`."""

    path: str
    search: str
    replace: str


class Move(_Strict):
    """A structural change that the no-model harness may propose."""

    name: str
    surface: str
    hypothesis: str
    edits: tuple[Edit, ...] = Field(min_length=1)


class Commands(_Strict):
    """argv lists; a first word `python` means the lab's own interpreter."""

    prepare: tuple[str, ...] | None = None
    train: tuple[str, ...] = Field(min_length=1)
    evaluate: tuple[str, ...] | None = None


class Profile(_Strict):
    """Overrides for another class of hardware."""

    budget: dict[str, Annotated[int, Field(strict=True)] | Number | None] = {}
    kind: Literal["cpu", "gpu"] = "cpu"
    flavor: str | None = None


class Promotion(_Strict):
    """What it takes to become master: `level` is how many false promotions a whole campaign may expect, `target` the
    effect, in standard deviations of one run, that is found with more than 90 % probability (docs/statistics.md)."""

    level: Number = Field(default=0.05, gt=0, le=1)
    target: Number = Field(default=2.0, ge=0.25, le=20)


class Descriptor(_Strict):
    """What tells programs apart that score alike: a metric that the evaluator reports, from its lowest to its highest
    value (None: as seen so far)."""

    metric: MetricName
    bounds: tuple[Number, Number] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Descriptor:
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError("bounds must be [low, high] with low < high")
        return self


class Jobs(_Strict):
    """What cloud jobs run in: a container image, and packages to install when a job starts (better: none)."""

    image: str = Field(default="ghcr.io/astral-sh/uv:python3.12-bookworm", pattern=r"^[\w./:@-]+$")
    packages: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.,<>=!~\[\]+-]*$")], ...] = ()


class Task(_Strict):
    """A checked task.yaml. `root` is the directory that holds it, `profile` the profile in force.

    `warm` is for recipes that take milliseconds: they are forked from a sandboxed process that has these modules
    loaded, instead of being started from nothing.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    metric: Metric
    editable: tuple[str, ...] = Field(min_length=1)
    protected: tuple[str, ...] = ()
    commands: Commands
    budget: Budget = Budget()
    gates: tuple[Gate, ...] = ()
    early_abort: EarlyAbort | None = None
    objective: Literal["metric", "wallclock"] = "metric"
    surfaces: dict[str, str] = {}
    moves: tuple[Move, ...] = ()
    profiles: dict[str, Profile] = {}
    jobs: Jobs = Jobs()
    promotion: Promotion = Promotion()
    descriptors: tuple[Descriptor, ...] = ()
    warm: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")], ...] | None = None
    root: Path = Field(default=Path(), exclude=True)
    profile: str = "cpu"

    @field_validator("editable", "protected")
    @classmethod
    def _plain_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            parts = Path(path).parts
            plain = path == str(PurePosixPath(path)) and ".." not in parts and not Path(path).is_absolute()
            if not plain or path == "." or "\\" in path or "\0" in path:
                raise ValueError(f"{path!r} must be a plain path below the task's directory")
            if path == TASK_FILE or parts[0] in (".autolab", ".git"):
                raise ValueError(f"{path!r} belongs to the lab")
        if len(set(paths)) != len(paths):
            raise ValueError("a path is listed twice")
        return paths

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        both = set(self.editable) & set(self.protected)
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is both editable and protected")
        if self.metric.sealed is not None and (self.self_reported or self.objective == "wallclock"):
            raise ValueError("metric.sealed needs an evaluate command, and the metric as the objective")
        for name, profile in self.profiles.items():
            unknown = set(profile.budget) - set(Budget.model_fields)
            if unknown:
                raise ValueError(f"profiles.{name}.budget has the unknown key {sorted(unknown)[0]!r}")
        for move in self.moves:
            for edit in move.edits:
                if edit.path not in self.editable:
                    raise ValueError(f"move {move.name!r} edits {edit.path!r}, which is not editable")
        return self

    @property
    def self_reported(self) -> bool:
        """No evaluator: the score is what the recipe printed, and is marked so everywhere."""
        return self.commands.evaluate is None

    @property
    def flavor(self) -> str | None:
        """The machine that the profile in force asks for in the cloud."""
        return self.profiles[self.profile].flavor if self.profile in self.profiles else None

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        """Which sort of slot a measurement needs."""
        return self.profiles[self.profile].kind if self.profile in self.profiles else "cpu"

    @property
    def sign(self) -> float:
        """+1 if a higher score is better, -1 if a lower one is, as seconds are."""
        return 1.0 if self.objective == "metric" and self.metric.direction == "maximize" else -1.0

    def better(self, a: float, b: float) -> bool:
        """Is score `a` strictly better than `b`?"""
        return self.gain(a, b) > 0

    def gain(self, score: float, reference: float) -> float:
        """How much better `score` is than `reference`; positive is better, whatever the direction."""
        return self.sign * (score - reference)


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML lets the last of two equal keys win in silence; here they are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", node.start_mark
                )
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def load_task(directory: Path, profile: str = "cpu") -> Task:
    """Read `directory/task.yaml` with `profile` applied.

    Raises LabError, which names the file, the key and the mend, if the file is missing or wrong, if a
    file that it names is missing, or if the profile is unknown.
    """
    path = directory / TASK_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LabError(
            "there is no task.yaml", where=str(directory), mend="run `autolab init` here, or `cd` to a lab"
        ) from None
    except UnicodeDecodeError:
        raise LabError("is not UTF-8 text", where=str(path), mend="convert it") from None
    except OSError as error:
        raise LabError(
            f"cannot be read: {error.strerror}", where=str(path), mend="is it a file of yours?"
        ) from None
    return check_task(text, directory, profile)


def check_task(text: str, directory: Path, profile: str = "cpu") -> Task:
    """The task that `text` describes for a directory. Raises LabError as `load_task` does."""
    path = directory / TASK_FILE
    try:
        raw = yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LabError(f"is not valid YAML: {error}", where=str(path), mend="mend that line") from None
    if not isinstance(raw, dict):
        raise LabError("holds no keys", where=str(path), mend="see `autolab init` for a commented example")
    for reserved in ("root", "profile"):
        if reserved in raw:
            raise LabError(f"unknown key {reserved!r}", where=str(path), mend="remove it")
    try:
        task = Task.model_validate({**raw, "root": directory.resolve(), "profile": profile})
        task = _with_profile(task, profile)
    except ValidationError as error:
        raise LabError(_first_problem(error), where=str(path), mend="see docs/task.md") from None
    for name in (*task.editable, *task.protected):
        if not (directory / name).is_file():
            raise LabError(f"names {name!r}, which does not exist", where=str(path), mend="correct the path")
    return task


def _with_profile(task: Task, profile: str) -> Task:
    if profile not in task.profiles:
        if profile == "cpu":
            return task
        known = ", ".join(["cpu", *task.profiles])
        raise LabError(f"unknown profile {profile!r}", where=TASK_FILE, mend=f"one of: {known}")
    budget = task.budget.model_dump()
    changes = task.profiles[profile].budget
    if "wall_seconds" in changes and not {"cpu_seconds", "tokens"} & changes.keys():
        budget["cpu_seconds"] = budget["tokens"] = None
    if "cpu_seconds" in changes:
        budget["tokens"] = None
    if "tokens" in changes:
        budget["cpu_seconds"] = None
    return task.model_copy(update={"budget": Budget.model_validate({**budget, **changes})})


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def comparability_key(task: Task, data_manifest: str, hardware: str | None = None) -> str:
    """16 hex digits; scores are compared only within one key.

    Hash of the task's spec, protected files (the evaluator among them), data manifest (its text),
    budget and hardware class. What does not change a score is left out: surfaces, moves, other profiles, and what the
    metric says about its sealed split and its noise.
    """
    spec = task.model_dump(
        mode="json", include={"name", "metric", "editable", "commands", "gates", "objective"}
    )
    for name in ("sealed", "deterministic"):
        spec["metric"].pop(name, None)
    digest = hashlib.sha256()
    parts: list[Any] = [
        spec,
        task.budget.model_dump(),
        task.profile,
        data_manifest,
        hardware or hardware_class(),
    ]
    digest.update(json.dumps(parts, sort_keys=True).encode())
    for name in sorted(task.protected):
        digest.update(name.encode() + b"\0" + (task.root / name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def hardware_class() -> str:
    """What this machine is, as far as scores depend on it: architecture and processor model."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("model name"):
                    model += " " + line.split(":", 1)[1].strip()
                    break
    except OSError:
        model += " " + platform.processor()
    return model
