"""Online training through time: a presynaptic trace at every layer stands in for past steps."""

from dataclasses import replace

from torch import Tensor

from spikewright._util.ranges import check_flag, check_within, single
from spikewright.errors import IncompatibleRule
from spikewright.metrics.operations import Operations
from spikewright.network.sites import Sites
from spikewright.network.wiring import Synapse, Wiring
from spikewright.neurons import Dynamics, Neuron
from spikewright.rules._chunk_size import Chunk, check_chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._online import OnlineRule
from spikewright.rules._traces import Decay, Taps, number, one_entry, remembering, taps_of, traced, traced_ones
from spikewright.spatial import BP, Local, Spatial
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class OTTT(OnlineRule):
    r"""Online training through time: each step learns from presynaptic traces, and its graph is then freed.

    With :math:`x_l[t]` the input of layer l, :math:`u_l[t]` the membrane potential, :math:`\psi` the surrogate
    derivative, :math:`\lambda` the decay of the neurons that the layer feeds (0 for a readout, which has no membrane),
    and :math:`\alpha` that of a synaptic current in front of their potential (0 without one),

    .. math::
        q_l[t] &= \alpha\, q_l[t-1] + x_l[t], \qquad p_l[t] = \lambda\, p_l[t-1] + q_l[t] \\
        \delta_l[t] &= \psi(u_l[t]) \odot W_{l+1}^\top \delta_{l+1}[t] \\
        \nabla W_l &= \textstyle\sum_t \delta_l[t] \otimes p_l[t].

    A bias is a weight from a constant input of 1 and has a trace of that.  What earlier spikes of a neuron do to its
    potential or its threshold is left out of the derivative; `EProp` has it.

    **Exact when**: the layer feeds the last layer of neurons through linear operations, and these neurons have a soft,
    detached reset and a constant threshold; and for parameters that reach no neuron; unless a delay or feedback carries
    the signal of either, or the spikes of that layer, to later steps.  Elsewhere it deviates from BPTT, as errors of
    later steps are omitted.

    **Cost**: one forward pass, one backward pass per step, and one multiply-add per input and step.  Activation memory
    is that of one chunk, whatever the number of steps.

    **Carried / Checkpointed**: a trace per traced layer, `[batch, *input_feature]`, and a scalar for its bias, two of
    each in front of neurons with a synaptic current / nothing.

    Args:
        online: If True, yield an update at every step (OTTT-O); otherwise one per sequence (OTTT-A).  Default: False.
        trace_input: If True, trace layers that read the input of the network.  Default: None, which is `not reference`.
        trace_bias: If True, trace biases wherever the weight of the same layer is traced.  Default: None, which is `not
            reference`.
        trace_readout: If True, trace layers that feed no neuron, with the decay of the neurons that send to them.
            Default: None, which is `reference`.
        leak: Decay :math:`\lambda` of every trace, with :math:`\alpha = 0`.  In [0, 1].  Default: None, the decays of
            the receiving neurons.
        reference: If True, do as the authors' code: no trace at the input of the network, at biases, or where
            real-valued currents arrive; a traced readout; the decay of the sending neurons.  Explicit `trace_*`
            arguments win over it.  Default: False.
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: 1.  With `online` it is 1.
        spatial: How errors reach the layers within a step, an object of `spikewright.spatial`: `BP` (backpropagation),
            `FA`, `SignSymmetric`, `DFA`, `DKP`, `ZO` or `OPZO`.  Default: BP().
        local: A `spikewright.spatial.Local`, which gives every layer of neurons a trained readout and an error of its
            own.  Default: None, no local errors.

    Raises:
        ConfigError: `leak` is not one number in [0, 1]; a flag is not a bool; `chunk` is neither a whole number of at
            least 1, nor None, nor a known text; `spatial` or `local` is not an object of its class; or `local` names
            an intermediate layer and `spatial` has no feedback matrices.
        IncompatibleRule: The loss is not per step; or a layer feeds neurons of different decays, or of one decay per
            channel, where no single trace is right and `leak` does not say which to use.

    Differs from the reference code:
        By default the rule follows the equations; `reference=True` is the code, which traces a readout although it has
        no membrane (its gradient is up to :math:`1 / (1 - \lambda)` larger than that of the loss), and traces neither
        biases nor the first layer.

    Reference:
        Xiao, Meng, Zhang, He, Lin, Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv
        2210.04195, section 4.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.PerStep(torch.nn.CrossEntropyLoss())
        >>> check = sw.certify(net, sw.rules.OTTT(), x, y, loss)
        >>> check.ok, all(row.exact for row in check.rows)
        (True, True)
        >>> len(list(sw.rules.OTTT(online=True).updates(net, x, y, loss)))
        5
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
        name = type(self).__name__
        check_flag(name, online=online, reference=reference)
        traced = {"trace_input": trace_input, "trace_bias": trace_bias, "trace_readout": trace_readout}
        check_flag(name, **{key: value for key, value in traced.items() if value is not None})
        if leak is not None:
            check_within(name, "leak", single(leak), "[0, 1]", "it is the share of a trace that is left after a step")
        check_chunk(name, chunk)
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
        taps = self._taps(layer)
        if not taps:
            return SynapticInput(x), carried
        traces, after = traced(x, carried, taps)
        presynaptic_bias = None
        if self.trace_bias:
            presynaptic_bias, of_bias = traced_ones(len(x), carried, taps, traces)
            after |= of_bias
        return SynapticInput(x, presynaptic=traces, presynaptic_bias=presynaptic_bias), after

    def cost(self, done: Done) -> Cost | None:
        cost, traces = super().cost(done), 0.0
        for site, work in done.work.items():
            taps = len(self._taps(done.wiring.synapses[site]))
            traces += taps * (work.inputs * done.learns(site) + (self.trace_bias and done.learns_bias(site)))
        # One multiplication with addition per step and entry of a trace.
        return None if cost is None else cost + Cost(Operations(0, done.steps * traces), 0)

    def check(self, wiring: Wiring, sites: Sites) -> None:
        super().check(wiring, sites)
        advice = "Pass OTTT(leak=...) to name one for every trace, or use SLTT or BPTT, which need none."
        for synapse in wiring.synapses.values():
            taps = {site: taps_of(neuron.dynamics) for site, neuron in self._neurons(synapse).items()}
            asked = f"OTTT keeps one trace per input at '{synapse.name}', but that layer feeds"
            for site, decays in taps.items():
                if None in decays:
                    raise IncompatibleRule(
                        f"{asked} '{site}' ({type(wiring.neurons[site]).__name__}), which declares no decay, so that "
                        f"no trace is known to be what it holds of its inputs. {advice}"
                    )
            shown = ", ".join(f"'{site}' (leak {' and '.join(map(_show, decays))})" for site, decays in taps.items())
            if any(isinstance(decay, Tensor) and decay.numel() > 1 for decays in taps.values() for decay in decays):
                raise IncompatibleRule(f"{asked} {shown}: a leak per channel needs a trace per weight. {advice}")
            if len({tuple(map(number, decays)) for decays in taps.values()}) > 1:
                raise IncompatibleRule(f"{asked} neurons of different leaks: {shown}. {advice}")

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        synapses = wiring.synapse_of(parameter)
        if not self.reaches_as_bptt(parameter, wiring, steps):
            return False
        if steps == 1:
            return True
        if not wiring.receivers[parameter]:
            return not any(self._taps(s) for s in synapses)
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
            wiring.is_last(site) and traceable(neuron.dynamics) for site, neuron in synapse.receivers.items()
        )

    def _taps(self, synapse: Synapse) -> Taps:
        """Return the decays of the traces at a layer; none where it takes the input itself."""
        if self._untraced(synapse):
            return ()
        if self.fixed_leak is not None:
            return remembering((one_entry(self.fixed_leak),))
        for neuron in self._neurons(synapse).values():  # all of the same decays, as `check` has seen to
            return remembering(taps_of(neuron.dynamics))
        return ()

    def _neurons(self, synapse: Synapse) -> dict[str, Neuron]:
        """Return the neurons whose decay the trace at a layer takes."""
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


def traceable(dynamics: Dynamics) -> bool:
    """Return True if a trace with the neuron's decays is the derivative of its potential by the weight."""
    spikes_aside = dynamics.soft_reset and dynamics.detached_reset and not dynamics.adaptive
    return dynamics.linear and dynamics.decay is not None and spikes_aside


def _show(leak: Decay | None) -> str:
    return f"<{leak.numel()} values>" if isinstance(leak, Tensor) and leak.numel() > 1 else f"{number(leak):.4g}"
