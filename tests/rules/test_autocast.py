"""Mixed precision: states keep full precision, and no stale or cut copy of a weight is used."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import spikewright as sw
from tests.catalogue import STEPWISE, Entry
from tests.nets import NETS, sample
from tests.rules.support import CE, names


def setting() -> tuple[sw.Network, torch.Tensor, torch.Tensor, sw.losses.Loss]:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(8, 16), sw.LIF(), nn.Linear(16, 16), sw.LIF(), nn.Linear(16, 4)).float()
    for p in module.parameters():
        p.data *= 3
    x = 2 * torch.rand(6, 5, 8, dtype=torch.float32)
    return sw.Network(module), x, torch.tensor([0, 1, 2, 3, 0]), sw.losses.PerStep(nn.CrossEntropyLoss())


def gradients(rule: sw.rules.Rule, *, autocast: bool) -> dict[str, torch.Tensor]:
    net, x, y, loss = setting()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for _ in rule.updates(net, x, y, loss):
            pass
    return {name: p.grad for name, p in net.module.named_parameters() if p.grad is not None}


RULES = [sw.rules.BPTT(), sw.rules.SLTT(), sw.rules.SLTT(k=1), sw.rules.OTTT(), sw.rules.OTTT(chunk=3)]
RULES += [
    sw.rules.OTTT(spatial=sw.spatial.DFA()),
    sw.rules.OPZO(momentum=0.5, alpha=0.5),
    sw.rules.OPZO(position="pre"),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_gradients_are_those_of_full_precision_up_to_rounding(rule):
    other = deepcopy(rule)
    low, full = gradients(rule, autocast=True), gradients(other, autocast=False)
    assert low.keys() == full.keys()
    for name in full:
        assert low[name].dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(low[name].flatten(), full[name].flatten(), dim=0) > 0.9, name


def scaled(entry: Entry, factor: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The gradients of a loss times a factor, and what the rule has learned."""
    rule, module = entry.make(), NETS["mlp"](0)
    for _ in rule.updates(sw.Network(module), *sample("mlp", 0), CE, backward=lambda v: (v * factor).backward()):
        pass
    return [p.grad for p in module.parameters() if p.grad is not None], list(rule.buffers())


@pytest.mark.parametrize("entry", STEPWISE, ids=names(STEPWISE))
def test_a_scaled_loss_scales_gradients_and_teaches_the_rule_the_same(entry):
    (plain, learned), (large, same) = scaled(entry, 1.0), scaled(entry, 1024.0)  # a power of 2: nothing is rounded
    assert plain and all(torch.equal(1024 * a, b) for a, b in zip(plain, large, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(learned, same, strict=True))


def test_states_and_traces_stay_float32():
    net, x, y, loss = setting()
    with torch.autocast("cpu", torch.bfloat16):
        (update,) = sw.rules.OTTT().updates(net, x, y, loss)
    kinds = {tensor.dtype for carried in update.state.values() for tensor in carried.values()}
    assert kinds == {torch.float32}


def test_an_update_inside_the_sequence_reaches_the_next_step():
    net, x, y, loss = setting()
    outputs = []
    with torch.autocast("cpu", torch.bfloat16):
        for update in sw.rules.OTTT(online=True).updates(net, x, y, loss):
            outputs.append(update.output)
            with torch.no_grad():
                net.module[4].weight.zero_()
                net.module[4].bias.zero_()
    assert outputs[0].abs().sum() > 0
    assert all(output.abs().sum() == 0 for output in outputs[1:])
