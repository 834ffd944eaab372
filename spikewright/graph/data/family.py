"""Family: a small knowledge graph made on the spot in which nothing true is missing, for tests and first steps."""

import torch
from torch import Tensor

from spikewright.data.randomness import keyed_generator
from spikewright.errors import InputError
from spikewright.graph.data.dataset import GraphData, GraphSplit


def family(trees: int = 8, generations: int = 4, children: int = 4, seed: int = 0) -> GraphData:
    """Make family trees, and all that follows from them about who is what of whom.

    A tree starts with one couple.  Every couple has 1 to `children` children; those of all but the last generation
    marry someone from outside, of whom no relatives are known.  From parents and marriages follow 17 relations:
    (head, relation, tail) says that the head is the father, ..., the aunt or a cousin of the tail, where uncles and
    aunts are siblings of a parent.  The triples are divided at random, 70 % for training, 10 % for validation and 20 %
    for testing.  The three parts together are complete: any other triple is false.

    Args:
        trees: Number of trees, 1 or more.
        generations: Generations in a tree, 2 or more.
        children: Most children a couple can have, 1 or more.
        seed: Seed of trees and division, 0 or more.

    Raises:
        InputError: A number is too small.

    Reference:
        After the family trees of Yang, Lin & Zhang, Rethinking knowledge graph evaluation under the open-world
        assumption, NeurIPS 2022, which are made by other rules.

    >>> graph = family(trees=2)
    >>> len(graph.test.known) == len(graph.train.queries) + len(graph.valid.queries) + len(graph.test.queries)
    True
    """
    if trees < 1 or generations < 2 or children < 1:
        raise InputError(
            f"family(trees={trees}, generations={generations}, children={children}) was asked for. Kinship takes "
            "parents and children. Raise `trees` and `children` to 1 or more, `generations` to 2 or more."
        )
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
    """Return who is a man, `[people]`, who is a parent of whom and who is married to whom, `[people, people]`."""

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
    """Return who is what of whom, bool `[people, people]` (head, tail), by the names for a man and for a woman."""
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
    """Return who is `one` of someone who is `other` of whom: `_of(sibling, parent)` are the siblings of a parent."""
    return one.float() @ other.float() > 0
