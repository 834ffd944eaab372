"""What every neuron is to the rest of the library."""

from abc import abstractmethod
from typing import get_args

from torch import Tensor

from spikewright.errors import ConfigError, OutsideRun, ShapeError, nearest
from spikewright.kernels.lif import Reset, lif_scan
from spikewright.surrogate import Surrogate
from spikewright.temporal import SiteState, Temporal


class Neuron(Temporal):
    """A population of spiking neurons; it takes the shape of whatever current arrives.

    Neurons keep no state: a run hands it in and takes it back.  Subclasses supply `leak`.

    Args:
        threshold: Potential at which a neuron fires; it fires at equality.
        reset: "subtract" takes the threshold off the potential (soft), "zero" returns it to zero (hard).
        detach_reset: Keep the backward pass out of the reset.  Only BPTT can tell the difference.
        surrogate: Slope used in place of the derivative of a spike.
        inplace: Accepted and ignored, so that `act_layer=LIF` works in libraries that build activations with it.

    Raises:
        ConfigError: The threshold is not positive, or `reset` is unknown.
    """

    def __init__(
        self, *, threshold: float, reset: Reset, detach_reset: bool, surrogate: Surrogate, inplace: bool
    ) -> None:
        super().__init__()
        if not threshold > 0:
            raise ConfigError(f"{type(self).__name__}(threshold={threshold}): a neuron fires at a positive threshold.")
        if reset not in get_args(Reset):
            raise ConfigError(f"{type(self).__name__}(reset={reset!r}) is unknown. {nearest(reset, get_args(Reset))}")
        self.threshold = threshold
        self.reset: Reset = reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    @property
    @abstractmethod
    def leak(self) -> float | Tensor:
        """Fraction of the potential retained per step: a number, or one entry per channel."""

    @property
    def binary(self) -> bool:
        """Whether all it emits is zeros and ones; not taken for granted of a scan or a step of somebody else's."""
        return type(self).scan is Neuron.scan and type(self.surrogate).__call__ is Surrogate.__call__

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        leak = self.leak
        if isinstance(leak, Tensor):
            leak = self._aligned(leak, x)
        spikes, membrane = lif_scan(
            x,
            state.get("membrane"),
            leak=leak,
            threshold=self.threshold,
            reset=self.reset,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            through_time=through_time,
        )
        return spikes, {"membrane": membrane}

    def _aligned(self, leak: Tensor, current: Tensor) -> Tensor:
        """View a per-channel leak so that it meets the channel axis of `[time, batch, channel, *rest]`."""
        if leak.dim() != 1:
            return leak
        if leak.numel() not in (1, current.shape[2]):
            raise ShapeError(
                f"{type(self).__name__} has {leak.numel()} per-channel time constants, but its current "
                f"{list(current.shape[1:])} ([batch, channel, ...]) has {current.shape[2]} channels. "
                "Give one tau, or one per channel."
            )
        return leak.view(-1, *[1] * (current.dim() - 3))

    def forward(self, current: Tensor) -> Tensor:
        """Always an error: inside a run the network answers in the neuron's place."""
        raise OutsideRun(
            f"{type(self).__name__} was called outside a run, with a tensor of shape {list(current.shape)}. A neuron "
            "needs the state that a run holds. Wrap the module, net = spikewright.Network(module), and call "
            "output, state = net.run(x) with x of shape [time, batch, *feature]."
        )

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, reset={self.reset!r}, surrogate={self.surrogate}"
