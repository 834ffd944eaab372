"""The neurons that stand for the directions of a subspace: linear, or bursts of signed spikes."""

from dataclasses import dataclass

from torch import Tensor

from spikewright.errors import ConfigError


@dataclass(frozen=True)
class Lateral:
    """What lateral neurons make of their input.

    Args:
        steps: Length :math:`T_h` of a burst, that is, how many values of each sign there are; `None` for linear
            neurons.
        scale: The largest value :math:`s` of a burst.

    Raises:
        ConfigError: `steps` or `scale` is not positive.
    """

    steps: int | None = None
    scale: float = 20.0

    def __post_init__(self) -> None:
        if not (self.steps is None or self.steps >= 1) or not self.scale > 0:
            raise ConfigError(
                f"Lateral(steps={self.steps}, scale={self.scale}): a burst has at least one step, and a scale above 0. "
                "steps=None is for linear neurons."
            )

    @property
    def linear(self) -> bool:
        """Whether the output is the input."""
        return self.steps is None

    def __call__(self, y: Tensor) -> Tensor:
        """Return the rates of `y`, of any shape: multiples of `scale / steps`, from `-scale` to `scale`."""
        if self.steps is None:
            return y
        return (y.clamp(-self.scale, self.scale) * (self.steps / self.scale)).round() * (self.scale / self.steps)
