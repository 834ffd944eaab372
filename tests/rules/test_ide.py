"""IDE: the gradient of an equilibrium, through whatever feeds back."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, NotConverged
from spikewright.layers import StepDropout
from spikewright.layers.feedback import Feedback
from spikewright.layers.restriction import restrict_frobenius, restrict_spectral
from spikewright.models.feedback import FeedbackNet, Restriction
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.neurons.dsr import DSRIF
from spikewright.rate_norms import NormName
from spikewright.rules import DSR, IDE, Rule
from spikewright.solvers import Anderson, Broyden, FixedPoint, Report
from tests.nets import NETS, lif, sample
from tests.oracles import rate
from tests.oracles.compare import assert_agree
from tests.oracles.equilibrium import equilibrium, finite_difference
from tests.oracles.loops import clearance, distance, order, settled
from tests.oracles.machine import Machine, Params
from tests.oracles.rate_machine import Cell, RateMachine
from tests.rules.support import NOISY, assert_identical, collected, gradients, learn
from tests.solvers.loops import LOOPS, Net, chain, chained, load, named, of_synapse_net, plain

CE = F.cross_entropy
EXACT = Broyden(200)
BACK = {"back": (2, 1)}
DSR_CELL = Cell(quantum=1.5, fraction=0.4, amplitude=1.5)
DSR_NEURON = partial(DSRIF, threshold=1.5, firing_fraction=0.4)
WITH_DSR = Net(
    partial(chained, 3, {"back": (3, 1)}, DSR_NEURON), partial(chain, depth=3, backs={"back": (3, 1)}), feature=(5,)
)


def frames(x: Tensor, steps: int = 12) -> Tensor:
    """A sequence that grows from step to step."""
    return x * torch.linspace(0.5, 1.5, steps).view(-1, *[1] * x.dim())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [*LOOPS, "thresholds"])
def test_the_gradient_is_that_of_a_dense_solution(name: str, seed: int) -> None:
    net = LOOPS.get(name, WITH_DSR)
    module, params, x, y = net.draw(seed)
    cells = dict.fromkeys("123", DSR_CELL) if net is WITH_DSR else None
    expected = rate.gradients(net.program, params, frames(x), y, CE, cells=cells)
    found = {key: g for key, g in plain(gradients(IDE(EXACT), module, frames(x), y)).items() if key in params}
    assert_agree(found, expected, 1e-9)
    open_ended = plain(gradients(IDE(FixedPoint(1)), module, frames(x), y))
    assert distance({key: open_ended[key] for key in expected}, expected) > 1e-2


@pytest.mark.parametrize("depth, seed, neuron", [(1, 5, IF), (2, 31, IF), (3, 31, IF), (2, 31, DSR_NEURON)])
def test_rates_and_gradients_tend_to_those_of_the_equilibrium(depth: int, seed: int, neuron: Callable) -> None:
    cell = DSR_CELL if neuron is DSR_NEURON else Cell()
    cells = dict.fromkeys("123", cell)
    program = partial(chain, depth=depth, backs={"back": (depth, 1)})
    params, x, y = settled(seed, depth, cell.quantum)
    if neuron is DSR_NEURON:  # amplitudes other than one
        params = {key: p / 1.5 if key.endswith("weight") and key[:2] not in ("in", "ou") else p for key, p in params.items()}
        params["forth1.bias"] += 0.6
    output, settles = equilibrium(program, params, x, cells)
    assert clearance(settles, cell.quantum) > 0.01
    expected = {name: finite_difference(program, params, x, y, CE, name, cells) for name in params}
    if neuron is DSR_NEURON:
        expected |= {f"{key}.threshold": by_threshold(program, params, x, y, cells, key) for key in "12"}
        assert expected["2.threshold"].abs() > 0.01
    module, steps, errors, misses = load(chained(depth, {"back": (depth, 1)}, neuron), params), [30, 100, 300, 1000, 3000], [], []
    for n in steps:
        module.zero_grad()
        (update,) = learn(IDE(), module, x.expand(n, *x.shape), y)
        assert update.report is not None and update.report.converged
        errors.append(distance({key: plain(collected(module))[key] for key in expected}, expected))
        misses.append(float((update.output.mean(0) - output).abs().max()))
    assert order(steps, errors) == pytest.approx(-1, abs=0.15) and errors[-1] < 5e-3, errors
    assert order(steps, misses) == pytest.approx(-1, abs=0.15) and misses[-1] < 5e-3, misses
