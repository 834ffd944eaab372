"""A sequence differentiated piece by piece, from the last to the first, with each piece's graph kept or made anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from spikewright.temporal import State


@dataclass(frozen=True)
class _Start:
    """What a piece starts from beside its state: what its forward pass changes in the network, and random numbers."""

    network: Snapshot
    random: PutBack


@dataclass(frozen=True)
class _KeptChunk:
    """Some steps, the state they start from (leaves of its graph), what came out, and what it takes to run them again.

    The output and the state after it are without a graph where the piece is run again; `start` is `None` otherwise.
    """

    x: Tensor
    before: State
    output: Tensor
    after: State
    start: _Start | None


class KeptChunks:
    """The forward pass of a sequence in pieces.

    A piece that is run again starts from the buffers, attributes and random numbers that it started from at first; in
    the end all is as after the first pass.  Both passes have gradients on, as modules may do otherwise without.

    Args:
        batch: What is run.
        size: Steps per piece.
        keep: Keep the graph of every piece; otherwise only the state before it, to run it again.
    """

    def __init__(self, batch: Batch, size: int, keep: bool) -> None:
        self._batch, x = batch, batch.x
        self._begun = _count()
        self.run = batch.start(spikes_as_bytes=True)
        self._kept: list[_KeptChunk] = []
        for steps in x.split(size):
            if self._kept:
                self.run.state = _leaves(self.run.state)
            before, start = self.run.state, None if keep else _Start(self._snapshot(), random_state())
            with torch.enable_grad(), own_weights():
                output = self.run.advance(steps)
            if start is not None:
                start.network.forget_unchanged()
                output = output.detach()
                self.run.detach()
            self._kept.append(_KeptChunk(steps, before, output, self.run.state, start))
        self.output = torch.cat([piece.output.detach() for piece in self._kept]).requires_grad_()
        """Of the whole sequence, `[time, batch, *output]`, a leaf."""

    def loss(self) -> Tensor:
        """Return the loss of the batch, which may read of the run what it has returned, and nothing else.

        Raises:
            IncompatibleRule: The criterion reads something that the network has computed beside its output.
        """
        ended = _count()
        with torch.enable_grad():
            value = self._batch.loss(self.output, self._batch.y, len(self._batch.x))
        if not torch.compiler.is_compiling() and _reaches(value, self._begun, ended):
            raise IncompatibleRule(
                "The loss reads something that the network computed beside its output: an activation that forward "
                "leaves on a module, or that a hook keeps, for a penalty on firing, for example. Rules of BPTT "
                "differentiate the loss by the output, and pieces of the run after it, so that the rest would be lost, "
                "or come from the last piece alone. Return it as part of the output (torch.cat([output, penalty], 1)) "
                "and take it apart in the criterion."
            )
        return value

    def backward(self) -> None:
        """Carry the gradient at `output` back to the parameters; can be done once."""
        assert self.output.grad is not None  # the caller has differentiated a loss of it
        grads = list(self.output.grad.split([len(piece.x) for piece in self._kept]))
        following: State = {}
        with self._put_back():
            while self._kept:
                piece = self._kept.pop()
                output, after = (piece.output, piece.after) if piece.start is None else self._again(piece, piece.start)
                carried = [
                    (value, following[site][name].grad)
                    for site, values in after.items()
                    for name, value in values.items()
                    if following and value.requires_grad and following[site][name].grad is not None
                ]
                if not output.requires_grad and not carried:
                    raise nothing_moves()
                with torch.autocast(piece.x.device.type, enabled=False):
                    torch.autograd.backward([output, *(v for v, _ in carried)], [grads.pop(), *(g for _, g in carried)])
                if piece.start is not None:
                    piece.start.network.put_back()  # where the piece before it ended
                following = piece.before

    def _again(self, piece: _KeptChunk, start: _Start) -> tuple[Tensor, State]:
        start.network.put_back()
        start.random()
        run: Run = self._batch.start(state=piece.before, spikes_as_bytes=True)
        with torch.enable_grad(), own_weights():
            return run.advance(piece.x), run.state

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._batch.net.module, parameters=False)

    @contextmanager
    def _put_back(self) -> Iterator[None]:
        """Put all back to where the first pass has left it, if there is a second."""
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
    """Return how many nodes the graphs of this thread have had so far."""
    if torch.compiler.is_compiling():
        return 0
    with torch.enable_grad():
        node: Any = torch.empty(0, requires_grad=True).view(0).grad_fn
    return node._sequence_nr()


def _reaches(value: Tensor, begun: int, ended: int) -> bool:
    """Whether the graph of a value has a node that was made between two counts."""
    return any(begun < node._sequence_nr() < ended for node in ancestors([value.grad_fn]))


def _leaves(state: State) -> State:
    """Cut a state from its graph, such that the gradient at it can be read."""
    return {
        site: {name: v.detach().requires_grad_(is_continuous(v)) for name, v in values.items()}
        for site, values in state.items()
    }
