"""Every exported rule and neuron is in the catalogue, and is what the kit asks for."""

import inspect

import pytest

from spikewright import neurons, rules
from spikewright.neurons import Neuron
from spikewright.rules import Rule
from spikewright.testing import NETS, assert_neuron, assert_rule
from tests.catalogue import FURTHER_NEURONS, NEURONS, RULES, Entry

CELLS = {**{name: cell.make for name, cell in NEURONS.items()}, **FURTHER_NEURONS}
OTHERS = [name for name in NETS if name != "mlp"]


def concrete(exported: dict[str, object], base: type) -> set[type]:
    classes = {value for value in exported.values() if isinstance(value, type) and issubclass(value, base)}
    return {kind for kind in classes if not inspect.isabstract(kind)} - {Neuron, rules.OnlineRule}


def test_every_exported_rule_is_in_the_catalogue() -> None:
    assert concrete(vars(rules), Rule) - {type(entry.make()) for entry in RULES} == set()


def test_every_exported_neuron_is_in_the_catalogue() -> None:
    assert concrete(vars(neurons), Neuron) - {type(make()) for make in CELLS.values()} == set()


def test_what_is_refused_is_a_network() -> None:
    assert {name for entry in RULES for name in entry.refuses} <= NETS.keys()


@pytest.mark.parametrize("index", range(len(RULES)), ids=list(map(str, RULES)))
@pytest.mark.long
def test_every_rule(index: int) -> None:
    """On one network of which all is asked, and on another in turn."""
    entry: Entry = RULES[index]
    nets = ("mlp",) if index % 5 else ("mlp", OTHERS[index // 5 % len(OTHERS)])
    assert_rule(entry.make, nets=nets, refuses=entry.refuses, resumes=entry.resumes, noisy=entry.noisy)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.long
def test_every_neuron(name: str) -> None:
    assert_neuron(CELLS[name])
