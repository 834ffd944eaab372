"""Training batches of triples with negative answers, and their loss."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spikewright._util.randomness import keyed_generator
from spikewright.errors import ConfigError
from spikewright.graph.data import GraphData
from spikewright.graph.known import KnownAnswers


@dataclass(frozen=True)
class TripleBatch:
    """A training batch of B queries.

    Attributes:
        facts: Facts that the queries are made of, int64 `[any, 3]`; training hides their edges.
        sources: Source entity of each query. Shape `[B]`.
        relations: Relation of each query. Shape `[B]`.
        candidates: The true answer first, then n negatives. Shape `[B, 1 + n]`.
    """

    facts: Tensor
    sources: Tensor
    relations: Tensor
    candidates: Tensor


def both_ways(facts: Tensor, relations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sources, relations and answers of the queries of facts: first all tail queries, then all head queries."""
    heads, kinds, tails = facts.unbind(1)
    return torch.cat([heads, tails]), torch.cat([kinds, kinds + relations]), torch.cat([tails, heads])


class NegativeSampler:
    """Batches of training facts with negative answers, in an order that depends on seed and epoch alone.

    The first half of a batch becomes tail queries, the rest head queries. On a homogeneous graph each fact comes with a
    random pair of unlinked nodes instead, and every pair is a row with one candidate. Facts without any negative are
    left out.

    Args:
        data: `GraphData` with the training facts.
        batch_size: Facts per batch, at least 1.
        negatives: Negatives per fact, at least 1; drawn uniformly with replacement from nodes that are no known answer.
        seed: Seed of order and negatives, from 0 to 2**63 - 1.
        device: `torch.device` of the batches.

    Raises:
        ConfigError: No fact has a negative.
    """

    def __init__(self, data: GraphData, batch_size: int, negatives: int, seed: int, device: torch.device) -> None:
        split = data.train
        self.data, self.facts, self.known = data, split.queries, known_answers(data, split.known, split.entities)
        self.relations, self.nodes = len(data.relations), len(split.entities)
        self.batch_size, self.negatives, self.seed, self.device = batch_size, negatives, seed, device
        self.facts = self.facts[self._can_be_asked()]
        if not len(self.facts):
            raise ConfigError(
                f"The graph '{data.name}' has {len(split.queries)} training facts, and none has a negative: all "
                "entities are known answers. Use a graph with facts that are false."
            )

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return -(-len(self.facts) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TripleBatch]:
        """Yield the batches of an epoch as `TripleBatch`.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number of the first batch to yield, from 0. Default: 0.
        """
        order = torch.randperm(len(self.facts), generator=keyed_generator(self.seed, epoch))
        for number, chosen in list(enumerate(order.split(self.batch_size)))[start:]:
            facts, generator = self.facts[chosen], keyed_generator(self.seed, epoch, number)
            queries = pairs(facts, self.known, generator) if self.data.homogeneous else self._ranked(facts, generator)
            yield TripleBatch(facts.to(self.device), *(t.to(self.device) for t in queries))

    def _ranked(self, facts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        half = len(facts) // 2
        first, second = facts[:half].unbind(1), facts[half:].unbind(1)
        sources = torch.cat([first[0], second[2]])
        kinds = torch.cat([first[1], second[1] + self.relations])
        answers = torch.cat([first[2], second[0]])
        wrong = self.known.negatives(sources, kinds, self.negatives, generator)
        return sources, kinds, torch.cat([answers[:, None], wrong], 1)

    def _can_be_asked(self) -> Tensor:
        sources, kinds, _ = both_ways(self.facts, self.relations)
        free = [~self.known.mask(s, k).all(1) for s, k in zip(sources.split(1024), kinds.split(1024), strict=True)]
        return torch.cat(free).view(2, -1).all(0) if free else torch.zeros(0, dtype=torch.bool)


def pairs(facts: Tensor, known: KnownAnswers, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return linked pairs, then as many random unlinked pairs, as sources, relations and single candidates."""
    heads, _, tails = facts.unbind(1)
    others = torch.randint(known.entities, (len(facts),), generator=generator)
    kinds = torch.zeros(len(facts), dtype=torch.int64)
    wrong = known.negatives(others, kinds, 1, generator)
    return torch.cat([heads, others]), kinds.repeat(2), torch.cat([tails[:, None], wrong])


def known_answers(data: GraphData, triples: Tensor, entities: tuple[str, ...]) -> KnownAnswers:
    """Return the known answers; on a homogeneous graph, links hold both ways and each node is linked to itself."""
    if data.homogeneous:
        own = torch.arange(len(entities))
        loops = torch.stack([own, torch.zeros_like(own), own], 1)
        triples = torch.cat([triples, triples.flip(1), loops])
    return KnownAnswers(triples, len(entities), len(data.relations))


def loss_of(scores: Tensor, temperature: float, pairs: bool) -> Tensor:
    r"""Return the mean over rows of the binary cross-entropy of the answer and of its negatives, half each.

    Negative j weighs :math:`\mathrm{softmax}_j(score / temperature)` among those of its row, without a gradient; 1/n
    each at temperature 0.

    Args:
        scores: Scores. Shape `[B, 1 + n]`, the true answer first; for pairs `[2 B, 1]`, linked pairs first.
        temperature: Softmax temperature, at least 0.
        pairs: True if rows are pairs; these get the plain binary cross-entropy.

    Reference:
        Sun et al., RotatE: Knowledge Graph Embedding by Relational Rotation in Complex Space, ICLR 2019
        (self-adversarial negative sampling).
    """
    if pairs:
        linked = torch.arange(len(scores), device=scores.device)[:, None] < len(scores) // 2
        return binary_cross_entropy_with_logits(scores, linked.to(scores.dtype))
    truth = torch.zeros_like(scores)
    truth[:, 0] = 1.0
    losses = binary_cross_entropy_with_logits(scores, truth, reduction="none")
    wrong = scores[:, 1:].detach()
    weights = (wrong / temperature).softmax(1) if temperature > 0 else torch.full_like(wrong, 1 / wrong.shape[1])
    return (losses[:, 0] + (losses[:, 1:] * weights).sum(1)).mean() / 2
