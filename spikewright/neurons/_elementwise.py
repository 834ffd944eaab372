"""Whether a slope of one's own is elementwise, which is measured."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from spikewright.errors import ExtensionError
from spikewright.surrogate import ATan, Rectangle, Sigmoid, Surrogate, Triangle

_OURS = (ATan, Rectangle, Sigmoid, Triangle)
_SHAPES = (2, 2, 2), (2, 2, 2, 2, 2)
"""Of `[time, batch, channel, *space]`."""


def check_elementwise(surrogate: Surrogate) -> None:
    """Ask a surrogate of one's own for the slopes at a few numbers: together, again, in another order, one by one.

    Those that cannot be asked so, such as one with a width for each channel, are left to their first run.

    Raises:
        ExtensionError: The slope at a number is another one beside other numbers, or at another time.
    """
    if type(surrogate) in _OURS:
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of statistics of one number, say
        for shape in _SHAPES:
            _check(surrogate, shape)


def _check(surrogate: Surrogate, shape: tuple[int, ...]) -> None:
    x = _numbers(shape)
    alone = _asked(surrogate, x.flatten()[0].view(*[1] * len(shape)))
    whole, again = _asked(surrogate, x), _asked(surrogate, x)
    if alone is None or whole is None or again is None:
        return
    name = f"{type(surrogate).__name__}.slope"
    if not _same(again, whole):
        raise ExtensionError(
            f"{name} was asked twice for the slopes at the same numbers and gave others, so that gradients would "
            "depend on the chunk: one of several steps is asked for at once. What it draws or counts, draw or set it "
            "once, outside of slope(x)."
        )
    axes = list(range(len(shape)))
    turned = _asked(surrogate, x.flip(axes))
    ones = [_asked(surrogate, number.view_as(alone)) for number in x.flatten()]
    all_answered = not any(one is None for one in ones)
    apart = torch.stack([one for one in ones if one is not None]).view(shape) if all_answered else None
    for found in (None if turned is None else turned.flip(axes), apart):
        if found is not None and not _same(found, whole):
            worst = int((found - whole).abs().nan_to_num(torch.inf).argmax())
            raise ExtensionError(
                f"{name} has to be elementwise: at {float(x.flatten()[worst]):.3g} it is "
                f"{float(whole.flatten()[worst]):.4g} beside other numbers and {float(found.flatten()[worst]):.4g} by "
                "itself or in another order, so that gradients would depend on the chunk and on the batch. Make it of "
                "x alone, without sums, means, norms or maxima over x, such as 1 / (1 + x.abs()) ** 2."
            )


def _numbers(shape: tuple[int, ...]) -> Tensor:
    """Return numbers around zero, the furthest of them 3, in no order."""
    count = torch.Size(shape).numel()
    order = 5 * torch.arange(count, device="cpu") % count
    x = 3 * (2 * order.to(torch.float64) / (count - 1) - 1)
    return (x * x.abs() / 3).view(shape)


def _asked(surrogate: Surrogate, x: Tensor) -> Tensor | None:
    """Return the slopes at numbers; `None` if they are not one for each."""
    ask: Callable[[Tensor], object] = surrogate.slope
    try:
        slope = ask(x.clone())
        if isinstance(slope, Tensor) and slope.numel() in (1, x.numel()) and not slope.is_complex():
            return slope.to("cpu", x.dtype).expand(x.shape)
    except Exception:  # it is made for other shapes, or for another device; a run says what is wrong otherwise
        pass
    return None


def _same(one: Tensor, other: Tensor) -> bool:
    size = float(other.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(one, other, rtol=1e-5, atol=1e-6 * size, equal_nan=True)
