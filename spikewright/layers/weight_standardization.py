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

from spikewright._util.ranges import MOST, check_choice, check_count, check_counts, check_flag, check_numbers
from spikewright.errors import ConfigError, ShapeError

Pair = int | tuple[int, int]


def standardize(weight: Tensor, gain: Tensor | None = None, eps: float = 1e-4) -> Tensor:
    """Standardise each row of a weight; differentiable through its mean and variance.

    Args:
        weight: Weight.  Tensor `[out, *fan_in]`, at least two entries per row.
        gain: Factor per row.  Tensor that broadcasts against `weight`.  Default: None, which is 1.
        eps: Number > 0 that is added to `fan_in * variance`, so that a constant row becomes 0.  Default: 1e-4.

    Returns:
        The standardised weight, `[out, *fan_in]`.
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


def _check_pair(name: str, value: object, least: int, most: int) -> None:
    """Raise `ConfigError` unless an argument of a convolution is a whole number in a range, or two of them."""
    pair = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    for number in pair:
        check_count("ScaledWSConv2d", name, number, f"{name} is one number, or two", least, most)


def _ones_per_row(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.new_ones(weight.shape[0], *[1] * (weight.dim() - 1)))


class ScaledWSConv2d(nn.Conv2d):
    r"""2-d convolution with scaled weight standardisation, over `[batch, channel, height, width]`.

    For each output channel with weights :math:`W`, :math:`n` of them, and a trained gain :math:`g`, the weight in
    use is

    .. math::
        \hat W = g \, \frac{W - \operatorname{mean}(W)}{\sqrt{n \operatorname{var}(W) + \varepsilon}},

    with the unbiased variance.  Inputs of variance 1 then give currents of variance :math:`g^2`, without statistics of
    the batch, so samples and time steps stay independent.

    Args:
        in_channels: Channels of the input.  Whole number from 1 to 10**6.
        out_channels: Channels of the output.  Whole number from 1 to 10**6.
        kernel_size: Size of the kernel.  Whole number from 1 to 255, or (height, width).
        stride: Step of the window.  Whole number from 1 to 10**6, or (vertical, horizontal).  Default: 1.
        padding: Zeros added on each side of the input.  Whole number from 0 to 10**6, pair, "same" or "valid".
            Default: 0.
        dilation: Distance between the taps of the kernel.  Whole number from 1 to 10**6, or pair.  Default: 1.
        groups: Number of blocks of channels, each standardised over its own inputs.  Whole number >= 1
            that divides both numbers of channels.  Default: 1.
        bias: True adds a bias, which is not standardised.  Default: True.
        gain: True trains a factor per output channel, which starts at 1.  Default: True.
        eps: Number > 0 added under the square root.  Default: 1e-4.

    Raises:
        ShapeError: An output channel has fewer than two weights.

    Reference:
        Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, ICLR 2021,
        arXiv 2101.08692 (the method); Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS
        2022, arXiv 2210.04195 (in spiking networks).

    >>> from spikewright.layers import ScaledWSConv2d
    >>> import torch
    >>> layer = ScaledWSConv2d(2, 3, 3, padding=1)
    >>> layer(torch.rand(1, 2, 8, 8)).shape, bool(layer.effective_weight().mean((1, 2, 3)).abs().max() < 1e-6)
    (torch.Size([1, 3, 8, 8]), True)
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
        check_counts("ScaledWSConv2d", most=MOST, in_channels=in_channels, out_channels=out_channels)
        _check_pair("kernel_size", kernel_size, 1, 255)
        _check_pair("stride", stride, 1, MOST)
        _check_pair("dilation", dilation, 1, MOST)
        if isinstance(padding, str):
            check_choice("ScaledWSConv2d", "padding", padding, ("same", "valid"))
        else:
            _check_pair("padding", padding, 0, MOST)
        check_counts("ScaledWSConv2d", groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ConfigError(
                f"ScaledWSConv2d(groups={groups}) divides {in_channels} channels of the input and {out_channels} of "
                "the output, which leaves a remainder. Give a number of groups that divides both."
            )
        check_flag("ScaledWSConv2d", bias=bias, gain=gain)
        check_numbers("ScaledWSConv2d", "(0, inf)", eps=eps)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        _check_fan_in(self, self.weight)
        self.register_parameter("gain", _ones_per_row(self.weight) if gain else None)
        self.eps = eps

    def effective_weight(self) -> Tensor:
        """Return the weight in use, `[out, in / groups, height, width]`."""
        return standardize(self.weight, self.gain, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve the input with the weight in use.

        Args:
            input: Tensor `[batch, in, height, width]`.
        """
        return self._conv_forward(input, self.effective_weight(), self.bias)


class ScaledWSLinear(nn.Linear):
    r"""Linear layer with scaled weight standardisation, over `[batch, *, in_features]`.

    For each output feature with weights :math:`W`, :math:`n` of them, and a trained gain :math:`g`, the weight in
    use is

    .. math::
        \hat W = g \, \frac{W - \operatorname{mean}(W)}{\sqrt{n \operatorname{var}(W) + \varepsilon}},

    with the unbiased variance.  Inputs of variance 1 then give currents of variance :math:`g^2`, without statistics of
    the batch, so samples and time steps stay independent.

    Args:
        in_features: Size of the last axis of the input.  Whole number from 2 to 10**6.
        out_features: Size of the last axis of the output.  Whole number from 1 to 10**6.
        bias: True adds a bias, which is not standardised.  Default: True.
        gain: True trains a factor per output feature, which starts at 1.  Default: True.
        eps: Number > 0 added under the square root.  Default: 1e-4.

    Raises:
        ShapeError: An output feature has fewer than two weights.

    Reference:
        Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, ICLR 2021,
        arXiv 2101.08692 (the method); Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS
        2022, arXiv 2210.04195 (in spiking networks).

    >>> from spikewright.layers import ScaledWSLinear
    >>> import torch
    >>> layer = ScaledWSLinear(100, 3)
    >>> bool((layer.effective_weight().norm(dim=1) - 1).abs().max() < 0.01)
    True
    """

    gain: nn.Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, gain: bool = True, eps: float = 1e-4
    ) -> None:
        check_counts("ScaledWSLinear", most=MOST, in_features=in_features, out_features=out_features)
        check_flag("ScaledWSLinear", bias=bias, gain=gain)
        check_numbers("ScaledWSLinear", "(0, inf)", eps=eps)
        super().__init__(in_features, out_features, bias)
        _check_fan_in(self, self.weight)
        self.register_parameter("gain", _ones_per_row(self.weight) if gain else None)
        self.eps = eps

    def effective_weight(self) -> Tensor:
        """Return the weight in use, `[out_features, in_features]`."""
        return standardize(self.weight, self.gain, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply the input by the weight in use.

        Args:
            input: Tensor `[batch, *, in_features]`.
        """
        return F.linear(input, self.effective_weight(), self.bias)
