"""The mel scale and a bank of triangular filters over the short-time spectrum."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_choice, check_count, check_within
from spikewright.errors import ConfigError
from spikewright.sound.frames import check_samples, framed, hann

Scale = Literal["htk", "slaney"]
Area = Literal["peak", "area"]

_LINEAR, _BREAK = 200 / 3, 1000.0
_STEP = math.log(6.4) / 27


def to_mel(hertz: Tensor, scale: Scale = "htk") -> Tensor:
    r"""Return frequencies on the mel scale.

    .. math::
        m_{\text{htk}} = 2595 \log_{10}(1 + f/700), \qquad
        m_{\text{slaney}} = \begin{cases} 3f/200 & f < 1000 \\ 15 + 27 \log_{6.4}(f/1000) & f \ge 1000 \end{cases}

    Args:
        hertz: Frequencies of at least 0, any shape.
        scale: "htk" or "slaney".  Default: "htk".

    >>> import torch
    >>> from spikewright.sound import to_mel
    >>> to_mel(torch.tensor([1000.0, 6400.0]), "slaney")
    tensor([15., 42.])
    """
    check_choice("to_mel", "scale", scale, ("htk", "slaney"))
    if scale == "htk":
        return 2595 * torch.log10(1 + hertz / 700)
    return torch.where(hertz < _BREAK, hertz / _LINEAR, 15 + (hertz.clamp_min(_BREAK) / _BREAK).log() / _STEP)


def hertz(mels: Tensor, scale: Scale = "htk") -> Tensor:
    """Return the frequencies of numbers on the mel scale, the inverse of `to_mel`.

    Args:
        mels: Numbers of at least 0, any shape.
        scale: "htk" or "slaney".  Default: "htk".
    """
    check_choice("hertz", "scale", scale, ("htk", "slaney"))
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    return torch.where(mels < 15, mels * _LINEAR, _BREAK * ((mels - 15) * _STEP).exp())


@dataclass(frozen=True)
class MelBank:
    r"""Energies in triangular bands that are equally wide on the mel scale, of frames under a Hann window.

    With :math:`x_t` frame t, w the window, F the FFT of `fft` points (frames are padded with zeros), :math:`f_k` the
    frequency of bin k, and :math:`c_0 < \dots < c_{B+1}` frequencies at equal distances in mel from `low` to `high`,

    .. math::
        E_b[t] &= \textstyle\sum_k h_b(f_k)\, |F(w x_t)_k|^2 / (\textstyle\sum_n w_n)^2, \\
        h_b(f) &= g_b \max\Bigl(0, \min\Bigl(\frac{f - c_{b-1}}{c_b - c_{b-1}},
            \frac{c_{b+1} - f}{c_{b+1} - c_b}\Bigr)\Bigr),

    with :math:`g_b = 1` ("peak"), or :math:`g_b = 2 / (c_{b+1} - c_{b-1})` ("area", in 1/Hz).  The division by the sum
    of the window makes the energy of a sine that of its amplitude, not of the length of the window.

    Frame t begins at sample `t * step`; zeros behind the end let every sample be in a frame.  Called on
    `[*lead, sample]` it returns `[frame, *lead, band]`.

    Args:
        rate: Samples per second of the recordings.  Whole number of at least 1.
        bands: Number of bands B.  From 1 to 10**6.  Default: 40.
        window: Length of a frame in seconds.  > 0, at least 2 samples.  Default: 0.025.
        step: Time from a frame to the next in seconds.  > 0, at most `window`.  Default: 0.01.
        low: Lower end of the first band in Hz.  In [0, high).  Default: 0.0.
        high: Upper end of the last band in Hz.  At most half of `rate`, which is what None stands for.  Default: None.
        scale: Formula of the mel scale, "htk" or "slaney".  Default: "htk".
        height: What triangles have in common, "peak" or "area".  Default: "peak".
        fft: Points of the Fourier transform, at least the samples of a frame.  Default: None, the next power of 2.

    Raises:
        ConfigError: An argument is out of range, or a band is so narrow that it holds no point of the spectrum.

    Reference:
        Davis and Mermelstein, Comparison of Parametric Representations for Monosyllabic Word Recognition, IEEE
        Transactions on Acoustics, Speech and Signal Processing 28, 1980.  The formulas are those of HTK and of Slaney's
        Auditory Toolbox.

    >>> import math, torch
    >>> from spikewright.sound import MelBank
    >>> tone = torch.sin(2 * math.pi * 1000 / 8000 * torch.arange(800))
    >>> bank = MelBank(8000, bands=20)
    >>> energy = bank(tone)
    >>> energy.shape, round(float(bank.centres[energy[3].argmax()]))
    (torch.Size([9, 20]), 1033)
    """

    rate: int
    bands: int = 40
    window: float = 0.025
    step: float = 0.01
    low: float = 0.0
    high: float | None = None
    scale: Scale = "htk"
    height: Area = "peak"
    fft: int | None = None

    def __post_init__(self) -> None:
        check_count("MelBank", "rate", self.rate, "it is a number of samples in a second")
        check_count("MelBank", "bands", self.bands, "there is at least one band", most=MOST)
        check_times("MelBank", self.rate, self.window, self.step)
        check_choice("MelBank", "scale", self.scale, ("htk", "slaney"))
        check_choice("MelBank", "height", self.height, ("peak", "area"))
        check_band("MelBank", self.rate, self.low, self.high)
        if self.fft is not None:
            check_count("MelBank", "fft", self.fft, "a frame has to fit into it", self.window_samples, MOST)
        empty = (self.weights == 0).all(1).nonzero().flatten()
        if len(empty):
            edges = self.edges[empty[0] : empty[0] + 3 : 2].tolist()
            raise ConfigError(
                f"MelBank(bands={self.bands}): band {int(empty[0])}, from {edges[0]:.1f} to {edges[1]:.1f} Hz, has no "
                f"point of the spectrum inside, whose points are {self.rate / self.points:.1f} Hz apart, so it would "
                "be silent always. Take fewer bands, a longer window, or a larger fft."
            )

    @property
    def window_samples(self) -> int:
        """Samples of a frame."""
        return round(self.window * self.rate)

    @property
    def step_samples(self) -> int:
        """Samples from a frame to the next."""
        return round(self.step * self.rate)

    @property
    def points(self) -> int:
        """Points of the Fourier transform."""
        return self.fft or 2 ** math.ceil(math.log2(self.window_samples))

    @property
    def edges(self) -> Tensor:
        """The frequencies :math:`c_0, ..., c_{B+1}` in Hz, float64 `[bands + 2]`."""
        ends = torch.tensor([self.low, self.high or self.rate / 2], dtype=torch.float64)
        low, high = to_mel(ends, self.scale).tolist()
        return hertz(torch.linspace(low, high, self.bands + 2, dtype=torch.float64), self.scale)

    @property
    def centres(self) -> Tensor:
        """Frequencies at which the bands are highest, in Hz, float64 `[bands]`."""
        return self.edges[1:-1]

    @property
    def weights(self) -> Tensor:
        """Weights :math:`h_b(f_k)` of the bins in each band, float64 `[bands, points // 2 + 1]`."""
        bins = torch.arange(self.points // 2 + 1, dtype=torch.float64) * self.rate / self.points
        left, middle, right = (self.edges[i : i + self.bands].unsqueeze(1) for i in range(3))
        rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
        triangles = torch.minimum(rising, falling).clamp_min(0)
        return triangles * 2 / (right - left) if self.height == "area" else triangles

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the energies of a recording, `[frame, *lead, band]`.

        Args:
            samples: Samples at `rate`, floating-point `[*lead, sample]`.

        Raises:
            ShapeError: `samples` is no such tensor.
            InputError: It holds a NaN or an infinity.
        """
        frames = framed(check_samples("MelBank", samples), self.window_samples, self.step_samples)
        window = hann(self.window_samples, samples)
        power = torch.fft.rfft(frames * window, self.points).abs().square() / window.sum().square()
        return (power @ self.weights.to(power).T).movedim(-2, 0)


def check_times(owner: str, rate: int, window: float, step: float) -> None:
    """Raise `ConfigError` unless frames have at least two samples, follow one another, and leave none out."""
    check_within(owner, "window", window, "(0, inf)", "a frame has a length, in seconds")
    check_within(owner, "step", step, "(0, inf)", "frames follow one another, in seconds")
    if round(window * rate) < 2 or round(step * rate) < 1 or step > window:
        raise ConfigError(
            f"{owner}(window={window}, step={step}) at {rate} Hz makes frames of {round(window * rate)} samples, "
            f"{round(step * rate)} apart. A frame has at least 2 samples, and no sample may fall between two frames. "
            "Give seconds, such as window=0.025 and step=0.01."
        )


def check_band(owner: str, rate: int, low: float, high: float | None) -> None:
    """Raise `ConfigError` unless two ends of a range of frequencies are in order and below half of the rate."""
    check_within(owner, "low", low, "[0, inf)", "a frequency in Hz is not negative")
    if high is not None:
        check_within(owner, "high", high, "(0, inf)", "a frequency in Hz is above 0")
    top = rate / 2 if high is None else high
    if not low < top <= rate / 2:
        raise ConfigError(
            f"{owner}(low={low}, high={high}) at {rate} Hz: bands go from low up to high, and a recording holds "
            f"frequencies up to half of its rate, {rate / 2:g} Hz. Give 0 <= low < high <= {rate / 2:g}."
        )
