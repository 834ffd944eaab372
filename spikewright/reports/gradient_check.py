"""The gradient check: is this the gradient the rule claims to be, and how far is it from BPTT."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.real_numbers import as_real
from spikewright._util.text import aligned
from spikewright._util.trial import untouched
from spikewright._util.uncompiled import uncompiled
from spikewright.errors import InputError
from spikewright.losses import Loss
from spikewright.metrics.precision import Precisions
from spikewright.network import Network
from spikewright.rules import BPTT, Rule
from spikewright.rules._base import fresh_copy

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""Relative error up to which a gradient counts as equal to BPTT, by the lowest precision on the way to it."""
ROUNDING = {torch.float64: 2.2e-14, torch.float32: 1.2e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Norm of a gradient that is nothing but rounding, relative to that of the largest, likewise."""


@dataclass(frozen=True)
class GradientRow:
    """How one parameter's gradient compares with that of BPTT.

    Attributes:
        site: Name of the parameter.
        cosine: Of the angle between the two; 1 is the same direction.
        norm_ratio: Norm of the rule's gradient over BPTT's.
        relative_error: Norm of the difference over the norm of BPTT's.
        exact: True if the rule claims equality with BPTT here.
        match: True if the claim, if any, holds within the tolerance of the lowest precision that the network computes
            in (under autocast, that of its products), or up to the rounding of the largest gradient.
        is_layer: True if the parameter belongs to a recognised layer; otherwise it gets the ordinary gradient of its
            step.
        vanishing: True if BPTT's gradient is zero, or nothing but rounding, so that the comparison means little.
    """

    site: str
    cosine: float
    norm_ratio: float
    relative_error: float
    exact: bool
    match: bool
    is_layer: bool
    vanishing: bool


@dataclass(frozen=True)
class Certificate:
    """The gradient of a rule beside that of another, BPTT if nothing else is said, parameter by parameter."""

    rule: str
    steps: int
    rows: list[GradientRow]
    reference: str = "BPTT"

    @property
    def ok(self) -> bool:
        """Whether every claimed equality holds."""
        return all(row.match for row in self.rows)

    def table(self) -> str:
        """Return the rows as aligned text."""
        head = ("parameter", "cosine", "norm ratio", "rel. error", "claim")
        body = [
            (row.site, f"{row.cosine:.4f}", f"{row.norm_ratio:.4f}", f"{row.relative_error:.2e}", _claim(row))
            for row in self.rows
        ]
        return f"{self.rule} beside {self.reference}, {self.steps} steps\n" + aligned([head, *body])


def _claim(row: GradientRow) -> str:
    if row.vanishing:
        return "no gradient arrives"
    if row.exact:
        return "exact, match" if row.match else "exact, MISMATCH"
    return "-" if row.is_layer else "- (not a layer)"


def certify(net: Network, rule: Rule, x: Tensor, y: Tensor, loss: Loss, reference: Rule | None = None) -> Certificate:
    """Compare a rule's gradient with BPTT's, at the present weights.

    Nothing that the network, the rule or the random generators hold has changed when it returns, and both gradients are
    taken with the same random numbers.  Rules that update during the sequence are compared at fixed weights, their
    gradients summed.

    Args:
        net: The network.
        rule: The rule.
        x: `[time, batch, *feature]`.
        y: Target, `[batch, ...]`.
        loss: The loss, the same for both.
        reference: Compare with this rule instead, to which no equality is promised.

    Returns:
        One row per parameter.  `exact` rows are promises; `Certificate.ok` says whether all of them hold.

    Raises:
        ShapeError: See `Network.check`.
        InputError: See there.
        IncompatibleRule: See there.
    """
    check_tensor("x", x, "[time, batch, *feature]")
    parameters = {name: p for name, p in net.module.named_parameters() if p.requires_grad}
    if not parameters:
        raise InputError("certify compares gradients, but no parameter of the network requires one. Unfreeze some.")
    ours, theirs = (_gradients(net, r, x, y, loss, parameters) for r in (rule, reference or BPTT()))
    wiring, seen = net.wiring(x), _precisions(net, x)
    largest = max(_numbers(gradient).norm().item() for gradient in theirs.values())
    rows = []
    for name, parameter in parameters.items():
        a, b = _numbers(ours[name]), _numbers(theirs[name])
        difference, size = (a - b).norm().item(), b.norm().item()
        precision = seen.lowest(parameter.dtype)
        rounding = ROUNDING.get(precision, 1e-2) * largest
        exact = reference is None and rule.exact(name, wiring, len(x))
        allowed = max(TOLERANCE.get(precision, 2e-1) * size, rounding)
        row = GradientRow(
            site=name,
            cosine=_ratio((a * b).sum().item(), a.norm().item() * size, nothing=1.0),
            norm_ratio=_ratio(a.norm().item(), size, nothing=1.0),
            relative_error=_ratio(difference, size),
            exact=exact,
            match=not exact or difference <= allowed,
            is_layer=bool(wiring.synapse_of(name)),
            vanishing=size <= rounding,
        )
        rows.append(row)
    return Certificate(repr(rule), len(x), rows, "BPTT" if reference is None else repr(reference))


def _precisions(net: Network, x: Tensor) -> Precisions:
    """Return the precisions that a step of a network computes in."""
    with untouched(net.module), torch.no_grad(), uncompiled(), Precisions() as seen:
        net.run(x[:1])
    return seen


def _gradients(
    net: Network, rule: Rule, x: Tensor, y: Tensor, loss: Loss, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    with untouched(net.module):
        learner = fresh_copy(rule, net, x)
    with untouched(net.module):  # once more: all rules draw the same numbers, whatever was drawn to make them ready
        for _ in learner.updates(net, x.detach(), y, loss):
            pass
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in parameters.items()}


def _numbers(gradient: Tensor) -> Tensor:
    """Return the real numbers that a gradient is made of, in double precision."""
    return as_real(gradient).double()


def _ratio(a: float, b: float, nothing: float = 0.0) -> float:
    """Return a / b; `nothing` for 0 / 0 and infinity for anything else over 0."""
    if b == 0:
        return nothing if a == 0 else math.inf
    return a / b
