"""Surrogates of other libraries: one of ours with the same slope, or theirs, called."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import ConfigError, ExtensionError
from spikewright.interop.mapping import Refused, above
from spikewright.surrogate import Surrogate

Fire = Callable[[Tensor], Tensor]
"""The spike function of another library: potential minus threshold to spikes, with its own backward pass."""


@dataclass(frozen=True)
class Called(Surrogate):
    """A slope that the other library computes, because there is none of the kind here.

    Args:
        theirs: Function from potential minus threshold to the slope there.
        name: What to show for it.
        shift: How far our threshold is above theirs, for slopes that jump there.
    """

    theirs: Fire
    name: str
    shift: float = 0.0

    def slope(self, x: Tensor) -> Tensor:
        return self.theirs(x + self.shift if self.shift else x).to(x.dtype)

    def __repr__(self) -> str:
        return f"Called({self.name})"


def slope_of(fire: Fire) -> Fire:
    """Return the slope of a spike function: what its backward pass multiplies by."""

    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            return torch.autograd.grad(fire(leaf).sum(), leaf)[0]

    return slope


def firing(threshold: float, strict: bool, surrogate: Surrogate, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments `threshold` and `surrogate` of a neuron that fires at equality, for one that may not.

    Args:
        threshold: Threshold of the other library's neuron.
        strict: True if that neuron fires above its threshold only.
        surrogate: The slope around that threshold.
        dtype: Of the run, on which the next number above depends.
    """
    if not strict:
        return {"threshold": threshold, "surrogate": surrogate}
    moved = above(threshold, dtype)
    if isinstance(surrogate, Called):
        surrogate = replace(surrogate, shift=moved - threshold)
    return {"threshold": moved, "surrogate": surrogate}


def read_surrogate(
    fire: Fire, slope: Fire | None, candidates: Iterable[Callable[[], Surrogate]], name: str, dtype: torch.dtype
) -> tuple[Surrogate, bool]:
    """Return the surrogate here and whether theirs is strict, both measured on numbers around the threshold.

    Args:
        fire: Their spike function.
        slope: Their slope; `None` takes it from the backward pass of `fire`.
        candidates: Makers of surrogates of ours that may have that slope.  The first that has is taken.
        name: What to call theirs.
        dtype: Of the run.

    Raises:
        Refused: It is no step function, or has no slope, or one that is random or not elementwise.
    """
    slope = slope_of(fire) if slope is None else slope
    tiny = torch.finfo(dtype).tiny
    x = torch.tensor([-1e3, -3.0, -1.0, -0.1, -tiny, 0.0, tiny, 0.1, 1.0, 3.0, 1e3], dtype=dtype)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            spikes = fire(x).to(dtype)
        except Exception as error:
            raise Refused(
                f"its spike function {name} fails for potentials from -1000 to 1000 ({type(error).__name__}: {error})",
                "Give it a surrogate whose forward pass is the step function",
            ) from error
    strict = spikes[5].item() == 0
    if not torch.equal(spikes, (x > 0 if strict else x >= 0).to(dtype)):
        raise Refused(
            f"its spike function {name} is no step from 0 to 1 at the threshold (it is {spikes.tolist()} at "
            f"{x.tolist()}), and here a neuron fires or does not",
            "Give it a surrogate whose forward pass is the step function",
        )
    at = torch.cat([torch.linspace(-4, 4, 257, dtype=dtype), torch.linspace(-0.3, 0.3, 61, dtype=dtype)])
    try:
        theirs = slope(at)
        found = Called(slope, name)
    except (RuntimeError, TypeError) as error:
        raise Refused(
            f"its spike function {name} has no backward pass ({error}), so that nothing could be learned through it",
            "Give it a surrogate with a slope",
        ) from error
    for make in candidates:
        try:
            ours = make()
        except ConfigError:
            continue
        if same_slope(ours.slope(at), theirs):
            return ours, strict
    try:
        _check(found)
    except ExtensionError as error:
        raise Refused(f"its slope {name} is random or not elementwise: {error}", "Give it another surrogate") from error
    return found, strict


def _check(found: Called) -> None:
    from spikewright.neurons._elementwise import check_elementwise

    check_elementwise(found)


def same_slope(ours: Tensor, theirs: Tensor) -> bool:
    """True if two slopes agree wherever theirs is a number."""
    real = theirs.isfinite()
    return bool(real.any()) and torch.allclose(
        ours[real], theirs[real], rtol=1e-5, atol=1e-6 * float(theirs[real].max())
    )
