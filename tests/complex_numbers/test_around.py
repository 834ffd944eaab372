"""What is counted, kept and shared of complex numbers beside their gradients."""

from pathlib import Path

import pytest
import torch
from torch import nn

from spikewright.layers import Feedback, operator_norm, restrict_frobenius, restrict_spectral
from spikewright.metrics.operations import SynapseCounter
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, EWC, OTTT, SLTT
from spikewright.rules._cost import Done
from spikewright.spatial import FA
from spikewright.train import distributed
from spikewright.train.checkpoint import load, save
from spikewright.train.diagnose import first_not_finite
from spikewright.train.distributed import Ranks, average_buffers, average_gradients
from tests.complex_numbers.support import CE, INPUTS, WIDTH, C, Made, Twins, data, deep, drawn, read, turned
from tests.rules.support import gradients


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_checkpoints_hold_complex_numbers(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    value = torch.randn(shape, dtype=dtype)
    save(tmp_path / "some.safetensors", {"a": value, "b": [value.conj()]})
    back = load(tmp_path / "some.safetensors")
    assert back["a"].dtype == dtype and torch.equal(back["a"], value) and torch.equal(back["b"][0], value.conj())


def test_processes_share_complex_gradients_and_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.distributed, "all_reduce", lambda x: x.add_(2.0))
    a, b = (nn.Parameter(torch.randn(3, dtype=dtype)) for dtype in (C, torch.float64))
    a.grad, b.grad = torch.randn(3, dtype=C).conj(), torch.randn(3)
    before = a.grad.clone(), b.grad.clone()
    average_gradients([a, b], Ranks(0, 2))
    torch.testing.assert_close((a.grad, b.grad), ((before[0] + 2 + 2j) / 2, (before[1] + 2) / 2))
    rule, (x, y) = EWC(SLTT()), data()
    rule.next_task(deep("real"), x, y, CE)
    pull = rule.pull["3.weight"].clone()
    average_buffers(rule, Ranks(0, 2))
    torch.testing.assert_close(rule.pull["3.weight"], (pull + 2 + 2j) / 2)


def test_complex_inputs_that_are_not_finite_are_named() -> None:
    twins = Twins(leaky=True)
    twins.x[1, 0, 2] = complex(0, float("nan"))
    assert first_not_finite(Network(twins.own), twins.x) == "the input"


def test_products_of_complex_numbers_are_counted_as_those_of_real_ones() -> None:
    parts = [Made(lambda x: x.to(C)), nn.Linear(INPUTS, WIDTH, dtype=C), nn.Linear(WIDTH, WIDTH, dtype=C)]
    net = Network(nn.Sequential(*parts, read("real"), LIF(), Made(lambda x: x.to(C)), nn.Linear(WIDTH, 2, dtype=C)))
    counter, (x, _) = SynapseCounter(), data()
    net.run(x, observers=(counter,))
    work = counter.work
    dense = {site: work[site].dense for site in work}
    assert dense == {"1": 2 * INPUTS * WIDTH, "2": 4 * WIDTH * WIDTH, "6": 2 * WIDTH * 2}
    assert work["6"].spiking and work["6"].inputs == 2 * WIDTH
    assert Done(work, net.wiring(x), len(x)).weights_crossed == 2 * (WIDTH * WIDTH + WIDTH * 2)


def test_numbers_that_are_kept_are_counted_as_real_ones() -> None:
    net, (x, y) = deep("real"), data()
    rule = EWC(SLTT())
    rule.next_task(net, x, y, CE)
    twice = [p.numel() * (1 + p.is_complex()) for p in net.parameters()]
    done = Done({}, net.wiring(x), len(x))
    found, inner = rule.cost(done), rule.rule.cost(done)
    assert found is not None and inner is not None
    assert found.operations.multiplications - inner.operations.multiplications == 2 * sum(twice)
    learner = OTTT(spatial=FA())
    gradients(learner, net.module, x, y, CE)
    assert learner.spatial.floats == 2 * sum(net.module[n].weight.numel() for n in (3, 8))  # type: ignore


def test_a_plan_takes_complex_inputs_and_outputs() -> None:
    net = Network(nn.Sequential(nn.Linear(INPUTS, WIDTH, dtype=C), read("abs"), LIF(), turned()))
    rows = plan(net, BPTT(), (4, 2, INPUTS)).rows
    assert rows[0].saved_bytes > 0


def test_the_gain_of_complex_layers() -> None:
    layer = nn.Linear(6, 5, dtype=C)
    size = torch.linalg.matrix_norm(layer.weight.detach(), 2).item()
    assert operator_norm(layer) == pytest.approx(size)
    restrict_spectral(layer, limit=size / 2)
    assert operator_norm(layer) == pytest.approx(size / 2)
    assert layer.weight.is_complex() and not layer.parametrizations.weight[0].gain.is_complex()  # type: ignore
    conv = nn.Conv1d(2, 3, 3, dtype=torch.complex64)
    restrict_frobenius(conv, limit=0.5)
    assert conv.weight.abs().pow(2).sum().sqrt().item() == pytest.approx(0.5)
    restrict_frobenius(nn.Linear(60, 50, dtype=C), limit=0.5, probes=4)


def test_the_norm_of_complex_weights_has_the_gradient_of_its_equation() -> None:
    layer = restrict_spectral(drawn(nn.Linear(4, 3, dtype=C)), limit=0.5)  # type: ignore[type-var]
    form, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original  # type: ignore
    layer.eval()  # vectors stay
    assert torch.autograd.gradcheck(lambda w: form(w), original.detach().clone().requires_grad_(), atol=1e-4)


def test_complex_feedback_is_sent_back_as_it_is() -> None:
    parts = [nn.Linear(INPUTS, WIDTH), Feedback(read("imag"), "3"), LIF(), nn.Sequential(turned()), read("abs")]
    module = drawn(nn.Sequential(*parts))
    x, _ = data()
    found = Network(module).run(x[:2])[0]
    sent = turned()(Network(nn.Sequential(module[0], LIF())).run(x[:1])[0]).imag  # type: ignore[index]
    currents = torch.stack([module[0](x[0]), module[0](x[1]) + sent[0]])  # type: ignore[index]
    expected = Network(nn.Sequential(LIF(), turned(), read("abs"))).run(currents)[0]
    torch.testing.assert_close(found, expected)
    assert sent.abs().max() > 0.1
