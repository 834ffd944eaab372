"""Eligibility propagation: the exact derivative of the own state of neurons by their weights, and no other memory."""

from dataclasses import replace
from typing import Literal, get_args

from spikewright._util.ranges import check_choice, check_flag
from spikewright.errors import IncompatibleRule
from spikewright.metrics.operations import Operations
from spikewright.network.hooks import Hooks
from spikewright.network.sites import Sites
from spikewright.network.wiring import Synapse, Wiring
from spikewright.rules._chunk_size import Chunk, check_chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._eligibility_hooks import EligibilityHooks
from spikewright.rules._eligibility_plans import Plans, plans_for
from spikewright.rules._online import OnlineRule
from spikewright.rules._traits import Traits
from spikewright.spatial import BP, DFA, Local

Signals = Literal["exact", "random", "symmetric"]
"""How errors reach the layers within a step."""


class EProp(OnlineRule):
    r"""Eligibility propagation (e-prop): weights learn by the derivative of their own neuron's state, at every step.

    With :math:`S_j[t]` the state of neuron j (potential, synaptic current, adaptation), :math:`I_j[t]` its input
    current, :math:`x_i[t]` the input of the layer, and the spikes of all other neurons held fixed, the derivative of
    the state by a weight is carried forward in time, and the error of each step meets it:

    .. math::
        E_{ji}[t] &= \frac{\partial S_j[t]}{\partial S_j[t-1]} E_{ji}[t-1]
                     + \frac{\partial S_j[t]}{\partial I_j[t]}\, x_i[t] \\
        \nabla W_{ji} &= \sum_t \frac{\partial L[t]}{\partial S_j[t-1]} E_{ji}[t-1]
                     + \frac{\partial L[t]}{\partial I_j[t]}\, x_i[t].

    Both factors of the recursion are read from one step of the neuron's own scan by autograd, so that every neuron is
    served, with any reset, threshold and state.  Where they are constants, as for a linear potential with a soft,
    detached reset, E is an outer product of a constant and a trace of inputs, which is kept instead; then the rule is
    `OTTT`.  A bias is a weight from a constant input of 1.

    **Exact when**: the layer feeds the last layer of neurons entry by entry, whatever their reset and threshold (where
    a trace is kept, through linear operations); and for parameters that reach no neuron; unless a delay or feedback
    carries the signal of either, or the spikes of that layer, to later steps.  Elsewhere the paths through the spikes
    of other neurons in earlier steps are omitted, and nothing else.

    **Cost**: one forward pass, and one backward pass per step.  Activation memory is independent of the number of
    steps, but E has a number per sample, weight and part of the state: N x out x in x S, and times the positions of the
    output for a convolution.  Where a trace is enough it is N x in.  `plan` measures it.

    **Carried / Checkpointed**: E, `[batch, group, position, output, input]` per part of the state, the same without the
    last axis for the bias, and traces, `[batch, *input_feature]` / feedback matrices if `feedback` is "random".

    Args:
        feedback: How errors reach the layers within a step: "exact" is backpropagation through the layers, "random"
            sends the error of the output to every layer of neurons through a fixed random matrix, and "symmetric"
            through the transposed weight of the readout; the latter refuses networks in which neurons send to others in
            the same step.  Default: "exact".
        online: If True, yield an update at every step; otherwise one per sequence.  Default: False.
        scale: Factor of random matrices; entries have the standard deviation scale / sqrt(number of outputs).  > 0.
            Default: 1.0.
        seed: Seed of random matrices.  From 0 to 2**63 - 1.  Default: 0.
        chunk: Steps that run together, which trades memory for speed: E is kept for all of them.  At least 1; `None` is
            the whole sequence, "root" the square root of its length, "auto" as many steps as fit 1 GiB of working
            memory, and a size such as "256MiB" as many as fit that; if not even one does, it is refused.  Default: 1.
            With `online` it is 1.
        local: A `spikewright.spatial.Local`, which gives every layer of neurons a trained readout and an error of its
            own.  Default: None, no local errors.

    Raises:
        ConfigError: `feedback` is unknown; `online` is not a bool; `scale` or `seed` is out of range; `chunk` is
            neither a whole number of at least 1, nor None, nor a known text; or `local` is no `Local`.
        IncompatibleRule: The loss is not per step; a layer reaches neurons that need E through a pooling layer, a norm
            or the like, or is a transposed convolution; their state depends on that of other neurons; or `feedback` is
            "symmetric" and neurons send to other neurons.

    Reference:
        Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein, Maass, A solution to the learning dilemma for recurrent
        networks of spiking neurons, Nature Communications 11, 3625, 2020.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> neuron = sw.LIF(reset="zero", detach_reset=False)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), neuron, torch.nn.Linear(8, 3)))
        >>> x, y, loss = 3 * torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.PerStep(torch.nn.CrossEntropyLoss())
        >>> check = sw.certify(net, sw.rules.EProp(), x, y, loss)
        >>> check.ok, all(row.exact for row in check.rows)
        (True, True)
    """

    traits: Traits = replace(OnlineRule.traits, gradients="own", by_layer=True)

    def __init__(
        self,
        feedback: Signals = "exact",
        online: bool = False,
        scale: float = 1.0,
        seed: int = 0,
        chunk: Chunk = 1,
        local: Local | None = None,
    ) -> None:
        check_choice("EProp", "feedback", feedback, get_args(Signals))
        check_flag("EProp", online=online)
        check_chunk("EProp", chunk)
        random = DFA(scale, seed)  # which checks both
        super().__init__(1 if online else chunk, random if feedback == "random" else BP(), local)
        self.feedback, self.online, self.scale, self.seed = feedback, online, scale, seed
        if online:
            self.traits = replace(self.traits, updates="every step")

    def check(self, wiring: Wiring, sites: Sites) -> None:
        super().check(wiring, sites)
        plans_for("EProp", wiring)
        for site, reached in wiring.at_once.items() if self.feedback == "symmetric" else ():
            if reached:
                raise IncompatibleRule(
                    f"EProp(feedback='symmetric') sends errors from a readout straight to the neurons it reads, but "
                    f"'{site}' sends to '{min(reached)}' in the same step, so that no readout's weights tell what its "
                    "spikes do. Use feedback='exact', which goes back through the layers, or 'random'."
                )

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        synapses = wiring.synapse_of(parameter)
        if not self.reaches_as_bptt(parameter, wiring, steps):
            return False
        if steps == 1 or not wiring.receivers[parameter]:
            return True
        plans = plans_for("EProp", wiring)
        known = bool(synapses) and parameter not in wiring.outside
        return known and all(s.receivers and _exact_at(s, plans, wiring) for s in synapses)

    def cost(self, done: Done) -> Cost | None:
        cost, products = super().cost(done), 0.0
        for site, plan in plans_for("EProp", done.wiring).layers.items():
            if site not in done.work:
                continue
            weights, biases = done.learns(site), done.learns_bias(site)
            products += len(plan.remembering) * (done.work[site].inputs * weights + biases)
            for parts in plan.kept.values():  # every part by every part, by the input, and in the gradient
                products += (len(parts) ** 2 + 2 * len(parts)) * done.work[site].dense * weights
        return None if cost is None else cost + Cost(Operations(0, done.steps * products), 0)

    def _weight_hooks(self, wiring: Wiring) -> Hooks:
        return EligibilityHooks(wiring, plans_for("EProp", wiring))

    def extra_repr(self) -> str:
        random = f", scale={self.scale}, seed={self.seed}" if self.feedback == "random" else ""
        local = "" if self.local is None else f", local={self.local}"
        return f"feedback={self.feedback!r}, online={self.online}{random}{local}, chunk={self.chunk!r}"


def _exact_at(synapse: Synapse, plans: Plans, wiring: Wiring) -> bool:
    """Return True if the derivatives at a layer are those of all that its weight does."""
    own = plans.layers[synapse.name].taps is None or (synapse.linear and not synapse.direct)
    return own and all(_has_all(site, plans, wiring) for site in synapse.receivers)


def _has_all(site: str, plans: Plans, wiring: Wiring) -> bool:
    """Return True if the output of neurons reaches the loss of its step only, or readouts that it is filtered for."""
    return wiring.is_last(site) or (site in plans.filters and wiring.successors[site] == wiring.at_once[site])
