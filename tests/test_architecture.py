"""docs/architecture.md tells the truth: its rooms exist, and each imports only from rooms above it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from autolab.execution.bundle import RUNNER_FILES

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "autolab"


def rooms() -> list[str]:
    """The rooms in the order of the document's picture."""
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
    return [re.split(r"[/\s]", line)[0] for line in picture.strip().splitlines()]


def room_of(module: str) -> str:
    """`autolab.ledger.store` is in `ledger`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_room_is_in_the_picture_and_no_other() -> None:
    there = {path.stem if path.is_file() else path.name for path in SOURCE.iterdir()
             if path.suffix == ".py" or (path / "__init__.py").exists()}  # fmt: skip
    assert there - {"__init__"} == set(rooms())


def test_rooms_import_only_from_rooms_above_them() -> None:
    order = {room: place for place, room in enumerate(rooms())}
    wrong = []
    for path in SOURCE.rglob("*.py"):
        own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                room = room_of(name) if name.startswith("autolab.") else ""
                if room and room != own and order[room] > order.get(own, -1):
                    wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert wrong == []


def test_the_runner_imports_only_the_standard_library() -> None:
    """Its files run as a script on machines that have nothing else, and are shipped all."""
    here = {path.stem for path in (SOURCE / "execution").glob("*.py")}
    todo, seen = ["runner"], set()
    while todo:
        name = todo.pop()
        seen.add(name)
        for node in ast.walk(ast.parse((SOURCE / "execution" / f"{name}.py").read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                # `execution` is what the runner calls the folder that it lies in.
                names = [(node.module or "").removeprefix("execution.")]
                names = names if names[0] else [alias.name for alias in node.names]
            for imported in names:
                first = imported.split(".")[0]
                if first in here and first not in seen:
                    todo.append(first)
                elif first not in here:
                    assert first in sys.stdlib_module_names or first.startswith("_"), (name, imported)
    assert seen == {name.removesuffix(".py") for name in RUNNER_FILES}


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    """`autolab --help` must answer at once: none of these at the top of a module that every command loads."""
    heavy = {"torch", "matplotlib", "datasets", "trackio", "ray", "libcst", "numpy", "rich"}
    for name in ("cli/main.py", "cli/options.py", "errors.py", "__init__.py"):
        tree = ast.parse((SOURCE / name).read_text(encoding="utf-8"))
        imported = {
            alias.name.split(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        imported |= {
            (node.module or "").split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom)
        }
        assert not imported & (heavy | {"pydantic", "asyncio"}), name
