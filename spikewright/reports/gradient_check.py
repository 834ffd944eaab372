"""The gradient check: a rule's gradient compared with that of BPTT, and with the rule's claims."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
from spikewright.network.wiring import Wiring
from spikewright.reports._drawing import DrawingModules
from spikewright.rules import BPTT, Rule
from spikewright.rules._base import fresh_copy, random_parts
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
        cosine: Cosine of the angle between the two gradients, in [-1, 1]; `None` if one of them is 0.
        norm_ratio: Norm of the rule's gradient over that of the reference, at least 0; `None` if that is 0.
        relative_error: Norm of the difference over the norm of the reference's gradient, at least 0; infinity if only
            the latter is 0.
        exact: True if the rule claims equality with BPTT for this parameter.
        match: True if there is no claim, or if it holds: within the tolerance of the lowest precision that the network
            computes in (that of autocast, if it is on), or up to the rounding error of the largest gradient.
        is_layer: True if the parameter belongs to a recognised layer; otherwise it gets the ordinary gradient of its
            step.
        vanishing: True if the reference's gradient is 0 or rounding error alone, so that the comparison means little.
    """

    site: str
    cosine: float | None
    norm_ratio: float | None
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
        random: By which modules random numbers are drawn, and for what a rule draws some, in words.  Default: [].
    """

    rule: str
    steps: int
    rows: list[GradientRow]
    reference: str = "BPTT"
    random: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """True if every claim of the rule holds."""
        return all(row.match for row in self.rows)

    @property
    def worst(self) -> GradientRow | None:
        """The row that is farthest off, broken claims first; `None` if no gradient arrives anywhere."""
        seen = [row for row in self.rows if not (row.match and row.vanishing)]
        return max(seen, key=lambda row: (not row.match, _finite_or_worst(row.relative_error)), default=None)

    def table(self) -> str:
        """Return the rows as aligned text, one parameter a line, the number of claims, and the worst row."""
        head = ("parameter", "cosine", "norm ratio", "rel. error", "claim")
        body = [
            (row.site, _number(row.cosine), _number(row.norm_ratio), f"{row.relative_error:.2e}", _claim(row))
            for row in self.rows
        ]
        lines = [f"{self.rule} beside {self.reference}, {self.steps} steps", aligned([head, *body]), self._claims()]
        if self.random:
            lines.append(
                f"random numbers are drawn {', '.join(self.random)}: masks and noise may differ between the two "
                "rules, and rows by them alone"
            )
        worst = self.worst
        if worst is None:
            return "\n".join([*lines, "worst row: none, as no gradient arrives at any parameter"])
        lines.append(
            f"worst row: {worst.site}, relative error {worst.relative_error:.2e}, cosine {_number(worst.cosine)}, norm "
            f"ratio {_number(worst.norm_ratio)} ({_claim(worst).strip('- ()') or 'claims nothing'})"
        )
        return "\n".join(lines)

    def _claims(self) -> str:
        claims = [row for row in self.rows if row.exact]
        if not claims:
            return (
                f"none of {len(self.rows)} rows claims equality with BPTT, so that nothing but distances was measured"
            )
        broken = sum(not row.match for row in claims)
        untested = sum(row.match and row.vanishing for row in claims)
        parts = [f"{len(claims) - broken - untested} match", f"{broken} MISMATCH"]
        parts += [f"{untested} cannot be told, as no gradient arrives"] if untested else []
        silent = f"; {len(self.rows) - len(claims)} claim nothing" if len(claims) < len(self.rows) else ""
        return f"{len(claims)} of {len(self.rows)} rows claim equality with BPTT: {', '.join(parts)}{silent}"


def _finite_or_worst(error: float) -> float:
    return error if math.isfinite(error) else math.inf


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _claim(row: GradientRow) -> str:
    if row.exact and not row.match:
        return "exact, MISMATCH"
    if row.vanishing:
        return "no gradient arrives"
    if row.exact:
        return "exact, match"
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
        loss: Loss of both rules, with its penalty on firing rates if it has one.  Instance of
            `spikewright.losses.Loss`, such as `spikewright.losses.PerStep`.
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
    wiring, (seen, drawing) = net.wiring(x), _one_step(net, x)
    largest = max(_numbers(gradient).norm().item() for gradient in theirs.values())
    rows = []
    for name, parameter in parameters.items():
        a, b = _numbers(ours[name]), _numbers(theirs[name])
        difference, size = (a - b).norm().item(), b.norm().item()
        precision = seen.lowest(parameter.dtype)
        rounding = ROUNDING.get(precision, 1e-2) * largest
        claims = reference is None and rule.exact(name, wiring, len(x))
        exact = claims and _keeps_claim(rule, loss, name, wiring, len(x))
        allowed = max(TOLERANCE.get(precision, 2e-1) * size, rounding)
        row = GradientRow(
            site=name,
            cosine=_cosine(a, b),
            norm_ratio=a.norm().item() / size if size else None,
            relative_error=difference / size if size else (math.inf if difference else 0.0),
            exact=exact,
            match=not exact or difference <= allowed,
            is_layer=bool(wiring.synapse_of(name)),
            vanishing=size <= rounding,
        )
        rows.append(row)
    parts = dict.fromkeys(part for r in (rule, reference or BPTT()) for part in random_parts(r, len(x)))
    random = _named(net, drawing.places | wiring.random) + [f"for {part}" for part in parts]
    return Certificate(repr(rule), len(x), rows, "BPTT" if reference is None else repr(reference), random)


def _keeps_claim(rule: Rule, loss: Loss, parameter: str, wiring: Wiring, steps: int) -> bool:
    """Return True if a penalty on firing rates leaves a claim of equality with BPTT as it is.

    A rule that differentiates step by step takes the gradient of the penalty at running means, which are the rates
    themselves only in sequences of one step.
    """
    whole = loss.penalty is None or rule.traits.credit_through_time or steps == 1
    return whole or not wiring.receivers[parameter]


def _one_step(net: Network, x: Tensor) -> tuple[Precisions, DrawingModules]:
    """Return the dtypes in which a step of the network is computed, and the modules that draw random numbers in it."""
    with untouched(net.module), torch.no_grad(), uncompiled(), Precisions() as seen, DrawingModules(net) as drawing:
        net.run(x[:1])
    return seen, drawing


def _named(net: Network, modules: Iterable[str]) -> list[str]:
    return [f"by '{name}' ({type(net.module.get_submodule(name)).__name__})" for name in sorted(modules)]


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


def _cosine(a: Tensor, b: Tensor) -> float | None:
    """Return the cosine between two gradients, of units that neither overflow nor vanish; `None` if one is 0."""
    one, other = (float(x.abs().max()) if x.numel() else 0.0 for x in (a, b))
    if not one or not other:
        return None
    a, b = a / one, b / other
    return float((a * b).sum() / (a.norm() * b.norm()))
