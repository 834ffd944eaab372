"""What a learning rule is: a way to fill `.grad` from a sequence, in one or several updates."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.losses import Loss, LossOf
from spikewright.metrics.operations import Operations, Work
from spikewright.network import Network
from spikewright.run import Run
from spikewright.sites import Sites
from spikewright.solvers import Report
from spikewright.synapse import Arrival
from spikewright.temporal import SiteState, State
from spikewright.text import size_in_bytes
from spikewright.wiring import Synapse, Wiring

Backward = Callable[[Tensor], None]
AUTO = 1 << 30
"""Budget of `chunk="auto"` in bytes: more steps at once are faster, and most machines have this much to spare."""


@dataclass(frozen=True)
class Update:
    """A moment at which `.grad` is ready.

    Attributes:
        loss: What the steps since the last update added to the loss, a scalar without graph.
        output: The network's output at those steps, `[time, batch, *output]`, without graph.
        state: Where the run stands; pass it to `updates` to go on with the same sequences.
        report: How the adjoint equation was solved, by rules that solve one.
    """

    loss: Tensor
    output: Tensor
    state: State
    _run: Run
    report: Report | None = None

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step since the sequence was taken up, by site."""
        return self._run.rates()


def one_backward(work: Mapping[str, Work], wiring: Wiring) -> Operations:
    """Return the operations of one dense backward pass: gradients at weights, and at inputs where neurons sent them."""
    passes = {site: 1 + bool(wiring.synapses[site].senders) for site in work}
    return Operations(0, sum(passes[site] * w.dense for site, w in work.items()))


def plain_backward(loss: Tensor) -> None:
    """Accumulate gradients the ordinary way."""
    loss.backward()


class Rule(nn.Module, ABC):
    """A learning rule: which point it takes on the axes of credit, and when weights may change.

    For every synapse the weight gradient is the sum over time of `delta[t] (x) p[t]`.  A rule says what p is
    (`at_synapse`), whether delta crosses time (`through_time`), and how the sequence is cut (`chunk`).

    A rule is a module: what it keeps between sequences is a buffer.  What it carries within a sequence is in the run's
    state.

    Args:
        chunk: Steps that run together; `None` is the whole sequence, "auto" as many as fit a memory budget, and a size
            such as "256MiB" names the budget.  It trades memory for speed, never the result.

    Raises:
        ConfigError: `chunk` is none of these.
    """

    loss_of: LossOf
    """What the loss may be: anything, a sum over steps, or a function of the mean output."""
    through_time: bool
    """Whether credit crosses time steps."""
    bytes_for_spikes: bool = False
    """Whether synapses keep spikes as bytes for the backward pass: a quarter of the memory, for two conversions."""
    keeps_chunks: bool = True
    """Whether what is kept for backward grows with the length of a chunk."""

    def __init__(self, chunk: int | str | None) -> None:
        super().__init__()
        if isinstance(chunk, int) and chunk < 1:
            raise ConfigError(f"{type(self).__name__}(chunk={chunk}): a chunk has at least one step.")
        if isinstance(chunk, str) and chunk != "auto" and size_in_bytes(chunk) is None:
            raise ConfigError(
                f"{type(self).__name__}(chunk={chunk!r}): give a number of steps, None for all of them, 'auto', or a "
                "memory budget such as '256MiB'."
            )
        self.chunk = chunk

    def steps_at_once(self, wiring: Wiring, x: Tensor) -> int:
        """Return how many steps of `x` `[time, batch, *feature]` run together."""
        if isinstance(self.chunk, str):
            step = wiring.activations * x.shape[1] * max(x.element_size(), 4)
            fitting = max(1, (size_in_bytes(self.chunk) or AUTO) // step)
            return -(-len(x) // -(-len(x) // fitting))  # chunks of about one size
        return min(len(x), self.chunk or len(x))

    def prepare(self, net: Network, x: Tensor) -> None:
        """Make what depends on the sizes of a network; done at first use, and what is there already stays.

        Needed before an optimizer is made of a rule that has parameters of its own.

        Args:
            net: The network.
            x: `[time, batch, *feature]`, of any length.
        """

    @property
    def ideal(self) -> "Rule | None":
        """The rule whose gradient this one stands in for, if it is not that of BPTT."""
        return None

    def stand_in(self, net: Network, x: Tensor) -> Self:
        """Return a copy to try things with, ready for a network."""
        copy = deepcopy(self)
        copy.prepare(net, x)
        return copy

    @property
    def uses_synapses(self) -> bool:
        """Whether the rule has a word at synapses; if not, autograd does all."""
        return type(self).at_synapse is not Rule.at_synapse

    @property
    def linear_memory(self) -> bool:
        """Whether what is kept for backward lies on a line over the number of steps, from one chunk on."""
        return True

    @property
    def least_steps(self) -> int:
        """The shortest sequence the rule can learn from."""
        return 1

    def rows_per_sample(self, steps: int) -> int:
        """Return how often in a sequence of so many steps a weight gradient is taken, per sample."""
        return steps

    def at_synapse(self, synapse: Synapse, x: Tensor, carried: SiteState) -> tuple[Arrival, SiteState]:
        """Say what is transmitted at a synapse and where its weight gradient is taken.

        Args:
            synapse: Where.
            x: What arrived, `[time, batch, *feature]`.
            carried: What this synapse carried out of the last chunk; empty at the start.
        """
        return Arrival(x), carried

    def check(self, wiring: Wiring, sites: Sites) -> None:
        """Raise `IncompatibleRule` if the rule cannot work in this network."""

    def feedback_numbers(self, wiring: Wiring) -> int:
        """Return how many numbers are kept, or transported, to carry errors back through layers."""
        return sum(math.prod(synapse.weight) for synapse in wiring.synapses.values() if synapse.senders)

    def operations(self, work: Mapping[str, Work], wiring: Wiring, steps: int, report: Report | None) -> Operations:
        """Return the operations of learning from a sequence, per sample, the simulation left out.

        Args:
            work: What each synapse does in a step.
            wiring: Of the network.
            steps: Of the sequence.
            report: Of the update.
        """
        return steps * one_backward(work, wiring)

    @abstractmethod
    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        """Whether the rule promises the gradient of BPTT for a parameter, on sequences of that many steps."""

    @abstractmethod
    def updates(
        self,
        net: Network,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        state: State | None = None,
        backward: Backward = plain_backward,
    ) -> Iterator[Update]:
        """Learn from a batch of sequences; yields whenever `.grad` is ready.

        Gradients are *added* to `.grad`: zero them between updates, as always in torch.

        Args:
            net: The network.
            x: `[time, batch, *feature]`.
            y: Target, `[batch, ...]`.
            loss: The loss.
            state: Where an earlier run of the same sequences ended; `None` starts at rest.
            backward: Called with each scalar to differentiate, e.g. `lambda v: scaler.scale(v).backward()`.

        Raises:
            ShapeError: See `Network.check`, which this calls first.
            InputError: See there.
            IncompatibleRule: See there.
        """

    def extra_repr(self) -> str:
        return f"chunk={self.chunk!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
