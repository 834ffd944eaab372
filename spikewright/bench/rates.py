"""SpikingJelly's DSR: neurons that reduce a whole sequence to rates in their backward pass."""

from dataclasses import dataclass, field

from torch import Tensor

from spikewright.bench.contenders import Step, WholeSequence
from spikewright.bench.peers.spikingjelly import SpikingJelly
from spikewright.bench.task import Spikes, Task, folded


@dataclass(frozen=True)
class SpikingJellyDSR:
    """Its multi-step neuron for the rule, between layers that see all steps at once."""

    peer: SpikingJelly = field(default_factory=SpikingJelly)

    @property
    def name(self) -> str:
        return f"{self.peer.name} DSR"

    def ready(self, task: Task) -> Step:
        neuron, functional = self.peer.modules("neuron", "functional")
        steps = len(task.x)
        nodes = {
            i: neuron.DSRIFNode(T=steps, v_threshold=1.0)
            for i, layer in enumerate(task.layers)
            if isinstance(layer, Spikes)
        }

        def forward(x: Tensor) -> Tensor:
            for i, layer in enumerate(task.layers):
                if i in nodes:
                    functional.reset_net(nodes[i])
                    x = nodes[i](x)
                else:
                    x = folded(layer, x)
            return x

        return WholeSequence(task, forward)
