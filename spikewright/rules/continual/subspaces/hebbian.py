"""The local rule by which lateral weights learn the principal directions of their input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_count, check_within
from spikewright.rules.continual.subspaces.rows import Rows
from spikewright.rules.continual.subspaces.subspace import Subspace


@dataclass(frozen=True)
class Hebbian:
    r"""Hebbian and anti-Hebbian learning (Oja's subspace rule) of the rows of the current task.

    With :math:`y = H x` from all rows, old and new, and the mean over inputs x,

    .. math::
        D = \mathrm{clamp}\bigl(\langle y_{new} (x - H^\top y)^\top \rangle, \pm c\bigr), \qquad
        m \leftarrow \mu m + (1 - \mu) D, \qquad H_{new} \leftarrow H_{new} + \eta\, m.

    Its stable fixed point has orthonormal rows that span the directions with the largest second moment, orthogonal to
    the old rows.

    Args:
        rate: Learning rate :math:`\eta`.  > 0; stable below about the inverse of the largest mean square along a
            direction.  Default: 0.01.
        iterations: Number of steps on the same inputs.  From 1 to 10**6.  Default: 5.
        momentum: Momentum :math:`\mu`.  In [0, 1).  Default: 0.9.
        clamp: Largest entry c of a step, before the rate.  > 0.  Default: 10.0.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Xiao, Meng, Zhang, He, Lin, Hebbian Learning based Orthogonal Projection for Continual Learning of Spiking
        Neural Networks, ICLR 2024, arXiv 2402.11984.
    """

    rate: float = 0.01
    iterations: int = 5
    momentum: float = 0.9
    clamp: float = 10.0

    def __post_init__(self) -> None:
        check_within("Hebbian", "rate", self.rate, "(0, inf)", "lateral weights move by it")
        check_count("Hebbian", "iterations", self.iterations, "there is at least one iteration", most=MOST)
        check_within("Hebbian", "momentum", self.momentum, "[0, 1)", "it is the share that is kept of earlier steps")
        check_within("Hebbian", "clamp", self.clamp, "(0, inf)", "no entry of a step is larger")

    @torch.no_grad()
    def __call__(self, subspace: Subspace, rows: Rows) -> None:
        """Update the new rows of a subspace from the inputs of its weight."""
        if not len(subspace.new) or not rows.count:
            return
        with torch.autocast(subspace.new.device.type, enabled=False):
            kept = rows.kept
            if kept is not None and (not subspace.lateral.linear or self._is_short(subspace, len(kept))):
                x = kept.to(subspace.new.dtype)
                projected = subspace.project(x) if rows.projected is None else rows.projected
                self._from_rows(subspace, x, projected, rows.count)
            else:
                self._from_moment(subspace, rows.moment.to(subspace.new.dtype))

    def _from_rows(self, subspace: Subspace, x: Tensor, projected: Tensor, count: int) -> None:
        """Learn from rows, given their projection by the old rows, which do not change meanwhile."""
        new, lateral = subspace.new, subspace.lateral
        for _ in range(self.iterations):
            y = lateral(x @ new.T)
            mean = y.T / count
            if len(new) < len(x):
                self._step(subspace, (mean @ projected).addmm_(mean @ y, new, alpha=-1))
            else:
                self._step(subspace, mean @ torch.addmm(projected, y, new, alpha=-1))

    def _from_moment(self, subspace: Subspace, moment: Tensor) -> None:
        new = subspace.new
        for _ in range(self.iterations):
            seen = new @ moment
            self._step(subspace, torch.addmm(subspace.project(seen), seen @ new.T, new, alpha=-1))

    def _step(self, subspace: Subspace, change: Tensor) -> None:
        subspace.momentum.lerp_(change.clamp_(-self.clamp, self.clamp), 1 - self.momentum)
        subspace.new.add_(subspace.momentum, alpha=self.rate)

    def _is_short(self, subspace: Subspace, rows: int) -> bool:
        """Return True if rows cost fewer multiplications than their second moment."""
        new, size, products = len(subspace.new), subspace.size, subspace.products
        by_row = self.iterations * new * (2 * rows + min(rows, new)) + rows * products
        return by_row < rows * size + self.iterations * new * (size + products + 2 * new)
