"""Seeded float64 parameters and data for the small networks, scaled so that every neuron layer is alive."""

import math

import torch
from torch import Tensor

from tests.oracles.machine import Params

STEPS, BATCH, CLASSES = 6, 3, 4

MLP = {"0": (12, 8), "2": (10, 12), "4": (CLASSES, 10)}
WEIGHTS: dict[str, dict[str, tuple[int, ...]]] = {
    "mlp": MLP,
    "two_leaks": MLP,
    "conv": {"0": (6, 2, 3, 3), "3": (8, 3, 3, 3), "6": (CLASSES, 32)},
    "residual": {"stem": (6, 2, 3, 3), "conv1": (6, 6, 3, 3), "conv2": (6, 6, 3, 3), "out": (CLASSES, 54)},
    "branching": {"stem": (12, 8), "left": (10, 12), "right": (10, 12), "out": (CLASSES, 10)},
    "feedback": {"0": (12, 8), "1.transform": (12, 10), "3": (10, 12), "5": (CLASSES, 10)},
    "deep": {"0": (12, 8), "2": (12, 12), "4": (10, 12), "6": (CLASSES, 10)},
    "shared": {"fc1": (12, 8), "fc2": (12, 12), "out": (CLASSES, 12)},
    "hard_reset": MLP,
    "attached": MLP,
    "delayed": {"0": (12, 8), "3": (10, 12), "5": (CLASSES, 10)},
    "if_net": MLP,
}
DELAYS = {"delayed": {"2.delay_logit": 12}}
"""Channels of every delay."""
FEATURES = {"conv": (2, 8, 8), "residual": (2, 6, 6)}


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> Params:
    """Parameters `NAME.weight` and `NAME.bias` for the weight shape of each name."""
    source, params = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        spread = 2.5 / math.sqrt(math.prod(shape[1:]))
        params[f"{name}.weight"] = spread * torch.randn(shape, generator=source, dtype=torch.float64)
        params[f"{name}.bias"] = 0.45 + 0.2 * torch.randn(shape[0], generator=source, dtype=torch.float64)
    return params


def weights(name: str, seed: int) -> Params:
    """The parameters of the network `name`."""
    source = torch.Generator().manual_seed(2000 + seed)
    delays = {
        delay: 1.5 * torch.randn(channels, generator=source, dtype=torch.float64) - 1
        for delay, channels in DELAYS.get(name, {}).items()
    }
    return draw(WEIGHTS[name], seed) | delays


def sample(name: str, seed: int, steps: int = STEPS, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Input `[steps, batch, *feature]` and classes `[batch]`: real numbers for an even seed, spikes for an odd one."""
    source = torch.Generator().manual_seed(1000 + seed)
    x = torch.rand(steps, batch, *FEATURES.get(name, (8,)), generator=source, dtype=torch.float64)
    y = torch.randint(CLASSES, (batch,), generator=source)
    return 1.5 * ((x > 0.6).to(x) if seed % 2 else x), y
