"""The net of the tutorials of snnTorch: a loop that stacks spikes and potentials, and a loss on potentials."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.interop import convert
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.rules import BPTT, OTTT, SLTT, Rule

STEPS, CLASSES = 8, 3


class Tutorial(nn.Module):
    """Two convolutions and a readout, stepped over an image `[batch, 1, 12, 12]` or a sequence of them."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        snn = pytest.importorskip("snntorch")
        slope = snn.surrogate.fast_sigmoid(slope=25)
        self.conv1, self.lif1 = nn.Conv2d(1, 6, 3), snn.Leaky(beta=0.5, spike_grad=slope, **options)
        self.conv2, self.lif2 = nn.Conv2d(6, 8, 2), snn.Leaky(beta=0.5, spike_grad=slope, **options)
        self.fc1, self.lif3 = nn.Linear(8 * 4, CLASSES), snn.Leaky(beta=0.5, spike_grad=slope, **options)
        self.num_steps = STEPS

    def forward(self, x: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spk3_rec, mem3_rec = [], []
        for _ in range(self.num_steps if steps is None else steps):
            spk1, mem1 = self.lif1(F.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(F.max_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.flatten(1)), mem3)
            spk3_rec.append(spk3)
            mem3_rec.append(mem3)
        return torch.stack(spk3_rec, dim=0), torch.stack(mem3_rec, dim=0)


def potentials(model: Any, x: Tensor) -> Tensor:
    return model(x, steps=1)[1][0]


def images(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bright thirds of noisy images, and which third it is."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (number,), generator=source)
    x = 0.5 * torch.rand(number, 1, 12, 12, generator=source)
    for i, label in enumerate(labels.tolist()):
        x[i, :, :, 4 * label : 4 * label + 4] += 1
    return x, labels


def over_time(x: Tensor) -> Tensor:
    return x.expand(STEPS, *x.shape).contiguous()


def lively(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                m.weight.mul_(2.5)
    return model


def test_spikes_and_potentials_of_a_loop_are_those_of_the_model() -> None:
    torch.manual_seed(3)
    model, (x, _) = lively(Tutorial()), images(6)
    found = convert(model, over_time(x), step=lambda model, x: model(x, steps=1))
    assert [("potential=" in row.ours) for row in found.rows] == [False, False, True]
    spikes, mem = Network(found.module)(over_time(x))
    expected = model(x)
    assert torch.equal(spikes, expected[0])
    torch.testing.assert_close(mem, expected[1])


@pytest.mark.parametrize(
    ("rule", "learn"), [(BPTT(), False), (OTTT(), False), (SLTT(), False), (SLTT(), True)], ids=lambda v: str(v)[:12]
)
def test_training_on_potentials_trains_the_model(rule: Rule, learn: bool) -> None:
    torch.manual_seed(3)
    model, (x, labels) = lively(Tutorial(learn_beta=learn, learn_threshold=learn)), images(48)
    found = convert(model, over_time(x[:6]), step=potentials)
    net = Network(found.module)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(40):
        for update in rule.updates(net, over_time(x), labels, PerStep(nn.CrossEntropyLoss())):
            del update
            optimizer.step()
    written = found.write_back()
    assert bool(written) == learn
    test, expected = images(60, seed=1)
    with torch.no_grad():
        theirs = model(test)[1]
    torch.testing.assert_close(net(over_time(test)).detach(), theirs, rtol=1e-4, atol=1e-4)
    assert (theirs.sum(0).argmax(1) == expected).float().mean() > 0.9


def test_the_gradient_of_a_loss_on_potentials_is_theirs() -> None:
    torch.manual_seed(3)
    model, (x, labels) = lively(Tutorial()), images(6)
    net = Network(convert(model, over_time(x), step=potentials).module)
    (_,) = BPTT().updates(net, over_time(x), labels, PerStep(nn.CrossEntropyLoss()))
    ours = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    _, mem = model(x)
    sum(F.cross_entropy(step, labels) / STEPS for step in mem).backward()  # type: ignore[union-attr]
    for one, other in zip(ours, [p.grad for p in model.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
