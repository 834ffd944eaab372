"""Files that are whole at every moment."""

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OF_A_WRITE = re.compile(r"\..+\.(?P<host>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.part")
_DAY = 24 * 60 * 60.0


def is_special(path: Path) -> bool:
    """True if a path, or what it links to, is there and is neither a regular file nor a folder: a pipe or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees either the old contents or all of the new.

    Of a link, the file that it leads to is replaced.  A pipe or a device stays what it is, and is given the data.
    """
    if is_special(path):
        path.write_bytes(data)
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, alone: bool = False) -> list[Path]:
    """Remove what writes that were killed have left in a folder, and return it.

    A file is left over if the process that wrote it is gone.  Where that cannot be told, as of another machine or of a
    number that another process may have by now, it is one that nobody has written to for a day.

    Args:
        folder: Folder that `write_atomically` has written to; the folders in it are not looked at.
        alone: True if certainly no other process writes there, so that all such files are left over.  Default: False.
    """
    removed: list[Path] = []
    for path in sorted(folder.glob(".*.part")):
        match = _OF_A_WRITE.fullmatch(path.name)
        if match is None:
            continue
        try:
            gone = match["host"] == _host() and not _is_alive(int(match["process"]))
            if alone or gone or time.time() - path.stat().st_mtime > _DAY:
                path.unlink()
                removed.append(path)
        except OSError:  # another process has removed it, or it is not ours to remove
            continue
    return removed


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname()) or "host"


def _is_alive(process: int) -> bool:
    """True unless there is certainly no process of this number on this machine."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def as_json(value: Any) -> bytes:
    """Return a value as JSON; numbers that are not finite, which JSON lacks, become null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value
