"""What a weight is computed from."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def leaves(weight: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that a weight is computed from, as far as they learn; itself, if nothing computes it."""
    if weight.grad_fn is None:
        if weight.requires_grad:
            yield weight
        return
    todo: list[Any] = [weight.grad_fn]
    seen: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            yield variable
        todo.extend(parent for parent, _ in node.next_functions)
