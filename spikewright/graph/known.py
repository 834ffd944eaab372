"""All known answers to all queries in one sorted table, for filtered ranking and for negatives."""

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_count, check_counts, check_instance
from spikewright.errors import InputError, ShapeError


class KnownAnswers:
    """The set of known answers to queries (source, relation, ?).

    A triple (h, r, t) makes t an answer to (h, r, ?) and h an answer to (t, r + R, ?), with `r + R` the inverse
    relation. Duplicate triples count once. All tensors stay on the device of `triples`.

    **Cost**: 32 bytes per triple. A query takes two binary searches.

    Args:
        triples: (head, relation, tail), int64. Shape `[any, 3]`.
        entities: Number of entities N, at least 1.
        relations: Number of relations R without inverse ones, at least 1.

    Raises:
        ShapeError: The triples are not int64 `[any, 3]`.
        InputError: An entity or a relation is out of range.

    >>> import torch
    >>> from spikewright.graph import KnownAnswers
    >>> known = KnownAnswers(torch.tensor([[0, 0, 1], [0, 0, 2]]), entities=4, relations=1)
    >>> known.mask(torch.tensor([0, 2]), torch.tensor([0, 1])).int().tolist()
    [[0, 1, 1, 0], [1, 0, 0, 0]]
    >>> known.negatives(torch.tensor([0]), torch.tensor([0]), 100, torch.Generator()).unique().tolist()
    [0, 3]
    """

    def __init__(self, triples: Tensor, entities: int, relations: int) -> None:
        check_tensor("triples", triples, "int64 [any, 3]")
        if triples.dim() != 2 or triples.shape[1] != 3 or triples.dtype != torch.int64:
            raise ShapeError(
                "Known answers are read from triples (head, relation, tail), [any, 3] of int64; these are "
                f"{list(triples.shape)} of {triples.dtype}. Give one row a triple."
            )
        check_counts("KnownAnswers", entities=entities, relations=relations)
        self.entities, self.relations = entities, relations
        heads, kinds, tails = triples.unbind(1)
        _check_range("entity", torch.cat([heads, tails]), entities)
        _check_range("relation", kinds, relations)
        there = self._query_number(heads, kinds) * entities + tails
        back = self._query_number(tails, kinds + relations) * entities + heads
        self._codes = torch.cat([there, back]).unique()
        # For answer number j of a query: its entity minus j, the number of non-answers before it.
        first = torch.searchsorted(self._codes, self._codes // entities * entities)
        self._gaps = self._codes - torch.arange(len(self._codes), device=triples.device) + first

    def mask(self, sources: Tensor, relations: Tensor) -> Tensor:
        """Return a mask of the known answers, bool `[Q, N]`.

        Args:
            sources: Source entity of each query. Shape `[Q]`.
            relations: Relation of each query, from 0 to 2 R - 1. Shape `[Q]`.

        Raises:
            ShapeError: Sources and relations have different lengths.
            InputError: A source or a relation is out of range.
        """
        _, start, stop = self._find(sources, relations)
        counts = stop - start
        rows = torch.repeat_interleave(counts)
        places = torch.arange(len(rows), device=rows.device) + (start - counts.cumsum(0) + counts)[rows]
        mask = torch.zeros(len(sources), self.entities, dtype=torch.bool, device=rows.device)
        mask[rows, self._codes[places] % self.entities] = True
        return mask

    def unknown(self, sources: Tensor, relations: Tensor) -> Tensor:
        """Return how many entities are no known answer to each query, int64 `[Q]`.

        Args:
            sources: Source entity of each query. Shape `[Q]`.
            relations: Relation of each query, from 0 to 2 R - 1. Shape `[Q]`.

        Raises:
            ShapeError: Sources and relations have different lengths.
            InputError: A source or a relation is out of range.
        """
        _, start, stop = self._find(sources, relations)
        return self.entities - (stop - start)

    def negatives(self, sources: Tensor, relations: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """Draw entities that are not known answers, uniformly with replacement, int64 `[Q, number]`.

        Draws an index among the non-answers and shifts it past the answers before it, so there is no rejection and no
        `[Q, N]` tensor.

        Args:
            sources: Source entity of each query. Shape `[Q]`.
            relations: Relation of each query, from 0 to 2 R - 1. Shape `[Q]`.
            number: Entities per query, at least 0.
            generator: `torch.Generator` of the draws.

        Raises:
            ShapeError: Sources and relations have different lengths.
            InputError: A source or a relation is out of range, or all entities are known answers to a query.
        """
        check_count("KnownAnswers.negatives", "number", number, "so many entities are drawn", least=0)
        check_instance("KnownAnswers.negatives", "generator", generator, torch.Generator, "torch.Generator()")
        queries, start, stop = self._find(sources, relations)
        free = self.entities - (stop - start)
        if number and bool((free == 0).any()):
            query = int((free == 0).nonzero()[0])
            raise InputError(
                f"{number} negatives were asked for query {query}, source {int(sources[query])} and relation "
                f"{int(relations[query])}, but all {self.entities} entities are known answers to it. Leave the query "
                "out."
            )
        shape = len(sources), number
        drawn = torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device)
        drawn = (drawn.to(free.device) * free[:, None]).long()
        before = torch.searchsorted(self._gaps, queries[:, None] * self.entities + drawn, right=True)
        return drawn + before - start[:, None]

    def _query_number(self, sources: Tensor, relations: Tensor) -> Tensor:
        return sources * (2 * self.relations) + relations

    def _find(self, sources: Tensor, relations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the number of each query, and the start and stop of its answers in the table."""
        check_tensor("sources", sources, "int64 [Q]")
        check_tensor("relations", relations, "int64 [Q]")
        if sources.dim() != 1 or sources.shape != relations.shape:
            raise ShapeError(
                f"Queries are pairs of a source and a relation, [Q] each; there are {list(sources.shape)} sources "
                f"and {list(relations.shape)} relations. Give one of each for a query."
            )
        _check_range("entity", sources, self.entities)
        _check_range("relation", relations, 2 * self.relations)
        queries = self._query_number(sources, relations)
        bounds = torch.stack([queries, queries + 1]) * self.entities
        start, stop = torch.searchsorted(self._codes, bounds)
        return queries, start, stop


def _check_range(what: str, numbers: Tensor, count: int) -> None:
    wrong = numbers[(numbers < 0) | (numbers >= count)]
    if len(wrong):
        raise InputError(
            f"A{'n' * (what == 'entity')} {what} has a number from 0 to {count - 1}, and {int(wrong[0])} was given. "
            "The table cannot tell what it means. Give it the counts that the triples were numbered with."
        )
