"""What a forward alone does not show: backward passes of its own, hooks on gradients, drawn weights, counted rows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.odd.constructs import RANDOM, _anywhere, _current, _replacing, construct
from tests.odd.module import WIDTH, Draw, OddNet, Plain, Seen, Step

RANDOM.add("drawn_weight")
KINDS = ("clamped", "gated", "straight", "over rows")
CLIP = 2e-3


class OwnBackward(torch.autograd.Function):
    """The value, with another gradient: clamped, gated by data, straight through rounding, over its norm."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, kind: str) -> Tensor:
        ctx.kind = kind
        ctx.save_for_backward(value)
        return (8 * value).round() / 8 if kind == "straight" else value * 1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (value,), grad = ctx.saved_tensors, grads[0]
        if ctx.kind == "clamped":
            grad = grad.clamp(-CLIP, CLIP)
        elif ctx.kind == "gated":
            grad = grad * (value > 0.2)
        elif ctx.kind == "over rows":
            grad = grad / (grad.norm() + 1e-2)
        return grad, None


@construct
def own_backward(net: OddNet, draw: Draw) -> None:
    """An autograd.Function of one's own on a current, on spikes, or in front of the readout."""
    kind = draw.pick(*KINDS)

    def apply(self: Any, value: Tensor, seen: Seen) -> Tensor:
        result: Any = OwnBackward.apply(value, kind)
        return result

    (_current if draw.share() < 0.6 else _anywhere)(net, draw).append(Step(apply))


class Hooked(nn.Identity):
    """Has a hook on the gradients at what it returns."""

    def __init__(self, on_tensor: bool) -> None:
        super().__init__()
        self.on_tensor = on_tensor
        if not on_tensor:
            self.register_full_backward_hook(clip)

    def forward(self, input: Tensor) -> Tensor:
        output = input * 1
        if self.on_tensor and output.requires_grad:
            output.register_hook(lambda grad: grad.clamp(-CLIP, CLIP))
        return output


def clip(module: nn.Module, into: Any, out: Any) -> Any:
    return tuple(None if grad is None else grad.clamp(-CLIP, CLIP) for grad in into)


@construct
def gradient_hook(net: OddNet, draw: Draw) -> None:
    """A hook clips the gradient at a current or at spikes."""
    (_current if draw.share() < 0.6 else _anywhere)(net, draw).append(Plain(Hooked(draw.share() < 0.5)))


class DrawnWeight(nn.Linear):
    """Drops entries of its weight, or of its bias."""

    def __init__(self, of_bias: bool) -> None:
        super().__init__(WIDTH, WIDTH)
        self.of_bias = of_bias

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if self.of_bias:
            bias = F.dropout(bias, 0.3)
        else:
            weight = F.dropout(weight, 0.3)
        return F.linear(input, weight, bias)


@_replacing
def drawn_weight(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """Dropout of a weight in front of a layer's operation."""
    return DrawnWeight(draw.share() < 0.3)


@construct
def counted_rows(net: OddNet, draw: Draw) -> None:
    """A current goes by the number of rows, or by their order."""
    by_number = draw.share() < 0.5

    def count(self: Any, value: Tensor, seen: Seen) -> Tensor:
        rows = len(value)
        return value * (1 + rows / 10) if by_number else value + torch.arange(rows).unsqueeze(1) / 10

    _anywhere(net, draw).append(Step(count))
