"""Filter banks against explicit programs and the definitions of their scales."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.sound import GammatoneBank, MelBank, erb, erb_rate, hertz, to_mel
from spikewright.sound.frames import framed

NOISE = torch.randn(1003, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tone(frequency: float, samples: int = 4000, rate: int = 8000) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency / rate * torch.arange(samples, dtype=torch.float64))


def slow_mel(x: list[float], bank: MelBank) -> list[list[float]]:
    """Energies by sums over samples, bins and bands, with the formulas of the scales written out."""
    width, step, size = round(bank.window * bank.rate), round(bank.step * bank.rate), bank.points

    def up(f: float) -> float:
        if bank.scale == "htk":
            return 2595 * math.log10(1 + f / 700)
        return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def down(m: float) -> float:
        if bank.scale == "htk":
            return 700 * (10 ** (m / 2595) - 1)
        return 200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)

    low, high = up(bank.low), up(bank.rate / 2 if bank.high is None else bank.high)
    c = [down(low + (high - low) * i / (bank.bands + 1)) for i in range(bank.bands + 2)]
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / width) for n in range(width)]
    turns = [np.exp(-2j * np.pi * k * np.arange(width) / size) for k in range(size // 2 + 1)]
    rows, start = [], 0
    while not rows or start + width - step < len(x):
        frame = np.array([window[n] * (x[start + n] if start + n < len(x) else 0.0) for n in range(width)])
        row = [0.0] * bank.bands
        for k in range(size // 2 + 1):
            power = abs(complex(frame @ turns[k])) ** 2 / sum(window) ** 2
            f = k * bank.rate / size
            for b in range(bank.bands):
                h = max(0.0, min((f - c[b]) / (c[b + 1] - c[b]), (c[b + 2] - f) / (c[b + 2] - c[b + 1])))
                row[b] += h * power * (2 / (c[b + 2] - c[b]) if bank.height == "area" else 1)
        rows.append(row)
        start += step
    return rows


BANKS = {
    "htk": MelBank(8000, bands=12),
    "slaney, area": MelBank(8000, bands=15, scale="slaney", height="area", low=60.0, high=3500.0),
    "odd": MelBank(11025, bands=5, window=0.011, step=0.0071, fft=200, low=100.0),
}


@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("samples", [503, 150])
def test_mel_energies(name: str, samples: int) -> None:
    bank = BANKS[name]
    meant = torch.tensor(slow_mel(NOISE[:samples].tolist(), bank), dtype=torch.float64)
    torch.testing.assert_close(bank(NOISE[:samples]), meant, rtol=1e-9, atol=1e-15)


def test_points_of_the_scales() -> None:
    """Values that follow from the formulas by hand: 1000 Hz is 1000 mel of HTK, to a tenth, and 15 of Slaney."""
    assert float(to_mel(torch.tensor(1000.0))) == pytest.approx(999.99, abs=0.01)
    assert to_mel(torch.tensor([0.0, 200.0, 1000.0, 6400.0]), "slaney").tolist() == pytest.approx([0, 3, 15, 42])
    f = torch.linspace(0, 20000, 501, dtype=torch.float64)
    for scale in ("htk", "slaney"):
        torch.testing.assert_close(hertz(to_mel(f, scale), scale), f, rtol=1e-12, atol=1e-9)


def test_a_tone_is_in_its_band_whatever_the_window() -> None:
    for window in (0.032, 0.064):
        bank = MelBank(8000, bands=20, window=window, step=0.016)
        for band in (5, 11, 18):
            x = tone(round(float(bank.centres[band]) * window) / window)  # on a bin
            energy = bank(x)[3]
            assert int(energy.argmax()) == band
            assert 0.1 < float(energy.sum()) < 0.5  # about (1/2)^2, spread by the window
            torch.testing.assert_close(bank(3 * x)[3], 9 * energy)


def test_every_sample_is_in_a_frame() -> None:
    for samples in range(1, 40):
        frames = framed(torch.arange(1.0, samples + 1), 8, 3)
        assert set(range(1, samples + 1)) <= set(frames.flatten().int().tolist())
        assert frames[-1].any() and len(frames) == (1 if samples <= 8 else 1 + -(-(samples - 8) // 3))


def test_leading_axes() -> None:
    both = torch.stack([NOISE, NOISE.flip(0)])
    for bank in MelBank(8000, bands=7), GammatoneBank(8000, bands=7):
        energy = bank(both)
        assert energy.shape[1:] == (2, 7)
        torch.testing.assert_close(energy[:, 1], bank(NOISE.flip(0)))
        assert bank(NOISE.float()).dtype == torch.float32


def test_gammatone_is_its_definition() -> None:
    """Responses sampled from the formula and convolved sample by sample; a tone at the centre passes with factor 1."""
    bank = GammatoneBank(8000, bands=6, low=80.0, high=3600.0)
    n = np.arange(3000)
    for band, centre in enumerate(bank.centres.tolist()):
        b = 1.019 * 24.7 * (4.37 * centre / 1000 + 1)
        g = (n / 8000) ** 3 * np.exp(-2 * np.pi * b * n / 8000) * np.cos(2 * np.pi * centre * n / 8000)
        g /= abs(np.sum(g * np.exp(-2j * np.pi * centre * n / 8000)))
        meant = np.convolve(NOISE.numpy(), g)[: len(NOISE)]
        np.testing.assert_allclose(bank.filtered(NOISE)[band].numpy(), meant, rtol=0, atol=1e-5 * np.abs(meant).max())
        passed = bank.filtered(tone(centre))[band, -800:]
        assert float(passed.abs().max()) == pytest.approx(1, abs=0.02)


def test_gammatone_has_the_bandwidth_of_hearing() -> None:
    """The area under the squared gain, over its peak, is the equivalent rectangular bandwidth."""
    bank = GammatoneBank(16000, bands=5, low=200.0, high=4000.0)
    for centre, response in zip(bank.centres, bank.responses):
        gain = torch.fft.rfft(response, 2**18).abs().square()
        area = float(gain.sum()) * 16000 / 2**18
        assert area == pytest.approx(float(erb(centre)), rel=0.01)
        assert float(gain.max()) == pytest.approx(1, rel=0.01)
    places = erb_rate(bank.centres)
    torch.testing.assert_close(places.diff(), places.diff()[:1].expand(4))
    assert bank.centres[[0, -1]].tolist() == pytest.approx([200, 4000])


def test_gammatone_energies() -> None:
    """The mean square under a Hann window: half of the squared amplitude of a tone."""
    bank = GammatoneBank(8000, bands=9, low=100.0, high=3000.0, window=0.04, step=0.02)
    filtered = bank.filtered(NOISE).numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(320) / 320)
    padded = np.pad(filtered, ((0, 0), (0, 500)))
    meant = [(padded[:, s : s + 320] ** 2 * window).sum(1) / window.sum() for s in range(0, 801, 160)]
    np.testing.assert_allclose(bank(NOISE).numpy(), np.stack(meant), rtol=1e-9, atol=1e-14)
    assert float(bank(2 * tone(float(bank.centres[4])))[10, 4]) == pytest.approx(2, rel=0.02)


REFUSED: dict[str, tuple[Any, str]] = {
    "too many bands": (lambda: MelBank(8000, bands=120), "has no point of the spectrum inside"),
    "above half the rate": (lambda: MelBank(8000, high=5000.0), "up to half of its rate, 4000 Hz"),
    "upside down": (lambda: GammatoneBank(8000, low=3000.0, high=200.0), "Give 0 <= low < high <= 4000"),
    "gaps": (lambda: MelBank(8000, window=0.01, step=0.02), "no sample may fall between two frames"),
    "one sample": (lambda: GammatoneBank(100, window=0.01, step=0.01), "makes frames of 1 samples"),
    "small FFT": (lambda: MelBank(8000, fft=128), "a frame has to fit into it"),
    "a name": (lambda: MelBank(8000, scale="bark"), r"MelBank\(scale='bark'\) is unknown"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_banks_that_are_none(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        make()


def test_samples_that_are_none() -> None:
    for bank in MelBank(8000), GammatoneBank(8000):
        for wrong in torch.zeros(0), torch.zeros(9, dtype=torch.int16), torch.tensor(1.0):
            with pytest.raises(ShapeError, match="A recording is floating-point numbers"):
                bank(wrong)
        with pytest.raises(InputError, match="a NaN or an infinity"):
            bank(torch.tensor([0.0, math.inf]))


@pytest.mark.long
def test_gammatone_of_scipy() -> None:
    """Its finite filters of order 4 have the same gain, from zero to half of the rate, once both are 1 at the peak."""
    signal = pytest.importorskip("scipy.signal")
    bank = GammatoneBank(16000, bands=3, low=300.0, high=3000.0)
    for centre, response in zip(bank.centres.tolist(), bank.responses.numpy()):
        theirs, _ = signal.gammatone(centre, "fir", fs=16000, order=4, numtaps=len(response))
        own, other = (np.abs(np.fft.rfft(each, 65536)) for each in (response, theirs))
        np.testing.assert_allclose(own / own.max(), other / other.max(), rtol=0, atol=1e-5)
