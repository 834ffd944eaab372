"""Spikes for a probe: drawn, not computed, so that every layer of a network sees something, however deep."""

import zlib

import torch
from torch import Tensor

from spikewright.hooks import Hooks
from spikewright.operations import Operation
from spikewright.probing.inputs import middle
from spikewright.synapse import SynapticInput
from spikewright.temporal import SiteState
from spikewright.wiring import module_name


class LiveSpikes(Hooks):
    """Half of all neurons fire, the same ones in every pass; gradients pass as they would through the true spikes.

    Args:
        changed: For all samples but the second, let those neurons fire that did not, and the other way round.
        size: Of the spikes, beside those of the neurons.

    Attributes:
        true: What the neurons emitted in truth, call by call: the module's name, and the spikes.
    """

    def __init__(self, changed: bool = False, size: float = 1.0) -> None:
        self._changed, self._size = changed, size
        self.true: list[tuple[str, Tensor]] = []
        self._calls: dict[str, int] = {}

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        return SynapticInput(_in_graph(x)), carried

    def on_spikes(self, site: str, spikes: Tensor) -> Tensor:
        self.true.append((module_name(site), spikes.detach()))
        spikes = _in_graph(spikes)
        call = self._calls[site] = self._calls.get(site, 0) + 1
        source = torch.Generator().manual_seed(zlib.crc32(f"{site} {call}".encode()))
        drawn = torch.randint(0, 2, spikes.shape, generator=source).to(spikes)
        if self._changed:
            same = middle(drawn[0]).clone()
            drawn = 1 - drawn
            middle(drawn[0]).copy_(same)
        return spikes + (self._size * drawn - spikes).detach()


def _in_graph(x: Tensor) -> Tensor:
    """Return `x` where a graph begins, if it has none: the input of a network is as users give it, without."""
    return x if x.requires_grad or not x.dtype.is_floating_point else x.detach().requires_grad_()
