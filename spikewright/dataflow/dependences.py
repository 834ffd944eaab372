"""The sources that a tensor depends on, and the places that make it not linear in them."""

from collections.abc import Mapping
from dataclasses import dataclass

RANDOM = "random"
"""Name of the source of random numbers."""


@dataclass(frozen=True)
class Bend:
    """Where something stops being linear with constant coefficients.

    Attributes:
        op: Name of the operation.
        module: Name of the innermost module that was running; "" outside of all.
    """

    op: str
    module: str


Dependences = Mapping[str, frozenset[Bend]]
"""Sources by name, each with the places that make a value not linear in it; without places it is linear."""


def union(first: Dependences, *others: Dependences) -> Dependences:
    """Return the union of dependences."""
    for other in others:
        if not first or first is other:
            first = other
        elif other:
            first = {**first, **{name: first.get(name, frozenset()) | bends for name, bends in other.items()}}
    return first


def bent(dependences: Dependences, bend: Bend) -> Dependences:
    """Return the same dependences, all of them not linear because of a place."""
    return {name: bends | {bend} for name, bends in dependences.items()}
