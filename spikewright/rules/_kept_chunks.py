"""A sequence differentiated chunk by chunk, last to first, with graphs stored or recomputed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikewright._util.leaves import ancestors
from spikewright._util.real_numbers import is_continuous
from spikewright._util.snapshot import PutBack, Snapshot, random_state
from spikewright._util.trial import own_weights
from spikewright.errors import IncompatibleRule
from spikewright.network.run import Run
from spikewright.rules._batch import Batch, nothing_moves
from spikewright.rules._firing_rates import WholeCounts
from spikewright.temporal import State


@dataclass(frozen=True)
class _Start:
    """What a chunk starts from beside its state: buffers and attributes of the network, and random numbers."""

    network: Snapshot
    random: PutBack


@dataclass(frozen=True)
class _KeptChunk:
    """Steps of a chunk, the state before them (leaves of its graph), output and state after, and its start.

    Output and the state after are without graph if the chunk is recomputed; `start` is `None` otherwise.  `counts` are
    the spikes of penalised neurons, `[batch, neuron]` by layer, if it is not; `begin` is the index of the first step.
    """

    x: Tensor
    before: State
    output: Tensor
    after: State
    counts: dict[str, Tensor]
    start: _Start | None
    begin: int


class KeptChunks:
    """The forward pass of a sequence in chunks, and its backward pass.

    A chunk that is recomputed starts from the same buffers, attributes and random numbers as before; at the end
    everything is as after the first pass.  Gradients are enabled in both passes, since modules may behave differently
    without.

    Args:
        batch: Network, input, target and loss.
        size: Number of steps per chunk.  At least 1.
        keep: If True, keep the graph of every chunk; otherwise only the state before it, to recompute it.
    """

    def __init__(self, batch: Batch, size: int, keep: bool) -> None:
        self._batch, x = batch, batch.x
        self._begun = _count()
        self._counts = WholeCounts.of(batch)
        self.run = batch.start(spikes_as_bytes=True, spikes=self._counts)
        self._kept: list[_KeptChunk] = []
        self._totals: dict[str, Tensor] = {}
        self.penalty: Tensor | None = None
        """Penalty on firing rates, a scalar without graph; `None` without one."""
        for steps in x.split(size):
            if self._kept:
                self.run.state = _leaves(self.run.state)
            before, start = self.run.state, None if keep else _Start(self._snapshot(), random_state())
            begin = self.run.steps
            with torch.enable_grad(), own_weights():
                output = self.run.advance(steps)
            counts = {} if self._counts is None else self._counts.take()
            for site, count in counts.items():
                self._totals[site] = self._totals.get(site, 0) + count.detach()
            if start is not None:
                start.network.forget_unchanged()
                output, counts = output.detach(), {}
                self.run.detach()
            self._kept.append(_KeptChunk(steps, before, output, self.run.state, counts, start, begin))
        self.output = torch.cat([piece.output.detach() for piece in self._kept]).requires_grad_()
        """Output of the whole sequence, `[time, batch, *output]`, a leaf."""

    def loss(self) -> Tensor:
        """Return the loss of the batch with its penalty.

        It may depend on the output of the network and on the counts of spikes, and on nothing else of the run.

        Raises:
            IncompatibleRule: The criterion reads something that the network computed beside its output.
        """
        ended = _count()
        with torch.enable_grad():
            value = self._batch.loss(self.output, self._batch.y, len(self._batch.x))
        if not torch.compiler.is_compiling() and _reaches(value, self._begun, ended):
            raise IncompatibleRule(
                "The loss reads something that the network computed beside its output: an activation that forward "
                "leaves on a module, or that a hook keeps, for a penalty on firing, for example. BPTT differentiates "
                "the loss by the output, and then the chunks of the run, so that the gradient of the activation would "
                "be lost, or come from the last chunk alone. Return it as part of the output "
                "(torch.cat([output, penalty], 1)) and take it apart in the criterion; or, for firing rates, give the "
                "loss penalty=FiringRatePenalty(...)."
            )
        return value + self._penalty() if self._counts is not None else value

    @torch.enable_grad()
    def _penalty(self) -> Tensor:
        """Return the penalty on firing rates, with the counts of the whole sequence as leaves."""
        assert self._counts is not None
        for total in self._totals.values():
            total.requires_grad_()
        penalty = self._counts.penalty(self._totals)
        self.penalty = penalty.detach()
        return penalty

    def backward(self) -> None:
        """Propagate the gradient at `output` to the parameters; callable once."""
        assert self.output.grad is not None  # the caller has differentiated a loss of it
        grads = list(self.output.grad.split([len(piece.x) for piece in self._kept]))
        following: State = {}
        with self._put_back():
            while self._kept:
                piece = self._kept.pop()
                made = piece if piece.start is None else self._again(piece, piece.start)
                output, after = made.output, made.after
                carried = [
                    (value, following[site][name].grad)
                    for site, values in after.items()
                    for name, value in values.items()
                    if following and value.requires_grad and following[site][name].grad is not None
                ]
                carried += [
                    (count, grad)
                    for site, count in made.counts.items()
                    if count.requires_grad and (grad := self._totals[site].grad) is not None
                ]
                if not output.requires_grad and not carried:
                    raise nothing_moves()
                with torch.autocast(piece.x.device.type, enabled=False):
                    torch.autograd.backward([output, *(v for v, _ in carried)], [grads.pop(), *(g for _, g in carried)])
                if piece.start is not None:
                    piece.start.network.put_back()  # where the piece before it ended
                following = piece.before

    def _again(self, piece: _KeptChunk, start: _Start) -> _KeptChunk:
        start.network.put_back()
        start.random()
        # Without lengths, since the loss has no gradient behind the end of a sequence.
        counts = WholeCounts.of(self._batch, piece.begin)
        run: Run = self._batch.start(state=piece.before, spikes_as_bytes=True, lengths=None, spikes=counts)
        with torch.enable_grad(), own_weights():
            output = run.advance(piece.x)
        counted = {} if counts is None else counts.take()
        return replace(piece, output=output, after=run.state, counts=counted)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._batch.net.module, parameters=False)

    @contextmanager
    def _put_back(self) -> Iterator[None]:
        """Restore what the first pass left, if there is a second pass."""
        if self._kept[-1].start is None:
            yield
            return
        end = _Start(self._snapshot(), random_state())
        try:
            yield
        finally:
            end.network.put_back()
            end.random()


def _count() -> int:
    """Return the number of graph nodes that this thread has created so far."""
    if torch.compiler.is_compiling():
        return 0
    with torch.enable_grad():
        node: Any = torch.empty(0, requires_grad=True).view(0).grad_fn
    return node._sequence_nr()


def _reaches(value: Tensor, begun: int, ended: int) -> bool:
    """Return True if the graph of a value has a node that was created between two counts."""
    return any(begun < node._sequence_nr() < ended for node in ancestors([value.grad_fn]))


def _leaves(state: State) -> State:
    """Detach a state from its graph such that its gradient is accumulated."""
    return {
        site: {name: v.detach().requires_grad_(is_continuous(v)) for name, v in values.items()}
        for site, values in state.items()
    }
