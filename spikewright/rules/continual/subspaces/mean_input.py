"""The mean over time of what arrives at a synapse, as it comes in chunks."""

import torch
from torch import Tensor

from spikewright.rules.continual.subspaces.projected_rows import ProjectedRows
from spikewright.synapses.operations import Operation
from spikewright.temporal import is_static


class MeanInput:
    """The mean over time of what arrives at one synapse, and of what old rows leave of it.

    Args:
        operation: Of the synapse.
        weight: Of the synapse.
    """

    def __init__(self, operation: Operation, weight: Tensor) -> None:
        self._operation, self.weight = operation, weight
        self._total: Tensor | None = None
        self._left: Tensor | None = None
        self._steps = self._steps_left = 0
        self._last: tuple[ProjectedRows, int] | None = None

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Take in the next steps, `[time, batch, *feature]`."""
        steps = len(x)
        if is_static(x) or steps == 1:
            self._total = _added(self._total, x[0], steps)
        else:
            self._total = _added(self._total, x.sum(0), 1)
        self._steps += steps

    def follow(self, rest: ProjectedRows, steps: int) -> None:
        """Say what projects the last steps that were added; the gradient at those before has been taken, or counts not.

        Args:
            rest: What projects them, when their gradient is taken.
            steps: How many they are.
        """
        self._conclude()
        self._last = rest, steps

    @property
    def patches(self) -> Tensor:
        """What every output saw of the mean, `[any, inputs per output]`."""
        assert self._total is not None  # something arrived
        return self._operation.patches(self._total / self._steps, self.weight)

    @property
    def rest(self) -> Tensor | None:
        """What old rows leave of `patches`; `None` if some of it has not been projected."""
        self._conclude()
        return self._left / self._steps if self._left is not None and self._steps_left == self._steps else None

    def _conclude(self) -> None:
        if self._last is None:
            return
        (rest, steps), self._last = self._last, None
        if rest.mean is not None:
            self._left = _added(self._left, rest.mean, steps)
            self._steps_left += steps


def _added(total: Tensor | None, x: Tensor, times: int) -> Tensor:
    """Return `total + times * x`, in the memory of `total` if there is one."""
    return x * times if total is None else total.add_(x, alpha=times)
