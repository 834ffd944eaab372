"""The integrate-and-fire neuron."""

from spikewright.kernels.lif import Reset
from spikewright.neurons._base import Neuron
from spikewright.surrogate import Sigmoid, Surrogate


class IF(Neuron):
    r"""Integrate-and-fire neuron: the potential sums its input without leak.

    With gain :math:`k`, threshold :math:`V_{th}`, reset amount :math:`R = V_{th} - V_{rest}` and amplitude :math:`A`,

    .. math::
        u[t] &= v[t-1] + k I[t], \qquad s[t] = \Theta(u[t] - V_{th}), \qquad o[t] = A s[t], \\
        v[t] &= u[t] - R s[t] \ \text{(soft reset)} \quad\text{or}\quad v[t] = u[t] (1 - s[t]) \ \text{(hard reset)}.

    The limit of `LIF` as tau grows.  Input and output are `[time, batch, *feature]`; the state in a run is `membrane`,
    `[batch, *feature]`.

    | Elsewhere | Here |
    |---|---|
    | SpikingJelly `IFNode(v_reset=0.0)` | `IF(reset="zero", detach_reset=False)` |
    | SpikingJelly `IFNode(v_reset=None)` | `IF(detach_reset=False)` |
    | sinabs `IAF(spike_fn=SingleSpike)` | `IF(detach_reset=False)` |
    | Norse `IAFCell` | `IF(threshold=S(V), reset="zero", detach_reset=False)` |

    `S(V)` is the next number above their threshold V (`torch.nextafter`, in the dtype of the run), because Norse fires
    above the threshold and not at it.

    Args:
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0.  Default: 1.0.
        reset: What a spike does to the potential: "subtract" takes `threshold - rest` off it (soft), "zero" sets it to
            0 (hard).  Default: "subtract".
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time (BPTT) depend
            on it.  Default: True.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.  Default: `Sigmoid(4.0)`.
        inplace: Accepted and ignored, so that `act_layer=IF` works in libraries that build activations with it.
            Default: False.
        rest: Reset shift :math:`V_{rest}`: a soft reset takes `threshold - rest` off the potential.  Any finite number
            below `threshold`; 0 with a hard reset.  Default: 0.0.
        gain: Input scale :math:`k`, the factor of the current.  Any finite number.  Default: 1.0.
        amplitude: Output scale :math:`A`, the value that a spike is sent as.  Any finite number but 0.  Default: 1.0.
        noise: Standard deviation of normal noise that is added to every output, in training and in evaluation, drawn
            for each neuron and step.  Finite number, at least 0.  Default: 0.0.

    Raises:
        ConfigError: A constant is not one finite number or is out of its range, `reset` is unknown, `detach_reset`
            is not a bool, `rest` is not 0 with a hard reset, or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.IF()))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.5))
    >>> output.flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
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
        """Share of the potential that is left after a step: 1."""
        return 1.0
