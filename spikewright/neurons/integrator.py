"""The leaky integrator, whose output is its potential."""

import math
from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor

from spikewright._util.ranges import check_flag
from spikewright.errors import ConfigError
from spikewright.kernels.equations import Equations
from spikewright.kernels.neuron import neuron_scan
from spikewright.neurons._constants import Constants, number_shown
from spikewright.neurons._decays import Decaying, time_constant
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.neurons.leaky import check_tied
from spikewright.surrogate import Sigmoid
from spikewright.temporal import SiteState


class LI(Decaying):
    r"""Leaky integrator: a membrane that does not fire, and whose potential is the output; a readout.

    With decay :math:`\lambda = 1 - 1/\tau` and input scale :math:`k`,

    .. math::
        v[t] = \lambda v[t-1] + k I[t], \qquad o[t] = v[t].

    With `tau_syn` the input enters a synaptic current :math:`c[t] = \alpha c[t-1] + k I[t]`, and
    :math:`v[t] = \lambda v[t-1] + g\,c[t]`.  With `tau=None` nothing is lost, :math:`\lambda = 1`, and the output is a
    sum of inputs.  Input and output are `[time, batch, *feature]`; the state in a run is `membrane`, and `current` if
    there is one, `[batch, *feature]`, in float32 at least.

    OTTT traces the layer in front with the decay of the integrator, which is exact.  Over many steps with a mean input
    :math:`r` the output approaches :math:`k r / (1 - \lambda)`, the rate map without a synaptic current and with
    :math:`\lambda < 1`.  It has no firing rate.

    **Elsewhere**

    - SpikingJelly `NonSpikingLIFNode(tau)` (decode="mean-mem" and "last_mem", too): `LI(tau, gain=1/tau)`.
    - SpikingJelly `NonSpikingIFNode()` (decode="mean-mem" and "last_mem", too): `LI(None)`.
    - snnTorch `Leaky(beta, reset_mechanism="none")` (its potential; a neuron that uses its spikes, too, is refused):
      `LI(1/(1-beta))`.
    - snnTorch `Leaky(1.0, reset_mechanism="none")` (its potential): `LI(None)`.
    - snnTorch `Lapicque(R=tau/2, C=2.0, time_step=1.0, reset_mechanism="none")` (its potential): `LI(tau, gain=1/2.0)`.
    - snnTorch `Synaptic(alpha=e, beta=beta, reset_mechanism="none")` (its potential): `LI(1/(1-beta),
      tau_syn=1/(1-e))`.
    - sinabs `ExpLeak(tau_mem=tau)` (as it is made: tau_mem is trained, -1/ln(sigmoid(leak_logit))): `LI(1/(1-k),
      learn_tau=True)`.
    - sinabs `ExpLeak(tau_mem=tau, norm_input=True)` (with requires_grad_(False)): `LI(1/(1-k), gain=1-k)`.
    - Norse `LICell(LIParameters(tau_mem_inv=1000*g, tau_syn_inv=1000*d))` (dt = 0.001; LI too): `LI(1/g, tau_syn=1/d,
      current_gain=g)`.
    - Norse `LIBoxCell(LIBoxParameters(tau_mem_inv=1000*g))` (dt = 0.001): `LI(1/g, gain=g)`.

    Args:
        tau: Time constant in steps.  Number >= 1, or one per channel (axis 1 of `[batch, channel, ...]`) as a sequence
            or tensor `[channel]`; a tensor of more axes must broadcast to `[batch, *feature]`; None for no leak.
            Default: 2.0.
        gain: Input scale :math:`k`.  Any finite number, or one per channel `[channel]`; or "1/tau", which follows a
            trained `tau`.  Default: 1.0.
        learn_tau: True trains the time constant, through the parameter `leak_logit`, with
            :math:`\lambda = \sigma(\text{leak\_logit})`; `tau` is its start value and must be > 1.  Default: False.
        tau_syn: Time constant of a synaptic current in steps.  Number >= 1, or one per channel `[channel]`.  Default:
            None, there is no such current.
        current_gain: Current scale :math:`g`, used with `tau_syn`.  Any finite number, or one per channel `[channel]`.
            Default: 1.0.
        inplace: Accepted and ignored, so that `act_layer=LI` works in libraries that build activations with it.
            Default: False.

    Raises:
        ConfigError: A time constant is not a finite number or several, is below 1, or is 1 or None and trained; a scale
            is not a finite number or one per channel `[channel]`.
        ShapeError: In a run, the current has another number of channels than a constant.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.LI(tau=2.0)))
    >>> output, state = net.run(torch.ones(4, 1, 1))
    >>> output.flatten().tolist()
    [1.0, 1.5, 1.75, 1.875]
    """

    scan_uses: ClassVar[frozenset[str]] = frozenset({"gain"})
    spiking: ClassVar[bool] = False

    def __init__(
        self,
        tau: Constants | None = 2.0,
        gain: Constants | Literal["1/tau"] = 1.0,
        learn_tau: bool = False,
        tau_syn: Constants | None = None,
        current_gain: Constants = 1.0,
        inplace: bool = False,
    ) -> None:
        name = type(self).__name__
        check_flag(name, learn_tau=learn_tau)
        check_tied(name, gain, learned=False)
        super().__init__(
            threshold=1.0,
            reset="subtract",
            detach_reset=True,
            surrogate=Sigmoid(4.0),
            inplace=inplace,
            gain=1.0 if isinstance(gain, str) else gain,
        )
        self._tied = isinstance(gain, str)
        if tau is None and self._tied:
            raise ConfigError(
                f"{name}(tau=None, gain='1/tau'): without a leak 1/tau is 0, and nothing would enter. Give a time "
                "constant, such as tau=20.0, or a gain, such as gain=1.0."
            )
        if tau is None and learn_tau:
            raise ConfigError(
                f"{name}(tau=None, learn_tau=True): without a leak there is no time constant to train. Give a start "
                "value, such as tau=20.0."
            )
        self.set_decay("", "tau", 1.0 if tau is None else tau, learn_tau)
        if tau is None:
            self._leak = 1.0
        self.set_optional_current(tau_syn, current_gain)

    @property
    def binary(self) -> bool:
        """False: the output is a potential."""
        return False

    @property
    def dynamics(self) -> Dynamics:
        if type(self).scan is not LI.scan:
            return UNKNOWN
        lossless = not isinstance(self.leak, Tensor) and self.leak == 1
        return Dynamics(
            decay=self.leak,
            current_decay=self.current_leak if self.has_current else None,
            linear=True,
            rate_map=None if self.has_current or lossless else self.transfer,
            soft_reset=True,
            detached_reset=True,
        )

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        carried = state.get("current"), state.get("membrane"), None
        scanned = neuron_scan(x, carried, self.equations(x), through_time, emits="after reset")
        _, potential, current, membrane, _ = scanned
        assert potential is not None and membrane is not None
        return potential, {"membrane": membrane} | ({} if current is None else {"current": current})

    def extended(self, equations: Equations) -> Equations:
        return replace(self.with_current(equations), threshold=math.inf)

    def transfer(self, rate: Tensor) -> Tensor:
        r"""Return the potential that a mean current :math:`r` leads to, :math:`k r / (1 - \lambda)`.

        Args:
            rate: Mean current, `[batch, *feature]`.
        """
        scale = self.input_gain / (1 - self.leak)
        return rate * (self._per_channel(scale, rate.unsqueeze(0)) if isinstance(scale, Tensor) else scale)

    def extra_repr(self) -> str:
        lossless = not isinstance(self.leak, Tensor) and self.leak == 1
        shown = "tau=None" if lossless else f"tau={number_shown(self.tau)}"
        shown += ", learn_tau=True" if self.learns("") else ""
        shown += ", gain='1/tau'" if self._tied else f", gain={number_shown(self.gain)}"
        if not self.has_current:
            return shown
        tau_syn = number_shown(time_constant(self.current_leak))
        return f"{shown}, tau_syn={tau_syn}, current_gain={number_shown(self.current_gain)}"
