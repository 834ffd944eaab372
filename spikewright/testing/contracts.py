"""A contract, and the message when it is broken."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

Table = Mapping[str, Tensor]
"""Tensors by name, such as the gradients of a network."""


@dataclass(frozen=True)
class Contract:
    """A contract of one rule or neuron in one place.

    Attributes:
        name: Name of the contract.
        subject: The rule or neuron, as text.
        place: The network or the currents, as text.
    """

    name: str
    subject: str
    place: str

    def said(self, found: str) -> str:
        """Return the message of a broken contract."""
        return f"{self.subject} breaks the contract '{self.name}' on {self.place}: {found}"

    def broken(self, found: str) -> NoReturn:
        """Raise `AssertionError` with what was found."""
        raise AssertionError(self.said(found))

    def holds(self, condition: object, found: str) -> None:
        """Raise `AssertionError` unless a condition is true."""
        if not condition:
            self.broken(found)

    @contextmanager
    def no_failure(self, where: str) -> Iterator[None]:
        """Turn errors inside into an `AssertionError` that says where they were raised."""
        try:
            yield
        except Exception as error:
            raise AssertionError(self.said(f"{where} it fails by {type(error).__name__}: {error}")) from error

    def agree(self, found: Table, expected: Table, tolerance: float, what: str) -> None:
        """Raise `AssertionError` unless two tables agree, each tensor within `tolerance` of its size or the largest's.

        Args:
            found: Tensors by name.
            expected: Tensors by name.
            tolerance: Relative tolerance, at least 0; 0 requires equal bits.
            what: Names of the two tables, for the message.
        """
        if found.keys() != expected.keys():
            self.broken(f"{what}: one has {sorted(found.keys() ^ expected.keys())} and the other has not.")
        found, expected = ({n: v.detach() for n, v in table.items()} for table in (found, expected))
        rounding = 1e-3 * tolerance * max((float(value.double().norm()) for value in expected.values()), default=0.0)
        for name, value in expected.items():
            if found[name].shape != value.shape or found[name].dtype != value.dtype:
                self.broken(f"{what}: '{name}' is {_kind(found[name])} and not {_kind(value)}.")
            if tolerance == 0 and torch.equal(found[name], value):
                continue
            size, distance = float(value.double().norm()), float((found[name].double() - value.double()).norm())
            if not distance <= max(tolerance * size, rounding) or tolerance == 0:
                self.broken(f"{what}: '{name}' is {distance:.3g} off, of a size of {size:.3g}.")


def _kind(value: Tensor) -> str:
    return f"{value.dtype} of shape {list(value.shape)}"
