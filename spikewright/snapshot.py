"""What modules hold and where random numbers stand, to be put back after something was tried."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

PutBack = Callable[[], object]


def random_state() -> PutBack:
    """Return what puts the generators of torch (all devices in use), numpy and `random` back to where they are now."""
    numpy, python, cpu = np.random.get_state(), random.getstate(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def put_back() -> None:
        np.random.set_state(numpy)
        random.setstate(python)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    return put_back


class Snapshot:
    """Everything that modules hold, as it is now: tensors with their values, attributes, containers, generators.

    Attributes are followed through modules, lists, dictionaries, sets, queues, tuples and dataclasses, but not into
    other objects.

    Args:
        modules: With all their submodules.
        parameters: Take the values of parameters too; otherwise only what a forward pass may change.
    """

    def __init__(self, *modules: nn.Module, parameters: bool = True) -> None:
        self.tensors: list[_Tensor] = []
        self._others: list[PutBack] = []
        seen: dict[int, object] = {}  # which also keeps them alive, so that no id is taken again
        todo: list[object] = list(modules)
        while todo:
            value = todo.pop()
            if id(value) in seen:
                continue
            seen[id(value)] = value
            if isinstance(value, Tensor):
                if (parameters or not isinstance(value, nn.Parameter)) and not (value.is_meta or is_lazy(value)):
                    self.tensors.append(_Tensor(value))
            elif (put_back := _state_of(value)) is not None:
                self._others.append(put_back)
                todo.extend(_inside(value))
            elif isinstance(value, tuple):
                todo.extend(value)

    def forget_unchanged(self) -> "Snapshot":
        """Let go of the values of tensors that are now as they were; returns the snapshot."""
        self.tensors = [t for t in self.tensors if t.changed]
        return self

    def put_back(self) -> None:
        """Write everything back: tensors in place, and only what is no longer as it was."""
        for put_back in self._others:
            put_back()
        for tensor in self.tensors:
            tensor.put_back()

    def version_counters(self) -> ExitStack:
        """Return a context after which graphs take the tensors for unchanged, which they are when all is put back."""
        stack = ExitStack()
        for tensor in self.tensors:
            if not tensor.tensor.is_inference():
                stack.enter_context(_unsafe_preserve_version_counter(tensor.tensor))
        return stack


class _Tensor:
    """One tensor: its value, its place in memory, and what autograd knows of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self._memory = tensor, tensor.data
        self._value = _once(self._memory).clone()
        self._requires_grad, self._is_leaf = tensor.requires_grad, tensor.is_leaf
        self._grad = tensor.grad if tensor.is_leaf else None

    @property
    def changed(self) -> bool:
        """Whether it has other bits than then, or other memory."""
        return self._moved or not torch.equal(_bits(_once(self._memory)), _bits(self._value))

    @property
    def _moved(self) -> bool:
        now, then = self.tensor.data, self._memory
        same = now.dtype == then.dtype and now.device == then.device and now.shape == then.shape
        return not same or now.layout != then.layout or (now.layout == torch.strided and not _same_memory(now, then))

    def without_grad(self) -> None:
        if self._is_leaf:
            self.tensor.grad = None

    def put_back(self) -> None:
        if self._is_leaf and self.tensor.grad_fn is not None:
            self.tensor.detach_()
        if self._moved:
            self.tensor.data = self._memory
        if self.changed:  # in memory that does not count as that of the tensor, so that no graph takes offence
            _once(self._memory).copy_(self._value)
        if self._is_leaf:
            self.tensor.requires_grad_(self._requires_grad)
            self.tensor.grad = self._grad


def _state_of(value: object) -> PutBack | None:
    """Return what puts an object back that is neither a tensor nor a tuple; `None` for one that is not followed."""
    if isinstance(value, LazyModuleMixin):  # may become another module when it sees an input, and then stays so
        return None
    if isinstance(value, dict):
        entries = dict(value)
        return lambda: _refill(value, entries)
    if isinstance(value, list | deque):
        items = list(value)
        return lambda: None if _identical(value, items) else (value.clear(), value.extend(items))
    if isinstance(value, set):
        members = set(value)
        return lambda: None if value == members else (value.clear(), value.update(members))
    if isinstance(value, torch.Generator):
        at = value.get_state()
        return lambda: value.set_state(at)
    if isinstance(value, np.random.Generator):
        bits, state = value.bit_generator, value.bit_generator.state
        return lambda: setattr(bits, "state", state)
    if isinstance(value, np.random.RandomState):
        numpy = value.get_state()
        return lambda: value.set_state(numpy)
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    fields = is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__")
    if fields or isinstance(value, nn.Module | SimpleNamespace):
        attributes = dict(vars(value))
        return lambda: _refill(vars(value), attributes)
    return None


def _inside(value: Any) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | deque | set):
        yield from value
    elif hasattr(value, "__dict__"):
        yield from vars(value).values()


def _refill(entries: dict[Any, Any], before: dict[Any, Any]) -> None:
    if not (_identical(list(entries), list(before)) and _identical(list(entries.values()), list(before.values()))):
        entries.clear()
        entries.update(before)


def _identical(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other))


def _bits(x: Tensor) -> Tensor:
    """Return numbers that differ wherever the bits do: also for NaN and for the two zeros."""
    if x.layout != torch.strided or x.is_quantized or x.dtype == torch.bool:
        return x
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize])


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


def _once(x: Tensor) -> Tensor:
    """Return what can be written to: one entry of those that are repeated without a copy."""
    if x.layout != torch.strided:
        return x
    return x[tuple(slice(1) if stride == 0 else slice(None) for stride in x.stride())]
