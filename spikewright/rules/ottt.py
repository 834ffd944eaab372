"""Online training through time: a trace at every synapse stands in for the past."""

from dataclasses import replace

import torch
from torch import Tensor

from spikewright.errors import IncompatibleRule
from spikewright.kernels.trace import trace_scan
from spikewright.metrics.operations import Operations
from spikewright.network.sites import Sites
from spikewright.network.wiring import Synapse, Wiring
from spikewright.neurons import Dynamics, Neuron
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._online import OnlineRule
from spikewright.spatial import BP, Local, Spatial
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class OTTT(OnlineRule):
    r"""Online training through time: each step learns from a trace of what has arrived, then is forgotten.

    With :math:`\lambda` the leak of the neuron the synapse feeds (0 for a readout, which has no membrane),

    .. math::
        p_l[t] &= \lambda\, p_l[t-1] + x_l[t] \\
        \delta_l[t] &= \psi(u_l[t]) \odot W_{l+1}^\top \delta_{l+1}[t] \\
        \nabla W_l &= \textstyle\sum_t \delta_l[t] \otimes p_l[t].

    A bias is a weight from a constant 1 and is traced like one.

    Exact when: the synapse feeds the last spiking layer through linear operations, and that layer has a soft, detached
    reset; and for parameters that reach no neuron; unless a delay or feedback carries the signal of either, or the
    spikes of that layer, to later steps.  Elsewhere it deviates from BPTT.
    Cost: activation memory independent of the number of steps; one backward per step.
    Carried: a trace per traced synapse, `[batch, *input_feature]`.  Checkpointed: nothing.

    Args:
        online: Update the weights at every step (OTTT-O) instead of once per sequence (OTTT-A).
        trace_input: Trace synapses that see the network's input.
        trace_bias: Trace biases, wherever the weight beside them is traced.
        trace_readout: Trace synapses that feed no neuron, with the leak of the neurons that send to them.
        leak: Use this leak at every trace instead of the receiving neuron's.
        reference: Do as the authors' code: no trace at the input, at biases, or where real-valued currents arrive; a
            traced readout; the sender's leak.  Explicit `trace_*` arguments win over it.
        chunk: Steps alive at once; 1 if `online`.
        spatial: How errors get from the output to the layers, see `spikewright.spatial`.
        local: Readouts and errors of every layer beside that, see `spikewright.spatial.Local`.

    Raises:
        IncompatibleRule: The loss is not per step; or a synapse feeds neurons of different leaks, or of one leak per
            channel, where no single trace is right and `leak` does not say which to use.

    Reference:
        Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv 2210.04195,
        section 4.
    """

    def __init__(
        self,
        online: bool = False,
        trace_input: bool | None = None,
        trace_bias: bool | None = None,
        trace_readout: bool | None = None,
        leak: float | None = None,
        reference: bool = False,
        chunk: Chunk = 1,
        spatial: Spatial = BP(),  # noqa: B008  (it has no state)
        local: Local | None = None,
    ) -> None:
        super().__init__(1 if online else chunk, spatial, local)
        self.online = online
        if online:
            self.traits = replace(self.traits, updates="every step")
        self.trace_input = (not reference) if trace_input is None else trace_input
        self.trace_bias = (not reference) if trace_bias is None else trace_bias
        self.trace_readout = reference if trace_readout is None else trace_readout
        self.fixed_leak = leak
        self.reference = reference

    def on_weight(self, layer: Synapse, x: Tensor, carried: SiteState) -> tuple[SynapticInput, SiteState]:
        leak = self._leak(layer)
        if isinstance(leak, float) and leak == 0:
            return SynapticInput(x), carried
        traces, trace = trace_scan(x, carried.get("trace"), leak)
        after = {"trace": trace}
        presynaptic_bias = None
        if self.trace_bias:
            presynaptic_bias = _trace_of_ones(len(x), carried.get("bias_trace"), leak, traces)
            after["bias_trace"] = presynaptic_bias[-1]
        return SynapticInput(x, presynaptic=traces, presynaptic_bias=presynaptic_bias), after

    def cost(self, done: Done) -> Cost | None:
        cost, traces = super().cost(done), 0.0
        for site, work in done.work.items():
            if self._leak(done.wiring.synapses[site]) != 0:
                traces += work.inputs * done.learns(site) + (self.trace_bias and done.learns_bias(site))
        # One multiplication with addition per step and entry of a trace.
        return None if cost is None else cost + Cost(Operations(0, done.steps * traces), 0)

    def check(self, wiring: Wiring, sites: Sites) -> None:
        super().check(wiring, sites)
        advice = "Pass OTTT(leak=...) to name one for every trace, or use SLTT or BPTT, which need none."
        for synapse in wiring.synapses.values():
            leaks = {site: _one(neuron.dynamics.decay) for site, neuron in self._neurons(synapse).items()}
            asked = f"OTTT keeps one trace per input at '{synapse.name}', but that synapse feeds"
            for site, leak in leaks.items():
                if leak is None:
                    raise IncompatibleRule(
                        f"{asked} '{site}' ({type(wiring.neurons[site]).__name__}), which declares no single decay, so "
                        f"that no such trace is what it holds of its inputs. {advice}"
                    )
            shown = ", ".join(f"'{site}' (leak {_show(leak)})" for site, leak in leaks.items())
            if any(isinstance(leak, Tensor) and leak.numel() > 1 for leak in leaks.values()):
                raise IncompatibleRule(f"{asked} {shown}: a leak per channel needs a trace per weight. {advice}")
            if len({_number(leak) for leak in leaks.values()}) > 1:
                raise IncompatibleRule(f"{asked} neurons of different leaks: {shown}. {advice}")

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        synapses = wiring.synapse_of(parameter)
        if not self.reaches_as_bptt(parameter, wiring, steps):
            return False
        if steps == 1:
            return True
        if not wiring.receivers[parameter]:
            return not any(self._leak(s) for s in synapses)
        own = not self.reference and self.fixed_leak is None
        traced = own and (self.trace_bias or "bias" not in parameter)
        return (
            bool(synapses)
            and parameter not in wiring.outside
            and traced
            and all(self._exact_at(s, wiring) for s in synapses)
        )

    def _exact_at(self, synapse: Synapse, wiring: Wiring) -> bool:
        straight = synapse.linear and not synapse.direct and (self.trace_input or not synapse.reads_input)
        return straight and all(
            wiring.is_last(site) and _traceable(neuron.dynamics) for site, neuron in synapse.receivers.items()
        )

    def _leak(self, synapse: Synapse) -> float | Tensor:
        """Return the leak of the trace at a synapse, without axes; 0 where there is none."""
        if self._untraced(synapse):
            return 0.0
        if self.fixed_leak is not None:
            return self.fixed_leak.reshape(()) if isinstance(self.fixed_leak, Tensor) else self.fixed_leak
        for neuron in self._neurons(synapse).values():  # all of one decay, as `check` has seen to
            decay = neuron.dynamics.decay
            return 0.0 if decay is None else decay.reshape(()) if isinstance(decay, Tensor) else decay
        return 0.0

    def _neurons(self, synapse: Synapse) -> dict[str, Neuron]:
        """Return the neurons whose leak the trace at a synapse takes."""
        if self.fixed_leak is not None or self._untraced(synapse):
            return {}
        return (synapse.senders if self.reference else {}) or synapse.receivers or synapse.senders

    def _untraced(self, synapse: Synapse) -> bool:
        at_input = synapse.reads_input and not self.trace_input
        at_readout = not synapse.receivers and not self.trace_readout
        return at_input or at_readout or (self.reference and synapse.reads_currents)

    def extra_repr(self) -> str:
        names = ("online", "trace_input", "trace_bias", "trace_readout", "reference")
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{shown}, leak={self.fixed_leak}, {super().extra_repr()}"


def _traceable(dynamics: Dynamics) -> bool:
    """Whether a trace with the neuron's decay is the derivative of its potential by the weight."""
    return dynamics.linear and dynamics.decay is not None and dynamics.soft_reset and dynamics.detached_reset


@torch.no_grad()
def _trace_of_ones(steps: int, before: Tensor | None, leak: float | Tensor, like: Tensor) -> Tensor:
    """Return the trace of a bias, whose input is 1 at every step, `[time]`, after what it was before these steps."""
    powers = torch.as_tensor(leak).to(like) ** torch.arange(steps + 1, device=like.device)
    trace = powers[:-1].cumsum(0)
    return trace if before is None else trace + powers[1:] * before


def _one(decay: float | Tensor | None) -> float | Tensor | None:
    """Return a decay of one entry without axes."""
    return decay.reshape(()) if isinstance(decay, Tensor) and decay.numel() == 1 else decay


def _number(leak: float | Tensor | None) -> float | None:
    return leak.detach().item() if isinstance(leak, Tensor) else leak


def _show(leak: float | Tensor | None) -> str:
    return f"<{leak.numel()} values>" if isinstance(leak, Tensor) and leak.numel() > 1 else f"{_number(leak):.4g}"
