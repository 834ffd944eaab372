"""Dropout in a run: one mask for the whole sequence, or a fresh one at every step.

Plain `nn.Dropout*` inside a run means *shared*: the mask is drawn at the first step, per sample, and used until the
sequence ends, as OTTT and SLTT train.  Either way the masks do not depend on the chunk length.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from spikewright.errors import ShapeError
from spikewright.layers.calls import DropoutCall
from spikewright.temporal import SiteState, Temporal, generators_by_step


def scan_shared(module: _DropoutNd | DropoutCall, x: Tensor, state: SiteState) -> tuple[Tensor, SiteState]:
    """Apply a dropout module with the mask of this sequence, drawing it if this is the first step.

    Args:
        module: Any multiplicative dropout (`nn.Dropout`, `nn.Dropout1d`, ...), or the operation in one.
        x: `[time, batch, *feature]`.
        state: Empty, or `{"mask": [batch, *feature]}`.
    """
    if not module.training or module.p == 0:
        return x, state
    mask = state.get("mask")
    if mask is None:
        # What the module does to ones is its mask, scaled by 1/(1-p) and with its own granularity.
        by_call = isinstance(module, DropoutCall)
        mask = module.mask(x[0]) if by_call else type(module).forward(module, torch.ones_like(x[0]))
    elif mask.shape != x.shape[1:]:
        raise ShapeError(
            f"Dropout was given a mask of shape {list(mask.shape)} to go on with, but what arrives has the shape "
            f"{list(x.shape[1:])}. It seems to be the state of another network: start anew with state=None."
        )
    return x * mask.detach().to(x.dtype), {"mask": mask}


class SharedDropout(nn.Dropout, Temporal):
    """Element-wise dropout whose mask is drawn at the first step of a sequence and reused to its end."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return scan_shared(self, x, state)


class StepDropout(nn.Dropout, Temporal):
    """Element-wise dropout with a fresh mask at every step.

    One seed is drawn per sequence and the mask of step t is a function of that seed and t, so that a sequence gets the
    same masks however it is cut into chunks.
    """

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        if not self.training or self.p == 0:
            return x, state
        generators, seed = generators_by_step(state.get("seed"), x)
        dropped = [torch.rand(x.shape[1:], device=x.device, generator=g) < self.p for g in generators]
        kept = 1 / (1 - self.p) if self.p < 1 else 0.0
        return x.masked_fill(torch.stack(dropped), 0) * kept, {"seed": seed}
