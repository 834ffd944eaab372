"""The declaration of a neuron's dynamics, on which every claim about the neuron rests."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from spikewright._util.ranges import check_flag, check_numbers


@dataclass(frozen=True)
class Dynamics:
    r"""What a neuron declares about itself; rules rely on this and on nothing else.

    Built-in neurons declare it.  A subclass of `Neuron` with a `scan` of its own returns one from its property
    `dynamics`.  What is left out is not assumed: without a `decay` OTTT refuses the neuron, without a `rate_map` rules
    that learn from rates (DSR, IDE, SPIDE) do.  `spikewright.testing.assert_neuron` measures every declared part.

    Args:
        decay: Share :math:`\lambda` of the potential that is left after a step, so that the potential is a sum of
            inputs weighted by :math:`\lambda^{\mathrm{age}}`, less the resets.  Number in [0, 1], or tensor
            `[channel]`.  Default: None, there is no such number.
        linear: True if the potential is linear in the current between spikes, without floor or ceiling.  Default:
            False.
        rate_map: Differentiable function from a mean current `[batch, *feature]` to the mean output that the neuron
            approaches over many steps.  Default: None, there is no such map.
        binary: True if all outputs are 0 or 1.  Default: False.
        soft_reset: True if a spike takes a constant off the potential and leaves the rest.  Default: False.
        detached_reset: True if no gradient passes through the reset.  Default: False.
        current_decay: Share :math:`\alpha` of a synaptic current in front of the potential that is left after a step,
            so that the potential is a sum of inputs weighted by :math:`\sum_{j \le \mathrm{age}} \alpha^j
            \lambda^{\mathrm{age} - j}`, less the resets.  Number in [0, 1], or tensor `[channel]`; it says nothing
            without a `decay`.  Default: None, the input enters the potential itself.
        adaptive: True if the threshold depends on earlier spikes of the same neuron, and gradients pass through these.
            A trace of inputs alone is then not the derivative of the distance between potential and threshold.
            Default: False.

    Raises:
        ConfigError: A decay is no number in [0, 1], or a flag is neither True nor False.

    >>> import spikewright as sw
    >>> sw.LIF(tau=4.0).dynamics.decay, sw.LIF(tau=4.0).dynamics.current_decay
    (0.75, None)
    """

    decay: float | Tensor | None = None
    linear: bool = False
    rate_map: Callable[[Tensor], Tensor] | None = None
    binary: bool = False
    soft_reset: bool = False
    detached_reset: bool = False
    current_decay: float | Tensor | None = None
    adaptive: bool = False

    def __post_init__(self) -> None:
        flags = ("linear", "binary", "soft_reset", "detached_reset", "adaptive")
        check_flag("Dynamics", **{name: getattr(self, name) for name in flags})
        for name in ("decay", "current_decay"):
            if not isinstance(getattr(self, name), Tensor):
                check_numbers("Dynamics", "[0, 1]", optional=True, **{name: getattr(self, name)})


UNKNOWN = Dynamics()
"""The dynamics of a neuron with a scan of its own that declares nothing."""
