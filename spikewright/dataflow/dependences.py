"""What a tensor depends on, and why it is not linear in it."""

from collections.abc import Mapping
from dataclasses import dataclass

RANDOM = "random"
"""The source that random numbers depend on."""


@dataclass(frozen=True)
class Bend:
    """Where something stops being linear with constant coefficients.

    Attributes:
        op: Operation that it happens at.
        module: Innermost module that was running; "" outside of all.
    """

    op: str
    module: str


Dependences = Mapping[str, frozenset[Bend]]
"""Sources by name, and the places because of which something is not linear in them; none: it is."""


def union(first: Dependences, *others: Dependences) -> Dependences:
    """Return what depends on all that some things depend on."""
    for other in others:
        if not first or first is other:
            first = other
        elif other:
            first = {**first, **{name: first.get(name, frozenset()) | bends for name, bends in other.items()}}
    return first


def bent(dependences: Dependences, bend: Bend) -> Dependences:
    """Return the same dependences, none of them linear any more."""
    return {name: bends | {bend} for name, bends in dependences.items()}
