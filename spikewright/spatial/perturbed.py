"""Errors found by perturbing every neuron while the network runs forward: of the loss, or of the output."""

import math
from collections.abc import Collection
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright.errors import ConfigError, nearest
from spikewright.network.wiring import Wiring
from spikewright.spatial._base import ChunkSample, Route, Spatial, TargetSpec
from spikewright.spatial._noise import Distribution, Noise, Position
from spikewright.spatial.direct import DFA, Direct, StepSample


class ZO(Spatial):
    r"""Zeroth order, single point: every sample's loss at a step, times its noise, :math:`g_l = (L / \alpha)\, z_l`.

    Unbiased for the loss smoothed by the noise, with a variance that grows with the number of neurons: the baseline
    that shows what `OPZO` is for.

    Args:
        alpha: Size of the noise.
        distribution: Of the noise: "gaussian", "rademacher" or "sphere".
        position: "post": layers behind see spikes plus noise; "pre": neurons see currents plus noise.
        antithetic: Pairs of steps share their noise, with opposite signs.
        seed: Of the noise.

    Reference:
        Xiao et al., Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, arXiv 2407.12516.
    """

    cuts: ClassVar[bool] = True

    def __init__(
        self,
        alpha: float = 0.2,
        distribution: Distribution = "gaussian",
        position: Position = "post",
        antithetic: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.noise = Noise(alpha, distribution, position, antithetic, seed)

    @torch.no_grad()
    def signals(self, chunk: ChunkSample) -> dict[str, Tensor]:
        assert self.noise is not None
        terms = chunk.terms() * chunk.scale / self.noise.alpha**2  # noise comes in its size, alpha z
        return {site: z * terms.view(*terms.shape, *[1] * (z.dim() - 2)) for site, z in chunk.noise.items()}

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        return sum(math.prod(wiring.shapes[site]) for site in taught if wiring.is_sender(site))

    def extra_repr(self) -> str:
        return self.noise.extra_repr() if self.noise else ""


class OPZO(Direct):
    r"""Online pseudo-zeroth order: noise in one forward pass teaches each layer how the output depends on it.

    With :math:`\alpha z_l` the noise at layer l, o the output and e the derivative of the loss by it,

    .. math::
        M_l \leftarrow \lambda M_l + (1 - \lambda)\, \tfrac1B \textstyle\sum_b z_l^{(b)} \otimes o^{(b)} / \alpha,
        \qquad g_l = M_l\, e.

    M tends to the transposed Jacobian of the output by what is perturbed in the same step, smoothed by the noise and
    averaged over data, as long as noise of different steps is independent (`antithetic=False`).  With opposite pairs
    this holds for "post" noise of layers whose output goes to a readout and to no neurons; and for all others if
    neurons retain nothing (`tau=1`), or the sequence has one step.  Elsewhere the second step of a pair meets what the
    opposite noise of the first has left in membranes: there the expectation is that Jacobian minus the one by the step
    before, about a third off at a leak of 1/2 in a network of two layers, half of that on average over the pair, in
    nearly the same direction.  Noise of position "pre" stays in the membranes of its own neurons, so that pairs bias
    the last layer too.

    Args:
        momentum: The factor :math:`\lambda`, per step; averages reach back 1 / (1 - momentum) steps.
        alpha: Size of the noise.
        distribution: Of the noise: "gaussian", "rademacher" or "sphere".
        position: "post": layers behind see spikes plus noise; "pre": neurons see currents plus noise.
        antithetic: Pairs of steps share their noise, with opposite signs, which takes out what outputs have in common,
            and biases M below the last layer where neurons leak, see above.
        scale_by_alpha: Divide by alpha, as defined.  Without it M is alpha times smaller, and so are all errors.
        init: What M begins with: "zero", or a matrix of `DFA` ("dfa"), which fades.
        debias: Divide M by the weight that its average has so far, :math:`1 - \lambda^k` after k steps, so that errors
            have their full size from the start; of no use where M begins with something.
        center_output: Take a running mean off the output first; less variance, the same expectation.
        seed: Of the noise and of the first M.
        route: Where errors start from, see `Direct`.

    Raises:
        ConfigError: An argument is out of its range, or unknown.

    Reference:
        Xiao et al., Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR 2026,
        arXiv 2407.12516, section 4.
    """

    steps: Tensor

    def __init__(
        self,
        momentum: float = 0.9999,
        alpha: float = 0.2,
        distribution: Distribution = "gaussian",
        position: Position = "post",
        antithetic: bool = True,
        scale_by_alpha: bool = True,
        init: Literal["zero", "dfa"] = "zero",
        debias: bool = True,
        center_output: bool = False,
        seed: int = 0,
        route: Route = "output",
    ) -> None:
        super().__init__(seed, route)
        self.noise = Noise(alpha, distribution, position, antithetic, seed)
        if not 0 <= momentum <= 1:
            raise ConfigError(f"OPZO(momentum={momentum}): the share of M that is kept per step lies in [0, 1].")
        if init not in ("zero", "dfa"):
            raise ConfigError(f"OPZO(init={init!r}) is unknown. {nearest(init, ('zero', 'dfa'))}")
        self.momentum, self.scale_by_alpha, self.init = momentum, scale_by_alpha, init
        self.debias = debias and init == "zero"
        self.center_output = center_output
        self.means = Matrices()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def first(self, neurons: int, components: int, generator: torch.Generator) -> Tensor:
        if self.init == "dfa":
            return DFA().first(neurons, components, generator)
        return torch.zeros(neurons, components)

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, TargetSpec]) -> None:
        super().prepare(wiring, like, targets)
        for name, reach in targets.items():
            if self.center_output and name not in self.means:
                self.means[name] = like.new_zeros(reach.components)

    def taught(self, step: int, chunk: ChunkSample) -> None:
        self.steps += 1
        for name, target in chunk.targets.items():
            if self.center_output:
                self.means[name].lerp_(target.vector[step].mean(0), _CENTRE)

    def signal(self, key: str, sample: StepSample) -> Tensor:
        assert sample.noise is not None and self.noise is not None  # it asks for it
        m, vector = self.matrices[key], sample.vector
        if self.center_output:
            vector = vector - self.means[key.partition(" ")[0]]
        size = self.noise.alpha  # of the noise, which is alpha z
        share = (1 - self.momentum) / len(vector) / (size**2 if self.scale_by_alpha else size)
        m.addmm_(sample.noise.T, vector, beta=self.momentum, alpha=share)
        weight = 1 - self.momentum ** (self.steps + 1).double() if self.debias and self.momentum < 1 else 1.0
        return (sample.error / weight).to(m) @ m.T  # `weight` is in 64 bits: nearly nothing at first

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        return 2 * super().products(wiring, taught)

    def extra_repr(self) -> str:
        names = ("momentum", "scale_by_alpha", "init", "debias", "center_output", "route")
        shown = [f"{name}={getattr(self, name)!r}" for name in names]
        return ", ".join([*shown, *([self.noise.extra_repr()] if self.noise else [])])


_CENTRE = 0.01
"""Share of a new output in the running mean."""
