"""Packets of AEDAT 4, decompressed up to a bounded size."""

from io import BytesIO

from spikewright.data.files import MOST_BYTES
from spikewright.data.optional import optional_import
from spikewright.events.readers.flatbuffer import Malformed

NAMES = ("none", "lz4", "lz4", "zstd", "zstd")
"""Of the codes that AEDAT 4 has: each method in two strengths."""


def decompressed(data: bytes, method: int) -> bytes:
    """Return the content of one packet.

    Args:
        data: Bytes as stored.
        method: Code of AEDAT 4, from 0 to 4.

    Raises:
        Malformed: The bytes are not one whole frame of the method, or hold more than 1 GiB.
        ImportError: The package of the method is not installed.
    """
    if NAMES[method] == "none":
        return data
    purpose = f"Reading AEDAT 4 that is compressed with {NAMES[method]}"
    content = _lz4(data, purpose) if NAMES[method] == "lz4" else _zstd(data, purpose)
    if len(content) > MOST_BYTES:
        raise Malformed(f"its {len(data)} bytes hold more than {MOST_BYTES} bytes")
    return content


def _lz4(data: bytes, purpose: str) -> bytes:
    frame = optional_import("lz4.frame", purpose, extra="events")
    reader = frame.LZ4FrameDecompressor()
    try:
        content = reader.decompress(data, max_length=MOST_BYTES + 1)
    except (RuntimeError, ValueError, MemoryError, EOFError) as cause:
        raise Malformed(f"LZ4 finds: {cause}") from cause
    if len(content) <= MOST_BYTES and (not reader.eof or reader.unused_data):
        raise Malformed("it is not one whole frame of LZ4")
    return content


def _zstd(data: bytes, purpose: str) -> bytes:
    zstd = optional_import("zstandard", purpose, extra="events")
    reader = zstd.ZstdDecompressor(max_window_size=2**27).stream_reader(BytesIO(data))
    parts, size = list[bytes](), 0
    try:
        while size <= MOST_BYTES and (part := reader.read(2**20)):  # in pieces, so that room is made for what is there
            parts.append(part)
            size += len(part)
        return b"".join(parts)  # a frame that ends early is noticed by the size in its content
    except (zstd.ZstdError, MemoryError) as cause:
        raise Malformed(f"Zstandard finds: {cause}") from cause
