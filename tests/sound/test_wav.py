"""Every kind of samples is read as the format defines it, and what cannot be read is told with its place."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from spikewright.errors import DatasetCorrupt
from spikewright.sound import read_wav
from tests.sound.files import FLOAT, GUID, PCM, chunk, form, riff

# Samples of two channels, and what they mean, written out by hand.
SAMPLES: dict[int, tuple[bytes, list[list[float]]]] = {
    1: (bytes([0, 255, 128, 64]), [[-1.0, 0.0], [127 / 128, -0.5]]),
    2: (b"\x00\x80\xff\x7f\x00\x00\x00\x40", [[-1.0, 0.0], [32767 / 32768, 0.5]]),
    3: (b"\x00\x00\x80\xff\xff\x7f\x01\x00\x00\x00\x00\xc0", [[-1.0, 2.0**-23], [1 - 2.0**-23, -0.5]]),
    4: (b"\x00\x00\x00\x80\x00\x00\x00\x40\x00\x01\x00\x00\xff\xff\xff\xff", [[-1.0, 2.0**-23], [0.5, -(2.0**-31)]]),
}


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("width", SAMPLES)
def test_whole_numbers(tmp_path: Path, width: int, extensible: bool) -> None:
    content, meant = SAMPLES[width]
    path = tmp_path / "a.wav"
    path.write_bytes(riff(chunk(b"fmt ", form(PCM, 2, 11025, width, extensible=extensible)), chunk(b"data", content)))
    samples, rate = read_wav(path)
    assert (samples.dtype, rate) == (torch.float32, 11025)
    assert torch.equal(samples, torch.tensor(meant, dtype=torch.float32))


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("width", [4, 8])
def test_floats_are_kept(tmp_path: Path, width: int, extensible: bool) -> None:
    numbers = np.array([[0.25, -1.0], [1.5, 0.0], [1e-9, 1.0]], f"<f{width}")
    path = tmp_path / "a.wav"
    path.write_bytes(
        riff(
            chunk(b"JUNK", b"odd"),  # padded to an even place
            chunk(b"fmt ", form(FLOAT, 2, 48000, width, extensible=extensible)),
            chunk(b"fact", b"\3\0\0\0"),
            chunk(b"data", numbers.tobytes()),
            b"LIST\xff\xff\xff\xffcut",  # behind the samples nothing is read
        )
    )
    samples, rate = read_wav(str(path))
    assert rate == 48000 and torch.equal(samples, torch.from_numpy(numbers.T.astype(np.float32)))


def test_fewer_valid_bits_are_the_upper_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(riff(chunk(b"fmt ", form(PCM, 1, 8000, 2, bits=12)), chunk(b"data", b"\x00\x40\xf0\x7f")))
    assert read_wav(path)[0].tolist() == [[0.5, 2047 / 2048]]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_standard_library_writes_what_is_read(tmp_path: Path, width: int, channels: int) -> None:
    raw = np.random.default_rng(0).integers(0, 256, 7 * width * channels, np.uint8).tobytes()
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, 22050, 0, "NONE", ""))
        file.writeframes(raw)
    samples, rate = read_wav(path)
    whole = [int.from_bytes(raw[i : i + width], "little", signed=width > 1) for i in range(0, len(raw), width)]
    offset, scale = (128, 128) if width == 1 else (0, 2 ** (8 * width - 1))
    meant = torch.tensor([(number - offset) / scale for number in whole], dtype=torch.float64)
    assert rate == 22050 and samples.shape == (channels, 7)
    torch.testing.assert_close(samples, meant.view(7, channels).T.to(torch.float32), rtol=0, atol=0)


def test_scipy_reads_the_same(tmp_path: Path) -> None:
    scipy = pytest.importorskip("scipy.io.wavfile")
    for width, content in ((2, SAMPLES[2][0]), (4, SAMPLES[4][0])):
        data = riff(chunk(b"fmt ", form(PCM, 2, 8000, width, extensible=True)), chunk(b"data", content))
        (tmp_path / "a.wav").write_bytes(data)
        rate, raw = scipy.read(io.BytesIO(data))
        samples, own = read_wav(tmp_path / "a.wav")
        assert rate == own
        assert np.array_equal((raw.T / 2.0 ** (8 * width - 1)).astype(np.float32), samples.numpy())


FMT, DATA = chunk(b"fmt ", form(PCM, 1, 8000, 2)), chunk(b"data", b"\0\0\0\0")
WHOLE = riff(FMT, DATA)
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "at byte 0 it is a file that begins with b''"),
    "FLAC": (b"fLaC\0\0\0\x22" + bytes(30), "at byte 0 it is a FLAC file"),
    "big-endian": (b"RIFX" + WHOLE[4:], "at byte 0 it is a big-endian RIFX file"),
    "64 bits": (b"RF64" + WHOLE[4:], "at byte 0 it is an RF64 file"),
    "AVI": (b"RIFF\0\0\0\0AVI " + bytes(20), "at byte 0 it is a file that begins with b'RIFF"),
    "cut in the header": (WHOLE[:10], "at byte 0 "),
    "cut in the name of a chunk": (WHOLE[:40], "at byte 36 it ends within the header of a chunk"),
    "cut in the format": (WHOLE[:30], "at byte 12 its chunk b'fmt ' is to have 16 bytes, but 10 are left"),
    "cut in the samples": (WHOLE[:-2], "at byte 36 its chunk b'data' is to have 4 bytes, but 2 are left"),
    "cut before the samples": (WHOLE[:36], "at byte 36 it ends without samples"),
    "streamed": (riff(FMT, b"data\xff\xff\xff\xff\0\0"), "4294967295 is what programs write that do not know it yet"),
    "half a sample": (riff(FMT, chunk(b"data", b"\0\0\0")), "at byte 44 it has 3 bytes of samples"),
    "no sample": (riff(FMT, chunk(b"data", b"")), "at byte 44 it has 0 bytes of samples"),
    "no format": (riff(DATA), "at byte 12 the samples come before their format"),
    "short format": (riff(chunk(b"fmt ", bytes(14)), DATA), "at byte 20 its format has 14 bytes"),
    "mu-law": (riff(chunk(b"fmt ", form(7, 1, 8000, 1)), DATA), r"at byte 20 its samples are mu-law \(format 0x0007\)"),
    "MP3 inside": (riff(chunk(b"fmt ", form(0x55, 1, 8000, 1, extensible=True)), DATA), "its samples are MP3"),
    "ambisonic": (
        riff(chunk(b"fmt ", form(PCM, 1, 8000, 2, extensible=True).replace(GUID, bytes(14))), DATA),
        "names no registered kind of samples",
    ),
    "no channel": (riff(chunk(b"fmt ", form(PCM, 0, 8000, 2)), DATA), "PCM of 0 channels"),
    "no rate": (riff(chunk(b"fmt ", form(PCM, 1, 0, 2)), DATA), "0 Hz"),
    "64 bits whole": (riff(chunk(b"fmt ", form(PCM, 1, 8000, 8)), DATA), "64 bits"),
    "12 bits in 3 bytes": (riff(chunk(b"fmt ", form(PCM, 1, 8000, 3, bits=12)), DATA), "12 bits and 3 bytes"),
    "16 bits float": (riff(chunk(b"fmt ", form(FLOAT, 1, 8000, 2)), DATA), "float of 1 channels, 8000 Hz, 16 bits"),
    "NaN": (
        riff(
            chunk(b"fmt ", form(FLOAT, 2, 8000, 4)), chunk(b"data", np.array([0, 0, 0, np.nan], np.float32).tobytes())
        ),
        "at byte 56 sample 1 is nan",
    ),
    "too large for float32": (
        riff(chunk(b"fmt ", form(FLOAT, 1, 8000, 8)), chunk(b"data", np.array([1e300]).tobytes())),
        "at byte 44 sample 0 is inf",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=message) as caught:
        read_wav(path)
    assert str(path) in str(caught.value) and "ffmpeg" in str(caught.value)


def test_every_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for size in range(len(WHOLE)):
        path.write_bytes(WHOLE[:size])
        with pytest.raises(DatasetCorrupt, match="at byte"):
            read_wav(path)
    with pytest.raises(DatasetCorrupt, match="No such file"):
        read_wav(tmp_path / "b.wav")
    with pytest.raises(DatasetCorrupt, match="a directory"):
        read_wav(tmp_path)
