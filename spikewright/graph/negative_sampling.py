"""What a model is asked while it learns: answers that are true beside some that are not known to be."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spikewright.data.randomness import keyed_generator
from spikewright.errors import ConfigError
from spikewright.graph.data import GraphData
from spikewright.graph.known import KnownAnswers


@dataclass(frozen=True)
class TripleBatch:
    """A batch.

    Attributes:
        facts: The facts that are asked for, `[any, 3]`; a model should not see their edges.
        sources: `[B]`.
        relations: `[B]`.
        candidates: The answer first, then negatives, `[B, 1 + n]`.
    """

    facts: Tensor
    sources: Tensor
    relations: Tensor
    candidates: Tensor


def both_ways(facts: Tensor, relations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return source, relation and answer of every query about facts: for each its tail, then for each its head."""
    heads, kinds, tails = facts.unbind(1)
    return torch.cat([heads, tails]), torch.cat([kinds, kinds + relations]), torch.cat([tails, heads])


class NegativeSampler:
    """Asks for every training fact once an epoch, in an order that only seed and epoch decide.

    In a batch the first half of the facts is asked for its tails, the rest for their heads.  In a homogeneous graph
    every fact comes with a random pair of nodes that are not linked, and both are rows of one candidate.

    Args:
        data: With the facts.
        batch_size: Facts per batch.
        negatives: Per fact; drawn uniformly, with replacement, from nodes that are no known answer.
        seed: Of orders and negatives.
        device: Where batches live.

    Raises:
        ConfigError: There is no fact to ask for.
    """

    def __init__(self, data: GraphData, batch_size: int, negatives: int, seed: int, device: torch.device) -> None:
        split = data.train
        self.data, self.facts, self.known = data, split.queries, known_answers(data, split.known, split.entities)
        self.relations, self.nodes = len(data.relations), len(split.entities)
        self.batch_size, self.negatives, self.seed, self.device = batch_size, negatives, seed, device
        self.facts = self.facts[self._can_be_asked()]
        if not len(self.facts):
            raise ConfigError(
                f"The graph '{data.name}' has no training fact that could be asked for: there are "
                f"{len(split.queries)}, and nothing is false. A graph needs nodes that are not linked."
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.facts) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TripleBatch]:
        """Yield the batches of an epoch, from number `start` on."""
        order = torch.randperm(len(self.facts), generator=keyed_generator(self.seed, epoch))
        for number, chosen in list(enumerate(order.split(self.batch_size)))[start:]:
            facts, generator = self.facts[chosen], keyed_generator(self.seed, epoch, number)
            asked = pairs(facts, self.known, generator) if self.data.homogeneous else self._ranked(facts, generator)
            yield TripleBatch(facts.to(self.device), *(t.to(self.device) for t in asked))

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
    """Return linked pairs, then as many random pairs that are not, each as a source and one candidate."""
    heads, _, tails = facts.unbind(1)
    others = torch.randint(known.entities, (len(facts),), generator=generator)
    kinds = torch.zeros(len(facts), dtype=torch.int64)
    wrong = known.negatives(others, kinds, 1, generator)
    return torch.cat([heads, others]), kinds.repeat(2), torch.cat([tails[:, None], wrong])


def known_answers(data: GraphData, triples: Tensor, entities: tuple[str, ...]) -> KnownAnswers:
    """Return the index of what is known; in a homogeneous graph a link goes both ways, and every node is its own."""
    if data.homogeneous:
        own = torch.arange(len(entities))
        loops = torch.stack([own, torch.zeros_like(own), own], 1)
        triples = torch.cat([triples, triples.flip(1), loops])
    return KnownAnswers(triples, len(entities), len(data.relations))


def loss_of(scores: Tensor, temperature: float, pairs: bool) -> Tensor:
    r"""Return the mean over rows of the binary cross-entropies of the answer and of its negatives, half each.

    A negative weighs :math:`\mathrm{softmax}(score / temperature)` among those of its row, without a gradient (Sun et
    al., RotatE, ICLR 2019); all weigh the same at temperature 0.

    Args:
        scores: `[B, 1 + n]`, the answer first; or `[2 B, 1]`, linked pairs first.
        temperature: Of the weights.
        pairs: Whether rows are pairs.
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
