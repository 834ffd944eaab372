"""Implementations under test: the layers without neurons, the rules of this library, and other libraries."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spikewright.bench.measure import reason
from spikewright.bench.peers import Peer
from spikewright.bench.task import Forward, Spikes, Task, folded, teach, with_neurons
from spikewright.losses._standard import standard_loss
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import Rule

OURS = "spikewright BPTT"
FLOOR = "layers without neurons"


class Step(ABC):
    """A training step that is ready to run."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def clear(self) -> None:
        """Reset all gradients."""
        self.task.clear()

    @abstractmethod
    def run(self) -> Tensor:
        """Run forward and backward; return the output `[time, batch, *output]`."""


class Contender(Protocol):
    """An implementation that can do the training step of a task."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def ready(self, task: Task) -> Step:
        """Build the step of a task; raises if that is not possible."""
        ...


class WholeSequence(Step):
    """One forward pass over all time steps and one backward pass."""

    def __init__(self, task: Task, forward: Forward, batch_first: bool = False) -> None:
        super().__init__(task)
        self._forward, self._batch_first = forward, batch_first
        self.x, self._target = task.x.detach(), task.target()
        if batch_first:
            self.x, self._target = (t.transpose(0, 1).contiguous() for t in (self.x, self._target))
        self.x.requires_grad_(task.at_input)

    def clear(self) -> None:
        super().clear()
        self.x.grad = None

    def run(self) -> Tensor:
        output = self._forward(self.x)
        teach(output, self._target)
        return self._time_first(output.detach())

    def gradient(self) -> Tensor:
        """Return the gradient of the input after a run, `[time, batch, *feature]`."""
        assert self.x.grad is not None, "the task did not ask for it"
        return self._time_first(self.x.grad)

    def _time_first(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1) if self._batch_first else x


@dataclass(frozen=True)
class Floor:
    """The layers without neurons on all time steps at once, a lower bound on the time of any simulation."""

    name: str = FLOOR

    def ready(self, task: Task) -> Step:
        return WholeSequence(task, lambda x: folded(task.layers, x))


@dataclass(frozen=True)
class Plain:
    """A spikewright network with plain autograd."""

    name: str = OURS

    def ready(self, task: Task) -> Step:
        return WholeSequence(task, spiking(task.layers))


@dataclass(frozen=True)
class Ruled:
    """A spikewright rule, constructed when a step is built."""

    name: str
    rule: type[Rule]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def ready(self, task: Task) -> Step:
        return _RuleStep(task, self.rule(**self.arguments))


class _RuleStep(Step):
    def __init__(self, task: Task, rule: Rule) -> None:
        super().__init__(task)
        self._net, self._rule = spiking(task.layers), rule
        self._net.wiring(task.x)  # the probe is not part of a step, nor is what the rule makes for the network
        rule.prepare(self._net, task.x)
        self._loss = standard_loss(rule.traits.loss)(nn.CrossEntropyLoss())

    def run(self) -> Tensor:
        updates = self._rule.updates(self._net, self.task.x, self.task.y, self._loss)
        return torch.cat([update.output for update in updates])


@dataclass(frozen=True)
class PeerBPTT:
    """Another library with its layers applied to all time steps at once, its fastest mode."""

    peer: Peer

    @property
    def name(self) -> str:
        return f"{self.peer.name} BPTT"

    def ready(self, task: Task) -> Step:
        return WholeSequence(task, with_neurons(task.layers, self.peer.neuron), self.peer.batch_first)


def spiking(layers: nn.Sequential) -> Network:
    """Return a spikewright `Network` over the same layers."""
    return Network(nn.Sequential(*[LIF(tau=2.0) if isinstance(layer, Spikes) else layer for layer in layers]))


def ready(contenders: Sequence[Contender], task: Task) -> tuple[dict[str, Step], dict[str, str]]:
    """Return the steps of all contenders, and the reasons of those that cannot do the task."""
    steps, left_out = {}, {}
    for contender in contenders:
        try:
            steps[contender.name] = contender.ready(task)
        except Exception as error:
            left_out[contender.name] = reason(error)
    return steps, left_out
