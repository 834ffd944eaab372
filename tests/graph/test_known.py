"""The table of known answers, against a set of triples."""

import pytest
import torch
from torch import Tensor

from spikewright.errors import InputError, ShapeError
from spikewright.graph.known import KnownAnswers

ENTITIES, RELATIONS = 9, 3


def triples(seed: int = 0, number: int = 60) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    columns = [torch.randint(high, (number,), generator=source) for high in (ENTITIES, RELATIONS, ENTITIES)]
    return torch.stack(columns, 1)


def every_query() -> tuple[Tensor, Tensor]:
    pairs = torch.cartesian_prod(torch.arange(ENTITIES), torch.arange(2 * RELATIONS))
    return pairs[:, 0], pairs[:, 1]


@pytest.mark.parametrize("number", [0, 1, 20, 60, 400])
def test_the_mask_is_the_set_of_triples(number: int) -> None:
    rows = triples(number=number)
    sources, relations = every_query()
    true = {(h, r, t) for h, r, t in rows.tolist()} | {(t, r + RELATIONS, h) for h, r, t in rows.tolist()}
    slow = [[(s, r, e) in true for e in range(ENTITIES)] for s, r in zip(sources.tolist(), relations.tolist())]
    known = KnownAnswers(rows, ENTITIES, RELATIONS)
    assert known.mask(sources, relations).tolist() == slow
    assert known.unknown(sources, relations).tolist() == [ENTITIES - sum(row) for row in slow]
    again = torch.tensor([5, 5, 0, 53, 5])
    assert known.mask(sources[again], relations[again]).tolist() == [slow[i] for i in again.tolist()]
    assert known.mask(sources[:0], relations[:0]).shape == (0, ENTITIES)


def test_negatives_are_uniform_over_what_is_no_answer() -> None:
    known = KnownAnswers(triples(), ENTITIES, RELATIONS)
    sources, relations = every_query()
    mask = known.mask(sources, relations)
    drawn = known.negatives(sources, relations, 6000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.int64 and drawn.shape == (len(sources), 6000)
    counts = torch.stack([row.bincount(minlength=ENTITIES) for row in drawn])
    assert counts.shape == mask.shape and not counts[mask].any()
    free = (~mask).sum(1, keepdim=True).double()
    deviation = ((counts - 6000 / free) / (6000 / free * (1 - 1 / free)).clamp(min=1e-9).sqrt())[~mask]
    assert len(deviation) > 300 and deviation.abs().max() < 4.5
    assert 0.8 < deviation.square().mean() < 1.2


def test_negatives_repeat_with_the_generator() -> None:
    known = KnownAnswers(triples(), ENTITIES, RELATIONS)
    queries = every_query()
    one, same, other = (known.negatives(*queries, 5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert known.negatives(*queries, 0, torch.Generator()).shape == (len(queries[0]), 0)


def test_one_entity_left() -> None:
    rows = torch.tensor([[0, 0, t] for t in range(ENTITIES) if t != 4])
    drawn = KnownAnswers(rows, ENTITIES, 1).negatives(torch.tensor([0]), torch.tensor([0]), 20, torch.Generator())
    assert drawn.tolist() == [[4] * 20]


def test_refusals() -> None:
    full = KnownAnswers(torch.tensor([[2, 0, t] for t in range(ENTITIES)]), ENTITIES, 1)
    with pytest.raises(InputError, match=r"query 1, source 2 and relation 0, but all 9"):
        full.negatives(torch.tensor([1, 2]), torch.tensor([0, 0]), 3, torch.Generator())
    for query in ([9, 0], [-1, 0], [0, 2], [0, -1]):
        with pytest.raises(InputError, match=str(next(n for n in query if n))):
            full.mask(torch.tensor(query[:1]), torch.tensor(query[1:]))
    with pytest.raises(ShapeError, match=r"\[2\] sources and \[1\] relations"):
        full.mask(torch.tensor([0, 1]), torch.tensor([0]))
    for row in ([9, 0, 0], [0, 1, 0], [0, 0, -1]):
        with pytest.raises(InputError, match="was given"):
            KnownAnswers(torch.tensor([row]), ENTITIES, 1)
    for wrong in (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 3), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match="head, relation, tail"):
            KnownAnswers(wrong, ENTITIES, 1)


def test_a_large_graph() -> None:
    """As many entities as WordNet has: numbers of queries times entities are above 32 bits."""
    source = torch.Generator().manual_seed(0)
    entities, relations, number = 40_943, 11, 100_000
    columns = [torch.randint(high, (number,), generator=source) for high in (entities, relations, entities)]
    rows = torch.stack(columns, 1)
    known = KnownAnswers(rows, entities, relations)
    sources, kinds, answers = rows[:256].unbind(1)
    mask = known.mask(sources, kinds)
    drawn = known.negatives(sources, kinds, 256, source)
    assert mask.gather(1, answers[:, None]).all() and not mask.gather(1, drawn).any()
