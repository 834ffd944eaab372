r"""Joint norms behind joint norms, with no neurons in between, in rules that learn from rates.

The variance of a joint norm is that of the mean currents plus the mean c of the variances in time.  The mean output of
a layer of neurons does not enter c, since it is the same at every step.  But a norm divides what varies in time by its
own standard deviation, which depends on mean currents, so that behind a norm of variance v and scale g, and a linear
map L,

.. math::
    c_2(v) = \mathrm{mean}\ \mathrm{var}_t\, \Big[ L\, \frac{g\, a_t}{\sqrt{v + \epsilon}} \Big].

So at rates c is a function of the variances of all norms in front of it, each taken with the others held constant.  Its
derivative is found in a separate simulation, which keeps the graph between such norms, and no other, for all steps.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.layers.batch_norm import Norm
from spikewright.layers.batch_statistics import batch_mean, batch_variance, normalise_in_sync, sync_share
from spikewright.rules.rates.as_recorded import is_recorded

Forward = Callable[[Tensor], Tensor]


class BetweenNorms:
    """A simulation with a graph between norms, and the derivatives of variances in time that it finds.

    Args:
        in_front: By name of a norm, the names of the norms in front of it, with no neurons in between.
    """

    def __init__(self, in_front: Mapping[str, Sequence[str]]) -> None:
        self._in_front = in_front
        self._in_time: dict[str, Tensor] = {}
        self._variance: dict[str, Tensor] = {}

    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        """Normalise the whole sequence, in a run whose graph ends at neurons."""
        if not module.training:
            return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if site in self._in_front:
            self._in_time[site] = variance_in_time(x)
        else:
            x = x.detach()
        if all(site not in sites for sites in self._in_front.values()):
            return joint(module, x)
        self._variance[site] = variance_of(x).requires_grad_()
        return scaled(module, x, self._variance[site])

    def pull(self, site: str, grad: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients at the variances of the norms in front of one, given that at its variance in time."""
        variances = [self._variance[name] for name in self._in_front[site]]
        return torch.autograd.grad([self._in_time[site]], variances, [grad], retain_graph=True)

    def clear(self) -> None:
        """Free the graph."""
        self._in_time.clear()
        self._variance.clear()


class StackedNorms:
    """The norms of a network at its rates, and which of them follow others."""

    def __init__(self) -> None:
        self.in_front: dict[str, tuple[str, ...]] = {}
        """By name of a norm behind others, the names of these."""
        # The graph at rates refers to `between` only, which does not refer back, so that the graph can be freed.
        self.between = BetweenNorms(self.in_front)
        self._variance: dict[str, Tensor] = {}
        self._left: dict[Any, frozenset[str]] = {}

    def enter(self, site: str, x: Tensor, in_time: Tensor) -> Tensor:
        """Return the variance in time at a norm, `[channel]`, as a function of the variances in front of it.

        Args:
            site: Name of the norm's call.
            x: Mean currents that enter it, with their graph, `[1, batch, channel, ...]`.
            in_time: The value of the variance in time, `[channel]`.
        """
        found, todo, seen = set[str](), [x.grad_fn], set[Any]()
        while todo:
            node = todo.pop()
            if node is None or node in seen or is_recorded(node):
                continue
            seen.add(node)
            found |= self._left.get(node, frozenset())
            todo.extend(() if node in self._left else (parent for parent, _ in node.next_functions))
        if not found:
            return in_time
        self.in_front[site] = tuple(sorted(found))
        variances = (self._variance[name] for name in self.in_front[site])
        return _OfVariances.apply(in_time, partial(self.between.pull, site), *variances)

    def leave(self, site: str, variance: Tensor, y: Tensor) -> None:
        """Store what leaves a norm, and the whole variance it was divided by, `[channel]`."""
        if y.grad_fn is not None:
            self._variance[site] = variance
            self._left[y.grad_fn] = frozenset({site, *self.in_front.get(site, ())})


class _OfVariances(torch.autograd.Function):
    """A value, and the function that maps a gradient at it to gradients at the variances it depends on."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, pull: Callable[[Tensor], tuple[Tensor, ...]], *variances: Tensor) -> Tensor:
        ctx.pull = pull
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None, *ctx.pull(grads[0])


def variance_in_time(x: Tensor) -> Tensor:
    """Return the variance over time, averaged over everything but channels, `[channel]`."""
    return batch_mean((x - x.mean(0)).square(), but_channels(x))


def variance_of(x: Tensor) -> Tensor:
    """Return the variance over everything but channels, `[channel]`, without a graph."""
    return batch_variance(x.detach(), but_channels(x))[0]


def joint(module: Norm, x: Tensor) -> Tensor:
    """Normalise a whole sequence, without graph and without change of the running statistics."""
    with torch.no_grad():
        if sync_share() is not None:
            return normalise_in_sync(module, x, by_step=False, update=False)
        y = F.batch_norm(x.flatten(0, 1), None, None, module.weight, module.bias, True, 0.0, module.eps)
        return y.unflatten(0, x.shape[:2])


def scaled(module: Norm, x: Tensor, variance: Tensor) -> Tensor:
    """Return the same with a graph of what varies in time: a scaling by its variance, `[channel]`."""
    scale = torch.rsqrt(variance + module.eps)
    scale = scale if module.weight is None else scale * module.weight
    z = x * scale.view(-1, *[1] * (x.dim() - 3))
    return joint(module, x) + (z - z.detach())  # bit for bit, or neurons behind could fire at other steps


def but_channels(x: Tensor) -> list[int]:
    """Return the axes of `[time, batch, channel, ...]` that are not channels."""
    return [0, 1, *range(3, x.dim())]
