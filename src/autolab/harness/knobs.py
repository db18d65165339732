"""A recipe's constants as typed knobs, and single changes of them.

A knob is a module-level `NAME = literal` (or `NAME: type = literal`) whose name is in capitals: an int, a
float, a bool, or a number inside a tuple or list. A trailing comment can say more about it:

    ACTIVATION = "relu2"  # one of: "relu2", "gelu", "silu"
    MATRIX_LR = 0.02      # range: 0.001 .. 0.2
    CONTEXT = 256         # fixed: the evaluator's context

Python's own parser finds the statements, libcst reads their parts and comments; the edit is then made by
text position, so nothing but the literal changes. libcst sees only those statements, which is ten times
faster than the whole file, and deep nesting elsewhere cannot overflow libcst's stack.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from autolab.task import Edit

if TYPE_CHECKING:
    import libcst

Value = bool | int | float | str | tuple[Any, ...]

# The coordinate of a knob that is switched off, and of a fraction that is 1: far from all others.
FAR = 64.0

_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_POWER = re.compile(r"2\s*\*\*\s*(\d{1,2})\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_FIXED = re.compile(r"(?:^|[;,.])\s*fixed\b(?!-)", re.IGNORECASE)
_ONE_OF = re.compile(r"\bone of:\s*(.*)", re.IGNORECASE)
_LITERAL = re.compile(
    r"""\s*("[^"\\]*"|'[^'\\]*'|\([^()]*\)|\[[^\[\]]*\]|True\b|False\b|[-+]?[0-9.][0-9._eE+-]*)\s*(,|\Z|[;(#].*|\S.*)"""
)
_NUMBER = r"([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"\brange:\s*{_NUMBER}\s*\.\.\s*{_NUMBER}", re.IGNORECASE)

# Seeds belong to the lab: a seed that is searched is luck that is searched.
_NEVER = {"SEED", "SEEDS"}
_FRACTION = {
    "BETA", "BETA1", "BETA2", "BETAS", "MOMENTUM", "DROPOUT", "FRAC", "FRACTION", "PROB", "EMA", "WARMUP",
    "WARMDOWN", "COOLDOWN", "SMOOTHING", "RATIO",
}  # fmt: skip
_RATE = {"LR", "LRS", "SCALE", "MULT", "STD", "GAIN", "EPS"}
_SWITCHABLE = {
    "DECAY", "DROPOUT", "COEF", "PENALTY", "SMOOTHING", "WARMUP", "WARMDOWN", "COOLDOWN", "EMA", "CAP",
}  # fmt: skip
_LIMIT = {"CLIP", "CAP", "SOFTCAP", "TEMPERATURE"}  # these are of the order of 1 once they are on

_FACTORS = (1.2, 1.5, 2.0, 3.0, 5.0)
_NICE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True, slots=True)
class Knob:
    """One constant of one file. `start` and `end` are character offsets of its literal in the text."""

    path: str
    name: str  # BETAS[1] is the second number of BETAS
    scale: str  # log: a positive number; unit: a fraction; count: an int; set: no order
    value: Value
    literal: str
    start: int
    end: int
    choices: tuple[tuple[str, Value], ...] = ()  # literal and what it says
    low: float = -math.inf
    high: float = math.inf

    @property
    def axis(self) -> str:
        """A name for what is varied, the same for all programs in which the knob has this meaning."""
        return f"{self.path}:{self.name}:{self.scale}"


@dataclass(frozen=True, slots=True)
class Change:
    """One knob, one new literal and its value. `direction` is up, down, off, toggle or swap."""

    knob: Knob
    literal: str
    value: Value
    direction: str


def read_knobs(path: str, text: str) -> tuple[Knob, ...]:
    """The knobs of one Python file, in the order in which they stand there; () if it does not parse.

    The result is kept for the last few hundred texts, so a parent is parsed once.
    """
    return _read_knobs(path, text) if path.endswith(".py") else ()


def coordinate(scale: str, value: Value) -> float:
    """Where a number stands on its scale: log2, or for a fraction log2-odds; within ±FAR."""
    x = abs(float(value)) if isinstance(value, (bool, int, float)) else 0.0
    if x == 0:
        return -FAR
    if scale == "unit":
        x = x / (1 - x) if x < 1 else math.inf
    return max(-FAR, min(FAR, math.log2(x)))


def changes(knob: Knob) -> tuple[Change, ...]:
    """All standard single changes of a knob, each with another value and within its range."""
    if knob.choices:
        return tuple(
            Change(knob, literal, new, _choice_direction(knob, new)) for literal, new in knob.choices
        )
    found: dict[str, Change] = {}
    for target in _targets(knob):
        change = change_to(knob, target)
        if change is not None:
            found.setdefault(change.literal, change)
    return tuple(found.values())


def change_to(knob: Knob, target: float, digits: int = 0) -> Change | None:
    """The change that sets a number to about `target`, or None if nothing would change.

    It is rounded as a person would (1.5, 2, 2.5, 3, …), or to `digits` significant digits if given, and
    clipped to the knob's range.
    """
    old = knob.value
    assert isinstance(old, (int, float))
    target = max(knob.low, min(knob.high, target))
    if not _tunable(target):
        return None
    bounded = target in (knob.low, knob.high)
    new = target if bounded or target == 0 else _rounded(knob, target, digits)
    if not knob.low <= new <= knob.high or new == old or not math.isfinite(new):
        return None
    if isinstance(old, int):
        new = round(new)
        if not _tunable(new):
            return None
        if new == old or not knob.low <= new <= knob.high or (new < 1 and knob.low > new):
            return None
        if new < 1 and knob.low == -math.inf:
            return None
        literal = _write_int(new, knob.literal)
    else:
        if not _tunable(new) or (knob.scale == "unit" and not 0 <= new <= 1):
            return None
        literal = _write_float(new, knob.literal)
    direction = "off" if new == 0 else ("up" if abs(new) > abs(old) else "down")
    return Change(knob, literal, new, direction)


def edit(text: str, change: Change) -> Edit:
    """The one search/replace that makes `change`; its search block occurs exactly once in `text`.

    The block is the constant's whole line, and as many neighbouring lines as it takes to be unique.
    """
    knob = change.knob
    start = text.rfind("\n", 0, knob.start) + 1
    end = _line_end(text, knob.end)
    while not occurs_once(text, text[start:end]):
        # One line below, then one above, …: the block stays centred on what it changes.
        if end < len(text):
            end = _line_end(text, end + 1)
        if start > 0 and not occurs_once(text, text[start:end]):
            start = text.rfind("\n", 0, start - 1) + 1
    search = text[start:end]
    replace = search[: knob.start - start] + change.literal + search[knob.end - start :]
    return Edit(path=knob.path, search=search, replace=replace)


def occurs_once(text: str, search: str) -> bool:
    """Does `search` occur exactly once, overlaps counted? An empty block never does."""
    first = text.find(search) if search else -1
    return first >= 0 and text.find(search, first + 1) < 0


def _choice_direction(knob: Knob, new: Value) -> str:
    if isinstance(knob.value, bool):
        return "toggle"
    if isinstance(knob.value, (str, tuple)) or not isinstance(new, (int, float)):
        return "swap"
    return "off" if new == 0 else ("up" if abs(new) > abs(knob.value) else "down")


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


# Reading


@lru_cache(maxsize=256)
def _read_knobs(path: str, text: str) -> tuple[Knob, ...]:
    lines = _LINE_END.split(text)
    statements = _constant_statements(text)
    if not statements:
        return ()
    kept = [number for first, last in statements for number in range(first - 1, last)]
    # Lazily, because importing libcst takes 0.2 s.
    import libcst
    from libcst.metadata import MetadataWrapper, PositionProvider

    try:
        module = libcst.parse_module("".join(lines[number] + "\n" for number in kept))
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        positions = wrapper.resolve(PositionProvider)
    except (libcst.ParserSyntaxError, libcst.CSTValidationError, RecursionError, ValueError):
        return ()
    starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
    found: list[Knob] = []
    for line in module.body:
        if not isinstance(line, libcst.SimpleStatementLine) or len(line.body) != 1:
            continue
        comment = line.trailing_whitespace.comment
        note = comment.value.lstrip("#").strip() if comment is not None else ""
        for name, node in _literals(line.body[0]):
            code = module.code_for_node(node)
            at = positions[node]
            start = starts[kept[at.start.line - 1]] + at.start.column
            end = starts[kept[at.end.line - 1]] + at.end.column
            # A position leaves out the parentheses around a value, its code has them.
            start -= max(0, code.find(text[start:end]))
            # Positions count what libcst printed; a stray form feed could shift them.
            if text[start : start + len(code)] == code:
                found.extend(_knobs(path, name, code, start, note, _is_float(line.body[0])))
    return tuple(found)


def _constant_statements(text: str) -> list[tuple[int, int]]:
    """First and last line of every candidate: alone on its lines, its name assigned once in the module."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return []
    names: Counter[str] = Counter()
    used: Counter[int] = Counter()
    candidates: list[tuple[str, int, int]] = []
    for node in tree.body:
        last = node.end_lineno or node.lineno
        used.update({node.lineno, last})
        targets: Sequence[ast.expr] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        for target in targets:
            names.update(part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or len(targets) != 1 or node.value is None:
            continue
        target = targets[0]
        if not isinstance(target, ast.Name) or not _NAME.match(target.id) or not _is_literal(node.value):
            continue
        if not _NEVER & set(target.id.split("_")):
            candidates.append((target.id, node.lineno, last))
    return [
        (first, last)
        for name, first, last in candidates
        if names[name] == 1 and used[first] == 1 and used[last] == 1
    ]


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(_is_literal(part) and not isinstance(part, (ast.Tuple, ast.List)) for part in node.elts)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.BinOp):
        return isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)
    return isinstance(node, ast.Constant)


def _literals(statement: libcst.BaseSmallStatement) -> Iterator[tuple[str, libcst.BaseExpression]]:
    """The constant as a whole, then, for a tuple or list, each of its numbers as NAME[index]."""
    import libcst

    if isinstance(statement, libcst.Assign):
        target, value = statement.targets[0].target, statement.value
    elif isinstance(statement, libcst.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return
    if not isinstance(target, libcst.Name):
        return
    yield target.value, value
    if isinstance(value, (libcst.Tuple, libcst.List)):
        for index, element in enumerate(value.elements):
            yield f"{target.value}[{index}]", element.value


def _is_float(statement: libcst.BaseSmallStatement) -> bool:
    """Is it annotated as a float, so that `1` means 1.0?"""
    annotation = getattr(statement, "annotation", None)
    return getattr(getattr(annotation, "annotation", None), "value", None) == "float"


def _knobs(path: str, name: str, literal: str, start: int, note: str, as_float: bool) -> Iterator[Knob]:
    """The knob that this literal is; nothing if it is no number, fixed, or has nothing to choose from."""
    if _FIXED.search(note):
        return
    value = value_of(literal)
    if value is None:
        return
    if as_float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    choices = _choices(note, value)
    end = start + len(literal)
    if isinstance(value, bool):
        yield Knob(path, name, "set", value, literal, start, end, ((str(not value), not value),))
    elif choices is not None:
        if choices:
            scale = "set" if isinstance(value, (str, tuple)) else _scale(name, value)
            yield Knob(path, name, scale, value, literal, start, end, choices)
    elif isinstance(value, (int, float)):
        bounds = _RANGE.search(note)
        low, high = (float(bound) for bound in bounds.groups()) if bounds else (-math.inf, math.inf)
        yield Knob(path, name, _scale(name, value), value, literal, start, end, (), low, high)


def value_of(literal: str) -> Value | None:
    """What a knob's literal says; None if it is not a number, string, bool or tuple that can be tuned."""
    power = _POWER.match(literal)
    if power:
        return int(2 ** int(power[1])) if int(power[1]) < 63 else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(literal)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, (bool, str, tuple)):
        return value
    return value if isinstance(value, (int, float)) and _tunable(value) else None


def _tunable(value: float) -> bool:
    """Beyond these sizes a constant is a mask or a sentinel, not something to tune."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return value == 0 or 1e-30 < abs(value) < 1e30


def _choices(note: str, value: Value) -> tuple[tuple[str, Value], ...] | None:
    """The other choices of the same sort; () if there are none; None if the comment declares none.

    Choices of a tuple's numbers are numbers, those of a whole tuple are tuples.
    """
    declared = _ONE_OF.search(note)
    if declared is None:
        return () if isinstance(value, (str, tuple)) else None
    rest = declared[1]
    found: list[tuple[str, Value]] = []
    sort = float if isinstance(value, (int, float)) else type(value)
    while match := _LITERAL.match(rest):
        other = value_of(match[1])
        if other is not None and not isinstance(other, bool):
            same = isinstance(other, (int, float) if sort is float else sort)
            if same and other != value and all(other != known for _, known in found):
                found.append((match[1], other))
        if match[2] != ",":
            break
        rest = rest[match.end() :]
    return tuple(found)


def _scale(name: str, value: float) -> str:
    if isinstance(value, int):
        return "count"
    ordered = name.split("[")[0].split("_")
    words = set(ordered)
    # FINAL_LR_FRAC is a fraction, EMBED_LR is not. An unnamed 0.8 … 1 is most likely one.
    if not 0 <= value <= 1 or (words & _RATE and ordered[-1] not in _FRACTION):
        return "log"
    if (words & _FRACTION and (value < 1 or "RATIO" not in words)) or 0.8 <= value < 1:
        return "unit"
    return "log"


# Moving and writing


def _targets(knob: Knob) -> Iterator[float]:
    value = knob.value
    assert isinstance(value, (int, float))
    if knob.scale == "count":
        yield from _int_targets(int(value))
    elif knob.scale == "unit":
        yield from _unit_targets(float(value))
    elif value == 0:
        yield from (0.1, 1.0, 10.0) if _LIMIT & set(knob.name.split("_")) else (0.001, 0.01, 0.1)
    else:
        for factor in _FACTORS:
            yield value * factor
            yield value / factor
    if isinstance(value, float) and 0 < value <= 0.5 and _SWITCHABLE & set(knob.name.split("_")):
        yield 0.0
    for bound in (knob.low, knob.high):
        # A bound within one big step is worth a try of its own.
        if math.isfinite(bound) and value and 1 / 5 <= bound / value <= 5:
            yield bound


def _int_targets(value: int) -> Iterator[float]:
    size, sign = abs(value), -1 if value < 0 else 1
    power_of_two = size >= 8 and size & (size - 1) == 0
    if size == 0:
        yield from (1, 2, 4)
    elif power_of_two:
        factors: tuple[float, ...] = (2, 1 / 2, 4, 1 / 4) if size < 16 else (2, 1 / 2, 4, 1 / 4, 1.5, 0.75)
        yield from (sign * size * factor for factor in factors)
    elif size <= 12:
        steps = (size - 2, size - 1, size + 1, size + 2, size * 2, size // 2)
        yield from (sign * step for step in steps if step >= 1)
    else:
        for factor in _FACTORS[:-1]:
            yield value * factor
            yield value / factor


def _unit_targets(value: float) -> Iterator[float]:
    if value == 0:
        yield from (0.02, 0.05, 0.1, 0.2, 0.4)
    elif value == 1:
        yield from (0.98, 0.95, 0.9, 0.8, 0.5)
    else:
        odds = value / (1 - value)
        for factor in _FACTORS:
            for target in (odds * factor, odds / factor):
                yield target / (1 + target)


def _rounded(knob: Knob, target: float, digits: int) -> float:
    old = float(knob.value)  # type: ignore[arg-type]
    if knob.scale == "count":
        if abs(target) < 16 or (target == int(target) and not digits and int(target) % 8 == 0):
            return float(round(target))
        return _nice(target, old, digits)
    if knob.scale == "unit" and 0.5 < target < 1:
        # Near 1 the digits that matter are those of 1 - x: 0.95, 0.98, 0.99.
        return round(1 - _nice(1 - target, 1 - old, digits), 12)
    return _nice(target, old, digits)


def _nice(target: float, old: float, digits: int) -> float:
    """`target` rounded to a nice number that is still on the same side of `old`, at a similar distance."""
    if digits:
        return float(f"{target:.{digits}g}")
    size = abs(target)
    decade = 10.0 ** math.floor(math.log10(size))
    nearest = min(_NICE, key=lambda mantissa: abs(math.log(mantissa * decade / size)))
    snapped = math.copysign(float(f"{nearest * decade:.3g}"), target)
    if (snapped - old) * (target - old) > 0:
        wanted, got = (abs(math.log(abs(x) / abs(old))) if old else 1.0 for x in (target, snapped))
        if 0.6 < got / wanted < 1.7:
            return snapped
    two = float(f"{target:.2g}")
    return two if (two - old) * (target - old) > 0 else float(f"{target:.3g}")


def _write_int(value: int, like: str) -> str:
    if _POWER.match(like) and value > 0 and value & (value - 1) == 0:
        return f"2**{value.bit_length() - 1}" if " " not in like else f"2 ** {value.bit_length() - 1}"
    return f"{value:_}" if "_" in like else str(value)


def _write_float(value: float, like: str) -> str:
    short = repr(value)
    if "e" in short or ("e" in like.lower() and 0 < abs(value) < 0.01):
        mantissa, exponent = f"{value:.17e}".split("e")
        for precision in range(17):
            mantissa, exponent = f"{value:.{precision}e}".split("e")
            if float(f"{mantissa}e{exponent}") == value:
                break
        return f"{mantissa}e{int(exponent)}"
    return short
