"""A slope that looks at more than one number would depend on the chunk, and is refused when a neuron is made."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.errors import ExtensionError
from spikewright.neurons import LIF
from spikewright.surrogate import Rectangle, Sigmoid, Surrogate


class Own(Surrogate):
    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.answer = answer

    def slope(self, x: Tensor) -> Tensor:
        return self.answer(x)


class Fading(Surrogate):
    """Goes by how often it was asked."""

    asked = 0

    def slope(self, x: Tensor) -> Tensor:
        self.asked += 1
        return torch.full_like(x, 1 / self.asked)


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": lambda x: 1 / (1 + x.abs() / (x.abs().max() + 1e-3)),
    "one number": lambda x: x.abs().mean(),
    "a little": lambda x: 1 / (1 + x.square()) + 1e-3 * x.mean(),
    "over time": lambda x: 1 / (1 + (x - x.mean(0)).square()),
    "over samples": lambda x: 1 / (1 + (x - x.mean(1, keepdim=True)).square()),
    "over a map": lambda x: 1 / (1 + (x - x.mean((-2, -1), keepdim=True)).square()),
    "sum over steps": lambda x: (-x.cumsum(0).square()).exp(),
    "by place": lambda x: torch.linspace(0, 1, x.numel()).view(x.shape),
}
SOUND: dict[str, Callable[[Tensor], Tensor]] = {
    "bell": lambda x: (-x.square()).exp(),
    "window": lambda x: x.abs() < 0.5,
    "one number": lambda x: torch.tensor(0.5),
    "half precision": lambda x: (-x.square()).exp().half(),
    "infinite": lambda x: 1 / x.abs().sub(3).clamp_min(0) - 1,
    "a width for each of two channels": lambda x: (-(x / torch.tensor([0.2, 3.0])).square()).exp(),
    "a width for each channel": lambda x: (-(x / torch.tensor([0.2, 1.0, 3.0]).view(-1, 1, 1)).square()).exp(),
    "single precision only": lambda x: torch.ones(3, 3) @ x if x.dtype == torch.float32 else x.dot(x.float()),
}


@pytest.mark.parametrize("name", MIXING)
def test_one_that_looks_at_other_numbers(name: str) -> None:
    with pytest.raises(ExtensionError, match=r"Own.slope must be elementwise: at -?[\d.]+ it is .* on the chunk"):
        LIF(surrogate=Own(MIXING[name]))


@pytest.mark.parametrize("surrogate", [Own(torch.rand_like), Own(lambda x: x + torch.rand(())), Fading()])
def test_one_that_draws_or_counts(surrogate: Surrogate) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ExtensionError, match=r"slope was called twice with the same numbers and returned othe"):
        LIF(surrogate=surrogate)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SOUND)
def test_one_that_is_sound_or_made_for_other_shapes(name: str) -> None:
    LIF(surrogate=Own(SOUND[name]))


def test_one_made_of_another() -> None:
    class Steeper(Sigmoid):
        def slope(self, x: Tensor) -> Tensor:
            return 3 * super().slope(x)

    class Rescaled(Rectangle):
        def slope(self, x: Tensor) -> Tensor:
            return super().slope(x / x.std())

    LIF(surrogate=Steeper())
    with pytest.raises(ExtensionError, match=r"Rescaled.slope must be elementwise"):
        LIF(surrogate=Rescaled())
