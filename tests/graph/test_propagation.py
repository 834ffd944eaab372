"""Spikes over a graph: against the explicit program, in every way to compute them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.graph.dynamics import AlphaDynamics
from spikewright.graph.forward import LONGEST, Propagation
from spikewright.graph.messages import EdgeGradients, EdgeSpikes, add_gradients, arriving, native
from spikewright.graph.propagation import propagate, spikes
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

    def synapses(self, messages: Tensor, last: Tensor | None) -> Tensor:
        return (
            torch.layer_norm(self.linear(torch.cat([last, messages], -1)), [4]) if self.own else self.linear(messages)
        )

    @property
    def inputs(self) -> list[Tensor]:
        inputs = [self.drive, self.delays, self.kept, *self.linear.parameters()]
        return inputs if self.weights is None else [*inputs, self.weights]

    def gradients(self, read: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((read * self.readout).sum(), self.inputs))

    def ours(self, mode: str = "exact", steps: int = 10, longest: int = 4) -> Tensor:
        dynamics = AlphaDynamics(delay_grad=mode, steps=steps)  # type: ignore[arg-type]
        propagation = Propagation(self.graph, self.sources, dynamics, self.synapses, longest, self.own)
        return propagate(propagation, self.drive, self.delays, self.weights, self.kept, list(self.linear.parameters()))

    def explicit(self, mode: str = "exact", steps: int = 10, **options: Any) -> Tensor:
        return self._explicit(mode=mode, steps=steps, **options)[0]

    def explicit_spikes(self) -> list[Tensor]:
        return self._explicit()[1]

    def _explicit(self, **options: Any) -> tuple[Tensor, list[Tensor]]:
        return oracle.run(
            *(self.graph.edges, 6, self.sources, self.drive, self.delays, self.synapses),
            **{"weights": self.weights, "kept": self.kept, **options},
        )


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


@pytest.mark.parametrize("mode", MODES)
def test_the_longest_delay_that_fits_into_a_byte(kernels: str, mode: str) -> None:
    case = Case(7)
    case.delays = (LONGEST * torch.rand(4, 3, 4, dtype=torch.float64)).requires_grad_()
    with torch.no_grad():
        case.delays[0] = LONGEST
    ours, explicit = case.ours(mode, 13, LONGEST), case.explicit(mode, 13)
    torch.testing.assert_close(ours, explicit, rtol=0, atol=1e-12)
    gradients = case.gradients(ours)
    for mine, theirs in zip(gradients, case.gradients(explicit)):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    assert gradients[1][0].abs().max() > 1e-3


def test_delays_are_rounded_half_to_even(kernels: str) -> None:
    case, halves = Case(0), torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float64).expand(4, 3, 4)
    read = {}
    for name, delays in {"halves": halves, "even": torch.tensor([0.0, 2, 2, 4]).double().expand(4, 3, 4)}.items():
        case.delays = delays
        read[name] = case.ours()
    assert torch.equal(read["halves"], read["even"]) and 0.2 < read["even"].gt(0).double().mean() < 0.8


def test_spikes_are_those_that_are_read(kernels: str) -> None:
    case = Case(1, weighted=True, own=True)
    propagation = Propagation(case.graph, case.sources, AlphaDynamics(), case.synapses, 4, self_loops=True)
    fired = spikes(propagation, case.drive, case.delays, case.weights, case.kept)
    assert torch.equal(fired, torch.stack(case.explicit_spikes()).bool())


def test_what_does_not_learn_is_left_out(kernels: str) -> None:
    """Without anything that learns there is no gradient; with one thing there is its own, and the same."""
    case = Case(2, weighted=True)
    everything = case.gradients(case.ours())
    inputs = case.inputs
    for number, alone in enumerate(inputs):
        for other in inputs:
            other.requires_grad_(other is alone)
        (mine,) = torch.autograd.grad((case.ours() * case.readout).sum(), [alone])
        assert torch.equal(mine, everything[number])
    alone.requires_grad_(False)
    assert not case.ours().requires_grad


class Fixed:
    """Random spikes of the past, given; of messages over the edges of a graph something linear is read."""

    def __init__(self, seed: int, steps: int = 9) -> None:
        generator = torch.Generator().manual_seed(seed)
        facts = torch.randint(5, (12, 3), generator=generator)
        facts[:, 1] %= 2
        self.graph = RelationalGraph.of(facts, 5, 2)
        self.fired = torch.rand(steps, 5, 6, generator=generator) < 0.4
        self.delays = torch.randint(5, (4, 6), generator=generator)
        self.kept = torch.rand(len(self.graph.pairs), generator=generator).double()
        self.weights = torch.randn(4, 6, generator=generator, dtype=torch.float64)
        self.readout = torch.randn(steps, 5, 6, generator=generator, dtype=torch.float64)
        self.steps = steps

    def history(self, step: int) -> Tensor:
        """A byte for each neuron, the last bit that of `step`."""
        bits = [self.fired[step - d] if d <= step else torch.zeros_like(self.fired[0]) for d in range(8)]
        return sum(bit.to(torch.uint8) << d for d, bit in enumerate(bits)).to(torch.uint8)  # type: ignore[union-attr]

    def sent(self, step: int) -> EdgeSpikes:
        return EdgeSpikes(self.history(step), self.delays.to(torch.uint8), self.weights)

    def arrived(self) -> Tensor:
        """What arrives at every step, `[T, N, columns]`; nothing does at step 0."""
        found = [arriving(self.graph, self.sent(t - 1), self.kept, torch.float64) for t in range(1, self.steps)]
        return torch.stack([torch.zeros_like(found[0]), *found])

    def read(self, arrived: Tensor) -> Tensor:
        """Of messages as they are, by channel, since a delay changes nothing in other channels."""
        return (arrived * self.readout).sum((0, 1))

    def responses(self, arrived: Tensor, late: Tensor | None = None, by: float = 0.0) -> Tensor:
        """Of currents and membranes to what arrives: an alpha function each, `late` if messages come later by `by`."""
        total = torch.zeros_like(arrived)
        for t in range(self.steps):
            for k in range(t + 1):
                age = t - k
                total[t] += oracle.GAIN * (age + 1) * oracle.RHO**age * arrived[k]
                if late is not None and age + 1 - by > 0:
                    total[t] += oracle.GAIN * (age + 1 - by) * oracle.RHO ** (age - by) * late[k]
        return total

    def credited(self, grad: Tensor, slopes: tuple[float, float]) -> Tensor:
        """What `add_gradients` gives delays, `[R, columns]`, for `grad`, that of what arrives, `[T, N, columns]`."""
        found = torch.zeros(4, 6, dtype=torch.float64)
        for t in range(1, self.steps):
            to = EdgeGradients(torch.zeros(5, 5, 6).double(), (t - 1) % 5, min(4, t - 1), found, None, *slopes)
            add_gradients(self.graph, self.sent(t - 1), self.kept, grad[t].contiguous(), to)
        return found


@pytest.mark.parametrize("seed", range(3))
def test_finite_difference_is_what_one_step_of_delay_changes(kernels: str, seed: int) -> None:
    """Oracle 8, exactly: of a linear readout of spikes that are given."""
    case = Fixed(seed)
    before, found = (
        case.read(case.arrived()),
        case.credited(case.readout, AlphaDynamics(delay_grad="finite_difference").slopes),
    )
    for relation in range(4):
        case.delays[relation] += 1
        torch.testing.assert_close(found[relation], case.read(case.arrived()) - before, rtol=0, atol=1e-13)
        case.delays[relation] -= 1
    assert found.abs().min() > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_exact_is_what_a_little_delay_changes_in_responses(kernels: str, seed: int) -> None:
    """Of a linear readout of alpha responses, where messages of one relation come a fraction of a step later."""
    case, step = Fixed(seed), 1e-6
    arrived = case.arrived()
    leaf = arrived.clone().requires_grad_()
    (grad,) = torch.autograd.grad(case.read(case.responses(leaf)).sum(), leaf)
    found = case.credited(grad, AlphaDynamics(delay_grad="exact").slopes)
    for relation in range(4):
        weights = case.weights
        case.weights = weights.clone()
        case.weights[relation] = 0.0
        rest, case.weights = case.arrived(), weights
        one, other = (case.read(case.responses(rest, arrived - rest, by)) for by in (step, -step))
        numeric = (one - other) / (2 * step)
        # A response that has not begun is 0, and is not that of a spike which came earlier than it did.
        torch.testing.assert_close(found[relation], numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("weighted", "own"), [(False, False), (True, True)])
@pytest.mark.long
def test_exact_is_the_derivative_of_the_program_with_fractional_delays(weighted: bool, own: bool) -> None:
    """With smooth spikes the explicit program has a derivative, also in delays."""
    case, step = Case(4, weighted, own), 1e-6
    options = {"spike": oracle.smooth, "steps": 8}
    gradients = dict(zip(map(id, case.inputs), case.gradients(case.explicit(**options))))
    generator = torch.Generator().manual_seed(0)
    for what in case.inputs:
        toward = torch.randn(what.shape, generator=generator, dtype=torch.float64)
        moved = []
        for sign in (1, -1):
            if what is case.delays:
                read = case.explicit(shift=sign * step * toward, **options)
            else:
                with torch.no_grad():
                    what += sign * step * toward
                    read = case.explicit(**options)
                    what -= sign * step * toward
            moved.append((read * case.readout).sum().item())
        slope = (gradients[id(what)] * toward).sum().item()
        assert slope == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5) and abs(slope) > 1e-2
