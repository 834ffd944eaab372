"""Random numbers that a module draws by itself are said, and neither taken for a state nor for mixing."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from spikewright.layers import StepDropout
from spikewright.network.probing.draws import Draws
from spikewright.neurons import LIF
from tests.core.support import Lambda
from tests.probing.mixing import of
from tests.probing.support import F, around, wired


class DropPath(nn.Module):
    """Drops whole rows, as image-model libraries do."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(0.8) / 0.8


class LayerDrop(nn.Module):
    """Leaves a layer out, at random."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(F, F)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if torch.rand(()) < 0.5 else x


class Denoised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.noise = of(lambda x: x + 0.1 * torch.randn_like(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.noise(x).tanh()


DRAWS: dict[str, Callable[[], nn.Module]] = {
    "F.dropout": lambda: of(lambda x: f.dropout(x, 0.5, True)),
    "noise": lambda: of(lambda x: x + 0.1 * torch.randn_like(x)),
    "rand": lambda: of(lambda x: x * torch.rand(x.shape[1]).to(x)),
    "bernoulli": lambda: of(lambda x: torch.bernoulli(x.sigmoid()) + 0 * x),
    "permuted features": lambda: of(lambda x: x[:, torch.randperm(x.shape[1])]),
    "gumbel": lambda: of(lambda x: f.gumbel_softmax(x, dim=1)),
    "DropPath": DropPath,
    "LayerDrop": LayerDrop,
}


@pytest.mark.parametrize("behind", [0, 2])
@pytest.mark.parametrize("name", DRAWS)
def test_who_draws(name: str, behind: int) -> None:
    module = around(DRAWS[name](), behind)
    assert wired(module).random == {f"{2 * behind + 1}"}


SOME: dict[str, Callable[[], nn.Module]] = {
    "RReLU": nn.RReLU,
    "F.rrelu": lambda: of(lambda x: f.rrelu(x, training=True)),
    "poisson": lambda: of(lambda x: torch.poisson(x.exp())),
}


@pytest.mark.parametrize("name", SOME)
def test_who_draws_for_some_entries_only(name: str) -> None:
    """How much it draws depends on the other rows, but what it makes of a row does not."""
    assert wired(around(SOME[name]())).random == {"1"}


def test_draws_from_a_generator_of_its_own_are_the_same_every_time() -> None:
    def forward(x: Tensor) -> Tensor:
        return x + torch.rand(F, generator=torch.Generator().manual_seed(3))

    assert not wired(around(of(forward))).random


def test_the_innermost_module_is_named() -> None:
    assert wired(around(Denoised())).random == {"1.noise"}


def test_the_forward_of_the_whole_has_no_name() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.out(m.lif(f.dropout(m.fc(x), 0.5, True)))

    layers = {"fc": nn.Linear(F, F), "lif": LIF(), "out": nn.Linear(F, 4)}
    assert wired(Lambda(forward, **layers).double()).random == {""}


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), StepDropout(0.5), LIF(noise=0.1), nn.Tanh()], ids=repr)
def test_what_a_run_answers_for_does_not_draw_by_itself(layer: nn.Module) -> None:
    assert not wired(around(layer)).random


def test_in_evaluation_nothing_is_drawn() -> None:
    assert not wired(around(DropPath()).eval()).random
    assert wired(around(DropPath()).train()).random == {"1"}


PAST_TORCH: dict[str, Callable[[], float]] = {"numpy": lambda: np.random.rand(), "python": random.random}


@pytest.mark.parametrize("behind", [0, 2])
@pytest.mark.parametrize("name", PAST_TORCH)
def test_draws_past_torch_are_said_and_nothing_is_claimed(name: str, behind: int) -> None:
    wiring = wired(around(of(lambda x: x * PAST_TORCH[name]()), behind))
    assert wiring.random == {f"{2 * behind + 1}"}
    assert all(synapse.bends for synapse in wiring.synapses.values())


@contextmanager
def drawing(draw: Callable[[], object]) -> Iterator[None]:
    """Have another thread draw all the time."""
    waiting, over = threading.Event(), threading.Event()

    def meanwhile() -> None:
        while not over.is_set():
            draw()
            waiting.set()

    thread = threading.Thread(target=meanwhile)
    thread.start()
    try:
        waiting.wait(20)
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("draw", [*PAST_TORCH.values(), lambda: torch.rand(())], ids=[*PAST_TORCH, "torch"])
def test_what_another_thread_draws_is_not_taken_for_theirs(draw: Callable[[], object]) -> None:
    with drawing(draw):
        for _ in range(3):
            assert not wired(around(nn.Sequential(nn.Tanh(), nn.ReLU()))).random


def test_nor_for_a_draw_of_an_operation() -> None:
    x = torch.ones(4, F)
    with drawing(lambda: torch.rand(())), Draws() as draws:
        for _ in range(2000):
            x.tanh()
        assert draws.kept == []
        torch.poisson(x)
    assert len(draws.kept) == 1
