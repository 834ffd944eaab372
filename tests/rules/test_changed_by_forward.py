"""Modules that a forward pass changes: pieces that are run again, and chunks of any size, give the same to the bit."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils import spectral_norm as by_hook
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from spikewright.layers import Feedback, restrict_frobenius, restrict_spectral
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.nets import sample
from tests.rules.support import CE


class Counting(nn.Module):
    """Notes in buffers and attributes, in place and otherwise, what it saw; what enters its output is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(12))
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.last: Any = torch.zeros(12)
        self.history: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 0.1
        self.mean.data.mul_(0.9).add_(0.1 * x.detach().mean(0))
        self.last = x.detach().mean(0)
        self.history.append(0.0)
        return 1.5 * x


class OnlyWithGradients(nn.Module):
    """Does something else where gradients are off, as checkpoints and caches of some libraries do."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * x if torch.is_grad_enabled() else x


def net(*between: nn.Module, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> nn.Module:
    torch.manual_seed(1)
    first, second = wrap(nn.Linear(8, 12)), wrap(nn.Linear(12, 12))
    for layer in (first, second):
        nn.init.normal_(layer.bias, 0.5, 0.2)  # type: ignore[arg-type]
    return nn.Sequential(first, *between, LIF(), second, LIF(), nn.Linear(12, 4))


def far_off(layer: nn.Module) -> nn.Module:
    """A restricted layer whose vectors are far from those of its weight."""
    layer.parametrizations.weight.original.data.normal_(0, 0.5)  # type: ignore[union-attr, operator]
    return layer


def loop() -> nn.Module:
    torch.manual_seed(1)
    source = LIF(3.0)
    back = Feedback(far_off(restrict_spectral(nn.Linear(12, 12), 2.0)), source)
    return nn.Sequential(nn.Linear(8, 12), back, LIF(), nn.Linear(12, 12), source, nn.Linear(12, 4))


OURS: dict[str, Callable[[], nn.Module]] = {
    "spectral": lambda: net(wrap=lambda layer: far_off(restrict_spectral(layer, 3.0))),
    "frobenius": lambda: net(wrap=lambda layer: restrict_frobenius(layer, 2.0)),
    "probes": lambda: net(wrap=lambda layer: restrict_frobenius(layer, 2.0, probes=4)),
    "feedback": loop,
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "spectral norm": lambda: net(wrap=spectral_norm),
    "spectral norm by a hook": lambda: net(wrap=by_hook),
    "weight norm": lambda: net(wrap=weight_norm),
    "batch norm": lambda: net(nn.BatchNorm1d(12)),
    "batch norm with plain means": lambda: net(nn.BatchNorm1d(12, momentum=None)),
    "counting": lambda: net(Counting()),
    "gradients": lambda: net(OnlyWithGradients()),
}
NETS = OURS | OTHERS


def outcome(rule: Rule, module: nn.Module, steps: int = 6, sequences: int = 2) -> list[Tensor]:
    """Everything that some steps of training leave behind."""
    network, found = Network(module), []
    x, y = sample("mlp", 0, steps)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    torch.manual_seed(3)
    for _ in range(sequences):
        optimizer.zero_grad()
        for update in rule.updates(network, x, y, CE):
            found += [update.loss, update.output, *(v for values in update.state.values() for v in values.values())]
        found += [p.grad.clone() for p in module.parameters() if p.grad is not None]
        optimizer.step()
    found += [*module.parameters(), *module.buffers(), torch.rand(3)]
    found += [m.last for m in module.modules() if isinstance(m, Counting)]
    found += [torch.tensor(len(m.history)) for m in module.modules() if isinstance(m, Counting)]
    assert any(t.any() for t in found)
    return [t.detach().clone() for t in found]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk", [1, 2, 4, None])
def test_running_pieces_again_changes_no_bit(name: str, chunk: int | None) -> None:
    kept = outcome(BPTT(chunk=chunk or 3), NETS[name]())  # the root of 6 steps, rounded up
    again = outcome(BPTT(chunk=chunk, checkpoint=True), NETS[name]())
    assert same(kept, again)


@pytest.mark.parametrize("name", ["spectral norm", "counting"])
def test_these_networks_would_show_it(name: str) -> None:
    """Another number of pieces changes what comes out."""
    assert not same(outcome(BPTT(chunk=1), NETS[name]()), outcome(BPTT(chunk=2), NETS[name]()))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("rule", [BPTT, SLTT, OTTT])
def test_the_number_of_chunks_does_not_matter_to_our_restrictions(name: str, rule: Callable[..., Rule]) -> None:
    """Far from convergence too: after an update the vectors move once."""
    found = [outcome(rule(chunk=chunk), NETS[name](), sequences=4) for chunk in (None, 1, 4)]
    buffers = [p for p in NETS[name]().buffers()]
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-11)
    assert buffers or name == "frobenius"


@pytest.mark.parametrize("name", ["spectral", "probes"])
def test_an_update_is_followed_whatever_the_optimizer_writes_to(name: str) -> None:
    module = NETS[name]()
    layer: Any = module[0]  # type: ignore[index]
    weight = layer.parametrizations.weight.original
    seen = []
    for update in (lambda: None, lambda: weight.data.mul_(-2), lambda: setattr(weight, "data", weight.data + 0.1)):
        update()
        before = [b.clone() for b in layer.buffers()]
        Network(module).run(sample("mlp", 0)[0])
        once = [b.clone() for b in layer.buffers()]
        Network(module).run(sample("mlp", 0)[0])
        assert same([*layer.buffers()], once)
        seen.append(same(before, once))
    assert seen == [name == "probes", False, False]


def test_a_copy_goes_on_to_the_last_bit() -> None:
    """A run that is taken up from a checkpoint does what the one that was not interrupted does."""
    module, fresh = OURS["spectral"](), OURS["spectral"]()
    outcome(BPTT(chunk=2), module)
    fresh.load_state_dict(deepcopy(module.state_dict()))
    assert same(outcome(BPTT(chunk=2), fresh), outcome(BPTT(chunk=2), module))


@pytest.mark.parametrize("name", ["spectral", "spectral norm", "weight norm"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_cache_of_weights_around_it_all_changes_nothing(name: str, checkpoint: bool) -> None:
    rule = BPTT(chunk=2, checkpoint=checkpoint)
    expected = outcome(rule, NETS[name](), sequences=1)
    with parametrize.cached():
        found = outcome(rule, NETS[name](), sequences=1)
        assert parametrize._cache_enabled == 1
    assert same(found, expected)


def test_what_fails_in_the_second_pass_leaves_the_end_of_the_first() -> None:
    module = OTHERS["counting"]()
    x, y = sample("mlp", 0)
    alone = deepcopy(module)
    outcome(BPTT(chunk=2), alone, sequences=1)

    class Stop(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    module[0].weight.register_hook(stop)  # type: ignore[index, union-attr]
    with pytest.raises(Stop):
        list(BPTT(chunk=2, checkpoint=True).updates(Network(module), x, y, CE))
    assert same([*module.buffers()], [*alone.buffers()])
