"""The base class of neurons."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.draws import drawn_by_step
from spikewright._util.ranges import check_flag
from spikewright.errors import ConfigError, OutsideRun, ShapeError
from spikewright.kernels.equations import Equations
from spikewright.kernels.layout import precision
from spikewright.kernels.lif import lif_scan
from spikewright.kernels.neuron import neuron_scan
from spikewright.neurons._constants import (
    Constants,
    Potential,
    ResetKind,
    check_constants,
    check_counting,
    check_potential,
    check_surrogate,
    constant,
    number_shown,
)
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.neurons._elementwise import check_elementwise
from spikewright.neurons._exact_buffers import ExactBuffers
from spikewright.surrogate import Surrogate
from spikewright.temporal import SiteState, Temporal


class Neuron(ExactBuffers, Temporal):
    r"""Base class of spiking neurons: one layer of them, of the shape of the current it receives.

    With leak :math:`\lambda`, gain :math:`k`, threshold :math:`V_{th}`, reset amount :math:`R = V_{th} - V_{rest}` and
    amplitude :math:`A`,

    .. math::
        u[t] &= \lambda v[t-1] + k I[t], \qquad s[t] = \Theta(u[t] - V_{th}), \qquad o[t] = A s[t], \\
        v[t] &= u[t] - R s[t] \ \text{(soft reset)} \quad\text{or}\quad v[t] = u[t] (1 - s[t]) \ \text{(hard reset)}.

    The input :math:`I` and the output :math:`o` are `[time, batch, *feature]`.  A neuron module keeps no state between
    calls: `Network.run` holds the potential :math:`v` and passes it to `scan`.

    A subclass supplies the property `leak`, and inherits these equations.  A subclass with other equations overrides
    `scan` and declares its `dynamics`; rules refuse a neuron that does not declare what they need.

    Args:
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0, or one per channel
            `[channel]`.
        reset: What a spike does to the potential: "subtract" takes the reset amount off it (soft), "zero" sets it to 0
            (hard), "late" takes the threshold off it a step later, after the leak, so that :math:`R = V_{th} /
            \lambda`.
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time depend on it.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.
        inplace: Accepted and ignored, so that `act_layer=LIF` works in libraries that build activations with it.
        rest: Reset shift :math:`V_{rest}`: the potential that a soft reset lowers the threshold to.  Any finite number
            below `threshold`, or one per channel `[channel]`; 0 with another reset.  With `rest=-threshold` the
            remaining potential
            has mean 0, and firing rates are unbiased (Xiao et al., SPIDE, arXiv 2302.00232).  Default: 0.0.
        gain: Input scale :math:`k`, the factor of the current.  Any finite number, or one per channel `[channel]`.
            Default: 1.0.
        amplitude: Output scale :math:`A`, the value that a spike is sent as.  Any finite number but 0.  Default: 1.0.
        noise: Standard deviation of normal noise that is added to every output, as on noisy hardware, in training and
            in evaluation.  It is drawn for each neuron and step, and does not depend on the chunk length.  Finite
            number, at least 0.  Default: 0.0.
        strict: True fires above the threshold only, and not at it.  Default: False.
        max_spikes: Largest number of spikes in a step.  Whole number of at least 1, or None for no limit.  A neuron
            that
            may send several sends :math:`s = \lfloor u / V_{th} \rfloor` of them where :math:`u > 0`, and its soft
            reset
            takes each of them off.  Default: 1.
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
            1 with what needs single spikes; `surrogate` is not a `Surrogate`; a subclass with a scan of its own is
            given an argument that it does not name in `scan_uses`; or a subclass has neither a `leak` nor a `scan`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.

    Attributes:
        threshold_units: True if the scan computes potentials in units of the reset amount.  A threshold that is
            trained is trained through the scale of the current, and the scan sees constants only.
        scan_uses: Names of those arguments from `rest` on that a custom `scan` uses.  The others are refused.
        spiking: True if the output is spikes.

    >>> import torch, spikewright as sw
    >>> class Halving(sw.Neuron):
    ...     leak = 0.5
    >>> neuron = Halving(
    ...     threshold=1.0, reset="subtract", detach_reset=True, surrogate=sw.surrogate.Sigmoid(4.0), inplace=False
    ... )
    >>> output, state = sw.Network(torch.nn.Sequential(neuron)).run(torch.full((4, 1, 1), 0.7))
    >>> output.flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    threshold_units: ClassVar[bool] = False
    scan_uses: ClassVar[frozenset[str]] = frozenset()
    spiking: ClassVar[bool] = True

    def __init__(
        self,
        *,
        threshold: Constants,
        reset: ResetKind,
        detach_reset: bool,
        surrogate: Surrogate,
        inplace: bool,
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
        super().__init__()
        name = type(self).__name__
        flags = {"detach_reset": detach_reset, "strict": strict}
        check_flag(name, **flags, learn_threshold=learn_threshold, learn_gain=learn_gain)
        fires_at, shift, scale = (
            constant(name, key, value, learned)
            for key, value, learned in (
                ("threshold", threshold, learn_threshold),
                ("rest", rest, False),
                ("gain", gain, learn_gain),
            )
        )
        check_constants(name, fires_at, shift, reset, {"amplitude": amplitude, "noise": noise})
        excluded = {"strict=True": strict, "rest": not _is(shift, 0), "reset='late'": reset == "late"}
        excluded["an attached hard reset"] = reset == "zero" and not detach_reset
        excluded["a step function of the surrogate's own"] = type(surrogate).__call__ is not Surrogate.__call__
        check_counting(name, max_spikes, lower_bound, excluded)
        check_potential(name, potential)
        check_surrogate(name, surrogate)
        check_elementwise(surrogate)
        given = {"rest": shift, "gain": scale, "amplitude": amplitude, "noise": noise, "strict": strict}
        given |= {"max_spikes": max_spikes, "lower_bound": lower_bound, "learn_threshold": learn_threshold}
        self._check_subclass(given | {"learn_gain": learn_gain, "potential": potential})
        self.hold("threshold", fires_at, learn_threshold)
        self.hold("rest", shift)
        self.hold("gain", scale, learn_gain)
        self.amplitude, self.noise = float(amplitude), float(noise)
        self.reset: ResetKind = reset
        self.detach_reset, self.strict, self.max_spikes = detach_reset, strict, max_spikes
        self.lower_bound = None if lower_bound is None else float(lower_bound)
        self.potential: Potential | None = potential
        self.surrogate = surrogate

    @property
    def leak(self) -> float | Tensor:
        """Share of the potential that is left after a step, in [0, 1]: a number, or a tensor of one per channel."""
        raise NotImplementedError(f"{type(self).__name__} has a scan of its own, and declares its decay in `dynamics`.")

    @property
    def dynamics(self) -> Dynamics:
        """Dynamics that rules may rely on; a subclass with a scan of its own declares nothing by default."""
        if not self._plain_scan:
            return UNKNOWN
        soft, unbounded = self.reset != "zero", self.lower_bound is None
        return Dynamics(
            linear=unbounded,
            rate_map=self.transfer if soft and unbounded else None,
            binary=self.binary,
            soft_reset=soft,
            detached_reset=self.detach_reset,
            decay=self.leak,
        )

    @property
    def reset_amount(self) -> float | Tensor:
        """Amount :math:`R` that a soft reset takes off the potential: a number, or a tensor of one per channel."""
        return self.threshold / self.leak if self.reset == "late" else self.threshold - self.rest

    @property
    def input_gain(self) -> float | Tensor:
        """Factor :math:`k` of the input: a number, or a tensor of one per channel."""
        return self.gain

    @property
    def firing_fraction(self) -> float | Tensor:
        """Threshold over reset amount: the potential at which a neuron fires, in units of the reset amount."""
        return self.threshold / self.reset_amount

    @property
    def most_spikes(self) -> float:
        """Largest number of spikes in a step; infinite without a limit."""
        return math.inf if self.max_spikes is None else self.max_spikes

    @property
    def spike_amplitude(self) -> float | Tensor:
        """Value :math:`A` that a spike is sent as; a tensor without axes if it is trained."""
        return self.amplitude

    @property
    def binary(self) -> bool:
        """True if all outputs are 0 or 1; False for a surrogate with a step function of its own."""
        if not self._plain_scan:
            return self.dynamics.binary
        usual = type(self.surrogate).__call__ is Surrogate.__call__ and self.max_spikes == 1
        return usual and _is(self.spike_amplitude, 1) and self.noise == 0

    @property
    def _plain_scan(self) -> bool:
        return type(self).scan is Neuron.scan and "scan" not in self.__dict__

    def _check_subclass(self, given: Mapping[str, object]) -> None:
        name = type(self).__name__
        if self._plain_scan:
            if type(self).leak is Neuron.leak:
                raise ConfigError(
                    f"{name} has neither a leak nor a scan of its own, so nothing says how its potential changes from "
                    "step to step. Give the class a property leak, or override scan(x, state, through_time)."
                )
            return
        for argument, value in given.items():
            if not _is(value, _USUAL[argument]) and argument not in self.scan_uses:
                raise ConfigError(
                    f"{name}({argument}={shown(value)}): {name} has a scan of its own, which is not known to make use "
                    f"of {argument}. Leave it out; or, if the scan does, declare scan_uses = frozenset({{'{argument}'}})."
                )

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        """Run the neurons over a chunk of steps; called by a run.

        Args:
            x: Current, `[time, batch, *feature]`.
            state: What the previous chunk returned: `membrane`, `[batch, *feature]`, and `seed` if there is noise.
                Empty at the start of a sequence.  Not changed in place.
            through_time: True lets gradients pass from one step to the next; False cuts them.

        Returns:
            Output, `[time, batch, *feature]`, or the pair of it and a potential if `potential` asks for that; and the
            new state.

        Raises:
            ShapeError: There is one constant per channel, and the current has another number of channels.
        """
        emitted: Tensor | None = None
        if self._is_plain:
            spikes, after = self._plain(x, state, through_time)
        else:
            carried = state.get("current"), state.get("membrane"), state.get("adaptation")
            emits = self.potential or "nothing"
            spikes, emitted, *left = neuron_scan(x, carried, self.equations(x), through_time, emits)
            names = ("current", "membrane", "adaptation")
            after = {name: value for name, value in zip(names, left, strict=True) if value is not None}
        sent = spikes if _is(self.spike_amplitude, 1) else spikes * self.spike_amplitude
        if self.noise != 0:
            drawn, after["seed"] = _drawn(state.get("seed"), sent)
            sent = sent + self.noise * drawn
        return (sent if emitted is None else (sent, emitted)), after  # type: ignore[return-value]

    def equations(self, x: Tensor) -> Equations:
        """Return the equations of the neurons, with constants per channel in the layout and precision of a current.

        Args:
            x: Current, `[time, batch, *feature]`.
        """
        equations = Equations(
            leak=self.leak,
            threshold=self.threshold,
            reset_amount=0.0 if self.reset == "zero" else self.reset_amount,
            reset="zero" if self.reset == "zero" else "subtract",
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            gain=self.input_gain,
            lower_bound=-math.inf if self.lower_bound is None else self.lower_bound,
            strict=self.strict,
            max_spikes=self.most_spikes,
        )
        return self.extended(equations).each(lambda value: self._per_channel(value, x))

    def extended(self, equations: Equations) -> Equations:
        """Return equations with what a subclass adds to them: a synaptic current, or a threshold that moves.

        Args:
            equations: Equations without it.
        """
        return equations

    @property
    def _is_plain(self) -> bool:
        """True if the scan of `spikewright.kernels.lif`, which has fewer constants, has what these neurons need."""
        if self.threshold_units:
            return True
        numbers = not any(isinstance(c, Tensor) for c in (self.threshold, self.rest, self.gain))
        one = self.max_spikes == 1 and not self.strict and self.lower_bound is None and self.potential is None
        usual = type(self).extended is Neuron.extended
        return numbers and one and usual and self.gain == 1 and self.reset != "late"

    def _plain(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        threshold, reset_amount, leak = self.threshold, self.reset_amount, self.leak
        if self.threshold_units:
            threshold, reset_amount, x = self.firing_fraction, 1.0, x * (self.gain / reset_amount)
        spikes, membrane = lif_scan(
            x,
            state.get("membrane"),
            leak=self._per_channel(leak, x) if isinstance(leak, Tensor) else leak,
            threshold=threshold,  # type: ignore[arg-type]  (numbers, as `_is_plain` has seen to)
            reset_amount=reset_amount,  # type: ignore[arg-type]
            reset=self.reset,  # type: ignore[arg-type]
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            through_time=through_time,
        )
        return spikes, {"membrane": membrane}

    @torch.no_grad()
    def spike_counts(self, output: Tensor, state: SiteState) -> Tensor:
        """Return the number of spikes in every entry of an output, of a neuron that sends some: mostly 0 or 1.

        The amplitude is divided out, and the noise of this output taken off.  A spike that is sent with the opposite
        sign counts as one.

        Args:
            output: What `scan` returned, `[time, batch, *feature]`.
            state: The state it returned.
        """
        spikes = output
        if self.noise and self._plain_scan:
            spikes = output - self.noise * _drawn(state["seed"] - len(output), output)[0]
        counts = (spikes / self.spike_amplitude).abs()
        return counts.round() if self.noise else counts

    def normalised_rate(self, rate: Tensor) -> Tensor:
        r"""Return :math:`k r / R`, the share of steps in which a mean current :math:`r` makes a neuron fire, unclamped.

        Over a sequence that starts at rest, with means weighted by :math:`\lambda^{T-t}` and :math:`Z` the sum of the
        weights, the mean of the spikes is exactly `normalised_rate - v[T] / (R Z)`.

        Args:
            rate: Mean current, `[batch, *feature]`.
        """
        share = self.input_gain / self.reset_amount
        return rate * (self._per_channel(share, rate.unsqueeze(0)) if isinstance(share, Tensor) else share)

    def transfer(self, rate: Tensor) -> Tensor:
        r"""Return the mean output for a mean current :math:`r`: :math:`A\,\min(n, \max(0, k r / R))`.

        :math:`n` is the largest number of spikes in a step.

        A neuron with a soft reset approaches this value over many steps, as far as its leak lets it.  Rules that learn
        from rates (DSR, IDE, SPIDE) differentiate this map.

        Args:
            rate: Mean current, `[batch, *feature]`.
        """
        return self.spike_amplitude * self.normalised_rate(rate).clamp(0, self.most_spikes)

    def project(self) -> None:
        """Clamp trained constants to their range; rules that train them call this before every sequence."""

    def decay_at(self, current: Tensor) -> float | Tensor | None:
        """Return the decay of `dynamics`, one per channel shaped to the channel axis of a current.

        Args:
            current: Current, `[time, batch, channel, *]`.
        """
        decay = self.dynamics.decay
        return None if decay is None else self._per_channel(decay, current)

    def current_decay_at(self, current: Tensor) -> float | Tensor | None:
        """Return the current decay of `dynamics`, one per channel shaped to the channel axis of a current.

        Args:
            current: Current, `[time, batch, channel, *]`.
        """
        decay = self.dynamics.current_decay
        return None if decay is None else self._per_channel(decay, current)

    def _per_channel(self, leak: float | Tensor, current: Tensor) -> float | Tensor:
        """Return a leak in the precision of a scan of this current, shaped to its channel axis."""
        if not isinstance(leak, Tensor):
            return leak
        leak = leak.to(precision(current))
        if leak.numel() == 1:
            return leak.reshape(())
        if leak.dim() != 1:
            return leak
        if leak.numel() != current.shape[2]:
            raise ShapeError(
                f"{type(self).__name__} has {leak.numel()} per-channel time constants or other constants, but its "
                f"current {list(current.shape[1:])} ([batch, channel, ...]) has {current.shape[2]} channels. "
                "Give one tau, threshold or gain, or one per channel `[channel]`."
            )
        return leak.view(-1, *[1] * (current.dim() - 3))

    def forward(self, current: Tensor) -> Tensor:
        """Raise `OutsideRun`: a neuron runs inside `Network.run`, which replaces this forward."""
        raise OutsideRun(
            f"{type(self).__name__} was called outside a run, with a tensor of shape {list(current.shape)}. A neuron "
            "needs the state that a run holds. Wrap the module, net = spikewright.Network(module), and call "
            "output, state = net.run(x) with x of shape [time, batch, *feature]."
        )

    def extra_repr(self) -> str:
        special = {name: getattr(self, name) for name in _USUAL if not name.startswith("learn")}
        shown = "".join(f", {k}={_text(v)}" for k, v in special.items() if not _is(v, _USUAL[k]))
        trained = [name for name in ("threshold", "gain") if isinstance(getattr(self, name), torch.nn.Parameter)]
        learned = "".join(f", learn_{name}=True" for name in trained)
        threshold = number_shown(self.threshold)
        return f"threshold={threshold}{shown}{learned}, reset={self.reset!r}, surrogate={self.surrogate}"


_USUAL: dict[str, object] = {
    "rest": 0.0,
    "gain": 1.0,
    "amplitude": 1.0,
    "noise": 0.0,
    "strict": False,
    "max_spikes": 1,
    "lower_bound": None,
    "learn_threshold": False,
    "learn_gain": False,
    "potential": None,
}
"""Arguments that change nothing, by name."""


def _text(value: object) -> str:
    numeric = isinstance(value, float | Tensor)
    return number_shown(value) if numeric else repr(value)


def _drawn(seed: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return standard normal numbers for the steps of a chunk, from the seed of its first, and the seed after it."""
    return drawn_by_step(seed, like.detach(), lambda step, generator: step.normal_(generator=generator))


def _is(value: object, usual: object) -> bool:
    """True if a constant is this number, and not several or a trained one."""
    return not isinstance(value, Tensor) and value == usual
