"""A small generated knowledge graph without missing facts, for tests and examples."""

import torch
from torch import Tensor

from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_count, check_seed
from spikewright.graph.data.dataset import GraphData, GraphSplit


def family(trees: int = 8, generations: int = 4, children: int = 4, seed: int = 0) -> GraphData:
    """Generate family trees and all kinship facts that follow from them.

    A tree starts with one couple. Every couple has 1 to `children` children; those of all but the last generation marry
    someone without known relatives. Parents and marriages define 17 relations: father, mother, son, daughter, husband,
    wife, brother, sister, grandfather, grandmother, grandson, granddaughter, uncle, aunt (siblings of a parent),
    nephew, niece and cousin. (head, relation, tail) says that the head is the relation of the tail. Triples are divided
    at random, 70 % for training, 10 % for validation and 20 % for testing; together they are complete, so any other
    triple is false.

    Args:
        trees: Number of trees, from 1 to 1000. Default: 8.
        generations: Generations per tree, from 2 to 8. Default: 4.
        children: Largest number of children of a couple, from 1 to 8. Default: 4.
        seed: Seed of trees and division, from 0 to 2**63 - 1. Default: 0.

    Raises:
        ConfigError: A number is out of its range.

    Reference:
        Similar to the family trees of Yang, Lin and Zhang, Rethinking Knowledge Graph Evaluation Under the Open-World
        Assumption, NeurIPS 2022, which follow other rules.

    >>> graph = family(trees=2)
    >>> len(graph.test.known) == len(graph.train.queries) + len(graph.valid.queries) + len(graph.test.queries)
    True
    """
    check_count("family", "trees", trees, "there is at least one tree", most=1000)
    check_count("family", "generations", generations, "kinship takes parents and children", 2, 8)
    check_count("family", "children", children, "kinship takes parents and children", 1, 8)
    check_seed("family", seed)
    generator = keyed_generator(seed)
    entities: list[str] = []
    relations: dict[str, int] = {}
    found = []
    for tree in range(trees):
        men, parent, married = _tree(generations, children, generator)
        for (male, female), kin in _kinships(parent, married).items():
            for name, sex in ((male, men), (female, ~men)):
                relation = relations.setdefault(name, len(relations))
                heads, tails = (kin & sex[:, None]).nonzero().T + len(entities)
                found.append(torch.stack([heads, torch.full_like(heads, relation), tails], 1))
        entities += (f"tree{tree}.person{person}" for person in range(len(men)))
    triples = torch.cat(found)
    triples = triples[torch.randperm(len(triples), generator=generator)]
    tenth = len(triples) // 10
    train, valid, test = triples.split([len(triples) - 3 * tenth, tenth, 2 * tenth])
    names = tuple(entities)
    return GraphData(
        "family",
        tuple(relations),
        train=GraphSplit(train, train, train, names),
        valid=GraphSplit(train, valid, triples, names),
        test=GraphSplit(train, test, triples, names),
    )


def _tree(generations: int, children: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return who is a man, `[people]`, who is a parent of whom and who is married to whom, both `[people, people]`."""

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    men, couples = [True, False], [(0, 1)]
    parents, marriages = [], list(couples)
    for generation in range(1, generations):
        families = [couple for couple in couples for _ in range(1 + draw(children))]
        born = range(len(men), len(men) + len(families))
        parents += [(parent, child) for child, couple in zip(born, families) for parent in couple]
        men += [bool(draw(2)) for _ in born]
        couples = []
        if generation < generations - 1:
            couples = list(zip(born, range(len(men), len(men) + len(born))))
            men += [not men[child] for child in born]
        marriages += couples
    married = _matrix(marriages, len(men))
    return torch.tensor(men), _matrix(parents, len(men)), married | married.T


def _matrix(pairs: list[tuple[int, int]], people: int) -> Tensor:
    matrix = torch.zeros(people, people, dtype=torch.bool)
    matrix[tuple(torch.tensor(pairs).T)] = True
    return matrix


def _kinships(parent: Tensor, married: Tensor) -> dict[tuple[str, str], Tensor]:
    """Return kinship matrices, bool `[people, people]` (head, tail), by the names for a man and for a woman."""
    sibling = _of(parent.T, parent) & ~torch.eye(len(parent), dtype=torch.bool)
    grandparent, uncle = _of(parent, parent), _of(sibling, parent)
    return {
        ("father", "mother"): parent,
        ("son", "daughter"): parent.T,
        ("husband", "wife"): married,
        ("brother", "sister"): sibling,
        ("grandfather", "grandmother"): grandparent,
        ("grandson", "granddaughter"): grandparent.T,
        ("uncle", "aunt"): uncle,
        ("nephew", "niece"): uncle.T,
        ("cousin", "cousin"): _of(parent.T, uncle),
    }


def _of(one: Tensor, other: Tensor) -> Tensor:
    """Return the composition of two relations: `_of(sibling, parent)` relates siblings of a parent to the child."""
    return one.float() @ other.float() > 0
