"""The base class of neurons."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from spikewright._util.draws import drawn_by_step
from spikewright._util.ranges import check_flag
from spikewright.errors import ConfigError, OutsideRun, ShapeError
from spikewright.kernels.layout import precision
from spikewright.kernels.lif import Reset, lif_scan
from spikewright.neurons._constants import check_constants, check_surrogate
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.neurons._elementwise import check_elementwise
from spikewright.surrogate import Surrogate
from spikewright.temporal import SiteState, Temporal


class Neuron(Temporal):
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
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0.
        reset: What a spike does to the potential: "subtract" takes the reset amount off it (soft), "zero" sets it to 0
            (hard).
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time depend on it.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.
        inplace: Accepted and ignored, so that `act_layer=LIF` works in libraries that build activations with it.
        rest: Reset shift :math:`V_{rest}`: the potential that a soft reset lowers the threshold to.  Any finite number
            below `threshold`; 0 with a hard reset.  With `rest=-threshold` the remaining potential has mean 0, and
            firing rates are unbiased (Xiao et al., SPIDE, arXiv 2302.00232).  Default: 0.0.
        gain: Input scale :math:`k`, the factor of the current.  Any finite number.  Default: 1.0.
        amplitude: Output scale :math:`A`, the value that a spike is sent as.  Any finite number but 0.  Default: 1.0.
        noise: Standard deviation of normal noise that is added to every output, as on noisy hardware, in training and
            in evaluation.  It is drawn for each neuron and step, and does not depend on the chunk length.  Finite
            number, at least 0.  Default: 0.0.

    Raises:
        ConfigError: A constant is not one finite number or is out of its range; `reset` is unknown; `detach_reset` is
            not a bool; `rest` is not 0 with a hard reset; `surrogate` is not a `Surrogate`; a subclass with a scan of
            its own is given an argument that it does not name in `scan_uses`; or a subclass has neither a `leak` nor a
            `scan`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.

    Attributes:
        threshold_units: True if the scan computes potentials in units of the reset amount.  A threshold that is
            trained is trained through the scale of the current, and the scan sees constants only.
        scan_uses: Names of those arguments among `rest`, `gain`, `amplitude` and `noise` that a custom `scan` uses.
            The others are refused.

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

    def __init__(
        self,
        *,
        threshold: float,
        reset: Reset,
        detach_reset: bool,
        surrogate: Surrogate,
        inplace: bool,
        rest: float = 0.0,
        gain: float = 1.0,
        amplitude: float = 1.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        constants = {"rest": rest, "gain": gain, "amplitude": amplitude, "noise": noise}
        check_constants(name, threshold, reset, constants)
        check_flag(name, detach_reset=detach_reset)
        check_surrogate(name, surrogate)
        check_elementwise(surrogate)
        self._check_subclass(constants)
        self.threshold = float(threshold)
        self.rest, self.gain, self.amplitude, self.noise = float(rest), float(gain), float(amplitude), float(noise)
        self.reset: Reset = reset
        self.detach_reset = detach_reset
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
        soft = self.reset == "subtract"
        return Dynamics(
            linear=True,
            rate_map=self.transfer if soft else None,
            binary=self.binary,
            soft_reset=soft,
            detached_reset=self.detach_reset,
            decay=self.leak,
        )

    @property
    def reset_amount(self) -> float | Tensor:
        """Amount :math:`R` that a soft reset takes off the potential; a tensor without axes if it is trained."""
        return self.threshold - self.rest

    @property
    def firing_fraction(self) -> float:
        """Threshold over reset amount: the potential at which a neuron fires, in units of the reset amount."""
        return self.threshold / (self.threshold - self.rest)

    @property
    def spike_amplitude(self) -> float | Tensor:
        """Value :math:`A` that a spike is sent as; a tensor without axes if it is trained."""
        return self.amplitude

    @property
    def binary(self) -> bool:
        """True if all outputs are 0 or 1; False for a surrogate with a step function of its own."""
        if not self._plain_scan:
            return self.dynamics.binary
        return type(self.surrogate).__call__ is Surrogate.__call__ and _is_one(self.spike_amplitude) and self.noise == 0

    @property
    def _plain_scan(self) -> bool:
        return type(self).scan is Neuron.scan and "scan" not in self.__dict__

    def _check_subclass(self, constants: Mapping[str, float]) -> None:
        name = type(self).__name__
        if self._plain_scan:
            if type(self).leak is Neuron.leak:
                raise ConfigError(
                    f"{name} has neither a leak nor a scan of its own, so nothing says how its potential changes from "
                    "step to step. Give the class a property leak, or override scan(x, state, through_time)."
                )
            return
        for argument, value in constants.items():
            if value != _USUAL[argument] and argument not in self.scan_uses:
                raise ConfigError(
                    f"{name}({argument}={value}): {name} has a scan of its own, which is not known to make use of "
                    f"{argument}. Leave it out; or, if the scan does, declare scan_uses = frozenset({{'{argument}'}})."
                )

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        """Run the neurons over a chunk of steps; called by a run.

        Args:
            x: Current, `[time, batch, *feature]`.
            state: What the previous chunk returned: `membrane`, `[batch, *feature]`, and `seed` if there is noise.
                Empty at the start of a sequence.  Not changed in place.
            through_time: True lets gradients pass from one step to the next; False cuts them.

        Returns:
            Output, `[time, batch, *feature]`, and the new state.

        Raises:
            ShapeError: There is one leak per channel, and the current has another number of channels.
        """
        threshold, reset_amount, gain = self.threshold, self.reset_amount, self.gain
        if self.threshold_units or isinstance(reset_amount, Tensor):
            threshold, reset_amount, gain = self.firing_fraction, 1.0, gain / reset_amount
        current, amplitude = x if _is_one(gain) else x * gain, self.spike_amplitude
        sends_ones, leak = _is_one(amplitude), self.leak
        spikes, membrane = lif_scan(
            current,
            state.get("membrane"),
            leak=self._per_channel(leak, x) if isinstance(leak, Tensor) else leak,
            threshold=threshold,
            reset_amount=reset_amount,
            reset=self.reset,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            through_time=through_time,
        )
        sent = spikes if sends_ones else spikes * amplitude
        if self.noise == 0:
            return sent, {"membrane": membrane}
        drawn, seed = _drawn(state.get("seed"), sent)
        return sent + self.noise * drawn, {"membrane": membrane, "seed": seed}

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
        return rate * (self.gain / self.reset_amount)

    def transfer(self, rate: Tensor) -> Tensor:
        r"""Return the mean output for a mean current :math:`r`: :math:`A\,\min(1, \max(0, k r / R))`.

        A neuron with a soft reset approaches this value over many steps, as far as its leak lets it.  Rules that learn
        from rates (DSR, IDE, SPIDE) differentiate this map.

        Args:
            rate: Mean current, `[batch, *feature]`.
        """
        return self.spike_amplitude * self.normalised_rate(rate).clamp(0, 1)

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
                f"{type(self).__name__} has {leak.numel()} per-channel time constants, but its current "
                f"{list(current.shape[1:])} ([batch, channel, ...]) has {current.shape[2]} channels. "
                "Give one tau, or one per channel."
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
        special = {name: getattr(self, name) for name in _USUAL}
        shown = "".join(f", {name}={value:g}" for name, value in special.items() if value != _USUAL[name])
        return f"threshold={self.threshold:g}{shown}, reset={self.reset!r}, surrogate={self.surrogate}"


_USUAL = {"rest": 0.0, "gain": 1.0, "amplitude": 1.0, "noise": 0.0}
"""Constants that change nothing, by argument."""


def _drawn(seed: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return standard normal numbers for the steps of a chunk, from the seed of its first, and the seed after it."""
    return drawn_by_step(seed, like.detach(), lambda step, generator: step.normal_(generator=generator))


def _is_one(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 1
