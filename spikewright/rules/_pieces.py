"""A sequence differentiated piece by piece, from the last to the first, with each piece's graph kept or made anew."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.rules._batch import Batch
from spikewright.run import Run
from spikewright.temporal import State
from spikewright.trial import restored


@dataclass(frozen=True)
class _Piece:
    """Some steps, the state they start from (leaves of its graph), the random state there, and what came out."""

    x: Tensor
    before: State
    random: list[Tensor]
    output: Tensor
    after: State


class Pieces:
    """The forward pass of a sequence in pieces.

    Args:
        batch: What is run.
        size: Steps per piece.
        keep: Keep the graph of every piece; otherwise only the state before it, to run it again.
    """

    def __init__(self, batch: Batch, size: int, keep: bool) -> None:
        self._batch, self._keep, x = batch, keep, batch.x
        self.run = batch.start(spikes_as_bytes=True)
        self._pieces: list[_Piece] = []
        for steps in x.split(size):
            if self._pieces:
                self.run.state = _leaves(self.run.state)
            before, random = self.run.state, [] if keep else _random_state(x)
            with torch.set_grad_enabled(keep):
                output = self.run.advance(steps)
            self._pieces.append(_Piece(steps, before, random, output, self.run.state))
        self.output = torch.cat([piece.output.detach() for piece in self._pieces]).requires_grad_()
        """Of the whole sequence, `[time, batch, *output]`, a leaf."""

    def backward(self) -> None:
        """Carry the gradient at `output` back to the parameters; can be done once."""
        assert self.output.grad is not None  # the caller has differentiated a loss of it
        grads = list(self.output.grad.split([len(piece.x) for piece in self._pieces]))
        following: State = {}
        with nullcontext() if self._keep else restored(self._batch.net):
            while self._pieces:
                piece = self._pieces.pop()
                output, after = (piece.output, piece.after) if self._keep else self._again(piece)
                carried = [
                    (value, following[site][name].grad)
                    for site, values in after.items()
                    for name, value in values.items()
                    if following and value.requires_grad and following[site][name].grad is not None
                ]
                with torch.autocast(piece.x.device.type, enabled=False):
                    torch.autograd.backward([output, *(v for v, _ in carried)], [grads.pop(), *(g for _, g in carried)])
                following = piece.before

    def _again(self, piece: _Piece) -> tuple[Tensor, State]:
        torch.set_rng_state(piece.random[0])
        if piece.x.is_cuda:
            torch.cuda.set_rng_state(piece.random[1], piece.x.device)
        run: Run = self._batch.start(state=piece.before, spikes_as_bytes=True)
        with torch.enable_grad():
            return run.advance(piece.x), run.state


def _leaves(state: State) -> State:
    """Cut a state from its graph, such that the gradient at it can be read."""
    return {
        site: {name: v.detach().requires_grad_(v.is_floating_point()) for name, v in values.items()}
        for site, values in state.items()
    }


def _random_state(x: Tensor) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]
