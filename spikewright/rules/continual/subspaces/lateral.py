"""The neurons that the rows of a subspace lead to: linear, or bursts of signed spikes."""

from dataclasses import dataclass

from torch import Tensor

from spikewright._util.ranges import check_count, check_within


@dataclass(frozen=True)
class Lateral:
    """The function of lateral neurons: the identity, or a rate code in bursts of signed spikes.

    Args:
        steps: Number :math:`T_h` of steps of a burst, which is the number of values of each sign.  At least 1.
            Default: None, linear neurons.
        scale: Largest value s of a burst.  > 0.  Default: 20.0.

    Raises:
        ConfigError: `steps` or `scale` is not positive.
    """

    steps: int | None = None
    scale: float = 20.0

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_count("Lateral", "steps", self.steps, "a burst has at least one step; None is for linear neurons")
        check_within("Lateral", "scale", self.scale, "(0, inf)", "scale is the largest value of a burst")

    @property
    def linear(self) -> bool:
        """True if the output is the input."""
        return self.steps is None

    def __call__(self, y: Tensor) -> Tensor:
        """Return the rates of `y`, of any shape: multiples of `scale / steps`, from `-scale` to `scale`."""
        if self.steps is None:
            return y
        return (y.clamp(-self.scale, self.scale) * (self.steps / self.scale)).round() * (self.scale / self.steps)
