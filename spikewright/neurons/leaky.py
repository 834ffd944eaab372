"""The leaky integrate-and-fire neuron."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from spikewright._util.arguments import is_numeric, shown
from spikewright._util.ranges import check_flag
from spikewright.errors import ConfigError
from spikewright.kernels.layout import precision
from spikewright.kernels.lif import Reset
from spikewright.neurons._base import Neuron
from spikewright.neurons._constants import number_shown
from spikewright.surrogate import Sigmoid, Surrogate


class LIF(Neuron):
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

    | Elsewhere | Here |
    |---|---|
    | SpikingJelly `LIFNode(tau, v_reset=0.0)` | `LIF(tau, gain=1/tau, reset="zero", detach_reset=False)` |
    | SpikingJelly `decay_input=False` | the same with `gain=1` |
    | SpikingJelly `v_reset=None` | the same with `reset="subtract"` |
    | SpikingJelly `v_reset=c` | the same with `threshold=V - c`; potentials are measured from c |
    | SpikingJelly `detach_reset=True` | the same with `detach_reset=True` |
    | SpikingJelly `ParametricLIFNode(tau, decay_input=False)` | the same with `gain=1, learn_tau=True` |
    | snnTorch `Leaky(beta)`, soft reset, `reset_delay=True` | `LIF(1/(1-beta), threshold=S(V), rest=S(V)-V/beta)` |
    | snnTorch `Leaky(beta, reset_mechanism="zero")` | `LIF(1/(1-beta), threshold=S(V), reset="zero")` |
    | snnTorch hard reset, `reset_delay=False` | the same with `detach_reset=False` |
    | snnTorch `graded_spikes_factor=a` | the same with `amplitude=a` |
    | snnTorch `Lapicque(beta)`, soft reset | `LIF(1/k, gain=time_step/C, threshold=S(V), rest=S(V)-V/(1-k))` |
    | sinabs `LIF(tau_mem, spike_fn=SingleSpike)`, a = exp(-1/tau_mem) | `LIF(1/(1-a), gain=1-a, detach_reset=False)` |
    | sinabs `norm_input=False` | the same with `gain=1` |
    | sinabs `reset_fn=MembraneReset()` | the same with `reset="zero", detach_reset=True` |
    | Norse `LIFBoxCell`, g = dt tau_mem_inv | `LIF(1/g, gain=g, threshold=S(V), reset="zero", detach_reset=False)` |
    | Norse `reset_method=reset_subtract` | the same with `reset="subtract", rest=S(V)-V` |
    | NIR `LIF(tau=tau*dt, r=gain*tau)`, Euler steps of dt | `LIF(tau, gain=gain, reset="zero")` |

    The k of `Lapicque` is ln(1/beta), and the w of `ParametricLIFNode` is `-leak_logit`.  Norse needs `v_leak =
    v_reset`, from which `V` is measured.  The first lines of SpikingJelly, snnTorch and Norse are their defaults; that
    of sinabs is not, because its default is `MultiSpike`.  There is no equal of `MultiSpike`, of Norse `LIFCell`, whose
    current has a leak of its own, or of snnTorch `Leaky` with a soft reset and `reset_delay=False`, which sends a spike
    late after a potential above twice the threshold.

    Args:
        tau: Time constant in steps.  Number >= 1, or one per channel (axis 1 of `[batch, channel, ...]`) as a sequence
            or tensor `[channel]`; a tensor of more axes must broadcast to `[batch, *feature]`.  Constants stay in
            double precision when the module is cast, and are used in that of the scan.  Default: 2.0.
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0.  Default: 1.0.
        reset: What a spike does to the potential: "subtract" takes `threshold - rest` off it (soft), "zero" sets it to
            0 (hard).  Default: "subtract".
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time (BPTT) depend
            on it.  Default: True.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.  Default: `Sigmoid(4.0)`.
        learn_tau: True trains the time constant (a parametric LIF).  The parameter is `leak_logit`, with
            :math:`\lambda = \sigma(\text{leak\_logit})`; `tau` is its start value and must be > 1.  Default: False.
        inplace: Accepted and ignored, so that `act_layer=LIF` works in libraries that build activations with it.
            Default: False.
        rest: Reset shift :math:`V_{rest}`: a soft reset takes `threshold - rest` off the potential.  Any finite number
            below `threshold`; 0 with a hard reset.  Default: 0.0.
        gain: Input scale :math:`k`, the factor of the current.  Any finite number.  Default: 1.0.
        amplitude: Output scale :math:`A`, the value that a spike is sent as.  Any finite number but 0.  Default: 1.0.
        noise: Standard deviation of normal noise that is added to every output, in training and in evaluation, drawn
            for each neuron and step.  Finite number, at least 0.  Default: 0.0.

    Raises:
        ConfigError: `tau` is not a finite number or several, is below 1, or is 1 with `learn_tau`; another constant is
            not one finite number or is out of its range; `reset` is unknown; `detach_reset` or `learn_tau` is not a
            bool; `rest` is not 0 with a hard reset; or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.
        ShapeError: In a run, the current has another number of channels than `tau`.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.LIF(tau=2.0)))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.6))
    >>> output.flatten().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        tau: float | Sequence[float] | Tensor = 2.0,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        learn_tau: bool = False,
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
        check_flag(type(self).__name__, learn_tau=learn_tau)
        value = _time_constants(tau, learn_tau)
        self._leak: float | None = None
        self._learned = learn_tau
        if learn_tau:
            # sigmoid(log(tau - 1)) = 1 - 1/tau
            self.leak_logit = nn.Parameter(torch.log(value - 1).to(torch.get_default_dtype()))
        elif value.numel() == 1:
            self._leak = 1 - 1 / value.item()
        else:
            self.register_buffer("leaks", 1 - 1 / value)

    @property
    def leak(self) -> float | Tensor:
        """Share of the potential that is left after a step, `1 - 1/tau`: a number, or a tensor `[channel]`."""
        if self._leak is not None:
            return self._leak
        if self._learned:  # the parameter, or the value that a parametrization or a hook computes
            logit = self.leak_logit
            return torch.sigmoid(logit.to(precision(logit)))
        return cast(Tensor, self.leaks)

    @property
    def tau(self) -> float | Tensor:
        """The time constant in steps, `1 / (1 - leak)`: a number, or a tensor `[channel]`."""
        leak = self.leak
        return math.inf if isinstance(leak, float) and leak == 1 else 1 / (1 - leak)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move constants to another device, but keep their precision."""
        exact = self._buffers.get("leaks")
        super()._apply(fn, recurse)
        if exact is not None:
            self._buffers["leaks"] = exact.to(self.get_buffer("leaks").device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load constants, unless the stored ones are the present ones in lower precision."""
        key, exact = f"{prefix}leaks", self._buffers.get("leaks")
        stored = state_dict.get(key)
        if isinstance(stored, Tensor) and exact is not None and stored.shape == exact.shape:
            if torch.equal(stored, exact.to(stored)):
                state_dict[key] = exact
        elif (
            isinstance(stored, Tensor) and self._leak is not None and stored.numel() == 1
        ):  # stored as a tensor of one entry
            del state_dict[key]
            if stored.item() != torch.tensor(self._leak, dtype=torch.float64).to(stored.dtype).item():
                self._leak = stored.item()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        learned = ", learn_tau=True" if self._learned else ""
        return f"tau={number_shown(self.tau)}{learned}, {super().extra_repr()}"


def _time_constants(tau: object, learned: bool) -> Tensor:
    """Check time constants and return them in double precision."""
    if isinstance(tau, bool):
        raise ConfigError(
            f"LIF(tau={tau}): tau is a number, and {tau} would stand for {float(tau)}. A library that calls "
            f"act_layer({tau}) means inplace, which neurons ignore: give it act_layer=lambda *_: LIF(). In "
            "LIF(tau=2.0): the time constant is a number of steps, or one number per channel."
        )
    asked = f"LIF(tau={shown(tau)})"
    if isinstance(tau, Tensor) and tau.requires_grad:
        raise ConfigError(
            f"{asked} was given a tensor that asks for a gradient, but tau is a start value, and no gradient "
            "would reach it. Use LIF(tau=tau.detach(), learn_tau=True), which trains the logit of the leak; for a "
            "constant, tau.detach()."
        )
    try:
        value = torch.as_tensor(tau if is_numeric(tau) else (), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, OverflowError, RuntimeError):  # rows of several lengths, numbers beyond floats
        value = torch.empty(0)
    if not value.numel():
        raise ConfigError(
            f"{asked}: the time constant is a number of steps, or one number per channel. Give a float such as "
            "tau=2.0, or a list of as many as there are channels."
        )
    if not bool((value >= 1).all()) or (learned and bool((value == 1).any())):
        bound = "above 1 to be learned" if learned else "at least 1"
        raise ConfigError(
            f"{asked}: the time constant is in steps and leak = 1 - 1/tau, so tau must be {bound}. "
            "A leak (snnTorch's beta) is given as tau = 1 / (1 - beta)."
        )
    if not bool(value.isfinite().all()):
        raise ConfigError(
            f"{asked}: the time constant is a finite number of steps. Neurons that retain everything are IF()."
        )
    return value.detach().clone()
