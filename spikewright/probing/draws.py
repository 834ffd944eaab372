"""Random numbers in a probe: the same ones for a sample, however many the samples beside it ask for."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spikewright.dataflow.schemas import operator
from spikewright.probing.inputs import ROWS, middle


class Draws(TorchDispatchMode):
    """While active, keeps what operations draw, or shows the second sample what was drawn for it in an earlier pass.

    An operation may draw once for every entry of some kind (`nn.RReLU`, `torch.poisson`), so that what a sample is
    given depends on how many such entries come before.  It is shown the numbers of the earlier pass only if it is given
    the same as then.

    Args:
        earlier: The mode that kept the draws of the earlier pass.

    Attributes:
        kept: By operation that drew: what it was given first, what it returned, and where the generator was then.
    """

    def __init__(self, earlier: "Draws | None" = None) -> None:
        super().__init__()
        self.kept: list[tuple[Tensor | None, list[Tensor], Tensor]] = []
        self._earlier = earlier

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = operator(func)
        given_by_name = dict(zip(op.arguments, args), **kwargs)
        if not op.draws(given_by_name) or given_by_name.get("generator") is not None:
            return func(*args, **kwargs)
        given = next((x.clone() for x in tree_leaves(args) if isinstance(x, Tensor)), None)
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
        if given is None or given_then is None or not _agree(given, given_then):
            return
        for now, drawn in zip(found, then):
            if now.shape == drawn.shape and _has_rows(now):
                middle(now).copy_(middle(drawn))


def _has_rows(x: Tensor) -> bool:
    return x.dim() > 0 and len(x) % ROWS == 0


def _agree(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape and one.dtype == other.dtype and _has_rows(one)
    return same and torch.allclose(middle(one).double(), middle(other).double(), rtol=1e-9, atol=1e-12, equal_nan=True)
