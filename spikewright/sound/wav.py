"""Reader of WAV files: RIFF chunks, PCM of 8 to 32 bits and floating point.

Python's `wave` reads the same PCM files, but before 3.12 neither `WAVE_FORMAT_EXTENSIBLE` nor, in any version, floating
point; and it does not say where a damaged file breaks off.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright.data.files import read_bytes
from spikewright.errors import DatasetCorrupt

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_COMPRESSED = {2: "Microsoft ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x55: "MP3"}
_GUID = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in the sub-format of an extensible file."""
_FOREIGN = {
    b"RIFX": "a big-endian RIFX file",
    b"RF64": "an RF64 file",
    b"BW64": "a BW64 file",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3\x03": "an MP3 file",
    b"ID3\x04": "an MP3 file",
    b"NIST": "a NIST SPHERE file",
    b"FORM": "an AIFF file",
    b".snd": "an AU file",
}
_UNKNOWN_SIZE = 2**32 - 1


@dataclass(frozen=True)
class _Format:
    tag: int
    channels: int
    rate: int
    width: int
    """Bytes of a sample; fewer valid bits are the upper ones, so that the scale is that of all bits."""


def read_wav(path: Path | str) -> tuple[Tensor, int]:
    r"""Return the samples of a WAV file, and their rate.

    Whole numbers are divided by half of their range, so that they are in [-1, 1): 8 bits are unsigned around 128; 16,
    24 and 32 bits are signed.  Where fewer bits are valid than are stored, they are the upper ones.  32 bits are
    rounded to float32.  Floating-point samples (32 or 64 bits) are returned as they are; a file may hold some beyond 1.
    Chunks other than the format and the samples are passed over.  Other rates are not converted.

    Args:
        path: A RIFF/WAVE file, PCM or IEEE float, plain or `WAVE_FORMAT_EXTENSIBLE`, of at most 1 GiB.

    Returns:
        float32 `[channel, sample]`, with at least one channel and one sample; and the samples per second.

    Raises:
        DatasetCorrupt: The file cannot be opened, is cut, empty, compressed or of another format, or holds a NaN or an
            infinity; the message has the byte where that shows.

    Reference:
        IBM and Microsoft, Multimedia Programming Interface and Data Specifications 1.0, 1991; Microsoft, Multiple
        channel audio data and WAVE files, 2001.

    >>> import tempfile, wave, pathlib
    >>> from spikewright.sound import read_wav
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.wav"
    >>> with wave.open(str(path), "wb") as file:
    ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
    ...     file.writeframes(b"\x00\x40\x00\x80")
    >>> read_wav(path)
    (tensor([[ 0.5000, -1.0000]]), 8000)
    """
    path = Path(path).expanduser()
    content = read_bytes(path)
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        found = _FOREIGN.get(content[:4], f"a file that begins with {content[:12]!r}")
        raise _refusal(path, 0, f"it is {found}", "A WAV file begins with 'RIFF', its size and 'WAVE'.")
    form: _Format | None = None
    for name, start, size in _chunks(path, content):
        if name == b"fmt ":
            form = _format(path, start, content[start : start + size])
        elif name == b"data":
            if form is None:
                raise _refusal(
                    path, start - 8, "the samples come before their format", "Nothing says how to read them."
                )
            return _samples(path, start, content[start : start + size], form), form.rate
    raise _refusal(
        path, len(content), "it ends without samples (a chunk 'data')", "The file was cut, or never finished."
    )


def _chunks(path: Path, content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and size of each chunk; each is checked to be there as a whole when it is asked for."""
    place = 12
    while place < len(content):
        if place + 8 > len(content):
            raise _refusal(path, place, "it ends within the header of a chunk", "The file was cut.")
        name, size = struct.unpack_from("<4sI", content, place)
        left = len(content) - place - 8
        if size > left:
            streamed = " (4294967295 is what programs write that do not know it yet)" if size == _UNKNOWN_SIZE else ""
            raise _refusal(
                path, place, f"its chunk {name!r} is to have {size} bytes{streamed}, but {left} are left", "It was cut."
            )
        yield name, place + 8, size
        place += 8 + size + size % 2  # chunks begin at even places


def _format(path: Path, start: int, chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise _refusal(path, start, f"its format has {len(chunk)} bytes", "A format has at least 16.")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _GUID:
            raise _refusal(path, start, "its extensible format names no registered kind of samples", "It is not PCM.")
        tag = int.from_bytes(chunk[24:26], "little")
    if tag not in (_PCM, _FLOAT):
        kind = _COMPRESSED.get(tag, "of an unknown kind")
        raise _refusal(path, start, f"its samples are {kind} (format {tag:#06x})", "PCM and IEEE float are read.")
    width = block // channels if channels else 0
    whole = channels and rate and width * channels == block and width * 8 - 7 <= bits <= width * 8
    if not whole or width not in ((1, 2, 3, 4) if tag == _PCM else (4, 8)):
        kind = "PCM" if tag == _PCM else "float"
        raise _refusal(
            path,
            start,
            f"its format is {kind} of {channels} channels, {rate} Hz, {bits} bits and {block} bytes a sample",
            "PCM has 8 to 32 bits and float 32 or 64, of at least one channel and 1 Hz.",
        )
    return _Format(tag, channels, rate, width)


def _samples(path: Path, start: int, chunk: bytes, form: _Format) -> Tensor:
    block = form.width * form.channels
    if not chunk or len(chunk) % block:
        raise _refusal(path, start, f"it has {len(chunk)} bytes of samples", f"A sample of all channels has {block}.")
    flat = _numbers(chunk, form)
    if form.tag == _FLOAT:
        bad = np.flatnonzero(~np.isfinite(flat))
        if len(bad):
            place = start + form.width * int(bad[0])
            raise _refusal(path, place, f"sample {int(bad[0]) // form.channels} is {flat[bad[0]]}", "It is no sound.")
    return torch.from_numpy(np.ascontiguousarray(flat.reshape(-1, form.channels).T))


def _numbers(chunk: bytes, form: _Format) -> np.ndarray[Any, np.dtype[np.float32]]:
    if form.tag == _FLOAT:
        with np.errstate(over="ignore"):  # of 64 bits, told as an infinity
            return np.frombuffer(chunk, f"<f{form.width}").astype(np.float32)
    if form.width == 1:
        return ((np.frombuffer(chunk, np.uint8).astype(np.float32) - 128) / 128).astype(np.float32)
    if form.width == 3:  # as the upper bytes of 32 bits
        wide = np.zeros((len(chunk) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(chunk, np.uint8).reshape(-1, 3)
        chunk = wide.tobytes()
    whole = np.frombuffer(chunk, "<i2" if form.width == 2 else "<i4")
    return (whole / 2.0 ** (8 * whole.itemsize - 1)).astype(np.float32)


def _refusal(path: Path, place: int, found: str, why: str) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{path} was read as a WAV file, but at byte {place} {found}. {why} Fetch the file again, or convert it, such "
        "as with: ffmpeg -i FILE -c:a pcm_s16le NEW.wav"
    )
