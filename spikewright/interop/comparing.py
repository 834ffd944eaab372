"""Outputs of a program beside those of the network it was made from."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.errors import NetworkError


@dataclass(frozen=True)
class Compared:
    """One output of a program, compared with that of the network.

    Attributes:
        name: Name of the output.
        values: Number of its values, at least 1.
        differing: Number of values that differ by more than rounding, at least 0.
        largest: Largest difference, at least 0.
    """

    name: str
    values: int
    differing: int
    largest: float


def compared(what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[Compared, ...]:
    """Return how outputs differ.

    Args:
        what: What has computed them, for messages.
        found: Its outputs by name.
        expected: Those of the network.

    Raises:
        NetworkError: The program computes something else: more than one value in a hundred differs.

    Warns:
        UserWarning: Fewer differ.
    """
    rows = tuple(_row(name, found[name], value) for name, value in expected.items())
    worst = max(rows, key=lambda row: row.differing / row.values)
    said = f"{worst.differing} of {worst.values} values of '{worst.name}', by up to {worst.largest:.3g}"
    if worst.differing > worst.values / 100:
        raise NetworkError(
            f"The network was exported, but {what} computes something else: {said}. Some code of a module takes "
            "another way while it is traced. Use modules of torch and of this library there."
        )
    if worst.differing:
        warnings.warn(
            f"{what[0].upper()}{what[1:]} differs from the network in {said}: sums are rounded in another order, and "
            "where a potential is at the threshold, a spike is gained or lost. In float64 it is rarer.",
            UserWarning,
            stacklevel=4,
        )
    return rows


def _row(name: str, found: Tensor, expected: Tensor) -> Compared:
    if found.shape != expected.shape:
        raise NetworkError(
            f"'{name}' of the exported network is {list(found.shape)}, and not {list(expected.shape)} as in a run, so "
            "that the program is another one. Use modules of torch and of this library in the network."
        )
    away = (found.double() - expected.double()).abs()
    scale = max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
    kind = expected.dtype if expected.is_floating_point() else torch.float32
    close = 64 * torch.finfo(kind).eps * scale
    # A NaN on one side only is a difference; on both it is none.
    wrong = ~(away <= close) & ~(found.isnan() & expected.isnan())
    return Compared(name, expected.numel(), int(wrong.sum()), float(away.nan_to_num(torch.inf).max()))
