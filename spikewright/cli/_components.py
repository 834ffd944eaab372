"""What a configuration can name, read off the constructors themselves; `catalogue.json` stores it."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from spikewright import data as datasets
from spikewright.cli._tex import without_tex
from spikewright.cli.catalogue import Entry, Kind
from spikewright.continual.scenario import SCENARIOS
from spikewright.graph.build import MODELS as GRAPH_MODELS
from spikewright.graph.build import VARIANTS
from spikewright.graph.data import graph_loader, graph_names
from spikewright.train.components import (
    CRITERIA,
    LOCAL,
    LOSSES,
    MODELS,
    NEURONS,
    OPTIMIZERS,
    PENALTIES,
    RULES,
    SOLVERS,
    SPATIAL,
    STANDARD,
    SURROGATES,
    options,
)
from spikewright.train.schedule import SCHEDULES


def _variant(name: str, **arguments: Any) -> Callable[..., Any]:
    return partial(GRAPH_MODELS[name], **arguments)


COMPONENTS: Mapping[Kind, Mapping[str, Callable[..., Any]]] = {
    "rules": RULES,
    "spatial": {**SPATIAL, "local": LOCAL["local"]},
    "models": MODELS,
    "data": {name: datasets.loader(name) for name in datasets.names()},
    "neurons": NEURONS,
    "surrogates": SURROGATES,
    "solvers": SOLVERS,
    "losses": {**LOSSES, "penalty": PENALTIES["firing_rate"]},
    "criteria": CRITERIA,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "scenarios": SCENARIOS,
    "graphs": {name: graph_loader(name) for name in graph_names()},
    "graph-models": {**GRAPH_MODELS, **{name: _variant(**table) for name, table in VARIANTS.items()}},
}


def described(kind: Kind) -> dict[str, Entry]:
    """Return summary and arguments of all components of a kind, by name."""
    return {name: _entry(builder) for name, builder in sorted(COMPONENTS[kind].items())}


def _entry(builder: Callable[..., Any]) -> Entry:
    summary = (inspect.getdoc(getattr(builder, "func", builder)) or "").partition("\n")[0]
    return {
        "summary": without_tex(summary),
        "arguments": {key: _default(key, parameter) for key, parameter in options(builder).items()},
    }


def _default(key: str, parameter: inspect.Parameter) -> str:
    """Return what an argument is if it is not set; required components have a default in a configuration."""
    return STANDARD.get(key, "required") if parameter.default is inspect.Parameter.empty else str(parameter.default)
