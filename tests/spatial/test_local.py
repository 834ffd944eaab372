"""Local learning: the error of its own readout reaches a layer, and the readout learns as any readout would."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import BP, DFA, DKP, OPZO, Local, Spatial
from spikewright.surrogate import Sigmoid
from spikewright.synapses.operations import Operation
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Params
from tests.rules.support import CE, collected, gradients
from tests.spatial.support import Errors, taught, with_readouts


def readouts(local: Local) -> dict[str, nn.Linear]:
    """The linear layer of every readout, by site."""
    linear = {site: list(m.modules())[-1] for site, m in local.readouts.items()}
    return {site: m for site, m in linear.items() if isinstance(m, nn.Linear)}


def pooled(spikes: Tensor, grid: int) -> Tensor:
    """Averages over a grid of regions, `[batch, channel * region]`."""
    if spikes.dim() == 2:
        return spikes
    side = spikes.shape[-1] // grid
    return spikes.unflatten(3, (grid, side)).unflatten(2, (grid, side)).mean((3, 5)).flatten(1)


def spread(errors: Tensor, like: Tensor, grid: int) -> Tensor:
    """The adjoint of `pooled`."""
    if like.dim() == 2:
        return errors
    side = like.shape[-1] // grid
    cells = errors.unflatten(1, (like.shape[1], grid, grid)) / side**2
    return cells.repeat_interleave(side, 2).repeat_interleave(side, 3)


def error_of(readout: nn.Linear, features: Tensor, y: Tensor, steps: int) -> Tensor:
    """Derivative of the mean cross-entropy by what a readout says at one of some steps."""
    return ((readout(features).softmax(1) - F.one_hot(y, 4)) / (steps * len(y))).detach()


def own_errors(spatial: DFA, local: Local, y: Tensor, steps: int) -> Errors:
    """The error that the readout of every layer sends it, beside that of DFA."""
    matrices = {site: spatial.matrices[f"output {site}"].clone() for site in readouts(local)}

    def errors(spikes: dict[str, Tensor], error: Tensor) -> dict[str, Tensor]:
        found = {}
        for site, s in spikes.items():
            readout, grid = readouts(local)[site], local.pool
            back = error_of(readout, pooled(s, grid), y, steps) @ readout.weight.detach()
            found[site] = (error @ matrices[site].T).view_as(s) + local.weight * spread(back, s, grid)
        return found

    return errors


@pytest.mark.parametrize("options", [{}, {"weight": 0.3}, {"weight": 2.0, "pool": 2}], ids=str)
@pytest.mark.parametrize("kind", [OTTT, SLTT])
@pytest.mark.parametrize("name", ["mlp", "deep", "conv"])
def test_a_layer_gets_its_own_error_too(name: str, kind: type[OnlineRule], options: dict[str, Any]) -> None:
    module, (x, y), way = NETS[name](0), sample(name, 0), DFA()
    rule, local = with_readouts(kind, way, module, x, **options)
    expected = taught(name, own_errors(way, local, y, len(x)), traced=kind is OTTT)
    assert_agree(gradients(rule, module, x, y), expected, 1e-12)
    assert_agree(gradients(rule, module, x, y), expected, 1e-12)  # nothing has been left behind


def test_chunks_are_all_the_same_to_it() -> None:
    found = []
    for chunk in (1, 4, 6):
        module, (x, y) = NETS["conv"](0), sample("conv", 0)
        rule, _ = with_readouts(OTTT, OPZO(momentum=0.5), module, x, pool=2)
        rule.chunk = chunk
        found.append({**gradients(rule, module, x, y), **collected(rule)})
    assert_agree(found[1], found[0])
    assert_agree(found[2], found[0])


class Spikes:
    """What every neuron layer emits, `[time * batch, *feature]`."""

    def __init__(self) -> None:
        self.by_site: dict[str, Tensor] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        self.by_site[site] = spikes.detach()

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        pass


@pytest.mark.parametrize("way", [BP, DFA, lambda: DKP(lr=1.0)], ids=["BP", "DFA", "DKP"])
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_readouts_learn_by_their_loss_whatever_the_weight(name: str, way: Callable[[], Spatial]) -> None:
    module, (x, y), spikes = NETS[name](0), sample(name, 0), Spikes()
    rule, local = with_readouts(OTTT, way(), module, x, weight=0.3, pool=2)
    gradients(rule, module, x, y)
    Network(module).run(x, observers=(spikes,))
    for site, readout in readouts(local).items():
        said = readout(pooled(spikes.by_site[site], 2))
        loss = F.cross_entropy(said, y.repeat(len(x)))  # the mean over steps and samples
        weight, bias = torch.autograd.grad(loss, [readout.weight, readout.bias])
        assert_agree(collected(readout), {"weight": weight, "bias": bias}, 1e-12)


def test_noise_does_not_reach_readouts(monkeypatch: pytest.MonkeyPatch) -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    rule, local = with_readouts(OTTT, OPZO(alpha=0.5), module, x, weight=0.3)
    seen: dict[str, list[Tensor]] = {}
    read = local.read
    monkeypatch.setattr(local, "read", lambda site, s: (seen.setdefault(site, []).append(s), read(site, s))[1])
    gradients(rule, module, x, y)
    assert seen.keys() == {"1", "3"}
    assert all(set(s.unique().tolist()) <= {0.0, 1.0} for parts in seen.values() for s in parts)


def by_autograd(module: nn.Module, local: Local, x: Tensor, y: Tensor) -> Params:
    """SLTT of the loss of the output and of the weighted losses of all readouts, step by step."""
    total, rests, (first, second, *readout) = torch.zeros(()), [0.0, 0.0], list(module.children())[::2]
    for frame in x:
        s = frame
        for k, site in enumerate(("1", "3")):
            charged = (first, second)[k](s) + 0.5 * rests[k]
            s = Sigmoid(4.0)(charged - 1)
            rests[k] = (charged - s).detach()
            total = total + local.weight * F.cross_entropy(local.read(site, s[None])[0], y) / len(x)
        total = total + F.cross_entropy(nn.Sequential(*readout)(s), y) / len(x)
    return dict(zip(dict(module.named_parameters()), torch.autograd.grad(total, list(module.parameters()))))


def test_where_the_graph_is_whole_the_losses_of_readouts_go_back_through_it() -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    rule, local = with_readouts(SLTT, BP(), module, x, weight=0.3)
    assert_agree(gradients(rule, module, x, y), by_autograd(module, local, x, y), 1e-12)


def test_neurons_at_the_end_of_a_network_have_a_readout_too() -> None:
    (x, y), module = sample("mlp", 0), nn.Sequential(*list(NETS["mlp"](0).children())[:4])
    rule, local = with_readouts(SLTT, DFA(), module, x, weight=0.3)
    assert readouts(local).keys() == {"1", "3"}
    found, expected = gradients(rule, module, x, y), by_autograd(module, local, x, y)
    last = ("2.weight", "2.bias")
    assert_agree({name: found[name] for name in last}, {name: expected[name] for name in last}, 1e-12)


def test_the_loss_of_an_update_is_that_of_the_output() -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    rule, _ = with_readouts(OTTT, DFA(), module, x)
    values = [update.loss for update in rule.updates(Network(module), x, y, CE)]
    expected = [update.loss for update in OTTT().updates(Network(module), x, y, CE)]
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("spatial", [BP(), DFA()], ids=str)
@pytest.mark.parametrize("dtype, within", [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_networks_of_half_precision(dtype: torch.dtype, within: float, spatial: Spatial) -> None:
    """Readouts have 32 bits; spikes and errors agree with those in 64, for weights and inputs of few digits."""
    x, y = torch.randint(0, 3, (5, 4, 8), generator=torch.Generator().manual_seed(1)) / 2, torch.tensor([0, 1, 2, 0])
    found = []
    for kind in (torch.float64, dtype):
        torch.manual_seed(2)
        module = nn.Sequential(nn.Linear(8, 8), LIF(), nn.Linear(8, 8), LIF(), nn.Linear(8, 3)).to(kind)
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(torch.randint(-4, 8, p.shape, generator=torch.Generator().manual_seed(p.numel())) / 8)
        rule = SLTT(spatial=spatial, local=Local())
        torch.manual_seed(3)
        rule.prepare(Network(module), x.to(kind))
        assert all(p.dtype == (kind if kind == torch.float64 else torch.float32) for p in rule.parameters())
        with torch.no_grad():
            for p in rule.parameters():
                p.copy_(torch.randint(-4, 8, p.shape, generator=torch.Generator().manual_seed(p.numel())) / 16)
        list(rule.updates(Network(module), x.to(kind), y, CE))
        grads = [p.grad for p in (*module.parameters(), *rule.parameters())]
        found.append(torch.cat([g.flatten().double() for g in grads if g is not None]))
    expected, low = found
    assert low.isfinite().all() and expected.norm() > 0
    assert float((low - expected).norm() / expected.norm()) < within
