"""Memory layouts: a kernel sees time first and everything else flat, whatever the order of the axes in memory."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from spikewright.errors import ShapeError
from spikewright.temporal import is_static


@dataclass(frozen=True)
class Layout:
    """The order in which the axes of `[time, batch, *feature]` lie in memory, e.g. channels last.

    Attributes:
        order: Axes from the slowest to the fastest; `None` where that is their own order.
        repeated: True if it is the layout of one step that is repeated without a copy.
    """

    order: tuple[int, ...] | None
    repeated: bool = False

    @classmethod
    def of(cls, x: Tensor) -> "Layout":
        """Return the layout of `x` `[time, batch, *feature]`, if it is dense with time first; else the plain one."""
        repeated = len(x) > 1 and is_static(x)
        step = x[:1] if repeated else x
        if step.is_contiguous():
            return cls(None, repeated)
        rest = sorted(range(1, x.dim()), key=lambda axis: -x.stride(axis))
        order = (0, *rest)
        return cls(order if step.permute(order).is_contiguous() else None, repeated)

    def steps(self, x: Tensor) -> Tensor:
        """Return `[time, batch, *feature]` contiguous in this layout; a view if it already is.

        One step that is repeated without a copy stays so, if it is contiguous.
        """
        ordered = x if self.order is None else x.permute(self.order)
        stays = self.repeated and ordered.stride(0) == 0 and ordered[:1].is_contiguous()
        return ordered if stays else ordered.contiguous()

    def one(self, x: Tensor) -> Tensor:
        """Do the same for `[batch, *feature]`."""
        return (x if self.order is None else x.permute([axis - 1 for axis in self.order[1:]])).contiguous()

    def undo_steps(self, x: Tensor) -> Tensor:
        """Return a view in the order of the axes, `[time, batch, *feature]`."""
        return x if self.order is None else x.permute(_inverse(self.order))

    def undo_one(self, x: Tensor) -> Tensor:
        """Do the same for `[batch, *feature]`."""
        return x if self.order is None else x.permute(_inverse([axis - 1 for axis in self.order[1:]]))


def _inverse(order: tuple[int, ...] | list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def check_device(what: str, device: torch.device, *operands: object) -> None:
    """Raise `ShapeError` unless all tensors among the operands of a scan are on one device.

    Args:
        what: Name of the scan.
        device: The device.
        *operands: Operands, or lists of them; what is no tensor is left out.
    """
    for operand in operands:
        if isinstance(operand, list):
            check_device(what, device, *cast(list[object], operand))
        if isinstance(operand, Tensor) and operand.device != device:
            raise ShapeError(
                f"The scan '{what}' computes on {device}, but one of its operands, {list(operand.shape)}, is on "
                f"{operand.device}, whose memory it cannot reach. Bring network, input and state to one device."
            )


def precision(x: Tensor) -> torch.dtype:
    """Return the precision in which a scan of `x` computes and carries: at least float32."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def aligned(layout: Layout, x: Tensor, value: Tensor | None) -> Tensor | None:
    """Bring a value that broadcasts to one step of `x` into the layout and precision of its scan."""
    check_device("over time", x.device, value)
    return None if value is None else layout.one(value.to(precision(x)).expand(x.shape[1:]))


def operands(
    layout: Layout, x: Tensor, carried: Tensor | None, leak: float | Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None, float]:
    """Bring what a scan reads into one layout and precision.

    Args:
        layout: Of `x`.
        x: `[time, batch, *feature]`.
        carried: From the step before, `[batch, *feature]`.
        leak: A number, or a tensor that broadcasts to `[batch, *feature]`.

    Returns:
        `x`, `carried`, one leak per entry or `None`, and the leak that holds without them.
    """
    leaks = leak if isinstance(leak, Tensor) else None
    number = 0.0 if isinstance(leak, Tensor) else leak
    return layout.steps(x), aligned(layout, x, carried), aligned(layout, x, leaks), number
