"""Running chunks again instead of keeping their graphs: the same gradient, bit for bit, in less memory."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.metrics.memory import SavedBytes
from spikewright.rules import BPTT
from tests.nets import NETS, sample
from tests.rules.support import learn

RATE = sw.losses.OnRate(nn.CrossEntropyLoss())


def noisy() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(8, 12),
        nn.BatchNorm1d(12),
        sw.LIF(tau=[2.0] * 12, learn_tau=True),
        nn.Dropout(0.3),
        nn.Linear(12, 12),
        sw.LIF(detach_reset=False),
        sw.layers.StepDropout(0.3),
        nn.Linear(12, 3),
    )


def outcome(rule: BPTT, module: nn.Module, x: Tensor, y: Tensor, loss: sw.losses.Loss) -> list[Tensor]:
    """Everything a step leaves behind: loss, output, state, gradients, buffers, and where the random numbers stand."""
    torch.manual_seed(11)
    (update,) = learn(rule, module, x, y, loss)
    states = [value for values in update.state.values() for value in values.values()]
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    assert len(grads) == len(list(module.parameters())) and any(g.any() for g in grads)
    return [update.loss, update.output, *states, *grads, *module.buffers(), torch.rand(4)]


@pytest.mark.parametrize("chunk", [1, 2, 5, 6])
@pytest.mark.parametrize("loss", [sw.losses.PerStep(nn.CrossEntropyLoss()), RATE], ids=repr)
@pytest.mark.parametrize("name", [*NETS, "noisy"])
def test_nothing_differs_by_a_bit(name: str, loss: sw.losses.Loss, chunk: int) -> None:
    module = noisy() if name == "noisy" else NETS[name](0)
    x, y = sample("mlp" if name == "noisy" else name, 0)
    if name == "noisy":
        y = y % 3
    kept = outcome(BPTT(chunk=chunk), deepcopy(module), x, y, loss)
    again = outcome(BPTT(chunk=chunk, checkpoint=True), deepcopy(module), x, y, loss)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_a_stream_goes_on_from_its_state() -> None:
    x, y = sample("conv", 0)
    ends = []
    for checkpoint in (False, True):
        module = NETS["conv"](0)
        (first,) = learn(BPTT(chunk=2, checkpoint=checkpoint), module, x, y, RATE)
        net = sw.Network(module)
        list(BPTT(chunk=2, checkpoint=checkpoint).updates(net, x, y, RATE, state=first.state))
        ends.append([p.grad for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_autocast_and_a_scaled_loss() -> None:
    found = []
    for checkpoint in (False, True):
        module, (x, y) = noisy().float(), sample("mlp", 0)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            rule = BPTT(chunk=2, checkpoint=checkpoint)
            list(rule.updates(sw.Network(module), x.float(), y % 3, RATE, backward=lambda v: (8 * v).backward()))
        found.append([p.grad for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(g is not None and g.dtype == torch.float32 for g in found[0])


def peak(rule: BPTT, steps: int) -> int:
    torch.manual_seed(0)
    net = sw.Network(
        nn.Sequential(nn.Linear(64, 256), sw.LIF(), nn.Linear(256, 256), sw.LIF(), nn.Linear(256, 10)).double()
    )
    x, y = torch.rand(steps, 4, 64, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    net.wiring(x)
    with SavedBytes() as saved:
        list(rule.updates(net, x, y, RATE))
    return saved.peak


def test_keeps_a_fifth_at_64_steps() -> None:
    assert peak(BPTT(checkpoint=True), 64) <= peak(BPTT(), 64) / 5


def test_memory_grows_with_the_root() -> None:
    """Without an argument, 16 times the steps take about 4 times the memory."""
    assert 3 < peak(BPTT(checkpoint=True), 1024) / peak(BPTT(checkpoint=True), 64) < 6
