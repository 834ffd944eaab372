"""Contenders and peers that do as the tests want; importable, so that a fresh process can have them too."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright import LIF, Network
from spikewright.bench.contenders import Step
from spikewright.bench.task import Task


class Nothing(Step):
    """Uses no more than a few bytes."""

    def run(self) -> Tensor:
        return torch.zeros(1)


class Hungry(Step):
    """Uses memory for a moment, and hands it back."""

    def run(self) -> Tensor:
        return torch.ones(200 * 2**20 // 4)[:1].clone()


class Keeping(Step):
    """Saves 4000 bytes for backward."""

    def run(self) -> Tensor:
        return torch.ones(1000, requires_grad=True).exp()


@dataclass(frozen=True)
class Fake:
    """A contender with a step of a given kind."""

    name: str
    kind: type[Step]

    def ready(self, task: Task) -> Step:
        return self.kind(task)


@dataclass(frozen=True)
class Twin:
    """A peer whose neurons are ours, or fail, or fire where ours do not."""

    name: str = "Twin"
    fails: bool = False
    inverted: bool = False
    distribution: str = "twin"
    written_for: str = "1.0"
    batch_first: bool = False
    differs: str = ""

    def neuron(self) -> Callable[[Tensor], Tensor]:
        net = Network(torch.nn.Sequential(LIF(tau=2.0)))

        def scan(current: Tensor) -> Tensor:
            if self.fails:
                raise RuntimeError("no such neuron\nand more lines")
            spikes = net(current)
            return 1 - spikes if self.inverted else spikes

        return scan
