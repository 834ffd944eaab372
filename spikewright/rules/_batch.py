"""A batch of sequences to learn from, and how a run over it is started."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikewright._util.lengths import Lengths
from spikewright._util.returned import described
from spikewright._util.share import Share, sharing, within
from spikewright.errors import ExtensionError, IncompatibleRule, InputError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.hooks import Hooks
from spikewright.network.run import Run
from spikewright.network.wiring import Wiring
from spikewright.rules._check import check
from spikewright.rules._chunk_size import is_budget, steps_at_once
from spikewright.rules._fitting import fitting_steps
from spikewright.temporal import State, is_static

if TYPE_CHECKING:
    from spikewright.rules._base import Rule, Update

Backward = Callable[[Tensor], None]


def plain_backward(loss: Tensor) -> None:
    """Accumulate gradients by `loss.backward()`."""
    loss.backward()


def differentiable(backward: Backward) -> Backward:
    """Return `backward`, with an error that names the cause if its argument cannot be differentiated."""

    def differentiate(value: Tensor) -> None:
        if not (isinstance(value, Tensor) and value.numel() == 1):
            raise ExtensionError(
                f"The loss to be differentiated has to be a tensor of one number, but it is {described(value)}. A "
                "custom rule calls batch.backward with what batch.loss returned, or something made of that."
            )
        if not value.requires_grad:
            raise nothing_moves()
        backward(value)

    return differentiate


def cut(x: Tensor) -> Tensor:
    """Return an input that has a graph as a leaf, so that each chunk of a run can send its gradient there."""
    return x.detach().requires_grad_() if x.requires_grad and not x.is_leaf else x


def send_back(x: Tensor, leaf: Tensor, again: bool) -> None:
    """Send the gradient that has arrived at the leaf of an input back along the graph of the input.

    Args:
        x: The input, `[time, batch, *feature]`.
        leaf: What `cut` returned for it.
        again: If True, keep the graph for further gradients.
    """
    if leaf is not x and leaf.grad is not None:
        gradient, leaf.grad = leaf.grad, None
        x.backward(gradient, retain_graph=again)


def nothing_moves() -> InputError:
    """Return the error for a loss that depends on nothing that requires a gradient."""
    return InputError(
        "The loss was to be differentiated, but it depends on nothing that asks for a gradient: all parameters on the "
        "way to it are frozen, or the criterion or the network takes its values off the graph (detach, no_grad, "
        "item, argmax). Unfreeze some (parameter.requires_grad_()), or compute the loss with operations that can be "
        "differentiated."
    )


@dataclass(frozen=True)
class Batch:
    """What a rule learns from: the arguments of `Rule.updates` after they were checked.

    Attributes:
        net: The network.
        x: Input, `[time, batch, *feature]`.
        y: Target, `[batch, ...]`.
        loss: The loss.
        state: State in which an earlier run of the same sequences ended.  Default: None, the state of rest.
        backward: Differentiates a scalar and accumulates the gradients at parameters.  Default: plain_backward, which
            calls `.backward()`.
        around: Function by which an outer rule wraps the hooks of the runs.  Default: None, which leaves them as they
            are.
        known: Wiring of the network for inputs like `x`, if it has been looked up.  Default: None, looked up when
            needed.
        lengths: Lengths of the sequences of a padded batch, which `loss` and the runs respect.  Default: None, all
            steps belong to them.
        share: Part of a batch that these samples are, if several processes share it.  Default: None, the whole batch.
        at_once: Number of steps that run together if the rule has a memory budget.  At least 1.  Default: None, found
            when needed.
    """

    net: Network
    x: Tensor
    y: Tensor
    loss: Loss
    state: State | None = None
    backward: Backward = plain_backward
    around: Callable[[Hooks], Hooks] | None = None
    known: Wiring | None = None
    lengths: Lengths | None = None
    share: Share | None = None
    at_once: int | None = None

    @property
    def wiring(self) -> Wiring:
        """Which layer feeds which in the network, for inputs like `x`."""
        return self.known or self.net.wiring(self.x)

    def steps_at_once(self, rule: "Rule") -> int:
        """Return the number of steps that a rule runs together.

        Args:
            rule: The rule.
        """
        return steps_at_once(rule, self.wiring, len(self.x)) or self.at_once or fitting_steps(rule, self)

    def fitted(self, rule: "Rule") -> "Batch":
        """Return the same batch with the number of steps that run together, if a memory budget decides.

        Args:
            rule: The rule, which has been prepared.

        Raises:
            IncompatibleRule: No number of steps fits the budget.
        """
        fixed = steps_at_once(rule, self.wiring, len(self.x))
        if not is_budget(rule.chunk) or (fixed is not None and rule.chunk == "auto"):
            return self
        if self.share is None or not self.share.divided:
            return replace(self, at_once=fitting_steps(rule, self))
        return replace(self, at_once=self.share.least(fitting_steps(rule, self._largest_part())))

    def _largest_part(self) -> "Batch":
        """Return a batch like the largest part of a shared one, two samples at least, as batch norm needs them."""
        samples = self.x.shape[1]
        if self.share is None or self.state is not None:
            return self
        rows = torch.arange(max(2, self.share.largest), device=self.x.device) % samples
        once = self.x[:1] if is_static(self.x) else self.x
        return replace(self, x=once[:, rows].expand(len(self.x), len(rows), *self.x.shape[2:]))

    def hooks(self, own: Hooks | None) -> Hooks | None:
        """Return the hooks for a run of this batch, given those of the rule; `None` if there are none.

        Args:
            own: Hooks of the rule; `None` for none.
        """
        return own if self.around is None else self.around(own or Hooks())

    def start(self, own: Hooks | None = None, state: State | None = None, **options: Any) -> Run:
        """Return a run over `x` with the hooks of the rule.

        Args:
            own: Hooks of the rule.  Default: None, no hooks.
            state: State in which the run starts.  Default: None, the state of the batch.
            **options: Further keyword arguments of `Network.start`, such as `through_time`.
        """
        before = self.state if state is None else state
        options.setdefault("lengths", self.lengths)
        return self.net.start(self.x, before, hooks=self.hooks(own), wiring=self.known, **options)

    def weighted(self, weight: float) -> "Batch":
        """Return the same batch with its gradients multiplied by a factor.

        Args:
            weight: The factor.  Any finite number.
        """
        return replace(self, backward=lambda value: self.backward(weight * value))


def learn_together(rule: "Rule", batches: Sequence[Batch]) -> "Iterator[Update]":
    """Learn from several batches in one update; yields the update of the first when `.grad` holds the sum.

    Args:
        rule: The rule.
        batches: The batches, at least one, the first of which has been checked.

    Raises:
        IncompatibleRule: The rule updates several times per sequence.
    """
    for batch in batches[1:]:  # the first has been
        with sharing(batch.share):
            check(rule, batch.net, batch.loss, batch.x, batch.y)
    learned = [list(within(batch.share, rule.learn(batch))) for batch in batches]
    if any(len(updates) != 1 for updates in learned):
        raise IncompatibleRule(
            f"{rule} updates {max(map(len, learned))} times in a sequence, so that two sequences cannot be learned in "
            "one update. Use the form that updates once (online=False)."
        )
    yield learned[0][0]
