"""The network evaluated once, at the rates that a simulation recorded, with a graph."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spikewright.layers.calls import DropoutCall, NormCall
from spikewright.layers.dropout import scan_shared
from spikewright.layers.feedback import Feedback
from spikewright.layers.own_forward import has_own_forward, intercept_dropout, intercept_norm
from spikewright.network.hooks import Hooks
from spikewright.network.patched_forwards import Forward, Replacements, Weights, chained, run_patched
from spikewright.network.raised import naming, normalised
from spikewright.network.rates import Rate, Rates
from spikewright.network.run import CallCounter
from spikewright.network.sites import Sites
from spikewright.neurons import Neuron
from spikewright.rules.rates.as_recorded import AsRecorded
from spikewright.rules.rates.norms import RateNorm
from spikewright.solvers import Adjoint, Cell, Edge
from spikewright.synapses.interception import Interception, Interceptions
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import LAYERS, transmit

Emit = Callable[[str, Neuron, Rate], tuple[Tensor, Callable[[Tensor], Tensor]]]
"""(site, neuron, recorded) -> output of a layer of neurons at rates, and the map of currents to differentiate."""


class RateGraph:
    """One evaluation of a network at recorded rates.

    Args:
        sites: Layers of the network.
        rates: Rates that a simulation recorded.
        emit: Function that gives the output of neurons at rates.
        norm: What batch norm does to mean currents.
        cuts_layers: If True, cut the graph between layers of neurons.  Default: False.
        hooks: Called at every layer, which sees a sequence of one step.  Default: None, no hooks.
        weights: What computes parametrized weights.  Default: None, computed for this evaluation.
        stopped: Gets, in a backward pass, whether errors that arrive at a layer of neurons all end there, by its name.
            Default: None, not noted.
    """

    def __init__(
        self,
        sites: Sites,
        rates: Rates,
        emit: Emit,
        norm: RateNorm,
        cuts_layers: bool = False,
        hooks: Hooks | None = None,
        weights: Weights | None = None,
        stopped: dict[str, Tensor] | None = None,
    ) -> None:
        self._weights = Weights() if weights is None else weights
        self._sites, self._rates, self._hooks = sites, rates, hooks
        self._emit, self._norm, self._cuts_layers = emit, norm, cuts_layers
        self._normed, self._stopped = False, stopped
        self._calls = CallCounter()
        self._interceptions = Interceptions()
        self._cells: list[Cell] = []
        self._arrived: dict[str, Tensor] = {}
        self._emitted: dict[str, Tensor] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, Adjoint]:
        """Evaluate at the mean input.

        Args:
            x: Mean input, `[batch, *feature]`.

        Returns:
            The mean output `[batch, *output]`, and what a solver needs to know of the network.
        """
        sites = self._sites
        body = partial(sites.call, x.clone())
        with naming(sites.module):
            output, _ = run_patched(sites.module, sites.identities, self._replaced, self._interceptions, body)
        edges = [Edge(name, leaf, self._emitted[name]) for name, leaf in self._arrived.items()]
        if self._normed:
            return output, Adjoint(self._cells, edges, self._norm.couples, len(x))
        return output, Adjoint(self._cells, edges, batch=len(x), part=partial(self._part, x))

    def _part(self, x: Tensor, samples: Tensor) -> Adjoint:
        rates = self._rates.of(samples)
        weights, stopped = self._weights, self._stopped
        graph = RateGraph(
            self._sites, rates, self._emit, self._norm, self._cuts_layers, weights=weights, stopped=stopped
        )
        return graph(x[samples])[1]

    def _replaced(self) -> Replacements:
        return [*self._weights.replacements(self._sites.parametrizations.values()), *chained(self._places())]

    def _places(self) -> Iterator[tuple[nn.Module, Forward]]:
        for name, module in self._sites.temporal.items():
            own = has_own_forward(module, module.forward, default=False)
            yield module, partial(self._at_own if own else self._at_temporal, name, module)
        if (hooks := self._hooks) is not None:
            for name, module in self._sites.synapses.items():
                yield module, partial(self._at_layer, name, hooks)
        for name, source in self._sites.sources.items():
            yield source, partial(self._at_source, name)

    def _at_temporal(self, name: str, module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        site = self._calls.site(name)
        if isinstance(module, Neuron):
            return self._fire(site, module, x)
        step = x.unsqueeze(0)
        if isinstance(module, _BatchNorm):
            self._normed |= module.training
            return normalised(self._norm.at_rates, site, module, module, forward, step).squeeze(0)
        if isinstance(module, Feedback):
            return module.scan(step, {"last": self._send_back(name)}, True)[0].squeeze(0)
        assert isinstance(module, _DropoutNd)  # a rule refuses networks with anything else
        return scan_shared(module, step, self._rates.masks.get(site, {}))[0].squeeze(0)

    def _at_own(self, name: str, module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        def normalise(call: NormCall, rows: Tensor) -> Tensor:
            site, step = self._calls.site(name), rows.unsqueeze(0)
            return normalised(self._norm.at_rates, site, module, call, call, step).squeeze(0)

        def drop(call: DropoutCall, rows: Tensor) -> Tensor:
            masks = self._rates.masks.get(self._calls.site(name), {})
            return scan_shared(call, rows.unsqueeze(0), masks)[0].squeeze(0)

        if isinstance(module, _BatchNorm):
            self._normed |= module.training
            return intercept_norm(self._interceptions.active, name, module, forward, x, normalise)
        assert isinstance(module, _DropoutNd)  # has_own_forward says so of nothing else
        return intercept_dropout(self._interceptions.active, name, module, forward, x, drop)

    def _at_layer(self, name: str, hooks: Hooks, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        def handle(operation: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            arrival, _ = hooks.on_weight(self._calls.site(name), operation, x.unsqueeze(0), weight, {})
            return transmit(operation, arrival, weight, bias).squeeze(0)

        with self._interceptions.active(Interception(LAYERS, handle)):
            return forward(*args, **kwargs)

    def _fire(self, site: str, neuron: Neuron, current: Tensor) -> Tensor:
        recorded = self._rates.neurons[site]
        value, rate_map = self._emit(site, neuron, recorded)
        if not torch.is_autocast_enabled(value.device.type):
            value = value.to(current.dtype)  # in which neurons emit spikes; rates are recorded in 32 bits or more
        note = None if self._stopped is None else partial(_note, self._stopped, site)
        emitted = AsRecorded.apply(current, recorded.current, value, rate_map, note, *neuron.parameters())
        leaf = emitted.detach().requires_grad_() if self._cuts_layers else emitted
        decay = neuron.decay_at(current.unsqueeze(0))
        leak = 1.0 if decay is None else decay
        self._cells.append(Cell(site, emitted, leaf, leak.detach() if isinstance(leak, Tensor) else leak))
        return leaf

    def _send_back(self, name: str) -> Tensor:
        if name not in self._arrived:
            self._arrived[name] = self._rates.sent[name].detach().requires_grad_()
        return self._arrived[name]

    def _at_source(self, name: str, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        self._emitted[name] = forward(*args, **kwargs)
        return self._emitted[name]


def _note(stopped: dict[str, Tensor], site: str, arrived: Tensor, passed: Tensor) -> None:
    stopped[site] = arrived.any() & ~passed.any()
