"""What a pass knows of its tensors: one repeated step is computed once, spikes are kept as bytes; results stay."""

from functools import partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.metrics import SavedBytes
from spikewright.network import Network
from spikewright.network.folded_time import FoldedTime
from spikewright.network.run import Run
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, SLTT, Batch, Rule
from spikewright.temporal import SiteState
from tests.core.support import CE, Lambda, lively
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import gradients, started


def test_a_repeated_step_is_known_until_somebody_writes_to_it() -> None:
    folded, x = FoldedTime(3), torch.rand(2, 4).expand(3, 2, 4)
    rows = folded.fold(x)
    assert folded.unfold(rows) is x and folded.repeats(rows)
    assert not folded.repeats(rows[:2]) and not folded.repeats(rows.clone())
    assert folded.unfold(rows.flatten(1)).stride(0) == 0
    assert folded.unfold(rows.unsqueeze(1)).shape == (3, 2, 1, 4)
    square = folded.fold(still_square := torch.rand(2, 4, 4).expand(3, 2, 4, 4))
    assert folded.unfold(square) is still_square
    assert torch.equal(folded.unfold(square.transpose(1, 2)), still_square.transpose(2, 3))
    rows.add_(1)
    assert not folded.repeats(rows) and torch.equal(folded.unfold(rows), x + 1)


def test_what_is_not_repeated_is_unfolded_in_place() -> None:
    folded, x = FoldedTime(3), torch.rand(3, 2, 4)
    rows = folded.fold(x)
    assert not folded.repeats(rows) and folded.unfold(rows).data_ptr() == x.data_ptr()
    assert not FoldedTime(1).repeats(FoldedTime(1).fold(x[:1]))


def test_spikes_are_known_through_views_of_all_of_them() -> None:
    folded = FoldedTime(3)
    spikes, others = folded.fold(torch.ones(3, 2, 4, 4), spikes=True), folded.fold(torch.ones(3, 2, 4, 4))
    assert folded.holds_spikes(spikes) and folded.holds_spikes(spikes.flatten(1))
    assert not folded.holds_spikes(others) and not folded.holds_spikes(spikes[:, :2]) and not folded.repeats(spikes)
    spikes.mul_(0.5)
    assert not folded.holds_spikes(spikes)
    both = torch.ones(2, 3, 2, 4)
    part = folded.fold(both[0], spikes=True)
    assert not folded.holds_spikes(part) and not folded.holds_spikes(both[1].flatten(0, 1))


class Rows(TorchDispatchMode):
    """Notes how many rows every convolution and matrix product has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.convolution.default, torch.ops.aten.addmm.default):
            self.seen.append(len(args[0] if func is torch.ops.aten.convolution.default else args[1]))
        return func(*args, **(kwargs or {}))


def still(name: str, steps: int = 6) -> tuple[Tensor, Tensor]:
    """A sample of a network of `tests/nets.py`, its first step shown over and over."""
    x, y = sample(name, 0)
    return x[0].expand(steps, *x.shape[1:]), y


@pytest.mark.parametrize("rule", [BPTT(), SLTT(chunk=None), OTTT(chunk=None), SLTT(chunk=4)], ids=repr)
def test_the_first_layer_sees_a_still_image_once(rule: Rule) -> None:
    x, y = still("conv")
    net = Network(NETS["conv"](0))
    net.wiring(x)
    with Rows() as rows:
        list(rule.updates(net, x, y, CE))
    once, batch = len(rows.seen) // 3, x.shape[1]
    assert rows.seen[::3] == [batch] * once and all(n > batch for n in rows.seen[1::3])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rule", [BPTT(), BPTT(checkpoint=True), SLTT(chunk=4), OTTT(chunk=4), OTTT()], ids=repr)
def test_a_still_image_gives_what_its_copies_give(rule: Rule, name: str) -> None:
    x, y = still(name)
    module = NETS[name](0)
    assert_agree(gradients(rule, module, x, y), gradients(rule, NETS[name](0), x.clone(), y))
    found, expected = Network(module).run(x)[0], Network(module).run(x.clone())[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_masks_and_statistics_of_a_still_image() -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        conv = nn.Conv2d(2, 3, 3, bias=False)
        return lively(nn.Sequential(conv, nn.BatchNorm2d(3), LIF(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(108, 4)))

    x, y = still("conv")
    for rule in (BPTT(), SLTT(chunk=4)):
        once, copied = build(), build()
        assert_agree(gradients(rule, once, x, y), gradients(rule, copied, x.clone(), y))
        for a, b in zip(once.buffers(), copied.buffers()):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class Graded(LIF):
    """Emits more than zeros and ones."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        spikes, state = super().scan(x, state, through_time)
        return 0.5 * spikes, state


def test_only_zeros_and_ones_are_kept_as_bytes() -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return lively(nn.Sequential(nn.Linear(8, 6), Graded(), nn.Linear(6, 4)).double())

    x, y = sample("mlp", 0)
    assert not Graded().binary and LIF().binary
    readout = [gradients(rule, build(), x, y)["2.weight"] for rule in (BPTT(), SLTT(chunk=None))]
    torch.testing.assert_close(*readout, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_still_image() -> None:
    x = sample("mlp", 0)[0][0].requires_grad_()
    module = NETS["mlp"](0)
    for rule in (SLTT(chunk=None), OTTT(chunk=None)):
        grads = []
        for steps in (x.expand(6, *x.shape), torch.stack([x] * 6)):
            run = started(rule, Network(module), steps)
            grads += torch.autograd.grad(run.advance(steps).square().sum(), x)
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def _writes(m: nn.Module, x: Tensor) -> Tensor:
    current = m.fc(x)
    current.mul_(1.5)
    spikes = m.lif(current)
    spikes.mul_(2.0)
    return m.out(spikes)


def test_a_module_may_write_to_currents_and_spikes() -> None:
    torch.manual_seed(0)
    module = lively(Lambda(_writes, fc=nn.Linear(8, 6), lif=LIF(), out=nn.Linear(6, 4)).double())
    x, y = still("mlp")
    for rule in (BPTT(), SLTT(chunk=3)):
        assert_agree(gradients(rule, module, x, y), gradients(rule, module, x.clone(), y))


def test_bptt_keeps_spikes_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = lively(nn.Sequential(nn.Linear(8, 6), LIF(), nn.Linear(6, 10), LIF(), nn.Linear(10, 4)).double())
    x, y = sample("mlp", 0)
    saved, start = [], Batch.start

    def keeping(batch: Batch, as_bytes: bool, **options: Any) -> Run:
        return start(batch, **{**options, "spikes_as_bytes": as_bytes})

    for as_bytes in (True, False):
        monkeypatch.setattr(Batch, "start", partialmethod(keeping, as_bytes))
        net = Network(module)
        net.wiring(x)
        with SavedBytes() as bytes_saved:
            list(BPTT().updates(net, x, y, CE))
        saved.append((bytes_saved.peak, gradients(BPTT(), module, x, y)))
    spikes = x.shape[0] * x.shape[1] * (6 + 10)
    assert saved[1][0] - saved[0][0] == spikes * (8 - 1)
    assert_agree(saved[0][1], saved[1][1])
