"""The adjoint equation solved by spikes: a second phase of the network with transposed weights and signed spikes."""

from collections.abc import Sequence
from copy import copy
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright._util.ranges import MOST, check_count, check_flag, check_within
from spikewright._util.share import divided_share, whole_batch
from spikewright.kernels.layout import precision
from spikewright.network.rates import of_samples, sum_of_weights
from spikewright.solvers._base import Adjoint, Report, Solver, gradients, pulled


class Spiking(Solver):
    r"""Ternary neuron pairs integrate errors and pass them on as signed spikes, from the last layer to the first.

    Pair l has the potential :math:`u_l`, threshold :math:`V_b` and reset amount :math:`R_b = 2 V_b`.  At every step

    .. math::
        u_l \mathrel{+}= S g_l + \textstyle\sum_k J_{kl}^\top R_b o_k, \qquad
        o_l = [u_l \ge V_b] - [u_l \le -V_b], \qquad u_l \mathrel{-}= R_b o_l

    where k runs over the layers that l feeds, :math:`J_{kl}` is the derivative of the rate of k by that of l,
    :math:`g_l` is the gradient that the readout sends, and what comes through feedback comes one step late.  The mean
    of :math:`R_b o_l / S` tends to the gradient by the rate of l as 1 / steps, as long as :math:`|S b_l| \le R_b`, with
    :math:`b_l` that gradient.

    Only spikes cross a layer, and every weight gradient is the product of two rates.  If the source of a feedback
    connection is no layer of neurons (a pooling, for example), its own weights learn from the mean of what came back.

    Args:
        steps: Number of steps of the second phase.  From 1 to 10**6.  Default: 100.
        threshold: Threshold :math:`V_b` of the pairs.  > 0.  Default: 0.5.
        loss_scale: Factor of the gradient of each sample; S is this times the number of samples, for a loss that is
            their mean.  Scaled errors below about `threshold / steps` never cause a spike, beyond `2 * threshold`
            they saturate.  The published 100 to 500 at 128 samples are 0.8 to 4.  > 0.  Default: 1.0.
        leaky: If True, pairs have the leak of the neurons they belong to, and means weigh steps by their age as rates
            of these do.  Default: False.
        saturation: Share of saturated pairs in a layer up to which the result counts as converged.  In [0, 1].
            Default: 0.01.

    Raises:
        ConfigError: An argument is out of range.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, SPIDE: A Purely Spike-Based Method for Training Feedback Spiking Neural Networks,
        Neural Networks 2023, arXiv 2302.00232.
    """

    cuts_layers: ClassVar[bool] = True

    def __init__(
        self,
        steps: int = 100,
        threshold: float = 0.5,
        loss_scale: float = 1.0,
        leaky: bool = False,
        saturation: float = 0.01,
    ) -> None:
        check_count("Spiking", "steps", steps, "the second phase has at least one step", most=MOST)
        check_within("Spiking", "threshold", threshold, "(0, inf)", "pairs fire when they reach it")
        check_within("Spiking", "loss_scale", loss_scale, "(0, inf)", "gradients are scaled by it and divided again")
        check_within("Spiking", "saturation", saturation, "[0, 1]", "it is a share of the pairs of a layer")
        check_flag("Spiking", leaky=leaky)
        self.steps, self.threshold, self.loss_scale = steps, threshold, loss_scale
        self.leaky, self.saturation = leaky, saturation

    @property
    def passes(self) -> int:
        return self.steps

    def trial_copy(self) -> "Spiking":
        short = copy(self)
        short.steps = min(self.steps, 2)
        return short

    def loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report]:
        scale, asleep = self.loss_scale * whole_batch(adjoint.samples), 0
        injected = [None if g is None else scale * g for g in _gradients(value, adjoint.leaves)]
        awake = self._awake(injected, adjoint)
        if adjoint.part is not None and 0 < int(awake.sum()) < len(awake):
            asleep = sum(int(torch.count_nonzero(of_samples(g, ~awake))) for g in injected if g is not None)
            adjoint, injected = adjoint.part(awake), [None if g is None else of_samples(g, awake) for g in injected]
        pairs = _TernaryPairs(injected, adjoint, self)
        for _ in range(self.steps):
            pairs.step()
        emitted = [cell.emitted for cell in adjoint.cells]
        means = [mean / scale for mean in pairs.means]
        # A source that is no neuron layer may learn from what came back to it.
        edges = [edge for edge in adjoint.edges if not edge.source.is_leaf]
        ends = [edge.leaf for edge in edges]
        direct = [g for edge, g in zip(adjoint.edges, injected[len(emitted) :]) if not edge.source.is_leaf]
        back = [b if g is None else b + g / scale for b, g in zip(gradients(emitted, ends, means), direct)]
        report = pairs.report(asleep, adjoint.samples / len(awake))
        return pulled(value, [*emitted, *(edge.source for edge in edges)], [*means, *back]), report

    def _awake(self, injected: Sequence[Tensor | None], adjoint: Adjoint) -> Tensor:
        """Return the samples that can cause a spike of any pair, `[batch]`; for the others the result is zero."""
        least = [0.999 * self.threshold / self.steps] * len(adjoint.cells) + [0.0] * len(adjoint.edges)
        given = [(g.abs().reshape(adjoint.samples, -1), bound) for g, bound in zip(injected, least) if g is not None]
        reached = [g.amax(1) > bound for g, bound in given]
        return torch.stack(reached).any(0)


class _TernaryPairs:
    """The second phase of one batch.

    Args:
        injected: Scaled gradient of the loss at every leaf, and at the end of every feedback; `None` is zero.
        adjoint: The network, cut between layers.
        solver: Constants of the pairs.
    """

    def __init__(self, injected: Sequence[Tensor | None], adjoint: Adjoint, solver: Spiking) -> None:
        self._cells, self._edges, self._solver = adjoint.cells, adjoint.edges, solver
        self._leaves = [cell.leaf for cell in adjoint.cells]
        self._ends = [edge.leaf for edge in adjoint.edges]
        self._leaks = [cell.leak if solver.leaky else 1.0 for cell in adjoint.cells]
        self._injected, self._injected_back = injected[: len(self._leaves)], injected[len(self._leaves) :]
        self._sent_back: list[Tensor | None] = [None for _ in self._ends]
        # Many small terms, also in a network of half precision.
        self._u = [torch.zeros_like(leaf, dtype=precision(leaf)) for leaf in self._leaves]
        self._sums = [torch.zeros_like(u) for u in self._u]
        self._active = [0.0 for _ in self._leaves]
        share = divided_share()  # with synchronised batch norm all processes have to go back through a norm, or none
        self._always = share is not None and share.sync_batch_norm and adjoint.coupled

    @property
    def means(self) -> list[Tensor]:
        """Mean of what each pair sent, by layer."""
        steps = self._solver.steps
        return [total / sum_of_weights(leak, steps) for total, leak in zip(self._sums, self._leaks)]

    def step(self) -> None:
        """Let every pair charge and fire once, from the last layer to the first."""
        drives = list(self._injected)
        back = [_plus(sent, injected) for sent, injected in zip(self._sent_back, self._injected_back)]
        self._sent_back = [None for _ in self._ends]
        for edge, arriving in zip(self._edges, back):
            if arriving is not None:
                self._send(edge.source, arriving, drives)
        for i in reversed(range(len(self._cells))):
            drive, u = drives[i], self._u[i]
            if drive is not None:
                u += drive
            spikes = self._fire(u)
            u -= spikes
            if self._solver.leaky:
                self._sums[i].mul_(self._leaks[i])
                u.mul_(self._leaks[i])
            self._sums[i].add_(spikes)
            share = torch.count_nonzero(spikes).item() / spikes.numel()
            self._active[i] += share
            if share or self._always:
                self._send(self._cells[i].emitted, spikes, drives)

    def _fire(self, u: Tensor) -> Tensor:
        """Return plus or minus the reset amount where the potential has reached the threshold of its sign."""
        below = torch.nextafter(u.new_tensor(self._solver.threshold), u.new_zeros(())).item()
        return F.hardshrink(u, below).sign_().mul_(2 * self._solver.threshold)

    def _send(self, output: Tensor, spikes: Tensor, drives: list[Tensor | None]) -> None:
        """Pass spikes at an output on to what it is computed from."""
        for i, leaf in enumerate(self._leaves):
            if leaf is output:  # the source of a feedback is a neuron layer
                drives[i] = _plus(drives[i], spikes)
                return
        for i, part in enumerate(_gradients(output, self._leaves + self._ends, spikes)):
            if i < len(drives):
                drives[i] = _plus(drives[i], part)
            else:
                self._sent_back[i - len(drives)] = _plus(self._sent_back[i - len(drives)], part)

    def report(self, asleep: int, part: float) -> Report:
        """Return the firing rates of the pairs, and whether any are saturated.

        Args:
            asleep: Number of pairs that received something, of samples that were left out.
            part: Share of the samples that were not left out.
        """
        solver, sites = self._solver, [cell.site for cell in self._cells]
        # A pair that is given no more than it can send keeps less than its threshold.
        shares = [part * _fraction(u.abs() > solver.threshold) for u in self._u]
        shares += [part * active / solver.steps for active in self._active]
        driven = sum(int(torch.count_nonzero(u.abs() + total.abs())) for u, total in zip(self._u, self._sums))
        silent = sum(int(torch.count_nonzero((total == 0) & (u != 0))) for u, total in zip(self._u, self._sums))
        shares, (silent, driven) = _over_batch(shares, [silent + asleep, driven + asleep])
        over, rates = dict(zip(sites, shares)), dict(zip(sites, shares[len(sites) :]))
        worst = max(over, key=lambda site: over[site], default="")
        converged = not worst or over[worst] <= solver.saturation
        reason = ""
        if not converged:
            reason = (
                f"{over[worst]:.1%} of the pairs at '{worst}' are saturated: they are driven by more than the "
                f"{2 * solver.threshold:g} they can send per step, so the gradient is clipped there. Lower loss_scale "
                f"({solver.loss_scale:g}), or restrict the feedback if it does not contract."
            )
        saturated = over.get(worst, 0.0)
        return Report(solver.steps, float("nan"), converged, reason, saturated, silent / max(1, driven), rates)


def _over_batch(shares: list[float], counts: list[int]) -> tuple[list[float], list[float]]:
    """Return shares and counts of pairs over the samples of all processes that share the batch."""
    share = divided_share()
    if share is None:
        return shares, list(map(float, counts))
    own = torch.tensor([*(share.weight * value for value in shares), *counts], dtype=torch.float64)
    found = share.sum(own).tolist()
    return found[: len(shares)], found[len(shares) :]


def _gradients(output: Tensor, inputs: Sequence[Tensor], given: Tensor | None = None) -> Sequence[Tensor | None]:
    """Return the gradients at inputs, in 32 bits or more; `None` where the output does not depend on them."""
    if not output.requires_grad:
        return [None for _ in inputs]
    found = torch.autograd.grad([output], list(inputs), [given], retain_graph=True, allow_unused=True)
    return [None if g is None else g.to(precision(g)) for g in found]


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _fraction(mask: Tensor) -> float:
    return float(mask.double().mean())
