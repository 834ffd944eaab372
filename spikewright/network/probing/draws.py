"""Random numbers in a probe: the same for a sample, whatever the samples beside it draw."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spikewright.dataflow.schemas import operator
from spikewright.network.probing.inputs import FIRST, Rows, same_sample

_FILLS = frozenset("bernoulli cauchy exponential geometric log_normal normal random uniform".split())
"""Operations that, in place, do not read what they write to."""


class Draws(TorchDispatchMode):
    """While active, records the draws of operations, or gives a sample its draws of an earlier pass.

    An operation may draw once for every entry of some kind (`nn.RReLU`, `torch.poisson`), so that the draws of a sample
    depend on the entries before it.  A sample gets its earlier draws only if the inputs of the operation are the same.

    Args:
        earlier: Mode that recorded the earlier pass.
        rows: Samples of the pass.

    Attributes:
        kept: For every operation that drew: its first input, its results, and the state of the generator after it.
    """

    def __init__(self, earlier: "Draws | None" = None, rows: Rows = FIRST) -> None:
        super().__init__()
        self.kept: list[tuple[Tensor | None, list[Tensor], Tensor]] = []
        self._earlier, self._rows = earlier, rows

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = operator(func)
        given_by_name = dict(zip(op.arguments, args), **kwargs)
        if not op.draws(given_by_name):
            return func(*args, **kwargs)
        read = [x for name, x in given_by_name.items() if not (op.name in _FILLS and name in op.written)]
        given = next((x.clone() for x in tree_leaves(read) if isinstance(x, Tensor)), None)
        result = func(*args, **kwargs)
        found = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.kept.append((given, [x.clone() for x in found], torch.default_generator.get_state()))
        if self._earlier is not None and len(self.kept) <= len(self._earlier.kept):
            self._show(given, found, *self._earlier.kept[len(self.kept) - 1])
        return result

    def _show(
        self, given: Tensor | None, found: list[Tensor], given_then: Tensor | None, then: list[Tensor], state: Tensor
    ) -> None:
        torch.default_generator.set_state(state)
        if (given is None) != (given_then is None):
            return
        if given is not None and given_then is not None:
            if not all(_agree(a, b) for a, b in same_sample(given_then, given, self._rows)):
                return
        for drawn, now in (pair for a, b in zip(then, found) for pair in same_sample(a, b, self._rows)):
            if now.shape == drawn.shape:
                now.copy_(drawn)


def _agree(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape and one.dtype == other.dtype
    return same and torch.allclose(one.double(), other.double(), rtol=1e-9, atol=1e-12, equal_nan=True)
