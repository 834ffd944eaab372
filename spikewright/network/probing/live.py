"""Random spikes for a probe, so that every layer of a network gets input."""

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from spikewright.network.hooks import Hooks
from spikewright.network.probing.inputs import FIRST, Rows
from spikewright.network.wiring import module_name
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class LiveSpikes(Hooks):
    """Half of all neurons fire, the same ones in every pass; gradients pass as through the true spikes.

    Args:
        changed: Rows of a pass in which, for all samples but the compared one, the other half fires.
        size: Value of the random spikes.
        begin: Called with the name and the weight of a layer right before its operation.
        aside: Calls a function whose operations are not followed.

    Attributes:
        true: Name of the module and true spikes, for every call of a neuron.
    """

    def __init__(
        self,
        changed: Rows | None = None,
        size: float = 1.0,
        begin: Callable[[str, Tensor], None] = lambda site, weight: None,
        aside: Callable[..., Tensor] = lambda function, *args: function(*args),
    ) -> None:
        self._changed, self._size, self._begin, self._aside = changed, size, begin, aside
        self.true: list[tuple[str, Tensor]] = []
        self._calls: dict[str, int] = {}

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        value = _in_graph(x)
        self._begin(site, weight)
        return SynapticInput(value), carried

    def on_spikes(self, site: str, spikes: Tensor) -> Tensor:
        return self._aside(self._spikes, site, spikes)

    def _spikes(self, site: str, spikes: Tensor) -> Tensor:
        self.true.append((module_name(site), spikes.detach()))
        spikes = _in_graph(spikes)
        call = self._calls[site] = self._calls.get(site, 0) + 1
        source = torch.Generator().manual_seed(zlib.crc32(f"{site} {call}".encode()))
        drawn = self._drawn(spikes.shape[1:], source).to(spikes)
        return spikes + (self._size * drawn - spikes).detach()

    def _drawn(self, shape: torch.Size, source: torch.Generator) -> Tensor:
        """Draw for all neurons of a step, `[samples * any, *feature]`."""
        rows = self._changed
        if rows is None:
            return torch.randint(0, 2, shape, generator=source)
        each = shape[0] // rows.count
        drawn = torch.randint(0, 2, (FIRST.count * each, *shape[1:]), generator=source)
        samples = list(drawn.split(each))
        same = samples.pop(FIRST.places[0])
        others = [1 - sample for sample in samples]
        if rows != FIRST:  # so that the neighbours of the sample change
            others.append(others.pop(0))
        return rows.among(same, others)


def _in_graph(x: Tensor) -> Tensor:
    """Return `x`, as a leaf that requires a gradient if it has no graph, like the input of a network."""
    return x if x.requires_grad or not x.dtype.is_floating_point else x.detach().requires_grad_()
