"""A collaboration by its name: every module of this folder is one, but for this one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from autolab import collaboration
from autolab.collaboration import Collaboration, Setting
from autolab.errors import LabError


def collaborations() -> list[str]:
    """The names that `--collaboration` takes; nothing is imported for it."""
    found = pkgutil.iter_modules(collaboration.__path__)
    return [module.name for module in found if not module.ispkg and not __name__.endswith(f".{module.name}")]


def collaboration_class(name: str) -> Callable[[Setting], Collaboration]:
    """The class of the collaboration called `name`. Raises LabError if there is none."""
    if name not in collaborations():
        raise LabError(f"there is no collaboration {name!r}", mend=f"one of: {', '.join(collaborations())}")
    module: Any = importlib.import_module(f"{collaboration.__name__}.{name}")
    made: Callable[[Setting], Collaboration] = module.Collaborators
    return made
