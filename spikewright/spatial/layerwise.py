"""Errors that go back from layer to layer: by the forward weights, by their signs, or by weights drawn once."""

import math

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.randomness import keyed_generator
from spikewright.network.wiring import Synapse, Wiring, module_name
from spikewright.spatial._base import Spatial, TargetSpec


class BP(Spatial):
    r"""Backpropagation: :math:`W^\top` carries errors back through a synapse."""


class SignSymmetric(Spatial):
    r"""Only the signs of the weights carry errors back: :math:`\mathrm{sign}(W) / \sqrt{\text{fan-in}}`.

    The sign of a complex weight is its direction, :math:`w / |w|`, so that what carries errors back has the same
    magnitude at every entry as for real weights.

    The scale of linear layers is that of the code of Xiao et al. (HLOP).  For convolutions that code has
    :math:`\sqrt{2 / (k_h k_w C_\text{out})}`; the fan-in, :math:`k_h k_w C_\text{in}` per group, is our choice for
    these, so that one rule serves all layers.  The two agree where a convolution doubles its channels, and theirs is
    :math:`\sqrt 2` times ours where it keeps their number.

    Reference:
        Liao, Leibo, Poggio, How Important Is Weight Symmetry in Backpropagation?, AAAI 2016, arXiv 1510.05067; Xiao et
        al., Hebbian Learning Based Orthogonal Projection for Continual Learning of Spiking Neural Networks, ICLR 2024,
        arXiv 2402.11984, for the scale of linear layers.
    """

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor:
        return weight.detach().sgn() / math.sqrt(math.prod(weight.shape[1:]))


class FA(Spatial):
    r"""Feedback alignment: fixed random weights carry errors back, uniform within :math:`1 / \sqrt{\text{fan-in}}`.

    Errors of complex layers go back by complex weights of the same mean square: real and imaginary parts are uniform
    within :math:`1 / \sqrt{2\,\text{fan-in}}`.

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

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, TargetSpec]) -> None:
        for site, synapse in wiring.synapses.items():
            name = module_name(site)  # at all of its places a layer sends errors back by the same weights
            if synapse.senders and not self.weights.holds(name, synapse.weight):
                self.weights[name] = self._drawn(name, synapse.weight).to(like)

    def _drawn(self, name: str, shape: tuple[int, ...]) -> Tensor:
        bound, generator = 1 / math.sqrt(math.prod(shape[1:])), keyed_generator(self.seed, name)
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound

    def _complex(self, name: str) -> Tensor:
        """Return complex weights; their imaginary parts are made when they are asked for first."""
        real, imaginary = self.weights[name], f"{name} imaginary"
        if not self.weights.holds(imaginary, tuple(real.shape)):
            self.weights[imaginary] = self._drawn(imaginary, tuple(real.shape)).to(real)
        return torch.complex(real, self.weights[imaginary]) / math.sqrt(2)

    def replaces(self, synapse: Synapse) -> bool:
        return bool(synapse.senders)

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor | None:
        name = module_name(synapse.name)
        return None if not synapse.senders else self._complex(name) if weight.is_complex() else self.weights[name]

    def extra_repr(self) -> str:
        return f"seed={self.seed}"
