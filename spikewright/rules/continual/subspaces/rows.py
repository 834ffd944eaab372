"""The inputs of a weight as rows, or their second moment."""

import torch
from torch import Tensor

from spikewright._util.real_numbers import check_real
from spikewright._util.share import divided_share


class Rows:
    """Rows of presynaptic activity, accumulated in pieces.

    With linear lateral neurons everything learned from rows depends on their second moment alone.  So few rows are kept
    as they are, and many are summed up as `[size, size]`: memory does not grow with their number.

    Args:
        size: Length of a row.  At least 1.
        whole: If True, keep all rows as they are.  Default: False.
    """

    def __init__(self, size: int, whole: bool = False) -> None:
        self._size, self._whole = size, whole
        self._kept: list[Tensor] = []
        self._projected: list[Tensor] = []
        self._moment: Tensor | None = None
        self.count = self._added = 0

    @torch.no_grad()
    def add(self, rows: Tensor, times: int = 1, projected: Tensor | None = None) -> None:
        """Add rows.

        Args:
            rows: The rows, `[row, size]`.
            times: Number of times that each row occurs.  At least 1.  Default: 1.
            projected: Projection of the rows, `[row, size]`, if it is known and `times` is 1.  Default: None, unknown.
        """
        why, advice = "learns directions of real inputs", "Leave the layer unprotected with free=(its name,)."
        check_real("A rule that projects gradients", "what arrives at a layer that it protects", rows, why, advice)
        rows = rows.float() if rows.dtype.itemsize < 4 else rows
        self.count += times * len(rows)
        self._added += len(rows)
        if self._whole:
            rows = rows.repeat(times, 1)
        else:  # as far as their second moment goes, longer rows are more rows
            rows = rows * times**0.5  # a copy, as the caller may write to them
        self._kept.append(rows.detach())
        if projected is not None:
            self._projected.append(projected)
        if not self._whole and sum(map(len, self._kept)) > 2 * self._size:
            self._sum_up()

    def over_batch(self) -> "Rows":
        """Return the rows of the whole batch, if these are those of a part of it."""
        share = divided_share()
        if share is None or not self.count:
            return self
        whole = Rows(self._size, self._whole)
        whole.count = share.rows(self.count)
        if self._whole or share.rows(self._added) <= 2 * self._size:
            whole._kept = [share.gather(_joined(self._kept))]
        else:
            if self._kept:
                self._sum_up()
            assert self._moment is not None  # there was a row
            whole._moment = share.sum(self._moment)
        return whole

    @property
    def kept(self) -> Tensor | None:
        """Rows with the same sum of outer products, `[any, size]`; `None` if they have been summed up."""
        if self._moment is not None:
            return None
        return _joined(self._kept)

    @property
    def projected(self) -> Tensor | None:
        """Projections of the rows in `kept`; `None` if some are unknown."""
        return _joined(self._projected) if 0 < len(self._kept) == len(self._projected) else None

    @property
    def moment(self) -> Tensor:
        """Mean over rows of their outer product with themselves, `[size, size]`, not centred."""
        if self._kept:
            self._sum_up()
        assert self._moment is not None  # there was a row
        return self._moment / self.count

    def _sum_up(self) -> None:
        rows = _joined(self._kept)
        self._kept, self._projected = [], []
        if self._moment is None:
            self._moment = rows.T @ rows
        else:
            self._moment.addmm_(rows.T, rows)


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
