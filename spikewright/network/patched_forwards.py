"""Replace the forwards of modules during a run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.network.holding import HERE, Turn, exclusively
from spikewright.synapses.interception import Interceptions

T = TypeVar("T")
Forward = Callable[..., Any]
Replacements = Sequence[tuple[nn.Module, Forward]]
"""Pairs of a module and what is called in place of its forward."""


def chained(replacements: Iterable[tuple[nn.Module, Forward]]) -> list[tuple[nn.Module, Forward]]:
    """Return one replacement of each module, called with the forward that it replaces as its first argument.

    A module that comes twice is replaced twice: the source of a feedback connection may be a neuron or a layer.
    """
    found: dict[int, tuple[nn.Module, Forward]] = {}
    for module, replacement in replacements:
        forward = found[id(module)][1] if id(module) in found else module.forward
        found[id(module)] = module, partial(replacement, forward)
    return list(found.values())


class Weights:
    """Computes every parametrized weight once per run.

    torch has one cache for the whole process, in which a thread would see the weights of another, computed without a
    graph or before an update.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, bool], Tensor] = {}

    def replacements(self, lists: Iterable[nn.Module]) -> Replacements:
        """Return the replacement of every list of parametrizations."""
        return [(each, partial(self._once, id(each), each.forward)) for each in lists]

    def clear(self) -> None:
        """Forget the computed weights."""
        self._found.clear()

    def _once(self, which: int, forward: Callable[[], Tensor]) -> Tensor:
        key = which, torch.is_grad_enabled()
        if key not in self._found:
            self._found[key] = forward()
        return self._found[key]


class PatchedForward:
    """Replaces the forward of a module, for one run and in its thread.

    In other threads, and after the run, it calls the original forward.  Copies and pickles of the module are made
    without it.

    Args:
        module: The module.
        replacement: Called in place of its forward.
        interceptions: Those of the run.
        everywhere: True replaces it in all threads: the backward pass of a GPU has its own.
    """

    __slots__ = ("_before", "_forward", "_interceptions", "_replacement", "_thread", "module")

    def __init__(
        self, module: nn.Module, replacement: Forward, interceptions: Interceptions, everywhere: bool = False
    ) -> None:
        self.module, self._interceptions = module, interceptions
        self._replacement: Forward | None = replacement
        self._thread = None if everywhere else HERE.thread
        self._forward: Forward = module.forward
        own = module.__dict__
        self._before = own.get("forward", _NOTHING), own.get("__getstate__", _NOTHING)

    def begin(self) -> None:
        """Put it in place."""
        own = self.module.__dict__
        own["__getstate__"] = self.state
        own["forward"] = self

    def end(self) -> None:
        """Put the original forward back, unless other code has replaced this one meanwhile."""
        self._remove(self.module.__dict__)
        self._replacement = None

    def state(self) -> Any:
        """Return the state of the module for a copy, without this replacement."""
        state = type(self.module).__getstate__(self.module)
        if isinstance(state, dict):
            state = state.copy()
            self._remove(state)
        return state

    def _remove(self, attributes: dict[str, Any]) -> None:
        forward, state = self._before
        if attributes.get("forward") is self:
            _put(attributes, "forward", forward)
        if self.state == attributes.get("__getstate__"):
            _put(attributes, "__getstate__", state)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        replacement = self._replacement
        if replacement is None or (self._thread is not None and HERE.thread is not self._thread):
            return self._forward(*args, **kwargs)
        if self._interceptions.innermost is None:
            return replacement(*args, **kwargs)
        return self._interceptions.call_apart(replacement, *args, **kwargs)

    # For modules that copy or pickle their attributes themselves:

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deepcopy(self._forward, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._forward,)


def unpatched(module: nn.Module) -> Forward:
    """Return the original forward of a module, whether or not a run replaces it."""
    forward: Forward = module.forward
    while isinstance(forward, PatchedForward):
        forward = forward._forward
    return forward


_NOTHING = object()


def _put(attributes: dict[str, Any], key: str, value: Any) -> None:
    if value is _NOTHING:
        attributes.pop(key, None)
    else:
        attributes[key] = value


def _itself(forward: Forward) -> Forward:
    return forward


def run_patched(
    root: nn.Module,
    modules: frozenset[int],
    replacements: Callable[[], Replacements],
    interceptions: Interceptions,
    body: Callable[[], T],
    everywhere: bool = False,
) -> T:
    """Call `body` with forwards of modules replaced, and return its result.

    Other threads that need one of the modules wait until it returns.  The original forwards are put back even after an
    error.

    Args:
        root: The network's module.
        modules: Identities of all its modules.
        replacements: Returns the replacements; called when no other thread uses the modules.
        interceptions: Those of the run.
        body: Function to call.
        everywhere: True replaces forwards in all threads, not just in this one.

    Raises:
        NetworkError: This thread is inside a run that already replaces the forward of one of the modules.
    """
    if torch.compiler.is_compiling():  # the compiler traces the replacements and leaves modules alone
        with _replaced(replacements(), interceptions), _uncached_casts(), parametrize.cached():
            return body()

    def alone(turn: Turn) -> T:
        for module, replacement in replacements():
            patch = PatchedForward(module, replacement, interceptions, everywhere)
            turn.patches.append(patch)
            patch.begin()
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
def _replaced(replacements: Replacements, interceptions: Interceptions) -> Iterator[None]:
    """Replace the forwards of modules in a way that a compiler can follow."""
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module, replacement in replacements:
            before.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = partial(interceptions.call_apart, replacement)
        yield
    finally:
        for module, forward in reversed(before):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


@contextmanager
def _uncached_casts() -> Iterator[None]:
    """Turn off the cache of low-precision weights of autocast."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
