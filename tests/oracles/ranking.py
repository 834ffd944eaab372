"""Ranks, areas under curves and an open world, one entity at a time, on plain lists."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import permutations

Row = Sequence[float]
Weight = Callable[[int], float]


def filtered_rank(scores: Row, target: int, filtered: Sequence[bool], ties: str) -> float:
    """Walk over the candidates; the target is none of them."""
    first = last = 1
    for entity, score in enumerate(scores):
        if entity == target or filtered[entity]:
            continue
        first += score > scores[target]
        last += score >= scores[target]
    middle = (first + last) / 2
    return {"optimistic": first, "pessimistic": last, "realistic": middle, "expected": middle}[ties]


def ranks_in_all_orders(scores: Row, target: int, filtered: Sequence[bool]) -> list[int]:
    """Break ties in every order of the entities, and rank by counting."""
    rivals = [entity for entity in range(len(scores)) if entity != target and not filtered[entity]]
    ranks = []
    for order in permutations(range(len(scores))):
        before = order[: order.index(target)]
        first = sum(scores[e] > scores[target] or (scores[e] == scores[target] and e in before) for e in rivals)
        ranks.append(1 + first)
    return ranks


def counting_itself(scores: Row, target: int, filtered: Sequence[bool]) -> int:
    """One more than the unfiltered entities, the target among them, that score as much as the target or more."""
    return 1 + sum(score >= scores[target] and not out for score, out in zip(scores, filtered))


def hits_among(draws: int, k: int, above: int, candidates: int, source: random.Random, runs: int) -> float:
    """Draw candidates again and again, of which the first `above` beat the target: how often do fewer than k?"""
    return sum(sum(source.randrange(candidates) < above for _ in range(draws)) < k for _ in range(runs)) / runs


def auroc(scores: Row, labels: Sequence[int]) -> float:
    """Compare every true link with every false one."""
    won = [
        (yes > no) + (yes == no) / 2
        for yes, true in zip(scores, labels)
        for no, other in zip(scores, labels)
        if true and not other
    ]
    return sum(won) / len(won)


def average_precision(scores: Row, labels: Sequence[int]) -> float:
    """For every true link: of the links that score as much or more, how many are true."""
    found = []
    for threshold, true in zip(scores, labels):
        if true:
            above = [label for score, label in zip(scores, labels) if score >= threshold]
            found.append(sum(above) / len(above))
    return sum(found) / len(found)


def sorted_ranks(scores: Row, easy: set[int], hard: set[int]) -> dict[int, int]:
    """Put all entities in order; an answer's rank is its position less the listed answers before it (no ties)."""
    order = sorted(range(len(scores)), key=lambda entity: -scores[entity])
    listed = [(place, entity) for place, entity in enumerate(order) if entity in easy | hard]
    return {entity: place - before + 1 for before, (place, entity) in enumerate(listed) if entity in hard}


def one_query(
    answers: int,
    density: float,
    on_test: float,
    on_missing: float,
    weight: Callable[[int], float],
    source: random.Random,
) -> float | None:
    """Draw what is in the test set and what is on top, shuffle the top, and read the metric off."""
    test = sum(source.random() < density for _ in range(answers))
    top = [True] * sum(source.random() < on_test for _ in range(test))
    top += [False] * sum(source.random() < on_missing for _ in range(answers - test))
    source.shuffle(top)
    worth, rank = 0.0, 1
    for is_test in top:
        worth += weight(rank) if is_test else 0.0
        rank += not is_test
    return worth / test if test else None


def enumerated(answers: int, density: float, on_test: float, on_missing: float, weight: Weight) -> float:
    """Sum over all numbers of test answers from 1 up, of missing ones on top, and all places among these."""

    def binomial(n: int, k: int, p: float) -> float:
        return math.comb(n, k) * p**k * (1 - p) ** (n - k)

    total = chance = 0.0
    for test in range(1, answers + 1):
        here = binomial(answers, test, density)
        chance += here
        missing = answers - test
        for top in range(missing + 1):
            places = [weight(k) for k in range(1, top + 2)]
            total += here * on_test * binomial(missing, top, on_missing) * sum(places) / len(places)
    return total / chance
