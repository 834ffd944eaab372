"""Layers that know about time: dropout, batch norm, feedback."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.layers import (
    Feedback,
    JointBatchNorm1d,
    JointBatchNorm2d,
    PerStepBatchNorm1d,
    PerStepBatchNorm2d,
    SharedDropout,
    StepDropout,
)
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.core.support import lively
from tests.nets import NETS, sample
from tests.rules.support import learn


def run(layer: nn.Module, x: Tensor, *, pieces: int | None = None) -> Tensor:
    """What a layer makes of `x`; the neuron beside it passes nothing on."""
    net = Network(Beside(layer))
    outputs, state = list[Tensor](), None
    for piece in x.split(pieces or len(x)):
        output, state = net.run(piece, state)
        outputs.append(output)
    return torch.cat(outputs)


class Beside(nn.Module):
    """A layer, and a neuron so that there is something to run over time."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.neuron = layer, IF()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + 0 * self.neuron(x)


@pytest.mark.parametrize("layer", [nn.Dropout(0.4), SharedDropout(0.4)])
def test_a_shared_mask_is_one_for_all_steps(layer: nn.Module) -> None:
    ones = torch.ones(5, 40, 50)
    first, second = run(layer, ones), run(layer, ones)
    assert all(torch.equal(step, first[0]) for step in first)
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1 / 0.6}
    assert float((first == 0).double().mean()) == pytest.approx(0.4, abs=0.05)
    torch.manual_seed(1)
    whole = run(layer, ones)
    torch.manual_seed(1)
    assert torch.equal(run(layer, ones, pieces=2), whole)


def test_channel_dropout_drops_whole_channels() -> None:
    kept = run(nn.Dropout2d(0.5), torch.ones(3, 10, 8, 4, 4)).flatten(3)
    assert torch.equal(kept.amin(3), kept.amax(3))
    assert {0.0, 2.0} == set(kept.unique().tolist())


def test_a_fresh_mask_at_every_step() -> None:
    ones = torch.ones(6, 40, 50)
    dropped = run(StepDropout(0.4), ones)
    assert set(dropped.unique().tolist()) == {0.0, 1 / 0.6}
    assert float((dropped == 0).double().mean()) == pytest.approx(0.4, abs=0.02)
    assert len({tuple(step.flatten().tolist()) for step in dropped}) == 6
    assert not torch.equal(run(StepDropout(0.4), ones), dropped)
    for pieces in (1, 4):
        torch.manual_seed(1)
        whole = run(StepDropout(0.4), ones)
        torch.manual_seed(1)
        assert torch.equal(run(StepDropout(0.4), ones, pieces=pieces), whole)


@pytest.mark.parametrize("kind", [nn.Dropout, SharedDropout, StepDropout])
def test_the_ends_of_the_range_of_dropout(kind: type[nn.Dropout]) -> None:
    x = torch.rand(3, 2, 5)
    assert torch.equal(run(kind(0.0), x), x)
    assert torch.equal(run(kind(0.9).eval(), x), x)
    assert torch.equal(run(kind(1.0), x), torch.zeros_like(x))


PER_STEP = [
    (nn.BatchNorm1d, (4,)),
    (PerStepBatchNorm1d, (4,)),
    (nn.BatchNorm2d, (4, 3, 3)),
    (PerStepBatchNorm2d, (4, 3, 3)),
]


@pytest.mark.parametrize("kind, shape", PER_STEP)
@pytest.mark.parametrize("pieces", [1, 3, 5])
def test_per_step_statistics(kind: type[nn.BatchNorm1d], shape: tuple[int, ...], pieces: int) -> None:
    x, layer = torch.rand(5, 6, *shape), kind(4).double()
    plain = nn.BatchNorm2d(4) if len(shape) > 1 else nn.BatchNorm1d(4)
    expected = torch.stack([plain(step) for step in x])
    torch.testing.assert_close(run(layer, x, pieces=pieces), expected)
    assert int(layer.num_batches_tracked) == 5
    torch.testing.assert_close(layer.running_mean, plain.running_mean)
    torch.testing.assert_close(layer.running_var, plain.running_var)
    after = torch.stack([plain.eval()(step) for step in x])
    torch.testing.assert_close(run(layer.eval(), x, pieces=pieces), after)


@pytest.mark.parametrize("kind, shape", [(JointBatchNorm1d, (4,)), (JointBatchNorm2d, (4, 3, 3))])
def test_joint_statistics(kind: type[nn.BatchNorm1d], shape: tuple[int, ...]) -> None:
    x, layer = torch.rand(5, 6, *shape), kind(4).double()
    expected = F.batch_norm(x.flatten(0, 1), None, None, training=True).unflatten(0, (5, 6))
    torch.testing.assert_close(run(layer, x), expected)
    assert int(layer.num_batches_tracked) == 1


def joint() -> nn.Module:
    return lively(nn.Sequential(nn.Linear(8, 6), JointBatchNorm1d(6), LIF(), nn.Linear(6, 4)))


@pytest.mark.parametrize("rule", [SLTT(), SLTT(k=2), OTTT(), OTTT(online=True), BPTT(chunk=2)], ids=repr)
def test_joint_statistics_need_all_steps(rule: Rule) -> None:
    with pytest.raises(
        IncompatibleRule, match=r"of 6 steps at a time here, but '1' is a JointBatchNorm1d.*all steps at once"
    ):
        learn(rule, joint(), *sample("mlp", 0))


@pytest.mark.parametrize("rule", [SLTT(chunk=None), OTTT(chunk=6), BPTT(), BPTT(chunk=8)], ids=repr)
def test_joint_statistics_with_all_steps(rule: Rule) -> None:
    assert learn(rule, joint(), *sample("mlp", 0))


def test_joint_statistics_are_refused_where_feedback_runs_steps_one_by_one() -> None:
    module = nn.Sequential(joint()[0], Feedback(nn.Linear(4, 6), "4"), *joint()[1:]).double()
    with pytest.raises(IncompatibleRule, match="BPTT runs 1 of 6 steps at a time here, but '2' is a JointBatchNorm1d"):
        learn(BPTT(), module, *sample("mlp", 0))


def echo(transform: nn.Module, source: nn.Module | str, neuron: nn.Module) -> nn.Module:
    return nn.Sequential(Feedback(transform, source), neuron)


@pytest.mark.parametrize("by_name", [False, True])
def test_feedback_is_what_was_emitted_one_step_ago(by_name: bool) -> None:
    neuron, transform = IF(), nn.Linear(1, 1)
    with torch.no_grad():
        transform.weight.fill_(-2.0)
        transform.bias.fill_(0.25)
    net = Network(echo(transform, "1" if by_name else neuron, neuron))
    spikes, state = net.run(torch.tensor([1.0, 0.5, 0.25, 0.25]).view(4, 1, 1))
    # Charges: 1; 0.5 - 2 + 0.25 = -1.25; then 0.25 + 0.25 more at each step, for nothing is emitted.
    assert spikes.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert state["1"]["membrane"].item() == -0.25
    assert state["0"]["last"].item() == 0.0


def test_feedback_adds_nothing_at_the_first_step_and_outside_a_run() -> None:
    module, x = NETS["feedback"](0), sample("feedback", 0)[0]
    assert isinstance(module, nn.Sequential)
    plain = nn.Sequential(module[0], *list(module)[2:])
    assert torch.equal(Network(module).run(x[:1])[0], Network(plain).run(x[:1])[0])
    assert not torch.equal(Network(module).run(x)[0], Network(plain).run(x)[0])
    assert torch.equal(module[1](x[0]), x[0])


def test_two_connections_may_have_one_source() -> None:
    neuron = IF()
    first, second = (Feedback(nn.Linear(1, 1, bias=False), neuron) for _ in range(2))
    for connection, weight in ((first, -1.0), (second, -0.5)):
        connection.transform.weight.data.fill_(weight)  # type: ignore[union-attr]
    _, state = Network(nn.Sequential(first, second, neuron)).run(torch.tensor([1.0, 0.25]).view(2, 1, 1))
    assert state["2"]["membrane"].item() == 0.25 - 1.0 - 0.5
