"""The tensors that another is computed from, read from its autograd graph."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def ancestors(starts: Iterable[Any]) -> Iterator[Any]:
    """Yield graph nodes and all nodes before them."""
    todo, seen = list(starts), set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(parent for parent, _ in node.next_functions)
            yield node


def leaves(weight: Tensor) -> Iterator[Tensor]:
    """Yield the trained tensors that a weight is computed from; the weight itself if it is a leaf."""
    if weight.grad_fn is None:
        if weight.requires_grad:
            yield weight
        return
    for node in ancestors([weight.grad_fn]):
        variable = getattr(node, "variable", None)
        if variable is not None:
            yield variable
