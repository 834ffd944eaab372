"""Every known answer to every query, in one sorted table: for filters and for negatives that are none."""

import torch
from torch import Tensor

from spikewright.errors import InputError, ShapeError


class KnownAnswers:
    """Which entities are known to answer (source, relation, ?); the inverse of relation r is `r + relations`.

    Triple (h, r, t) says that t answers (h, r) and that h answers (t, r + relations).  A triple given twice counts
    once.  All tensors live where `triples` does.

    Cost: 32 bytes for each triple; a query is found by two binary searches.

    Args:
        triples: (head, relation, tail), `[any, 3]` int64.
        entities: Number of entities N.
        relations: Number of relations R, inverse ones not counted.

    Raises:
        ShapeError: The triples are no `[any, 3]` of int64.
        InputError: An entity or a relation is out of range.

    >>> known = KnownAnswers(torch.tensor([[0, 0, 1], [0, 0, 2]]), entities=4, relations=1)
    >>> known.mask(torch.tensor([0, 2]), torch.tensor([0, 1])).int().tolist()
    [[0, 1, 1, 0], [1, 0, 0, 0]]
    >>> known.negatives(torch.tensor([0]), torch.tensor([0]), 100, torch.Generator()).unique().tolist()
    [0, 3]
    """

    def __init__(self, triples: Tensor, entities: int, relations: int) -> None:
        if triples.dim() != 2 or triples.shape[1] != 3 or triples.dtype != torch.int64:
            raise ShapeError(
                "Known answers are read from triples (head, relation, tail), [any, 3] of int64; these are "
                f"{list(triples.shape)} of {triples.dtype}. Give one row a triple."
            )
        self.entities, self.relations = entities, relations
        heads, kinds, tails = triples.unbind(1)
        _check_range("entity", torch.cat([heads, tails]), entities)
        _check_range("relation", kinds, relations)
        there = self._query_number(heads, kinds) * entities + tails
        back = self._query_number(tails, kinds + relations) * entities + heads
        self._codes = torch.cat([there, back]).unique()
        # Answer number j of a query, less j: how many entities that are no answer come before it.
        first = torch.searchsorted(self._codes, self._codes // entities * entities)
        self._gaps = self._codes - torch.arange(len(self._codes), device=triples.device) + first

    def mask(self, sources: Tensor, relations: Tensor) -> Tensor:
        """Mark the known answers to the queries `(sources, relations)`, both `[Q]`, as `[Q, N]` bool.

        Raises:
            ShapeError: Sources and relations are not as many.
            InputError: A source is no entity, or a relation is not below 2 R.
        """
        _, start, stop = self._find(sources, relations)
        counts = stop - start
        rows = torch.repeat_interleave(counts)
        places = torch.arange(len(rows), device=rows.device) + (start - counts.cumsum(0) + counts)[rows]
        mask = torch.zeros(len(sources), self.entities, dtype=torch.bool, device=rows.device)
        mask[rows, self._codes[places] % self.entities] = True
        return mask

    def negatives(self, sources: Tensor, relations: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """Draw entities that are no known answer, uniformly and with replacement, as `[Q, number]` int64.

        A number below the count of such entities is drawn, and then as many places skipped as answers stand before:
        nothing is rejected, and nothing of size `[Q, N]` is made.

        Raises:
            ShapeError: Sources and relations are not as many.
            InputError: As for `mask`, or every entity is a known answer.
        """
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
        """Return the number of each query, and where its answers start and stop in the table."""
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
