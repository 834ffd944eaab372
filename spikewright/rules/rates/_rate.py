"""The base of rules that learn from rates: simulate without a graph, then differentiate at the recorded rates."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from spikewright._util.lengths import Lengths
from spikewright._util.ranges import check_choice
from spikewright._util.real_numbers import check_real, is_continuous
from spikewright._util.returned import wrong
from spikewright.layers.batch_norm import Normalise
from spikewright.network.rates import Rate, Rates, Record, mean
from spikewright.network.run import Run
from spikewright.network.sites import Sites
from spikewright.network.wiring import NORM, Wiring
from spikewright.neurons import Neuron
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._firing_rates import penalty_at
from spikewright.rules._rate_checks import check_curves, check_neurons, check_parts, clips_rate, leak_at_input
from spikewright.rules._traits import Traits
from spikewright.rules.rates.graph import RateGraph
from spikewright.rules.rates.norms import NORMS, Joint, NormName, RateNorm, SecondPass
from spikewright.solvers import Adjoint, Report
from spikewright.temporal import is_static

Mask = Literal["input", "output"]
_STOPPED = (
    "{} has learned nothing from a batch: errors end at {{}}, where the map of rates has slope 0 at every neuron, as "
    "all are silent or at their largest rate. Scale the weights or the batch norm in front of them, or run more steps; "
    "or, if that is meant, Network(module, known=[...]) with what is named here."
)


class RateRule(Rule):
    r"""Base of rules that treat a layer of neurons as a map of rates, :math:`o = A \min(1, \max(0, k r / R))`.

    Here r is the mean current, o the mean output, k the gain, R the reset amount and A the amplitude of the neurons.
    The network runs over the sequence without a graph; of every layer of neurons only its mean current and mean output
    are kept.  Then the network is evaluated once, with these means in place of the sequence, and that evaluation is
    differentiated.  A subclass implements `adjoint_loss`.

    **Cost**: a simulation without a graph, and one forward and backward pass of an ordinary network.  Memory does not
    depend on the number of steps.

    Args:
        batch_norm: How batch norm is treated in training mode: "rate" simulates with the running statistics and
            differentiates with the statistics of the mean currents of the batch, which update the running ones;
            "running" uses the running statistics as constants in both, and the mean currents update them; "joint" uses
            statistics over all steps and samples in both.
        mask: Where the rate map has a derivative: "input", where the recorded mean current lies in the linear range,
            ends included; or "output", where the recorded mean output lies strictly between 0 and its maximum.
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.

            With "joint" batch norm all steps run together, whatever it is.

    Raises:
        ConfigError: `batch_norm` or `mask` is unknown; `chunk` is below 1 or no known text.
    """

    traits: Traits = Traits(
        loss="rate",
        credit_through_time=False,
        gradients="layer hook",
        memory="constant",
        gradient_rows=1,
        ragged=True,
        penalty=True,
    )

    def __init__(self, batch_norm: NormName, mask: Mask, chunk: Chunk) -> None:
        super().__init__(chunk)
        check_choice(type(self).__name__, "batch_norm", batch_norm, NORMS)
        check_choice(type(self).__name__, "mask", mask, get_args(Mask))
        self.batch_norm: NormName = batch_norm
        self.traits = replace(self.traits, whole_sequence=NORMS[batch_norm].whole_sequence)
        self.mask: Mask = mask

    @property
    def cuts_layers(self) -> bool:
        """Whether the graph at rates is cut between layers."""
        return False

    @property
    def plain_means(self) -> bool:
        """Whether weights see plain means, also behind leaky neurons."""
        return False

    def value(self, wiring: Wiring, site: str, recorded: Rate) -> Tensor:
        """Return the mean output of a layer of neurons that the layers after it see, `[batch, *feature]`.

        Args:
            wiring: Wiring of the network.
            site: Name of the layer of neurons.
            recorded: What the simulation recorded there.
        """
        return recorded.output

    def rate_map(self, wiring: Wiring, site: str, neuron: Neuron, recorded: Rate, rate: Tensor) -> Tensor:
        """Return the mean output as a function of the mean current; only its derivative is used.

        Args:
            wiring: Wiring of the network.
            site: Name of the layer of neurons.
            neuron: The neurons.
            recorded: What the simulation recorded there.
            rate: Mean current, with the value that was recorded, `[batch, *feature]`.
        """
        rate_map = neuron.dynamics.rate_map
        assert rate_map is not None  # see `check`
        if self.mask == "input" or not neuron.spiking:
            return rate_map(rate)
        share = (recorded.output / neuron.spike_amplitude).detach()
        most = neuron.most_spikes * (1 - 8 * torch.finfo(share.dtype).eps)  # a weighted mean of ones is rounded
        some = (share > 0) & (share < most)
        inside = neuron.spike_amplitude * neuron.normalised_rate(rate) if clips_rate(neuron) else rate_map(rate)
        return torch.where(some, inside, neuron.spike_amplitude * share)

    @abstractmethod
    def adjoint_loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report | None]:
        """Return the scalar to differentiate for a loss, and a report of how it was found, or `None`.

        Args:
            value: The loss, a scalar with its graph.
            adjoint: The network evaluated at its rates.
        """

    def check(self, wiring: Wiring, sites: Sites) -> None:
        check_neurons(type(self).__name__, wiring)
        check_parts(type(self).__name__, self.batch_norm, sites)
        check_curves(type(self).__name__, (c for c in wiring.curves if c.source), sites)

    def cost(self, done: Done) -> Cost | None:
        if self.batch_norm == "joint" and any(curve.bend.op == NORM for curve in done.wiring.curves):
            return None  # the simulations with a graph are not counted
        return Cost(done.backward, done.weights_crossed)

    def learn(self, batch: Batch) -> Iterator[Update]:
        x, wiring = batch.x, batch.wiring
        leak = 1.0 if self.plain_means else leak_at_input(type(self).__name__, wiring, x)
        if not is_static(x) and len(x) > 1:
            check_curves(type(self).__name__, wiring.curves, wiring.sites)
        return self._learned(batch, leak)

    def _learned(self, batch: Batch, leak: float) -> Iterator[Update]:
        """Yield the update of a batch that was checked, given the decay that weighs the steps of its input."""
        x, wiring, norm = batch.x, batch.wiring, NORMS[self.batch_norm]()
        for neuron in wiring.neurons.values():
            neuron.project()
        record = Record(leak, self.plain_means, batch.lengths)
        run, outputs = self._simulate(batch, record, norm)
        rates = record.rates(run.state)
        stopped: dict[str, Tensor] = {}
        emit, hooks = partial(self._emit, wiring), batch.hooks(None)
        graph = RateGraph(wiring.sites, rates, emit, norm, self.cuts_layers, hooks, stopped=stopped)
        with torch.enable_grad():
            at = _mean_input(x.detach(), leak, batch.lengths)
            output, adjoint = graph(at)
            for edge in adjoint.edges:
                why = "solves an equation of the rates that are sent back, which are real numbers"
                advice = "Send back what is real, such as z.real, or what neurons emit."
                check_real(self, f"what '{edge.site}' sends back", edge.leaf, why, advice)
            if isinstance(norm, Joint) and norm.stacked.in_front:
                self._once_more(batch, rates, norm.stacked.between.simulate)
            value, penalty = batch.loss.at_mean(output, batch.y, len(x)), None
            if batch.loss.penalty is not None:
                penalty = penalty_at(batch.loss.penalty, _firing_rates(batch, adjoint))
                value = value + penalty
            answer: Any = self.adjoint_loss(value, adjoint)
            if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Report | None)):
                asked = "what is to be differentiated and a Report, or None in its place"
                raise wrong(self, "adjoint_loss", asked, answer, "Return both: `return value, None`.")
            total, report = answer
            batch.backward(total)
        if isinstance(norm, Joint) and norm.in_time:
            norm.stacked.between.clear()
            grads = {site: c.grad for site, c in norm.in_time.items() if c.grad is not None}
            self._once_more(batch, rates, SecondPass(grads, norm.stacked.in_front).simulate)
        ends = [site for site, all_end in stopped.items() if all_end]
        if ends and not any(p.grad.any() for p in batch.net.parameters() if p.grad is not None):
            batch.net.tell(ends, _STOPPED.format(type(self).__name__))
        yield Update(value.detach(), outputs, run.state, run, report, None if penalty is None else penalty.detach())

    @torch.enable_grad()
    def _once_more(self, batch: Batch, rates: Rates, normalise: Normalise) -> None:
        before = {**(batch.state or {}), **rates.masks}
        batch.net.start(batch.x, before, count=False, cut=True, normalise=normalise, wiring=batch.known).advance(
            batch.x
        )

    def _emit(
        self, wiring: Wiring, site: str, neuron: Neuron, recorded: Rate
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def mapped(rate: Tensor) -> Tensor:
            output: Any = self.rate_map(wiring, site, neuron, recorded, rate)
            if not (isinstance(output, Tensor) and output.shape == rate.shape and output.requires_grad):
                asked = f"a function of the mean current at '{site}' ({type(neuron).__name__}), of its shape"
                advice = "The same holds for the rate_map that neurons declare; a constant map has no derivative."
                raise wrong(self, "rate_map", f"{asked}, {list(rate.shape)}", output, advice)
            return output

        return self.value(wiring, site, recorded), mapped

    @torch.no_grad()
    def _simulate(self, batch: Batch, record: Record, norm: RateNorm) -> tuple[Run, Tensor]:
        x = batch.x
        run = batch.start(through_time=False, record=record, normalise=norm.simulate)
        run.keep_weights(True)
        first, *later = x.split(batch.steps_at_once(self))
        output = run.advance(first)
        outputs = output.new_empty(len(x), *output.shape[1:])  # in one block, not many that split up the memory
        outputs[: len(first)] = output
        done = len(first)
        for chunk in later:
            outputs[done : done + len(chunk)] = run.advance(chunk)
            done += len(chunk)
        run.keep_weights(False)
        return run, outputs

    def extra_repr(self) -> str:
        return f"batch_norm={self.batch_norm!r}, mask={self.mask!r}, {super().extra_repr()}"


def _mean_input(x: Tensor, leak: float | Tensor, lengths: Lengths | None) -> Tensor:
    """Return the mean of an input, `[batch, *feature]`.

    Whole numbers that mean something, such as indices, do not move here (`check_curves`), and stay what they are.
    Those that move are cast by the network, such as counts that are kept as bytes.
    """
    if is_continuous(x):
        return mean(x, leak, lengths).to(x.dtype)
    return x[0] if is_static(x) or len(x) == 1 else mean(x.to(torch.get_default_dtype()), leak, lengths)


def _firing_rates(batch: Batch, adjoint: Adjoint) -> dict[str, Tensor]:
    """Return the firing rates of penalised layers at the rates of the network, `[batch, neuron]` by layer."""
    penalty, neurons, samples = batch.loss.penalty, batch.wiring.neurons, batch.x.shape[1]
    assert penalty is not None
    return {
        cell.site: cell.leaf.reshape(samples, -1) / torch.as_tensor(neurons[cell.site].spike_amplitude).detach()
        for cell in adjoint.cells
        if penalty.covers(cell.site) and neurons[cell.site].spiking
    }
