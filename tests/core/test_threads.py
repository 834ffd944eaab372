"""Threads that run the same network, or networks that share modules, get what each would get alone."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from spikewright._util.uncompiled import uncompiled
from spikewright.errors import NetworkError
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, OPZO, OTTT, Rule
from tests.core.running import half_way, patched, sample, together, with_door
from tests.core.support import Lambda, two_layers


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def gradients(rule: Rule, net: Network, x: Tensor, y: Tensor) -> list[Tensor]:
    net.zero_grad()
    loss = OnRate(F.cross_entropy) if isinstance(rule, DSR) else PerStep(F.cross_entropy)
    torch.manual_seed(0)
    for _ in rule.updates(net, x, y, loss):
        pass
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(p, q) for p, q in zip(a, b))


def test_a_pool_of_threads_infers() -> None:
    net, xs = Network(two_layers()).eval(), [sample()[0] for _ in range(5)]
    with torch.no_grad():
        expected = [net(x) for x in xs]

    def infer(i: int) -> bool:
        with torch.no_grad():
            return torch.equal(net(xs[i % 5]), expected[i % 5])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(infer, range(100)))
    assert len({tuple(e.flatten().tolist()) for e in expected}) == 5 and patched(net.module) == []


@pytest.mark.parametrize("rule", [BPTT, OTTT, DSR], ids=lambda r: r.__name__)
def test_training_beside_inference(rule: type[Rule]) -> None:
    net, (x, y), other = Network(two_layers()), sample(), sample(4, 3)[0]
    expected = gradients(rule(), net, x, y)
    with torch.no_grad():
        output = net(other)
    done = threading.Event()

    def train() -> None:
        try:
            for _ in range(8):
                assert equal(gradients(rule(), net, x, y), expected)
        finally:
            done.set()

    def infer() -> None:
        while not done.is_set():
            with torch.no_grad():
                assert torch.equal(net(other), output)

    together(train, infer, infer)
    assert patched(net.module) == []


def test_two_threads_probe_one_network() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), LIF(), nn.Dropout(0.5), nn.Linear(16, 4))
    x = torch.rand(2, 3, 8)
    for _ in range(10):
        net, modes = Network(module), [m.training for m in module.modules()]
        buffers = [b.clone() for b in module.buffers()]
        found: list[object] = []
        together(*[lambda: found.append(net.wiring(x))] * 4)  # noqa: B023
        assert all(wiring is found[0] for wiring in found)
        assert [m.training for m in module.modules()] == modes and equal(buffers, list(module.buffers()))


def test_a_run_never_sees_the_modes_of_a_probe() -> None:
    net, x = Network(nn.Sequential(nn.Linear(8, 16), LIF(), nn.Dropout(0.5), nn.Linear(16, 4))), sample()[0]
    net.run(x)

    seen: list[tuple[int, bool]] = []
    net.module.get_submodule("2").register_forward_hook(
        lambda m, args, y: seen.append((threading.get_ident(), m.training))
    )

    def run() -> None:
        for _ in range(30):
            net.run(x)
        assert all(training for thread, training in seen if thread == threading.get_ident())

    def probe() -> None:
        for _ in range(30):
            Network(net.module).wiring(x)

    together(run, probe)


def test_two_networks_around_one_module() -> None:
    module, (x, y) = two_layers(), sample()
    first, second, expected = Network(module), Network(module), gradients(OTTT(), Network(module), x, y)
    with torch.no_grad():
        output = first(x)

    def infer() -> None:
        for _ in range(20):
            with torch.no_grad():
                assert torch.equal(second(x), output)

    def train() -> None:
        for _ in range(10):
            assert equal(gradients(OTTT(), first, x, y), expected)

    together(infer, train)


def test_networks_that_share_a_layer_and_neurons() -> None:
    body, x = nn.Sequential(nn.Linear(8, 16), LIF()).double(), sample()[0]
    nets = [Network(nn.Sequential(body, nn.Linear(16, 3).double())) for _ in range(3)]
    with torch.no_grad():
        expected = [net(x) for net in nets]

    def infer(i: int) -> None:
        for _ in range(40):
            with torch.no_grad():
                assert torch.equal(nets[i](x), expected[i])

    together(*(lambda i=i: infer(i) for i in range(3)))


def test_different_networks_run_side_by_side() -> None:
    one, other, (x, _) = Network(with_door()), Network(with_door()), sample()
    with half_way(one, x):
        together(lambda: other.run(x))  # would hang if it waited


def test_a_network_that_is_busy_is_waited_for_in_order() -> None:
    net, (x, _) = Network(with_door()), sample()
    order: list[str] = []
    with half_way(net, x, lambda: (net.run(x), order.append("first"))):
        later = threading.Thread(target=lambda: (net.run(x), order.append("second")))
        later.start()
        later.join(0.05)
        assert order == []
    later.join(20)
    assert order == ["first", "second"]


def test_a_plain_module_stays_plain_for_other_threads() -> None:
    net, (x, _) = Network(with_door()), sample()
    layer = net.module.get_submodule("3")
    weight, y = torch.rand(3, 16), []
    seen: list[str] = []
    run = net.start(x)

    class Watch:
        def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None: ...
        def synapse(self, site: str, *rest: object, **more: object) -> None:
            seen.append(site)

    with half_way(net, x, lambda: net.run(x, observers=(Watch(),))):
        y.append(layer(weight))
    assert torch.equal(y[0], layer(weight)) and seen == ["0", "3", "5"] and run.state == {}


def test_parametrized_weights_of_other_threads_are_not_seen() -> None:
    module = with_door().double()
    spectral_norm(module[3])
    net, (x, y) = Network(module).eval(), sample()
    expected = gradients(BPTT(), net, x, y)
    with torch.no_grad():  # the weights of this thread have no graph
        with half_way(net, x, lambda: torch.no_grad()(net.run)(x)):
            pass
    other = nn.Sequential(weight_norm(nn.Linear(8, 16)), LIF(), nn.Linear(16, 4)).double()
    third, step = Network(other), 0.1

    def learn() -> None:
        for _ in range(5):
            before = gradients(BPTT(), third, x, y)
            with torch.no_grad():
                for p, g in zip(other.parameters(), before):
                    p -= step * g
            assert not equal(before, gradients(BPTT(), third, x, y)), "the weight is that from before the update"

    with half_way(net, x, lambda: torch.no_grad()(net.run)(x)):  # whose cache is in use all the while
        together(learn)
    assert equal(gradients(BPTT(), net, x, y), expected)
    assert not parametrize._cache


@pytest.mark.parametrize("rule", [BPTT, OTTT, DSR], ids=lambda r: r.__name__)
def test_parametrized_weights_are_computed_once_for_a_chunk(rule: type[Rule]) -> None:
    class Count(nn.Module):
        calls = 0

        def forward(self, w: Tensor) -> Tensor:
            Count.calls += 1
            return w + 0.0

    shared = nn.Linear(8, 8)
    parametrize.register_parametrization(shared, "weight", Count())
    module = Lambda(
        lambda s, x: s.out(s.two(s.a(s.one(s.a(x))))), a=shared, one=LIF(), two=LIF(), out=nn.Linear(8, 4)
    ).double()
    net, (x, y) = Network(module), sample()
    net.wiring(x)
    Count.calls = 0
    assert gradients(rule(), net, x, y)
    chunks = {BPTT: 1, OTTT: 5, DSR: 2}[rule]  # those of DSR are a simulation and an evaluation at rates
    assert 1 <= Count.calls <= chunks


def test_noise_beside_spikes_on_two_threads() -> None:
    def learn() -> None:
        torch.manual_seed(1)
        net, (x, y) = Network(two_layers()), sample()
        for _ in range(3):
            assert gradients(OPZO(position="post"), net, x, y)

    together(learn, learn)


def test_autocast_caches_again_after_a_run_that_failed() -> None:
    def fail(x: Tensor) -> Tensor:
        if len(x) > 2:
            raise KeyError
        return x

    net, (x, _) = Network(nn.Sequential(nn.Linear(8, 4), LIF(), Lambda(lambda s, x: fail(x)))), sample()
    assert torch.is_autocast_cache_enabled()
    with pytest.raises(KeyError):
        net.run(x)
    assert torch.is_autocast_cache_enabled()


def test_threads_that_would_wait_for_each_other_are_told() -> None:
    barrier = threading.Barrier(2)
    outer: list[Network] = []
    asking: set[int] = set()

    class Ask(nn.Module):
        """Runs another network while its own is running."""

        def __init__(self, other: int) -> None:
            super().__init__()
            self.other = other

        def forward(self, x: Tensor) -> Tensor:
            if self.other in asking:
                barrier.wait(20)
                asking.discard(self.other)
                outer[self.other].run(torch.rand(2, 3, 8))
            return x

    asks = [Ask(1), Ask(0)]
    outer += [Network(nn.Sequential(a, nn.Linear(8, 8), LIF(), nn.Linear(8, 2)).double()) for a in asks]
    x = torch.rand(2, 3, 8)
    told: list[str] = []

    def run(i: int) -> None:
        try:
            outer[i].run(x)
        except NetworkError as error:
            told.append(str(error))

    for net in outer:
        net.wiring(x)
    for ask in asks:
        asking.add(ask.other)
    together(lambda: run(0), lambda: run(1))
    assert len(told) == 1 and "waits" in told[0] and "Sequential" in told[0]
    assert patched(outer[0].module) == patched(outer[1].module) == []


def test_compiled_blocks_are_compiled_again_when_the_last_thread_is_done() -> None:
    """The stance of the compiler is one for the process, and threads do not leave in the order in which they came."""
    stance = torch._dynamo.eval_frame
    before, inside, first_out = stance._stance, threading.Barrier(2), threading.Event()

    def first() -> None:
        with uncompiled():
            inside.wait(20)
        first_out.set()

    def second() -> None:
        with uncompiled():
            inside.wait(20)
            assert first_out.wait(20)
            assert stance._stance.stance == "force_eager"

    together(first, second)
    assert stance._stance == before
