from collections import defaultdict

import pytest
import torch

from spikewright.errors import ConfigError
from spikewright.graph import GraphData, load_graph
from spikewright.graph.data.family import family

SEXES = [
    ("father", "mother"),
    ("son", "daughter"),
    ("husband", "wife"),
    ("brother", "sister"),
    ("grandfather", "grandmother"),
    ("grandson", "granddaughter"),
    ("uncle", "aunt"),
    ("nephew", "niece"),
]


def truths(graph: GraphData) -> dict[str, set[tuple[int, int]]]:
    """Pairs (head, tail) of each relation."""
    found = defaultdict(set)
    for head, relation, tail in graph.test.known.tolist():
        found[graph.relations[relation]].add((head, tail))
    return found


def test_everything_that_follows_from_fathers_and_mothers_is_there_and_nothing_else():
    """The relations by search through each person's parents, from the definitions."""
    graph = family(trees=3, generations=4, children=3, seed=5)
    true = truths(graph)
    people = range(len(graph.test.entities))
    men = {person for man, _ in SEXES for person, _ in true[man]}
    women = {person for _, woman in SEXES for person, _ in true[woman]}
    assert men | women == set(people) and not men & women

    parents = {child: {parent for parent, own in true["father"] | true["mother"] if own == child} for child in people}
    siblings = {one: {two for two in people if two != one and parents[one] & parents[two]} for one in people}
    uncles = {one: {uncle for parent in parents[one] for uncle in siblings[parent]} for one in people}
    expected = {
        "child": {(child, parent) for child in people for parent in parents[child]},
        "sibling": {(one, two) for one in people for two in siblings[one]},
        "grandparent": {(old, one) for one in people for parent in parents[one] for old in parents[parent]},
        "uncle": {(uncle, one) for one in people for uncle in uncles[one]},
    }
    cousins = {(child, one) for one in people for child in people if parents[child] & uncles[one]}

    def both(kin: str) -> set[tuple[int, int]]:
        return next(true[man] | true[woman] for man, woman in SEXES if man == kin)

    assert both("son") == expected["child"]
    assert both("brother") == expected["sibling"]
    assert both("grandfather") == expected["grandparent"]
    assert both("grandson") == {(one, old) for old, one in expected["grandparent"]}
    assert both("uncle") == expected["uncle"]
    assert both("nephew") == {(one, uncle) for uncle, one in expected["uncle"]}
    assert true["cousin"] == cousins != set()
    assert len(graph.relations) == 17 and all(true[name] for name in graph.relations)


def test_couples_are_the_parents_and_those_who_will_have_children():
    true = truths(family(trees=4, generations=3, seed=2))
    assert true["wife"] == {(wife, husband) for husband, wife in true["husband"]}
    fathers, mothers = ({child: parent for parent, child in true[name]} for name in ("father", "mother"))
    assert fathers.keys() == mothers.keys() and len(fathers) == len(true["father"]) == len(true["mother"])
    assert {(fathers[child], mothers[child]) for child in fathers} == true["husband"]


def test_trees_are_apart_and_named():
    graph = family(trees=3, seed=3)
    tree = [name.split(".")[0] for name in graph.test.entities]
    assert set(tree) == {"tree0", "tree1", "tree2"}
    assert all(tree[head] == tree[tail] for head, _, tail in graph.test.known.tolist())


@pytest.mark.parametrize(("generations", "most"), [(2, 4), (3, 10)])
def test_the_size_is_bounded_by_generations_and_children(generations, most):
    sizes = [len(family(1, generations, 2, seed).test.entities) for seed in range(60)]
    assert max(sizes) == most and min(sizes) == {2: 3, 3: 5}[generations]


def test_the_three_parts_share_out_the_truth():
    graph = family()
    parts = [graph.train, graph.valid, graph.test]
    asked = torch.cat([split.queries for split in parts])
    assert sorted(asked.tolist()) == sorted(graph.test.known.tolist()) == sorted(graph.valid.known.tolist())
    assert len(torch.unique(asked, dim=0)) == len(asked)
    assert [round(len(split.queries) / len(asked), 2) for split in parts] == [0.7, 0.1, 0.2]
    assert all(torch.equal(split.facts, graph.train.queries) for split in parts)
    assert torch.equal(graph.train.known, graph.train.facts)


def test_a_family_depends_on_its_seed_and_checks_its_numbers():
    first, again, other = (load_graph("family", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.test.queries, again.test.queries) and first.test.entities == again.test.entities
    assert not torch.equal(first.test.known[:50], other.test.known[:50])
    for wrong in ({"trees": 0}, {"generations": 1}, {"children": 0}):
        with pytest.raises(ConfigError, match=r"there is at least one tree|kinship takes parents and children"):
            family(**wrong)
