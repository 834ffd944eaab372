"""What a first wiring leaves behind: nothing. And what it costs: three passes, once per mode."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT
from tests.core.support import CE
from tests.probing.mixing import of
from tests.probing.stateful import STATEFUL, STATELESS
from tests.probing.support import F, N, T, around, data, wired


class Writer(nn.Module):
    """Writes to all it has."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.list, self.nested = 0, [], {"deep": [1]}
        self.register_buffer("seen", torch.zeros(F))
        self.given = torch.ones(F)
        self.generator = torch.Generator().manual_seed(1)
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.list.append(x)
        self.nested["deep"].append(x.sum())
        self.nested["more"] = x
        self.seen += x.detach().mean(0)
        self.given = self.given + 1
        self.new, self.inner.new = x, x
        torch.rand(1, generator=self.generator)
        return x


def everything(module: nn.Module) -> dict[str, Any]:
    return {
        name: {k: v for k, v in vars(m).items() if k not in ("_parameters", "_modules", "_buffers")}
        for name, m in module.named_modules()
    }


def test_attributes_lists_and_buffers() -> None:
    module = around(Writer())
    writer = module[1]
    before, state = {k: dict(v) for k, v in everything(module).items()}, writer.generator.get_state()
    given, seen = writer.given.clone(), writer.seen.clone()
    wired(module)
    after = everything(module)
    assert {n: list(v) for n, v in after.items()} == {n: list(v) for n, v in before.items()}
    assert all(after[n][k] is before[n][k] for n in after for k in after[n] if not k.endswith("hooks"))
    assert writer.calls == 0 and writer.list == [] and writer.nested == {"deep": [1]}
    assert torch.equal(writer.given, given) and torch.equal(writer.seen, seen)
    assert torch.equal(writer.generator.get_state(), state)


@pytest.mark.parametrize("kind", ["OwnNeuron", "Float", "InList", "InDict", "Delayed", "Lazily", "Averages"])
def test_nor_of_a_network_that_is_refused(kind: str) -> None:
    module = around(STATEFUL[kind]())
    shown = repr(vars(module[1]))
    with pytest.raises(NetworkError):
        wired(module)
    assert repr(vars(module[1])) == shown
    assert not any("forward" in vars(m) for m in module.modules())


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [x for part in inner for x in tensors(part)]


def test_no_graph_stays() -> None:
    module = around(Writer())
    wired(module)
    held = [x for m in module.modules() for x in tensors(vars(m))]
    assert held and not any(x.grad_fn is not None for x in held)


def test_random_states_gradients_and_modes() -> None:
    module = around(of(lambda x: x + torch.randn_like(x) * np.random.rand() * random.random()))
    module[0].eval()
    module[2].weight.grad = torch.ones_like(module[2].weight)
    modes, grads = [m.training for m in module.modules()], [p.grad for p in module.parameters()]
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    wired(module)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1] and random.getstate() == before[2]
    assert [m.training for m in module.modules()] == modes
    assert all(p.grad is g for p, g in zip(module.parameters(), grads))
    assert (module[2].weight.grad == 1).all()
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_hooks_of_others_are_not_called_and_work_afterwards() -> None:
    module, called = around(nn.Tanh()), []
    handles = []
    for m in module.modules():
        handles += [
            m.register_forward_hook(lambda m, x, y: called.append("forward")),
            m.register_forward_pre_hook(lambda m, x: called.append("before")),
            m.register_forward_hook(lambda m, x, k, y: called.append("kwargs"), with_kwargs=True),
            m.register_full_backward_hook(lambda m, x, y: called.append("backward")),
            m.register_full_backward_pre_hook(lambda m, x: called.append("before backward")),
        ]
    for p in module.parameters():
        handles.append(p.register_hook(lambda g: called.append("gradient")))
    net = Network(module)
    net.wiring(data())
    assert called == []
    list(BPTT().updates(net, data(), torch.zeros(N, dtype=torch.long), CE))
    assert {"forward", "before", "kwargs", "backward", "gradient"} <= {*called}
    for handle in handles:
        handle.remove()
    called.clear()
    list(BPTT().updates(net, data(), torch.zeros(N, dtype=torch.long), CE))
    assert called == [] and not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


@pytest.mark.parametrize("name", [n for n in STATELESS if "norm" in n or n in ("pruned", "orthogonal")])
def test_hooks_that_compute_weights_run(name: str) -> None:
    module = around(STATELESS[name]())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert {"0", "1", "2", "4"} == wired(module).synapses.keys()
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_lazy_layers_get_their_sizes() -> None:
    module = nn.Sequential(nn.LazyLinear(F), nn.LazyBatchNorm1d(), LIF(), nn.LazyLinear(4))
    wired(module, data().float())
    assert module[0].weight.shape == (F, F) and type(module[1]) is nn.BatchNorm1d
    assert int(module[1].num_batches_tracked) == 0


class Tally:
    """Counts calls where no attribute of a module shows it."""

    def __init__(self) -> None:
        self.calls = 0

    def module(self) -> nn.Module:
        def forward(x: Tensor) -> Tensor:
            self.calls += 1
            return x.tanh()

        return around(of(forward))


@pytest.mark.parametrize("use", [lambda net: net.run(data()), lambda net: net.wiring(data())], ids=["run", "wiring"])
def test_three_passes_and_no_more(use: Callable[[Network], object]) -> None:
    tally = Tally()
    net, once = Network(tally.module()), 0
    use(net)
    first = tally.calls
    use(net)
    once = tally.calls - first
    assert first - once == 3 and once in (0, 1)


def test_once_per_mode_and_shape() -> None:
    tally = Tally()
    net = Network(tally.module())
    for mode, expected in ((True, 3), (False, 6), (True, 6), (False, 6)):
        net.train(mode).wiring(data())
        assert tally.calls == expected
    net.wiring(torch.rand(T + 1, N + 1, F, dtype=torch.float64))
    assert tally.calls == 6
    net.module[1].train()
    net.wiring(data())
    assert tally.calls == 9


def test_modes_of_parts_are_part_of_what_is_remembered() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(F, F), nn.BatchNorm1d(F), LIF(), nn.Linear(F, 4)).double()
    net = Network(module).train()
    assert not OTTT().exact("0.weight", net.wiring(data()), T)
    module[1].eval()
    assert OTTT().exact("0.weight", net.wiring(data()), T)
    module[1].train()
    assert not OTTT().exact("0.weight", net.wiring(data()), T)
