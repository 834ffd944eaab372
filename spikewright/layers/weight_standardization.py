r"""Convolutions and linear maps whose weights are standardised per output unit.

For a unit with weights :math:`W`, :math:`n` of them, and a learned gain :math:`g`, the weight in use is

.. math::
    \hat W = g \, \frac{W - \operatorname{mean}(W)}{\sqrt{n \operatorname{var}(W) + \varepsilon}},

with the unbiased variance. Inputs of unit variance then give currents of variance :math:`g^2`, without any statistic
of the batch: nothing couples samples or time steps, so learning step by step and batches of one are possible.

References:
    Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, ICLR 2021,
    arXiv 2101.08692 (the method); Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022,
    arXiv 2210.04195 (its use in spiking networks).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikewright.errors import ShapeError

Pair = int | tuple[int, int]


def standardize(weight: Tensor, gain: Tensor | None = None, eps: float = 1e-4) -> Tensor:
    """Standardise each row of a weight, differentiably through its mean and variance.

    Args:
        weight: [out, *fan_in], at least two entries per row.
        gain: One factor per row, broadcastable against `weight`, or None for 1.
        eps: Added to `fan_in * variance`; a constant row becomes zero instead of NaN.

    Returns:
        The effective weight, [out, *fan_in].
    """
    axes = tuple(range(1, weight.dim()))
    variance, mean = torch.var_mean(weight, dim=axes, keepdim=True)
    standard = (weight - mean) * torch.rsqrt(variance * weight[0].numel() + eps)
    return standard if gain is None else standard * gain


def _check_fan_in(layer: nn.Module, weight: Tensor) -> None:
    if weight[0].numel() < 2:
        raise ShapeError(
            f"{layer} standardises the weights of each output unit, but a unit has only {weight[0].numel()}: the "
            "variance of fewer than two numbers is undefined. Use more input channels or a larger kernel, or the "
            "plain torch layer."
        )


def _ones_per_row(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.new_ones(weight.shape[0], *[1] * (weight.dim() - 1)))


class ScaledWSConv2d(nn.Conv2d):
    """A 2-d convolution with scaled weight standardisation, over [batch, channel, height, width].

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: As for `torch.nn.Conv2d`, like the five that follow.
        stride: Step of the window.
        padding: Border added to the input.
        dilation: Distance between the taps of the kernel.
        groups: Number of blocks of channels; each is standardised over its own inputs.
        bias: Whether to add a bias, which is not standardised.
        gain: Whether to learn a factor per output channel, which starts at 1.
        eps: Added under the square root.

    Raises:
        ShapeError: an output channel has fewer than two weights.
    """

    gain: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | Literal["same", "valid"] = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        gain: bool = True,
        eps: float = 1e-4,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        _check_fan_in(self, self.weight)
        self.register_parameter("gain", _ones_per_row(self.weight) if gain else None)
        self.eps = eps

    def effective_weight(self) -> Tensor:
        """The weight that the convolution uses, [out, in / groups, height, width]."""
        return standardize(self.weight, self.gain, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [batch, in, height, width] with the effective weight."""
        return self._conv_forward(input, self.effective_weight(), self.bias)


class ScaledWSLinear(nn.Linear):
    """A linear map with scaled weight standardisation, over [batch, *, in_features].

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        bias: Whether to add a bias, which is not standardised.
        gain: Whether to learn a factor per output feature, which starts at 1.
        eps: Added under the square root.

    Raises:
        ShapeError: there are fewer than two input features.
    """

    gain: nn.Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, gain: bool = True, eps: float = 1e-4
    ) -> None:
        super().__init__(in_features, out_features, bias)
        _check_fan_in(self, self.weight)
        self.register_parameter("gain", _ones_per_row(self.weight) if gain else None)
        self.eps = eps

    def effective_weight(self) -> Tensor:
        """The weight that the map uses, [out_features, in_features]."""
        return standardize(self.weight, self.gain, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Map [batch, *, in_features] with the effective weight."""
        return F.linear(input, self.effective_weight(), self.bias)
