"""Spikes from the energies of bands."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import MOST, check_count, check_row, check_within
from spikewright.errors import ConfigError, InputError, ShapeError


class Coding(ABC):
    """Base class of codings: numbers `[frame, *band]` become currents or spikes `[step, *feature]`."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return the input of a network, `[step, *feature]`.

        Args:
            x: Floating-point numbers, `[frame, *band]`.
        """

    @abstractmethod
    def decode(self, spikes: Tensor) -> Tensor:
        """Return what is known of the numbers, `[frame, *band]`; how near it comes is said by the class.

        Args:
            spikes: What a call returned, `[step, *feature]`.
        """


@dataclass(frozen=True)
class Analog(Coding):
    """The numbers themselves as a current, one step a frame: float32 `[frame, *band]`; `decode` returns them.

    >>> import torch
    >>> from spikewright.sound import Analog
    >>> Analog()(torch.tensor([[0.5], [-1.0]])).flatten()
    tensor([ 0.5000, -1.0000])
    """

    def __call__(self, x: Tensor) -> Tensor:
        return _checked("Analog", x).to(torch.float32)

    def decode(self, spikes: Tensor) -> Tensor:
        return spikes


@dataclass(frozen=True)
class DeltaCode(Coding):
    r"""Send on delta: spikes tell by how many thresholds a band rose or fell since it was told last.

    With r what has been told so far, starting at 0,

    .. math::
        n[t] = \mathrm{trunc}\Bigl(\frac{x[t] - r[t-1]}{\theta}\Bigr), \qquad r[t] = r[t-1] + \theta\, n[t],

    up spikes are :math:`\max(n, 0)` and down spikes :math:`\max(-n, 0)`, as uint8 `[frame, 2, *band]`.  `decode`
    returns r, for which :math:`|x[t] - r[t]| < \theta` at every frame.  With `max_spikes` n is cut to that many, and r
    falls behind where x moves by more in a frame.

    Args:
        threshold: Threshold :math:`\theta`, in units of x.  > 0.
        max_spikes: Most spikes of a band in a step, from 1 to 255.  Default: None, as many as it takes; a step that
            would take more than 255 is refused.

    Raises:
        ConfigError: An argument is out of range.
        InputError: When called: a step would take more than 255 spikes.

    >>> import torch
    >>> from spikewright.sound import DeltaCode
    >>> code = DeltaCode(0.5)
    >>> spikes = code(torch.tensor([[1.2], [0.9], [-0.2]]))
    >>> spikes[:, 0].flatten(), spikes[:, 1].flatten(), code.decode(spikes).flatten()
    (tensor([2, 0, 0], dtype=torch.uint8), tensor([0, 0, 2], dtype=torch.uint8), tensor([1., 1., 0.]))
    """

    threshold: float
    max_spikes: int | None = None

    def __post_init__(self) -> None:
        check_within("DeltaCode", "threshold", self.threshold, "(0, inf)", "a change is told when it is that large")
        if self.max_spikes is not None:
            check_count("DeltaCode", "max_spikes", self.max_spikes, "a step holds a number of spikes", most=255)

    def __call__(self, x: Tensor) -> Tensor:
        scaled = _checked("DeltaCode", x).to(torch.float64) / self.threshold
        told, changes = torch.zeros_like(scaled[0]), list[Tensor]()
        for each in scaled:
            change = (each - told).trunc()
            if self.max_spikes is not None:
                change = change.clamp(-self.max_spikes, self.max_spikes)
            told = told + change
            changes.append(change)
        n = torch.stack(changes)
        if n.numel() and float(n.abs().max()) > 255:
            raise InputError(
                f"DeltaCode(threshold={self.threshold}) would send {int(n.abs().max())} spikes in a step, and 255 are "
                "the most that are held. Take a larger threshold, normalise the features, or give max_spikes."
            )
        return torch.stack([n, -n], 1).clamp_min(0).to(torch.uint8)

    def decode(self, spikes: Tensor) -> Tensor:
        up, down = spikes.to(torch.float64).unbind(1)
        return ((up - down).cumsum(0) * self.threshold).to(torch.float32)


@dataclass(frozen=True)
class LevelCrossingCode(Coding):
    r"""A spike for each level that a band crosses, upwards or downwards.

    With levels :math:`L_1 < \dots < L_k`, and below all of them before the first frame,

    .. math::
        u_i[t] = [\,x[t-1] < L_i \le x[t]\,], \qquad d_i[t] = [\,x[t] < L_i \le x[t-1]\,],

    as uint8 `[frame, 2, k, *band]`, ups first.  `decode` returns the number of levels at or below x, exactly; so x is
    between two levels that are known.

    Args:
        levels: Levels in units of x, finite and rising, at least one.

    Raises:
        ConfigError: There is no level, or they do not rise.

    >>> import torch
    >>> from spikewright.sound import LevelCrossingCode
    >>> code = LevelCrossingCode((0.0, 1.0))
    >>> spikes = code(torch.tensor([[1.5], [0.5], [-0.5]]))
    >>> spikes.shape, code.decode(spikes).flatten()
    (torch.Size([3, 2, 2, 1]), tensor([2, 1, 0]))
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        levels: Sequence[object] = check_row("LevelCrossingCode", "levels", self.levels, "(-1.0, 0.0, 1.0)")
        for level in levels:
            check_within("LevelCrossingCode", "levels", level, "(-inf, inf)", "a level is a number that x may cross")
        numbers = tuple(float(level) for level in self.levels)
        if not numbers or list(numbers) != sorted(set(numbers)):
            raise ConfigError(
                f"LevelCrossingCode(levels={self.levels}): levels are told apart by their order, so there is at least "
                "one, and each is above the one before it. Give such as (-1.0, 0.0, 1.0)."
            )
        object.__setattr__(self, "levels", numbers)

    def __call__(self, x: Tensor) -> Tensor:
        x = _checked("LevelCrossingCode", x).to(torch.float64)
        levels = torch.tensor(self.levels, dtype=torch.float64, device=x.device).view(-1, *[1] * (x.dim() - 1))
        above = (x.unsqueeze(1) >= levels).to(torch.int8)
        change = torch.diff(above, dim=0, prepend=torch.zeros_like(above[:1]))
        return torch.stack([change, -change], 1).clamp_min(0).to(torch.uint8)

    def decode(self, spikes: Tensor) -> Tensor:
        up, down = spikes.to(torch.int64).unbind(1)
        return (up - down).cumsum(0).sum(1)


@dataclass(frozen=True)
class LatencyCode(Coding):
    r"""A frame becomes some steps, in which a band sends one spike, the earlier the larger it is.

    With K steps a frame and x in [0, 1], the spike is at step

    .. math::
        k = \mathrm{round}\bigl((1 - x) K\bigr)

    of the frame, from 0 on, rounded half to even; with :math:`k = K` there is none.  The result is uint8
    `[frame * K, *band]`.  `decode` returns :math:`1 - k/K`, which is at most :math:`1/(2K)` from x.

    Args:
        steps: Steps K of a frame.  From 1 to 10**6.

    Raises:
        ConfigError: `steps` is out of range.
        InputError: When called with a number outside [0, 1].

    >>> import torch
    >>> from spikewright.sound import LatencyCode
    >>> LatencyCode(4)(torch.tensor([[1.0, 0.5, 0.0]])).tolist()
    [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """

    steps: int

    def __post_init__(self) -> None:
        check_count("LatencyCode", "steps", self.steps, "a frame has at least one step", most=MOST)

    def __call__(self, x: Tensor) -> Tensor:
        x = _checked("LatencyCode", x).to(torch.float64)
        low, high = x.aminmax()
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"LatencyCode got numbers from {float(low):g} to {float(high):g}. They become times, from 1 (at once) "
                "to 0 (never), so all must lie between 0 and 1. Give Normalisation('unit') before it."
            )
        first = ((1 - x) * self.steps).round().unsqueeze(1)
        step = torch.arange(self.steps, device=x.device).view(-1, *[1] * (x.dim() - 1))
        return (first == step).flatten(0, 1).to(torch.uint8)

    def decode(self, spikes: Tensor) -> Tensor:
        by_frame = spikes.unflatten(0, (-1, self.steps)).to(torch.float32)
        share = 1 - torch.arange(self.steps, device=spikes.device) / self.steps
        return (by_frame * share.view(-1, *[1] * (spikes.dim() - 1))).sum(1)


def _checked(owner: str, x: Tensor) -> Tensor:
    check_tensor("x", x, "[frame, *band]")
    if not x.is_floating_point() or x.dim() < 1 or not x.numel():
        raise ShapeError(
            f"{owner} got {x.dtype} {list(x.shape)}. A recording is floating-point numbers [frame, *band], with at "
            "least one frame. Give those of a filter bank."
        )
    if not bool(x.isfinite().all()):
        raise InputError(
            f"{owner} got a NaN or an infinity, for which there is no spike. Compress with LogCompression."
        )
    return x
