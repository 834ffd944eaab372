"""Errors that go from the output to every layer at once, through a matrix per layer: fixed, or learned on the way."""

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
from spikewright._util.returned import wrong
from spikewright.errors import ConfigError, nearest
from spikewright.network.wiring import Wiring
from spikewright.spatial._base import ChunkSample, Route, Spatial, TargetSpec
from spikewright.spatial._noise import one_block


@dataclass(frozen=True)
class StepSample:
    """One layer and one target at one step; all without graph, `[batch, neuron]` or `[batch, component]`.

    Attributes:
        activity: What the neurons emitted.
        noise: What perturbed them.
        vector: What the target was.
        error: Derivative of the loss by it, times the scale.
        scale: Of the error.
    """

    activity: Tensor
    noise: Tensor | None
    vector: Tensor
    error: Tensor
    scale: Tensor


class Direct(Spatial):
    """A matrix `[neuron, component]` per layer and target carries the error of the target to the layer.

    Matrices are buffers in 32 bits or more: part of the state, of no interest to optimizers.  A layer of channels and
    pixels has a row for each of its entries.

    Args:
        seed: Of the first matrices.
        route: Where errors start from: the "output"; or what arrives at the readout ("penultimate"), whose error is
            W^T e with the readout's own weights: matrices do not grow with the number of outputs then.
    """

    cuts: ClassVar[bool] = True
    real_targets: ClassVar[bool] = True

    def __init__(self, seed: int, route: Route) -> None:
        super().__init__()
        if route not in get_args(Route):
            raise ConfigError(f"{type(self).__name__}(route={route!r}) is unknown. {nearest(route, get_args(Route))}")
        self.route = route
        self.seed = seed
        self.matrices = Matrices()

    @abstractmethod
    def first(self, neurons: int, components: int, generator: torch.Generator) -> Tensor:
        """Return the matrix that a layer begins with."""

    @abstractmethod
    def signal(self, key: str, sample: StepSample) -> Tensor:
        """Return the error that arrives at a layer, `[batch, neuron]`; learn from the sample.

        Args:
            key: Of the matrix.
            sample: What there is to learn from.
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
            self.taught(step, chunk)
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

    def taught(self, step: int, chunk: ChunkSample) -> None:
        """Note that a step of a chunk has been taught to all layers."""


def _key(target: str, site: str) -> str:
    return f"{target} {site}"


class DFA(Direct):
    r"""Direct feedback alignment: :math:`g_l = B_l e`, with fixed :math:`B_l` from :math:`\mathcal N(0, s^2/m)`.

    Args:
        scale: The factor s; m is the number of components of the error.
        seed: Of the matrices.
        route: Where errors start from, see `Direct`.

    Reference:
        Nøkland, Direct Feedback Alignment Provides Learning in Deep Neural Networks, NeurIPS 2016, arXiv 1609.01596.
    """

    def __init__(self, scale: float = 1.0, seed: int = 0, route: Route = "output") -> None:
        super().__init__(seed, route)
        if not scale > 0:
            raise ConfigError(f"DFA(scale={scale}): no error would arrive, or its opposite. Give a positive factor.")
        self.scale = scale

    def first(self, neurons: int, components: int, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(neurons, components, generator=generator, dtype=torch.float64)
        return drawn * (self.scale / math.sqrt(components))

    def signal(self, key: str, sample: StepSample) -> Tensor:
        return sample.error @ self.matrices[key].T

    def extra_repr(self) -> str:
        return f"scale={self.scale}, seed={self.seed}, route={self.route!r}"


class DKP(DFA):
    r"""Direct Kolen-Pollack: feedback that learns as a readout of its layer would.

    With activity a and error e, summed over the batch,

    .. math::
        g_l = B_l e, \qquad B_l \leftarrow B_l - \eta\,(a_l \otimes e) - \gamma B_l.

    Args:
        lr: The rate :math:`\eta`.
        decay: Share :math:`\gamma` of a matrix that is lost per step.
        scale: Of the first matrices, as in `DFA`.
        seed: Likewise.
        route: Likewise.

    Reference:
        Webster, Choi, Ahn, Learning the Connections in Direct Feedback Alignment, 2020.
    """

    def __init__(
        self, lr: float = 0.1, decay: float = 1e-6, scale: float = 1.0, seed: int = 0, route: Route = "output"
    ) -> None:
        super().__init__(scale, seed, route)
        if not (lr >= 0 and 0 <= decay < 1):
            raise ConfigError(f"DKP(lr={lr}, decay={decay}): the rate is not negative, and the decay lies in [0, 1).")
        self.lr, self.decay = lr, decay

    def signal(self, key: str, sample: StepSample) -> Tensor:
        arrived = super().signal(key, sample)
        error = sample.error / sample.scale
        self.matrices[key].addmm_(sample.activity.T, error, beta=1 - self.decay, alpha=-self.lr)
        return arrived

    def products(self, wiring: Wiring, taught: Collection[str]) -> int:
        return 2 * super().products(wiring, taught)

    def extra_repr(self) -> str:
        return f"lr={self.lr}, decay={self.decay}, {super().extra_repr()}"
