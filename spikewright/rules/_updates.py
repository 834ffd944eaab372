"""The updates of a batch, made one by one while they are asked for."""

import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikewright.rules._base import Update


class Updates(Iterator["Update"]):
    """Iterator over the updates of a batch that has been checked; warns if it is dropped before it was started.

    Args:
        rule: Name of the rule, for the warning.
        made: Makes the updates.
    """

    def __init__(self, rule: str, made: Iterator["Update"]) -> None:
        self._rule, self._made, self._started = rule, made, False

    def __next__(self) -> "Update":
        self._started = True
        return next(self._made)

    def __del__(self) -> None:
        if not (getattr(self, "_started", True) or sys.is_finalizing()):
            warnings.warn(
                f"{self._rule}.updates(...) was called, but its updates were never asked for, so that nothing was "
                "learned: gradients are made while it is iterated. Write `for update in rule.updates(...): "
                "optimizer.step(); optimizer.zero_grad()`.",
                UserWarning,
                stacklevel=2,
            )
