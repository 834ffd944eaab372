"""The DSR implementation of SpikingJelly: neurons whose backward pass uses firing rates of the whole sequence."""

from dataclasses import dataclass, field

from torch import Tensor

from spikewright.bench.contenders import Step, WholeSequence
from spikewright.bench.peers.spikingjelly import SpikingJelly
from spikewright.bench.task import Forward, Task, with_neurons


@dataclass(frozen=True)
class SpikingJellyDSR:
    """Multi-step DSR neurons of SpikingJelly, between layers applied to all time steps at once."""

    peer: SpikingJelly = field(default_factory=SpikingJelly)

    @property
    def name(self) -> str:
        return f"{self.peer.name} DSR"

    def ready(self, task: Task) -> Step:
        neuron, functional = self.peer.modules("neuron", "functional")

        def node() -> Forward:
            node = neuron.DSRIFNode(T=len(task.x), v_threshold=1.0)

            def scan(current: Tensor) -> Tensor:
                functional.reset_net(node)
                return node(current)

            return scan

        return WholeSequence(task, with_neurons(task.layers, node))
