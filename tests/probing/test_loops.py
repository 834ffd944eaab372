"""A loop over time inside of a forward is refused; a module that is used at several places is not taken for one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ShapeError
from spikewright.layers import Feedback
from spikewright.neurons import LIF
from tests.core.support import Lambda
from tests.probing.support import F, data, refused, wired

STEPS = 4


def again(m: nn.Module, x: Tensor) -> Tensor:
    """The same current, a fixed number of times."""
    current = m.fc(x)
    return m.out(torch.stack([m.lif(current) for _ in range(STEPS)]).mean(0))


def computed_again(m: nn.Module, x: Tensor) -> Tensor:
    return m.out(sum(m.lif(m.fc(x)) for _ in range(STEPS)) / STEPS)


def outputs_again(m: nn.Module, x: Tensor) -> Tensor:
    outputs = []
    for _ in range(STEPS):
        outputs.append(m.out(m.lif(m.fc(x))))
    return torch.stack(outputs).mean(0)


def of_rows(m: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([m.out(m.lif(m.fc(x[t : t + 1]))) for t in range(len(x))])


def stacked(m: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([m.out(m.lif(m.fc(row))) for row in x])


def unbound(m: nn.Module, x: Tensor) -> Tensor:
    current = m.fc(x)
    return m.out(torch.stack([m.lif(row[None])[0] for row in current.unbind(0)]))


def backwards(m: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([m.out(m.lif(m.fc(x[t : t + 1]))) for t in reversed(range(len(x)))][::-1])


def recurrent(m: nn.Module, x: Tensor) -> Tensor:
    """With spikes of the row before."""
    spikes, outputs = torch.zeros_like(x[:1]), []
    for t in range(len(x)):
        spikes = m.lif(m.fc(x[t : t + 1]) + m.rec(spikes))
        outputs.append(m.out(spikes))
    return torch.cat(outputs)


LOOPS = {f.__name__: f for f in (again, computed_again, outputs_again, of_rows, unbound, backwards, recurrent)}


def network(forward: Callable[[nn.Module, Tensor], Tensor], **more: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = {"fc": nn.Linear(F, F), "lif": LIF(), "out": nn.Linear(F, 4), "rec": nn.Linear(F, F)} | more
    return Lambda(forward, **layers).double()


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_over_time(name: str, samples: int) -> None:
    refused(network(LOOPS[name]), r"'(lif|fc)' \(\w+\) was called.*loop over time.*Feedback", data(samples=samples))


def test_a_loop_over_rows_without_their_axis() -> None:
    with pytest.raises(ShapeError, match=r"'fc' expects \[batch, ..., 12\] once time is folded .* but got \[12\]"):
        wired(network(stacked))


def test_a_loop_in_an_inner_module() -> None:
    module = nn.Sequential(nn.Linear(F, F), network(computed_again))
    refused(module.double(), r"'1\.lif' \(LIF\) was called 2 times with the same current")


def residual(m: nn.Module, x: Tensor) -> Tensor:
    first = m.lif(m.fc(x))
    return m.out(m.lif(m.rec(first) + first))


def deep(m: nn.Module, x: Tensor) -> Tensor:
    """One layer and its neurons, five times."""
    for _ in range(5):
        x = m.lif(m.fc(x))
    return m.out(x)


def two_branches(m: nn.Module, x: Tensor) -> Tensor:
    return m.out(m.lif(m.fc(x)) + m.lif(m.rec(x)))


def in_turn(m: nn.Module, x: Tensor) -> Tensor:
    return m.out(m.lif(m.lif(m.fc(x))))


def twice(m: nn.Module, x: Tensor) -> Tensor:
    """The same current at two places of the code."""
    current = m.fc(x)
    return m.out(m.lif(current) + m.lif(current))


def twice_with_other_layers(m: nn.Module, x: Tensor) -> Tensor:
    current = m.fc(x)
    first = m.rec(m.lif(current))
    return m.out(m.lif(current) + first)


PLACES = {f.__name__: f for f in (residual, deep, two_branches, in_turn, twice, twice_with_other_layers)}


@pytest.mark.parametrize("kind", ["random", "zeros", "constant"])
@pytest.mark.parametrize("name", PLACES)
def test_a_neuron_at_several_places(name: str, kind: str) -> None:
    wiring = wired(network(PLACES[name]), data(kind))
    assert "lif#2" in wiring.neurons


def test_a_feedback_is_the_way_to_do_it() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.out(m.lif(m.feedback(m.fc(x))))

    lif = LIF()
    wired(network(forward, lif=lif, feedback=Feedback(nn.Linear(F, F), lif)))


def test_no_current_at_all_is_not_taken_for_a_loop() -> None:
    module = network(two_branches)
    for layer in (module.fc, module.rec):
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    wired(module)
