"""The hooks of a rule with eligibilities: they advance with the neurons, and their gradients arrive at the weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.network.wiring import Synapse, Wiring
from spikewright.neurons import Neuron
from spikewright.rules._eligibility import Eligibility, Layout, advanced, attach
from spikewright.rules._eligibility_plans import Plans
from spikewright.rules._own_state import OUTPUT, Slopes, parts, slopes
from spikewright.rules._readout_filters import filter_parts
from spikewright.rules._traces import traced, traced_ones
from spikewright.rules._weight_hooks import WeightHooks
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState

Kept = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Parts of the state that a layer keeps eligibilities for, by name of the layer and of the neurons it feeds."""
STEPS = "eligibility_steps"
"""Name of the number of steps that the eligibilities of a layer hold, in its state."""


@dataclass
class _Call:
    """One call of a layer in a chunk.

    Attributes:
        arrival: What the layer transmits, and the factors of its gradients.
        carried: State of the call, which its eligibilities are kept in.
        operation: Linear operation of the layer.
        weight: Weight of the layer.
        bias: Bias of the layer, if it has one.
        current: Output of the layer, `[time, batch, *feature]`.
    """

    arrival: SynapticInput
    carried: SiteState
    operation: Operation
    weight: Tensor
    bias: Tensor | None = None
    current: Tensor | None = None

    @property
    def learns(self) -> bool:
        return self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)

    @property
    def layout(self) -> Layout:
        return Layout.of(self.operation, self.weight)

    def inputs(self, step: int) -> Tensor | None:
        """Return the presynaptic factor of a step at the inputs of the layer."""
        if not self.weight.requires_grad:
            return None
        factor = self.arrival.value if self.arrival.presynaptic is None else self.arrival.presynaptic
        return self.layout.at_inputs(self.operation, factor[step].detach(), self.weight)

    def constant(self, step: int) -> Tensor | float | None:
        """Return the presynaptic factor of the bias in a step."""
        if self.bias is None or not self.bias.requires_grad:
            return None
        factor = self.arrival.presynaptic_bias
        return 1.0 if factor is None else factor[min(step, len(factor) - 1)]

    def eligibilities(self, neurons: str, kept: tuple[str, ...]) -> dict[str, Eligibility]:
        """Return those for some parts of the state of neurons; empty at the start."""
        found: dict[str, Eligibility] = {}
        for part in kept:
            of_weight, of_bias = (self.carried.get(_key(neurons, part, bias)) for bias in (False, True))
            if of_weight is not None or of_bias is not None:
                found[part] = Eligibility(of_weight, of_bias)
        return found

    def keep(self, neurons: str, eligibilities: Mapping[str, Eligibility]) -> None:
        """Keep eligibilities for the next step."""
        for part, eligibility in eligibilities.items():
            for value, of_bias in ((eligibility.weight, False), (eligibility.bias, True)):
                if value is not None:
                    self.carried[_key(neurons, part, of_bias)] = value


class EligibilityHooks(WeightHooks):
    """Scans neurons step by step, from states that carry the eligibilities of the layers in front of them.

    Args:
        wiring: Wiring of the network.
        plans: What the layers learn by.
    """

    def __init__(self, wiring: Wiring, plans: Plans) -> None:
        super().__init__(self._taken, wiring)
        self._taps = {site: plan.remembering for site, plan in plans.layers.items()}
        self._kept = {site: plan.kept for site, plan in plans.layers.items() if any(plan.kept.values())}
        self._filters = plans.filters
        self._calls: dict[str, _Call] = {}

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        arrival, after = super().on_weight(site, operation, x, weight, carried)
        if site not in self._kept:
            return arrival, after
        # The eligibilities follow when the neurons have run; the count says from the first step on that there are some.
        after = {**carried, **after, STEPS: carried.get(STEPS, x.new_zeros(())) + len(x)}
        self._calls[site] = _Call(arrival, after, operation, weight)
        return arrival, after

    def _taken(self, layer: Synapse, x: Tensor, carried: SiteState) -> tuple[SynapticInput, SiteState]:
        """Return what a layer transmits, and what the gradient of the instant is taken at: its input or a trace."""
        taps = self._taps.get(layer.name)
        if not taps:
            return SynapticInput(x), {}
        traces, after = traced(x, carried, taps)
        factor, of_bias = traced_ones(len(x), carried, taps, traces)
        return SynapticInput(x, presynaptic=traces, presynaptic_bias=factor), after | of_bias

    def on_layer(self, site: str, operation: Operation, weight: Tensor, bias: Tensor | None, current: Tensor) -> Tensor:
        if (call := self._calls.get(site)) is not None:
            call.bias, call.current = bias, current
        return current

    def on_scan(
        self, site: str, neuron: Neuron, current: Tensor, state: SiteState, through_time: bool
    ) -> tuple[Tensor, SiteState]:
        calls = {name: self._calls[name] for name, kept in self._kept.items() if site in kept and name in self._calls}
        calls = {name: call for name, call in calls.items() if call.learns}
        if not calls or not current.requires_grad or not torch.is_grad_enabled():
            return neuron.scan(current, state, through_time)
        factors, outputs = _factors(current, calls), []
        needed = {part for name in calls for part in self._kept[name][site]}
        for step, one in enumerate(current.split(1)):
            begun = {name: value.detach() for name, value in state.items()}
            own = {name: value.requires_grad_() for name, value in parts(begun, one[0]).items()}
            known = {name: call.eligibilities(site, self._kept[name][site]) for name, call in calls.items()}
            for name, call in calls.items():
                for part in own.keys() & known[name].keys():
                    own[part] = attach(own[part], call.weight, call.bias, known[name][part], call.layout)
            output, state = neuron.scan(one, {**begun, **own}, True)
            rows = slopes({part: value for part, value in state.items() if part in needed}, own, one)
            rows |= self._filtered(site, output[0], own, one)
            outputs.append(self._sent(site, output, calls, known))
            for name, call in calls.items():
                kept, at = {part: rows[part] for part in self._kept[name][site]}, factors[name]
                slope = None if at is None else at[step]
                after = advanced(known[name], kept, call.layout, call.inputs(step), call.constant(step), slope)
                call.keep(site, after)
        return torch.cat(outputs), {name: value.detach() for name, value in state.items()}

    def _filtered(self, site: str, output: Tensor, own: Mapping[str, Tensor], current: Tensor) -> dict[str, Slopes]:
        r"""Return the slopes of what later steps of readouts keep of an output o.

        With decays :math:`\alpha` and :math:`\kappa` of a readout, the derivative of its potential by weights in front
        of o is a trace of that of o; what is left of it at the next step is
        :math:`P[t] = \kappa (P[t-1] + do[t]) + G[t]` with :math:`G[t] = \alpha (G[t-1] + do[t])`.
        """
        taps = self._filters.get(site)
        if not taps:
            return {}
        taps = tuple(tap.detach() if isinstance(tap, Tensor) else tap for tap in taps)
        by, names, rows = slopes({OUTPUT: output}, own, current)[OUTPUT], filter_parts(taps), dict[str, Slopes]()
        for place, name in enumerate(names):
            rows[name] = {source: slope * sum(taps[: place + 1]) for source, slope in by.items()}
            rows[name] |= {part: torch.ones_like(output) * at for part, at in zip(names[: place + 1], taps)}
        return rows

    def _sent(
        self,
        site: str,
        output: Tensor,
        calls: Mapping[str, "_Call"],
        known: Mapping[str, Mapping[str, Eligibility]],
    ) -> Tensor:
        """Return an output `[1, batch, *feature]` as a function of the weights by what readouts remember of it."""
        for part in filter_parts(self._filters.get(site, ()))[-1:]:
            for name, call in calls.items():
                if part in known[name]:
                    output = attach(output[0], call.weight, call.bias, known[name][part], call.layout).unsqueeze(0)
        return output


def _factors(current: Tensor, calls: Mapping[str, _Call]) -> dict[str, Tensor | None]:
    """Return the derivatives of neurons' input by the currents of layers, entry by entry; `None` where it is 1."""
    sent = {name: call.current for name, call in calls.items() if call.current is not None}
    found: dict[str, Tensor | None] = dict.fromkeys(calls)
    between = {name: value for name, value in sent.items() if not _is_same(value, current)}
    if between:
        ones = torch.ones_like(current)
        grads = torch.autograd.grad(current, list(between.values()), ones, retain_graph=True)
        for name, grad in zip(between, grads):
            found[name] = grad.reshape(current.shape)
    return found


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Return True if two tensors are the same numbers in memory in the same order."""
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel() and a.is_contiguous() and b.is_contiguous()


def _key(neurons: str, part: str, of_bias: bool = False) -> str:
    return f"{part} of {neurons}" + (", by the bias" if of_bias else "")
