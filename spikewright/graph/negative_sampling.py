"""Training batches of triples with negative answers, and their loss."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spikewright._util.randomness import keyed_generator
from spikewright._util.share import Share
from spikewright.errors import ConfigError, InputError
from spikewright.graph.data import GraphData
from spikewright.graph.known import KnownAnswers
from spikewright.graph.structure import RelationalGraph


class TripleBatch(NamedTuple):
    """A training batch of B queries.

    Attributes:
        facts: Facts that the queries are made of, int64 `[any, 3]`.
        sources: Source entity of each query. Shape `[B]`.
        relations: Relation of each query. Shape `[B]`.
        candidates: The true answer first, then n negatives. Shape `[B, 1 + n]`.
    """

    facts: Tensor
    sources: Tensor
    relations: Tensor
    candidates: Tensor

    def hidden(self, graph: RelationalGraph, between: bool) -> Tensor:
        """Return an edge weight `[E]` of 0 for the edges that training hides, and 1 for all others.

        Args:
            graph: `RelationalGraph` of the training facts.
            between: True hides every edge between the source of a query and any of its candidates, so that a direct
                edge tells nothing of the answer; False hides the edges of `facts` alone.
        """
        if not between:
            return graph.without(self.facts)
        sources = self.sources[:, None].expand_as(self.candidates)
        pairs = torch.stack([sources, torch.zeros_like(sources), self.candidates], -1)
        return graph.without(pairs.flatten(0, 1), between=True)


def both_ways(facts: Tensor, relations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sources, relations and answers of the queries of facts: first all tail queries, then all head queries."""
    heads, kinds, tails = facts.unbind(1)
    return torch.cat([heads, tails]), torch.cat([kinds, kinds + relations]), torch.cat([tails, heads])


class NegativeSampler:
    """Batches of training facts with negative answers, in an order that depends on seed and epoch alone.

    The first half of a batch becomes tail queries, the rest head queries; facts without any negative are left out. On a
    homogeneous graph each fact comes with a random pair of unlinked nodes instead, all of these being equally likely,
    and every pair is a row with one candidate.

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

    def share(self, epoch: int, index: int, sync_batch_norm: bool = False) -> Share | None:
        """Return `None`: every process gets the whole batch, whose facts are hidden from all of it."""
        return None

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
        """Return which facts have a negative in both directions; all links of a homogeneous graph, if any has."""
        if self.data.homogeneous:
            return (_unlinked(self.known).sum() > 0).expand(len(self.facts))
        sources, kinds, _ = both_ways(self.facts, self.relations)
        return (self.known.unknown(sources, kinds) > 0).view(2, -1).all(0)


def pairs(facts: Tensor, known: KnownAnswers, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return linked pairs, then as many random unlinked pairs, as sources, relations and single candidates.

    Raises:
        InputError: All pairs of nodes are linked.
    """
    heads, _, tails = facts.unbind(1)
    weights = _unlinked(known).double()
    if not bool(weights.any()):
        raise InputError(
            f"Unlinked pairs were asked for, but all {known.entities} nodes are linked to all others. Links cannot be "
            "told from anything. Use a graph with pairs that are not linked."
        )
    others = torch.multinomial(weights, max(len(facts), 1), replacement=True, generator=generator)[: len(facts)]
    kinds = torch.zeros_like(others)
    wrong = known.negatives(others, kinds, 1, generator)
    return torch.cat([heads, others]), kinds.repeat(2), torch.cat([tails[:, None], wrong])


def _unlinked(known: KnownAnswers) -> Tensor:
    """Return how many nodes each node of a homogeneous graph is not linked to, `[N]`."""
    nodes = torch.arange(known.entities)
    return known.unknown(nodes, torch.zeros_like(nodes))


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
