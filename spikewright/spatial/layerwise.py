"""Errors that go back layer by layer: by the forward weights, by their signs, or by fixed random weights."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_seed
from spikewright.network.wiring import Synapse, Wiring, module_name
from spikewright.spatial._base import Spatial, TargetSpec


class BP(Spatial):
    r"""Backpropagation: errors go back through each layer by its transposed weight, :math:`W^\top`.

    It is what `OTTT` and `SLTT` do without another choice.
    """

    ragged: ClassVar[bool] = True


class SignSymmetric(Spatial):
    r"""Sign-symmetric feedback: errors go back through each layer by the signs of its weights.

    In place of W the backward pass uses

    .. math::
        \mathrm{sign}(W) / \sqrt{\text{fan-in}},

    where the sign of a complex weight is its direction, :math:`w / |w|`.

    Differs from the reference code:
        For linear layers the scale is that of the code of Xiao et al.  For convolutions that code has :math:`\sqrt{2 /
        (k_h k_w C_\text{out})}`; here it is the fan-in, :math:`k_h k_w C_\text{in}` per group.  The two are equal where
        a convolution doubles the number of channels, and theirs is :math:`\sqrt 2` times ours where it keeps it.

    Reference:
        Liao, Leibo, Poggio, How Important Is Weight Symmetry in Backpropagation?, AAAI 2016, arXiv 1510.05067; for the
        scale of linear layers Xiao et al., Hebbian Learning based Orthogonal Projection for Continual Learning of
        Spiking Neural Networks, ICLR 2024, arXiv 2402.11984.
    """

    ragged: ClassVar[bool] = True

    def back(self, synapse: Synapse, weight: Tensor) -> Tensor:
        return weight.detach().sgn() / math.sqrt(math.prod(weight.shape[1:]))


class FA(Spatial):
    r"""Feedback alignment: errors go back through each layer by fixed random weights of the shape of its own.

    They are uniform within :math:`\pm 1 / \sqrt{\text{fan-in}}`; for complex layers real and imaginary parts are
    uniform within :math:`\pm 1 / \sqrt{2\,\text{fan-in}}`.  They are buffers, one per layer that reads from neurons.

    Args:
        seed: Seed of the weights.  From 0 to 2**63 - 1.  Default: 0.

    Raises:
        ConfigError: `seed` is not a whole number of at least 0.

    Reference:
        Lillicrap et al., Random Synaptic Feedback Weights Support Error Backpropagation for Deep Learning, Nature
        Communications 2016.
    """

    ragged: ClassVar[bool] = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        check_seed("FA", seed)
        self.seed = seed
        self.weights = Matrices()

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, TargetSpec]) -> None:
        for site, synapse in wiring.synapses.items():
            name = module_name(site)  # all calls of a layer share its feedback weights
            if synapse.senders and not self.weights.holds(name, synapse.weight):
                self.weights[name] = self._drawn(name, synapse.weight).to(like)

    def _drawn(self, name: str, shape: tuple[int, ...]) -> Tensor:
        bound, generator = 1 / math.sqrt(math.prod(shape[1:])), keyed_generator(self.seed, name)
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound

    def _complex(self, name: str) -> Tensor:
        """Return complex weights; their imaginary parts are created at first use."""
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
