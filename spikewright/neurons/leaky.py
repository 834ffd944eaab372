"""The leaky integrate-and-fire neuron."""

from typing import Literal

from spikewright._util.ranges import check_choice, check_flag
from spikewright.errors import ConfigError
from spikewright.neurons._constants import Constants, Potential, ResetKind, number_shown
from spikewright.neurons._decays import Decaying
from spikewright.surrogate import Sigmoid, Surrogate


class LIF(Decaying):
    r"""Leaky integrate-and-fire neuron.

    With leak :math:`\lambda = 1 - 1/\tau`, gain :math:`k`, threshold :math:`V_{th}`, reset amount
    :math:`R = V_{th} - V_{rest}` and amplitude :math:`A`,

    .. math::
        u[t] &= \lambda v[t-1] + k I[t], \qquad s[t] = \Theta(u[t] - V_{th}), \qquad o[t] = A s[t], \\
        v[t] &= u[t] - R s[t] \ \text{(soft reset)} \quad\text{or}\quad v[t] = u[t] (1 - s[t]) \ \text{(hard reset)}.

    The input is not divided by tau unless `gain=1/tau` says so.  Input and output are `[time, batch, *feature]`; the
    state in a run is `membrane`, `[batch, *feature]`, in float32 at least.

    Neurons of other libraries that send the same spikes, with `V` their threshold and `S(V)` the next number above it
    (`torch.nextafter`, in the dtype of the run), because those that fire above the threshold do not fire at it:

    **Elsewhere**

    - SpikingJelly `LIFNode(tau)`: `LIF(tau, gain=1/tau, reset="zero", detach_reset=False)`.
    - SpikingJelly `LIFNode(tau, decay_input=False)`: `LIF(tau, reset="zero", detach_reset=False)`.
    - SpikingJelly `LIFNode(tau, v_reset=None)`: `LIF(tau, gain=1/tau, detach_reset=False)`.
    - SpikingJelly `LIFNode(tau, v_threshold=V, v_reset=c)` (potentials are measured from c, where they start, too):
      `LIF(tau, gain=1/tau, threshold=V-c, reset="zero", detach_reset=False)`.
    - SpikingJelly `LIFNode(tau, detach_reset=True)`: `LIF(tau, gain=1/tau, reset="zero")`.
    - SpikingJelly `ParametricLIFNode(tau, decay_input=False)` (their w is -leak_logit): `LIF(tau, learn_tau=True,
      reset="zero", detach_reset=False)`.
    - SpikingJelly `ParametricLIFNode(tau, v_threshold=V)` (as it is made: the input is divided by the trained tau;
      their w is -leak_logit): `LIF(tau, gain="1/tau", learn_tau=True, threshold=V, reset="zero", detach_reset=False)`.
    - snnTorch `Leaky(beta, threshold=V)` (beta above 0): `LIF(1/(1-beta), threshold=V, reset="late", strict=True)`.
    - snnTorch `Leaky(beta, threshold=V, reset_mechanism="zero")`: `LIF(1/(1-beta), threshold=V, reset="zero",
      strict=True)`.
    - snnTorch `Leaky(beta, threshold=V, reset_mechanism="zero", reset_delay=False)`: `LIF(1/(1-beta), threshold=V,
      reset="zero", strict=True, detach_reset=False)`.
    - snnTorch `Leaky(beta, threshold=V, graded_spikes_factor=a)`: `LIF(1/(1-beta), threshold=V, reset="late",
      strict=True, amplitude=a)`.
    - snnTorch `Leaky(beta, threshold=V, reset_mechanism="zero", learn_beta=True)` (their beta is sigmoid(leak_logit),
      so that steps of an optimizer are other ones): `LIF(1/(1-beta), learn_tau=True, threshold=V, reset="zero",
      strict=True)`.
    - snnTorch `Lapicque(R=tau/2, C=2.0, time_step=1.0, threshold=V)` (leak 1 - time_step/(R C), which is not its beta;
      gain time_step/C): `LIF(tau, gain=1/2.0, threshold=V, reset="late", strict=True)`.
    - snnTorch `Leaky(beta, threshold=V, learn_beta=True, learn_threshold=True)` (their beta is sigmoid(leak_logit), so
      that steps of an optimizer are other ones): `LIF(1/(1-beta), learn_tau=True, threshold=V, learn_threshold=True,
      reset="late", strict=True)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike)` (k = exp(-1/tau); with
      tau_mem.requires_grad_(False)): `LIF(1/(1-k), gain=1-k, threshold=V, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, norm_input=False)` (k = exp(-1/tau); with
      tau_mem.requires_grad_(False)): `LIF(1/(1-k), threshold=V, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, reset_fn=MembraneReset())` (k = exp(-1/tau);
      with tau_mem.requires_grad_(False)): `LIF(1/(1-k), gain=1-k, threshold=V, reset="zero")`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, reset_fn=MembraneSubtract(a))` (k = exp(-1/tau);
      with tau_mem.requires_grad_(False)): `LIF(1/(1-k), gain=1-k, threshold=V, rest=V-a, detach_reset=False)`.
    - Norse `LIFBoxCell(LIFBoxParameters(tau_mem_inv=1000*g, v_th=V, v_leak=c, v_reset=c))` (dt = 0.001; potentials are
      measured from c): `LIF(1/g, gain=g, threshold=S(V-c), reset="zero", detach_reset=False)`.
    - Norse `LIFBoxCell(LIFBoxParameters(tau_mem_inv=1000*g, v_th=V, reset_method=reset_subtract))` (dt = 0.001):
      `LIF(1/g, gain=g, threshold=S(V), rest=S(V)-V, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V)` (as it is made: tau_mem is trained, -1/ln(sigmoid(leak_logit))):
      `LIF(1/(1-k), gain="1/tau", learn_tau=True, threshold=V, max_spikes=None, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, train_alphas=True, norm_input=False)` (alpha_mem is trained,
      sigmoid(leak_logit)): `LIF(1/(1-k), learn_tau=True, threshold=V, max_spikes=None, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, spike_fn=MaxSpike(3))` (with requires_grad_(False)): `LIF(1/(1-k),
      gain=1-k, threshold=V, max_spikes=3, detach_reset=False)`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, reset_fn=MembraneReset())` (with requires_grad_(False)): `LIF(1/(1-k),
      gain=1-k, threshold=V, max_spikes=None, reset="zero")`.
    - sinabs `LIF(tau_mem=tau, spike_threshold=V, spike_fn=SingleSpike, min_v_mem=-0.4*V)` (with requires_grad_(False);
      at the bound itself theirs has no slope): `LIF(1/(1-k), gain=1-k, threshold=V, lower_bound=-0.4*V,
      detach_reset=False)`.
    - NIR `LIF(tau=tau*dt, r=gain*tau)`, with Euler steps of dt: `LIF(tau, gain=gain, reset="zero")`.

    `spikewright.interop.convert` proves this for a model, and says of what has no equal here why.  An equal of snnTorch
    `Leaky` with a soft reset and `reset_delay=False` there is not: it sends a spike late after a potential above twice
    the threshold.

    Args:
        tau: Time constant in steps.  Number >= 1, or one per channel (axis 1 of `[batch, channel, ...]`) as a sequence
            or tensor `[channel]`; a tensor of more axes must broadcast to `[batch, *feature]`.  Constants stay in
            double precision when the module is cast, and are used in that of the scan.  Default: 2.0.
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0, or one per channel
            `[channel]`.  Default: 1.0.
        reset: What a spike does to the potential: "subtract" takes `threshold - rest` off it (soft), "zero" sets it to
            0 (hard), "late" takes the threshold off a step later, after the leak.  Default: "subtract".
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time (BPTT) depend
            on it.  Default: True.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.  Default: `Sigmoid(4.0)`.
        learn_tau: True trains the time constant (a parametric LIF).  The parameter is `leak_logit`, with
            :math:`\lambda = \sigma(\text{leak\_logit})`; `tau` is its start value and must be > 1.  Default: False.
        inplace: Accepted and ignored, so that `act_layer=LIF` works in libraries that build activations with it.
            Default: False.
        rest: Reset shift :math:`V_{rest}`: a soft reset takes `threshold - rest` off the potential.  Any finite number
            below `threshold`, or one per channel `[channel]`; 0 with another reset.  Default: 0.0.
        gain: Input scale :math:`k`, the factor of the current.  Any finite number, or one per channel `[channel]`; or
            "1/tau", which follows a trained `tau`.  Default: 1.0.
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

    Raises:
        ConfigError: `tau` is not a finite number or several, is below 1, or is 1 with `learn_tau`; a trained `gain` is
            tied to `tau`; a constant is not a finite number or one per channel `[channel]`, or is out of its range;
            `reset` or `potential` is unknown; a flag is not a bool; `rest` is not 0 with a hard or late reset; a late
            reset has a `tau` of 1; `max_spikes` is not 1 with a strict threshold, a reset shift, a late or an attached
            hard reset, or a step function of the surrogate's own; or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.
        ShapeError: In a run, the current has another number of channels than a constant.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.LIF(tau=2.0)))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.6))
    >>> output.flatten().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        tau: Constants = 2.0,
        threshold: Constants = 1.0,
        reset: ResetKind = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        learn_tau: bool = False,
        inplace: bool = False,
        rest: Constants = 0.0,
        gain: Constants | Literal["1/tau"] = 1.0,
        amplitude: float = 1.0,
        noise: float = 0.0,
        strict: bool = False,
        max_spikes: int | None = 1,
        lower_bound: float | None = None,
        learn_threshold: bool = False,
        learn_gain: bool = False,
        potential: Potential | None = None,
    ) -> None:
        tied = isinstance(gain, str)
        check_tied(type(self).__name__, gain, learn_gain)
        super().__init__(
            threshold=threshold,
            rest=rest,
            gain=1.0 if isinstance(gain, str) else gain,
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
        check_flag(type(self).__name__, learn_tau=learn_tau)
        self._tied = tied
        self.set_decay("", "tau", tau, learn_tau)

    def extra_repr(self) -> str:
        learned = ", learn_tau=True" if self.learns("") else ""
        tied = ", gain='1/tau'" if self._tied else ""
        return f"tau={number_shown(self.tau)}{learned}{tied}, {super().extra_repr()}"


def check_tied(owner: str, gain: object, learned: bool) -> None:
    """Raise `ConfigError` unless a gain given as text is "1/tau", which is not trained by itself.

    Args:
        owner: Name of the neuron class, for messages.
        gain: The gain.
        learned: True if it is to be trained.
    """
    if not isinstance(gain, str):
        return
    check_choice(owner, "gain", gain, ("1/tau",))
    if learned:
        raise ConfigError(
            f"{owner}(gain='1/tau', learn_gain=True) ties the input scale to tau and trains it as well. Use "
            "gain='1/tau', learn_tau=True, which trains both as one; or a number, such as gain=0.5, learn_gain=True."
        )
