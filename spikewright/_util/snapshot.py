"""Snapshots of modules and random states, to be put back after a trial."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.jit._script import RecursiveScriptModule
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from spikewright._util.contents import PLAIN, classes, contents, of_class, scripted

PutBack = Callable[[], object]


def random_state() -> PutBack:
    """Return a function that puts the generators of torch, numpy and `random` back to their present state."""
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
    """The present contents of modules: tensors and arrays with their values, attributes, generators.

    Attributes, also those of classes, are followed as far as `contents` goes.

    Args:
        modules: Modules, with all their submodules.
        parameters: True includes the values of parameters; otherwise only contents that a forward pass may change.
    """

    def __init__(self, *modules: nn.Module, parameters: bool = True) -> None:
        self.tensors: list[_Tensor] = []
        self._others: list[PutBack] = []
        seen: dict[int, object] = {}  # keeps the values alive, so that no id is reused
        todo: list[object] = list(modules)
        while todo:
            value = todo.pop()
            if type(value) in PLAIN or id(value) in seen:
                continue
            seen[id(value)] = value
            if isinstance(value, LazyModuleMixin):  # may become another module at its first input, and stays so
                continue
            if isinstance(value, Tensor) and not (value.is_meta or is_lazy(value)):
                if parameters or not isinstance(value, nn.Parameter):
                    self.tensors.append(_Tensor(value))
            self._others.extend(_puts_back(value))
            todo.extend((contents(value) or {}).values())

    def add(self, tensor: Tensor) -> None:
        """Add a tensor with its present value."""
        self.tensors.append(_Tensor(tensor))

    def forget_unchanged(self) -> "Snapshot":
        """Drop the tensors that have not changed; return the snapshot."""
        self.tensors = [t for t in self.tensors if t.changed]
        return self

    def put_back(self) -> None:
        """Write back everything that has changed, tensors in place."""
        for put_back in self._others:
            put_back()
        for tensor in self.tensors:
            tensor.put_back()

    def version_counters(self) -> ExitStack:
        """Return a context that keeps version counters of the tensors, so that graphs take them for unchanged."""
        stack = ExitStack()
        for tensor in self.tensors:
            if not tensor.tensor.is_inference():
                stack.enter_context(_unsafe_preserve_version_counter(tensor.tensor))
        return stack


class _Tensor:
    """One tensor: its value, its memory, and its autograd attributes."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self._memory = tensor, tensor.data
        self._value = _once(self._memory).clone()
        self._requires_grad, self._is_leaf = tensor.requires_grad, tensor.is_leaf
        self._grad = tensor.grad if tensor.is_leaf else None

    @property
    def changed(self) -> bool:
        """True if its bits or its memory have changed."""
        return self._moved or not same_bits(_once(self._memory), self._value)

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
        if self.changed:  # through `data`, whose writes autograd does not count
            _once(self._memory).copy_(self._value)
        if self._is_leaf:
            self.tensor.requires_grad_(self._requires_grad)
            self.tensor.grad = self._grad


def _puts_back(value: Any) -> Iterator[PutBack]:
    """Yield functions that put an object back that is not a tensor; none for a constant one."""
    if isinstance(value, dict):
        held = dict(value)
        yield lambda: _refill(value, held)
    elif isinstance(value, list | deque):
        items = list(value)
        yield lambda: None if _identical(value, items) else (value.clear(), value.extend(items))
    elif isinstance(value, set):
        members = set(value)
        yield lambda: None if value == members else (value.clear(), value.update(members))
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        array = value.copy()
        yield lambda: np.copyto(value, array)
    elif isinstance(value, torch.Generator):
        at = value.get_state()
        yield lambda: value.set_state(at)
    elif isinstance(value, np.random.Generator):
        bits, state = value.bit_generator, value.bit_generator.state
        yield lambda: setattr(bits, "state", state)
    elif isinstance(value, np.random.RandomState):
        numpy = value.get_state()
        yield lambda: value.set_state(numpy)
    elif isinstance(value, random.Random):
        python = value.getstate()
        yield lambda: value.setstate(python)
    elif contents(value) is not None and hasattr(value, "__dict__"):
        attributes = dict(vars(value))
        yield lambda: _refill(vars(value), attributes)
    elif is_dataclass(value) and (entries := contents(value)) is not None:  # with slots
        yield lambda: [object.__setattr__(value, name, x) for name, x in entries.items()]
    if isinstance(value, RecursiveScriptModule):
        compiled = scripted(value)
        yield lambda: [value._c.setattr(name, x) for name, x in compiled.items()]
    if isinstance(value, nn.Module):
        shared = [(base, of_class(base)) for base in classes(type(value))]
        yield lambda: [_refill_class(base, before) for base, before in shared]


def _refill_class(kind: type, before: dict[str, Any]) -> None:
    for name in of_class(kind).keys() - before.keys():
        delattr(kind, name)
    for name, value in before.items():
        if kind.__dict__.get(name) is not value:
            setattr(kind, name, value)


def _refill(entries: dict[Any, Any], before: dict[Any, Any]) -> None:
    if not (_identical(list(entries), list(before)) and _identical(list(entries.values()), list(before.values()))):
        entries.clear()
        entries.update(before)


def _identical(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other))


def same_bits(one: Tensor, other: Tensor) -> bool:
    """True if two tensors of any layout have the same bits: NaN equals itself, and zeros have signs."""
    alike = one.shape == other.shape and one.dtype == other.dtype and one.layout == other.layout
    return alike and all(
        a.shape == b.shape and torch.equal(_bits(a), _bits(b)) for a, b in zip(_parts(one), _parts(other))
    )


def _parts(x: Tensor) -> list[Tensor]:
    """Return the strided tensors of which a tensor consists."""
    if x.layout == torch.sparse_coo:
        return [x._indices(), x._values()]
    if x.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [x.crow_indices(), x.col_indices(), x.values()]
    if x.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [x.ccol_indices(), x.row_indices(), x.values()]
    return [x] if x.layout == torch.strided else [x.to_dense()]


def _bits(x: Tensor) -> Tensor:
    """Return the bits as integers."""
    if x.is_quantized or x.dtype == torch.bool:
        return x
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize])


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


def _once(x: Tensor) -> Tensor:
    """Return a view with each repeated entry once, which can be written to."""
    if x.layout != torch.strided:
        return x
    return x[tuple(slice(1) if stride == 0 else slice(None) for stride in x.stride())]
