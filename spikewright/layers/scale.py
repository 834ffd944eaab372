"""Multiplication by a constant, which gives spikes unit variance."""

from torch import Tensor, nn

SPIKE_SCALE = 2.74


class Scale(nn.Module):
    """Multiply by a constant.

    Standardised weights keep the variance of currents only if their inputs have variance 1. Spikes do not: for a
    standard Gaussian current and threshold 1, a neuron fires with probability p = 1 - Phi(1) = 0.159, and the standard
    deviation of such 0/1 spikes is sqrt(p (1 - p)) = 0.365. Its inverse, 2.74, is the factor after every neuron of a
    network with scaled weight standardisation (Xiao et al., NeurIPS 2022, arXiv 2210.04195).

    Args:
        factor: The constant.

    >>> import torch
    >>> Scale(2.74)(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 2.7400])
    """

    def __init__(self, factor: float = SPIKE_SCALE) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return `factor * x`, of the same shape as `x`."""
        return x * self.factor

    def extra_repr(self) -> str:
        """Show the factor in the representation of the module."""
        return f"factor={self.factor}"
