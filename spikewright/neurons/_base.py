"""What every neuron is to the rest of the library."""

from collections.abc import Mapping
from typing import ClassVar, get_args

import torch
from torch import Tensor

from spikewright._util.arguments import check_number
from spikewright.errors import ConfigError, OutsideRun, ShapeError, nearest
from spikewright.kernels.layout import precision
from spikewright.kernels.lif import Reset, lif_scan
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.neurons._elementwise import check_elementwise
from spikewright.surrogate import Surrogate
from spikewright.temporal import SiteState, Temporal, generators_by_step


class Neuron(Temporal):
    r"""A population of spiking neurons; it takes the shape of whatever current arrives.

    With gain :math:`k`, threshold :math:`V_{th}`, reset amount :math:`R = V_{th} - V_{rest}` and amplitude :math:`A`,

    .. math::
        u[t] = \lambda v[t-1] + k I[t], \qquad s[t] = \Theta(u[t] - V_{th}), \qquad v[t] = u[t] - R s[t], \qquad
        o[t] = A s[t].

    Neurons keep no state: a run hands it in and takes it back.  A subclass supplies `leak`; or a `scan` of its own, and
    then declares its `dynamics`, without which rules that need to know them refuse it.

    Args:
        threshold: Potential at which a neuron fires; it fires at equality.
        rest: Potential that a spike lowers the threshold to: a soft reset takes `threshold - rest` off.  With
            `rest=-threshold` the potential left over is as often above zero as below, and firing rates are unbiased
            (Xiao et al., arXiv 2302.00232).
        gain: Factor of the current.
        amplitude: What a spike carries.
        reset: "subtract" takes the reset amount off the potential (soft), "zero" returns it to zero (hard).
        detach_reset: Keep the backward pass out of the reset.  Only BPTT can tell the difference.
        surrogate: Slope used in place of the derivative of a spike.
        inplace: Accepted and ignored, so that `act_layer=LIF` works in libraries that build activations with it.
        noise: Standard deviation of what hardware adds to everything that is emitted, in training and in evaluation:
            normal, fresh at every step, the same however a sequence is cut into chunks.

    Raises:
        ConfigError: A constant is not one finite number; the threshold is not positive or not above rest, `reset` is
            unknown, a hard reset is combined with a rest potential, the amplitude is zero, or the noise negative;
            `surrogate` is no `Surrogate`; an argument is given that a scan of the neuron's own ignores; or a subclass
            has neither `leak` nor a `scan` of its own.
        ExtensionError: The slope of a surrogate of one's own at a number depends on other numbers, or is random.

    Attributes:
        threshold_units: Potentials are in units of the reset amount, as they always are where it is trained: then it
            is trained
            through the current and not inside the scan.
        scan_uses: Of the arguments `rest`, `gain`, `amplitude` and `noise`, those that a scan of a subclass's own
            makes use of; the others are refused there.
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
        check_number(name, "threshold", threshold, trained=_TRAINED_THRESHOLD)
        for key, value in (("rest", rest), ("gain", gain), ("amplitude", amplitude), ("noise", noise)):
            check_number(name, key, value, trained=_IN_THE_WEIGHTS)
        if not isinstance(surrogate, Surrogate):
            raise ConfigError(
                f"{name}(surrogate={surrogate!r}) was given {type(surrogate).__name__}, but the slope of a spike comes "
                "from an object with a method slope(x). Give an instance, such as surrogate=Sigmoid(4.0), or one of a "
                "subclass of Surrogate."
            )
        check_elementwise(surrogate)
        if not threshold > 0:
            raise ConfigError(f"{name}(threshold={threshold}): a neuron fires at a positive threshold.")
        if reset not in get_args(Reset):
            raise ConfigError(f"{name}(reset={reset!r}) is unknown. {nearest(reset, get_args(Reset))}")
        if not rest < threshold or (rest != 0 and reset == "zero"):
            raise ConfigError(
                f"{name}(threshold={threshold}, rest={rest}, reset={reset!r}): a spike takes the potential from the "
                "threshold down to rest, so rest lies below it; and a hard reset returns to zero, whatever rest is. "
                "Use reset='subtract' with rest < threshold, or rest=0."
            )
        if amplitude == 0:
            raise ConfigError(f"{name}(amplitude={amplitude}): a spike carries something, or nothing is transmitted.")
        if noise < 0:
            raise ConfigError(f"{name}(noise={noise}): a standard deviation is not negative. 0 is no noise.")
        self._check_subclass({"rest": (rest, 0), "gain": (gain, 1), "amplitude": (amplitude, 1), "noise": (noise, 0)})
        self.noise = float(noise)
        self.threshold = float(threshold)
        self.rest, self.gain, self.amplitude = float(rest), float(gain), float(amplitude)
        self.reset: Reset = reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    @property
    def leak(self) -> float | Tensor:
        """Fraction of the potential retained per step: a number, or one entry per channel."""
        raise NotImplementedError(f"{type(self).__name__} has a scan of its own, and declares its decay in `dynamics`.")

    @property
    def dynamics(self) -> Dynamics:
        """The declaration of what this neuron does; unknown for a scan of a subclass's own, until that overrides it."""
        if not self._plain_scan:
            return UNKNOWN
        soft = self.reset == "subtract"
        return Dynamics(
            decay=self.leak,
            linear=True,
            rate_map=self.transfer if soft else None,
            binary=self.binary,
            soft_reset=soft,
            detached_reset=self.detach_reset,
        )

    @property
    def reset_amount(self) -> float | Tensor:
        """What a soft reset takes off the potential; a tensor of no axes if it is trained."""
        return self.threshold - self.rest

    @property
    def firing_fraction(self) -> float:
        """Share of the reset amount at which a neuron fires."""
        return self.threshold / (self.threshold - self.rest)

    @property
    def spike_amplitude(self) -> float | Tensor:
        """What a spike carries."""
        return self.amplitude

    @property
    def binary(self) -> bool:
        """Whether all it emits is zeros and ones; not taken for granted of a step of somebody else's."""
        if not self._plain_scan:
            return self.dynamics.binary
        return type(self.surrogate).__call__ is Surrogate.__call__ and _is_one(self.spike_amplitude) and self.noise == 0

    @property
    def _plain_scan(self) -> bool:
        return type(self).scan is Neuron.scan and "scan" not in self.__dict__

    def _check_subclass(self, given: Mapping[str, tuple[float, float]]) -> None:
        name = type(self).__name__
        if self._plain_scan:
            if type(self).leak is Neuron.leak:
                raise ConfigError(f"{name} has neither a leak nor a scan of its own, so it is no neuron. Write one.")
            return
        for argument, (value, usual) in given.items():
            if value != usual and argument not in self.scan_uses:
                raise ConfigError(
                    f"{name}({argument}={value}): {name} has a scan of its own, which is not known to make use of "
                    f"{argument}. Leave it out; or, if the scan does, declare scan_uses = frozenset({{'{argument}'}})."
                )

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        threshold, reset_amount, gain = self.threshold, self.reset_amount, self.gain
        if self.threshold_units or isinstance(reset_amount, Tensor):
            threshold, reset_amount, gain = self.firing_fraction, 1.0, gain / reset_amount
        leak = self._per_channel(self.leak, x)
        spikes, membrane = lif_scan(
            x if _is_one(gain) else x * gain,
            state.get("membrane"),
            leak=leak,
            threshold=threshold,
            reset_amount=reset_amount,
            reset=self.reset,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            through_time=through_time,
        )
        sent = spikes if _is_one(self.spike_amplitude) else spikes * self.spike_amplitude
        if self.noise == 0:
            return sent, {"membrane": membrane}
        generators, seed = generators_by_step(state.get("seed"), sent)
        drawn = torch.stack([torch.empty_like(sent[0]).normal_(generator=g) for g in generators]).detach()
        return sent + self.noise * drawn, {"membrane": membrane, "seed": seed}

    def normalised_rate(self, rate: Tensor) -> Tensor:
        r"""Return the share of steps a mean current would make a neuron fire at, if it could be any number.

        Over any sequence from rest, with the means weighted by :math:`\lambda^{T-t}` and :math:`Z` the sum of these
        weights, the share of spikes is exactly `normalised_rate - v[T] / (R Z)`.

        Args:
            rate: Mean current, `[batch, *feature]`.
        """
        return rate * (self.gain / self.reset_amount)

    def transfer(self, rate: Tensor) -> Tensor:
        r"""Map a mean current to a mean output: :math:`A\,\min(1, \max(0, k r / R))`.

        What a neuron with a soft reset tends to over many steps, as far as its leak lets it; the rules that learn from
        rates differentiate this map.

        Args:
            rate: Mean current, `[batch, *feature]`.
        """
        return self.spike_amplitude * self.normalised_rate(rate).clamp(0, 1)

    def project(self) -> None:
        """Bring trained constants back into their range; rules that train them call it before every sequence."""

    def decay_at(self, current: Tensor) -> float | Tensor | None:
        """Return the declared decay such that one per channel meets the channel axis of `[time, batch, channel, *]`."""
        decay = self.dynamics.decay
        return None if decay is None else self._per_channel(decay, current)

    def _per_channel(self, leak: float | Tensor, current: Tensor) -> float | Tensor:
        """Return a leak in the precision in which a scan of such a current computes; a single entry without axes."""
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
        """Always an error: inside a run the network answers in the neuron's place."""
        raise OutsideRun(
            f"{type(self).__name__} was called outside a run, with a tensor of shape {list(current.shape)}. A neuron "
            "needs the state that a run holds. Wrap the module, net = spikewright.Network(module), and call "
            "output, state = net.run(x) with x of shape [time, batch, *feature]."
        )

    def extra_repr(self) -> str:
        special = {"rest": (self.rest, 0), "gain": (self.gain, 1), "amplitude": (self.amplitude, 1)}
        special["noise"] = (self.noise, 0)
        shown = "".join(f", {name}={value:g}" for name, (value, usual) in special.items() if value != usual)
        return f"threshold={self.threshold:g}{shown}, reset={self.reset!r}, surrogate={self.surrogate}"


_TRAINED_THRESHOLD = "For a trained threshold, use DSRIF(learn_threshold=True) or DSRLIF(learn_threshold=True)."
_IN_THE_WEIGHTS = "To train a scale, train the weights or a normalisation in front of or behind the neurons."


def _is_one(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 1
