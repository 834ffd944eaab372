"""Online training through time (Xiao et al., 2022), as autograd of a network with a rewritten gradient path.

The value of every synapse is its true current, without gradient. Its gradient path is
`own + W.detach() @ s[t]` with `own[t] = leak * own[t-1] + W @ s[t].detach() + b`: the second term hands the error of
this step down to the layer below, and through `own` the weight receives error times trace. One backward pass over the
summed losses then gives the rule of the paper: `sum_t g[t] a[t]^T` with `a[t] = leak * a[t-1] + s[t]`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params, weighted


@dataclass(frozen=True)
class Traces:
    """Which presynaptic factors are traces, and with which leak.

    The defaults follow the equations: every synapse that feeds a neuron has a trace with the leak of that neuron, its
    bias is a weight from a constant 1, and a readout, which feeds no neuron, is instantaneous.

    Args:
        trace_input: Trace what does not come from neurons only (the data); False makes those biases instantaneous too.
        trace_bias: Trace the constant 1 of the biases; False gives them the factor 1.
        trace_readout: Trace the weight of a readout with the leak of the sending neurons; its bias keeps the factor 1.
        sender_leak: Take the leak of the sending instead of the receiving neurons wherever there are some.
        leak: Use this leak for every trace.
    """

    trace_input: bool = True
    trace_bias: bool = True
    trace_readout: bool = False
    sender_leak: bool = False
    leak: float | None = None

    def takes_weight(self, pre: str | None, post: str | None) -> bool:
        """Whether the weight from the neurons `pre` to the neurons `post` has a trace at all."""
        if post is None:
            return self.trace_readout and pre is not None
        return self.trace_input or pre is not None

    def takes_bias(self, pre: str | None, post: str | None) -> bool:
        """Whether the bias has one."""
        return self.trace_bias and post is not None and self.takes_weight(pre, post)

    def leak_of(self, pre: str | None, post: str | None, leaks: dict[str, float]) -> float:
        """Leak of the trace between two layers, given that of every neuron layer."""
        if self.leak is not None:
            return self.leak
        return leaks[pre if post is None or (self.sender_leak and pre is not None) else post]


REFERENCE = {"trace_input": False, "trace_bias": False, "trace_readout": True, "sender_leak": True}


class Online(Machine):
    """A machine whose synapses keep their own gradient path."""

    def __init__(self, params: Params, traces: Traces) -> None:
        super().__init__(params, cut=True)
        self.traces = traces
        self.own: dict[str, tuple[Tensor, Tensor]] = {}

    def syn(self, name: str, x: Tensor, pre: str | None = None, post: str | None = None, **conv: int) -> Tensor:
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        value = weighted(x, weight, bias, **conv).detach()
        path = self.traced(name, x.detach(), pre, post, **conv) + weighted(x, weight.detach(), None, **conv)
        return value + (path - path.detach())

    def traced(self, name: str, x: Tensor, pre: str | None, post: str | None, **conv: int) -> Tensor:
        """The gradient path of the weight and the bias of `name` itself, for an input without one."""
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        own, constant = weighted(x, weight, None, **conv), bias
        if name in self.own and self.traces.takes_weight(pre, post):
            own = own + self.traces.leak_of(pre, post, self.leaks) * self.own[name][0]
        if name in self.own and self.traces.takes_bias(pre, post):
            constant = constant + self.traces.leak_of(pre, post, self.leaks) * self.own[name][1]
        self.own[name] = own, constant
        return own + (constant if weight.dim() == 2 else constant[:, None, None])


def gradients(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    reference: bool = False,
    **options: bool | float,
) -> Params:
    """OTTT-A gradient of the mean over time of `criterion(output[t], y)`.

    `options` are those of `Traces`; `reference` starts from the choices of the authors' published code instead.
    """
    machine = Online(params, Traces(**{**(REFERENCE if reference else {}), **options}))
    losses = [criterion(output, y) for output in machine.run(program, x)]
    return machine.gradients(torch.stack(losses).sum() / len(x))
