"""The base of learning rules: declared traits, and `updates`, which fills `.grad` from a batch of sequences."""

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
from spikewright.rules._updates import Updates
from spikewright.solvers import Report
from spikewright.temporal import State


@dataclass(frozen=True)
class Update:
    """A moment at which `.grad` is ready.

    Attributes:
        loss: What the steps since the last update added to the loss, a scalar without graph.
        output: Output of the network at those steps, `[time, batch, *output]`, without graph.
        state: State of the run after these steps, tensors by layer and name; pass it to `updates` to continue the same
            sequences.
        report: How the adjoint equation was solved, a `spikewright.solvers.Report`.  Default: None, for rules that
            solve none.
    """

    loss: Tensor
    output: Tensor
    state: State
    _run: Run
    report: Report | None = None

    @property
    def rates(self) -> dict[str, float]:
        """Mean number of spikes per neuron and step since the start of the sequence, by layer of neurons."""
        return self._run.rates()


class Rule(nn.Module, ABC):
    """Base of learning rules: a subclass declares its `traits` and implements `learn`.

    A rule is a module: what it keeps between sequences is a buffer.  What it carries within a sequence is part of the
    state of the run.

    Args:
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of activations, and a size such as "256MiB"
            as many as fit that.

    Raises:
        ConfigError: `chunk` is below 1 or no known text, or the class declares no traits.

    Attributes:
        traits: What the rule declares of itself, a `Traits`; a class attribute, which an instance may replace.
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
        """Learn from a batch of sequences; yields an `Update` whenever `.grad` is ready.

        The call checks its arguments; the batch is learned from while the result is iterated, and a result that never
        is gives a warning.  Gradients are *added* to `.grad`: zero them between updates, as always in PyTorch.

        Args:
            net: The network.
            x: Input, `[time, batch, *feature]`.  If it has a graph, gradients flow back along that too.
            y: Target, `[batch, ...]`.
            loss: The loss.
            state: State in which an earlier run of the same sequences ended.  Default: None, the state of rest.
            backward: Called with each scalar to differentiate, e.g. `lambda v: scaler.scale(v).backward()`.
                Default: plain_backward, which calls `v.backward()`.

        Raises:
            ShapeError: Layouts do not fit; `x` or `y` is no tensor; the criterion refuses the shape or type of `y`.
            InputError: `x` holds a NaN or an infinity, a label is out of range, or nothing requires a gradient.
            IncompatibleRule: The rule cannot work with this loss or this network.
            NetworkError: `state` belongs to other layers.
            ConfigError: The criterion does not return one number, or the network or the loss was not wrapped.
            ExtensionError: A method of a user-defined class returned something else than its contract says.
        """
        wiring = check(self, net, loss, x, y, state)
        self.prepare(net, x)
        given = cut(x)
        batch = Batch(net, given, y, loss, state, differentiable(backward), known=wiring)
        return Updates(type(self).__name__, self._learned(batch, x))

    def _learned(self, batch: Batch, x: Tensor) -> Iterator[Update]:
        """Yield the updates of `learn`, checked, after the gradient of an input with a graph has gone back there."""
        learned: Any = self.learn(batch)
        if not isinstance(learned, Iterable):
            raise wrong(self, "learn", "an iterator of updates", learned, "Write it as a generator: yield Update(...).")
        for update in learned:
            if not (isinstance(update, Update) and isinstance(update.loss, Tensor)):
                raise wrong(self, "learn", "an iterator of updates, with tensors", update, "Yield Update(...).")
            send_back(x, batch.x, again=self.traits.updates == "every step")
            yield update

    @abstractmethod
    def learn(self, batch: Batch) -> Iterator[Update]:
        """Accumulate the gradients of a batch; yield an `Update` whenever `.grad` is ready.

        The batch has been checked and the rule prepared.  Start runs with `batch.start(hooks)`.

        Args:
            batch: Network, input, target and loss.
        """

    def prepare(self, net: Network, x: Tensor) -> None:
        """Create what depends on the sizes of a network; done at first use, and existing parts stay.

        Call it before an optimizer is made for a rule with parameters of its own.

        Args:
            net: The network.
            x: Input, `[time, batch, *feature]`, of any length.
        """

    def check(self, wiring: Wiring, sites: Sites) -> None:
        """Raise `IncompatibleRule` if the rule cannot work in this network.

        Args:
            wiring: Wiring of the network.
            sites: Layers of the network.
        """

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        """Return True if the rule claims the gradient of BPTT for a parameter.

        Args:
            parameter: Name of the parameter.
            wiring: Wiring of the network.
            steps: Length of the sequences.  At least 1.
        """
        return False

    def cost(self, done: Done) -> Cost | None:
        """Return the cost of learning from one sequence, per sample, without the simulation; `None` if not stated.

        Args:
            done: What was done in a training step.
        """
        return None

    def extra_repr(self) -> str:
        return f"chunk={self.chunk!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


R = TypeVar("R", bound=Rule)


def fresh_copy(rule: R, net: Network, x: Tensor) -> R:
    """Return a copy of a rule, prepared for a network; the rule itself does not change.

    Args:
        rule: The rule.
        net: The network.
        x: Input, `[time, batch, *feature]`, of any length.
    """
    copy = deepcopy(rule)
    copy.prepare(net, x)
    return copy


def reference_rule(rule: Rule) -> Rule | None:
    """Return the rule whose gradient another one approximates, or `None` if that is BPTT.

    Args:
        rule: The rule, e.g. `OTTT(spatial=DFA())`, whose reference is `OTTT()`.
    """
    return getattr(rule, "reference_rule", None)
