"""Errors that reach every layer directly from the output, through a matrix per layer, fixed or learned."""

import math
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_choice, check_seed, check_within
from spikewright._util.returned import wrong
from spikewright._util.share import divided_share
from spikewright.network.wiring import Wiring
from spikewright.spatial._base import ChunkSample, Route, Spatial, TargetSpec
from spikewright.spatial._noise import one_block


@dataclass(frozen=True)
class StepSample:
    """One layer and one target at one step; all without graph.

    Attributes:
        activity: What the neurons emitted, `[batch, neuron]`.
        noise: What perturbed them, `[batch, neuron]`; `None` without noise.
        vector: Value of the target, `[batch, component]`.
        error: Derivative of the loss by it, times the scale, `[batch, component]`.
        scale: Scale of the error, a scalar.
    """

    activity: Tensor
    noise: Tensor | None
    vector: Tensor
    error: Tensor
    scale: Tensor


class Direct(Spatial):
    r"""Base of direct feedback: :math:`g_l = B_l e`, with a matrix `[neuron, component]` per layer and target.

    Matrices are buffers in 32 bits or more: part of the state, and unknown to optimizers.  A layer of channels and
    pixels has a row for each of its entries.

    Args:
        seed: Seed of the first matrices.  From 0 to 2**63 - 1.
        route: Where errors start: "output", the output of the network; or "penultimate", the input of the readout,
            whose error is :math:`W^\top e` with the readout's own weights, so that matrices do not grow with the number
            of outputs.
    """

    cuts: ClassVar[bool] = True
    real_targets: ClassVar[bool] = True

    def __init__(self, seed: int, route: Route) -> None:
        super().__init__()
        check_choice(type(self).__name__, "route", route, get_args(Route))
        check_seed(type(self).__name__, seed)
        self.route = route
        self.seed = seed
        self.matrices = Matrices()

    @abstractmethod
    def first(self, neurons: int, components: int, generator: torch.Generator) -> Tensor:
        """Return the first matrix of a layer, `[neurons, components]`.

        Args:
            neurons: Number of neurons of the layer.
            components: Number of entries of the target.
            generator: Source of random numbers.
        """

    @abstractmethod
    def signal(self, key: str, sample: StepSample) -> Tensor:
        """Return the error that arrives at a layer, `[batch, neuron]`; learn from the sample.

        Args:
            key: Name of the matrix.
            sample: One layer and one target at one step.
        """

    def prepare(self, wiring: Wiring, like: Tensor, targets: dict[str, TargetSpec]) -> None:
        for name, reach in targets.items():
            for site, shape in wiring.shapes.items():  # in an order that all processes share
                key, neurons = _key(name, site), math.prod(shape)
                if site in reach.sites and not self.matrices.holds(key, (neurons, reach.components)):
                    drawn: Any = self.first(neurons, reach.components, keyed_generator(self.seed, key))
                    if not isinstance(drawn, Tensor) or drawn.shape != (neurons, reach.components):
                        raise wrong(self, "first", f"a matrix [{neurons}, {reach.components}]", drawn)
                    self.matrices[key] = drawn.to(like)

    @torch.no_grad()
    def signals(self, chunk: ChunkSample) -> dict[str, Tensor]:
        steps: dict[str, list[Tensor]] = {site: [] for site in chunk.activity}
        for step in range(len(next(iter(chunk.targets.values())).vector)):
            for site, arrived in steps.items():
                signals = [
                    self.signal(_key(name, site), self._moment(chunk, name, site, step))
                    for name, target in chunk.targets.items()
                    if site in target.reaches
                ]
                shape = chunk.activity[site][step].flatten(1).shape
                for signal in signals if step == 0 else ():
                    if not isinstance(signal, Tensor) or signal.shape != shape:
                        raise wrong(self, "signal", f"an error for every neuron, {list(shape)}", signal)
                arrived.append(reduce(Tensor.add_, signals))
            self.end_step(step, chunk)
        return {site: one_block(s).view(chunk.activity[site].shape) for site, s in steps.items()}

    def _moment(self, chunk: ChunkSample, name: str, site: str, step: int) -> StepSample:
        like, target, noise = self.matrices[_key(name, site)], chunk.targets[name], chunk.noise.get(site)
        return StepSample(
            activity=chunk.activity[site][step].flatten(1).to(like),
            noise=None if noise is None else noise[step].flatten(1).to(like),
            vector=target.vector[step].to(like),
            error=target.error[step].to(like),
            scale=chunk.scale.to(like),
        )

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        return sum(self.matrices[key].numel() for key in self.matrices if key.partition(" ")[2] in taught)

    @property
    def floats(self) -> int:
        return sum(self.matrices[key].numel() for key in self.matrices)

    def end_step(self, step: int, chunk: ChunkSample) -> None:
        """Called when all layers have learned from a step.

        Args:
            step: Index of the step in the chunk.
            chunk: Errors of the targets, activity and noise.
        """


def add_product(m: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> None:
    """Set a matrix to beta times itself plus alpha times a product, summed over the samples of the whole batch.

    Args:
        m: The matrix, `[neuron, component]`.
        a: Left factor, `[neuron, batch]`.
        b: Right factor, `[batch, component]`.
        beta: Any finite number.
        alpha: Any finite number.
    """
    share = divided_share()
    if share is None:
        m.addmm_(a, b, beta=beta, alpha=alpha)
    else:
        m.mul_(beta).add_(share.sum(a @ b), alpha=alpha)


def _key(target: str, site: str) -> str:
    return f"{target} {site}"


class DFA(Direct):
    r"""Direct feedback alignment: the error of the output reaches each layer through a fixed random matrix.

    With e the derivative of the loss by the output, m its number of entries, and :math:`g_l` the error that arrives at
    the neurons of layer l,

    .. math::
        g_l = B_l e, \qquad B_l \sim \mathcal N(0, s^2 / m).

    Args:
        scale: Factor s of the matrices.  > 0.  Default: 1.0.
        seed: Seed of the matrices.  From 0 to 2**63 - 1.  Default: 0.
        route: Where errors start: "output", the output of the network; or "penultimate", the input of the readout, so
            that matrices do not grow with the number of outputs.  Default: "output".

    Raises:
        ConfigError: `scale` is not positive; `seed` is not a whole number of at least 0; `route` is unknown.

    Reference:
        Nøkland, Direct Feedback Alignment Provides Learning in Deep Neural Networks, NeurIPS 2016, arXiv 1609.01596.

    Examples:
        >>> import spikewright as sw
        >>> sw.rules.OTTT(spatial=sw.spatial.DFA(scale=0.5)).spatial
        DFA(scale=0.5, seed=0, route='output')
    """

    ragged: ClassVar[bool] = True

    def __init__(self, scale: float = 1.0, seed: int = 0, route: Route = "output") -> None:
        super().__init__(seed, route)
        check_within(type(self).__name__, "scale", scale, "(0, inf)", "errors would vanish, grow to inf or change sign")
        self.scale = scale

    def first(self, neurons: int, components: int, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(neurons, components, generator=generator, dtype=torch.float64)
        return drawn * (self.scale / math.sqrt(components))

    def signal(self, key: str, sample: StepSample) -> Tensor:
        return sample.error @ self.matrices[key].T

    def extra_repr(self) -> str:
        return f"scale={self.scale}, seed={self.seed}, route={self.route!r}"


class DKP(DFA):
    r"""Direct Kolen-Pollack: direct feedback whose matrices learn as the readout of each layer would.

    With activity :math:`a_l`, e the derivative of the loss by the output, and :math:`g_l` the error that arrives at the
    neurons of layer l, summed over the batch at every step,

    .. math::
        g_l = B_l e, \qquad B_l \leftarrow (1 - \gamma) B_l - \eta\,(a_l \otimes e).

    Args:
        lr: Learning rate :math:`\eta` of the matrices.  At least 0.  Default: 0.1.
        decay: Share :math:`\gamma` of a matrix that is lost per step.  In [0, 1).  Default: 1e-6.
        scale: Factor s of the first matrices, which are drawn from :math:`\mathcal N(0, s^2 / m)` with m the number of
            entries of e.  > 0.  Default: 1.0.
        seed: Seed of the first matrices.  From 0 to 2**63 - 1.  Default: 0.
        route: Where errors start: "output", the output of the network; or "penultimate", the input of the readout, so
            that matrices do not grow with the number of outputs.  Default: "output".

    Raises:
        ConfigError: `lr`, `decay`, `scale` or `seed` is out of range; `route` is unknown.

    Reference:
        Webster, Choi, Ahn, Learning the Connections in Direct Feedback Alignment, 2020.
    """

    def __init__(
        self, lr: float = 0.1, decay: float = 1e-6, scale: float = 1.0, seed: int = 0, route: Route = "output"
    ) -> None:
        super().__init__(scale, seed, route)
        check_within("DKP", "lr", lr, "[0, inf)", "the rate is not negative")
        check_within("DKP", "decay", decay, "[0, 1)", "it is the share of a matrix that is lost per step")
        self.lr, self.decay = lr, decay

    def signal(self, key: str, sample: StepSample) -> Tensor:
        arrived = super().signal(key, sample)
        error = sample.error / sample.scale
        add_product(self.matrices[key], sample.activity.T, error, beta=1 - self.decay, alpha=-self.lr)
        return arrived

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        return 2 * super().products(wiring, taught)

    def extra_repr(self) -> str:
        return f"lr={self.lr}, decay={self.decay}, {super().extra_repr()}"
