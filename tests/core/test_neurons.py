"""Neurons: their dynamics against explicit loops, their gradients against derivatives taken by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, OutsideRun, ShapeError
from spikewright.network import Network
from spikewright.neurons import DSRIF, DSRLIF, IF, LIF, AlphaLIF, Neuron
from spikewright.surrogate import Sigmoid
from tests.catalogue import NEURONS, Cell

every_cell = pytest.mark.parametrize("cell", NEURONS.values(), ids=list(NEURONS))


def currents() -> Tensor:
    """`[time=9, batch=2, channel=3]`."""
    return 2.2 * torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.3


def run(neuron: nn.Module, x: Tensor) -> Tensor:
    return Network(nn.Sequential(neuron)).run(x)[0]


def by_hand(x: list[float], leak: float, hard: bool) -> list[float]:
    potential, spikes = 0.0, []
    for current in x:
        potential = leak * potential + current
        spikes.append(float(potential >= 1))
        if potential >= 1:
            potential = 0.0 if hard else potential - 1
    return spikes


@every_cell
def test_fires_as_by_hand(cell: Cell) -> None:
    x = currents()
    spikes = run(cell.make(), x)
    for b in range(2):
        for c, leak in enumerate(cell.leaks):
            assert spikes[:, b, c].tolist() == by_hand(x[:, b, c].tolist(), leak, cell.hard)


@every_cell
def test_says_its_leak_and_time_constant(cell: Cell) -> None:
    neuron = cell.make()
    leak = torch.as_tensor(neuron.leak).detach().expand(3)
    torch.testing.assert_close(leak, torch.tensor(cell.leaks))
    if isinstance(neuron, LIF):
        torch.testing.assert_close(torch.as_tensor(neuron.tau).detach().expand(3), 1 / (1 - torch.tensor(cell.leaks)))
    assert repr(neuron).startswith(f"{type(neuron).__name__}(")


@every_cell
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_dtype_of_the_current(cell: Cell, dtype: torch.dtype) -> None:
    x = currents().to(dtype).requires_grad_()
    spikes, state = Network(nn.Sequential(cell.make().to(dtype))).run(x)
    assert spikes.dtype == dtype
    assert state["0"]["membrane"].dtype == torch.promote_types(dtype, torch.float32)  # a long sum of small terms
    assert set(spikes.flatten().tolist()) == {0.0, 1.0}
    spikes.sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype and x.grad.isfinite().all()


@pytest.mark.parametrize("space", [(), (5,), (4, 5), (2, 4, 5)])
def test_channels_are_the_axis_after_the_batch(space: tuple[int, ...]) -> None:
    x = currents().view(9, 2, 3, *[1] * len(space)).expand(9, 2, 3, *space)
    spikes = run(LIF(tau=[1.0, 2.0, 4.0]), x)
    torch.testing.assert_close(
        spikes.flatten(3).amin(3) if space else spikes, run(LIF(tau=[1.0, 2.0, 4.0]), currents())
    )


def slope(x: float) -> float:
    """Of the default surrogate."""
    s = 1 / (1 + math.exp(-4 * x))
    return 4 * s * (1 - s)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("first", [0.7, 1.3])
def test_the_path_through_the_reset(hard: bool, detached: bool, first: float) -> None:
    """Derivative of the second spike by the first current, in both orders of charge and reset."""
    x = torch.tensor([first, 0.6]).view(2, 1, 1).requires_grad_()
    spikes = run(LIF(tau=4.0, reset="zero" if hard else "subtract", detach_reset=detached), x)
    (grad,) = torch.autograd.grad(spikes[1].sum(), x)
    s = float(first >= 1)
    rest = first * (1 - s) if hard else first - s
    inward = 1 - s if hard else 1.0
    through_reset = 0.0 if detached else (first if hard else 1.0) * slope(first - 1)
    at_second = slope(0.75 * rest + 0.6 - 1)
    expected = [at_second * 0.75 * (inward - through_reset), at_second]
    assert grad.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_a_learned_time_constant() -> None:
    """The leak is a logistic function of the parameter, and moves the second charge by the potential it retains."""
    neuron = LIF(tau=4.0, learn_tau=True)
    run(neuron, torch.tensor([0.9, 0.6]).view(2, 1, 1))[1].sum().backward()
    expected = slope(0.75 * 0.9 + 0.6 - 1) * 0.9 * 0.75 * 0.25
    assert neuron.leak_logit.grad is not None
    assert float(neuron.leak_logit.grad) == pytest.approx(expected, rel=1e-12)


def test_a_learned_leak_stays_between_none_and_all() -> None:
    neuron = LIF(tau=[1.5, 20.0], learn_tau=True)
    with torch.no_grad():
        neuron.leak_logit += torch.tensor([-50.0, 50.0])
    assert isinstance(neuron.leak, Tensor) and ((neuron.leak >= 0) & (neuron.leak <= 1)).all()


@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_fires_at_the_threshold_and_loses_it(threshold: float) -> None:
    x = torch.tensor([threshold, threshold - 0.25, 0.25]).view(3, 1, 1)
    spikes, state = Network(nn.Sequential(IF(threshold=threshold))).run(x)
    assert spikes.flatten().tolist() == [1.0, 0.0, 1.0]
    assert state["0"]["membrane"].item() == 0.0


def test_accepts_what_model_builders_pass_to_activations() -> None:
    assert isinstance(LIF(inplace=True), LIF) and isinstance(IF(inplace=True), IF)
    assert not list(LIF().parameters()) and not list(LIF().buffers())


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"LIF\(tau=0.5\): .* tau must be at least 1. A leak .* 1 / \(1 - beta\)"):
        LIF(tau=0.5)
    with pytest.raises(ConfigError, match="must be above 1 to be learned"):
        LIF(tau=1.0, learn_tau=True)
    with pytest.raises(ConfigError, match="at least 1"):
        LIF(tau=[2.0, float("nan")])
    with pytest.raises(ConfigError, match=r"IF\(threshold=0.0\): .* so the threshold must be above 0"):
        IF(threshold=0)
    with pytest.raises(ConfigError, match=r"LIF\(reset='subtrct'\) is unknown. Did you mean 'subtract'"):
        LIF(reset="subtrct")  # type: ignore[arg-type]


def test_a_neuron_by_itself_says_what_to_do() -> None:
    with pytest.raises(OutsideRun, match=r"LIF was called outside a run, with a tensor of shape \[2, 3\].*Network"):
        LIF()(torch.zeros(2, 3))


def test_time_constants_must_fit_the_channels() -> None:
    with pytest.raises(
        ShapeError, match=r"2 per-channel time constants or other constants, but its current \[4, 3\].* has 3 channels"
    ):
        run(LIF(tau=[2.0, 3.0]), currents())


def test_a_surrogate_reaches_the_spikes() -> None:
    x = torch.full((1, 1, 1), 1.2, requires_grad=True)
    run(LIF(surrogate=Sigmoid(1.0)), x).sum().backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(float(Sigmoid(1.0).slope(torch.tensor(0.2))))


def test_noise_of_hardware_is_on_what_is_emitted_at_every_step_and_in_evaluation() -> None:
    module = nn.Sequential(nn.Linear(4, 500), LIF(noise=0.15)).double().eval()
    quiet = nn.Sequential(module[0], LIF())
    x = torch.rand(6, 3, 4, dtype=torch.float64)
    torch.manual_seed(0)
    noisy, _ = Network(module).run(x)
    added = noisy - Network(quiet).run(x)[0]
    assert abs(added.std().item() - 0.15) < 0.01 and abs(added.mean().item()) < 0.01
    assert (added[1:] - added[:-1]).abs().mean() > 0.1  # fresh at every step
    torch.manual_seed(0)
    first, state = Network(module).run(x[:2])
    second, _ = Network(module).run(x[2:], state)
    assert torch.equal(torch.cat([first, second]), noisy)
    assert not torch.equal(Network(module).run(x)[0], noisy)  # the next sequence has noise of its own
    assert not module[1].binary


def test_noise_is_no_part_of_the_gradient_but_of_what_weights_see() -> None:
    module = nn.Sequential(nn.Linear(4, 8), LIF(noise=0.3), nn.Linear(8, 2)).double()
    x = torch.rand(3, 2, 4, dtype=torch.float64)
    output, _ = Network(module).run(x)
    output.sum().backward()
    assert module[2].weight.grad is not None and (module[2].weight.grad % 1 != 0).all()


def test_noise_cannot_be_negative() -> None:
    with pytest.raises(ConfigError, match=r"LIF\(noise=-0\.1\): .* standard deviation, which cannot be negative"):
        LIF(noise=-0.1)


@pytest.mark.parametrize(
    "kind, key", [(LIF, "tau"), (IF, "threshold"), (AlphaLIF, "tau"), (DSRIF, "threshold"), (DSRLIF, "tau")]
)
def test_inplace_given_by_position_is_refused(kind: Callable[..., Neuron], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"\({key}=True\): {key} is a number.*means inplace.*act_layer=lambda"):
        kind(True)


def test_a_leak_that_rounds_to_one_has_an_infinite_time_constant() -> None:
    assert LIF(tau=1e30).leak == 1 and LIF(tau=1e30).tau == math.inf
