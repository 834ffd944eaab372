"""What the backward scans of all neurons have in common."""

import torch
from torch import Tensor

from spikewright.kernels.layout import Layout
from spikewright.kernels.operators import surrogate_number
from spikewright.surrogate import Surrogate, slope_at


def refuse_second_derivative() -> None:
    """Raise `RuntimeError` if a backward scan is asked for a gradient that is itself differentiable."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "A gradient of a gradient was asked for (create_graph=True), and it leads through spiking neurons, "
            "whose fused backward scan has no derivative. Set SPIKEWRIGHT_NATIVE=0 (on a GPU SPIKEWRIGHT_TRITON=0) "
            "to run them step by step: slower, and differentiable as often as their surrogate is."
        )


def known(surrogate: Surrogate) -> bool:
    """Whether the kernels compute the slopes of a surrogate."""
    return surrogate_number(surrogate)[0] > 0


def given_slopes(surrogate: Surrogate, layout: Layout, potential: Tensor, threshold: float) -> Tensor | None:
    """Return the slopes of a surrogate that the kernels do not know, which may know its axes; `None` of others.

    Args:
        surrogate: A surrogate, of the library or of the user.
        layout: The layout of `potential`.
        potential: Potential before the reset, contiguous in that layout.
        threshold: Firing threshold.

    Returns:
        Slopes in the same layout.
    """
    if known(surrogate):
        return None
    return layout.steps(slope_at(surrogate, layout.undo_steps(potential) - threshold)).contiguous()
