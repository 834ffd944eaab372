"""Spike functions, resets and surrogates of sinabs 3.1."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikewright.interop.mapping import Refused, one_number
from spikewright.interop.surrogates import read_surrogate, same_slope
from spikewright.surrogate import Erf, Exponential, Surrogate

_SPIKES = "sinabs.activation.spike_generation"


def read_spikes(function: Any) -> int | None:
    """Return the largest number of spikes in a step, `None` for no limit.

    Raises:
        Refused: It is none of the library's spike functions.
    """
    kind = function if isinstance(function, type) else type(function)
    if kind.__module__ == _SPIKES and kind.__name__ in ("SingleSpike", "MultiSpike"):
        return 1 if kind.__name__ == "SingleSpike" else None
    if kind.__module__ == _SPIKES and kind.__name__ == "MaxSpike" and not isinstance(function, type):
        most = function.max_num_spikes_per_bin
        if most is None or (isinstance(most, int) and most >= 1):
            return most
    raise Refused(
        f"its spike_fn {kind.__name__} is not one of the library's", "Use spike_fn=SingleSpike or spike_fn=MultiSpike"
    )


def read_reset(function: Any, threshold: float | Tensor, most: int | None) -> tuple[dict[str, Any], str]:
    """Return the arguments here for a reset function, and theirs as text.

    Args:
        function: The reset function.
        threshold: The threshold.
        most: Largest number of spikes in a step.

    Raises:
        Refused: There is no such reset.
    """
    kind = type(function)
    own = kind.__module__ == "sinabs.activation.reset_mechanism"
    if own and kind.__name__ == "MembraneSubtract":
        if function.subtract_value is None:
            return {"detach_reset": False}, f"reset_fn={function}"
        amount = one_number(function.subtract_value, "subtract_value")
        if not amount > 0:
            raise Refused(
                f"its reset takes {amount:g} off the potential, and here that amount is above 0",
                "Use MembraneSubtract()",
            )
        rest = threshold - amount
        zero = isinstance(rest, float) and rest == 0
        if most != 1 and not zero:
            raise Refused(
                f"it sends several spikes in a step, and each takes {amount:g} off the potential instead of the "
                "threshold, and here several spikes take the threshold off, each of them",
                "Use MembraneSubtract(), or spike_fn=SingleSpike",
            )
        return {"rest": rest, "detach_reset": False}, f"reset_fn={function}"
    if own and kind.__name__ == "MembraneReset":
        if one_number(function.reset_value, "reset_value") != 0:
            raise Refused(
                f"its {function} adds the value to the potential of every neuron at every step, spike or not, and no "
                "neuron here does",
                "Use MembraneReset(), or MembraneSubtract()",
            )
        return {"reset": "zero", "detach_reset": True}, f"reset_fn={function}"
    raise Refused(
        f"its reset_fn {getattr(function, '__qualname__', kind.__name__)} is not one of the library's, and its "
        "equation is not known",
        "Use MembraneSubtract() or MembraneReset()",
    )


def read_surrogate_of(layer: Any, threshold: Tensor, moves: bool, dtype: torch.dtype) -> tuple[Surrogate, bool]:
    """Return the surrogate here, and whether theirs fires above the threshold only.

    Args:
        layer: The neurons.
        threshold: Their threshold, or one per neuron.
        moves: True if the threshold moves.
        dtype: Of the run.

    Raises:
        Refused: The slope depends on the threshold, and there are several, or one that moves.
    """
    given: Any = layer.surrogate_grad_fn
    name = getattr(given, "__qualname__", None) or repr(given)
    limit = threshold.flatten()[0].to(dtype)
    x = torch.linspace(-3, 3, 97, dtype=dtype)

    def slope(x: Tensor, at: Tensor = limit) -> Tensor:
        return given(x + at.to(x), at.to(x))

    def fire(x: Tensor) -> Tensor:
        if read_spikes(layer.spike_fn) != 1:  # which divides by the threshold, and fires at it
            return (x >= 0).to(x.dtype)
        return layer.spike_fn.apply(x + 0, torch.zeros_like(x[0]), given)

    several = {2 * limit, *threshold.to(dtype).flatten().unique()} if moves else threshold.to(dtype).flatten().unique()
    if any(not same_slope(slope(x, at), slope(x)) for at in several):
        raise Refused(
            f"its slope {name} depends on the threshold, which "
            + ("moves with its spikes" if moves else "differs between its neurons")
            + ", and here a slope depends on the distance to the threshold alone",
            "Use the surrogate Gaussian()" + ("" if moves else ", or one threshold for the layer"),
        )
    return read_surrogate(fire, slope, _candidates(given, limit.item()), name, dtype)


def _candidates(given: Any, limit: float) -> list[Callable[[], Surrogate]]:
    kind = type(given)
    if kind.__module__ != "sinabs.activation.surrogate_gradient_fn":
        return []
    if kind.__name__ == "SingleExponential":
        return [lambda: Exponential(limit * given.grad_width, factor=2 * given.grad_scale)]
    if kind.__name__ == "Gaussian":
        return [lambda: Erf(1 / (math.sqrt(2) * given.sigma), factor=given.grad_scale)]
    return []
