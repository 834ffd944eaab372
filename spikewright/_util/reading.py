"""Read a file that someone else may have put there: a regular one, of a bounded size."""

import errno
import os
import stat
from pathlib import Path

from spikewright._util.text import readable

MOST_TEXT = 2**20
"""Most bytes of a recipe or a stored configuration; usual ones have a few thousand."""
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file.

    Nothing is waited for, as the other end of a pipe would be, and no more than `most + 1` bytes are held.

    Args:
        path: The file, or a link to it.
        most: Largest number of bytes.

    Raises:
        OSError: The file cannot be opened, is not a regular one, or is larger; `strerror` says which.
    """
    with os.fdopen(_opened(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise too_large(path, most)
    return content


def check_regular(path: Path) -> None:
    """Raise `OSError` unless a path is a regular file that can be opened; `strerror` says why."""
    os.close(_opened(path))


def too_large(path: Path, most: int) -> OSError:
    """Return the error that a file holds more than is read of it."""
    return OSError(errno.EFBIG, f"it holds more than {readable(most)}, the most that is read of such a file", str(path))


def _opened(path: Path) -> int:
    try:
        handle = os.open(path, _FLAGS)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a null character, which no file has", str(path)) from error
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a regular file", str(path))
    return handle
