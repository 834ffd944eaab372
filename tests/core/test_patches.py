"""What stands in for a forward goes with its run, whatever happens, and nobody ever mistakes it for the forward."""

import copy
import ctypes
import functools
import gc
import io
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from spikewright.errors import NetworkError
from spikewright.layers import Feedback
from spikewright.losses import PerStep
from spikewright.network import Network, holding
from spikewright.network.run import Run
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT
from tests.core.running import WAIT, half_way, patched, sample, with_door
from tests.core.support import Lambda, lively


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert holding._QUEUE.turns == []


class Seen:
    """An observer, which makes a run answer for layers too."""

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None: ...
    def synapse(self, site: str, *rest: Any) -> None: ...


WATCHED = {"observers": (Seen(),)}


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_a_forward(error: type[BaseException]) -> None:
    def fail(s: Any, x: Tensor) -> Tensor:
        if s.fails:
            raise error
        return x

    last = Lambda(fail)
    last.fails = False  # type: ignore[assignment]
    net, (x, _) = Network(nn.Sequential(nn.Linear(8, 4), LIF(), last)), sample()
    net.wiring(x)
    last.fails = True  # type: ignore[assignment]
    with pytest.raises(error):
        net.run(x, **WATCHED)
    assert patched(net.module) == []
    last.fails = False  # type: ignore[assignment]
    net.run(x)


def test_an_error_while_forwards_are_replaced() -> None:
    net, (x, _) = Network(outer(nn.Linear(16, 16), LIF())), sample()
    run = net.start(x)
    first = run._replaced(False)[0]

    def broken() -> Iterator[Any]:
        yield first
        raise KeyError

    run._replaced = lambda static: broken()  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyError):
        run.advance(x)
    assert patched(net.module) == []


def interrupted(at: int, body: Callable[[], Any]) -> bool:
    """Raise KeyboardInterrupt at the `at`-th place at which Python looks for signals; whether there are so many."""
    left, files = (
        at,
        (
            holding.__file__,
            sys.modules["spikewright.network.patched_forwards"].__file__,
            sys.modules[Run.__module__].__file__,
        ),
    )

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal left
        if event in ("call", "c_return") and frame.f_code.co_filename in files:
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    kept = None
    sys.setprofile(profile)
    try:
        body()
    except KeyboardInterrupt as error:
        kept = error  # with its traceback, and so all the frames
    finally:
        sys.setprofile(None)
    return kept is not None and bool(kept.__traceback__)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Or what an interrupt left would be torn down, and interrupted, during the next."""
    gc.disable()
    yield
    gc.enable()


def test_an_interrupt_anywhere(no_collection: None) -> None:
    net, (x, _) = Network(nn.Sequential(nn.Linear(8, 4), LIF(), nn.Linear(4, 2))), sample(2)
    expected = net(x)
    at = 1
    while True:
        run = net.start(x, **WATCHED)
        came = interrupted(at, functools.partial(run.advance, x))
        assert patched(net.module) == [] and holding._QUEUE.turns == [] and torch.is_autocast_cache_enabled(), at
        if not came:
            break
        at += 1
    assert at > 60  # it did strike in the middle of things
    assert torch.equal(net(x), expected)


def test_an_exception_from_another_thread() -> None:
    class Stop(BaseException):
        pass

    net, (x, _) = Network(outer(nn.Linear(16, 16), LIF())), sample(20)
    net.wiring(x)
    stopped: list[bool] = []

    def run() -> None:
        try:
            while True:
                net.run(x, **WATCHED)
        except Stop:
            stopped.append(True)

    for i in range(30):
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.001 * (i % 7))
        assert (
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stop)) == 1
        )
        thread.join(WAIT)
        assert not thread.is_alive() and len(stopped) == i + 1
        assert patched(net.module) == [] and holding._QUEUE.turns == []


def test_updates_that_are_dropped() -> None:
    net, (x, y) = Network(outer(nn.Linear(16, 16), LIF())), sample()
    updates = OTTT(online=True).updates(net, x, y, PerStep(F.cross_entropy))
    next(updates)
    assert patched(net.module) == []
    del updates
    net(x)


def test_a_forward_of_the_user_is_put_back() -> None:
    net, (x, _) = Network(nn.Sequential(nn.Linear(8, 4), LIF(), nn.Linear(4, 2))), sample()
    plain, first = net(x), net.module.get_submodule("0")
    of_class = type(first).forward
    mine = functools.partial(lambda m, x: of_class(m, x) + 10, first)
    first.forward = mine  # as libraries do that hook into forwards
    changed = net.run(x, **WATCHED)[0]
    assert first.__dict__["forward"] is mine and not torch.equal(changed, plain)
    assert torch.equal(net.run(x)[0], changed)


@pytest.mark.parametrize("kept", [True, False], ids=["wrapped", "replaced"])
def test_a_forward_that_is_changed_during_a_run(kept: bool) -> None:
    """By a library that keeps what was there, calls it, and may put it back later."""
    net, (x, _) = Network(with_door()), sample()
    layer, expected, calls = net.module.get_submodule("3"), net(x), []
    with half_way(net, x, lambda: net.run(x, **WATCHED)):
        old = layer.forward

        def wrapper(*args: Tensor) -> Tensor:
            calls.append(1)
            return old(*args) if kept else type(layer).forward(layer, *args)  # type: ignore[arg-type]

        layer.forward = wrapper
    assert layer.__dict__["forward"] is wrapper and len(calls) == 1
    net.wiring(x)  # which is read anew
    read = len(calls)
    assert torch.equal(net.run(x, **WATCHED)[0], expected) and len(calls) == read + 1
    assert layer.__dict__["forward"] is wrapper
    layer.forward = old  # what was taken during the run is the plain forward from now on
    values = torch.rand(2, 16)
    assert torch.equal(layer(values), F.linear(values, layer.weight, layer.bias))
    assert torch.equal(net.run(x, **WATCHED)[0], expected)
    loaded = pickle.loads(pickle.dumps(layer))
    assert torch.equal(loaded(values), layer(values)) and torch.equal(copy.deepcopy(layer)(values), layer(values))
    del layer.forward
    assert patched(net.module) == []


def test_a_forward_that_was_taken_during_a_run_of_the_same_thread() -> None:
    net, (x, _) = Network(outer()), sample()
    layer, expected, taken = net.module.get_submodule("2"), net(x), []
    handle = net.module.get_submodule("0").register_forward_hook(lambda *a: taken.append(layer.forward))
    net.run(x, **WATCHED)
    handle.remove()
    values = torch.rand(2, 16)
    layer.forward = taken[-1]
    assert torch.equal(layer(values), F.linear(values, layer.weight, layer.bias))  # type: ignore[arg-type]
    assert torch.equal(net.run(x, **WATCHED)[0], expected) and layer.__dict__["forward"] is taken[-1]


def test_a_forward_that_is_deleted_during_a_run() -> None:
    net, (x, _) = Network(with_door()), sample()
    layer, expected = net.module.get_submodule("3"), net(x)
    layer.forward = functools.partial(type(layer).forward, layer)
    with half_way(net, x, lambda: net.run(x, **WATCHED)):
        del layer.forward
    assert patched(net.module) == [] and torch.equal(net(x), expected)


def pickled(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def saved(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


copies = pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickled, saved], ids=lambda f: f.__name__)


@copies
@pytest.mark.parametrize("whole", [True, False], ids=["network", "module"])
def test_a_copy_made_during_a_run(make: Callable[[Any], Any], whole: bool) -> None:
    net, (x, _) = Network(with_door()), sample()
    expected = net(x)
    with half_way(net, x, lambda: net.run(x, **WATCHED)):
        assert len(patched(net.module)) == 5
        copied = make(net if whole else net.module)
        layers = [make(m) for m in net.module]
        state = net.state_dict()
    module = copied.module if whole else copied
    assert patched(module) == [] and [n for m in layers for n in patched(m)] == []
    assert torch.equal((copied if whole else Network(copied))(x), expected)
    assert torch.equal(Network(nn.Sequential(*layers))(x), expected)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())


@copies
def test_a_copy_made_while_a_user_s_forward_is_answered_for(make: Callable[[Any], Any]) -> None:
    net, (x, _) = Network(with_door()), sample()
    layer = net.module.get_submodule("3")
    layer.forward = functools.partial(F.relu)
    with half_way(net, x, lambda: net.run(x, **WATCHED)):
        copied = make(layer)
    assert type(copied.__dict__["forward"]) is functools.partial and patched(layer) == [""]


def test_a_copy_of_modules_that_copy_themselves() -> None:
    net, (x, _) = Network(with_door()), sample()
    weight_norm(net.module.get_submodule("3"))
    expected = net(x)
    with half_way(net, x, lambda: net.run(x, **WATCHED)):
        copied = copy.deepcopy(net)
    for p in net.module.parameters():
        p.data.zero_()
    assert torch.equal(copied(x), expected)


def test_a_copy_of_a_source_of_feedback() -> None:
    """Where one answer stands in for another."""
    first = LIF()
    back = Feedback(nn.Linear(16, 16), first)
    parts = {"a": nn.Linear(8, 16), "back": back, "n": first, "door": with_door()[2], "b": nn.Linear(16, 4)}
    module = Lambda(lambda s, x: s.b(s.door(s.n(s.back(s.a(x))))), **parts)
    net, (x, _) = Network(module), sample()
    net.wiring(x)
    with half_way(net, x):
        assert patched(net.module)
        copied = [copy.deepcopy(first), pickled(first)]
    assert [n for m in copied for n in patched(m)] == patched(net.module) == []


# A run inside a run of the same thread.


def outer(*extra: nn.Module) -> nn.Sequential:
    return cast(nn.Sequential, lively(nn.Sequential(nn.Linear(8, 16), LIF(), *extra, nn.Linear(16, 4))))


REFUSED = "inside a run of .* on the same thread"


def test_a_network_in_a_network() -> None:
    inner = Network(nn.Sequential(nn.Linear(16, 16), LIF()))
    with pytest.raises(NetworkError, match=REFUSED):
        Network(outer(inner)).run(sample()[0])


@pytest.mark.parametrize("hook", ["pre", "post", "wiring", "rule"])
def test_a_network_run_in_a_hook(hook: str) -> None:
    net, (x, y) = Network(outer()), sample()
    expected = net(x)
    rule = OTTT().updates(net, x, y, PerStep(F.cross_entropy)) if hook == "rule" else iter(())
    ask: dict[str, Callable[..., Any]] = {
        "pre": lambda *a: (net(x), None)[1],
        "post": lambda *a: (net(x), None)[1],
        "wiring": lambda *a: (Network(net.module).wiring(x), None)[1],
        "rule": lambda *a: (next(rule), None)[1],
    }
    layer = net.module[0]  # type: ignore[index]
    handle = (layer.register_forward_pre_hook if hook == "pre" else layer.register_forward_hook)(ask[hook])
    with pytest.raises(NetworkError, match=REFUSED + r".*'1' \(LIF\).*copy.deepcopy"):
        net.run(x)
    handle.remove()
    assert patched(net.module) == [] and torch.equal(net(x), expected)


def test_a_network_that_shares_a_layer_the_outer_run_answers_for() -> None:
    shared = nn.Linear(16, 16)
    other = Network(nn.Sequential(nn.Linear(16, 16), LIF(), shared))
    ask = Lambda(lambda s, x: x + 0 * other(torch.rand(1, 2, 16)).sum())
    with pytest.raises(NetworkError, match=REFUSED + r".*'2' \(Linear\)"):
        Network(outer(shared, ask)).run(sample()[0])


def test_a_network_of_its_own_runs_in_a_forward() -> None:
    other, x = Network(outer()), torch.rand(3, 2, 8)
    seen: list[Tensor] = []
    net = Network(outer(Lambda(lambda s, h: (h, seen.append(other(x)))[0])))
    net.run(sample()[0])
    assert torch.equal(seen[-1], other(x))


def test_a_copy_runs_in_a_hook() -> None:
    net, (x, _) = Network(outer()), sample()
    expected, seen = net(x), []
    net.module[0].register_forward_hook(  # type: ignore[index]
        lambda m, a, y: seen.append(Network(copy.deepcopy(net.module)).release()) or None
    )
    assert torch.equal(net(x), expected) and patched(seen[0]) == []


def test_a_network_runs_in_a_hook_of_a_backward_pass() -> None:
    net, (x, y) = Network(outer()), sample()
    expected, seen = net(x), []
    net.module[2].register_full_backward_hook(lambda *a: seen.append(net(x)) if not seen else None)  # type: ignore[index]
    for _ in BPTT().updates(net, x, y, PerStep(F.cross_entropy)):
        pass
    assert torch.equal(seen[0], expected)


# A process forked while a thread runs.

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def child(body: Callable[[], bool]) -> bool:
    """Whether `body` is true in a forked process."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = 0 if body() else 2
        finally:
            os._exit(code)
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(process, 9)
    os.waitpid(process, 0)
    return False


@forks
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_forked_while_another_thread_runs() -> None:
    net, (x, _) = Network(with_door()), sample()
    expected = net(x)
    with half_way(net, x, lambda: net.run(x, **WATCHED)):
        assert child(lambda: patched(net.module) == [] and torch.equal(net(x), expected))
        assert len(patched(net.module)) == 5


@forks
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_forked_while_the_queue_is_locked() -> None:
    net, (x, _) = Network(outer()), sample()
    expected, locked, go = net(x), threading.Event(), threading.Event()

    def hold() -> None:
        with holding._QUEUE.lock:
            locked.set()
            go.wait(WAIT)

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(WAIT)
    try:
        assert child(lambda: torch.equal(net(x), expected))
    finally:
        go.set()
        thread.join()


@forks
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.long
def test_a_worker_forked_by_a_forward() -> None:
    net, (x, _) = Network(with_door()), sample()
    expected, codes = net(x), []

    def work() -> None:
        os._exit(0 if patched(net.module) == [] and torch.equal(net(x), expected) else 2)

    def fork(*args: Any) -> None:
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(WAIT)
        codes.append(process.exitcode)

    net.module.get_submodule("0").register_forward_hook(fork)
    assert torch.equal(net(x), expected) and codes == [0]


@forks
def test_a_run_goes_on_in_a_process_forked_by_its_forward() -> None:
    net, (x, _) = Network(outer()), sample()
    expected = net(x)
    forked: list[int] = []
    handle = net.module.get_submodule("0").register_forward_hook(lambda *a: forked.append(os.fork()))
    output = net(x)
    if forked[0] == 0:
        os._exit(0 if torch.equal(output, expected) and patched(net.module) == [] else 2)
    handle.remove()
    assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 0 and torch.equal(output, expected)
