"""Trace the forward of a network: its modules run on rows, with neurons and delays as nodes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList

from spikewright.interop.nir.graph import Graph
from spikewright.interop.nir.loops import Feedbacks
from spikewright.interop.nir.operations import HANDLERS
from spikewright.interop.nir.temporal_nodes import delay_node, neuron_node
from spikewright.interop.nir.tracing import Trace
from spikewright.layers import Feedback, Recurrent, SynapticDelay
from spikewright.network.patched_forwards import run_patched
from spikewright.network.sites import Sites
from spikewright.neurons import Neuron
from spikewright.synapses.interception import Interceptions
from spikewright.temporal import Temporal


def traced(sites: Sites, x: Tensor) -> Graph:
    """Run a module on rows, and return what it did as a graph.

    The shape of the output of every node is in its metadata, and the neuron layer that it stands for in its site.

    Args:
        sites: Sites of the module.
        x: Rows, `[batch, *feature]`.

    Raises:
        NetworkError: Something was done to a tensor that NIR cannot say.
    """
    return _Tracing(sites).graph_of(x)


class _Tracing:
    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.trace = Trace(HANDLERS)
        self.loops = Feedbacks(self.trace, sites)
        self._named = dict(sites.module.named_modules())
        self._calls: dict[str, int] = {}

    def graph_of(self, x: Tensor) -> Graph:
        run_patched(
            self.sites.module, self.sites.identities, self._replacements, Interceptions(), partial(self._body, x)
        )
        return self.trace.graph

    def _replacements(self) -> list[tuple[nn.Module, Callable[..., Any]]]:
        named = self._named.items()
        return [
            (m, partial(self._at, name, m, m.forward)) for name, m in named if not isinstance(m, ParametrizationList)
        ]

    def _body(self, x: Tensor) -> None:
        trace = self.trace
        with torch.no_grad(), trace:
            with trace.paused():
                given = trace.start(x)
            result = self.sites.module(given)
            self.loops.close()
            with trace.paused():
                trace.end(result)

    def _at(self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.trace.inside.append(name)
        try:
            found = self._called(name, module, forward, *args, **kwargs)
            self.loops.left(module, found)
            return found
        finally:
            self.trace.inside.pop()

    def _called(self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not isinstance(module, Temporal):
            return forward(*args, **kwargs)
        x = [*args, *kwargs.values()][0]
        if self.trace.sources(x) is None:
            raise self.trace.refuse(
                f"an input of '{name}' ({type(module).__name__}) that does not depend on the input of the network",
                "a graph has one input, from which everything comes",
                "Compute it from the input, or give it as a bias of a layer.",
            )
        if isinstance(module, Feedback):
            current = self.loops.arrive(name, module, x)
            return module.neuron(current) if isinstance(module, Recurrent) else current
        if isinstance(module, Neuron):
            return neuron_node(self.trace, self._site(name), module, x)
        if isinstance(module, SynapticDelay):
            return delay_node(self.trace, self._site(name), module, x)
        if isinstance(module, _BatchNorm):
            return nn.modules.batchnorm._BatchNorm.forward(module, x)
        if isinstance(module, _DropoutNd) and not module.training:
            return x
        raise self.trace.refuse(
            f"'{name}' ({type(module).__name__})",
            "it carries something from step to step, or draws numbers, and NIR has no node for it",
            "Call net.eval() first if it acts in training only; otherwise leave it out.",
        )

    def _site(self, name: str) -> str:
        self._calls[name] = self._calls.get(name, 0) + 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"
