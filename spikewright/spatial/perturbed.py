"""Errors from perturbed forward passes: zeroth order, and online pseudo-zeroth order."""

import math
from collections.abc import Collection
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.ranges import check_choice, check_flag, check_within
from spikewright._util.share import mean_over_batch, whole_batch
from spikewright.errors import ConfigError
from spikewright.network.wiring import Wiring
from spikewright.spatial._base import ChunkSample, Route, Spatial, TargetSpec
from spikewright.spatial._noise import Distribution, Noise, Position
from spikewright.spatial.direct import DFA, Direct, StepSample, add_product


class ZO(Spatial):
    r"""Single-point zeroth order: the loss of each sample at a step, times the noise, :math:`g_l = (L / \alpha)\, z_l`.

    L is the loss of the sample at the step, :math:`\alpha z_l` the noise at layer l, and :math:`g_l` the error that
    arrives there.  It is unbiased for the loss smoothed by the noise; its variance grows with the number of neurons.
    It is the baseline for `OPZO`.

    Args:
        alpha: Size :math:`\alpha` of the noise.  > 0.  Default: 0.2.
        distribution: Distribution of the noise, of variance 1 before `alpha`: "gaussian", "rademacher" (plus or minus
            1), or "sphere" (uniform on a sphere, for each sample and layer).  Default: "gaussian".
        position: "post" adds noise to what neurons emit, so that the layers behind see it; "pre" adds it to the
            current, so that spikes stay binary.  Default: "post".
        antithetic: If True, the second step of every pair takes the noise of the first with the opposite sign.
            Default: False.
        seed: Seed of the noise.  From 0 to 2**63 - 1.  Default: 0.

    Raises:
        ConfigError: `alpha` is not positive; `seed` is not a whole number of at least 0; `antithetic` is not a bool;
            `distribution` or `position` is unknown.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR
        2026, arXiv 2407.12516.
    """

    cuts: ClassVar[bool] = True
    ragged: ClassVar[bool] = True

    def __init__(
        self,
        alpha: float = 0.2,
        distribution: Distribution = "gaussian",
        position: Position = "post",
        antithetic: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.noise = Noise("ZO", alpha, distribution, position, antithetic, seed)

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
    r"""Online pseudo-zeroth order: feedback matrices that are estimated from noise in the forward pass.

    With :math:`\alpha z_l` the noise at layer l, o the output, e the derivative of the loss by it and B the batch size,
    at every step

    .. math::
        M_l \leftarrow \lambda M_l + (1 - \lambda)\, \tfrac1B \textstyle\sum_b z_l^{(b)} \otimes o^{(b)} / \alpha,
        \qquad g_l = M_l\, e,

    and :math:`g_l` is the error that arrives at the neurons of layer l.  M tends to the transposed Jacobian of the
    output by what is perturbed in the same step, smoothed by the noise and averaged over data, if the noise of
    different steps is independent (`antithetic=False`).  With antithetic pairs the same holds for noise of position
    "post" at layers whose output reaches the readout and no other neurons; and everywhere if neurons have no memory
    (`tau=1`) or the sequence has one step.  Elsewhere the noise of the first step of a pair is still in the membrane
    potentials at the second, with the opposite sign: the expectation there is that Jacobian minus the Jacobian by the
    step before.  In a network of two layers with a decay of 1/2 that is a deviation of about a third, half of it on
    average over the pair, in nearly the same direction.  Noise of position "pre" stays in the membrane of its own
    neurons, so that pairs bias the last layer too.

    Args:
        momentum: Share :math:`\lambda` of M that is kept per step; M averages over about 1 / (1 - momentum) steps.  In
            [0, 1); 1 too with `init="dfa"`, whose matrices then stay as they are.  Default: 0.9999.
        alpha: Size :math:`\alpha` of the noise.  > 0.  Default: 0.2.
        distribution: Distribution of the noise, of variance 1 before `alpha`: "gaussian", "rademacher" (plus or minus
            1), or "sphere" (uniform on a sphere, for each sample and layer).  Default: "gaussian".
        position: "post" adds noise to what neurons emit, so that the layers behind see it; "pre" adds it to the
            current, so that spikes stay binary.  Default: "post".
        antithetic: If True, the second step of every pair takes the noise of the first with the opposite sign, which
            removes the common part of the two outputs; it biases M below the last layer where neurons leak.
            Default: True.
        scale_by_alpha: If True, divide by :math:`\alpha`, as in the definition; otherwise M and all errors are
            :math:`\alpha` times smaller.  Default: True.
        init: First value of M: "zero", or "dfa", a random matrix as of `spikewright.spatial.DFA`, whose share decays.
            Default: "zero".
        debias: If True, divide M by :math:`1 - \lambda^k` after k steps, so that errors have their full size from the
            first step; without effect with `init="dfa"`.  Default: True.
        center_output: If True, subtract a running mean (rate 0.01) from the output before it is correlated with the
            noise: less variance, the same expectation.  Default: False.
        seed: Seed of the noise and of the first M.  From 0 to 2**63 - 1.  Default: 0.
        route: Where errors start: "output", the output of the network; or "penultimate", the input of the readout, so
            that M does not grow with the number of outputs.  Default: "output".

    Raises:
        ConfigError: `momentum`, `alpha` or `seed` is out of range; a flag is not a bool; `distribution`, `position`,
            `init` or `route` is unknown.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR
        2026, arXiv 2407.12516, section 4, equation 6.  No code is published; `debias`, `center_output`, `init="dfa"`
        and `route="penultimate"` are additions.
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
        self.noise = Noise("OPZO", alpha, distribution, position, antithetic, seed)
        check_within("OPZO", "momentum", momentum, "[0, 1]", "the share of M that is kept per step lies in [0, 1]")
        check_flag("OPZO", scale_by_alpha=scale_by_alpha, debias=debias, center_output=center_output)
        check_choice("OPZO", "init", init, ("zero", "dfa"))
        if momentum == 1 and init == "zero":
            raise ConfigError(
                f"OPZO(momentum={momentum}): with init='zero' M starts at 0 and keeps all of that, so no layer but "
                "the last would ever get an error. Give a momentum below 1, such as 0.9999, or init='dfa' for a "
                "constant M."
            )
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

    def end_step(self, step: int, chunk: ChunkSample) -> None:
        self.steps += 1
        for name, target in chunk.targets.items():
            if self.center_output:
                self.means[name].lerp_(mean_over_batch(target.vector[step]), _CENTRE)

    def signal(self, key: str, sample: StepSample) -> Tensor:
        assert sample.noise is not None and self.noise is not None  # the class sets noise
        m, vector = self.matrices[key], sample.vector
        if self.center_output:
            vector = vector - self.means[key.partition(" ")[0]]
        size = self.noise.alpha  # of the noise, which is alpha z
        part = (1 - self.momentum) / whole_batch(len(vector)) / (size**2 if self.scale_by_alpha else size)
        add_product(m, sample.noise.T, vector, beta=self.momentum, alpha=part)
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
