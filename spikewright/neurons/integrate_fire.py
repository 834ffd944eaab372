"""The integrate-and-fire neuron."""

from spikewright.kernels.lif import Reset
from spikewright.neurons._base import Neuron
from spikewright.surrogate import Sigmoid, Surrogate


class IF(Neuron):
    """Integrate-and-fire without leak: `u = v + I`.  The limit of `LIF` as tau grows.

    Args:
        threshold: See `Neuron`.
        reset: See `Neuron`.
        detach_reset: See `Neuron`.
        surrogate: See `Neuron`.
        inplace: See `Neuron`.
        rest: See `Neuron`.
        gain: See `Neuron`.
        amplitude: See `Neuron`.
        noise: See `Neuron`.
    """

    def __init__(
        self,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        inplace: bool = False,
        rest: float = 0.0,
        gain: float = 1.0,
        amplitude: float = 1.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__(
            threshold=threshold,
            rest=rest,
            gain=gain,
            amplitude=amplitude,
            reset=reset,
            detach_reset=detach_reset,
            surrogate=surrogate,
            inplace=inplace,
            noise=noise,
        )

    @property
    def leak(self) -> float:
        return 1.0
