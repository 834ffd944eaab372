"""Padded batches of recurrent, delayed and adaptive networks equal their sequences one by one, under further losses."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import IncompatibleRule, InputError
from spikewright.losses import LastStep, Loss, MaxOverTime, OnRate, PerStep, SpikeCount
from spikewright.rules import BPTT, OPZO, OTTT, SLTT, EProp, Rule

STEPS, LENGTHS = 8, torch.tensor([8, 3, 6, 1, 3, 5])
BATCH, CLASSES = len(LENGTHS), 3
Y = torch.tensor([0, 2, 1, 1, 2, 0])
CE = nn.CrossEntropyLoss()


def data() -> Tensor:
    """Sequences, with loud noise behind their ends."""
    source = torch.Generator().manual_seed(1)
    x = 3 * torch.rand(STEPS, BATCH, 4, generator=source).double()
    after = torch.arange(STEPS)[:, None] >= LENGTHS
    return torch.where(after[..., None], 7 * torch.rand(x.shape, generator=source).double(), x)


@cache
def network(name: str) -> sw.Network:
    torch.manual_seed(0)
    inner: dict[str, Callable[[], list[nn.Module]]] = {
        "recurrent": lambda: [sw.Recurrent(sw.LIF(tau=3.0), nn.Linear(9, 9))],
        "recurrent, adaptive": lambda: [sw.Recurrent(sw.ALIF(), nn.Linear(9, 9), first="bias")],
        "delays": lambda: [sw.LIF(tau=3.0), sw.SynapticDelay(9, max_delay=4), nn.Linear(9, 9), sw.LIF()],
        "currents": lambda: [sw.CUBALIF(), nn.Linear(9, 9), sw.LIF(reset="zero")],
        "integrator": lambda: [sw.LIF(tau=2.0)],
    }
    tail: list[nn.Module] = [sw.LI(tau=4.0)] if name == "integrator" else []
    net = sw.Network(nn.Sequential(nn.Linear(4, 9), *inner[name](), nn.Linear(9, CLASSES), *tail).double())
    with torch.no_grad():
        for key, p in net.named_parameters():
            p.mul_(1 if "delay" in key else 2)
    return net


def learn(net: sw.Network, rule: Rule, x: Tensor, y: Tensor, loss: Loss, **given: Any) -> tuple[Any, Tensor, Any]:
    net.zero_grad()
    updates = list(rule.updates(net, x, y, loss, **given))
    grads = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    return grads, torch.stack([update.loss for update in updates]).sum(), updates


RULES: dict[str, Callable[[], Rule]] = {
    "BPTT": BPTT,
    "BPTT, chunks": partial(BPTT, chunk=3, checkpoint=True),
    "SLTT": SLTT,
    "OTTT": OTTT,
    "OTTT, online": partial(OTTT, online=True),
    "EProp": EProp,
}
NETS = ["recurrent", "recurrent, adaptive", "delays", "currents", "integrator"]
LOSSES: dict[str, Callable[[], Loss]] = {
    "each step": lambda: PerStep(CE),
    "the last step": lambda: LastStep(CE),
    "the mean": lambda: OnRate(CE),
    "the largest": lambda: MaxOverTime(CE),
    "the sum": lambda: SpikeCount(CE),
}


def agree(net: sw.Network, make: Callable[[], Rule], loss: Loss) -> None:
    """Loss, gradients, rates, outputs and answers of a padded batch are those of its sequences alone, put together."""
    x, total, value = data(), dict[str, Tensor](), torch.zeros(())
    fired, answers = dict[str, Any](), list[int]()
    for n, length in enumerate(LENGTHS.tolist()):
        own, one, updates = learn(net, make(), x[:length, n : n + 1], Y[n : n + 1], loss)
        total.update({name: total.get(name, 0) + grad / BATCH for name, grad in own.items()})
        value = value + one / BATCH
        for site, rate in updates[-1].rates.items():
            fired[site] = fired.get(site, 0) + rate * length / int(LENGTHS.sum())
        output = torch.cat([update.output for update in updates])
        answers.append(int(loss.reduced(output)[0].argmax()))
    found, padded, updates = learn(net, make(), x, Y, loss, lengths=LENGTHS)
    assert found.keys() == total.keys() and sum(bool(grad.any()) for grad in total.values()) > len(total) / 2
    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(padded, value, rtol=1e-10, atol=0)
    torch.testing.assert_close(updates[-1].rates, fired, rtol=1e-5, atol=0)
    output = torch.cat([update.output for update in updates])
    assert loss.correct(output, torch.tensor(answers), LENGTHS) == BATCH


@pytest.mark.long
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", NETS)
def test_rules_of_time(name: str, kind: str) -> None:
    agree(network(kind), RULES[name], PerStep(CE))
    if name != "OTTT, online":
        agree(network(kind), RULES[name], LastStep(CE))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", NETS)
def test_losses_of_whole_sequences(name: str, kind: str) -> None:
    agree(network(kind), BPTT, LOSSES[name]())


def test_answers_are_read_at_the_end_of_each_sequence() -> None:
    """Two outputs below 0, and 0 behind the end of the shorter: neither the last nor the largest is of the padding."""
    output = torch.tensor([[[-3.0, -1.0], [-3.0, -1.0]], [[-3.0, -1.0], [0.0, 0.0]]])
    y, lengths = torch.tensor([1, 1]), torch.tensor([2, 1])
    for loss in LastStep(CE), MaxOverTime(CE):
        assert (loss.correct(output, y), loss.correct(output, y, lengths)) == (1, 2)
    with pytest.raises(InputError, match=r"lengths\[0\] is 3, but x has 2 steps"):
        PerStep(CE).correct(output, y, lengths + 1)


def test_opzo_refuses_lengths() -> None:
    with pytest.raises(IncompatibleRule, match="was given lengths of sequences, but it does not declare"):
        learn(network("integrator"), OPZO(), data(), Y, PerStep(CE), lengths=LENGTHS)


@pytest.mark.parametrize("kind", NETS)
def test_states_at_the_ends(kind: str) -> None:
    """What `run` returns is the state of the samples that end last; of others it is found by their length."""
    net, x = network(kind), data()
    _, state = net.run(x, lengths=LENGTHS)
    for length in LENGTHS.unique().tolist():
        rows = (LENGTHS == length).nonzero().flatten()
        _, alone = net.run(x[:length, rows])
        for site, values in state.items():
            for name, value in values.items():
                if value.dim() == 0 or not value.is_floating_point():
                    continue
                if length == STEPS:
                    torch.testing.assert_close(value[rows], alone[site][name], rtol=1e-12, atol=0)
                else:
                    assert bool(value[rows].isnan().all()) and bool(alone[site][name].isfinite().all())
