"""What a graph data set is: facts to reason from, queries, and what is known to be true, in three parts."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikewright.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class GraphSplit:
    """Facts to reason from, queries, and everything known to be true.

    A triple is a row (head, relation, tail) of numbers.  Facts are listed in one direction only.

    Args:
        facts: int64 `[any, 3]`: messages travel along these.
        queries: int64 `[any, 3]`: each triple is asked for its tail and for its head.
        known: int64 `[any, 3]`: true triples, which the filtered setting takes out of the ranking.
        entities: Name of each entity; heads and tails are indices of it.

    Raises:
        ShapeError: A tensor has another layout or type.
        InputError: A head or a tail is no entity.
    """

    facts: Tensor
    queries: Tensor
    known: Tensor
    entities: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        for part in ("facts", "queries", "known"):
            triples: Tensor = getattr(self, part)
            if triples.dtype != torch.int64 or triples.dim() != 2 or triples.shape[1] != 3:
                raise ShapeError(
                    f"GraphSplit got {part} {triples.dtype} {list(triples.shape)}. Triples are numbers (head, "
                    "relation, tail) in an int64 tensor [any, 3]. Stack them in that order, or convert them with "
                    ".to(torch.int64)."
                )
            _check_range(f"The {part} of a split", triples[:, [0, 2]], len(self.entities), "entities")


@dataclass(frozen=True, eq=False, repr=False)
class GraphData:
    """A part to train on, one to choose the model by, and one to measure on.

    Args:
        name: What the data set is called in reports.
        relations: Name of each relation; all three parts number relations by it.
        train: Queries to learn from.
        valid: Queries to choose a model by; there may be none.
        test: Queries to measure on.  Its entities differ from those of `train` in the inductive setting.
        homogeneous: There is one relation, facts hold in both directions, and pairs are classified rather than ranked.

    Raises:
        InputError: A triple has a relation without a name, or a homogeneous graph has more than one relation.
    """

    name: str
    relations: tuple[str, ...]
    train: GraphSplit
    valid: GraphSplit
    test: GraphSplit
    homogeneous: bool = False

    def __post_init__(self) -> None:
        for part, split in self._parts():
            for what in ("facts", "queries", "known"):
                _check_range(
                    f"The {part} {what} of '{self.name}'", getattr(split, what)[:, 1], len(self.relations), "relations"
                )
        if self.homogeneous and len(self.relations) != 1:
            raise InputError(
                f"'{self.name}' was said to be homogeneous, but it has {len(self.relations)} relations. Its pairs are "
                "told apart by nothing but being linked. Give one relation, or homogeneous=False."
            )

    def describe(self) -> str:
        """Return one line with the number of relations, and of entities, facts and queries in each part."""
        parts = (
            f"{part} {len(split.queries)} queries on {len(split.facts)} facts of {len(split.entities)} entities"
            for part, split in self._parts()
        )
        count = len(self.relations)
        return f"{self.name}: {count} relation{'s' * (count != 1)}; {'; '.join(parts)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}>"

    def _parts(self) -> tuple[tuple[str, GraphSplit], ...]:
        return ("train", self.train), ("valid", self.valid), ("test", self.test)


def _check_range(what: str, numbers: Tensor, count: int, names: str) -> None:
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < count:
        wrong = int(numbers[(numbers < 0) | (numbers >= count)][0])
        raise InputError(
            f"{what} hold the number {wrong}, but there are {count} {names}, numbered from 0. Each number must be the "
            f"index of a name. Renumber the triples, or give the names of all {names}."
        )
