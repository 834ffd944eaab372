"""Checkpoints: tensors and JSON in one safetensors file that is replaced atomically.

There is always a complete checkpoint on disk. Reading one never executes code. A digest over the contents detects
damage, such as a file that was cut short or edited in passing. It is no signature and no protection against tampering:
who changes a file can compute the digest of the change.

Tensors have the names of their places, so that other programs find the weights too: `parts.model.` and their name.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright._util.files import write_atomically
from spikewright._util.reading import check_regular
from spikewright._util.real_numbers import as_real
from spikewright.errors import CheckpointError

FORMAT = "spikewright-checkpoint-1"


def require() -> None:
    """Raise `ImportError` if checkpoints cannot be written, before training starts."""
    import safetensors.torch  # noqa: F401  # pyright: ignore[reportUnusedImport]


def save(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree of dictionaries, lists, tuples, numbers, strings and tensors to one file, atomically.

    Args:
        path: File to write; an existing one is replaced once the new one is complete on disk.
        tree: Contents.

    Raises:
        CheckpointError: The file cannot be written.
    """
    from safetensors.torch import save as to_bytes

    tensors: dict[str, Tensor] = {}
    rest = json.dumps(_take_apart(tree, tensors))
    data = to_bytes(tensors, {"format": FORMAT, "rest": rest, "digest": _digest(rest, tensors)})
    try:
        write_atomically(path, data)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be written: {error.strerror}. What was there before is untouched. Make room "
            f"in {path.parent}, and continue with --resume {path.parent}, or resume=True in Python."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint that `save` wrote.

    Args:
        path: File to read.

    Raises:
        CheckpointError: The file does not exist, cannot be read, is no regular file, or is truncated, altered, or no
            checkpoint of this library.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"There is no checkpoint {path}. Give the folder of a run that has saved one.") from error
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read: {error.strerror}. Nothing is known of what it holds. Give a file "
            "that you may read, or another checkpoint of the run."
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {path} ({path.stat().st_size} bytes) is truncated or not a safetensors file: {error}. "
            "Use another checkpoint of the run, or start again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"The file {path} is a safetensors file, but not a checkpoint of this library (its format is "
            f"{metadata.get('format')!r}, not {FORMAT!r}). Load plain weights with module.load_state_dict instead."
        )
    if metadata.get("digest") != _digest(metadata.get("rest", ""), tensors):
        raise CheckpointError(
            f"The checkpoint {path} was altered after it was written: its contents do not match its digest. Nothing "
            "was loaded. Use another checkpoint of the run, or start again."
        )
    try:
        return _put_together(json.loads(metadata["rest"]), tensors)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:  # a digest can be made for anything
        raise CheckpointError(
            f"The checkpoint {path} does not hold what this library writes: {error!r}. Use another checkpoint of the "
            "run, or start again."
        ) from error


def _digest(rest: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(rest.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _take_apart(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Return a tree as JSON values, with its tensors moved to `tensors` under the names of their places."""
    if isinstance(value, Tensor):
        key = path
        while key in (*tensors, "", "__metadata__"):  # the last one is the format's own
            key += "#"
        tensors[key] = as_real(value.detach()).cpu().contiguous().clone()  # safetensors lacks some complex types
        return {"complex" if value.is_complex() else "tensor": key}
    inside = f"{path}." if path else ""
    if isinstance(value, Mapping):
        return {"map": [[_take_apart(k, tensors), _take_apart(v, tensors, f"{inside}{k}")] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        content = [_take_apart(v, tensors, f"{inside}{index}") for index, v in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": content}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A checkpoint holds tensors and plain values, not {type(value).__name__}.")


def _put_together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "complex":
        return torch.view_as_complex(tensors[content])
    if kind == "map":
        return {_put_together(k, tensors): _put_together(v, tensors) for k, v in content}
    items: Iterator[Any] = (_put_together(v, tensors) for v in content)
    return tuple(items) if kind == "tuple" else list(items)
