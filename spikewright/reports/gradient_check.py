"""The gradient check: a rule's gradient compared with that of BPTT, and with the rule's claims."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.ranges import check_instance
from spikewright._util.real_numbers import as_real
from spikewright._util.text import aligned
from spikewright._util.trial import untouched
from spikewright._util.uncompiled import uncompiled
from spikewright.errors import InputError
from spikewright.losses import Loss
from spikewright.metrics.precision import Precisions
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.rules import BPTT, Rule
from spikewright.rules._base import fresh_copy
from spikewright.rules._check import check_loss, check_network
from spikewright.rules._fitted import fitted

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""Relative error up to which two gradients count as equal, by the lowest precision of the computation."""
ROUNDING = {torch.float64: 2.2e-14, torch.float32: 1.2e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Norm of a gradient that is rounding error alone, relative to the largest gradient, by the same precision."""


@dataclass(frozen=True)
class GradientRow:
    """Gradient of one parameter compared with that of BPTT (or of another reference rule).

    Attributes:
        site: Name of the parameter.
        cosine: Cosine of the angle between the two gradients, in [-1, 1].
        norm_ratio: Norm of the rule's gradient over that of the reference.
        relative_error: Norm of the difference over the norm of the reference's gradient.
        exact: True if the rule claims equality with BPTT for this parameter.
        match: True if there is no claim, or if it holds: within the tolerance of the lowest precision that the network
            computes in (that of autocast, if it is on), or up to the rounding error of the largest gradient.
        is_layer: True if the parameter belongs to a recognised layer; otherwise it gets the ordinary gradient of its
            step.
        vanishing: True if the reference's gradient is 0 or rounding error alone, so that the comparison means little.
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
    """The result of a gradient check, as `certify` returns it, with one row per parameter.

    Attributes:
        rule: The rule, as text.
        steps: Number of time steps, at least 1.
        rows: One `GradientRow` per trained parameter.
        reference: The rule that it is compared with, as text.  Default: "BPTT".
    """

    rule: str
    steps: int
    rows: list[GradientRow]
    reference: str = "BPTT"

    @property
    def ok(self) -> bool:
        """True if every claim of the rule holds."""
        return all(row.match for row in self.rows)

    def table(self) -> str:
        """Return the rows as aligned text, one parameter a line."""
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


def certify(
    net: Network,
    rule: Rule,
    x: Input,
    y: Input,
    loss: Loss,
    reference: Rule | None = None,
    *,
    lengths: Tensor | None = None,
    batch_first: bool = False,
) -> Certificate:
    """Check the gradients of a rule against those of BPTT, at the present weights.

    Both gradients are taken with the same random numbers.  Rules that update during the sequence are compared at fixed
    weights, their gradients summed.  Network, rule, gradients and random states are as before when it returns.

    Args:
        net: Network, with at least one trained parameter.
        rule: Learning rule to check.  Instance of `spikewright.rules.Rule`.
        x: Input.  Tensor `[time, batch, *feature]`, or several in a tuple, list or dictionary.
        y: Targets.  Tensor `[batch, ...]`, as the criterion of `loss` takes them, or several.
        loss: Loss of both rules.  Instance of `spikewright.losses.PerStep` or `spikewright.losses.OnRate`.
        reference: Rule to compare with instead of BPTT; no claims are checked then.  Default: None, BPTT.
        lengths: Own number of steps of every sample of a padded batch, int64 `[batch]`, from 1 to the number of steps.
            Default: None, all steps belong to the sequences.
        batch_first: True if `x` and a timed `y` are `[batch, time, ...]`.  Default: False.

    Returns:
        A `Certificate` with one row per trained parameter.  `Certificate.ok` is True if all claims of the rule hold.

    Raises:
        ConfigError: `net` is not a `Network`, `rule` or `reference` is not a `Rule`, the loss was not wrapped, or
            `batch_first` is not a bool.
        ShapeError: `x`, `y` or `lengths` has another layout than the network, the loss or the rule needs.
        InputError: `x` holds a NaN or an infinity, a label or a length is out of range, or no parameter requires a
            gradient.
        IncompatibleRule: The rule does not work with this network or loss.
        NetworkError: The network cannot be run over time.

    >>> import torch, spikewright as sw
    >>> _ = torch.manual_seed(0)
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 2)))
    >>> x, y = 3 * torch.rand(6, 5, 4), torch.tensor([0, 1, 0, 1, 1])
    >>> check = sw.certify(net, sw.rules.OTTT(), x, y, sw.losses.PerStep(torch.nn.CrossEntropyLoss()))
    >>> check.ok, [row.exact for row in check.rows]
    (True, [True, True, True, True])
    """
    check_network("certify", net)
    check_instance("certify", "rule", rule, Rule, "sw.rules.OTTT()")
    if reference is not None:
        check_instance("certify", "reference", reference, Rule, "sw.rules.BPTT()")
    check_loss("certify", loss)
    net, x = net.given(x, batch_first)
    loss, y = fitted(loss, y, net.wiring(x).outputs, batch_first)
    parameters = {name: p for name, p in net.module.named_parameters() if p.requires_grad}
    if not parameters:
        raise InputError("certify compares gradients, but no parameter of the network requires one. Unfreeze some.")
    ours, theirs = (_gradients(net, r, x, y, loss, lengths, parameters) for r in (rule, reference or BPTT()))
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
    """Return the dtypes in which a step of the network is computed."""
    with untouched(net.module), torch.no_grad(), uncompiled(), Precisions() as seen:
        net.run(x[:1])
    return seen


def _gradients(
    net: Network,
    rule: Rule,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    lengths: Tensor | None,
    parameters: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    given: dict[str, Any] = (
        {} if lengths is None else {"lengths": lengths}
    )  # which rules with `updates` of their own may not know
    with untouched(net.module):
        learner = fresh_copy(rule, net, x)
    with untouched(net.module):  # again, so that all rules draw the same numbers, whatever was drawn to prepare them
        for _ in learner.updates(net, x.detach(), y, loss, **given):
            pass
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in parameters.items()}


def _numbers(gradient: Tensor) -> Tensor:
    """Return the real numbers of a gradient, in double precision."""
    return as_real(gradient).double()


def _ratio(a: float, b: float, nothing: float = 0.0) -> float:
    """Return a / b; `nothing` for 0 / 0 and infinity for anything else over 0."""
    if b == 0:
        return nothing if a == 0 else math.inf
    return a / b
