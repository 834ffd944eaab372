"""Read a network from NIR."""

from pathlib import Path
from typing import Any, get_args

import torch

from spikewright._util.ranges import check_choice, check_numbers
from spikewright.errors import ConfigError
from spikewright.interop.nir.building import Builder
from spikewright.interop.nir.constants import Comparison, Decay, Reading, Reset
from spikewright.interop.nir.graph import Graph, read_graph
from spikewright.interop.nir.module import NIRModule


def from_nir(
    source: str | Path | Any,
    *,
    dt: float,
    decay: Decay = "euler",
    reset: Reset | None = None,
    comparison: Comparison | None = None,
    dtype: torch.dtype | None = None,
) -> NIRModule:
    source_graph = read_graph(source)
    check_numbers("from_nir", "(0, inf)", dt=dt)
    check_choice("from_nir", "decay", decay, get_args(Decay))
    reading = Reading(
        float(dt),
        decay,
        _choice(source_graph, "reset", reset, "zero", get_args(Reset)),
        _choice(source_graph, "comparison", comparison, ">", get_args(Comparison)),
        dtype or torch.get_default_dtype(),
    )
    module = Builder(source_graph, reading).module()
    module.metadata = dict(source_graph.metadata)
    return module


def _choice(graph: Graph, name: str, asked: Any, usual: str, known: Any) -> Any:
    if asked is not None:
        check_choice("from_nir", name, asked, known)
        return asked
    return graph.metadata.get(name, usual)
