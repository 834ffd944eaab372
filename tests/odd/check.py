"""The check: what a rule claims of a drawn network, beside what is true there."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import SpikewrightError
from spikewright.losses import Loss
from spikewright.rules import BPTT, DSR, EWC, GPM, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, EProp, LwF, Naive, Replay, Rule
from spikewright.spatial import DFA, DKP, FA, ZO, Local, SignSymmetric
from spikewright.spatial import OPZO as Learned
from tests.odd import reference
from tests.odd.constructs import RANDOM, SHARING, OnMaps
from tests.odd.draw import Recipe, Sample, build
from tests.odd.module import CLASSES

TOLERANCE = 1e-9
"""Relative error up to which a gradient counts as that of BPTT, in double precision."""


@dataclass(frozen=True)
class Entry:
    """A rule to check.

    Attributes:
        make: Builds it.
        of_rates: It learns from mean outputs.
        second_task: It is checked in its second task.
    """

    make: Callable[..., Rule]
    of_rates: bool = False
    second_task: bool = False

    @property
    def loss(self) -> Loss:
        return (sw.losses.OnRate if self.of_rates else sw.losses.PerStep)(F.cross_entropy)


RULES = {
    "BPTT": Entry(BPTT),
    "BPTT(chunk=2)": Entry(partial(BPTT, chunk=2)),
    "BPTT(checkpoint)": Entry(partial(BPTT, checkpoint=True)),
    "SLTT": Entry(SLTT),
    "SLTT(k=1)": Entry(partial(SLTT, k=1)),
    "OTTT": Entry(OTTT),
    "EProp": Entry(EProp),
    "OTTT(online)": Entry(partial(OTTT, online=True)),
    "OTTT(reference)": Entry(partial(OTTT, reference=True)),
    "OTTT(trace_input=False)": Entry(partial(OTTT, trace_input=False)),
    "OTTT(trace_bias=False)": Entry(partial(OTTT, trace_bias=False)),
    "OTTT(leak=0.5)": Entry(partial(OTTT, leak=0.5)),
    "OPZO": Entry(OPZO),
    "OTTT+SignSymmetric": Entry(lambda **given: OTTT(spatial=SignSymmetric(), **given)),
    "OTTT+FA": Entry(lambda **given: OTTT(spatial=FA(), **given)),
    "SLTT+FA": Entry(lambda **given: SLTT(spatial=FA(), **given)),
    "OTTT+DFA": Entry(lambda **given: OTTT(spatial=DFA(), **given)),
    "SLTT+DFA": Entry(lambda **given: SLTT(spatial=DFA(), **given)),
    "OTTT+DKP": Entry(lambda **given: OTTT(spatial=DKP(), **given)),
    "OTTT+ZO": Entry(lambda **given: OTTT(spatial=ZO(), **given)),
    "SLTT+OPZO": Entry(lambda **given: SLTT(spatial=Learned(), **given)),
    "SLTT+Local": Entry(lambda **given: SLTT(local=Local(), **given)),
    "OTTT+Local": Entry(lambda **given: OTTT(local=Local(), **given)),
    "DSR": Entry(DSR, of_rates=True),
    "IDE": Entry(IDE, of_rates=True),
    "SPIDE": Entry(partial(SPIDE, steps=20), of_rates=True),
    "Naive of SLTT": Entry(lambda **given: Naive(SLTT(**given))),
    "HLOP of BPTT": Entry(lambda **given: HLOP(BPTT(**given), rows=2)),
    "HLOP of OTTT": Entry(lambda **given: HLOP(OTTT(**given), rows=2)),
    "GPM of OTTT": Entry(lambda **given: GPM(OTTT(**given))),
    "GPM of DSR": Entry(lambda **given: GPM(DSR(**given)), of_rates=True),
    "EWC of OTTT": Entry(lambda **given: EWC(OTTT(**given))),
    "LwF of OTTT": Entry(lambda **given: LwF(OTTT(**given))),
    "Replay of OTTT": Entry(lambda **given: Replay(OTTT(**given))),
    "HLOP of BPTT, task 2": Entry(lambda **given: HLOP(BPTT(**given), rows=2), second_task=True),
    "HLOP of OTTT, task 2": Entry(lambda **given: HLOP(OTTT(**given), rows=2, free=("readout",)), second_task=True),
    "GPM of OTTT, task 2": Entry(lambda **given: GPM(OTTT(**given)), second_task=True),
    "EWC of OTTT, task 2": Entry(lambda **given: EWC(OTTT(**given)), second_task=True),
    "LwF of OTTT, task 2": Entry(lambda **given: LwF(OTTT(**given)), second_task=True),
    "Replay of OTTT, task 2": Entry(lambda **given: Replay(OTTT(**given)), second_task=True),
    "Naive of OTTT, task 2": Entry(lambda **given: Naive(OTTT(**given)), second_task=True),
}
"""Every rule that is exported, with every way through layers."""
PROMISING = ("BPTT", "SLTT", "OTTT")
"""The rules of whose equal rows most have to be claimed."""


@dataclass(frozen=True)
class Row:
    """A parameter: what is claimed of its gradient, and what is true of it.

    Attributes:
        site: Name of the parameter.
        claimed: The rule promises the gradient of BPTT.
        error: Relative error against it.
        silent: BPTT's gradient is zero, or nothing but rounding.
        broken: The promise does not hold.
    """

    site: str
    claimed: bool
    error: float
    silent: bool
    broken: bool

    @property
    def equal(self) -> bool:
        return not self.silent and self.error <= TOLERANCE


@dataclass
class Verdict:
    """What came of a rule on a network.

    Attributes:
        rows: One per parameter; none where the rule did not learn.
        refused: The message of a refusal.
        crashed: Any other error.
        marks: What the gradient check left behind.
        traced: Parameters whose gradient is taken at a trace, although the rule says that it is not.
    """

    rule: str
    recipe: Recipe
    rows: list[Row] = field(default_factory=list)
    refused: str = ""
    crashed: str = ""
    marks: list[str] = field(default_factory=list)
    traced: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[Row]:
        return [row for row in self.rows if row.broken]

    @property
    def ok(self) -> bool:
        return not any(self.failures)

    @property
    def failures(self) -> tuple[bool, ...]:
        """Which kinds of failure there are: a broken promise, a crash, a mark, a trace."""
        return tuple(map(bool, (self.broken, self.crashed, self.marks, self.traced)))


def check(sample: Sample, name: str) -> Verdict:
    """Let a rule learn in a drawn network, and compare what it claims with BPTT."""
    verdict = Verdict(name, sample.recipe)
    entry = RULES[name]
    torch.default_generator.manual_seed(sample.recipe.seed)
    try:
        rule = entry.make()
        if entry.second_task:
            net = sw.Network(deepcopy(sample.module))
            y = _to_second_task(net, rule, sample, entry.loss)
        else:
            net, y = sample.net, sample.y
        before = _marks_of(net)
        certificate = sw.certify(net, rule, sample.x, y, entry.loss)
        errors = {row.site: row.relative_error for row in certificate.rows}
        if RANDOM & set(sample.recipe.constructs):  # the same numbers on both sides, however they are drawn in chunks
            again = sw.certify(net, rule, sample.x, y, entry.loss, reference=_as_cut(rule))
            errors = {row.site: row.relative_error for row in again.rows}
        untraced = _untraced(sample, name)
        if untraced:  # then the gradient is that of the step, as SLTT takes it
            beside = sw.certify(net, rule, sample.x, y, entry.loss, reference=SLTT())
            rows = [row for row in beside.rows if row.site in untraced and not row.vanishing]
            verdict.traced = [row.site for row in rows if not row.relative_error <= TOLERANCE]
        verdict.marks = [what for what, value in _marks_of(net).items() if not torch.equal(value, before[what])]
    except SpikewrightError as error:
        verdict.refused = f"{type(error).__name__}: {error}"
        return verdict
    except Exception as error:
        verdict.crashed = f"{type(error).__name__}: {error}"
        return verdict
    if isinstance(rule, BPTT):
        errors = against_reference(sample, rule)
    for row in certificate.rows:
        error = errors[row.site]
        off = row.exact and (not row.match if row.vanishing else not error <= TOLERANCE)
        verdict.rows.append(Row(row.site, row.exact, error, row.vanishing, off))
    return verdict


def against_reference(sample: Sample, rule: Rule) -> dict[str, float]:
    """Return the relative error of a rule against BPTT that is written apart, by parameter."""
    module = deepcopy(sample.module)
    if RANDOM & set(sample.recipe.constructs):
        rule = BPTT(chunk=1)  # which draws as the reference does
    torch.default_generator.manual_seed(sample.recipe.seed)
    for _ in rule.updates(sw.Network(module), sample.x, sample.y, sw.losses.PerStep(F.cross_entropy)):
        pass
    if not sample.expected:
        torch.default_generator.manual_seed(sample.recipe.seed)
        sample.expected = reference.gradients(sample.module, sample.x, sample.y, F.cross_entropy)
    expected = sample.expected
    largest = max(float(gradient.norm()) for gradient in expected.values())
    errors = {}
    for name, gradient in expected.items():
        found = module.get_parameter(name).grad
        difference = float((gradient if found is None else gradient - found).norm())
        size = float(gradient.norm())
        nothing = difference <= 1e-13 * largest
        errors[name] = 0.0 if nothing else difference / size if size else math.inf
    return errors


def shrunk(verdict: Verdict, known: Iterable[Recipe] = ()) -> Recipe:
    """Return the recipe of a failure without the constructs that it does not need.

    Args:
        verdict: The failure.
        known: What other failures of the same network needed; tried first.
    """

    def fails(recipe: Recipe) -> bool:
        return check(build(recipe), verdict.rule).failures == verdict.failures

    for recipe in known:
        if fails(recipe):
            return recipe
    found = verdict.recipe
    for name in found.constructs:
        if fails(found.without(name)):
            found = found.without(name)
    return found


def _untraced(sample: Sample, name: str) -> set[str]:
    """Return the parameters that a rule says it keeps no trace for, where that is not plain to see in the graph."""
    net, found = sample.module, set()
    odd = {"embedding", "trained_scale_of_integers", "feedback_of_readout"}
    if name not in ("OTTT", "OTTT(trace_input=False)", "OTTT(reference)") or not odd & set(sample.recipe.constructs):
        return found
    if name != "OTTT(reference)":
        found |= {f"readout.{parameter}" for parameter, _ in net.readout.named_parameters()}
    first = net.order[0]
    layer = net.layers[first]
    alone = net.order.count(first) == 1 and not {"two_routes", *SHARING} & set(sample.recipe.constructs)
    if name != "OTTT" and alone and isinstance(layer, torch.nn.Linear | OnMaps):
        found |= {f"layers.{first}.{parameter}" for parameter, _ in layer.named_parameters()}
    return found


def _as_cut(rule: Rule) -> Rule:
    """Return BPTT that runs as many steps at once as a rule does."""
    return BPTT(chunk=rule.chunk if isinstance(rule.chunk, int) else None)


def _to_second_task(net: sw.Network, rule: Rule, sample: Sample, loss: Loss) -> Tensor:
    """Learn a first task, begin a second, and return the targets of that; weights move in both."""
    for _ in rule.updates(net, sample.x, sample.y, loss):
        pass
    _move(net)
    rule.next_task(net, sample.x, sample.y, loss)  # type: ignore[operator]
    rule.freeze(net)  # type: ignore[operator]
    _move(net)
    return (sample.y + 1) % CLASSES


@torch.no_grad()
def _move(net: sw.Network) -> None:
    net.zero_grad()
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter += 0.02 * torch.randn_like(parameter)


def _marks_of(net: sw.Network) -> dict[str, Tensor]:
    """Return what a gradient check must not change, by name."""
    marks = {name: value.clone() for name, value in net.module.state_dict().items()}
    graded = [p.grad is not None for p in net.module.parameters()]
    return {**marks, "gradients": torch.tensor(graded), "random state": torch.get_rng_state()}
