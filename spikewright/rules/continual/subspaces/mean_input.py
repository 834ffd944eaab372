"""The mean over time of the input of a layer, accumulated in chunks."""

import torch
from torch import Tensor

from spikewright.rules.continual.subspaces.projected_rows import ProjectedRows
from spikewright.synapses.operations import Operation
from spikewright.temporal import is_static


class MeanInput:
    """The mean over time of the input of one layer, and its projection by old rows.

    Args:
        operation: Operation of the layer.
        weight: Weight of the layer, `[output, *input]`.
    """

    def __init__(self, operation: Operation, weight: Tensor) -> None:
        self._operation, self.weight = operation, weight
        self._total: Tensor | None = None
        self._projected_total: Tensor | None = None
        self._steps = self._projected_steps = 0
        self._last: tuple[ProjectedRows, int] | None = None

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Add the next steps, `[time, batch, *feature]`."""
        steps = len(x)
        if is_static(x) or steps == 1:
            self._total = _added(self._total, x[0], steps)
        else:
            self._total = _added(self._total, x.sum(0), 1)
        self._steps += steps

    def follow(self, projected: ProjectedRows, steps: int) -> None:
        """Set what projects the steps added last; the gradient at earlier ones has been taken, or does not count.

        Args:
            projected: What projects them when their gradient is taken.
            steps: Number of these steps.  At least 1.
        """
        self._conclude()
        self._last = projected, steps

    @property
    def patches(self) -> Tensor:
        """The mean input that each output sees, `[any, inputs per output]`."""
        assert self._total is not None  # something arrived
        return self._operation.patches(self._total / self._steps, self.weight)

    @property
    def projected(self) -> Tensor | None:
        """The projection of `patches`; `None` if some steps have not been projected."""
        self._conclude()
        if self._projected_total is None or self._projected_steps != self._steps:
            return None
        return self._projected_total / self._steps

    def _conclude(self) -> None:
        if self._last is None:
            return
        (projected, steps), self._last = self._last, None
        if projected.mean is not None:
            self._projected_total = _added(self._projected_total, projected.mean, steps)
            self._projected_steps += steps


def _added(total: Tensor | None, x: Tensor, times: int) -> Tensor:
    """Return `total + times * x`, in the memory of `total` if there is one."""
    return x * times if total is None else total.add_(x, alpha=times)
