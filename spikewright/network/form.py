"""Several tensors as one: what a network takes or returns, packed so that rules see one tensor."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from spikewright._util.arguments import check_tensor
from spikewright._util.text import kind_of, with_article
from spikewright.errors import ShapeError
from spikewright.temporal import is_static

Input = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""One tensor, or several in a tuple, a list or a dictionary."""
EXACT = 2**53
"""Whole numbers up to this have a place in 64-bit floating-point numbers."""


@dataclass(frozen=True)
class Form:
    """The form of several tensors that are packed into one, with their numbers side by side on the last axis.

    Attributes:
        kind: Class of what holds them: `tuple` (also a named one), `list` or `dict`.
        keys: Their keys in a dictionary; empty otherwise.
        shapes: Their shapes behind the axes that they share.
        dtypes: Their types.
    """

    kind: type
    keys: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]

    def unpack(self, x: Tensor) -> Any:
        """Return the tensors in a packed one, `[..., number]`, in this form."""
        ends = [0, *accumulate(shape.numel() for shape in self.shapes)]
        parts = [
            _typed(x[..., start:end].reshape((*x.shape[:-1], *shape)), dtype)
            for (start, end), shape, dtype in zip(pairwise(ends), self.shapes, self.dtypes)
        ]
        if self.keys:
            return dict(zip(self.keys, parts))
        return self.kind(*parts) if hasattr(self.kind, "_fields") else self.kind(parts)


def _typed(x: Tensor, dtype: torch.dtype) -> Tensor:
    if x.dtype == dtype:
        return x
    return (x if dtype.is_floating_point or dtype.is_complex else x.round()).to(dtype)


def is_several(value: object) -> bool:
    """Return True for a tuple, a list or a dictionary of tensors, at least one."""
    parts = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(parts, list | tuple) and bool(parts) and all(isinstance(part, Tensor) for part in parts)


def packed(name: str, value: Any, axes: int, layout: str) -> tuple[Tensor, Form]:
    """Return several tensors as one, `[*shared, number]`, and their form.

    Args:
        name: What they are called in messages.
        value: Tuple, list or dictionary of tensors.
        axes: Number of axes in front that they share.
        layout: Description of these axes.

    Raises:
        ShapeError: They do not share these axes or a device, or numbers of different types have no common one.
    """
    if not is_several(value) or (isinstance(value, dict) and not all(isinstance(key, str) for key in value)):
        raise ShapeError(
            f"{name} is {kind_of(value)} of something else than tensors. A network takes and returns one tensor, or a "
            "tuple, list or dictionary (by text) of tensors, without further ones inside. Flatten it."
        )
    is_dict = isinstance(value, Mapping)
    parts: list[Tensor] = list(value.values() if is_dict else value)
    shared, device = parts[0].shape[:axes], parts[0].device
    for key, part in zip(value if is_dict else range(len(parts)), parts):
        if part.dim() < axes or part.shape[:axes] != shared or part.device != device:
            raise ShapeError(
                f"{name}[{key!r}] has the shape {list(part.shape)} on {part.device}, beside one of "
                f"{list(parts[0].shape)} on {device}. All have the axes {layout} in front, of the same sizes, and are "
                "on one device. Bring them together."
            )
    form = Form(
        dict if is_dict else type(value),
        tuple(value) if is_dict else (),
        tuple(part.shape[axes:] for part in parts),
        tuple(part.dtype for part in parts),
    )
    repeated = all(map(is_static, parts))
    kind = _common(name, parts)
    flat = [(part[:1] if repeated else part).flatten(axes).to(kind) for part in _deep(parts, axes)]
    together = torch.cat(flat, -1)
    return together.expand(*shared, -1) if repeated else together, form


def _deep(parts: Sequence[Tensor], axes: int) -> list[Tensor]:
    """Return tensors with an axis behind the shared ones."""
    return [part if part.dim() > axes else part.unsqueeze(-1) for part in parts]


def _common(name: str, parts: Sequence[Tensor]) -> torch.dtype:
    """Return a type that holds all numbers of several tensors without change."""
    kinds = {part.dtype for part in parts}
    if len(kinds) == 1:
        return kinds.pop()
    for part in parts:
        if part.dtype in (torch.int64, torch.uint64) and part.numel() and int(part.abs().max()) > EXACT:
            raise ShapeError(
                f"{name} has integers of up to {int(part.abs().max())} beside floating-point numbers, and is handled "
                f"as one tensor of numbers of 64 bits, which hold integers up to 2**53. Give smaller ones."
            )
    return torch.complex128 if any(part.is_complex() for part in parts) else torch.float64


@dataclass(frozen=True)
class Inputs:
    """Several tensors that a network takes, and how they are handed to its forward.

    Attributes:
        form: Form of the tensors.
        by: "whole", as the one tuple, list or dictionary; "place", as positional arguments; or "name", as keywords.
    """

    form: Form
    by: Literal["whole", "place", "name"]

    @classmethod
    def of(cls, form: Form, module: nn.Module) -> "Inputs":
        """Return how tensors of a form are handed to the forward of a module.

        A dictionary is handed over by keywords if its keys are names of arguments, and a tuple or a list by places if
        there are at least two arguments without a default, or `*args`; otherwise as one object.
        """
        arguments = inspect.signature(module.forward).parameters.values()
        if form.keys:
            names = {p.name for p in arguments if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            anything = any(p.kind == p.VAR_KEYWORD for p in arguments)
            by_name = anything or names.issuperset(form.keys)
            return cls(form, "name" if by_name else "whole")._fitting(module)
        places = [p for p in arguments if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        several = sum(p.default is p.empty for p in places) > 1 or any(p.kind == p.VAR_POSITIONAL for p in arguments)
        return cls(form, "place" if several else "whole")._fitting(module)

    def _fitting(self, module: nn.Module) -> "Inputs":
        """Return this, if the forward of the module can be called so."""
        count, keys = len(self.form.shapes), self.form.keys
        signature = inspect.signature(module.forward)
        try:
            if self.by == "name":
                signature.bind(**dict.fromkeys(keys))
            else:
                signature.bind(*range(count if self.by == "place" else 1))
        except TypeError as error:
            found = f"with the keys {', '.join(map(repr, keys))}" if keys else f"of {count} tensors"
            given = with_article(self.form.kind.__name__)
            raise ShapeError(
                f"x is {given} {found}, but {type(module).__name__}.forward{signature} cannot be "
                f"called with that: {error}. Give a dictionary by the names of its arguments, a tuple in their order, "
                "or one object if it takes one."
            ) from error
        return self

    def call(self, module: nn.Module, x: Tensor) -> Any:
        """Return what a module makes of packed rows, `[rows, number]`."""
        parts = self.form.unpack(x)
        if self.by == "name":
            return module(**parts)
        return module(*parts) if self.by == "place" else module(parts)


def time_first(x: Input, batch_first: bool) -> Input:
    """Return an input `[time, batch, *feature]`, of one tensor or several; swapped if it is batch-first.

    Args:
        x: Input.
        batch_first: True if it is `[batch, time, *feature]`.
    """
    if not batch_first:
        return x
    if isinstance(x, Tensor):
        return x.transpose(0, 1) if x.dim() > 1 else x
    if not is_several(x):
        check_tensor("x", x, "[batch, time, *feature]")
    if isinstance(x, Mapping):
        return {key: cast(Tensor, time_first(part, True)) for key, part in x.items()}
    swapped = [cast(Tensor, time_first(part, True)) for part in x]
    return type(x)(*swapped) if hasattr(x, "_fields") else type(x)(swapped)  # type: ignore[call-arg]
