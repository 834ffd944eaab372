"""The catalogue of what a configuration can name, stored so that it is read without torch."""

import json
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypedDict

from spikewright._util.text import is_reference
from spikewright.errors import ConfigError, nearest

Kind = Literal[
    "rules", "spatial", "models", "data", "neurons", "surrogates", "solvers", "losses", "criteria", "optimizers",
    "schedules", "scenarios", "graphs", "graph-models",
]  # fmt: skip
OF_TORCH = ("criteria", "optimizers", "schedules")
"""Kinds whose components differ from one version of torch to the next."""
REGISTRIES: dict[Kind, tuple[str, ...]] = {
    "rules": ("rules/__init__.py",),
    "spatial": ("spatial/__init__.py",),
    "models": ("models/registry.py",),
    "data": ("data/registry.py",),
    "neurons": ("neurons/__init__.py",),
    "solvers": ("solvers/__init__.py",),
    "graphs": ("graph/data/registry.py",),
}
"""Files of the package that name the components of a kind; a component that is added changes one of them."""
FILE = Path(__file__).with_name("catalogue.json")


class Entry(TypedDict):
    """A component.

    Attributes:
        summary: What it is.
        arguments: What `--set` reaches, with the defaults.
    """

    summary: str
    arguments: dict[str, str]


def stored(kind: Kind) -> dict[str, Entry]:
    """Return what is stored of a kind, by name."""
    return _contents()["components"][kind]


def is_outdated(kind: Kind) -> bool:
    """True if the catalogue was written for another version of torch, or before a registry changed."""
    if kind in OF_TORCH:
        return _contents()["torch"] != torch_version()
    return kind in REGISTRIES and _contents()["registries"].get(kind) != fingerprint(kind)


def fingerprint(kind: Kind) -> str:
    """Return a digest of the files in `REGISTRIES` that name the components of a kind."""
    package = Path(__file__).parents[1]
    texts = [(package / file).read_text(encoding="utf-8") for file in REGISTRIES[kind]]
    return sha256("".join(texts).encode()).hexdigest()[:16]


def torch_version() -> str:
    """Return the version of the installed torch, without the build behind its `+`."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    found = re.search(r"__version__ = '([^'+]+)", Path(spec.origin).with_name("version.py").read_text())
    return found[1] if found else ""


def check_names(options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if flags name an unknown rule, model, neuron or data set.

    Names of a kind whose stored entries are outdated are left to the library, which raises the same error.
    """
    rules = [options.get("rule") or "", *(options.get("rules") or "").split(",")]
    for rule in filter(None, map(str.strip, rules)):
        _check_name("rule", "rules", rule.partition(":")[0])
    _check_name("model", "models", options.get("model"))
    _check_name("neuron", "neurons", options.get("neuron"))
    name, known = options.get("data"), stored("data")
    if name is not None and name not in known and not is_reference(name) and not is_outdated("data"):
        raise ConfigError(f"The data set '{name}' is unknown. {nearest(name, known)}")


def _check_name(section: str, kind: Kind, name: str | None) -> None:
    known = stored(kind)
    if name is not None and name.lower() not in known and not is_reference(name) and not is_outdated(kind):
        raise ConfigError(f"{section}.name = '{name}' is unknown. {nearest(name.lower(), known)}")


@cache
def _contents() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))
