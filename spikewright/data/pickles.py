"""Reading pickled arrays of bytes without running what a pickle may ask for.

A pickle is a program, and an ordinary unpickler calls whatever it names.  This one knows containers, text, numbers and
NumPy arrays of unsigned bytes.  It never calls NumPy: the recipe of an array is only recorded, then checked and carried
out here.
"""

import math
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import DatasetCorrupt


class _DType:
    """Stands in for `numpy.dtype`: the code of the element type, such as "u1"."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        """Drop the state: it holds the byte order and alignment, which bytes do not have."""


class _Array:
    """Stands in for `numpy.ndarray`: shape, element type, whether column-major, and the raw elements."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes]) -> None:
        _, self.shape, self.dtype, self.column_major, self.raw = state

    def tensor(self) -> Tensor:
        if self.dtype.code not in ("u1", "uint8") or self.column_major or len(self.raw) != math.prod(self.shape):
            raise ValueError(f"an array of '{self.dtype.code}' is not a row-major one of unsigned bytes (u1)")
        return torch.frombuffer(bytearray(self.raw), dtype=torch.uint8).reshape(self.shape)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(raw: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order != "C", raw))
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the text encoding {encoding!r}; arrays use latin1")
    return text.encode("latin1")


# NumPy 2 moved its inner modules; files of either age are in circulation.
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for the forbidden object '{module}.{name}'")
        return _ALLOWED[module, name]


def read_pickle(content: bytes, path: Path) -> dict[str, Any]:
    """Return the dictionary pickled in `content`, without executing any of it.

    Allowed are dictionaries, lists, tuples, text, bytes, numbers and NumPy arrays of unsigned bytes.

    Args:
        content: A whole pickle file, written by Python 2 or 3.
        path: Where it came from, for messages.

    Returns:
        The dictionary, its keys as text and its arrays as uint8 tensors.

    Raises:
        DatasetCorrupt: The pickle is damaged, asks for anything else, or is no dictionary.
    """
    try:
        entries = dict(_Unpickler(BytesIO(content), encoding="bytes").load()).items()
        return {_text(key): value.tensor() if isinstance(value, _Array) else value for key, value in entries}
    except Exception as cause:  # a damaged pickle can raise nearly anything
        raise DatasetCorrupt(
            f"{path} was read as pickled data ({len(content)} bytes), but {cause}. Only plain containers and arrays of "
            "bytes are read, because a pickle can otherwise run any program. Fetch the published file again."
        ) from cause


def _text(key: str | bytes) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else key
