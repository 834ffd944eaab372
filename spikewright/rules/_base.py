"""What a learning rule is: a declaration, and a way to fill `.grad` from a batch in one or several updates."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from spikewright._util.returned import wrong
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.run import Run
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring
from spikewright.rules._batch import Backward, Batch, cut, differentiable, plain_backward, send_back
from spikewright.rules._check import check
from spikewright.rules._chunk_size import Chunk, check_chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._traits import Traits
from spikewright.solvers import Report
from spikewright.temporal import State


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
        """Spikes per neuron and step since the sequence was taken up, by layer of neurons."""
        return self._run.rates()


class Rule(nn.Module, ABC):
    """A learning rule: it declares its `traits` and implements `learn`.

    A rule is a module: what it keeps between sequences is a buffer.  What it carries within a sequence is in the run's
    state.

    Args:
        chunk: Steps that run together; `None` is the whole sequence, "root" the square root of its length, "auto" as
            many as fit a memory budget, and a size such as "256MiB" names the budget.  It trades memory for speed,
            never the result.

    Raises:
        ConfigError: `chunk` is none of these, or the class declares no traits.
    """

    traits: Traits
    """The declaration; a class attribute, which an instance may replace."""

    def __init__(self, chunk: Chunk) -> None:
        super().__init__()
        name = type(self).__name__
        if not isinstance(getattr(self, "traits", None), Traits):
            raise ConfigError(
                f"{name} declares no traits, and nothing is assumed of a rule: which loss it takes, whether errors "
                "cross steps, where gradients come from, how memory grows. Give the class an attribute "
                "traits = Traits(loss=..., credit_through_time=..., gradients=..., memory=...)."
            )
        check_chunk(name, chunk)
        self.chunk = chunk

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
            x: Input, `[time, batch, *feature]`.  If it is computed with a graph, the gradient goes back along that too.
            y: Target, `[batch, ...]`.
            loss: The loss.
            state: Where an earlier run of the same sequences ended; `None` starts at rest.
            backward: Called with each scalar to differentiate, e.g. `lambda v: scaler.scale(v).backward()`.

        Raises:
            ShapeError: Layouts do not fit; `x` or `y` is no tensor; the criterion refuses the shape or type of `y`.
            InputError: `x` holds a NaN or an infinity, a label is out of range, or nothing asks for a gradient.
            IncompatibleRule: The rule cannot work with this loss or this network.
            NetworkError: `state` belongs to other layers.
            ConfigError: The criterion does not return one number, or the network or the loss was not wrapped.
            ExtensionError: A method of a class of one's own returned something else than it has to.
        """
        wiring = check(self, net, loss, x, y, state)
        self.prepare(net, x)
        given = cut(x)
        learned: Any = self.learn(Batch(net, given, y, loss, state, differentiable(backward), known=wiring))
        if not isinstance(learned, Iterable):
            raise wrong(self, "learn", "an iterator of updates", learned, "Write it as a generator: yield Update(...).")
        for update in learned:
            if not (isinstance(update, Update) and isinstance(update.loss, Tensor)):
                raise wrong(self, "learn", "an iterator of updates, with tensors", update, "Yield Update(...).")
            send_back(x, given, again=self.traits.updates == "every step")
            yield update

    @abstractmethod
    def learn(self, batch: Batch) -> Iterator[Update]:
        """Accumulate the gradients of a batch; yield an `Update` whenever `.grad` is ready.

        The batch has been checked and the rule prepared.  Runs are started with `batch.start(hooks)`.
        """

    def prepare(self, net: Network, x: Tensor) -> None:
        """Make what depends on the sizes of a network; done at first use, and what is there already stays.

        Needed before an optimizer is made of a rule that has parameters of its own.

        Args:
            net: The network.
            x: Input, `[time, batch, *feature]`, of any length.
        """

    def check(self, wiring: Wiring, sites: Sites) -> None:
        """Raise `IncompatibleRule` if the rule cannot work in this network."""

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        """Whether the rule claims the gradient of BPTT for a parameter, on sequences of that many steps."""
        return False

    def cost(self, done: Done) -> Cost | None:
        """State what learning from a sequence costs, per sample, the simulation left out; `None`: not stated."""
        return None

    def extra_repr(self) -> str:
        return f"chunk={self.chunk!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


R = TypeVar("R", bound=Rule)


def fresh_copy(rule: R, net: Network, x: Tensor) -> R:
    """Return a copy of a rule to try things with, ready for a network; the rule itself stays as it is."""
    copy = deepcopy(rule)
    copy.prepare(net, x)
    return copy


def reference_rule(rule: Rule) -> Rule | None:
    """Return the rule whose gradient another stands in for, if that is not BPTT."""
    return getattr(rule, "reference_rule", None)
