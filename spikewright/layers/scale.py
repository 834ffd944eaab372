"""Multiplication by a constant, which gives spikes variance 1."""

from torch import Tensor, nn

from spikewright._util.ranges import check_numbers

SPIKE_SCALE = 2.74


class Scale(nn.Module):
    r"""Multiplication by a constant: :math:`y = c\,x`.

    Standardised weights keep the variance of currents only if their inputs have variance 1.  Spikes do not: for a
    standard normal current and threshold 1, a neuron fires with probability :math:`p = 1 - \Phi(1) = 0.159`, and such
    0/1 spikes have the standard deviation :math:`\sqrt{p(1-p)} = 0.365`.  Its inverse, 2.74, is the factor behind every
    neuron of a network with scaled weight standardisation.

    Args:
        factor: Factor :math:`c`.  Any finite number.  Default: 2.74.

    Raises:
        ConfigError: `factor` is not one finite number.

    Reference:
        Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv 2210.04195.

    >>> from spikewright.layers import Scale
    >>> import torch
    >>> Scale(2.74)(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 2.7400])
    """

    def __init__(self, factor: float = SPIKE_SCALE) -> None:
        super().__init__()
        check_numbers("Scale", "(-inf, inf)", factor=factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return `factor * x`.

        Args:
            x: Input.  Tensor of any shape.
        """
        return x * self.factor

    def extra_repr(self) -> str:
        """Return the factor, for the representation of the module."""
        return f"factor={self.factor}"
