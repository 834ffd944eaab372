"""The course of every rule that learns from rates: simulate without a graph, then differentiate at the rates."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from spikewright.errors import ConfigError, nearest
from spikewright.losses import Loss, LossOf
from spikewright.metrics.operations import Operations, Work
from spikewright.network import Network
from spikewright.neurons import Neuron
from spikewright.rate_graph import RateGraph
from spikewright.rate_norms import NORMS, Again, Joint, NormName, RateNorm
from spikewright.rates import Rate, Record, mean
from spikewright.rules._base import Backward, Rule, Update, one_backward, plain_backward
from spikewright.rules._rate_checks import check_neurons, check_parts, leak_at_input
from spikewright.run import Run
from spikewright.sites import Sites
from spikewright.solvers import Adjoint, Report
from spikewright.temporal import State
from spikewright.wiring import Wiring

Mask = Literal["input", "output"]


class RateRule(Rule):
    r"""A rule that sees a neuron layer as a map of rates, :math:`o = A \min(1, \max(0, k r / R))`.

    The network is run over the sequence without a graph; of every neuron layer only its mean current and mean output
    are kept.  Then it is evaluated once, with these means in the place of the sequence, and that is differentiated:
    the cost of one backward pass of an ordinary network, and memory that does not depend on the number of steps.

    Args:
        batch_norm: What batch norm means: "rate", "running" or "joint", see `spikewright.rate_norms`.
        mask: Where the rate map has a slope: where the recorded mean current is in its closed linear range ("input"),
            or where the recorded output is strictly between none and all ("output").
        chunk: See `Rule`; with joint batch norm all steps run together.

    Raises:
        ConfigError: `batch_norm` or `mask` is unknown.
    """

    loss_of: LossOf = "rate"
    through_time: bool = False
    keeps_chunks: bool = False

    def __init__(self, batch_norm: NormName, mask: Mask, chunk: int | str | None) -> None:
        super().__init__(chunk)
        for key, value, known in (("batch_norm", batch_norm, NORMS), ("mask", mask, get_args(Mask))):
            if value not in known:
                raise ConfigError(f"{type(self).__name__}({key}={value!r}) is unknown. {nearest(value, known)}")
        self.batch_norm: NormName = batch_norm
        self.mask: Mask = mask

    def steps_at_once(self, wiring: Wiring, x: Tensor) -> int:
        return len(x) if NORMS[self.batch_norm].whole_sequence else super().steps_at_once(wiring, x)

    @property
    def cuts_layers(self) -> bool:
        """Whether the graph at rates is cut between layers."""
        return False

    @property
    def plain_means(self) -> bool:
        """Whether weights see plain means, also behind leaky neurons."""
        return False

    def value(self, wiring: Wiring, site: str, recorded: Rate) -> Tensor:
        """Return the mean output of a neuron layer that the layers after it see, `[batch, *feature]`."""
        return recorded.output

    def rate_map(self, wiring: Wiring, site: str, neuron: Neuron, recorded: Rate, rate: Tensor) -> Tensor:
        """Return the mean output as a function of the mean current; what counts is the derivative.

        Args:
            wiring: Of the network.
            site: Of the neurons.
            neuron: The neurons.
            recorded: What the simulation recorded there.
            rate: Mean current, of the value that was recorded, `[batch, *feature]`.
        """
        if self.mask == "input":
            return neuron.transfer(rate)
        share = (recorded.output / neuron.spike).detach()
        some = (share > 0) & (share < 1 - 8 * torch.finfo(share.dtype).eps)  # a weighted mean of ones is rounded
        return neuron.spike * torch.where(some, neuron.drive(rate), share)

    def rows_per_sample(self, steps: int) -> int:
        return 1

    @abstractmethod
    def adjoint_loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report | None]:
        """Return what is to be differentiated for a loss `value`, and how it was found."""

    def check(self, wiring: Wiring, sites: Sites) -> None:
        check_neurons(type(self).__name__, wiring)
        check_parts(type(self).__name__, self.batch_norm, sites)

    def operations(self, work: Mapping[str, Work], wiring: Wiring, steps: int, report: Report | None) -> Operations:
        return one_backward(work, wiring)

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return False

    def updates(
        self,
        net: Network,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        state: State | None = None,
        backward: Backward = plain_backward,
    ) -> Iterator[Update]:
        net.check(self, loss, x, y)
        wiring, norm = net.wiring(x), NORMS[self.batch_norm]()
        for neuron in wiring.neurons.values():
            neuron.project()
        leak = 1.0 if self.plain_means else leak_at_input(type(self).__name__, wiring, x)
        record = Record(leak, self.plain_means)
        run, outputs = self._simulate(net, wiring, x, state, record, norm)
        rates = record.rates(run.state)
        part = net.part_of(self, x)
        graph = RateGraph(net.sites, rates, partial(self._emit, wiring), norm, self.cuts_layers, part)
        with torch.enable_grad():
            output, adjoint = graph(mean(x.detach(), leak))
            value = loss(output.unsqueeze(0), y, 1)
            total, report = self.adjoint_loss(value, adjoint)
            backward(total)
        if isinstance(norm, Joint) and norm.in_time:
            again = Again({site: c.grad for site, c in norm.in_time.items() if c.grad is not None})
            with torch.enable_grad():
                before = {**(state or {}), **rates.masks}
                net.start(x, before, count=False, cut=True, normalise=again.simulate).advance(x)
        yield Update(value.detach(), outputs, run.state, run, report)

    def _emit(
        self, wiring: Wiring, site: str, neuron: Neuron, recorded: Rate
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return self.value(wiring, site, recorded), partial(self.rate_map, wiring, site, neuron, recorded)

    @torch.no_grad()
    def _simulate(
        self, net: Network, wiring: Wiring, x: Tensor, state: State | None, record: Record, norm: RateNorm
    ) -> tuple[Run, Tensor]:
        run = net.start(x, state, rule=self, record=record, normalise=norm.simulate)
        run.keep_weights(True)
        first, *rest = x.split(self.steps_at_once(wiring, x))
        output = run.advance(first)
        outputs = output.new_empty(len(x), *output.shape[1:])  # in one block, not many that split up the memory
        outputs[: len(first)] = output
        done = len(first)
        for chunk in rest:
            outputs[done : done + len(chunk)] = run.advance(chunk)
            done += len(chunk)
        run.keep_weights(False)
        return run, outputs

    def extra_repr(self) -> str:
        return f"batch_norm={self.batch_norm!r}, mask={self.mask!r}, {super().extra_repr()}"
