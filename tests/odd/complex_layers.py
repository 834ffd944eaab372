"""Layers that compute with complex numbers, and are read as real ones afterwards."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.odd.module import WIDTH, Draw

READ: dict[str, Callable[[Tensor], Tensor]] = {
    "real": lambda z: z.real,
    "imag": lambda z: z.imag,
    "abs": lambda z: z.abs(),
    "both": lambda z: torch.view_as_real(z[:, ::2].contiguous()).flatten(1),
    "spectrum": lambda z: 3 * torch.fft.ifft(z).real,
}
"""Ways to make real numbers of complex ones, as many as there were."""


class Complex(nn.Module):
    """Complex layers that are given a real vector, or its spectrum.

    Args:
        layers: The layers.
        read: How what they make is read.
        of_spectrum: They are given the spectrum.
        shape: In which they see it, if it is not a vector.
    """

    def __init__(self, layers: nn.Module, read: str, of_spectrum: bool, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.layers, self.read, self.of_spectrum, self.shape = layers, read, of_spectrum, shape

    def forward(self, x: Tensor) -> Tensor:
        z = torch.fft.fft(x, norm="ortho") if self.of_spectrum else x.to(torch.complex128)
        z = self.layers(z.view(-1, *self.shape)).flatten(1) if self.shape else self.layers(z)
        return READ[self.read](z)


def draw_complex(draw: Draw, outputs: int, convolutions: bool) -> Complex:
    """Return one complex layer, two with no neurons between them, or perhaps a convolution."""
    kinds = ["one", "one", "two", "two", *(["conv1d", "conv2d"] if convolutions else [])]
    kind, read, of_spectrum = draw.pick(*kinds), draw.pick(*READ), draw.share() < 0.5
    if kind == "conv1d":
        conv = nn.Conv1d(3, 3, 3, padding=1, groups=draw.pick(1, 3), dtype=torch.complex128)
        return Complex(conv, read, of_spectrum, (3, 4))
    if kind == "conv2d":
        return Complex(nn.Conv2d(3, 3, 3, padding="same", dtype=torch.complex128), read, of_spectrum, (3, 2, 2))
    if kind == "two":
        return Complex(nn.Sequential(_layer(draw, WIDTH, 6), _layer(draw, 6, outputs)), read, of_spectrum)
    return Complex(_layer(draw, WIDTH, outputs), read, of_spectrum)


def _layer(draw: Draw, inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, dtype=torch.complex128)
    with torch.no_grad():
        layer.weight.copy_(_drawn(layer.weight, draw) * 2.2 / math.sqrt(inputs))
        layer.bias.copy_(0.4 + 0.4j + 0.3 * _drawn(layer.bias, draw))
    return layer


def _drawn(like: Tensor, draw: Draw) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=draw.generator)
