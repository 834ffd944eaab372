"""A check that the slope of a custom surrogate is elementwise."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from spikewright.errors import ExtensionError
from spikewright.surrogate import BUILT_IN, Surrogate

_SHAPES = (2, 2, 2), (2, 2, 2, 2, 2)
"""Shapes `[time, batch, channel, *space]` at which slopes are compared."""


def check_elementwise(surrogate: Surrogate) -> None:
    """Compare the slopes of a custom surrogate at a few numbers: together, again, in another order, one by one.

    A surrogate that does not accept such numbers, such as one with a width per channel, is checked at its first run.

    Raises:
        ExtensionError: The slope at a number depends on other numbers, or changes from call to call.
    """
    if type(surrogate) in BUILT_IN:
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as those about statistics of one number
        for shape in _SHAPES:
            _check(surrogate, shape)


def _check(surrogate: Surrogate, shape: tuple[int, ...]) -> None:
    x = _numbers(shape)
    alone = _slopes(surrogate, x.flatten()[0].view(*[1] * len(shape)))
    whole, again = _slopes(surrogate, x), _slopes(surrogate, x)
    if alone is None or whole is None or again is None:
        return
    name = f"{type(surrogate).__name__}.slope"
    if not _same(again, whole):
        raise ExtensionError(
            f"{name} was called twice with the same numbers and returned other slopes, so gradients would depend on "
            "the chunk, because slope(x) is called once for all steps of one. Draw random numbers, and set counters, "
            "outside of slope(x)."
        )
    axes = list(range(len(shape)))
    turned = _slopes(surrogate, x.flip(axes))
    ones = [_slopes(surrogate, number.view_as(alone)) for number in x.flatten()]
    all_found = not any(one is None for one in ones)
    apart = torch.stack([one for one in ones if one is not None]).view(shape) if all_found else None
    for found in (None if turned is None else turned.flip(axes), apart):
        if found is not None and not _same(found, whole):
            worst = int((found - whole).abs().nan_to_num(torch.inf).argmax())
            raise ExtensionError(
                f"{name} must be elementwise: at {float(x.flatten()[worst]):.3g} it is "
                f"{float(whole.flatten()[worst]):.4g} beside other numbers and {float(found.flatten()[worst]):.4g} by "
                "itself or in another order, so that gradients would depend on the chunk and on the batch. Make it of "
                "x alone, without sums, means, norms or maxima over x, such as 1 / (1 + x.abs()) ** 2."
            )


def _numbers(shape: tuple[int, ...]) -> Tensor:
    """Return numbers in [-3, 3], in a mixed order."""
    count = torch.Size(shape).numel()
    order = 5 * torch.arange(count, device="cpu") % count
    x = 3 * (2 * order.to(torch.float64) / (count - 1) - 1)
    return (x * x.abs() / 3).view(shape)


def _slopes(surrogate: Surrogate, x: Tensor) -> Tensor | None:
    """Return one slope for each number; `None` if the surrogate returns something else or fails."""
    function: Callable[[Tensor], object] = surrogate.slope
    try:
        slope = function(x.clone())
        if isinstance(slope, Tensor) and slope.numel() in (1, x.numel()) and not slope.is_complex():
            return slope.to("cpu", x.dtype).expand(x.shape)
    except Exception:  # made for other shapes or another device; other faults are found in a run
        pass
    return None


def _same(one: Tensor, other: Tensor) -> bool:
    size = float(other.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(one, other, rtol=1e-5, atol=1e-6 * size, equal_nan=True)
