"""SpikingJelly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikewright.bench.peers._base import ALPHA, TAU, load


@dataclass(frozen=True)
class SpikingJelly:
    """`LIFNode` in multi-step mode."""

    name: str = "SpikingJelly"
    distribution: str = "spikingjelly"
    written_for: str = "2.0.0"
    batch_first: bool = False
    differs: str = ""

    def neuron(self) -> Callable[[Tensor], Tensor]:
        neuron, functional = self.modules("neuron", "functional")
        node = neuron.LIFNode(**self.dynamics(), step_mode="m")

        def scan(current: Tensor) -> Tensor:
            functional.reset_net(node)
            return node(current)

        return scan

    def modules(self, *names: str) -> list[Any]:
        """Import modules of `spikingjelly.activation_based`."""
        return load(self.distribution, *(f"spikingjelly.activation_based.{name}" for name in names))

    def dynamics(self) -> dict[str, Any]:
        """Return the arguments that make its neurons equal to ours."""
        (surrogate,) = self.modules("surrogate")
        return {
            "tau": TAU,
            "decay_input": False,
            "v_threshold": 1.0,
            "v_reset": None,
            "surrogate_function": surrogate.Sigmoid(ALPHA),
            "detach_reset": True,
        }
