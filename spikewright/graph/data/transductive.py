"""Transductive knowledge graphs: queries are about the entities of training."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from spikewright.data.files import data_folder
from spikewright.errors import DatasetCorrupt, DatasetMissing
from spikewright.graph.data.dataset import GraphData, GraphSplit
from spikewright.graph.data.files import PARTS, read_parts
from spikewright.graph.data.triples import Triple, entity_numbers, numbered, relation_numbers

LAYOUT = "train.txt, valid.txt and test.txt (or .txt.gz), a triple on each line: head TAB relation TAB tail"

_PUBLISHED = {
    "wn18rr": (86_835, 3_034, 3_134),
    "fb15k-237": (272_115, 17_535, 20_466),
    "nations": (1_592, 199, 201),
    "umls": (5_216, 652, 661),
    "kinships": (8_544, 1_068, 1_074),
}


def folder(data_dir: Path | str | None) -> GraphData:
    """Load a knowledge graph from `train.txt`, `test.txt` and, optionally, `valid.txt`.

    Args:
        data_dir: Folder with the files, each plain or `.gz`; a line is head TAB relation TAB tail. Without `valid.txt`
            there are no validation queries.

    Raises:
        DatasetMissing: The folder, or the training or test file, is not there.
        DatasetCorrupt: A file is damaged or empty, or has a line that is no triple.
    """
    return transductive("folder", read_parts("folder", data_folder("folder", data_dir, LAYOUT), optional=["valid"]))


def published(name: str, data_dir: Path | str | None, verify: bool = True) -> GraphData:
    """Load WN18RR (40,943 entities, 11 relations) or FB15k-237 (14,541 entities, 237 relations).

    Args:
        name: "wn18rr" or "fb15k-237".
        data_dir: Folder with `train.txt`, `valid.txt` and `test.txt` (or `.txt.gz`), or with a folder named like the
            data set that holds them; a line is head TAB relation TAB tail.
        verify: True compares the numbers of triples with the published ones. Default: True.

    Raises:
        DatasetMissing: The folder or a file is not there.
        DatasetCorrupt: A file is damaged, or the numbers of triples differ from the published ones.

    Reference:
        Dettmers et al., Convolutional 2D Knowledge Graph Embeddings, AAAI 2018 (WN18RR); Toutanova and Chen, Observed
        Versus Latent Features for Knowledge Base and Text Inference, CVSC workshop 2015 (FB15k-237).
    """
    outer = data_folder(name, data_dir, f"{LAYOUT}, or these inside a folder '{name}' in capitals or not")
    inner = next((entry for entry in sorted(outer.iterdir()) if entry.is_dir() and entry.name.lower() == name), outer)
    return _verified(name, inner, verify)


def bundled(name: str, data_dir: Path | str | None = None, verify: bool = True) -> GraphData:
    """Load Nations, UMLS or Kinships from files of the installed package `pykeen`, which is not imported.

    | name | entities | relations | triples: train, valid, test |
    |---|---|---|---|
    | nations | 14 | 55 | 1,592, 199, 201 |
    | umls | 135 | 46 | 5,216, 652, 661 |
    | kinships | 104 | 25 | 8,544, 1,068, 1,074 |

    Args:
        name: "nations", "umls" or "kinships".
        data_dir: Folder with `train.txt`, `valid.txt` and `test.txt`. Default: None, the files of `pykeen`.
        verify: True compares the numbers of triples with the published ones. Default: True.

    Raises:
        DatasetMissing: `pykeen` is not installed and no folder is given, or a file is not there.
        DatasetCorrupt: A file is damaged, or the numbers of triples differ from the published ones.

    Reference:
        Kok and Domingos, Statistical Predicate Invention, ICML 2007.
    """
    if data_dir is not None:
        return _verified(name, data_folder(name, data_dir, LAYOUT), verify)
    package = find_spec("pykeen")
    if package is None or not package.submodule_search_locations:
        raise DatasetMissing(
            f"'{name}' was asked for without a data_dir, and the package 'pykeen', which brings its files along, is "
            "not installed. Nothing is downloaded. Install it with: pip install 'spikewright[graph]', or give "
            f"data_dir, a folder that holds {LAYOUT}."
        )
    inside = Path(package.submodule_search_locations[0], "datasets", name)
    return _verified(name, data_folder(name, inside, LAYOUT), verify)


def _verified(name: str, folder: Path, verify: bool) -> GraphData:
    parts = read_parts(name, folder)
    counts = tuple(len(parts[part]) for part in PARTS)
    if verify and counts != _PUBLISHED[name]:
        raise DatasetCorrupt(
            f"'{name}' was read from {folder.absolute()}, which has {_spelled(counts)} triples (train, valid, test); "
            f"the published files have {_spelled(_PUBLISHED[name])}. Results on other data cannot be compared with "
            "anything. Fetch the files again, or use verify=False, or load them under the name 'folder'."
        )
    return transductive(name, parts)


def _spelled(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts))


def transductive(name: str, parts: Mapping[str, Sequence[Triple]]) -> GraphData:
    """Return a data set with the training triples as facts and all triples known.

    Entities and relations are numbered in the order of first appearance in train, then valid, then test.

    Args:
        name: Name of the data set.
        parts: Triples of names by part: "train", "valid" and "test".
    """
    triples = [parts[part] for part in PARTS]
    entities, relations = entity_numbers(triples), relation_numbers(triples)
    train, valid, test = (numbered(part, entities, relations) for part in triples)
    known, names = torch.cat([train, valid, test]), tuple(entities)
    return GraphData(
        name,
        tuple(relations),
        train=GraphSplit(train, train, train, names),
        valid=GraphSplit(train, valid, known, names),
        test=GraphSplit(train, test, known, names),
    )
