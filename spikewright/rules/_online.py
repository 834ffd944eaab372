"""The loop of every rule that cuts credit between steps: run a chunk, learn from it, forget its graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikewright.losses import Loss, LossOf
from spikewright.network import Network
from spikewright.rules._base import Backward, Rule, Update, plain_backward
from spikewright.temporal import State


@dataclass(frozen=True)
class Segment:
    """Steps that run together: `start` to `stop`, with a graph if `learn`."""

    start: int
    stop: int
    learn: bool = True


class OnlineRule(Rule):
    """A rule whose steps are independent given the state, so memory does not grow with their number."""

    loss_of: ClassVar[LossOf] = "steps"
    through_time: ClassVar[bool] = False
    updates_every_step: bool = False
    """Whether weights may change at every step, and not only at the end of the sequence."""

    def segments(self, steps: int, size: int) -> Iterator[Segment]:
        """Cut a sequence into pieces of at most `size` steps that run together."""
        for start in range(0, steps, size):
            yield Segment(start, min(start + size, steps))

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
        run = net.start(x, state, rule=self)
        total = outputs = None
        for segment in self.segments(len(x), self.steps_at_once(net.wiring(x), x)):
            with torch.set_grad_enabled(segment.learn):
                output = run.advance(x[segment.start : segment.stop])
                value = loss(output, y, len(x), segment.start)
            if segment.learn:
                backward(value)
            run.detach()
            value, output = value.detach(), output.detach()
            if self.updates_every_step:
                yield Update(value, output, run.state, run)
                continue
            if total is None or outputs is None:
                # All of them at once: many small blocks that stay would keep the freed ones between them from use.
                total, outputs = torch.zeros_like(value), output.new_empty(len(x), *output.shape[1:])
            total += value
            outputs[segment.start : segment.stop] = output
        if total is not None and outputs is not None:
            yield Update(total, outputs, run.state, run)
