"""From energies to numbers of a common size: logarithm and normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_choice, check_flag, check_within
from spikewright.errors import InputError


@dataclass(frozen=True)
class LogCompression:
    r"""Logarithm of energies, `ln(E + floor)`.

    Args:
        floor: Energy that is added, so that silence is a finite number.  A sine of full scale has about 0.25.  > 0.
            Default: 1e-8.

    Raises:
        ConfigError: `floor` is not above 0.

    >>> import torch
    >>> from spikewright.sound import LogCompression
    >>> LogCompression(1e-4)(torch.tensor([0.0, 1.0]))
    tensor([-9.2103e+00,  1.0001e-04])
    """

    floor: float = 1e-8

    def __post_init__(self) -> None:
        check_within("LogCompression", "floor", self.floor, "(0, inf)", "the logarithm of 0 is not finite")

    def __call__(self, energy: Tensor) -> Tensor:
        """Return the logarithms.

        Args:
            energy: Numbers of at least 0, any shape.

        Raises:
            InputError: One is negative.
        """
        check_tensor("energy", energy, "[frame, *band]")
        if energy.numel() and not bool((energy >= 0).all()):
            raise InputError(
                "LogCompression got an energy that is negative or NaN. Energies are at least 0. Give those of a filter "
                "bank, before any normalisation."
            )
        return (energy + self.floor).log()


@dataclass(frozen=True)
class Normalisation:
    r"""Affine map of features to a common range, with statistics of each recording or of the training part alone.

    .. math::
        y = \frac{x - \mu}{\sigma} \ \text{("standard")} \qquad\text{or}\qquad
        y = \min\Bigl(1, \max\Bigl(0, \frac{x - \min}{\max - \min}\Bigr)\Bigr) \ \text{("unit")},

    over all frames, of each band or of all bands together.  Where a deviation or a range is 0, it counts as 1.

    Args:
        to: "standard" (mean 0, standard deviation 1) or "unit" (from 0 to 1).  Default: "standard".
        over: "recording", statistics of each recording, which takes its loudness out; or "training", one set of
            statistics, of the recordings given to `fit`.  Default: "recording".
        by_band: True takes statistics of each band, False of all bands together.  Default: False.

    Raises:
        ConfigError: A choice is unknown, or `by_band` is no bool.

    >>> import torch
    >>> from spikewright.sound import Normalisation
    >>> scaler = Normalisation("unit", over="training").fit([torch.tensor([[1.0], [3.0]])])
    >>> scaler(torch.tensor([[2.0], [9.0]])).flatten()
    tensor([0.5000, 1.0000])
    """

    to: Literal["standard", "unit"] = "standard"
    over: Literal["recording", "training"] = "recording"
    by_band: bool = False

    def __post_init__(self) -> None:
        check_choice("Normalisation", "to", self.to, ("standard", "unit"))
        check_choice("Normalisation", "over", self.over, ("recording", "training"))
        check_flag("Normalisation", by_band=self.by_band)

    def fit(self, training: Sequence[Tensor]) -> "Scaler":
        """Return the map, with the statistics of the training part where they are wanted.

        Args:
            training: Features of the training recordings, `[frame, *band]` each; at least one.

        Raises:
            InputError: There is none.
        """
        if not training:
            raise InputError(
                "Normalisation.fit got no recording. Statistics need at least one. Give the training part."
            )
        return Scaler(self, None if self.over == "recording" else self.statistics(torch.cat(list(training))))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is subtracted and what is divided by.

        Args:
            x: Features, `[frame, *band]`.
        """
        axes = (0,) if self.by_band else tuple(range(x.dim()))
        if self.to == "unit":
            shift = x.amin(axes)
            scale = x.amax(axes) - shift
        else:
            shift, scale = x.mean(axes), x.std(axes, correction=0)
        return shift, torch.where(scale > 0, scale, 1)


@dataclass(frozen=True, eq=False)
class Scaler:
    """A `Normalisation` with its statistics.

    Args:
        normalisation: The map.
        fixed: What is subtracted and divided by, scalars or `[*band]`.  None takes those of each recording.
    """

    normalisation: Normalisation
    fixed: tuple[Tensor, Tensor] | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features of a recording on the common range, `[frame, *band]`.

        Args:
            x: Features, `[frame, *band]`.
        """
        shift, scale = self.normalisation.statistics(x) if self.fixed is None else self.fixed
        y = (x - shift) / scale
        return y.clamp(0, 1) if self.normalisation.to == "unit" else y
