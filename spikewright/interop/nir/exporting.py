"""Write a network to NIR, and prove what was written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_numbers
from spikewright.interop.nir.folding import fold_gains, fold_norms
from spikewright.interop.nir.graph import Graph
from spikewright.interop.nir.running import traced
from spikewright.interop.nir.writing import spelled, write
from spikewright.network import Network


def graph_of(net: Network, x: Tensor, dt: float) -> Graph:
    graph = traced(net.sites, x[0])
    fold_norms(graph)
    fold_gains(graph)
    return spelled(graph, dt, torch.empty(0, dtype=x.dtype).numpy().dtype)


def to_nir(net: nn.Module, x: Tensor, path: str | Path, *, dt: float) -> Any:
    check_numbers("to_nir", "(0, inf)", dt=dt)
    net = net if isinstance(net, Network) else Network(net)
    graph = graph_of(net, x, dt)
    write(graph, path)
