"""Frames of a data set on disk, made once for the same recordings and the same settings."""

import hashlib
import json
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikewright._util.files import remove_leftovers, write_atomically
from spikewright._util.ranges import check_instance
from spikewright._util.reading import check_regular
from spikewright._util.text import kind_of
from spikewright.data.sequences import Sequences
from spikewright.errors import ConfigError, DatasetCorrupt
from spikewright.events.collect import Labelled, framed
from spikewright.events.frames import Frames

FORMAT = 1
"""Rises when the file, or what a mode computes from the same settings, changes: old files are then not read."""
_MAGIC = b"spikewright frames of events\n"
_SUM = 32
_ARRAYS = ("steps", "starts", "places", "values", "labels")


def cached(recordings: Labelled, mode: Frames, folder: Path | str) -> Sequences:
    """Return the frames of all recordings, from a folder if they were made before, else made and written there.

    A file is found by the digest of the recordings, all settings of the mode and the version of the format, so one that
    belongs to others is never read.  It is written under another name and then renamed: a process that is killed leaves
    no half file, and of several that write at once each leaves a whole one.  A file that is cut or damaged, which its
    checksum tells, is reported by a warning and made anew.

    Args:
        recordings: What has a length, gives a pair of `Events` and label for each number from 0, and has a `digest`, a
            text that changes with the content of the recordings and labels, or a method that returns it.
        mode: `ByBins(10)` or another; a frozen dataclass of plain settings.
        folder: Folder for the files; it is made if it is not there.  A leading `~` is expanded.

    Raises:
        ConfigError: The recordings have no digest, or the mode is no frozen dataclass of plain settings.
        DatasetCorrupt: What stands in the place of the file was not written by this function; it is left alone.
        InputError: There is no recording, or one cannot be made to frames.
        ShapeError: Frames of two recordings differ in shape.
    """
    check_instance("cached", "mode", mode, Frames, "ByBins(10)")
    digest = getattr(recordings, "digest", None)
    digest = digest() if callable(digest) else digest
    if not isinstance(digest, str) or not digest:
        raise ConfigError(
            f"cached got recordings with digest {digest!r}. Frames are found again by it, and without one those of "
            "other files would be taken for them. Give recordings with a digest of their content, or call framed(...)."
        )
    settings = {"format": FORMAT, "recordings": digest, "mode": _settings(mode)}
    key = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"frames-{key}.bin"
    if path.is_symlink() or path.exists():
        found = _read(path, settings)
        if found is not None:
            return found
        warnings.warn(f"{path} holds damaged frames, or those of others; they are made anew.", stacklevel=2)
    made = framed(recordings, mode)
    remove_leftovers(folder)
    write_atomically(path, _as_bytes(made, settings))
    return made


def _settings(value: Any) -> Any:
    """Return what tells a mode from all others, as JSON can hold it."""
    parameters: Any = getattr(value, "__dataclass_params__", None)
    if is_dataclass(value) and not isinstance(value, type) and parameters.frozen:
        kind = type(value)
        own = {field.name: _settings(getattr(value, field.name)) for field in fields(value)}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", **own}
    if isinstance(value, tuple):
        return [_settings(each) for each in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float | np.integer | np.floating):
        number = float(value) if isinstance(value, float | np.floating) else int(value)
        return repr(number)  # 1 and 1.0 are told apart, and no digit is lost
    raise ConfigError(
        f"cached got a mode that holds {kind_of(value)}. Frames are found again by all settings of the mode, so it "
        "is a frozen dataclass of numbers, texts, None, tuples and such dataclasses. Write it so, or call framed(...)."
    )


def _as_bytes(data: Sequences, settings: dict[str, Any]) -> bytes:
    arrays = {name: getattr(data, name).numpy() for name in _ARRAYS}
    layout = {name: [array.dtype.newbyteorder("<").str, len(array)] for name, array in arrays.items()}
    head = json.dumps({"settings": settings, "feature": data.feature, "arrays": layout}).encode()
    parts = [_MAGIC, len(head).to_bytes(8, "little"), head]
    parts += [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays.values()]
    check = hashlib.blake2b(digest_size=_SUM)
    for part in parts:
        check.update(part)
    return b"".join([*parts, check.digest()])


def _read(path: Path, settings: dict[str, Any]) -> Sequences | None:
    """Return the frames in a file, or None if it is damaged or belongs to others.

    Raises:
        DatasetCorrupt: It is no such file, or cannot be read.
    """
    try:
        check_regular(path)
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise DatasetCorrupt(
            f"{path} was to be read as frames of events, but {error.strerror or error}. Take it away, or give another "
            "folder."
        ) from error
    begin = bytes(content[: len(_MAGIC)])
    if not _MAGIC.startswith(begin):
        raise DatasetCorrupt(
            f"{path} was to be read as frames of events, but begins with {begin[:16]!r}. It was not written by this "
            "library, so it is neither read nor replaced. Take it away, or give another folder."
        )
    body, check = content[:-_SUM], content[-_SUM:]
    if len(content) < len(_MAGIC) + 8 + _SUM or hashlib.blake2b(body, digest_size=_SUM).digest() != check:
        return None
    at = len(_MAGIC) + 8
    size = int.from_bytes(body[len(_MAGIC) : at], "little")
    head = json.loads(bytes(body[at : at + size]))
    if head["settings"] != settings:
        return None
    at, tensors = at + size, dict[str, torch.Tensor]()
    for name in _ARRAYS:
        kind, count = np.dtype(head["arrays"][name][0]), head["arrays"][name][1]
        array = np.frombuffer(body, kind, count, at).astype(kind.newbyteorder("="))  # a copy that may be written to
        tensors[name] = torch.from_numpy(array)
        at += count * kind.itemsize
    return Sequences(feature=tuple(head["feature"]), **tensors)
