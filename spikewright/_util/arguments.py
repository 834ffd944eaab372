"""Checks of arguments that must be plain numbers or tensors."""

import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, ShapeError

LONGEST_SHOWN = 10**40
"""Whole numbers from here on are told by their size; Python refuses to write one of thousands of digits."""
LARGEST = (2 - 2.0**-23) * 2.0**127
"""Largest number of single precision."""


def check_number(owner: str, name: str, value: object, trained: str = "", finite: bool = True) -> None:
    """Raise `ConfigError` unless an argument is one plain number.

    Args:
        owner: Name of the class that takes the argument.
        name: Name of the argument.
        value: Value of the argument.
        trained: Advice for a value that is to be trained, or one per channel; may be empty.
        finite: True refuses infinities and NaN too.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        if finite and not _is_finite(value):
            raise ConfigError(
                f"{owner}({name}={shown(value)}): {name} enters every step, so all that is computed from it would be "
                f"infinite or NaN. Give a finite number."
            )
        return
    if isinstance(value, Tensor):
        kind = "a parameter" if isinstance(value, nn.Parameter) else "a tensor"
        raise ConfigError(
            f"{owner}({name}={shown(value)}) was given {kind} of shape {list(value.shape)}, but {name} is a constant, "
            "one number for all neurons of the layer: a tensor would neither be trained nor move with the module. "
            f"{trained or 'Leave training it to the weights in front.'} For a constant, give a float, such as "
            f"{name}={1.0}{' or value.item()' if value.numel() == 1 else ''}."
        )
    if isinstance(value, bool):
        raise ConfigError(
            f"{owner}({name}={value}): {name} is a number, and it was given a value of type bool, which would "
            f"stand for {float(value)}, but {name} is one number for all neurons. Give a float, such as {name}=1.0. "
            f"A library that calls act_layer({value}) means inplace, which neurons ignore: give it "
            f"act_layer=lambda *_: {owner}()."
        )
    raise ConfigError(
        f"{owner}({name}={shown(value)}) was given {_kind(value)}, but {name} is one number for all neurons of the "
        f"layer. Give a float, such as {name}=1.0{'; None does not stand for a default' if value is None else ''}."
    )


def check_tensor(name: str, value: object, layout: str) -> None:
    """Raise `ShapeError` unless an argument is a tensor with values, one behind the other in memory.

    Args:
        name: Name of the argument.
        value: Value of the argument.
        layout: Required axes, as text.
    """
    if isinstance(value, Tensor):
        if not torch.compiler.is_compiling():
            _check_dense(name, value)
        return
    advice = "Give one tensor."
    if isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value):
        advice = f"Give one tensor, such as torch.stack({name})."
    elif isinstance(value, np.ndarray | list | tuple | Real):
        advice = f"Give torch.as_tensor({name})."
    raise ShapeError(f"{name} has to be a tensor, {layout}, but it is {kind_of(value)}. {advice}")


def _check_dense(name: str, value: Tensor) -> None:
    kinds = {
        "nested": (value.is_nested, f"Pad it, torch.nested.to_padded_tensor({name}, 0.0), and give lengths=..."),
        "quantized": (value.is_quantized, f"Give {name}.dequantize()."),
        "without values (meta)": (value.is_meta, "Give one with values."),
        str(value.layout).removeprefix("torch."): (value.layout != torch.strided, f"Give {name}.to_dense()."),
    }
    for kind, (found, advice) in kinds.items():
        if found:
            raise ShapeError(
                f"{name} is a tensor that is {kind}, but steps and samples are taken from a dense one. {advice}"
            )


def shown(value: object) -> str:
    """Return an argument as text for a message; tensors by their shape, alone or in a list."""
    text = _text(value)
    return text if len(text) <= 400 else f"{text[:200]}... ({len(text)} characters)"


def _text(value: object) -> str:
    if isinstance(value, Tensor):
        return f"<{'Parameter' if isinstance(value, nn.Parameter) else 'Tensor'} {list(value.shape)}>"
    if isinstance(value, int) and not -LONGEST_SHOWN < value < LONGEST_SHOWN:
        return f"about {'-' if value < 0 else ''}2**{value.bit_length()}"
    if type(value) is list:
        return f"[{', '.join(map(_text, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    try:
        return repr(value)
    except ValueError:  # it holds such a number
        return f"<{type(value).__name__}>"


def is_numeric(value: object) -> bool:
    """True for a real number, a tensor of them, or a sequence of such; False for booleans and text."""
    if isinstance(value, Tensor):
        return not (value.dtype == torch.bool or value.is_complex())
    if isinstance(value, list | tuple):
        return all(map(is_numeric, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iuf"
    return isinstance(value, Real) and not isinstance(value, bool)


def in_single_precision(number: float) -> float:
    """Return a number, infinite if it is too large for single precision.

    >>> in_single_precision(1e300), in_single_precision(-1e300), in_single_precision(0.1)
    (inf, -inf, 0.1)
    """
    return math.copysign(math.inf, number) if abs(number) > LARGEST else number


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(in_single_precision(float(value)))
    except OverflowError:  # a whole number beyond the floats
        return False


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
