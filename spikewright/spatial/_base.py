"""The base of spatial credit assignment, and what it is given of the steps it learns from."""

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
    """The neurons that learn directly from the error of a target.

    Attributes:
        components: Number of entries of the target's vector.  At least 1.
        sites: Names of the layers of neurons.
    """

    components: int
    sites: frozenset[str]


@dataclass(frozen=True)
class TargetError:
    """The error at a target: the output of the network, the input of its readout, or the output of a local readout.

    Attributes:
        vector: Value of the target, `[time, batch, component]`, without graph.
        error: Derivative of the loss by it, times the scale of the chunk, of the same shape.
        reaches: Names of the layers of neurons that learn from it directly.
    """

    vector: Tensor
    error: Tensor
    reaches: frozenset[str]


@dataclass(frozen=True)
class ChunkSample:
    """What layers whose graphs are cut from each other learn from in a chunk.

    Attributes:
        targets: Errors by name of the target; "output" is the output of the network.
        activity: What neurons emitted, by layer, `[time, batch, *feature]`, without noise and without graph; features
            are those of a sample, as in `Wiring.shapes`.
        noise: What perturbed them, by layer, of the same shape; empty without noise.
        scale: Scale of the accumulated gradients, a scalar, which differs from 1 with a gradient scaler.
        terms: Function that returns what every step and sample added to the loss, `[time, batch]`.
    """

    targets: dict[str, TargetError]
    activity: dict[str, Tensor]
    noise: dict[str, Tensor]
    scale: Tensor
    terms: Callable[[], Tensor]


class Spatial(nn.Module, ABC):
    """Base of the classes for spatial credit assignment.

    Either the graph of a step is kept whole and errors go back layer by layer, by the weights that `back` returns; or
    the graph is cut at every layer of neurons (`cuts`), and `signals` returns the error that arrives at each.
    Surrogate derivatives, pooling, normalisation and standardised weights are local to a layer and are left to
    autograd.

    Attributes:
        cuts: True if the graph is cut at neurons.
        real_targets: True if targets and their errors have to be real numbers.
        ragged: True if a step with a loss and an error of 0 teaches neither layers nor the object itself.
        noise: Noise that perturbs neurons during learning, or `None`.
        route: Where errors start: "output", the output of the network; or "penultimate", the input of the readout.
    """

    cuts: ClassVar[bool] = False
    """Whether the graph is cut at neurons."""
    real_targets: ClassVar[bool] = False
    """Whether it computes with targets and their errors, so that these have to be real numbers."""
    ragged: ClassVar[bool] = False
    """Whether a step with a loss and an error of 0 teaches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: Noise | None = None
        """Noise that perturbs neurons during learning."""
        self.route: Route = "output"

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, TargetSpec]) -> None:
        """Create what depends on the sizes of a network; existing parts stay.

        Args:
            wiring: Wiring of the network.
            like: Tensor that gives type and device, of any shape.
            targets: Targets by name.
        """

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor | None:
        """Return the weights that carry errors back through a layer; `None` for its own.

        Args:
            synapse: The layer's place in the network.
            weight: Its weight, `[output, *input]`.
        """
        return None

    def replaces(self, synapse: Synapse) -> bool:
        """Return True if errors cross a layer by other weights than its own; by default, if the class overrides `back`.

        Args:
            synapse: The layer's place in the network.
        """
        return type(self).back is not Spatial.back

    def signals(self, chunk: ChunkSample) -> dict[str, Tensor]:
        """Return the error of every layer of neurons, `[time, batch, *feature]`, by layer; learn from the chunk.

        Errors are multiplied by the scale of the chunk, as those of the targets are.

        Args:
            chunk: Errors of the targets, activity and noise.
        """
        return {}

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        """Return the number of multiplications that errors cost, per sample and step; used if `cuts` is True.

        Args:
            wiring: Wiring of the network.
            taught: Names of the layers of neurons whose error something learns from.
        """
        return self.floats

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    @property
    def floats(self) -> int:
        """Number of feedback parameters."""
        return sum(as_real(b).numel() for b in self.buffers() if is_continuous(b))
