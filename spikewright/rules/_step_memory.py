"""The memory that a training step takes, measured on a short step that is undone."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikewright._util.real_numbers import as_real
from spikewright._util.trial import restored, without_gradients
from spikewright.losses import FiringRatePenalty, Loss
from spikewright.losses._standard import standard_loss
from spikewright.metrics.allocation import AllocatedBytes
from spikewright.metrics.memory import SavedBytes
from spikewright.temporal import detach, is_static

if TYPE_CHECKING:
    from spikewright.rules._base import Rule
    from spikewright.rules._batch import Batch


@dataclass(frozen=True)
class StepMemory:
    """Memory of a training step in bytes.

    Attributes:
        saved: Most bytes that autograd keeps for the backward pass at one time, parameters not counted.
        phases: Most bytes that the step allocates at one time, as in `AllocatedBytes`: each phase grows with the number
            of steps in its own way.
    """

    saved: int
    phases: tuple[int, ...]

    @property
    def working(self) -> int:
        """Most bytes that the step allocates at one time."""
        return max(self.phases)

    @property
    def numbers(self) -> npt.NDArray[np.float64]:
        """All bytes as one array, to be extrapolated."""
        return np.array([self.saved, *self.phases], dtype=np.float64)

    @classmethod
    def of(cls, numbers: npt.NDArray[np.float64]) -> "StepMemory":
        """Return what an array of `numbers` stands for."""
        saved, *phases = (max(0, round(number)) for number in numbers.tolist())
        return cls(saved, tuple(phases))


def step_memory(rule: "Rule", batch: "Batch", steps: int) -> StepMemory:
    """Return the memory of a training step, which is then undone.

    It is measured without gradients of earlier steps, and with a loss that costs next to nothing but for its penalty.

    Args:
        rule: The rule, prepared for the network, without a memory budget.  A copy, since it learns.
        batch: Network, input, and the penalty of the loss; target, criterion and hooks do not matter.
        steps: Length of the sequence, to which the input is cut or repeated.  At least 1.
    """
    x, state = repeated(batch.x, steps), None if batch.state is None else detach(batch.state)
    x = x.detach().requires_grad_(batch.x.requires_grad)
    y = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
    plain = replace(batch, backward=_backward, around=None, at_once=None, lengths=None, share=None)
    short = replace(plain, x=x, y=y, loss=small_loss(rule, batch.loss.penalty), state=state)
    with restored(batch.net.module), without_gradients(batch.net, rule), _no_garbage_collection():
        with AllocatedBytes() as allocated, SavedBytes() as saved:
            for _ in rule.learn(short):
                pass
    return StepMemory(saved.peak, allocated.phases)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep what was there before from being freed meanwhile, which would count against what is allocated."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def own_bytes(rule: "Rule") -> int:
    """Return the bytes of what a rule keeps between steps.

    Args:
        rule: The rule, prepared for a network.
    """
    return sum(tensor.nbytes for tensor in (*rule.parameters(), *rule.buffers()))


def small_loss(rule: "Rule", penalty: FiringRatePenalty | None = None) -> Loss:
    """Return a loss that a rule can learn from, whatever the output of the network.

    Args:
        rule: The rule.
        penalty: Penalty of the loss on firing rates.  Default: None.
    """
    return standard_loss(rule.traits.loss)(lambda output, _: as_real(output).square().mean(), penalty=penalty)


def repeated(x: Tensor, steps: int) -> Tensor:
    """Return a sequence with another number of steps; a static input stays one.

    Args:
        x: Sequence, `[time, batch, *feature]`.
        steps: Number of steps.  At least 1.
    """
    if is_static(x) or len(x) == 1:
        return x[:1].expand(steps, *x.shape[1:])
    return x[:steps] if steps <= len(x) else x[torch.arange(steps, device=x.device) % len(x)]


def _backward(value: Tensor) -> None:
    if value.requires_grad:  # if not, the step itself says so
        value.backward()
