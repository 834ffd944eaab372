"""One call of `F.batch_norm` or of a dropout function, in the forward of a module that does more than this."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class NormCall:
    """A call of `F.batch_norm`; called with one batch, it normalises that batch and updates the running statistics.

    Attributes:
        training: True if it normalises by the statistics of its batch.
        momentum: Weight of a batch in the running statistics.
        whole_sequence: True if the statistics are those of all steps together.
        cumulative: True if the running statistics are plain means of all batches so far, and `momentum` is the weight
            of the first batch of this call.
        batches: Number of batches normalised so far.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    training: bool
    momentum: float
    eps: float
    whole_sequence: bool = False
    cumulative: bool = False
    batches: int = 0

    @property
    def track_running_stats(self) -> bool:
        """True: in evaluation all batches are normalised alike."""
        return True

    def next_momentum(self) -> float:
        """Return the weight of the next batch in the running statistics, and count it."""
        momentum = self.momentum
        if self.cumulative and momentum > 0:
            momentum = 1.0 / float(round(1 / momentum) + self.batches)
        self.batches += 1
        return momentum

    def __call__(self, x: Tensor) -> Tensor:
        mean, variance, momentum = self.running_mean, self.running_var, self.next_momentum()
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, momentum, self.eps)


def parse_functional(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[NormCall, Tensor]:
    """Read a call of `F.batch_norm`."""
    return NormCall(running_mean, running_var, weight, bias, training, momentum, eps), input


def parse_native(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> tuple[NormCall, Tensor]:
    """Read a call of `torch.batch_norm`."""
    return NormCall(running_mean, running_var, weight, bias, training, momentum, eps), input


NORM_PARSERS: dict[Any, Callable[..., tuple[NormCall, Tensor]]] = {
    F.batch_norm: parse_functional,
    torch.batch_norm: parse_native,
}


@dataclass(frozen=True)
class DropoutCall:
    """A call of one of torch's multiplicative dropout functions.

    Attributes:
        function: The function.
        p: Probability of a zero.
        training: True if anything is dropped.
    """

    function: Callable[..., Tensor]
    p: float
    training: bool

    def mask(self, ones: Tensor) -> Tensor:
        """Draw a mask, scaled by 1 / (1 - p), given ones of the shape of a step `[batch, *feature]`."""
        return self.function(ones, self.p, True)


def _parser(function: Callable[..., Tensor]) -> Callable[..., tuple[DropoutCall, Tensor]]:
    def parse(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> tuple[DropoutCall, Tensor]:
        return DropoutCall(function, p, training), input

    return parse


DROPOUT_PARSERS: dict[Any, Callable[..., tuple[DropoutCall, Tensor]]] = {
    f: _parser(f) for f in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
}
