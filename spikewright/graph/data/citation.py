"""Citation graphs for link classification."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright._util.ranges import check_seed
from spikewright.data.files import data_folder, read_bytes
from spikewright.data.pickles import read_restricted
from spikewright.graph.data.dataset import GraphData, GraphSplit
from spikewright.graph.data.files import find


def citation(name: str, data_dir: Path | str | None, seed: int = 0) -> GraphData:
    """Load the links of Cora or CiteSeer from the Planetoid files.

    A homogeneous graph of undirected links; each link is listed once, the smaller number first. Links are divided at
    random: 85 % for training, 5 % for validation, 10 % for testing. All parts pass messages along the training links.
    Node features are not used.

    **Differs from the reference code** of GRSNN, which divides the directed citations of the original files, so that a
    link may be in two parts.

    Args:
        name: "cora" or "citeseer".
        data_dir: Folder with the pickle file `ind.<name>.graph`; its objects are restricted to plain containers and
            numbers.
        seed: Seed of the division, from 0 to 2**63 - 1. Default: 0.

    Raises:
        DatasetMissing: The folder or the file is not there.
        DatasetCorrupt: The file is damaged, or does not hold a graph.
        ConfigError: The seed is out of its range.

    Reference:
        Yang, Cohen and Salakhutdinov, Revisiting Semi-Supervised Learning with Graph Embeddings, ICML 2016.
    """
    check_seed(name, seed)
    file = f"ind.{name}.graph"
    path = find(name, data_folder(name, data_dir, file), [file])
    neighbours = read_neighbours(path)
    papers = sorted(neighbours.keys() | {other for linked in neighbours.values() for other in linked})
    edges = _edges(neighbours, {paper: number for number, paper in enumerate(papers)})
    order = torch.randperm(len(edges), generator=torch.Generator().manual_seed(seed))
    train, valid = int(0.85 * len(edges)), int(0.05 * len(edges))
    parts = edges[order].split([train, valid, len(edges) - train - valid])
    names = tuple(map(str, papers))
    return GraphData(name, ("link",), *(GraphSplit(parts[0], part, edges, names) for part in parts), homogeneous=True)


def _edges(neighbours: dict[int, list[int]], numbers: dict[int, int]) -> Tensor:
    """Return each link once, sorted, as triples of relation 0, without self-loops."""
    pairs = {(numbers[paper], numbers[other]) for paper, linked in neighbours.items() for other in linked}
    edges = sorted({(min(pair), 0, max(pair)) for pair in pairs if pair[0] != pair[1]})
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 3)


_ALLOWED = {
    ("collections", "defaultdict"): lambda *_: {},  # a plain dictionary stands in for one with a default
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
}


def read_neighbours(path: Path) -> dict[int, list[int]]:
    """Return the pickled dictionary from each node to its neighbours, without executing code.

    Raises:
        DatasetCorrupt: The pickle is damaged, or holds anything but a dictionary from integers to lists of integers.
    """
    return read_restricted(
        read_bytes(path),
        path,
        _checked,
        allowed=_ALLOWED,
        encoding="latin1",
        what="a pickled graph",
        readable="plain containers of numbers",
    )


def _checked(graph: Any) -> dict[int, list[int]]:
    if not isinstance(graph, dict) or not graph or not all(_is_entry(*entry) for entry in graph.items()):
        raise ValueError("it does not hold a dictionary from whole numbers to lists of them")
    return graph


def _is_entry(node: object, linked: object) -> bool:
    return type(node) is int and isinstance(linked, list) and all(type(other) is int for other in linked)
