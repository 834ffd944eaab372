"""What computes with real numbers only, and complex numbers that it is given."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule

Value = TypeVar("Value", bound=Tensor)


def check_real(owner: object, what: str, value: Value, why: str, advice: str) -> Value:
    """Return a value of real numbers.

    Args:
        owner: Who computes with it: a rule, or its name.
        what: What it is, in words.
        value: The value.
        why: What is done with it that has no meaning for complex numbers, in words.
        advice: What to do instead, in a sentence.

    Raises:
        IncompatibleRule: It is complex.
    """
    if value.is_complex():
        name = owner if isinstance(owner, str) else type(owner).__name__
        kind = str(value.dtype).removeprefix("torch.")
        raise IncompatibleRule(f"{name} {why}, but {what} is complex ({kind}). {advice}")
    return value


def as_real(x: Tensor) -> Tensor:
    """Return the real numbers that a tensor is made of: complex ones have two, on an axis of their own."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def real_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the real numbers that numbers of a type are made of.

    >>> real_type(torch.complex64), real_type(torch.int64)
    (torch.float32, torch.int64)
    """
    return dtype.to_real() if dtype.is_complex else dtype


def is_continuous(x: Any) -> bool:
    """Whether something is a tensor of real or complex numbers, and not of whole ones, so that it has a gradient."""
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def in_double(module: nn.Module) -> None:
    """Put a module in double precision; unlike `module.double()`, its complex numbers too."""
    kinds = {True: torch.complex128, False: torch.float64}
    module._apply(lambda x: x.to(kinds[x.is_complex()]) if is_continuous(x) else x)
