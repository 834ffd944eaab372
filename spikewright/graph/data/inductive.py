"""Inductive knowledge graphs: test entities do not occur in training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikewright.data.files import data_folder
from spikewright.errors import ConfigError, DatasetCorrupt
from spikewright.graph.data.dataset import GraphData, GraphSplit
from spikewright.graph.data.files import PARTS, find, read_parts
from spikewright.graph.data.triples import Triple, entity_numbers, numbered, relation_numbers

SPLITS = tuple(f"{base}_v{version}" for base in ("fb237", "WN18RR") for version in (1, 2, 3, 4))
"""Published splits (Teru, Denis and Hamilton, ICML 2020)."""


def inductive(split: str, data_dir: Path | str | None, reference: bool = False) -> GraphData:
    """Load two graphs with the same relations and different entities: one for training, one for testing.

    Training and validation pass messages along the training triples of the first graph, the test along those of the
    second. Relations are numbered in the first graph.

    Args:
        split: Folder name of the first graph; the second graph is in `<split>_ind`. The published splits are "fb237_v1"
            to "fb237_v4" and "WN18RR_v1" to "WN18RR_v4".
        data_dir: Folder with both graphs, each a folder with `train.txt`, `valid.txt` and `test.txt`, plain or `.gz`; a
            line is head TAB relation TAB tail.
        reference: True takes only the message-passing facts as known, as the released NBFNet and GRSNN code does.
            Default: False, all triples of the graph are known.

    Raises:
        ConfigError: `split` is no name of a folder.
        DatasetMissing: A folder or a file is not there.
        DatasetCorrupt: A file is damaged, or the second graph has a relation that the first does not have.

    Reference:
        Teru, Denis and Hamilton, Inductive Relation Prediction by Subgraph Reasoning, ICML 2020.
    """
    if not isinstance(split, str) or not split or Path(split).name != split or split == ".." or "\\" in split:
        raise ConfigError(
            f"inductive(split={split!r}): a split is the name of a folder inside data_dir, and this leads elsewhere. "
            "Give such a name, such as 'fb237_v1', and the folder around it as data_dir."
        )
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
    """Return the training triples, the triples of part `asked`, all triples, and the entity names."""
    entities = entity_numbers(parts[part] for part in PARTS)
    numbers = {part: numbered(parts[part], entities, relations) for part in PARTS}
    return numbers["train"], numbers[asked], torch.cat([numbers[part] for part in PARTS]), tuple(entities)


def _check_relations(split: str, relations: Mapping[str, int], other: Mapping[str, Sequence[Triple]]) -> None:
    strange = [relation for relation in relation_numbers(other[part] for part in PARTS) if relation not in relations]
    if strange:
        raise DatasetCorrupt(
            f"'{split}_ind' has the relation '{strange[0]}' ({len(strange)} such), which is none of the "
            f"{len(relations)} relations of '{split}'. A model has parameters for these relations only. "
            "Remove these triples, or check that both folders belong together."
        )
