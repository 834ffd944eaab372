"""The adaptive leaky integrate-and-fire neuron."""

from dataclasses import replace

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_flag
from spikewright.errors import ConfigError
from spikewright.kernels.equations import Equations
from spikewright.neurons._base import Neuron
from spikewright.neurons._constants import Constants, Potential, ResetKind, constant, number_shown
from spikewright.neurons._decays import Decaying, time_constant
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.surrogate import Sigmoid, Surrogate


class ALIF(Decaying):
    r"""Adaptive leaky integrate-and-fire neuron: each spike raises the threshold, which then decays to its base.

    With decays :math:`\lambda = 1 - 1/\tau` and :math:`\rho = 1 - 1/\tau_a`, adaptation strength :math:`\beta`, input
    scale :math:`k`, base threshold :math:`V_{th}`, reset amount :math:`R = V_{th} - V_{rest}` and amplitude :math:`A`,

    .. math::
        u[t] &= \lambda v[t-1] + k I[t], \qquad s[t] = \Theta(u[t] - V_{th} - a[t-1]), \qquad
        a[t] = \rho\,a[t-1] + \beta s[t], \\
        v[t] &= u[t] - R s[t] \ \text{(soft reset)} \quad\text{or}\quad v[t] = u[t] (1 - s[t]) \ \text{(hard reset)},
        \qquad o[t] = A s[t].

    With `moving_reset` a soft reset takes :math:`R + a[t-1]` off, the threshold of the moment.  With `tau_syn` the
    input enters a synaptic current :math:`c[t] = \alpha c[t-1] + k I[t]` in front of the potential, and
    :math:`g\,c[t]` takes the place of :math:`k I[t]`.  Input and output are `[time, batch, *feature]`; the state in a
    run is `membrane` and `adaptation`, and `current` if there is one, `[batch, *feature]`, in float32 at
    least.  Gradients pass through the adaptation, whatever `detach_reset` is.  Networks of these neurons with recurrent
    connections are called LSNN.

    The neuron declares that its threshold adapts: the exact online gradient needs an eligibility trace per weight
    (`rules.EProp`).  It declares no rate map, so DSR, IDE and SPIDE refuse it.

    **Elsewhere**

    - sinabs `ALIF(tau_mem=tau, tau_adapt=q, adapt_scale=a, spike_threshold=V)` (with requires_grad_(False) and a slope
      that does not depend on the threshold; theirs passes no gradient from it to its spikes): `ALIF(1/(1-k), 1/(1-r),
      (1-r)*a, gain=1-k, threshold=V, moving_reset=True, detach_reset=False)`.
    - sinabs `ALIF(tau_mem=tau, tau_adapt=q, tau_syn=n, adapt_scale=a, spike_threshold=V)` (with requires_grad_(False);
      its current keeps what is scaled, so that it leaks j (1-k)): `ALIF(1/(1-k), 1/(1-r), (1-r)*a, gain=j*(1-k),
      tau_syn=1/(1-j*(1-k)), threshold=V, moving_reset=True, detach_reset=False)`.

    Args:
        tau: Time constant of the potential in steps.  Number >= 1, or one per channel (axis 1 of `[batch, channel,
            ...]`) as a sequence or tensor `[channel]`; a tensor of more axes must broadcast to `[batch, *feature]`.
            Default: 20.0.
        tau_adaptation: Time constant :math:`\tau_a` of the threshold in steps.  Number >= 1, or one per channel
            `[channel]`.  Default: 200.0.
        beta: Adaptation strength :math:`\beta`, the rise of the threshold by a spike.  Any finite number, or one per
            channel `[channel]`.  Default: 0.2.
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
        learn_beta: True trains the adaptation strength, the parameter `beta`.  It acts a step later, so that only rules
            that carry errors through time (BPTT) do.  Default: False.
        moving_reset: True has a soft reset take off the threshold of the moment.  Default: False.
        tau_syn: Time constant of a synaptic current in steps.  Number >= 1, or one per channel `[channel]`.  Default:
            None, there is no such current.
        current_gain: Current scale :math:`g`, used with `tau_syn`.  Any finite number, or one per channel `[channel]`.
            Default: 1.0.
        inplace: Accepted and ignored, so that `act_layer=ALIF` works in libraries that build activations with it.
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

    Raises:
        ConfigError: A time constant is not a finite number or several, is below 1, or is 1 and trained; a constant is
            not a finite number or one per channel `[channel]`, or is out of its range; `reset` or `potential` is
            unknown; a flag is not a bool; `rest` is not 0 with a hard or late reset; a late reset has a `tau` of 1;
            `moving_reset` is given with another reset than "subtract"; `max_spikes` is not 1 with a strict threshold, a
            reset shift, a late or an attached hard reset, or a step function of the surrogate's own, or a negative
            `beta`; or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.
        ShapeError: In a run, the current has another number of channels than a constant.

    Reference:
        Bellec, Salaj, Subramoney, Legenstein, Maass, Long Short-Term Memory and Learning-to-Learn in Networks of
        Spiking Neurons, NeurIPS 2018, arXiv 1803.09574.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.ALIF(tau=2.0, tau_adaptation=10.0, beta=0.5)))
    >>> output, state = net.run(torch.full((6, 1, 1), 1.2))
    >>> output.flatten().tolist()
    [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    """

    beta: float | Tensor

    def __init__(
        self,
        tau: Constants = 20.0,
        tau_adaptation: Constants = 200.0,
        beta: Constants = 0.2,
        threshold: Constants = 1.0,
        reset: ResetKind = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        learn_tau: bool = False,
        learn_beta: bool = False,
        moving_reset: bool = False,
        tau_syn: Constants | None = None,
        current_gain: Constants = 1.0,
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
        name = type(self).__name__
        check_flag(name, learn_tau=learn_tau, learn_beta=learn_beta, moving_reset=moving_reset)
        if moving_reset and reset != "subtract":
            raise ConfigError(
                f"{name}(moving_reset=True, reset={reset!r}): with moving_reset a spike takes the threshold of the "
                "moment off the potential at once, which is what reset='subtract' does; the other resets take nothing "
                "off, or do it later. Use reset='subtract', or moving_reset=False."
            )
        jump = constant(name, "beta", beta, learn_beta)
        if max_spikes != 1 and (learn_beta or bool((torch.as_tensor(jump) < 0).any())):
            trained = ", learn_beta=True" if learn_beta else ""
            raise ConfigError(
                f"{name}(beta={shown(beta)}{trained}, max_spikes={max_spikes}) counts how often the threshold fits "
                "into the potential, which is not defined where spikes lower the threshold to 0 and below. Use beta of "
                "at least 0 that is not trained, or one spike per step (max_spikes=1)."
            )
        self.hold("beta", jump, learn_beta)
        self.moving_reset = moving_reset
        self.set_decay("", "tau", tau, learn_tau)
        self.set_decay("adaptation_", "tau_adaptation", tau_adaptation, False)
        self.set_optional_current(tau_syn, current_gain)

    @property
    def adaptation_leak(self) -> float | Tensor:
        """Share of the rise of the threshold that is left after a step: a number, or a tensor `[channel]`."""
        return self.decay_of("adaptation_")

    @property
    def dynamics(self) -> Dynamics:
        if type(self).scan is not Neuron.scan:
            return UNKNOWN
        return Dynamics(
            decay=self.leak,
            current_decay=self.current_leak if self.has_current else None,
            linear=self.lower_bound is None,
            binary=self.binary,
            soft_reset=self.reset != "zero" and not self.moving_reset,
            detached_reset=self.detach_reset,
            adaptive=True,
        )

    def extended(self, equations: Equations) -> Equations:
        return replace(
            self.with_current(equations),
            adaptive=True,
            adaptation_leak=self.adaptation_leak,
            adaptation_jump=self.beta,
            moving_reset=self.moving_reset,
        )

    def extra_repr(self) -> str:
        taus = {"tau": self.tau, "tau_adaptation": time_constant(self.adaptation_leak), "beta": self.beta}
        if self.has_current:
            taus |= {"tau_syn": time_constant(self.current_leak), "current_gain": self.current_gain}
        shown = ", ".join(f"{name}={number_shown(value)}" for name, value in taus.items())
        learned = ", learn_tau=True" if self.learns("") else ""
        learned += ", learn_beta=True" if "beta" in self._parameters else ""
        moving = ", moving_reset=True" if self.moving_reset else ""
        return f"{shown}{learned}{moving}, {super().extra_repr()}"
