"""WAV files made byte by byte, from the definition of the format."""

import struct
from pathlib import Path

import numpy as np

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def form(tag: int, channels: int, rate: int, width: int, bits: int | None = None, extensible: bool = False) -> bytes:
    bits, block = 8 * width if bits is None else bits, width * channels
    start = struct.pack("<HHIIHH", EXTENSIBLE if extensible else tag, channels, rate, rate * block, block, bits)
    return start + (struct.pack("<HHIH", 22, bits, 0, tag) + GUID if extensible else b"")


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def write_tone(
    path: Path, hertz: float = 440.0, seconds: float = 0.1, rate: int = 8000, channels: int = 1, peak: float = 0.5
) -> None:
    """Write a sine of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    samples = np.round(32767 * peak * np.sin(2 * np.pi * hertz * t)).astype("<i2").repeat(channels)
    path.write_bytes(riff(chunk(b"fmt ", form(PCM, channels, rate, 2)), chunk(b"data", samples.tobytes())))
