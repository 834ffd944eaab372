"""What the tests of rules share: the arguments of one case, and the distance between two sets of gradients."""

from torch.nn import functional as F

from tests.oracles.draw import sample, weights
from tests.oracles.machine import Params
from tests.oracles.programs import PROGRAMS


def relative(left: Params, right: Params) -> dict[str, float]:
    """Distance of every gradient, relative to the size of the second."""
    assert left.keys() == right.keys()
    return {name: float((left[name] - right[name]).norm() / right[name].norm().clamp(min=1e-300)) for name in left}


def assert_agree(left: Params, right: Params, tolerance: float = 1e-12) -> None:
    for name, distance in relative(left, right).items():
        assert distance < tolerance, (name, distance)


def case(name: str, seed: int = 0, steps: int = 6) -> tuple:
    return PROGRAMS[name], weights(name, seed), *sample(name, seed, steps), F.cross_entropy
