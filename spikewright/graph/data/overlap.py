"""Queries whose answers stand in the graph already, and queries about what training never saw."""

import warnings

import torch
from torch import Tensor

from spikewright.graph.data.dataset import GraphData, GraphSplit


def overlap(data: GraphData) -> dict[str, int]:
    """Return how many queries of a graph are no fair test.

    Args:
        data: `GraphData` to look at.

    Returns:
        `valid_in_facts` and `test_in_facts`, queries that are also facts that messages travel along (their answers can
        be read off); `test_in_valid`, test queries that a model was chosen by; `test_new_entities`, test queries with
        an entity without facts; `test_new_relations`, test queries with a relation that training never asks for.

    >>> from spikewright.graph import load_graph
    >>> sum(overlap(load_graph("family")).values())
    0
    """
    return {name: int(chosen.sum()) for name, chosen in _chosen(data).items()}


_WHY = {
    "valid_in_facts": "{} that are also facts that messages travel along: figures that choose the weights are too good",
    "test_in_facts": "{} that are also facts that messages travel along: figures of the test are too good",
    "test_in_valid": "{} that are also validation triples, which choose the weights",
    "test_new_entities": "{} with an entity that has no facts, so that no message reaches it",
    "test_new_relations": "{} with a relation that training never asks for, whose parameters are random",
}


def warn_of_overlap(data: GraphData) -> None:
    """Issue one `UserWarning` for each kind of query in `overlap` that there is, with the number and an example."""
    for name, chosen in _chosen(data).items():
        if number := int(chosen.sum()):
            part = name.partition("_")[0]
            split: GraphSplit = getattr(data, part)
            head, relation, tail = split.queries[chosen][0].tolist()
            example = f"{split.entities[head]} -{data.relations[relation]}-> {split.entities[tail]}"
            found = f"{number} of {len(chosen)} {part} triples"
            warnings.warn(
                f"The graph '{data.name}' has {_WHY[name].format(found)}. For instance: {example}", stacklevel=3
            )


def _chosen(data: GraphData) -> dict[str, Tensor]:
    """Return which queries are in each kind of `overlap`, bool `[queries]`."""
    valid, test = data.valid, data.test
    same = valid.entities == test.entities
    return {
        "valid_in_facts": torch.isin(_codes(data, valid.queries), _codes(data, valid.facts)),
        "test_in_facts": torch.isin(_codes(data, test.queries), _codes(data, test.facts)),
        "test_in_valid": torch.isin(
            _codes(data, test.queries), _codes(data, valid.queries[: len(valid.queries) * same])
        ),
        "test_new_entities": ~torch.isin(test.queries[:, [0, 2]], test.facts[:, [0, 2]]).all(1),
        "test_new_relations": ~torch.isin(test.queries[:, 1], data.train.queries[:, 1]),
    }


def _codes(data: GraphData, triples: Tensor) -> Tensor:
    """Return one number for each triple, `[any]`; on a homogeneous graph the same for both directions."""
    heads, relations, tails = triples.unbind(1)
    if data.homogeneous:
        heads, tails = torch.minimum(heads, tails), torch.maximum(heads, tails)
    count = max(len(split.entities) for split in (data.train, data.valid, data.test))
    return (heads * len(data.relations) + relations) * count + tails
