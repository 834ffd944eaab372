"""Every rule with every loss: accepted or refused, as `docs/training.md` says, and learned as stated."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.losses import FirstSpike, LastStep, Loss, MaxOverTime, OnRate, PerStep, SpikeCount
from spikewright.network import Network
from spikewright.neurons import IF
from spikewright.rules import BPTT, DSR, IDE, OPZO, OTTT, SLTT, SPIDE, Rule
from tests.catalogue import RULES, Entry

STEPS, CLASSES = 5, 3
X = 2 * torch.rand(STEPS, 4, 6, generator=torch.Generator().manual_seed(0)).double()
Y = torch.tensor([2, 0, 1, 0])
LOSSES: list[type[Loss]] = [PerStep, LastStep, OnRate, SpikeCount, MaxOverTime, FirstSpike]
WHOLE, STEPWISE, RATES = (
    {PerStep, LastStep, OnRate, SpikeCount, MaxOverTime, FirstSpike},
    {PerStep, LastStep},
    {OnRate, SpikeCount},
)
"""What rules take that see the whole sequence, learn step by step, or learn from rates."""
every_loss = pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)
every_rule = pytest.mark.parametrize("entry", RULES, ids=str)


def net() -> Network:
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), IF(), nn.Linear(8, 7), IF(), nn.Linear(7, CLASSES), IF()
    made = Network(nn.Sequential(*layers).double())
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.1, 0.5)
    return made


def learned(rule: Rule, loss: Loss, y: Tensor = Y) -> dict[str, Tensor]:
    torch.manual_seed(1)
    made = net()
    list(rule.updates(made, X, y, loss))
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in made.module.named_parameters()}


def taken(entry: Entry) -> set[Any]:
    """What a rule of the catalogue has to take, by how it learns."""
    if entry.rates:
        return RATES
    inner = entry.make()
    while hasattr(inner, "rule"):
        inner = inner.rule  # type: ignore[assignment]
    return WHOLE if isinstance(inner, BPTT) else STEPWISE


@every_loss
@every_rule
def test_what_is_taken_and_what_is_refused(entry: Entry, kind: type[Loss]) -> None:
    if kind in taken(entry):
        found = learned(entry.make(), kind(F.cross_entropy))  # type: ignore[call-arg]
        assert found["4.weight"].isfinite().all() and found["4.weight"].any()
        return
    why = kind.reads if entry.rates else f"which reads {re.escape(kind.reads)}, known only after all {STEPS} steps"
    use = r"Use OnRate\(cross_entropy\)" if entry.rates else r"Use PerStep\(cross_entropy\), LastStep, .*BPTT"
    with pytest.raises(IncompatibleRule, match=rf"{kind.__name__}\(cross_entropy\).*{why}.*{use}"):
        learned(entry.make(), kind(F.cross_entropy))  # type: ignore[call-arg]


@every_rule
def test_the_last_step_is_a_per_timestep_loss_whose_other_terms_are_zero(entry: Entry) -> None:
    if entry.rates or not entry.make().takes_timed:
        return

    def last(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y) * STEPS if bool((y >= 0).all()) else output.sum() * 0

    timed = torch.full((STEPS, len(Y)), -1)
    timed[-1] = Y
    found, expected = (
        learned(entry.make(), LastStep(F.cross_entropy)),
        learned(entry.make(), PerStep(last, True), timed),
    )
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12)
    assert expected["4.weight"].any()


@every_rule
def test_a_count_is_the_mean_output_times_the_number_of_steps(entry: Entry) -> None:
    if SpikeCount not in taken(entry):
        return
    found = learned(entry.make(), SpikeCount(F.cross_entropy))
    expected = learned(entry.make(), OnRate(lambda o, y: F.cross_entropy(STEPS * o, y)))
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12)


class Undeclared(Loss):
    """A loss of a user, of the mean output, that does not say so."""

    per_step = False

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self.criterion(output.mean(0), y)


class Declared(Undeclared):
    """The same, which says so."""

    of_mean = True


def test_a_loss_of_a_user_says_that_it_reads_the_mean_output() -> None:
    with pytest.raises(IncompatibleRule, match=r"Undeclared.* needs the outputs of the whole.* of_mean = True"):
        learned(DSR(), Undeclared(F.cross_entropy))
    found, expected = learned(DSR(), Declared(F.cross_entropy)), learned(DSR(), OnRate(F.cross_entropy))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_table_of_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    kinds = {kind.__name__: kind for kind in LOSSES}
    rows = re.findall(r"^\| `(\w+)\([^|]*\|[^|]*\| (yes|no) \| (yes|no) \| (yes|no) \|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == list(kinds)
    for name, *columns in rows:
        assert [column == "yes" for column in columns] == [kinds[name] in group for group in (WHOLE, STEPWISE, RATES)]
    head = next(line for line in page.splitlines() if line.startswith("| loss |"))
    for rules, column in zip(([BPTT], [SLTT, OTTT, OPZO], [DSR, IDE, SPIDE]), head.split("|")[3:6], strict=True):
        assert [rule.__name__ for rule in rules] == re.findall(r"`(\w+)`", column)
