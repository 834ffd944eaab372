"""The linear operation of a layer, with a weight gradient that may be taken at something other than its input.

A layer transmits `value` and produces a current.  Its weight gradient is `delta (x) presynaptic`, with delta the
gradient at the current; by default the presynaptic factor is the value.  A rule with another factor (a trace, a rate, a
projected input) returns a `SynapticInput`; the forward operation runs once either way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright._util.returned import is_carried, wrong
from spikewright.synapses.operations import Convolution, Linear, Operation
from spikewright.temporal import is_static


@dataclass(frozen=True)
class SynapticInput:
    r"""What a layer with a weight transmits in a chunk, and the factors of its gradients.

    A rule returns one from its hook at the layer (`OnlineRule.on_weight`, `Hooks.on_weight`).  With :math:`v` the
    value, :math:`p` the presynaptic factor, :math:`q` that of the bias, :math:`B` the feedback weights and
    :math:`\delta` the gradient at the current,

    .. math::
        I[t] = \mathrm{op}(v[t], W) + b, \qquad \nabla W = \sum_t \delta[t] \otimes p[t], \qquad
        \nabla b = \sum_t q[t]\, \delta[t], \qquad \nabla v[t] = B^\top \delta[t].

    Args:
        value: Transmitted input :math:`v`.  Tensor of the layout of the layer's input, `[time, batch, *feature]`.
        presynaptic: Factor :math:`p` of the weight gradient.  Tensor of the shape of `value`,
            `[time, batch, *feature]`.  Default: None, the value.
        presynaptic_bias: Factor :math:`q` of the bias gradient.  Tensor `[time]` or `[1]`.  Default: None, which is 1.
        back: Feedback weights :math:`B` that carry the error back.  Tensor of the shape of the weight,
            `[output, input, *kernel]`.  Default: None, the weight.
        project: Function that the backward pass applies to the rows of the weight gradient's factor, from
            `[any, inputs per output]` to the same shape, such as a projection.  Default: None, no change.

    Raises:
        ExtensionError: In a run, a part does not fit the layer.

    >>> import torch, spikewright as sw
    >>> x = torch.ones(3, 2, 4)
    >>> sw.SynapticInput(x).plain, sw.SynapticInput(x, presynaptic=x.cumsum(0)).plain
    (True, False)
    """

    value: Tensor
    presynaptic: Tensor | None = None
    presynaptic_bias: Tensor | None = None
    back: Tensor | None = None
    project: Callable[[Tensor], Tensor] | None = None

    @property
    def plain(self) -> bool:
        """True if nothing but the value is given, so that ordinary autograd does the same."""
        return self.presynaptic is self.presynaptic_bias is self.back is self.project is None


def check_arrival(
    owner: object, answer: Any, operation: Operation, x: Tensor, weight: Tensor
) -> tuple[SynapticInput, Any]:
    """Check what `on_weight` returned for an input `[time, batch, *feature]`, and return it.

    Raises:
        ExtensionError: It is not a `SynapticInput` with a state, or a part of it does not fit the layer.
    """
    batch = x.shape[1]
    if not (
        isinstance(answer, tuple)
        and len(answer) == 2
        and isinstance(answer[0], SynapticInput)
        and is_carried(answer[1], batch)
    ):
        raise wrong(
            owner,
            "on_weight",
            f"a SynapticInput and what it carries on, a dictionary {{name: tensor [batch={batch}, ...]}}",
            answer,
            "Return both, such as `return SynapticInput(x), carried`, with {} where nothing is carried.",
        )
    for what, found in _misfits(answer[0], operation, x, weight):
        raise wrong(owner, "on_weight", f"a SynapticInput with {what}", found)
    return answer


def _misfits(arrival: SynapticInput, operation: Operation, x: Tensor, weight: Tensor) -> Iterator[tuple[str, object]]:
    """Yield what is required of the parts that do not fit the layer, each with the part."""
    value: Any = arrival.value
    if value is not x and not (
        isinstance(value, Tensor) and value.shape[:2] == x.shape[:2] and operation.accepts(value.flatten(0, 1), weight)
    ):
        yield f"a value of the layout of its input, {list(x.shape)}", value
    elif value.dtype != x.dtype:
        yield f"a value of the dtype of its input, {x.dtype}", value
    factor: Any = arrival.presynaptic
    if factor is not None and not (isinstance(factor, Tensor) and factor.shape == value.shape):
        yield "a presynaptic factor of the shape of the value", factor
    by_step: Any = arrival.presynaptic_bias
    if by_step is not None and not (isinstance(by_step, Tensor) and by_step.shape in ((len(x),), (1,))):
        yield f"a presynaptic_bias of one number per step, [{len(x)}]", by_step
    back: Any = arrival.back
    if back is not None and not (isinstance(back, Tensor) and back.shape == weight.shape):
        yield f"in back the shape of the weight, {list(weight.shape)}", back
    parts = {"a presynaptic factor": factor, "a presynaptic_bias": by_step, "weights in back": back}
    for what, part in parts.items():
        if isinstance(part, Tensor) and part.is_complex() and not weight.is_complex():
            yield f"{what} of real numbers, as the weight of the layer is real", part
    if arrival.project is not None and not callable(arrival.project):
        yield "a function in project", arrival.project


class _Transmit(torch.autograd.Function):
    """`operation(value)` forward; the backward pass takes `presynaptic` for the value and `back` for the weight.

    A value of one step is repeated for every step of the presynaptic factor.
    """

    @staticmethod
    def forward(
        ctx: Any,
        operation: Operation,
        value: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        presynaptic: Tensor,
        presynaptic_bias: Tensor | None,
        back: Tensor | None,
        project: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        ctx.operation, ctx.project = operation, project
        ctx.save_for_backward(presynaptic, weight if back is None else back, presynaptic_bias)
        current = operation(value, weight, bias)
        ctx.times = len(presynaptic) // len(value)
        return current if ctx.times == 1 else current.repeat(ctx.times, *[1] * (current.dim() - 1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        presynaptic, weight, presynaptic_bias = ctx.saved_tensors
        _, need_value, need_weight, need_bias, *_ = ctx.needs_input_grad
        grad = grads[0]
        by_step = presynaptic_bias is not None and len(presynaptic_bias) > 1
        presynaptic, weight = presynaptic.to(grad.dtype), weight.to(grad.dtype)
        needed = (need_value, need_weight and ctx.project is None, need_bias and not by_step)
        for_value, for_weight, for_bias = ctx.operation.backward(grad, presynaptic, weight, needed)
        if need_weight and ctx.project is not None:
            patches = ctx.operation.patches(presynaptic, weight)
            rows = ctx.project(patches)
            if not isinstance(rows, Tensor) or rows.shape != patches.shape:
                shape = f"rows of the shape that it is given, {list(patches.shape)}"
                raise wrong(SynapticInput, "project", shape, rows)
            for_weight = ctx.operation.at_patches(grad, rows, weight)
        if need_bias and by_step:
            for_bias = ctx.operation.bias_gradient(grad, presynaptic_bias)
        elif need_bias and presynaptic_bias is not None:
            for_bias = for_bias * presynaptic_bias.to(grad.dtype).conj()
        if for_value is not None and ctx.times > 1:
            for_value = for_value.unflatten(0, (ctx.times, -1)).sum(0)
        return None, for_value, for_weight, for_bias, None, None, None, None


def transmit(
    operation: Operation, arrival: SynapticInput, weight: Tensor, bias: Tensor | None, as_bytes: bool = False
) -> Tensor:
    """Run one layer for a chunk, and return the current, `[time, batch, *feature]`.

    A repeated step is transmitted once.

    Args:
        operation: Linear operation of the layer.
        arrival: Value and factors.
        weight: Weight of the layer.
        bias: Bias of the layer, if it has one.
        as_bytes: True if the value holds zeros and ones and is to be kept as bytes for the backward pass.
    """
    value = arrival.value
    if len(value) > 1 and is_static(value) and (arrival.presynaptic is not None or arrival.presynaptic_bias is None):
        value = value[:1]
    value = value.flatten(0, 1)
    as_bytes = as_bytes and arrival.presynaptic is None and weight.requires_grad and torch.is_grad_enabled()
    current: Any  # apply, below, has no return type
    if arrival.plain and not as_bytes:
        current = operation(value, weight, bias)
    else:
        presynaptic = value.detach() if arrival.presynaptic is None else arrival.presynaptic.flatten(0, 1)
        if as_bytes:
            presynaptic = presynaptic.to(torch.uint8)
        current = _Transmit.apply(
            operation, value, weight, bias, presynaptic, arrival.presynaptic_bias, arrival.back, arrival.project
        )
    steps, batch = arrival.value.shape[:2]
    if current.shape[0] == steps * batch:
        return current.unflatten(0, (steps, batch))
    return current.unsqueeze(0).expand(steps, *current.shape)


LAYERS: dict[Any, Callable[..., tuple[Operation, Tensor, Tensor, Tensor | None]]] = {
    F.linear: Linear.parse,
    **{f: Convolution.parser(f, d, False) for d, f in ((1, F.conv1d), (2, F.conv2d), (3, F.conv3d))},
    **{
        f: Convolution.parser(f, d, True)
        for d, f in ((1, F.conv_transpose1d), (2, F.conv_transpose2d), (3, F.conv_transpose3d))
    },
}
"""The linear operations of layers, for an interception, and how their calls are read.

The *operation* is taken and not the module, so that padding modes, parametrised weights and subclasses with a forward
of their own are all served, and the presynaptic factor is taken where the weight meets its input.
"""
