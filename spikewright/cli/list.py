"""`spikewright list`."""

import inspect
from pathlib import Path
from typing import Any, Literal

from spikewright import data as datasets
from spikewright.cli.common import print_table, write_json
from spikewright.continual.scenario import SCENARIOS
from spikewright.graph.build import MODELS as GRAPH_MODELS
from spikewright.graph.data import graph_loader, graph_names
from spikewright.train.components import (
    CRITERIA,
    LOCAL,
    LOSSES,
    MODELS,
    NEURONS,
    OPTIMIZERS,
    RULES,
    SOLVERS,
    SPATIAL,
    SURROGATES,
    options,
)
from spikewright.train.schedule import SCHEDULES

Kind = Literal[
    "rules", "spatial", "models", "data", "neurons", "surrogates", "solvers", "losses", "criteria", "optimizers",
    "schedules", "scenarios", "graphs", "reasoners",
]  # fmt: skip


def list_components(kind: Kind, json: Path | None = None, quiet: bool = False) -> dict[str, Any]:
    """List what a configuration can name, with the arguments that --set reaches.

    Args:
        kind: What to list.
        json: Also write the list to this file.
        quiet: Print nothing.

    Returns:
        By name: `summary` and `arguments` with their defaults.
    """
    choices = {
        "rules": RULES,
        "spatial": {**SPATIAL, "local": LOCAL["local"]},
        "models": MODELS,
        "data": {name: datasets.loader(name) for name in datasets.names()},
        "neurons": NEURONS,
        "surrogates": SURROGATES,
        "solvers": SOLVERS,
        "losses": LOSSES,
        "criteria": CRITERIA,
        "optimizers": OPTIMIZERS,
        "schedules": SCHEDULES,
        "scenarios": SCENARIOS,
        "graphs": {name: graph_loader(name) for name in graph_names()},
        "reasoners": GRAPH_MODELS,
    }[kind]
    listed = {
        name: {
            "summary": (inspect.getdoc(getattr(builder, "func", builder)) or "").partition("\n")[0],
            "arguments": {key: _default(p) for key, p in options(builder).items()},
        }
        for name, builder in sorted(choices.items())
    }
    write_json(json, listed)
    if not quiet:
        rows = [
            (name, str(entry["summary"]), ", ".join(f"{k}={v}" for k, v in entry["arguments"].items()))
            for name, entry in listed.items()
        ]
        print_table(kind, ("name", "what it is", "arguments"), rows, texts=True)
    return listed


def _default(parameter: inspect.Parameter) -> str:
    return "required" if parameter.default is inspect.Parameter.empty else str(parameter.default)
