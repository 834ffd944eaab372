r"""Eligibilities: the derivatives of the own state of neurons by the weights of a layer in front of them.

With :math:`S_j[t]` the state of neuron j, :math:`I_j[t]` its current, and :math:`x_i[t]` the input of the layer, the
derivative of a state by a weight with the spikes of all other neurons held fixed is

.. math::
    E_{ji}[t] = \frac{\partial S_j[t]}{\partial S_j[t-1]} E_{ji}[t-1]
                + \frac{\partial S_j[t]}{\partial I_j[t]}\, x_i[t].

`attach` makes a state that a step starts from a function of the weights, with these derivatives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright.rules._own_state import CURRENT, Slopes
from spikewright.synapses.operations import Convolution, Operation


@dataclass(frozen=True)
class Layout:
    """Where the rows of a layer's weight meet its inputs: `[batch, group, position, output or input of the group]`.

    Attributes:
        groups: Number of groups of a convolution; 1 for a linear layer.
        outputs: Number of outputs of a group.
        weight: Shape of the weight.
        channels_last: True if the axis of outputs is the last one of a current, as in linear layers.
    """

    groups: int
    outputs: int
    weight: tuple[int, ...]
    channels_last: bool

    @classmethod
    def of(cls, operation: Operation, weight: Tensor) -> "Layout":
        """Return the layout of a layer."""
        groups = operation.groups if isinstance(operation, Convolution) else 1
        return cls(groups, len(weight) // groups, tuple(weight.shape), not isinstance(operation, Convolution))

    def at_outputs(self, values: Tensor) -> Tensor:
        """Return numbers of neurons, `[batch, *]`, at the outputs: `[batch, group, position, output]`."""
        if self.channels_last:
            return values.reshape(len(values), 1, -1, self.outputs)
        return values.reshape(len(values), self.groups, self.outputs, -1).transpose(2, 3)

    def at_inputs(self, operation: Operation, factor: Tensor, weight: Tensor) -> Tensor:
        """Return the input of a step, `[batch, *feature]`, at the inputs: `[batch, group, position, input]`."""
        if self.channels_last:
            return factor.reshape(len(factor), 1, -1, factor.shape[-1])
        rows = operation.patches(factor, weight)
        return rows.reshape(self.groups, len(factor), -1, rows.shape[-1]).transpose(0, 1)


@dataclass(frozen=True)
class Eligibility:
    """Derivatives of one part of a neuron's state by a layer's weight and bias.

    Attributes:
        weight: Those by the weight, `[batch, group, position, output, input]`; `None` if it does not learn.
        bias: Those by the bias, `[batch, group, position, output]`; `None` if there is none that learns.
    """

    weight: Tensor | None
    bias: Tensor | None


@torch.no_grad()
def advanced(
    before: Mapping[str, Eligibility],
    slopes: Mapping[str, Slopes],
    layout: Layout,
    inputs: Tensor | None,
    constant: Tensor | float | None,
    factor: Tensor | None,
) -> dict[str, Eligibility]:
    """Return the eligibilities after a step.

    Args:
        before: Eligibilities before it, by part of the state; empty at the start.
        slopes: Derivatives of every part of the state in this step.
        layout: Layout of the layer.
        inputs: Presynaptic factor at the inputs, `[batch, group, position, input]`; `None` if the weight does not
            learn.
        constant: The same of the bias, a number; `None` if there is none that learns.
        factor: Derivative of the neurons' input by the layer's current, entry by entry; `None` is 1.
    """
    after: dict[str, Eligibility] = {}
    for part, by in slopes.items():
        at = {source: layout.at_outputs(slope) for source, slope in by.items()}
        own = at.pop(CURRENT, None)
        if own is not None and factor is not None:
            own = own * layout.at_outputs(factor).to(own)
        weight = bias = None
        if inputs is not None:
            weight = _sum([(at[k][..., None], e.weight) for k, e in before.items() if k in at], own, inputs)
        if constant is not None:
            bias = None if own is None else own * constant
            for source, eligibility in before.items():
                if source in at and eligibility.bias is not None:
                    term = at[source] * eligibility.bias
                    bias = term if bias is None else bias + term
        after[part] = Eligibility(weight, bias)
    return after


def _sum(terms: list[tuple[Tensor, Tensor | None]], own: Tensor | None, inputs: Tensor) -> Tensor | None:
    """Return the own slope times the inputs, plus the sum of slopes times eligibilities."""
    total = None if own is None else own[..., None] * inputs.to(own.dtype)[..., None, :]
    for slope, eligibility in terms:
        if eligibility is not None:  # one pass over memory
            total = slope * eligibility if total is None else total.addcmul_(slope, eligibility)
    return total


class _Attach(torch.autograd.Function):
    """A state as it is; its gradient goes to a weight and a bias through eligibilities."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        of_weight: Tensor | None,
        of_bias: Tensor | None,
        layout: Layout,
    ) -> Tensor:
        ctx.layout = layout
        ctx.save_for_backward(of_weight, of_bias)
        ctx.kinds = weight.dtype, None if bias is None else bias.dtype
        return state.view_as(state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        of_weight, of_bias = ctx.saved_tensors
        for_weight = for_bias = None
        error = layout.at_outputs(grads[0])
        if ctx.needs_input_grad[1] and of_weight is not None:
            found = torch.einsum("ngpo,ngpoi->goi", error.to(of_weight), of_weight)
            for_weight = found.reshape(layout.weight).to(ctx.kinds[0])
        if ctx.needs_input_grad[2] and of_bias is not None:
            for_bias = (error.to(of_bias) * of_bias).sum((0, 2)).flatten().to(ctx.kinds[1])
        return grads[0], for_weight, for_bias, None, None, None


def attach(state: Tensor, weight: Tensor, bias: Tensor | None, eligibility: Eligibility, layout: Layout) -> Tensor:
    """Return a part of a state as a function of a layer's weight and bias.

    Args:
        state: The part, `[batch, *feature]`, with or without a graph.
        weight: The weight.
        bias: The bias, if there is one.
        eligibility: Derivatives of the part by them.
        layout: Layout of the layer.
    """
    return _Attach.apply(state, weight, bias, eligibility.weight, eligibility.bias, layout)  # type: ignore[return-value]
