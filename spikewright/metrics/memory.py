"""Activation memory: the bytes that autograd keeps for the backward pass."""

from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Key = tuple[int, int, int]


class SavedBytes:
    """Context manager that counts the bytes that autograd saves for the backward pass.

    Parameters are not counted.  A tensor that several operations save counts once.  Memory is subtracted when its graph
    is freed, so `peak` is the most that was needed at one time.

    Attributes:
        alive: Bytes kept now.
        peak: Most bytes kept at one time since the context was entered.

    >>> from spikewright.metrics import SavedBytes
    >>> import torch
    >>> a = torch.ones(1000, requires_grad=True)
    >>> with SavedBytes() as saved:
    ...     loss = (a * 2).exp().sum()
    >>> saved.peak
    4000
    """

    def __init__(self) -> None:
        self.alive = 0
        self.peak = 0
        self._counts: Counter[Key] = Counter()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, where)

    def _pack(self, tensor: Tensor) -> "_Kept | Tensor":
        if isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter):
            return tensor
        return _Kept(self, tensor, [_key(part) for part in _parts(tensor)])

    def _unpack(self, kept: Any) -> Tensor:
        return kept.tensor if isinstance(kept, _Kept) else kept

    def _add(self, key: Key) -> None:
        self._counts[key] += 1
        if self._counts[key] == 1:
            self.alive += key[2]
            self.peak = max(self.peak, self.alive)

    def _drop(self, key: Key) -> None:
        self._counts[key] -= 1
        if self._counts[key] == 0:
            del self._counts[key]
            self.alive -= key[2]


class _Kept:
    """One saved tensor; counted until the graph that holds it is freed."""

    def __init__(self, meter: SavedBytes, tensor: Tensor, keys: list[Key]) -> None:
        # Detached: an operation that saves its own result would otherwise keep itself alive.
        self.meter, self.tensor, self.keys = meter, tensor.detach(), keys
        for key in keys:
            meter._add(key)

    def __del__(self) -> None:
        for key in self.keys:
            self.meter._drop(key)


def _key(part: Tensor) -> Key:
    return part.untyped_storage()._cdata, int(part.storage_offset()), part.numel() * part.itemsize


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that hold the entries: itself, or the parts of a sparse or nested tensor."""
    if tensor.layout == torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    elif is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    elif not tensor._is_zerotensor():
        yield tensor
