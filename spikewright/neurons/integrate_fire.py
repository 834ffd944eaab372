"""The integrate-and-fire neuron."""

from spikewright.neurons._base import Neuron
from spikewright.neurons._constants import Constants, Potential, ResetKind
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
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0, or one per channel
            `[channel]`.  Default: 1.0.
        reset: What a spike does to the potential: "subtract" takes `threshold - rest` off it (soft), "zero" sets it to
            0 (hard), "late" takes the threshold off a step later, after the leak.  Default: "subtract".
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time (BPTT) depend
            on it.  Default: True.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.  Default: `Sigmoid(4.0)`.
        inplace: Accepted and ignored, so that `act_layer=IF` works in libraries that build activations with it.
            Default: False.
        rest: Reset shift :math:`V_{rest}`: a soft reset takes `threshold - rest` off the potential.  Any finite number
            below `threshold`, or one per channel `[channel]`; 0 with another reset.  Default: 0.0.
        gain: Input scale :math:`k`, the factor of the current.  Any finite number, or one per channel `[channel]`.
            Default: 1.0.
        amplitude: Output scale :math:`A`, the value that a spike is sent as.  Any finite number but 0.  Default: 1.0.
        noise: Standard deviation of normal noise that is added to every output, in training and in evaluation, drawn
            for each neuron and step.  Finite number, at least 0.  Default: 0.0.
        strict: True fires above the threshold only, and not at it.  Default: False.
        max_spikes: Largest number of spikes in a step.  Whole number of at least 1, or None for no limit.  With more
            than 1, :math:`s = \lfloor u / V_{th} \rfloor` where :math:`u > 0`, and each spike takes the reset amount
            off.
            Default: 1.
        lower_bound: Least potential after a reset: lower ones are raised to it.  Number in (-inf, 0], or None for
            no bound.  Default: None.
        learn_threshold: True trains the threshold, the parameter `threshold`.  Default: False.
        learn_gain: True trains the input scale, the parameter `gain`.  Default: False.
        potential: Potential that is returned beside the spikes, as `(spikes, potential)`: that of "before reset", u, or
            "after reset", v.  Default: None, a call returns the spikes alone.

    Raises:
        ConfigError: A constant is not a finite number or one per channel `[channel]`, or is out of its range; `reset`
            or
            `potential` is unknown; a flag is not a bool; `rest` is not 0 with a hard or late reset; `max_spikes` is not
            1 with a strict threshold, a reset shift, a late or an attached hard reset; or `surrogate` is not a
            `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.
        ShapeError: In a run, the current has another number of channels than a constant.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.IF()))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.5))
    >>> output.flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self,
        threshold: Constants = 1.0,
        reset: ResetKind = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        inplace: bool = False,
        rest: Constants = 0.0,
        gain: Constants = 1.0,
        amplitude: float = 1.0,
        noise: float = 0.0,
        strict: bool = False,
        max_spikes: int | None = 1,
        lower_bound: float | None = None,
        learn_threshold: bool = False,
        learn_gain: bool = False,
        potential: Potential | None = None,
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
            strict=strict,
            max_spikes=max_spikes,
            lower_bound=lower_bound,
            learn_threshold=learn_threshold,
            learn_gain=learn_gain,
            potential=potential,
        )

    @property
    def leak(self) -> float:
        """Share of the potential that is left after a step: 1."""
        return 1.0
