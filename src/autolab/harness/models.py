"""Which models headless agents talk to: named on the command line, or the one that OpenCode is set up with."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from autolab.errors import LabError

CONTEXT, OUTPUT = 65_536, 16_384  # tokens, where nothing better is known
NAMED = (
    "--model hf/Qwen/Qwen3-Coder-480B-A35B-Instruct, ollama/qwen3-coder, or PROVIDER/MODEL of your OpenCode"
)


@dataclass(frozen=True)
class ModelLimits:
    """What a person allows agents to take of one model: `autolab` in the model's entry of opencode.json."""

    requests_per_minute: float = math.inf
    in_flight: int = 0  # requests at once; 0: as many as there are agents
    usd: float = math.inf  # in one campaign; then the other models are asked
    stream: bool | None = None  # None: as the number of agents makes sensible


@dataclass(frozen=True)
class Model:
    """An OpenAI-compatible endpoint and a model on it. The key never leaves this process."""

    name: str  # provider/model, as it is recorded
    id: str  # what the server calls it
    base_url: str
    key: str = field(default="", repr=False)
    context: int = CONTEXT
    output: int = OUTPUT
    tools: bool = True
    usd_in: float = 0.0  # for a million tokens
    usd_out: float = 0.0
    limits: ModelLimits = field(default_factory=ModelLimits)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Dollars."""
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / 1e6


def find_models(
    said: str | None, root: Path, environment: Mapping[str, str] = os.environ
) -> dict[Model, float]:
    """The models of `provider/model[=weight][,provider/model[=weight]…]`, each with its share of the work (they sum to
    one); None as for `find_model`. Raises LabError."""
    shares: dict[Model, float] = {}
    for part in (said or environment.get("AUTOLAB_MODEL") or "").split(","):
        name, given, weight = part.strip().rpartition("=")
        try:
            share = float(weight) if given else 1.0
        except ValueError:
            share = math.nan
        if not 0 < share < math.inf:
            raise LabError(
                f"{weight!r} is no weight", where=f"--model {part.strip()}", mend="a number, such as 3"
            )
        model = find_model((name if given else weight) or None, root, environment)
        shares[model] = shares.get(model, 0.0) + share
    return {model: share / sum(shares.values()) for model, share in shares.items()}


def find_model(name: str | None, root: Path, environment: Mapping[str, str] = os.environ) -> Model:
    """The model `provider/model`; None: AUTOLAB_MODEL, or the one that OpenCode would use in `root`.

    Providers are those of the user's OpenCode configuration (project, then global), then providers.yaml; keys come
    from there, from `opencode auth login`, or from the provider's variable. Raises LabError with the mend.
    """
    configurations = _configurations(root, environment)
    name = (
        name
        or environment.get("AUTOLAB_MODEL")
        or next((c["model"] for c in configurations if c.get("model")), None)
    )
    if not name:
        raise LabError("no model is configured", where="agents", mend=NAMED)
    provider, _, model = str(name).partition("/")
    if not provider or not model:
        raise LabError(f"{name!r} is not PROVIDER/MODEL", where="--model", mend=NAMED)
    for configuration in configurations:
        found = _section(_section(configuration, "provider"), provider)
        if _section(found, "options").get("baseURL"):
            return _configured(str(name), provider, model, found, environment)
    presets = yaml.safe_load(
        resources.files(__package__).joinpath("providers.yaml").read_text(encoding="utf-8")
    )
    if provider not in presets:
        raise LabError(
            f"there is no provider {provider!r} with an address",
            where="--model",
            mend=f"one of {', '.join(presets)}, or give `provider.{provider}.options.baseURL` in opencode.json",
        )
    preset = presets[provider]
    key = environment.get(preset.get("key", ""), "") or _logged_in(provider, environment)
    if preset.get("key") and not key:
        raise LabError(
            f"{preset['key']} is not set", where=f"--model {name}", mend=f"export {preset['key']}=…"
        )
    return Model(str(name), model, preset["base_url"], key)


def _configured(
    name: str, provider: str, model: str, found: dict[str, Any], environment: Mapping[str, str]
) -> Model:
    options, entry = _section(found, "options"), _section(_section(found, "models"), model)
    limit, cost = _section(entry, "limit"), _section(entry, "cost")
    key = _filled(str(options.get("apiKey") or ""), environment, f"{name}: apiKey") or _logged_in(
        provider, environment
    )
    return Model(
        name,
        str(entry.get("id") or model),
        _filled(str(options["baseURL"]), environment, f"{name}: baseURL").rstrip("/"),
        key,
        int(limit.get("context") or CONTEXT),
        int(limit.get("output") or OUTPUT),
        entry.get("tool_call") is not False,
        float(cost.get("input") or 0.0),
        float(cost.get("output") or 0.0),
        _limits(_section(entry, "autolab"), name),
    )


def _limits(said: dict[str, Any], name: str) -> ModelLimits:
    """The limits of a model's entry. Raises LabError for a name or a value that is none."""
    kinds = {"requests_per_minute": (int, float), "in_flight": (int,), "usd": (int, float), "stream": (bool,)}
    for key, value in said.items():
        wrong = type(value) not in kinds.get(key, ()) or (type(value) is not bool and not value > 0)
        if wrong:
            raise LabError(
                f"{key}: {json.dumps(value)} is no limit",
                where=f"{name}: autolab",
                mend=f"one of {', '.join(kinds)}, numbers above 0 and true or false",
            )
    return ModelLimits(**said)


def _configurations(root: Path, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """The user's OpenCode configurations, the project's own first."""
    home = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config")
    found = []
    for folder in (root, home / "opencode"):
        for file in ("opencode.json", "opencode.jsonc"):
            if (folder / file).is_file():
                found.append(_read_jsonc(folder / file))
    return found


def _read_jsonc(path: Path) -> dict[str, Any]:
    """JSON with comments and trailing commas, which OpenCode allows. Raises LabError."""
    text = path.read_text(encoding="utf-8", errors="replace")
    bare = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda m: m[1] or "", text, flags=re.DOTALL)
    bare = re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda m: m[1] or "", bare)
    try:
        found = json.loads(bare)
    except ValueError as error:
        raise LabError(f"is not valid JSON: {error}", where=str(path), mend="mend that line") from None
    return found if isinstance(found, dict) else {}


def _filled(text: str, environment: Mapping[str, str], where: str) -> str:
    """`{env:X}` and `{file:path}` as OpenCode fills them in. Raises LabError."""

    def value(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        if kind == "env":
            if not environment.get(name):
                raise LabError(f"{name} is not set", where=where, mend=f"export {name}=…")
            return environment[name]
        try:
            return Path(name).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise LabError(
                f"{name} cannot be read: {error.strerror}", where=where, mend="check the path"
            ) from None

    return re.sub(r"\{(env|file):([^}]+)\}", value, text)


def _logged_in(provider: str, environment: Mapping[str, str]) -> str:
    """The key that `opencode auth login` stored, or nothing."""
    home = Path(environment.get("XDG_DATA_HOME") or Path(environment.get("HOME", "/")) / ".local/share")
    try:
        stored = json.loads((home / "opencode" / "auth.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(_section(stored, provider).get("key") or "")


def _section(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
