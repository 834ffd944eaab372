"""The energy estimate: operations counted by hand."""

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.losses import OnRate
from spikewright.metrics import Operations, SynapseCounter
from spikewright.network import Network
from spikewright.neurons import IF
from spikewright.reports.energy_estimate import energy
from spikewright.synapses.operations import Convolution, Linear
from tests.core.support import CE

X = torch.tensor([[[1.0, 0.5, 0.0]], [[0.25, 0.5, 1.0]]], dtype=torch.float64)
"""Two steps of one sample of three numbers."""
Y = torch.tensor([1])
RATE = OnRate(nn.functional.cross_entropy)


def net(feedback: bool = False) -> Network:
    """Three inputs, two neurons that fire at both steps and at none, two outputs."""
    neuron = IF()
    parts = [nn.Linear(3, 2), *([sw.Feedback(nn.Linear(2, 2, bias=False), neuron)] if feedback else []), neuron]
    module = nn.Sequential(*parts, nn.Linear(2, 2)).double()
    for p in module.parameters():
        nn.init.zeros_(p)
    module[0].bias.data = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return Network(module)


def test_real_numbers_cost_multiplications_and_spikes_additions() -> None:
    found = energy(net(), sw.rules.BPTT(), X, Y, RATE)
    # Two steps of 3 x 2 products; one spike of the first neuron per step, onto 2 outputs.
    assert found.forward == Operations(additions=2 * 2, multiplications=2 * 6)
    # Each step: gradients at 6 and at 4 weights, and the error through the 4.
    assert found.backward == Operations(0, 2 * (6 + 4 + 4))
    assert found.bptt == found.forward + found.backward and found.ratio == 1
    assert found.rates == {"1": 0.5} and found.back_rates == {}


def test_one_backward_pass_at_rates() -> None:
    found = energy(net(), sw.rules.DSR(), X, Y, RATE)
    assert found.backward == Operations(0, 6 + 4 + 4)
    assert found.ratio == pytest.approx((12 * 4.6 + 4 * 0.9 + 14 * 4.6) / (12 * 4.6 + 4 * 0.9 + 28 * 4.6))


def test_feedback_sends_nothing_at_the_first_step() -> None:
    assert energy(net(feedback=True), sw.rules.BPTT(), X, Y, RATE).forward == Operations(2 * 2 + 1 * 2, 2 * 6)


def test_each_iteration_of_a_solver_is_a_pass_through_what_neurons_send_to() -> None:
    report = list(sw.rules.IDE().updates(net(feedback=True), X, Y, RATE))[-1].report
    assert report is not None
    found = energy(net(feedback=True), sw.rules.IDE(), X, Y, RATE)
    assert found.backward == Operations(0, (6 + 4 + 4) + (1 + report.iterations) * (4 + 4))


def test_a_second_phase_of_spikes_costs_additions() -> None:
    module = net(feedback=True)
    module.module[3].weight.data = torch.tensor([[2.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)
    rule = sw.rules.SPIDE(steps=10, loss_scale=1.0)
    found = energy(module, rule, X, Y, RATE)
    assert found.back_rates["2"] > 0
    # Spikes of the couples go back through the feedback; the readout's error is real, and sent once.
    assert found.backward == Operations(10 * found.back_rates["2"] * 4, (6 + 4 + 4) + 4)


def test_leaves_no_trace() -> None:
    module, rule = net(), sw.rules.SLTT(k=1)
    random, draws = torch.get_rng_state(), rule.draws.clone()
    energy(module, rule, X, Y, CE)
    assert torch.equal(torch.get_rng_state(), random) and torch.equal(rule.draws, draws)
    assert all(p.grad is None for p in module.parameters())


def counted(x: Tensor, layer: nn.Module) -> tuple[float, float, bool]:
    counter = SynapseCounter()
    operation = Linear()
    if not isinstance(layer, nn.Linear):
        transposed = isinstance(layer, nn.ConvTranspose2d)
        operation = Convolution(lambda x: x, 2, transposed, (1, 1), (0, 0), (0, 0), (1, 1), layer.groups)
    counter.synapse("a", operation, x, layer.weight, layer(x))
    (work,) = counter.work.values()
    return work.dense, work.active, work.spiking


def test_products_of_a_convolution_are_counted_at_its_windows() -> None:
    x = torch.ones(1, 2, 5, 5)
    assert counted(x, nn.Conv2d(2, 3, 3)) == (3 * 3 * 3 * 2 * 9, 1.0, True)
    assert counted(x, nn.Conv2d(2, 4, 3, groups=2)) == (4 * 3 * 3 * 1 * 9, 1.0, True)
    assert counted(x, nn.ConvTranspose2d(2, 3, 3)) == (2 * 5 * 5 * 3 * 9, 1.0, True)


def test_spikes_are_one_value_whatever_it_is() -> None:
    layer = nn.Linear(2, 3)
    assert counted(torch.tensor([[0.0, 6.0]]), layer) == (6, 0.5, True)
    assert counted(torch.tensor([[1.0, 6.0]]), layer) == (6, 1.0, False)
    assert counted(torch.tensor([[0.0, 0.0]]), layer) == (6, 0.0, True)


def test_the_table_names_both_phases() -> None:
    text = energy(net(feedback=True), sw.rules.SPIDE(steps=5), X, Y, RATE).table()
    assert "x BPTT" in text and "additions" in text and "in the second phase: 2 0.00%" in text
    assert "spikes per neuron and step: 2 50.00%" in text
