"""Spikes over a graph: against the explicit program, in every way to compute them."""

import os

import pytest
import torch
from torch import Tensor, nn

from spikewright.graph.messages import native
from spikewright.graph.propagation import Dynamics, Journey, propagate, spikes
from spikewright.graph.structure import RelationalGraph
from tests.oracles import grsnn as oracle

MODES = ("exact", "finite_difference", "reference")


@pytest.fixture(params=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(native, "available", lambda x: False)
    elif not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")
    return request.param


class Case:
    """Six nodes, two relations and their inverses, three queries, four channels, float64."""

    def __init__(self, seed: int, weighted: bool = False, own: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        facts = torch.randint(6, (14, 3), generator=generator)
        facts[:, 1] %= 2
        self.graph = RelationalGraph.of(facts.unique(dim=0), 6, 2)
        self.sources = torch.tensor([0, 3, 3])
        self.drive = (draw(3, 4) + 2.0).requires_grad_()
        self.delays = (4 * torch.sigmoid(2 * draw(4, 3, 4))).requires_grad_()
        self.weights = (1 + draw(4, 3, 4)).requires_grad_() if weighted else None
        self.kept = (torch.rand(len(self.graph.targets), generator=generator) > 0.2).double().requires_grad_()
        self.linear = nn.Linear(8 if own else 4, 4).double()
        with torch.no_grad():
            self.linear.weight.copy_(1.5 * draw(*self.linear.weight.shape))
            self.linear.bias.copy_(0.3 * draw(4).abs())
        self.own, self.readout = own, draw(6, 3, 4)

    def synapses(self, messages: Tensor, last: Tensor) -> Tensor:
        return torch.layer_norm(self.linear(torch.cat([last, messages], -1)), [4]) if self.own else self.linear(messages)

    @property
    def inputs(self) -> list[Tensor]:
        inputs = [self.drive, self.delays, self.kept, *self.linear.parameters()]
        return inputs if self.weights is None else [*inputs, self.weights]

    def gradients(self, read: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((read * self.readout).sum(), self.inputs))

    def ours(self, mode: str = "exact", steps: int = 10) -> Tensor:
        dynamics = Dynamics(delay_grad=mode, steps=steps)  # type: ignore[arg-type]
        journey = Journey(self.graph, self.sources, dynamics, self.synapses, 4)
        return propagate(journey, self.drive, self.delays, self.weights, self.kept, list(self.linear.parameters()))

    def explicit(self, mode: str = "exact", steps: int = 10, **options) -> Tensor:
        return oracle.run(
            *(self.graph.edges, 6, self.sources, self.drive, self.delays, self.synapses),
            **{"weights": self.weights, "kept": self.kept, "mode": mode, "steps": steps, **options},
        )[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("weighted", "own"), [(False, False), (True, False), (True, True)])
def test_the_efficient_form_is_the_explicit_program(kernels: str, mode: str, weighted: bool, own: bool) -> None:
    for seed in range(3):
        case = Case(seed, weighted, own)
        ours, explicit = case.ours(mode), case.explicit(mode)
        assert 0.05 < explicit.gt(0).double().mean() < 0.95
        torch.testing.assert_close(ours, explicit, rtol=0, atol=1e-12)
        for mine, theirs in zip(case.gradients(ours), case.gradients(explicit)):
            assert theirs.abs().max() > 1e-3
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
