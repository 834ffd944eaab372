"""Dropout in a run: one mask for the whole sequence, or a new one at every step.

Plain `nn.Dropout*` inside a run shares one mask per sample: it is drawn at the first step and used until the sequence
ends, as OTTT and SLTT train.  The masks do not depend on the chunk length.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from spikewright._util.draws import drawn_by_step, drawn_globally
from spikewright._util.ranges import check_within
from spikewright.errors import ShapeError
from spikewright.layers.calls import DropoutCall
from spikewright.temporal import SiteState, Temporal


def scan_shared(module: _DropoutNd | DropoutCall, x: Tensor, state: SiteState) -> tuple[Tensor, SiteState]:
    """Apply a dropout module with the mask of this sequence, which is drawn at the first step.

    Args:
        module: A multiplicative dropout (`nn.Dropout`, `nn.Dropout1d`, ...), or the operation inside one.
        x: Input.  Tensor `[time, batch, *feature]`.
        state: Empty, or `{"mask": [batch, *feature]}`.
    """
    if not module.training or module.p == 0:
        return x, state
    mask = state.get("mask")
    if mask is None:
        # The module maps ones to its mask, scaled by 1/(1-p), of its own granularity.
        by_call = isinstance(module, DropoutCall)
        mask = drawn_globally(x[0], module.mask if by_call else partial(type(module).forward, module))
    elif mask.shape != x.shape[1:]:
        raise ShapeError(
            f"Dropout was given a mask of shape {list(mask.shape)} to go on with, but its input has the shape "
            f"{list(x.shape[1:])}. It seems to be the state of another network: start anew with state=None."
        )
    return x * mask.detach().to(x.dtype), {"mask": mask}


class _Dropout(nn.Dropout, Temporal):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        check_within(type(self).__name__, "p", p, "[0, 1]", "p is a probability")
        super().__init__(p, inplace)


class SharedDropout(_Dropout):
    r"""Element-wise dropout with one mask per sequence, drawn at its first step.

    .. math::
        y[t] = \frac{m}{1-p} \odot x[t], \qquad m_i \sim \mathrm{Bernoulli}(1-p).

    Plain `nn.Dropout` does the same inside a run; this class says so by name.  In evaluation the input passes
    unchanged.  The state in a run is `mask`, `[batch, *feature]`.

    Args:
        p: Probability that an entry is dropped.  Number in [0, 1].  Default: 0.5.
        inplace: Accepted and ignored.  Default: False.

    Raises:
        ConfigError: `p` is not one number in [0, 1].

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.SharedDropout(0.5), sw.IF()))
    >>> output, state = net.run(torch.full((3, 1, 8), 2.0))
    >>> bool((output[0] == output[1]).all() and (output[1] == output[2]).all())
    True
    """

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return scan_shared(self, x, state)


class StepDropout(_Dropout):
    r"""Element-wise dropout with a new mask at every step.

    .. math::
        y[t] = \frac{m[t]}{1-p} \odot x[t], \qquad m_i[t] \sim \mathrm{Bernoulli}(1-p).

    One seed is drawn per sequence, and the mask of a step depends on that seed and the step alone, so masks do not
    depend on how a sequence is cut into chunks.  In evaluation the input passes unchanged.  The state in a run is
    `seed`, without axes.

    Args:
        p: Probability that an entry is dropped.  Number in [0, 1].  Default: 0.5.
        inplace: Accepted and ignored.  Default: False.

    Raises:
        ConfigError: `p` is not one number in [0, 1].

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.StepDropout(0.5), sw.IF()))
    >>> output, state = net.run(torch.full((2, 1, 64), 2.0))
    >>> bool((output[0] == output[1]).all())
    False
    """

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        if not self.training or self.p == 0:
            return x, state
        drawn, seed = drawn_by_step(state.get("seed"), x, _uniform)
        kept = 1 / (1 - self.p) if self.p < 1 else 0.0
        return x.masked_fill(drawn < self.p, 0) * kept, {"seed": seed}


def _uniform(step: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(step.shape, device=step.device, generator=generator)
