"""Containers of a graph data set: facts, queries and known triples in three parts."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_flag, check_instance, check_names
from spikewright.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class GraphSplit:
    """One part of a graph data set: facts for message passing, queries, and known triples.

    A triple is (head, relation, tail), numbered from 0. Facts are listed in one direction only.

    Args:
        facts: Triples that messages travel along, int64 `[any, 3]`.
        queries: Triples to predict, each for its tail and for its head, int64 `[any, 3]`.
        known: True triples, which filtered ranking leaves out, int64 `[any, 3]`.
        entities: Names of the entities; heads and tails index them.

    Raises:
        ShapeError: A tensor has another shape or type.
        InputError: A head or a tail is out of range.
    """

    facts: Tensor
    queries: Tensor
    known: Tensor
    entities: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_names("GraphSplit", "entities", self.entities, "('ada', 'bob')")
        for part in ("facts", "queries", "known"):
            triples: Tensor = getattr(self, part)
            check_tensor(part, triples, "int64 [any, 3]")
            if triples.dtype != torch.int64 or triples.dim() != 2 or triples.shape[1] != 3:
                raise ShapeError(
                    f"GraphSplit got {part} {triples.dtype} {list(triples.shape)}. Triples are numbers (head, "
                    "relation, tail) in an int64 tensor [any, 3]. Stack them in that order, or convert them with "
                    ".to(torch.int64)."
                )
            _check_range(f"The {part} of a split", triples[:, [0, 2]], len(self.entities), "entities")


@dataclass(frozen=True, eq=False, repr=False)
class GraphData:
    """A graph data set with a training, a validation and a test part.

    Args:
        name: Name of the data set in reports.
        relations: Names of the relations; all parts index them.
        train: `GraphSplit` to train on.
        valid: `GraphSplit` to select a model with; its queries may be empty.
        test: `GraphSplit` to evaluate on. In the inductive setting its entities differ from those of `train`.
        homogeneous: True for a graph of one relation without direction, whose pairs are classified instead of ranked.
            Default: False.

    Raises:
        InputError: A relation is out of range, or a homogeneous graph has more than one relation.
    """

    name: str
    relations: tuple[str, ...]
    train: GraphSplit
    valid: GraphSplit
    test: GraphSplit
    homogeneous: bool = False

    def __post_init__(self) -> None:
        check_names("GraphData", "relations", self.relations, "('parent',)")
        for part, split in self._parts():
            check_instance("GraphData", part, split, GraphSplit, "GraphSplit(facts, queries, known, entities)")
            for what in ("facts", "queries", "known"):
                _check_range(
                    f"The {part} {what} of '{self.name}'", getattr(split, what)[:, 1], len(self.relations), "relations"
                )
        check_flag("GraphData", homogeneous=self.homogeneous)
        if self.homogeneous and len(self.relations) != 1:
            raise InputError(
                f"'{self.name}' was said to be homogeneous, but it has {len(self.relations)} relations. Its pairs "
                "are only linked or not linked. Give one relation, or homogeneous=False."
            )

    def describe(self) -> str:
        """Return one line with the number of relations, and of entities, facts and queries of each part."""
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
