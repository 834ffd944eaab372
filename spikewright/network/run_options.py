"""What takes part in a run."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from spikewright._util.lengths import Lengths
from spikewright.layers.batch_norm import Normalise, default_norm
from spikewright.network.hooks import Hooks
from spikewright.network.rates import Record
from spikewright.synapses.operations import Operation


class Observer(Protocol):
    """Sees every layer and neuron as it runs; must not change what it is given."""

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """See a call of a neuron.

        Args:
            site: Name of the call.
            current: Input, `[time * batch, *feature]`.
            spikes: Output, `[time * batch, *feature]`.
        """

    def potential(self, site: str, potential: Tensor) -> None:
        """See the potential that neurons return beside their spikes, after `neuron`.

        Args:
            site: Name of the call.
            potential: Potential, `[time * batch, *feature]`.
        """

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        """See a call of a layer.

        Args:
            site: Name of the call.
            operation: Linear operation of the layer.
            x: Input, `[time * batch, *feature]`.
            weight: Weight of the layer.
            current: Output, `[time * batch, *feature]`.
        """


@dataclass(frozen=True)
class RunOptions:
    """What takes part in a run, and what it leaves out.

    Attributes:
        hooks: Hooks that are called at every layer, neuron and output.  Instance of `spikewright.network.hooks.Hooks`.
            Default: None, ordinary autograd.
        through_time: True keeps the graph from one step to the next; False cuts it.  Default: True.
        spikes_as_bytes: True has layers keep spikes as bytes for the backward pass.  Default: False.
        overwritten: Names of neurons that get a copy of their current, because the network writes to it afterwards.
            Default: none.
        writes_input: True gives the network a copy of its input, because it writes to it in place.  Default: False.
        recomputed: Names of layers that the backward pass calls again; they are replaced only for hooks and observers.
            Default: none.
        observers: Objects that see every layer and neuron as it runs.  Default: ().
        count: True counts spikes, for `rates`.  Default: True.
        record: Collects mean inputs and outputs of neurons.  Instance of `spikewright.network.rates.Record`.
            Default: None, nothing is collected.
        cut: True keeps neurons out of the graph.  Default: False.
        normalise: Function that normalises a chunk in place of batch norm, `(site, norm, forward, x) -> y`.
            Default: what the module says.
        lengths: Lengths of the sequences of a padded batch; the output after the end of one is 0, and spikes there do
            not count.  Default: None, all steps belong to the sequences.
        tracer: Called in place of the forward of every module, `(name, module, forward, *arguments) -> result`.
            Default: None, forwards are called directly.
        sent: Shape of a sample and type of the output of the source of every feedback connection, by its name.
            Default: None, not known yet; then feedback adds nothing at the first step.
    """

    hooks: Hooks | None = None
    through_time: bool = True
    spikes_as_bytes: bool = False
    overwritten: Collection[str] = ()
    writes_input: bool = False
    recomputed: Collection[str] = ()
    observers: Sequence[Observer] = ()
    count: bool = True
    record: Record | None = None
    cut: bool = False
    normalise: Normalise = default_norm
    lengths: Lengths | None = None
    tracer: Callable[..., Any] | None = None
    sent: Mapping[str, tuple[tuple[int, ...], torch.dtype]] | None = None
