"""Errors that go back from layer to layer: by the forward weights, by their signs, or by weights drawn once."""

import math

import torch
from torch import Tensor

from spikewright.matrices import Matrices
from spikewright.spatial._base import Reach, Spatial
from spikewright.spatial._noise import keyed_generator
from spikewright.wiring import Synapse, Wiring, module_name


class BP(Spatial):
    r"""Backpropagation: :math:`W^\top` carries errors back through a synapse."""


class SignSymmetric(Spatial):
    r"""Only the signs of the weights carry errors back: :math:`\mathrm{sign}(W) / \sqrt{\text{fan-in}}`.

    Reference:
        Liao, Leibo, Poggio, How Important Is Weight Symmetry in Backpropagation?, AAAI 2016, arXiv 1510.05067; scaled
        as by Xiao et al., ICLR 2024, arXiv 2402.11984.
    """

    def replaces(self, synapse: Synapse) -> bool:
        return True

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor:
        return weight.detach().sign() / math.sqrt(math.prod(weight.shape[1:]))


class FA(Spatial):
    r"""Feedback alignment: fixed random weights carry errors back, uniform within :math:`1 / \sqrt{\text{fan-in}}`.

    Args:
        seed: Of the weights.

    Reference:
        Lillicrap et al., Random Synaptic Feedback Weights Support Error Backpropagation for Deep Learning, Nature
        Communications 2016.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.weights = Matrices()

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, Reach]) -> None:
        for site, synapse in wiring.synapses.items():
            name = module_name(site)  # at all of its places a layer sends errors back by the same weights
            if synapse.senders and not self.weights.holds(name, synapse.weight):
                generator = keyed_generator(self.seed, name)
                bound = 1 / math.sqrt(math.prod(synapse.weight[1:]))
                drawn = (2 * torch.rand(synapse.weight, generator=generator, dtype=torch.float64) - 1) * bound
                self.weights[name] = drawn.to(like)

    def replaces(self, synapse: Synapse) -> bool:
        return bool(synapse.senders)

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor | None:
        return self.weights[module_name(synapse.name)] if synapse.senders else None

    def extra_repr(self) -> str:
        return f"seed={self.seed}"
