"""What delays learn, by rule and by slope, against explicit programs and against finite differences."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.layers import SynapticDelay
from spikewright.network import Network
from spikewright.neurons import AlphaLIF
from spikewright.rules import BPTT, SLTT, Rule
from spikewright.surrogate import Sigmoid
from tests.nets import sample
from tests.oracles import bptt, sltt
from tests.oracles.compare import assert_agree, relative
from tests.oracles.delay import LONGEST, alpha, arrive, epsilon
from tests.oracles.draw import weights
from tests.oracles.machine import Machine, Params
from tests.rules.support import collected, learn

TAU = 4.0
KINDS = ["finite_difference", "exact", "reference"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def delays(kind: str, channels: int, **options: bool) -> SynapticDelay:
    return SynapticDelay(channels, LONGEST, delay_grad=kind, tau=None if kind[0] == "f" else TAU, **options)  # type: ignore[arg-type]


def program(x: Tensor, net: Machine, kind: str) -> Tensor:
    s = alpha(net, "1", net.syn("0", x), tau=2.0, threshold=1.5)
    s = alpha(net, "4", net.syn("3", arrive(net, "2", s, kind, TAU)), TAU, threshold=1.5)
    return net.syn("5", s)


def module(kind: str) -> nn.Module:
    first = [nn.Linear(8, 12), AlphaLIF(tau=2.0, threshold=1.5), delays(kind, 12)]
    net = nn.Sequential(*first, nn.Linear(12, 10), AlphaLIF(tau=TAU, threshold=1.5), nn.Linear(10, 4)).double()
    net.load_state_dict(weights("delayed", 0))
    return net


@every_kind
@pytest.mark.parametrize("chunk", [1, 2, 5, None])
@pytest.mark.parametrize(
    "make, oracle", [(BPTT, bptt.gradients), (partial(BPTT, checkpoint=True), bptt.gradients), (SLTT, sltt.gradients)]
)
def test_gradients_are_those_of_an_explicit_program(
    make: Callable[..., Rule], oracle: Callable[..., Params], chunk: int | None, kind: str
) -> None:
    net, (x, y) = module(kind), sample("delayed", 0)
    (update,) = learn(make(chunk=chunk), net, x, y)
    assert all(0.05 < rate < 0.95 for rate in update.rates.values()), update.rates
    expected = oracle(partial(program, kind=kind), weights("delayed", 0), x, y, F.cross_entropy)
    assert all(grad.any() for grad in expected.values())
    assert_agree(collected(net), expected, 1e-11)


def test_slopes_differ() -> None:
    x, y = sample("delayed", 0)
    found = [bptt.gradients(partial(program, kind=k), weights("delayed", 0), x, y, F.cross_entropy) for k in KINDS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        distances = relative(found[one], found[other])
        assert distances.pop("2.delay_logit") > 0.05
        assert not any(distances.values())


class Smooth(Sigmoid):
    """A slope in place of the step too, so that there is a derivative to compare with."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * x)


def by_response(x: Tensor, late: Tensor, synapse: nn.Linear, threshold: float) -> Tensor:
    """Neurons that see every spike by their response to it, `late` after it was sent; a soft reset leaves its own."""
    sent: list[Tensor] = []
    for t in range(len(x)):
        potential = synapse.bias * sum(epsilon(t - k, TAU) for k in range(t + 1))
        for k in range(t + 1):
            response = torch.tensor([epsilon(t - k - d, TAU) for d in late.tolist()])
            potential = potential + (x[k] * response) @ synapse.weight.T
            potential = potential - (threshold * math.exp((k - t) / TAU) * sent[k] if k < t else 0)
        sent.append(torch.sigmoid(4 * (potential - threshold)))
    return torch.stack(sent)


@pytest.mark.parametrize("rounding", [True, False])
def test_exact_is_the_derivative_of_a_response_that_begins_between_two_steps(rounding: bool) -> None:
    torch.manual_seed(1)
    delay, synapse, x = delays("exact", 5, rounding=rounding), nn.Linear(5, 3), torch.rand(10, 2, 5)
    delay.delay_logit.data = torch.tensor([-3.0, -1.2, 0.1, 0.7, 3.0])  # 0.19, 0.93, 2.1, 2.7, 3.8
    neuron, error = AlphaLIF(TAU, 1.5, reset="subtract", surrogate=Smooth()), torch.randn(10, 2, 3)
    output, _ = Network(nn.Sequential(delay, synapse, neuron)).run(x)
    (found,) = torch.autograd.grad((output * error).sum(), delay.delay_logit)
    beta_slope = delay.delay * (1 - delay.delay / LONGEST)  # of the delay by its parameter
    at = (delay.delay.round() if rounding else delay.delay).detach()
    with torch.no_grad():
        torch.testing.assert_close(by_response(x, at, synapse, 1.5), output, rtol=1e-11, atol=1e-12)
        for channel in range(5):
            h = 1e-4
            values = [
                (by_response(x, at + h * n * torch.eye(5)[channel], synapse, 1.5) * error).sum().item()
                for n in range(3)
            ]
            forward = (4 * values[1] - values[2] - 3 * values[0]) / (2 * h)
            assert found[channel].item() / beta_slope[channel].item() == pytest.approx(forward, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["finite_difference", "exact"])
def test_without_rounding_the_gradient_is_that_of_the_forward_pass(kind: str) -> None:
    torch.manual_seed(1)
    delay, x, error = delays(kind, 5, rounding=False), torch.rand(10, 2, 5), torch.randn(10, 2, 3)
    net = Network(nn.Sequential(delay, nn.Linear(5, 3), AlphaLIF(TAU, 1.5, surrogate=Smooth())))
    (found,) = torch.autograd.grad((net.run(x)[0] * error).sum(), delay.delay_logit)
    with torch.no_grad():
        for channel in range(5):
            values = []
            for change in (1e-5, -2e-5):
                delay.delay_logit[channel] += change
                values.append((net.run(x)[0] * error).sum().item())
            delay.delay_logit[channel] += 1e-5
            assert found[channel].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_a_loss_of_finite_differences_is_linear_between_two_delays() -> None:
    """With a linear readout it is exactly what one more step of delay changes."""
    torch.manual_seed(1)
    delay, x, error = delays("finite_difference", 5), (torch.rand(10, 2, 5) > 0.5).double(), torch.randn(10, 2, 3)
    net = Network(nn.Sequential(AlphaLIF(threshold=0.5), delay, nn.Linear(5, 3)))
    delay.delay_logit.data = torch.logit(torch.tensor([0.25, 1.0, 2.0, 3.0, 2.0]) / LONGEST)
    beta_slope = (delay.delay * (1 - delay.delay / LONGEST)).detach()

    def loss() -> Tensor:
        return (net.run(x)[0] * error).sum()

    before = loss()
    (found,) = torch.autograd.grad(before, delay.delay_logit)
    for channel, later in enumerate((1.0, 2.0, 3.0, 3.75, 3.0)):
        kept = delay.delay_logit.data.clone()
        delay.delay_logit.data[channel] = math.log(later / (LONGEST - later))
        change = (loss() - before).item()
        delay.delay_logit.data = kept
        assert (found[channel] / beta_slope[channel]).item() == pytest.approx(change, rel=1e-10, abs=1e-12)


def teacher_and_student(kind: str) -> tuple[nn.Module, nn.Module]:
    """Two networks that differ in their delays alone."""
    synapse, neuron = nn.Linear(8, 6, bias=False), AlphaLIF(TAU, 1.0)
    synapse.weight.data = 2 * torch.rand(6, 8) ** 3
    teacher, student = (nn.Sequential(delays(kind, 8), synapse, neuron) for _ in range(2))
    assert isinstance(teacher[0], SynapticDelay) and isinstance(student[0], SynapticDelay)
    teacher[0].delay_logit.data = torch.logit(torch.tensor([0.25, 1, 2, 3, 3.75, 1, 2, 3]) / LONGEST)
    student[0].delay_logit.data = torch.logit(torch.full((8,), 2.0) / LONGEST)
    return teacher, student


@every_kind
@pytest.mark.long
def test_delays_alone_learn_those_of_a_teacher_from_its_spikes(kind: str) -> None:
    torch.manual_seed(5)
    teacher, student = teacher_and_student(kind)
    x, age = (torch.rand(24, 64, 8) < 0.1).double(), torch.arange(24.0)[:, None] - torch.arange(24.0)
    smooth = torch.where(age >= 0, torch.exp(-age / 4), 0.0)
    target = Network(teacher).run(x)[0].detach()
    optimizer = torch.optim.Adam([student.get_parameter("0.delay_logit")], 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        apart = torch.einsum("tk,knc->tnc", smooth, Network(student).run(x)[0] - target)
        apart.square().mean().backward()
        optimizer.step()
    whole = [net[0].delay.round().tolist() for net in (teacher, student)]  # type: ignore[index]
    assert whole[0] == whole[1] == [0, 1, 2, 3, 4, 1, 2, 3]
