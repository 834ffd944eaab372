"""The IDX format of MNIST: arrays of bytes with a short header.

A file starts with two zero bytes, the code of the element type (8: unsigned byte), the number of axes, and one
big-endian 32-bit length per axis; the elements follow in row-major order.
"""

import gzip
import math
import struct
import zlib
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from spikewright._util.reading import too_large
from spikewright.data.files import MOST_BYTES, read_bytes, unreadable
from spikewright.errors import DatasetCorrupt


def read_content(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file, decompressed if its name ends in `.gz`.

    Args:
        path: The file.
        most: Largest number of bytes, decompressed; no more than one further is ever held.  Default: `MOST_BYTES`.

    Raises:
        DatasetCorrupt: The file cannot be read, holds more, is not gzip, ends early, or has a wrong checksum.
    """
    raw = read_bytes(path, most)
    if path.suffix != ".gz":
        return raw
    try:
        with gzip.GzipFile(fileobj=BytesIO(raw)) as file:
            content = file.read(most + 1)
            if len(content) > most:
                raise unreadable(path, too_large(path, most))
            return content
    except (OSError, EOFError, zlib.error) as cause:
        raise DatasetCorrupt(
            f"{path} was read as gzip, but its {len(raw)} bytes do not decompress: {cause}. Such a file is usually an "
            "interrupted download or a saved error page. Fetch it again."
        ) from cause


def parse_idx(content: bytes, axes: int, path: Path) -> Tensor:
    """Return the array of an IDX file, uint8.

    Args:
        content: Contents of the file, decompressed.
        axes: Expected number of axes: 1 for labels, 3 for images.
        path: File of the content, for messages.

    Raises:
        DatasetCorrupt: Magic number, lengths or file size do not match such an array.
    """
    header = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < header:
        raise DatasetCorrupt(
            f"{path} was read as IDX bytes with {axes} axes, which start with 0x{bytes([0, 0, 8, axes]).hex()} and a "
            f"header of {header} bytes. It starts with 0x{content[:4].hex()} and has {len(content)} bytes, so it is "
            "another kind of file. Check that images and labels are not swapped, or fetch it again."
        )
    lengths = struct.unpack(f">{axes}I", content[4:header])
    elements = len(content) - header
    if elements != math.prod(lengths) or not elements:
        raise DatasetCorrupt(
            f"{path} states the lengths {list(lengths)}, that is {math.prod(lengths)} elements, but {elements} bytes "
            "follow its header. A file that is cut short, padded or empty cannot be trusted. Fetch it again."
        )
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).reshape(lengths)
