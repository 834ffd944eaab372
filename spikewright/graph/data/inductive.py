"""Knowledge graphs in which queries are about entities that training has never seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikewright.data.files import data_folder
from spikewright.errors import DatasetCorrupt
from spikewright.graph.data.dataset import GraphData, GraphSplit
from spikewright.graph.data.files import PARTS, find, read_parts
from spikewright.graph.data.triples import Triple, entity_numbers, numbered, relation_numbers

SPLITS = tuple(f"{base}_v{version}" for base in ("fb237", "WN18RR") for version in (1, 2, 3, 4))
"""The published ones (Teru, Denis & Hamilton, ICML 2020)."""


def inductive(split: str, data_dir: Path | str | None, reference: bool = False) -> GraphData:
    """Load two graphs with the same relations and other entities: one to train on, one to test on.

    Training and validation reason from the training triples of the first graph, the test from those of the second.
    Relations are numbered in the first.

    Args:
        split: Name of the folder with the first graph; the folder with the second has `_ind` behind it.
        data_dir: Folder with both.  Each holds train.txt, valid.txt and test.txt, plain or `.gz`.
        reference: Take only the facts as known, as the programs of NBFNet and GRSNN do.  By default all triples of the
            graph that is asked about are known.

    Raises:
        DatasetMissing: A folder or a file is not there.
        DatasetCorrupt: A file is damaged, or the second graph has a relation that the first has not.

    Reference:
        Teru, Denis & Hamilton, Inductive relation prediction by subgraph reasoning, ICML 2020.
    """
    outer = data_folder(split, data_dir, f"'{split}' and '{split}_ind'")
    base, other = (read_parts(split, find(split, outer, [name])) for name in (split, f"{split}_ind"))
    relations = relation_numbers(base[part] for part in PARTS)
    _check_relations(split, relations, other)
    train, valid, known, entities = _graph(base, relations, "valid")
    facts, queries, true, names = _graph(other, relations, "test")
    return GraphData(
        split,
        tuple(relations),
        train=GraphSplit(train, train, train, entities),
        valid=GraphSplit(train, valid, train if reference else known, entities),
        test=GraphSplit(facts, queries, facts if reference else true, names),
    )


def _graph(
    parts: Mapping[str, Sequence[Triple]], relations: Mapping[str, int], asked: str
) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Return the training triples, those of the part `asked`, all of them, and the names of the entities."""
    entities = entity_numbers(parts[part] for part in PARTS)
    numbers = {part: numbered(parts[part], entities, relations) for part in PARTS}
    return numbers["train"], numbers[asked], torch.cat([numbers[part] for part in PARTS]), tuple(entities)


def _check_relations(split: str, relations: Mapping[str, int], other: Mapping[str, Sequence[Triple]]) -> None:
    strange = [relation for relation in relation_numbers(other[part] for part in PARTS) if relation not in relations]
    if strange:
        raise DatasetCorrupt(
            f"'{split}_ind' has the relation {strange[0]!r} ({len(strange)} such), which is none of the "
            f"{len(relations)} relations of '{split}'. What is learned of the first graph's relations is all that can "
            "be said of the second, so it must have no others. Remove these triples, or check that both folders "
            "belong together."
        )
