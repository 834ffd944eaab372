"""The compiled CPU kernels: `cpp/`, built when the package is installed and called through ctypes."""

import ctypes
import functools
import os
import warnings
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import ShapeError
from spikewright.kernels.layout import check_device

INTERFACE = 7
"""The number in `cpp/lif.cpp`; a library built from other sources is not used."""
RUNS_AGAIN = True
"""Whether the backward scan can make do with the current in place of the potential."""
NOTICE = (
    "spikewright runs without its compiled CPU kernels: {reason}. Results are the same, neurons several times slower. "
    "Install a C++ compiler (e.g. g++) and install spikewright again."
)
Table = dict[tuple[str, torch.dtype], Callable[..., None]]
_CPU = torch.device("cpu")
DTYPES = {torch.float32: "f32", torch.float64: "f64"}

_array, _size, _number, _flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
_FIRST = [_size, _size, _array, _flag]  # steps, width, array, whether it is one step that is repeated
_SIGNATURES = {
    "lif": [*_FIRST, _array, _array, *[_number] * 3, _flag, *[_array] * 3, _flag],
    "lif_backward": [*_FIRST, _flag, *[_array] * 5, *[_number] * 3, *[_flag] * 4, *[_number] * 2, *[_array] * 2, _flag],
    "trace": [*_FIRST, _array, _array, _number, _array, _array, _flag],
    "neuron": [*_FIRST, *[_array] * 5, _flag, _flag, _number, _flag, *[_array] * 5, _flag],
    "neuron_backward": [
        *[*_FIRST, *[_array] * 5, _flag, _flag, _number, _flag, *[_array] * 6],
        *[_flag, _number, _number, *[_array] * 4, _flag, _array, _flag],
    ],
    "alpha_step_charge": [_size, *[_array] * 3, _number, _number, _array, _array, _flag],
    "alpha_step_fire": [_size, *[_array] * 2, _number, _number, _array, _array, _flag],
    "alpha_step_backward": [_size, *[_array] * 3, *[_number] * 4, _flag, *[_number] * 2, *[_array] * 4, _flag],
    "gather": [_size, *[_array] * 4, _size, *[_array] * 5, _flag],
    "scatter": [
        *[_size, *[_array] * 5, _size, *[_array] * 6, *[_size] * 3],
        *[_array, _array, _number, _number, _array, _flag],
    ],
    "statistics": [_size, *[_array] * 3, _size, *[_array] * 8, _flag],
    "statistics_back": [_size, *[_array] * 3, _size, *[_array] * 8, _flag],
}


def _load() -> tuple[Table | None, str]:
    """Return the kernels by name and precision, or `None` and the reason why there are none."""
    if os.environ.get("SPIKEWRIGHT_NATIVE") == "0":
        return None, "SPIKEWRIGHT_NATIVE=0 is set"
    files = [Path(__file__).with_name("_native" + suffix) for suffix in EXTENSION_SUFFIXES]
    found = [file for file in files if file.exists()]
    if not found:
        return None, "they were not built when it was installed"
    try:
        library = ctypes.CDLL(str(found[0]))
        if ctypes.c_int.in_dll(library, "interface").value != INTERFACE:
            return None, f"{found[0].name} was built from other sources"
        return {
            (name, dtype): _function(library, f"{name}_{suffix}", signature)
            for name, signature in _SIGNATURES.items()
            for dtype, suffix in DTYPES.items()
        }, ""
    except (OSError, ValueError) as error:
        return None, str(error)


def _function(library: ctypes.CDLL, name: str, signature: list[Any]) -> Callable[..., None]:
    return ctypes.CFUNCTYPE(None, *signature)(ctypes.c_void_p.in_dll(library, name).value or 0)


_KERNELS, _REASON = _load()


@functools.cache
def notice() -> None:
    """Say once why there are no kernels."""
    if "SPIKEWRIGHT_NATIVE" not in os.environ:
        warnings.warn(NOTICE.format(reason=_REASON), stacklevel=4)


def available(x: Tensor) -> bool:
    """Whether the kernels can take `x`; says so once if they could, had they been built."""
    if x.device.type != "cpu" or x.dtype not in DTYPES:
        return False
    if _KERNELS is None and not torch.compiler.is_compiling():
        notice()
    return _KERNELS is not None


Argument = Tensor | float | None
Arguments = Argument | list[Tensor] | list[Tensor | None] | list[float]


def call(name: str, first: Tensor, *arguments: Arguments) -> None:
    """Run a kernel that scans over time.

    Args:
        name: Of the kernel.
        first: `[time, ...]`; contiguous, or one contiguous step that is repeated.
        arguments: What else the kernel takes, tensors contiguous; a list of tensors is given as one of pointers.
    """
    steps = first.shape[0]
    repeated = not first.is_contiguous()  # nothing else is given that is not
    invoke(name, first.dtype, steps, first.numel() // steps, first, repeated, *arguments)


def invoke(name: str, dtype: torch.dtype, *arguments: Arguments) -> None:
    """Run any kernel in one precision; arguments as for `call`.

    Raises:
        ShapeError: A tensor has another precision or is on another device, so that its memory would be misread.
    """
    assert _KERNELS is not None  # the caller has asked `available`
    check_device(name, _CPU, *arguments)
    for argument in arguments:
        for a in argument if isinstance(argument, list) else (argument,):
            if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != dtype:
                raise ShapeError(
                    f"The kernel '{name}' computes in {dtype}, but was given {a.dtype}, which it cannot read. Give all "
                    "tensors one precision."
                )
    pointers = [_list(a) if isinstance(a, list) else _address(a) for a in arguments]
    _KERNELS[name, dtype](*pointers, torch.get_num_threads())


def _address(value: Argument) -> float | None:
    return value.data_ptr() if isinstance(value, Tensor) else value


def _list(values: list[Tensor] | list[Tensor | None] | list[float]) -> Any:
    """Return pointers, or numbers, as an array of C."""
    kind = ctypes.c_double if isinstance(values[0], float) else ctypes.c_void_p
    return (kind * len(values))(*(_address(value) for value in values))
