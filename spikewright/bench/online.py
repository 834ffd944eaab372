"""The OTTT and SLTT implementations of SpikingJelly, step by step as in its documentation."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.bench.contenders import Step
from spikewright.bench.peers.spikingjelly import SpikingJelly
from spikewright.bench.task import Spikes, Task


@dataclass(frozen=True)
class SpikingJellyOnline:
    """Single-step neurons of SpikingJelly for OTTT or SLTT; OTTT uses its container that passes spikes and traces."""

    rule: Literal["OTTT", "SLTT"]
    peer: SpikingJelly = field(default_factory=SpikingJelly)

    @property
    def name(self) -> str:
        return f"{self.peer.name} {self.rule}"

    def ready(self, task: Task) -> Step:
        neuron, functional, layer = self.peer.modules("neuron", "functional", "layer")
        node, chain = {
            "OTTT": (neuron.OTTTLIFNode, layer.OTTTSequential),
            "SLTT": (neuron.SLTTLIFNode, nn.Sequential),
        }[self.rule]
        parts = [node(**self.peer.dynamics()) if isinstance(part, Spikes) else part for part in task.layers]
        return _OnlineStep(task, chain(*parts), functional)


class _OnlineStep(Step):
    def __init__(self, task: Task, net: nn.Module, functional: Any) -> None:
        super().__init__(task)
        self._net, self._functional = net, functional

    def run(self) -> Tensor:
        self._functional.reset_net(self._net)
        outputs = []
        for x in self.task.x:
            output = self._net(x)
            if isinstance(output, list | tuple):
                output = output[0]
            (F.cross_entropy(output, self.task.y) / len(self.task.x)).backward()
            self._functional.detach_net(self._net)
            outputs.append(output.detach())
        return torch.stack(outputs)
