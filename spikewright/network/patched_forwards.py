"""Speaking for the modules of a network while their network runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.network.holding import HERE, Turn, exclusively

T = TypeVar("T")


class CallCounter:
    """Counts the calls of modules in one pass: a module that is called again is another site."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def site(self, name: str) -> str:
        """Return the site of the next call of a module: `name`, `name#2`, ..."""
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"

    def clear(self) -> None:
        """Start another pass."""
        self._calls.clear()


class Weights:
    """Computes every parametrized weight once, for one run.

    torch's own cache is one for the whole process: a thread would see the weights of another, made without a graph or
    before an update, and it is only emptied when no thread uses it.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, bool], Tensor] = {}

    def answers(self, lists: Iterable[nn.Module]) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        """Pair every list of parametrizations with what answers in its place."""
        for parametrizations in lists:
            yield parametrizations, partial(self._once, id(parametrizations), parametrizations.forward)

    def clear(self) -> None:
        """Compute them again from now on."""
        self._found.clear()

    def _once(self, which: int, forward: Callable[[], Tensor]) -> Tensor:
        key = which, torch.is_grad_enabled()
        if key not in self._found:
            self._found[key] = forward()
        return self._found[key]


class PatchedForward:
    """Stands in for the forward of a module, for one run and in its thread.

    For other threads, and when the run is over, it is the forward that was there before: whoever keeps it keeps that.
    While it is there, copies and pickles of the module are made without it.

    Args:
        module: The module.
        answer: What is called in place of its forward.
        everywhere: In all threads: the backward pass of a GPU has its own.
    """

    __slots__ = ("_answer", "_before", "_forward", "_thread", "module")

    def __init__(self, module: nn.Module, answer: Callable[..., Any], everywhere: bool = False) -> None:
        self.module = module
        self._answer: Callable[..., Any] | None = answer
        self._thread = None if everywhere else HERE.thread
        self._forward: Callable[..., Any] = module.forward
        own = module.__dict__
        self._before = own.get("forward", _NOTHING), own.get("__getstate__", _NOTHING)

    def begin(self) -> None:
        """Stand in."""
        own = self.module.__dict__
        own["__getstate__"] = self.state
        own["forward"] = self

    def end(self) -> None:
        """Put back what was there, except where somebody else has changed it meanwhile."""
        self._remove(self.module.__dict__)
        self._answer = None

    def state(self) -> Any:
        """Return what a copy of the module is made from, as it is without this."""
        state = type(self.module).__getstate__(self.module)
        if isinstance(state, dict):
            state, standing = state.copy(), self
            while isinstance(standing, PatchedForward):  # there are two at a module that feeds back
                standing._remove(state)
                standing = state.get("forward")
        return state

    def _remove(self, attributes: dict[str, Any]) -> None:
        forward, state = self._before
        if attributes.get("forward") is self:
            _put(attributes, "forward", forward)
        if self.state == attributes.get("__getstate__"):
            _put(attributes, "__getstate__", state)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._answer
        if answer is None or (self._thread is not None and HERE.thread is not self._thread):
            return self._forward(*args, **kwargs)
        return answer(*args, **kwargs)

    # For modules that copy or pickle their attributes in a way of their own:

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deepcopy(self._forward, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._forward,)


def unpatched(module: nn.Module) -> Callable[..., Any]:
    """Return the forward of a module as it is outside of runs, in whatever thread one is under way."""
    forward: Callable[..., Any] = module.forward
    while isinstance(forward, PatchedForward):
        forward = forward._forward
    return forward


_NOTHING = object()


def _put(attributes: dict[str, Any], key: str, value: Any) -> None:
    if value is _NOTHING:
        attributes.pop(key, None)
    else:
        attributes[key] = value


def _itself(forward: Callable[..., Any]) -> Callable[..., Any]:
    return forward


def run_patched(
    root: nn.Module,
    modules: frozenset[int],
    answers: Iterator[tuple[nn.Module, Callable[..., Any]]],
    body: Callable[[], T],
    everywhere: bool = False,
) -> T:
    """Return what `body` returns, while each answer stands in for the forward of its module.

    Other threads wait until it is over if they need one of the modules; what stood in is gone then, whatever happens.

    Args:
        root: The network's module.
        modules: Identities of all its modules.
        answers: Pairs of a module and what is called in place of its forward.
        body: What is to be run.
        everywhere: Answer in all threads, not just in this one.

    Raises:
        NetworkError: This thread is inside a run that already answers for one of the modules.
    """
    if torch.compiler.is_compiling():  # where nothing is replaced in earnest
        with _answering(answers), _uncached_casts(), parametrize.cached():
            return body()

    def alone(turn: Turn) -> T:
        for module, answer in answers:
            standing = PatchedForward(module, answer, everywhere)
            turn.patches.append(standing)
            standing.begin()
        return body()

    cached = torch.is_autocast_cache_enabled()
    try:
        # Autocast must not reuse a low-precision copy of a weight: one made in a step without a graph would cut the
        # weight's gradient in the next, and one made before an update would be stale after it.
        torch.set_autocast_cache_enabled(False)
        return exclusively(root, modules, alone)
    finally:
        torch.set_autocast_cache_enabled(cached)


@contextmanager
def _answering(answers: Iterator[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Let each answer stand in for the forward of its module, as a compiler can follow it."""
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module, answer in answers:
            before.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = answer
        yield
    finally:
        for module, forward in reversed(before):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


@contextmanager
def _uncached_casts() -> Iterator[None]:
    """Keep autocast from reusing a low-precision copy of a weight."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
