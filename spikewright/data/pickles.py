"""Read pickled files without running what a pickle may ask for.

A pickle is a program, and an ordinary unpickler calls whatever it names.  `read_restricted` calls what its caller
allows, through functions that are made anew for each use, and holds no more than the file warrants; `read_pickle` reads
containers, text, numbers and NumPy arrays of unsigned bytes.  It never calls NumPy: the recipe of an array is only
recorded, then checked and carried out here.
"""

import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from spikewright.errors import DatasetCorrupt

T = TypeVar("T")
Allowed = Mapping[tuple[str, str], Callable[..., Any]]
"""What to call in the place of objects that a pickle may name, by module and name."""


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
_ALLOWED: Allowed = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Calls what is allowed in the place of what a pickle names, and nothing else."""

    def __init__(self, content: bytes, allowed: Allowed, encoding: str) -> None:
        super().__init__(BytesIO(content), encoding=encoding)
        self._allowed, self._left = allowed, len(content)

    def find_class(self, module: str, name: str, /) -> Callable[..., Any]:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for the forbidden object '{module}.{name}'")
        call = self._allowed[module, name]

        def named(*arguments: Any) -> Any:  # made anew: a pickle may set attributes of what it has named
            made = call(*arguments)
            self._left -= len(made) if isinstance(made, bytes) else 0
            if self._left < 0:
                raise pickle.UnpicklingError("it asks for more bytes than it holds")
            return made

        return named


def read_restricted(
    content: bytes,
    path: Path,
    take: Callable[[Any], T],
    *,
    allowed: Allowed,
    encoding: str,
    what: str,
    readable: str,
) -> T:
    """Return what `take` makes of the object pickled in `content`, without executing what the pickle asks for.

    Args:
        content: A whole pickle file, written by Python 2 or 3.
        path: Where it came from, for messages.
        take: Checks the object and returns what is wanted of it; what it raises is told as damage.
        allowed: What to call in the place of each object that a pickle may name, by its module and name.
        encoding: Encoding of the text of Python 2; "bytes" leaves it as it is.
        what: What the file should hold, for messages.
        readable: What such a file may consist of, for messages.

    Raises:
        DatasetCorrupt: The pickle is damaged, asks for anything else, or holds something else.
    """
    try:
        _check_sizes(content)
        return take(_Unpickler(content, allowed, encoding).load())
    except Exception as cause:  # a damaged pickle can raise nearly anything
        raise DatasetCorrupt(
            f"{path} was read as {what} ({len(content)} bytes), but {cause}. Only {readable} are read, because a "
            "pickle can otherwise run any program. Fetch the published file again."
        ) from cause


def _check_sizes(content: bytes) -> None:
    """Raise `ValueError` if a pickle asks for more memory than its own size warrants.

    A text that is said to be longer than the file, or a place far out in the table of what has been read, would be
    allotted before anything is read.
    """
    entries = 0
    for operation, argument, _ in pickletools.genops(content):
        entries += 1
        if operation.name in _PLACES and int(argument or 0) > entries:
            raise ValueError(f"it stores its object number {entries} under the number {argument}")


_PLACES = ("PUT", "BINPUT", "LONG_BINPUT")


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
    return read_restricted(
        content,
        path,
        partial(_tensors, most=len(content)),
        allowed=_ALLOWED,
        encoding="bytes",
        what="pickled data",
        readable="plain containers and arrays of bytes",
    )


def _tensors(found: Any, most: int) -> dict[str, Any]:
    entries = dict(found)
    if sum(len(value.raw) for value in entries.values() if isinstance(value, _Array)) > most:
        raise ValueError("its arrays are larger than the file")
    return {_text(key): value.tensor() if isinstance(value, _Array) else value for key, value in entries.items()}


def _text(key: str | bytes) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else key
