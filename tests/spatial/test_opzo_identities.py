"""Where direct feedback equals something else: exact matrices backpropagation, and matrices that stay those of DFA."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import DFA, OPZO, Spatial
from spikewright.spatial._base import ChunkSample
from spikewright.spatial._noise import Position
from spikewright.spatial.direct import Direct, StepSample
from spikewright.surrogate import Sigmoid
from spikewright.synapses.operations import Operation
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import surrogate
from tests.rules.support import gradients
from tests.spatial.support import chunk, drawn, on_paper


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2.74 * x


def scaled() -> nn.Module:
    """The layers of `mlp`, with a factor behind the spikes."""
    first, second, readout = (layer for layer in NETS["mlp"](0).children() if isinstance(layer, nn.Linear))
    spikes = (nn.Sequential(LIF(surrogate=Sigmoid(4.0)), Scale()) for _ in range(2))
    return nn.Sequential(first, *next(spikes), second, *next(spikes), readout)


class Currents:
    """What arrives at the second neurons."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        if site == "4":
            self.seen = list(current.detach().unflatten(0, (4, -1)))

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        pass


def slopes(module: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """Surrogate slopes of the second neurons at every step, `[batch, neuron]`, from their currents by hand."""
    currents = Currents()
    Network(module).run(x, observers=(currents,))
    rest = torch.zeros_like(currents.seen[0])
    for current in currents.seen:
        charged = 0.5 * rest + current
        yield surrogate(charged - 1)
        rest = charged - (charged >= 1).to(charged)


class Exact(Direct):
    """Matrices that are, at every step, the transposed Jacobian of the output; for one sample."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__(0, "output")
        weights = dict(module.named_parameters())
        last = 2.74 * weights["6.weight"].detach().T
        before = 2.74 * weights["3.weight"].detach().T
        self.exact = {"output 4": [last] * len(x), "output 1": [before * slope @ last for slope in slopes(module, x)]}
        self.step = 0

    def first(self, neurons: int, components: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(neurons, components)

    def signal(self, key: str, moment: StepSample) -> Tensor:
        return moment.error @ self.exact[key][self.step].T

    def end_step(self, step: int, chunk: ChunkSample) -> None:
        self.step += 1


@pytest.mark.parametrize("rule", [OTTT, SLTT])
@pytest.mark.parametrize("chunk", [1, 4])
def test_exact_matrices_give_backpropagation(rule: type[OnlineRule], chunk: int) -> None:
    module, (x, y) = scaled(), sample("mlp", 0, steps=4, batch=1)
    expected = gradients(rule(chunk=chunk), module, x, y)
    assert all(grad.any() for grad in expected.values())
    assert_agree(gradients(rule(chunk=chunk, spatial=Exact(module, x)), module, x, y), expected, 1e-12)


def signals(way: Spatial, z: dict[str, Tensor]) -> list[Tensor]:
    """What two lessons send to layers of 6 and 5 neurons."""
    on_paper(way, 4, first=6, second=5)
    source = torch.Generator().manual_seed(9)
    found = []
    for _ in range(2):
        output, error = (torch.randn(8, 3, 4, generator=source) for _ in range(2))
        found += way.signals(chunk(way, output, error, **z)).values()
    return found


def test_a_matrix_that_is_never_averaged_is_that_of_dfa_to_the_last_bit() -> None:
    way = OPZO(momentum=1.0, init="dfa", seed=3)
    z = {"first": drawn(way, 8, 3, 6, "first"), "second": drawn(way, 8, 3, 5, "second")}
    found, expected = signals(way, z), signals(DFA(seed=3), z)
    assert all(e.any() for e in expected)
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))
    assert not any(torch.equal(f, e) for f, e in zip(signals(DFA(seed=4), z), expected, strict=True))


@pytest.mark.parametrize("position", ["post", "pre"])
@pytest.mark.parametrize("name", ["deep", "conv"])
def test_so_is_its_gradient_if_the_noise_is_too_small_to_matter(name: str, position: Position) -> None:
    module, (x, y) = NETS[name](0), sample(name, 0)
    way = OPZO(momentum=1.0, alpha=1e-100, init="dfa", position=position, seed=3)
    assert_agree(gradients(OTTT(spatial=way), module, x, y), gradients(OTTT(spatial=DFA(seed=3)), module, x, y), 1e-12)
