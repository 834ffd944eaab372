"""Networks with complex layers, and the same networks in real numbers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF

C = torch.complex128
STEPS, BATCH, INPUTS, WIDTH, CLASSES = 5, 3, 4, 8, 3
CE, RATE = PerStep(F.cross_entropy), OnRate(F.cross_entropy)


class Made(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def turned(dtype: torch.dtype = C) -> Made:
    """Real numbers become complex ones of all directions."""
    return Made(lambda x: torch.fft.fft(x, norm="ortho").to(dtype))


def read(kind: str) -> Made:
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "real": lambda z: z.real,
        "imag": lambda z: z.imag,
        "abs": lambda z: z.abs(),
        "both": lambda z: torch.view_as_real(z[..., ::2].contiguous()).flatten(-2),
        "fft": lambda z: torch.fft.ifft(z, norm="ortho").real,
    }
    return Made(ways[kind])


READ = ("real", "imag", "abs", "both", "fft")


def drawn(module: nn.Module, scale: float = 0.9) -> nn.Module:
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(scale * torch.randn(p.shape, dtype=p.dtype, generator=source))
    return module


def deep(kind: str) -> Network:
    """Two complex layers in a row in front of the last neurons, and two in the readout."""
    return Network(
        drawn(
            nn.Sequential(
                nn.Linear(INPUTS, WIDTH),
                LIF(),
                turned(),
                nn.Linear(WIDTH, 6, dtype=C),
                nn.Linear(6, WIDTH, dtype=C),
                read(kind),
                LIF(),
                turned(),
                nn.Linear(WIDTH, 6, dtype=C),
                nn.Linear(6, 4, dtype=C),
                read(kind),
            )
        )
    )


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(2)
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=dtype, generator=source)
    return x, torch.arange(BATCH) % CLASSES


class Twins:
    """A network with complex weights and inputs, of which the real part is read, and its twin of real numbers.

    The layer of the twin is given real and imaginary parts side by side, and has the weights `[Re W, -Im W]`.

    Args:
        leaky: Its neurons leak.
    """

    def __init__(self, leaky: bool) -> None:
        neuron = LIF if leaky else IF

        def network(first: nn.Module) -> nn.Module:
            return nn.Sequential(first, neuron(), nn.Linear(WIDTH, WIDTH), neuron(), nn.Linear(WIDTH, CLASSES))

        self.own = drawn(network(nn.Sequential(nn.Linear(INPUTS, WIDTH, dtype=C), read("real"))))
        self.twin = network(nn.Sequential(nn.Linear(2 * INPUTS, WIDTH), nn.Identity()))
        self.twin.load_state_dict({n: as_twin(v) for n, v in self.own.state_dict().items()})
        self.x, self.y = data(C)
        self.x_twin = torch.cat([self.x.real, self.x.imag], -1)


def as_twin(value: Tensor) -> Tensor:
    """Return what the twin has in the place of a parameter, or of a gradient, of the first layer."""
    if not value.is_complex():
        return value
    return torch.cat([value.real, -value.imag], 1) if value.dim() == 2 else value.real
