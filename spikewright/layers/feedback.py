"""Feedback: what a later site emitted at the last step, sent back to an earlier one."""

import torch
from torch import Tensor, nn

from spikewright._util.real_numbers import real_type
from spikewright.temporal import SiteState, Temporal


class Feedback(Temporal):
    """Adds `transform(output of source at the previous step)` to what passes through.

    Put it where the feedback arrives, between a synapse and the neuron it feeds.  At the first step of a sequence
    nothing has been emitted yet and nothing is added, not even a bias of `transform` (Xiao et al., NeurIPS 2022,
    arXiv 2210.04195, the network VGG-F).

    Args:
        transform: Maps the source's output to the shape that arrives here, e.g. `nn.Linear` or
            `nn.Sequential(nn.Upsample(scale_factor=8), nn.Conv2d(512, 64, 3, padding=1))`.
        source: The module whose output is sent back: the module itself, or its name inside the network.

    A network with feedback is run one step at a time, whatever chunk is asked for.
    """

    def __init__(self, transform: nn.Module, source: nn.Module | str) -> None:
        super().__init__()
        self.transform = transform
        # In a tuple, so that the source is not registered here a second time.
        self._source = (source,)

    @property
    def source(self) -> nn.Module | str:
        """The module, or the name, whose last output is sent back."""
        return self._source[0]

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        last = state.get("last")
        if last is None:
            return x, state
        if not torch.is_autocast_enabled(x.device.type):
            kind = real_type(x.dtype)  # which may have changed since the last step
            last = last.to(kind.to_complex() if last.is_complex() else kind)
        return x + self.transform(last).unflatten(0, x.shape[:2]), state

    def forward(self, x: Tensor) -> Tensor:
        """Outside a run there is no previous step: `x` passes unchanged."""
        return x
