"""What a way of spatial credit is, and what it is told of the steps it teaches."""

from abc import ABC
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from spikewright._util.real_numbers import as_real, is_continuous
from spikewright.network.wiring import Synapse, Wiring
from spikewright.spatial._noise import Noise

Route = Literal["output", "penultimate"]
"""Where errors start from: the output, or what arrives at the readout, which matters where there are many outputs."""


@dataclass(frozen=True)
class TargetSpec:
    """Who is taught by a target.

    Attributes:
        components: Of the target's vector.
        sites: Of the neurons.
    """

    components: int
    sites: frozenset[str]


@dataclass(frozen=True)
class TargetError:
    """Something with an error of its own: the output of the network, or of a readout on the way.

    Attributes:
        vector: What it was, `[time, batch, component]`, without graph.
        error: Derivative of the loss by it, times the scale of the chunk, same shape.
        reaches: Sites of the neurons that it teaches directly.
    """

    vector: Tensor
    error: Tensor
    reaches: frozenset[str]


@dataclass(frozen=True)
class ChunkSample:
    """What layers that are cut from each other learn from in a chunk.

    Attributes:
        targets: By name; "output" is the network's.
        activity: What neurons emitted, by site, `[time, batch, *feature]`, without noise and without graph; features
            are those of a sample, as in `Wiring.shapes`.
        noise: What perturbed them, by site, same shape; empty where nothing did.
        scale: Of the gradients that are accumulated, where low precision asks for one; else 1.
        terms: Returns what every step and sample added to the loss, `[time, batch]`.
    """

    targets: dict[str, TargetError]
    activity: dict[str, Tensor]
    noise: dict[str, Tensor]
    scale: Tensor
    terms: Callable[[], Tensor]


class Spatial(nn.Module, ABC):
    """A way of spatial credit.

    Either the graph of a step is kept whole and errors go back layer by layer, by whatever weights `back` says; or it
    is cut at every neuron (`cuts`), and `signals` says what arrives at each of them.  Surrogate slopes, pooling,
    normalisation and standardised weights are local to a layer and stay with autograd.
    """

    cuts: ClassVar[bool] = False
    """Whether the graph is cut at neurons."""
    real_targets: ClassVar[bool] = False
    """Whether it computes with targets and their errors, so that these have to be real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: Noise | None = None
        """What perturbs neurons while they learn."""
        self.route: Route = "output"

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, TargetSpec]) -> None:
        """Make what depends on the sizes of a network; what is there already stays.

        Args:
            wiring: Of the network.
            like: Has the type and the device of what is made.
            targets: By name.
        """

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor | None:
        """Return the weights that carry errors back through a synapse; `None` for its own."""
        return None

    def replaces(self, synapse: Synapse) -> bool:
        """Whether errors cross a layer by other weights than its own; a way with `back` does, until it says more."""
        return type(self).back is not Spatial.back

    def signals(self, chunk: ChunkSample) -> dict[str, Tensor]:
        """Return the error that arrives at every neuron, by site, `[time, batch, *feature]`; learn from the chunk.

        What is returned is in the scale of the chunk, as errors are.
        """
        return {}

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        """Return the multiplications that errors cost on their way, per sample and step; of ways that cut.

        Args:
            wiring: Of the network.
            taught: Sites of the neurons whose error something learns from.
        """
        return self.floats

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    @property
    def floats(self) -> int:
        """Numbers that are kept to carry errors back."""
        return sum(as_real(b).numel() for b in self.buffers() if is_continuous(b))
