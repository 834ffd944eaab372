"""The base of learning rules: declared traits, and `updates`, which fills `.grad` from a batch of sequences."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from spikewright._util.lengths import Lengths
from spikewright._util.returned import wrong
from spikewright._util.share import Share, current_share, sharing, within
from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.network.run import Run
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring
from spikewright.rules._batch import Backward, Batch, cut, differentiable, plain_backward, send_back
from spikewright.rules._check import check, check_loss, check_network
from spikewright.rules._chunk_size import Chunk, check_chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._fitted import fitted
from spikewright.rules._shared_loss import SharedLoss
from spikewright.rules._traits import Traits
from spikewright.rules._updates import Updates
from spikewright.solvers import Report
from spikewright.temporal import State


@dataclass(frozen=True)
class Update:
    """A moment at which `.grad` is ready.

    Attributes:
        loss: What the steps since the last update added to the loss, its penalty on firing rates included, a scalar
            without graph.
        output: Output of the network at those steps, `[time, batch, *output]`, without graph; several in the form in
            which `forward` returns them.  With `lengths` it is 0 after the end of a sequence.
        state: State of the run after these steps, tensors by layer and name; pass it to `updates` to continue the same
            sequences.  With `lengths` it is NaN for samples that have ended.
        report: How the adjoint equation was solved, a `spikewright.solvers.Report`.  Default: None, for rules that
            solve none.
        penalty: What a penalty on firing rates has added to `loss`, a scalar without graph.  Default: None, for a
            loss without one.
    """

    loss: Tensor
    output: Tensor
    state: State
    _run: Run
    report: Report | None = None
    penalty: Tensor | None = None

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
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.

    Raises:
        ConfigError: `chunk` is below 1 or no known text, or the class declares no traits.

    Attributes:
        traits: What the rule declares of itself, a `Traits`; a class attribute, which an instance may replace.
    """

    traits: Traits
    """The declaration; a class attribute, which an instance may replace."""
    takes_timed: ClassVar[bool] = True
    """False for a rule that picks samples out of targets, and so takes none with a time axis in front."""

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
        x: Input,
        y: Input,
        loss: Loss,
        state: State | None = None,
        backward: Backward = plain_backward,
        share: Share | None = None,
        *,
        lengths: Tensor | None = None,
        batch_first: bool = False,
    ) -> Iterator[Update]:
        """Learn from a batch of sequences; yields an `Update` whenever `.grad` is ready.

        The call checks its arguments; the batch is learned from while the result is iterated, and a result that never
        is gives a warning.  Gradients are *added* to `.grad`: zero them between updates, as always in PyTorch.

        Args:
            net: The network.
            x: Input, `[time, batch, *feature]`; or several in a tuple, list or dictionary, as `Network.run` takes them.
                If it has a graph, gradients flow back along that too.
            y: Target, `[batch, ...]`, or `[time, batch, ...]` for a loss that is timed; or several, which the criterion
                is given in the same form.
            loss: The loss.  If the network returns several outputs, its criterion is given them in that form.
            state: State in which an earlier run of the same sequences ended.  Default: None, the state of rest.
            backward: Called with each scalar to differentiate, e.g. `lambda v: scaler.scale(v).backward()`.
                Default: plain_backward, which calls `v.backward()`.
            share: Part of a batch that `x` and `y` are, if several processes share it; an instance of
                `spikewright.rules.Share`.  The loss is then that of the whole batch in every process, and the gradients
                of all add up to its gradient.  Default: None, the whole batch.
            lengths: Own number of steps of every sample of a padded batch, int64 `[batch]`, from 1 to the number of
                steps.  Gradients are then those of the mean, over the samples, of the loss of each sequence alone, and
                rates those of the own steps.  Default: None, all steps belong to the sequences.
            batch_first: True if `x` and a timed `y` are `[batch, time, ...]`; outputs stay `[time, batch, ...]`.
                Default: False.

        Raises:
            ShapeError: Layouts do not fit, or `share` has another size; `x` or `y` is no tensor; the criterion refuses
                the shape or type of `y`; `lengths` does not hold one whole number per sample.
            InputError: `x` or `state` holds a NaN or an infinity, a label or a length is out of range, or nothing
                requires a gradient.
            IncompatibleRule: The rule cannot work with this loss or this network, not with `lengths`, or not within its
                memory budget; or `lengths` are given for a batch that several processes share.
            NetworkError: `state` belongs to other layers.
            ConfigError: The criterion does not return one number, the network or the loss was not wrapped,
                `batch_first` is not a bool, or torch is in inference mode.
            ExtensionError: A method of a user-defined class returned something else than its contract says.
            ProcessLost: Another process that shares the batch has ended.
        """
        check_network(type(self).__name__, net)
        check_loss(type(self).__name__, loss)
        if torch.is_inference_mode_enabled():
            raise ConfigError(
                f"{type(self).__name__}.updates was called in inference mode, in which torch makes no graph, and no "
                "gradient. Call it outside of torch.inference_mode()."
            )
        net, given = net.given(x, batch_first)
        wiring = net.wiring(given)
        own = None if lengths is None else Lengths.of(lengths, given)
        loss, target = fitted(loss, y, wiring.outputs, batch_first)
        loss = loss if own is None else loss.over(own)
        with nullcontext() if share is current_share() else sharing(share):
            wiring = check(self, net, loss, given, target, state, own)
        self.prepare(net, given)
        batch = Batch(
            net, cut(given), target, loss, state, differentiable(backward), known=wiring, lengths=own, share=share
        ).fitted(self)
        if share is not None and share.divided:
            if own is not None:
                raise IncompatibleRule(
                    f"{type(self).__name__} was given lengths for a batch that {share.world} processes share. Means "
                    "over own steps are not collected from them. Leave out the padding, or learn in one process."
                )
            batch = replace(batch, loss=SharedLoss(loss))
        learned: Any = self.learn(batch)
        if not isinstance(learned, Iterable):
            raise wrong(self, "learn", "an iterator of updates", learned, "Write it as a generator: yield Update(...).")
        return Updates(type(self).__name__, _sent_back(self, within(share, learned), batch, given))

    @abstractmethod
    def learn(self, batch: Batch) -> Iterator[Update]:
        """Accumulate the gradients of a batch; yield an `Update` whenever `.grad` is ready.

        The batch has been checked and the rule prepared.  Start runs with `batch.start(hooks)`.  It is called by
        `updates` at once: as a generator it starts when the first update is asked for, and as a function that returns
        an iterator it may check the batch before.

        Args:
            batch: Network, input, target and loss.
        """

    def prepare(self, net: Network, x: Input) -> None:
        """Create what depends on the sizes of a network; done at first use, and existing parts stay.

        Call it before an optimizer is made for a rule with parameters of its own.

        Args:
            net: The network.
            x: Input, `[time, batch, *feature]`, of any length; or several in a tuple, list or dictionary.

        Raises:
            ConfigError: `net` is not a `Network`.
        """
        check_network(type(self).__name__, net)

    def check(self, wiring: Wiring, sites: Sites) -> None:
        """Raise `IncompatibleRule` if the rule cannot work in this network.

        Args:
            wiring: Wiring of the network.
            sites: Layers of the network.
        """

    def trial_copy(self, chunk: int) -> Self:
        """Return a copy by which the memory of a training step is measured, and which does without chance.

        A rule that learns from drawn steps learns from all.

        Args:
            chunk: Steps that run together.  At least 1.
        """
        copy = deepcopy(self)
        copy.chunk = chunk
        return copy

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


def _sent_back(rule: Rule, learned: Iterable[Any], batch: Batch, x: Tensor) -> Iterator[Update]:
    """Yield the updates of `learn`, checked, after the gradient of an input with a graph has gone back there."""
    for update in learned:
        if not (isinstance(update, Update) and isinstance(update.loss, Tensor)):
            raise wrong(rule, "learn", "an iterator of updates, with tensors", update, "Yield Update(...).")
        send_back(x, batch.x, again=rule.traits.updates == "every step")
        yield _as_given(update, batch)


def _as_given(update: Update, batch: Batch) -> Update:
    """Return an update with several outputs apart, and without states of samples that have ended."""
    form, own = batch.wiring.outputs, batch.lengths
    if form is not None:
        update = replace(update, output=form.unpack(update.output))
    return update if own is None else replace(update, state=own.ended(update.state, update._run.steps))


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


def random_parts(rule: Rule, steps: int) -> tuple[str, ...]:
    """Return what a rule draws random numbers for in every sequence, in words, from its method of this name if any.

    Args:
        rule: The rule.
        steps: Length of the sequences.  At least 1.
    """
    stated = getattr(rule, "random_parts", None)
    return () if stated is None else stated(steps)
