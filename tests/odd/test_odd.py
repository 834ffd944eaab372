"""No claim of a rule is broken on odd networks; `benchmarks/odd_networks.py` draws more of them."""

from collections import Counter
from functools import cache

import pytest

import spikewright as sw
from spikewright import rules, spatial
from spikewright.errors import NetworkError
from spikewright.rules import SLTT
from tests.odd.check import PROMISING, RULES, TOLERANCE, against_reference, check
from tests.odd.constructs import CONSTRUCTS
from tests.odd.draw import Recipe, Sample, build, place, recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*draws random numbers"),
    pytest.mark.filterwarnings("ignore:.*does not see"),
]

NETWORKS = 20
SECOND_TASKS = 8
"""Networks for rules in their second task, which takes learning a first."""


@cache
def sample(number: int) -> Sample:
    return build(recipe(number, steps=1 + number % 3))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.long
def test_claims_hold(name: str) -> None:
    networks = SECOND_TASKS if RULES[name].second_task else NETWORKS
    verdicts = [check(sample(number), name) for number in range(networks)]
    failed = [(str(v.recipe), v.broken or v.crashed or v.marks or v.traced) for v in verdicts if not v.ok]
    assert failed == []
    if name in PROMISING:
        equal = [row for verdict in verdicts for row in verdict.rows if row.equal]
        assert sum(row.claimed for row in equal) >= 0.6 * len(equal) > 0


@pytest.mark.long
def test_bptt_is_the_gradient_of_the_network_run_step_by_step() -> None:
    for number in range(NETWORKS):
        if "counted_rows" in sample(number).recipe.constructs:
            with pytest.raises(NetworkError, match="number or order"):
                against_reference(sample(number), sw.rules.BPTT())
            continue
        errors = against_reference(sample(number), sw.rules.BPTT())
        assert max(errors.values()) <= TOLERANCE, sample(number).recipe


def test_networks_are_alive() -> None:
    samples = [sample(number) for number in range(NETWORKS)]
    assert all(0.05 <= rate <= 0.95 for s in samples for rate in s.rates.values())
    run = [s for s in samples if "counted_rows" not in s.recipe.constructs]
    for one in run:
        against_reference(one, sw.rules.BPTT())  # which fills what is expected
    sizes = [float(g.norm()) for s in run for g in s.expected.values()]
    assert sizes
    assert sum(size > 1e-12 for size in sizes) >= 0.8 * len(sizes)


@pytest.mark.long
def test_every_construct_is_in_one_network_of_ten() -> None:
    found = Counter(name for number in range(300) for name in place(recipe(number))[1])
    assert {name: found[name] for name in CONSTRUCTS if found[name] < 30} == {}


def test_a_recipe_draws_the_same_network_again() -> None:
    first = sample(3)
    again = build(first.recipe)
    assert again.recipe == first.recipe and "Recipe(3" in str(again.recipe)
    assert (again.x == first.x).all() and (again.y == first.y).all()
    for name, value in first.module.state_dict().items():
        assert (again.module.state_dict()[name] == value).all()


def test_every_rule_and_every_way_through_layers_is_checked() -> None:
    made = [entry.make() for entry in RULES.values()]
    inside = [getattr(rule, "rule", rule) for rule in made]
    bases = {"Rule", "OnlineRule", "RateRule", "ContinualRule", "ProjectedRule"}
    exported = {n for n, v in vars(rules).items() if isinstance(v, type) and issubclass(v, rules.Rule)} - bases
    assert exported == {type(rule).__name__ for rule in made + inside}
    ways = {type(rule.spatial).__name__ for rule in inside if hasattr(rule, "spatial")}
    ways |= {type(rule.local).__name__ for rule in inside if getattr(rule, "local", None) is not None}
    assert {n for n, v in vars(spatial).items() if isinstance(v, type)} - {"Spatial"} == ways


def test_a_rule_that_claims_too_much_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SLTT, "exact", lambda self, parameter, wiring, steps: True)
    assert [row.site for row in check(build(Recipe(0, (), False, steps=4)), "SLTT").broken]


def test_neurons_with_another_leak_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sw.LIF, "leak", property(lambda self: 0.45))
    assert check(build(Recipe(0, (), False, steps=4)), "BPTT").broken
