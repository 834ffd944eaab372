"""Small plain networks that cover what a learning rule can meet; `tests/oracles/programs.py` has each one again.

`NETS[name](seed)` is a float64 module that takes one step `[batch, *feature]`; `sample(name, seed)` is its data.
"""

from collections.abc import Callable

from torch import nn

from spikewright.testing.nets import BUILDERS, Branching, Residual, integrate, lif, mlp
from tests.oracles.draw import WEIGHTS, sample, weights

__all__ = ["NETS", "Branching", "Residual", "integrate", "lif", "mlp", "sample"]


def seeded(name: str, build: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """The module of `build` in float64 with the drawn parameters of the network `name`."""

    def make(seed: int) -> nn.Module:
        net = build().double()
        net.load_state_dict(weights(name, seed))
        return net

    return make


NETS = {name: seeded(name, BUILDERS[name]) for name in WEIGHTS}
