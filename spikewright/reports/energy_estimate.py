"""The energy estimate: operations of a training step, forward and backward, compared with those of BPTT."""

from collections.abc import Sequence
from dataclasses import dataclass

from spikewright._util.ranges import check_instance
from spikewright._util.text import aligned
from spikewright._util.trial import untouched
from spikewright.losses import Loss
from spikewright.metrics.operations import Operations
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.reports._counted_run import count_run
from spikewright.rules import BPTT, Done, Rule, Update
from spikewright.rules._base import fresh_copy
from spikewright.rules._check import check_loss, check_network
from spikewright.rules._fitted import fitted


@dataclass(frozen=True)
class Energy:
    """The energy estimate of one training step, per sample, as `energy` returns it.

    Attributes:
        rule: The rule, as text.
        steps: Number of time steps, at least 1.
        forward: Operations of the simulation, an `Operations`.
        backward: Operations of the rule's backward pass and weight gradients; `None` if the rule does not state them.
        bptt: Operations of BPTT for the same, simulation included.
        rates: Firing rate of every neuron layer in the simulation, in spikes per neuron and step, by name.
        back_rates: Firing rate in a second, spiking phase (SPIDE), in spikes per neuron pair and step, by name.
        feedback_parameters: Number of feedback weights, kept or transported, that carry errors back through layers, at
            least 0; `None` if the rule does not state it.
        uncounted: Operators that are not operators of torch, by name; what they do inside is not counted.  Default: ().
    """

    rule: str
    steps: int
    forward: Operations
    backward: Operations | None
    bptt: Operations
    rates: dict[str, float]
    back_rates: dict[str, float]
    feedback_parameters: int | None
    uncounted: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Energy of the training step over that of BPTT; `None` if the rule states no cost, or none is due."""
        if self.backward is None or not self.bptt.count:
            return None
        return (self.forward + self.backward).picojoules / self.bptt.picojoules

    def table(self) -> str:
        """Return operations, energies and firing rates as aligned text."""
        total = None if self.backward is None else self.forward + self.backward
        named = {"simulation": self.forward, "learning": self.backward, "together": total, "BPTT": self.bptt}
        rows = [(name, *(("not stated",) * 3 if o is None else _shown(o))) for name, o in named.items()]
        head = ("per sample", "additions", "multiplications", "energy")
        ratio = "cost not stated" if self.backward is None else "no operations in BPTT"
        ratio = ratio if self.ratio is None else f"{self.ratio:.3g} x BPTT"
        lines = [f"{self.rule}, {self.steps} steps: {ratio}", aligned([head, *rows])]
        if self.feedback_parameters is not None:
            lines.append(f"{self.feedback_parameters:,} feedback weights carry errors back through layers")
        for what, rates in (("spikes per neuron and step", self.rates), ("in the second phase", self.back_rates)):
            if rates:
                lines.append(f"{what}: " + ", ".join(f"{site} {rate:.2%}" for site, rate in rates.items()))
        if self.uncounted:
            lines.append(f"not counted, as they are no operators of torch: {', '.join(self.uncounted)}")
        return "\n".join(lines)


def _shown(operations: Operations) -> tuple[str, str, str]:
    energy = f"{operations.picojoules / 1e3:.4g} nJ"
    return f"{operations.additions:.3g}", f"{operations.multiplications:.3g}", energy


def energy(net: Network, rule: Rule, x: Input, y: Input, loss: Loss, *, batch_first: bool = False) -> Energy:
    r"""Estimate the energy of a training step from the operations it needs, at the present weights.

    .. math::
        E = 0.9\,\mathrm{pJ} \cdot \text{additions} + 4.6\,\mathrm{pJ} \cdot \text{multiplications with their additions}

    for 32-bit arithmetic at 45 nm; memory access is left out.  All products of linear maps are counted: those of
    layers, of functions such as `F.linear`, `torch.matmul` and `torch.einsum`, and of attention, the same in training
    and evaluation mode.  In a layer, a spike costs an addition per weight it meets, also behind average pooling and
    sums of spikes, and a real number a multiplication; products outside of layers are dense.  Zeros that padding adds
    meet no weight.  The step-by-step backward pass of BPTT is dense.  Not counted: products entry by entry (neurons,
    norms, softmax), weights that are computed from weights, gradients of frozen parameters, and errors where nothing
    in front is trained.  Network, rule, gradients and random states are as before when it returns.

    Args:
        net: Network.
        rule: Learning rule.  Instance of `spikewright.rules.Rule`.
        x: Input.  Tensor `[time, batch, *feature]`, or several in a tuple, list or dictionary.
        y: Targets.  Tensor `[batch, ...]`, as the criterion of `loss` takes them, or several.
        loss: Loss.  Instance of `spikewright.losses.Loss`, such as `spikewright.losses.PerStep`.
        batch_first: True if `x` and a timed `y` are `[batch, time, ...]`.  Default: False.

    Returns:
        An `Energy`, with operations per sample.

    Raises:
        ConfigError: `net` is not a `Network`, `rule` is not a `Rule`, the loss was not wrapped, or `batch_first` is not
            a bool.
        ShapeError: `x` or `y` has another layout than the network, the loss or the rule needs.
        InputError: `x` holds a NaN or an infinity, a label is out of range, or no parameter requires a gradient.
        IncompatibleRule: The rule does not work with this network or loss.
        NetworkError: The network cannot be run over time.

    Reference:
        Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014 (the energies of operations).

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 2)))
    >>> x, y = torch.rand(6, 5, 4), torch.tensor([0, 1, 0, 1, 1])
    >>> estimate = sw.energy(net, sw.rules.OTTT(), x, y, sw.losses.PerStep(torch.nn.CrossEntropyLoss()))
    >>> estimate.forward.multiplications  # 6 steps of 4 real inputs for 8 neurons
    192.0
    """
    check_network("energy", net)
    check_instance("energy", "rule", rule, Rule, "sw.rules.OTTT()")
    check_loss("energy", loss)
    net, x = net.given(x, batch_first)
    loss, y = fitted(loss, y, net.wiring(x).outputs, batch_first)
    frozen = frozenset(name for name, p in net.module.named_parameters() if not p.requires_grad)
    x = x.detach()
    with untouched(net.module):
        counted = count_run(net, x, frozen)
        learner = fresh_copy(rule, net, x)
        updates: Sequence[Update] = list(learner.updates(net, x, y, loss))
    report = updates[-1].report
    done = Done(counted.work, net.wiring(x), len(x), report, frozen, counted.products)
    stated, bptt = learner.cost(done), BPTT().cost(done)
    assert bptt is not None  # BPTT states its cost
    return Energy(
        rule=repr(rule),
        steps=len(x),
        forward=done.simulation,
        backward=None if stated is None else stated.operations,
        bptt=done.simulation + bptt.operations,
        rates=counted.rates,
        back_rates=report.rates if report is not None else {},
        feedback_parameters=None if stated is None else stated.feedback_parameters,
        uncounted=counted.uncounted,
    )
