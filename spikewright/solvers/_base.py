r"""The adjoint equation of a network at its rates, and the base of its solvers.

A feedback connection is cut at its delayed end: an edge has a leaf z, which holds the rate that was sent back, and a
source y(z), the rate that is sent.  At the fixed point z = y the gradient of a loss L is that of

.. math::
    L(z, \theta) + \langle v, y(z, \theta) \rangle, \qquad
    v = \partial L / \partial z + (\partial y / \partial z)^\top v

with v held constant: solvers differ in how they find v.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_count, check_within
from spikewright._util.returned import wrong
from spikewright._util.share import Share, divided_share

Map = Callable[[Tensor], Tensor]
"""A linear map of `[problem, size]`, which leaves problems apart."""


@dataclass(frozen=True)
class Edge:
    """A feedback connection that is cut.

    Attributes:
        site: Name of the connection.
        leaf: What arrives through it, `[batch, *feature]`, or `[batch * rows, *feature]` if the network folds rows of a
            sample into the batch; a leaf of the graph.
        source: What is sent, of the same shape `[batch, *feature]`, with its graph.
    """

    site: str
    leaf: Tensor
    source: Tensor


@dataclass(frozen=True)
class Cell:
    """A layer of neurons at its rates.

    Attributes:
        site: Name of the layer.
        emitted: Mean output, as a function of what is upstream, `[batch, *feature]`, or `[batch * rows, *feature]` if
            the network folds rows of a sample into the batch.
        leaf: The same as seen downstream, `[batch, *feature]`: `emitted`, or a leaf of its own if the graph is cut
            between layers.
        leak: Decay of the neurons, in [0, 1]; a number, or a tensor that broadcasts to `[batch, *feature]`.
            Default: 1.0.
    """

    site: str
    emitted: Tensor
    leaf: Tensor
    leak: float | Tensor = 1.0


@dataclass(frozen=True)
class Adjoint:
    """A network evaluated at its rates.

    Attributes:
        cells: Layers of neurons, in the order of the computation.
        edges: Feedback connections.
        coupled: True if the samples of the batch depend on each other (batch statistics).  Default: False.
        batch: Number of samples.  At least 1.  Default: None, every row of a leaf is a sample.
        part: Function that evaluates the network for the samples of a mask `[batch]`.  Default: None, if that would not
            be the same.
    """

    cells: Sequence[Cell]
    edges: Sequence[Edge]
    coupled: bool = False
    batch: int | None = None
    part: "Callable[[Tensor], Adjoint] | None" = None

    @property
    def leaves(self) -> list[Tensor]:
        """All leaves: of layers of neurons, then of feedback connections."""
        return [cell.leaf for cell in self.cells] + [edge.leaf for edge in self.edges]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.leaves[0]) if self.batch is None else self.batch


@dataclass(frozen=True)
class Report:
    """The outcome of a solver.

    Attributes:
        iterations: Number of passes through the feedback.  At least 0.  Default: 0.
        residual: Norm of the residual of the equation, relative to its right-hand side; at least 0, NaN if it was not
            computed.  Default: 0.0.
        converged: True if the result is as accurate as asked for.  Default: True.
        reason: Why it is not, and what to do.  Default: "", if it is.
        saturated: Share of saturated pairs of a spiking phase in the layer with most of them, in [0, 1]: they received
            more than they could send.  Default: 0.0.
        silent: Share of pairs of a spiking phase that received something and never fired, in [0, 1].  Default: 0.0.
        rates: Mean number of spikes per pair and step of a spiking phase, by layer of neurons.  Default: {}, without
            such a phase.
    """

    iterations: int = 0
    residual: float = 0.0
    converged: bool = True
    reason: str = ""
    saturated: float = 0.0
    silent: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Product:
    """The map v -> J^T v, computed in low precision.

    Args:
        map: The map.
        rounding: Relative spacing of the coarsest numbers it computes with; 0 if they are as fine as v.
        norm: Norm of all problems together, of which other processes may have some.  Default: that of a tensor.
    """

    map: Map
    rounding: float
    norm: Callable[[Tensor], float] = field(default=lambda v: _plain_norm(v))

    def __call__(self, v: Tensor) -> Tensor:
        return self.map(v)


def _rounding(tensors: Sequence[Tensor]) -> float:
    """Return the spacing of the coarsest of some tensors and of autocast; 0 if the first is as coarse."""
    device, fine = tensors[0].device.type, torch.finfo(tensors[0].dtype).eps
    cast = [torch.get_autocast_dtype(device)] if torch.is_autocast_enabled(device) else []
    coarse = max(torch.finfo(dtype).eps for dtype in [*(t.dtype for t in tensors), *cast])
    return coarse if coarse > fine else 0.0


class Solver(ABC):
    """Base of solvers: finds the gradient of a loss through feedback.

    A subclass implements `passes` and `loss`.

    Attributes:
        cuts_layers: True if the solver needs the graph cut between layers of neurons too.
    """

    cuts_layers: ClassVar[bool] = False
    """Whether it needs the graph cut between neuron layers too."""

    @property
    @abstractmethod
    def passes(self) -> int:
        """Largest number of backward passes through the graph."""

    @abstractmethod
    def loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report]:
        """Return a scalar equal to `value` that has the gradient through the fixed point, and a `Report`.

        Args:
            value: The loss, a scalar with its graph.
            adjoint: The network it was computed with.
        """

    def trial_copy(self) -> "Solver":
        """Return a solver that takes as much memory, in fewer passes if that makes no difference to it.

        It measures the memory of a training step, and its solution is not used.
        """
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in vars(self).items())})"


class Iterative(Solver):
    r"""Base of solvers of :math:`v = J^\top v + g` by repeated products with :math:`J^\top`.

    J is the derivative of the rates that are sent back by those that arrived, and g the gradient of the loss by the
    latter.  Samples are separate problems unless batch statistics couple them.  A subclass implements `solve`.

    Args:
        iterations: Largest number of products.  From 1 to 10**6.
        tolerance: Norm of the residual, relative to g, at which to stop.  > 0; `None` is the machine precision to the
            power 3/4.

    Raises:
        ConfigError: `iterations` or `tolerance` is not positive.
    """

    def __init__(self, iterations: int, tolerance: float | None) -> None:
        name = type(self).__name__
        check_count(name, "iterations", iterations, "a solver takes at least one iteration", most=MOST)
        if tolerance is not None:
            check_within(name, "tolerance", tolerance, "(0, inf)", "a solver stops at a residual of this size")
        self.iterations, self.tolerance = iterations, tolerance

    @property
    def passes(self) -> int:
        return self.iterations

    @abstractmethod
    def solve(self, product: Map, g: Tensor) -> tuple[Tensor, Report]:
        """Return the solution of v = product(v) + g, of the shape of g, and a `Report`.

        Args:
            product: The map v -> J^T v.
            g: Right-hand side, `[problem, size]`; problems are independent of each other.
        """

    def loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report]:
        if not adjoint.edges:
            return value, Report()
        leaves, sources = [e.leaf for e in adjoint.edges], [e.source for e in adjoint.edges]
        shape = (1, -1) if adjoint.coupled else (adjoint.samples, -1)
        sizes = [leaf.reshape(shape).shape[1] for leaf in leaves]

        def joined(parts: Sequence[Tensor]) -> Tensor:
            return torch.cat([part.reshape(shape) for part in parts], 1)

        def apart(v: Tensor) -> list[Tensor]:
            return [part.reshape(leaf.shape) for part, leaf in zip(v.split(sizes, 1), leaves)]

        def joined_product(v: Tensor) -> Tensor:
            return joined(gradients(sources, leaves, apart(v)))

        g, share = joined(gradients([value], leaves)), divided_share()
        product = Product(joined_product, _rounding([g, *sources]))
        if share is None or (adjoint.coupled and not share.sync_batch_norm):  # nobody else has to do with it
            v, report = self._solved(product, g)
        elif not adjoint.coupled:
            v, report = self._solved(replace(product, norm=partial(_norm, share)), g)
        else:
            v, report = self._solved_together(product, g, share, adjoint.samples)
        return pulled(value, sources, apart(v)), report

    def _solved_together(self, product: "Product", g: Tensor, share: Share, samples: int) -> tuple[Tensor, Report]:
        """Solve one equation that couples the samples of all processes; every process does all of it."""

        def whole(v: Tensor) -> Tensor:
            return share.gather(v.reshape(samples, -1)).reshape(1, -1)

        def own(v: Tensor) -> Tensor:
            return share.own(v.reshape(share.total, -1)).reshape(1, -1)

        v, report = self._solved(replace(product, map=lambda v: whole(product(own(v)))), whole(g))
        return own(v), report

    def _solved(self, product: "Product", g: Tensor) -> tuple[Tensor, Report]:
        answer: Any = self.solve(product, g)
        if not (isinstance(answer, tuple) and len(answer) == 2 and _is_like(answer[0], g) and _is_report(answer[1])):
            raise wrong(self, "solve", f"the solution, of the shape of g, {list(g.shape)}, and a Report", answer)
        return answer

    def best(self, product: Map, g: Tensor) -> "Best":
        """Return an object that keeps the best iterate of an equation.

        Without an explicit tolerance a residual that products of a lower precision do not resolve is small enough.

        Args:
            product: The map v -> J^T v.
            g: Right-hand side, `[problem, size]`.
        """
        norm, rounding = (product.norm, product.rounding) if isinstance(product, Product) else (_plain_norm, 0.0)
        tolerance = self.tolerance or torch.finfo(g.dtype).eps ** 0.75
        return Best(g, tolerance, rounding if self.tolerance is None else 0.0, norm)


def _plain_norm(v: Tensor) -> float:
    return float(v.norm())


def _norm(share: Share, v: Tensor) -> float:
    """Return the norm of the problems of all processes."""
    return float(share.sum(v.norm().square()).sqrt())


def _is_like(v: object, g: Tensor) -> bool:
    return isinstance(v, Tensor) and v.shape == g.shape


def _is_report(report: object) -> bool:
    return isinstance(report, Report)


class Best:
    """Keeps the iterate with the smallest residual, and decides when to stop.

    Args:
        g: Right-hand side, `[problem, size]`.
        tolerance: Norm of the residual at which to stop, relative to g.  > 0.
        rounding: Norm of the residual at which to stop, relative to the iterate.  At least 0.
        norm: Norm of all problems together.
    """

    def __init__(self, g: Tensor, tolerance: float, rounding: float, norm: Callable[[Tensor], float]) -> None:
        self._scale, self._rounding, self._norm = norm(g), rounding, norm
        self._target = tolerance * self._scale
        self._good = False
        self.v, self.norm, self.first, self.last, self.iterations = torch.zeros_like(g), float("inf"), 0.0, 0.0, 0

    def done(self, v: Tensor, residual: Tensor) -> bool:
        """Take an iterate and its residual; return True if it is good enough, or the residual has diverged."""
        size = self._norm(v)
        self.last = max(self._norm(residual), torch.finfo(v.dtype).eps * size)  # less is not known of the residual
        self.first = self.first or self.last
        self.iterations += 1
        if self.last < self.norm:
            self.v, self.norm = v, self.last
            self._good = self.norm <= max(self._target, self._rounding * size)
        return self._good or not self.last < 1e6 * self.first

    def report(self) -> Report:
        """Return the outcome."""
        converged = self._good
        residual = self.norm / self._scale if self._scale else 0.0
        reason = ""
        if not converged:
            growing = not self.last < self.first
            cause = "the feedback does not contract" if growing else "the feedback contracts slowly"
            cure = "Restrict the norm of its weights (spikewright.layers.restrict_spectral)"
            reason = (
                f"After {self.iterations} iterations the adjoint equation is off by {residual:.1e} of its right-hand "
                f"side: {cause}. {cure}{'' if growing else ', or allow more iterations'}."
            )
        return Report(self.iterations, residual, converged, reason)


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], given: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Return the gradients at `inputs` of `outputs`, whose own gradients are `given`; the graph is kept."""
    pairs = [(y, None if given is None else given[i]) for i, y in enumerate(outputs) if y.requires_grad]
    if not pairs or not inputs:
        return [torch.zeros_like(x) for x in inputs]
    ys, vs = zip(*pairs)
    return list(torch.autograd.grad(ys, inputs, vs, retain_graph=True, allow_unused=True, materialize_grads=True))


def pulled(value: Tensor, outputs: Sequence[Tensor], directions: Sequence[Tensor]) -> Tensor:
    """Return `value`, with a gradient to which the products of outputs and directions are added."""
    for y, v in zip(outputs, directions):
        value = value + (v.detach() * (y - y.detach())).sum().to(value.dtype)
    return value
