"""The current-based leaky integrate-and-fire neuron."""

from torch import Tensor

from spikewright._util.ranges import check_flag
from spikewright.kernels.equations import Equations
from spikewright.neurons._base import Neuron
from spikewright.neurons._constants import Constants, Potential, ResetKind, number_shown
from spikewright.neurons._decays import Decaying, time_constant
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.surrogate import Sigmoid, Surrogate


class CUBALIF(Decaying):
    r"""Current-based leaky integrate-and-fire neuron: a synaptic current with a decay of its own feeds the potential.

    With decays :math:`\alpha = 1 - 1/\tau_{syn}` and :math:`\lambda = 1 - 1/\tau`, input scale :math:`k`, current scale
    :math:`g`, threshold :math:`V_{th}`, reset amount :math:`R = V_{th} - V_{rest}` and amplitude :math:`A`,

    .. math::
        c[t] &= \alpha c[t-1] + k I[t], \qquad u[t] = \lambda v[t-1] + g\,c[t], \qquad s[t] = \Theta(u[t] - V_{th}), \\
        v[t] &= u[t] - R s[t] \ \text{(soft reset)} \quad\text{or}\quad v[t] = u[t] (1 - s[t]) \ \text{(hard reset)},
        \qquad o[t] = A s[t].

    The reset leaves the current as it is.  Input and output are `[time, batch, *feature]`; the state in a run is
    `current` and `membrane`, `[batch, *feature]`, in float32 at least.  A decay :math:`d` that is not given as a time
    constant, such as :math:`e^{-1/\tau}`, is `tau = 1 / (1 - d)`.

    OTTT follows current and potential by two traces in a row.  The neuron declares no rate map, so DSR, IDE and SPIDE
    refuse it.

    **Elsewhere**

    - SpikingJelly `CUBALIFNode(c_decay=e, v_decay=beta, v_threshold=V, surrogate_function=Sigmoid())` (its own
      surrogate, Rect, is called): `CUBALIF(1/(1-beta), 1/(1-e), threshold=V, reset="zero", detach_reset=False)`.
    - SpikingJelly `CUBALIFNode(c_decay=e, v_decay=beta, v_threshold=V, v_reset=None, surrogate_function=Sigmoid())`:
      `CUBALIF(1/(1-beta), 1/(1-e), threshold=V, detach_reset=False)`.
    - snnTorch `Synaptic(alpha=e, beta=beta, threshold=V)`: `CUBALIF(1/(1-beta), 1/(1-e), threshold=V, reset="late",
      strict=True)`.
    - snnTorch `Synaptic(alpha=e, beta=beta, threshold=V, reset_mechanism="zero", reset_delay=False)` (with reset_delay
      it loses the input of the next step, and is refused): `CUBALIF(1/(1-beta), 1/(1-e), threshold=V, reset="zero",
      strict=True, detach_reset=False)`.
    - snnTorch `Synaptic(alpha=e, beta=beta, threshold=V, learn_alpha=True, learn_beta=True)` (alpha is
      sigmoid(current_leak_logit)): `CUBALIF(1/(1-beta), 1/(1-e), learn_tau=True, learn_tau_syn=True, threshold=V,
      reset="late", strict=True)`.
    - sinabs `LIF(tau_mem=tau, tau_syn=n, spike_threshold=V)` (with requires_grad_(False)): `CUBALIF(1/(1-k), 1/(1-j),
      gain=j, current_gain=1-k, threshold=V, max_spikes=None, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, tau_syn=n, spike_threshold=V, spike_fn=SingleSpike, norm_input=False)` (with
      requires_grad_(False)): `CUBALIF(1/(1-k), 1/(1-j), gain=j, threshold=V, detach_reset=False)`.
    - Norse `LIFCell(LIFParameters(tau_mem_inv=1000*g, tau_syn_inv=1000*d, v_th=V, v_leak=c, v_reset=c))` (dt = 0.001;
      LIF too; potentials are measured from c): `CUBALIF(1/g, 1/d, current_gain=g, threshold=V-c, reset="zero",
      detach_reset=False, strict=True)`.

    Args:
        tau: Time constant of the potential in steps.  Number >= 1, or one per channel (axis 1 of `[batch, channel,
            ...]`) as a sequence or tensor `[channel]`; a tensor of more axes must broadcast to `[batch, *feature]`.
            Default: 2.0.
        tau_syn: Time constant of the synaptic current in steps.  Number >= 1, or one per channel `[channel]`.  Default:
            2.0.
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0, or one per channel
            `[channel]`.  Default: 1.0.
        reset: What a spike does to the potential: "subtract" takes `threshold - rest` off it (soft), "zero" sets it to
            0 (hard), "late" takes the threshold off a step later, after the leak.  Default: "subtract".
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time (BPTT) depend
            on it.  Default: True.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.  Default: `Sigmoid(4.0)`.
        learn_tau: True trains the time constant of the potential, through the parameter `leak_logit`, with
            :math:`\lambda = \sigma(\text{leak\_logit})`; `tau` is its start value and must be > 1.  Default: False.
        learn_tau_syn: True trains that of the current, through `current_leak_logit`.  Default: False.
        inplace: Accepted and ignored, so that `act_layer=CUBALIF` works in libraries that build activations with it.
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
            off.  Default: 1.
        lower_bound: Least potential after a reset: lower ones are raised to it.  Number in (-inf, 0], or None for no
            bound.  Default: None.
        learn_threshold: True trains the threshold, the parameter `threshold`.  What neurons fire at is kept at or above
            a hundredth of the start value, or of its height above a `rest` that is above 0.  Default: False.
        learn_gain: True trains the input scale, the parameter `gain`.  Default: False.
        potential: Potential that is returned beside the spikes, as `(spikes, potential)`: that of "before reset", u, or
            "after reset", v.  Default: None, a call returns the spikes alone.
        current_gain: Current scale :math:`g`, the factor of the current at the potential.  Any finite number, or one
            per channel `[channel]`.  Default: 1.0.

    Raises:
        ConfigError: A time constant is not a finite number or several, is below 1, or is 1 and trained; a constant is
            not a finite number or one per channel `[channel]`, or is out of its range; `reset` or `potential` is
            unknown; a flag is not a bool; `rest` is not 0 with a hard or late reset; a late reset has a `tau` of 1;
            `max_spikes` is not 1 with a strict threshold, a reset shift, a late or an attached hard reset, or a step
            function of the surrogate's own; or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.
        ShapeError: In a run, the current has another number of channels than a constant.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.CUBALIF(tau=2.0, tau_syn=2.0)))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.4))
    >>> output.flatten().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        tau: Constants = 2.0,
        tau_syn: Constants = 2.0,
        threshold: Constants = 1.0,
        reset: ResetKind = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        learn_tau: bool = False,
        learn_tau_syn: bool = False,
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
        current_gain: Constants = 1.0,
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
        check_flag(type(self).__name__, learn_tau=learn_tau, learn_tau_syn=learn_tau_syn)
        self.set_decay("", "tau", tau, learn_tau)
        self.set_current(tau_syn, current_gain, learn_tau_syn)

    @property
    def tau_syn(self) -> float | Tensor:
        """The time constant of the current in steps: a number, or a tensor `[channel]`."""
        return time_constant(self.current_leak)

    @property
    def dynamics(self) -> Dynamics:
        if type(self).scan is not Neuron.scan:
            return UNKNOWN
        return Dynamics(
            decay=self.leak,
            current_decay=self.current_leak,
            linear=self.lower_bound is None,
            binary=self.binary,
            soft_reset=self.reset != "zero",
            detached_reset=self.detach_reset,
        )

    def extended(self, equations: Equations) -> Equations:
        return self.with_current(equations)

    def extra_repr(self) -> str:
        learned = "".join(f", learn_{name}=True" for name, kind in _TRAINED.items() if self.learns(kind))
        taus = f"tau={number_shown(self.tau)}, tau_syn={number_shown(self.tau_syn)}{learned}"
        usual = isinstance(self.current_gain, float) and self.current_gain == 1
        scale = "" if usual else f", current_gain={number_shown(self.current_gain)}"
        return f"{taus}{scale}, {super().extra_repr()}"


_TRAINED = {"tau": "", "tau_syn": "current_"}
