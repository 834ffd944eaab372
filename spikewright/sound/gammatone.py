"""A bank of gammatone filters, a model of the places along the cochlea."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_count
from spikewright.sound.frames import check_samples, framed, hann
from spikewright.sound.mel import check_band, check_times

_ORDER = 4
_WIDTH = 1.019
"""Decay over equivalent rectangular bandwidth, at which a filter of order 4 has that bandwidth."""
_TAIL = 22.0
"""Where a response is cut, in units of its decay: there its envelope is 2e-6 of its peak."""


def erb(hertz: Tensor) -> Tensor:
    """Return the equivalent rectangular bandwidth of hearing, `24.7 (4.37 f / 1000 + 1)` Hz.

    Args:
        hertz: Frequencies f of at least 0, any shape.

    >>> import torch
    >>> from spikewright.sound import erb
    >>> erb(torch.tensor([0.0, 1000.0]))
    tensor([ 24.7000, 132.6390])
    """
    return 24.7 * (4.37 * hertz / 1000 + 1)


def erb_rate(hertz: Tensor) -> Tensor:
    """Return frequencies on the scale on which a unit is one bandwidth, `21.4 log10(4.37 f / 1000 + 1)`.

    Args:
        hertz: Frequencies f of at least 0, any shape.
    """
    return 21.4 * torch.log10(4.37 * hertz / 1000 + 1)


@dataclass(frozen=True)
class GammatoneBank:
    r"""Energies behind gammatone filters of order 4, whose centres are equally far apart in bandwidths of hearing.

    With :math:`c_b` the centres at equal distances of `erb_rate` from `low` to `high`, both included, and * the causal
    convolution,

    .. math::
        g_b(t) &= a_b\, t^3 e^{-2\pi\, 1.019\, \mathrm{ERB}(c_b)\, t} \cos(2\pi c_b t), \qquad t \ge 0, \\
        y_b &= g_b * x, \qquad E_b[t] = \textstyle\sum_n w_n\, y_b[t \cdot \text{step} + n]^2 / \sum_n w_n,

    with :math:`a_b` such that a tone at :math:`c_b` passes with factor 1, and w a Hann window.  Responses are cut where
    their envelope is 2e-6 of its peak; the convolution is done by FFT.  Frames are those of `MelBank`.  Called on
    `[*lead, sample]` it returns `[frame, *lead, band]`.

    Args:
        rate: Samples per second of the recordings.  Whole number of at least 1.
        bands: Number of bands.  From 1 to 10**6.  Default: 40.
        window: Length of a frame in seconds.  > 0, at least 2 samples.  Default: 0.025.
        step: Time from a frame to the next in seconds.  > 0, at most `window`.  Default: 0.01.
        low: Lowest centre in Hz.  In [0, high).  Default: 50.0.
        high: Highest centre in Hz.  At most half of `rate`.  Default: None, 0.45 times `rate`.

    Raises:
        ConfigError: An argument is out of range.

    Reference:
        Patterson, Nimmo-Smith, Holdsworth and Rice, An Efficient Auditory Filterbank Based on the Gammatone Function,
        APU Report 2341, 1988; Glasberg and Moore, Derivation of Auditory Filter Shapes from Notched-Noise Data, Hearing
        Research 47, 1990.

    >>> import math, torch
    >>> from spikewright.sound import GammatoneBank
    >>> bank = GammatoneBank(8000, bands=9, low=100.0, high=3000.0)
    >>> tone = torch.sin(2 * math.pi * float(bank.centres[4]) / 8000 * torch.arange(2400))
    >>> energy = bank(tone)
    >>> energy.shape, int(energy[-3].argmax()), round(float(energy[-3, 4]), 2)
    (torch.Size([29, 9]), 4, 0.5)
    """

    rate: int
    bands: int = 40
    window: float = 0.025
    step: float = 0.01
    low: float = 50.0
    high: float | None = None

    def __post_init__(self) -> None:
        check_count("GammatoneBank", "rate", self.rate, "it is a number of samples in a second")
        check_count("GammatoneBank", "bands", self.bands, "there is at least one band", most=MOST)
        check_times("GammatoneBank", self.rate, self.window, self.step)
        check_band("GammatoneBank", self.rate, self.low, 0.45 * self.rate if self.high is None else self.high)

    @property
    def centres(self) -> Tensor:
        """Centres of the filters in Hz, float64 `[bands]`."""
        top = 0.45 * self.rate if self.high is None else self.high
        low, high = erb_rate(torch.tensor([self.low, top], dtype=torch.float64)).tolist()
        return (10 ** (torch.linspace(low, high, self.bands, dtype=torch.float64) / 21.4) - 1) * 1000 / 4.37

    @property
    def responses(self) -> Tensor:
        """Impulse responses of the filters, float64 `[bands, sample]`, behind its end each is 0."""
        centres = self.centres.unsqueeze(1)
        decay = 2 * math.pi * _WIDTH * erb(centres) / self.rate
        n = torch.arange(math.ceil(_TAIL / float(decay.min())), dtype=torch.float64)
        envelope = n ** (_ORDER - 1) * (-decay * n).exp() * (decay * n <= _TAIL)
        turns = 2 * math.pi * centres / self.rate * n
        response = envelope * turns.cos()
        gain = torch.complex((response * turns.cos()).sum(1), -(response * turns.sin()).sum(1)).abs()
        return response / gain.unsqueeze(1)

    def filtered(self, samples: Tensor) -> Tensor:
        """Return what passes each filter, `[*lead, band, sample]`.

        Args:
            samples: Samples at `rate`, floating-point `[*lead, sample]`.

        Raises:
            ShapeError: `samples` is no such tensor.
            InputError: It holds a NaN or an infinity.
        """
        samples, responses = check_samples("GammatoneBank", samples), self.responses.to(samples)
        size = samples.shape[-1] + responses.shape[-1] - 1  # so that the end does not come back at the start
        spectrum = torch.fft.rfft(samples, size).unsqueeze(-2) * torch.fft.rfft(responses, size)
        return torch.fft.irfft(spectrum, size)[..., : samples.shape[-1]]

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the energies of a recording, `[frame, *lead, band]`.

        Args:
            samples: Samples at `rate`, floating-point `[*lead, sample]`.

        Raises:
            ShapeError: `samples` is no such tensor.
            InputError: It holds a NaN or an infinity.
        """
        window = round(self.window * self.rate)
        weights = hann(window, samples := check_samples("GammatoneBank", samples))
        frames = framed(self.filtered(samples).square(), window, round(self.step * self.rate))
        return (frames @ (weights / weights.sum())).movedim(-1, 0)
