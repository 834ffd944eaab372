"""Real and complex numbers: checks, views and dtypes."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule

Value = TypeVar("Value", bound=Tensor)


def check_real(owner: object, what: str, value: Value, why: str, advice: str) -> Value:
    """Return a value, after a check that it is real.

    Args:
        owner: Rule that computes with it, or a name.
        what: Description of the value.
        value: The value.
        why: Computation that is not defined for complex numbers, such as "brings errors to layers by real matrices".
        advice: Sentence with an alternative.

    Raises:
        IncompatibleRule: The value is complex.
    """
    if value.is_complex():
        name = owner if isinstance(owner, str) else type(owner).__name__
        kind = str(value.dtype).removeprefix("torch.")
        raise IncompatibleRule(f"{name} {why}, but {what} is complex ({kind}). {advice}")
    return value


def as_real(x: Tensor) -> Tensor:
    """Return the real numbers of a tensor; those of complex numbers on an additional last axis of 2."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def real_type(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the real and imaginary parts of a dtype; itself if it is real.

    >>> real_type(torch.complex64), real_type(torch.int64)
    (torch.float32, torch.int64)
    """
    return dtype.to_real() if dtype.is_complex else dtype


def is_continuous(x: Any) -> bool:
    """True for a tensor of floating-point or complex numbers, which may have a gradient."""
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def in_double(module: nn.Module) -> None:
    """Convert a module to double precision, complex numbers included, unlike `module.double()`."""
    kinds = {True: torch.complex128, False: torch.float64}
    module._apply(lambda x: x.to(kinds[x.is_complex()]) if is_continuous(x) else x)
