import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path

import pytest
import torch

from spikewright.errors import ConfigError, DatasetCorrupt, DatasetMissing
from spikewright.graph import GraphData, load_graph
from spikewright.graph.data.citation import citation

# A ring of 40 papers, listed from one side only or from both, with a link to itself and one that comes twice.
LINKS: dict[int, list[int]] = {paper: [(paper + 1) % 40] for paper in range(40)}
RING = sorted([min(a, b), 0, max(a, b)] for a, (b,) in LINKS.items())
LINKS |= {7: [8, 6, 7, 8], 40: []}


def write(folder: Path, graph: object = LINKS, protocol: int = 2) -> Path:
    (folder / "ind.cora.graph").write_bytes(pickle.dumps(graph, protocol=protocol))
    return folder


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", [dict, lambda links: defaultdict(list, links)])
def test_links_are_undirected_unique_and_without_loops(tmp_path, kind, protocol):
    graph = load_graph("cora", write(tmp_path, kind(LINKS), protocol))
    assert (graph.name, graph.relations, graph.homogeneous) == ("cora", ("link",), True)
    assert graph.test.entities == tuple(map(str, range(41)))
    for split in (graph.train, graph.valid, graph.test):
        assert split.known.tolist() == RING
        assert split.facts.tolist() == graph.train.queries.tolist()
    asked = torch.cat([graph.train.queries, graph.valid.queries, graph.test.queries])
    assert sorted(asked.tolist()) == RING


def test_papers_are_numbered_in_the_order_of_their_names(tmp_path):
    graph = load_graph("cora", write(tmp_path, {30: [10], 20: [5, 30]}))
    assert graph.test.entities == ("5", "10", "20", "30")
    assert graph.test.known.tolist() == [[0, 0, 2], [1, 0, 3], [2, 0, 3]]


def sizes(graph: GraphData) -> list[int]:
    return [len(split.queries) for split in (graph.train, graph.valid, graph.test)]


def test_the_division_has_its_shares_and_its_seed(tmp_path):
    write(tmp_path, {paper: [paper + 1] for paper in range(1010)})
    first, again, other = (load_graph("cora", tmp_path, seed=seed) for seed in (0, 0, 1))
    assert sizes(first) == [858, 50, 102]
    order = torch.randperm(1010, generator=torch.Generator().manual_seed(0))
    assert first.train.facts[:, 0].tolist() == order[:858].tolist()
    assert torch.equal(first.test.queries, again.test.queries)
    assert not torch.equal(first.test.queries, other.test.queries)
    with pytest.raises(ConfigError, match="seed=-1"):
        load_graph("cora", tmp_path, seed=-1)


class Call:
    def __init__(self, function, *arguments):
        self.recipe = function, arguments

    def __reduce__(self):
        return self.recipe


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.mkdir, eval, getattr, Path])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, function, protocol):
    trap = tmp_path / "sprung"
    argument = f"open({str(trap)!r}, 'w')" if function is eval else str(trap)
    write(tmp_path, {0: Call(function, argument)}, protocol)
    with pytest.raises(DatasetCorrupt, match=rf"ind\.cora\.graph .*forbidden object '.*{function.__name__}'"):
        citation("cora", tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "graph",
    [
        {},
        [[1]],
        {0: 1},
        {0: (1, 2)},
        {"0": [1]},
        {0: ["1"]},
        {0: [1.0]},
        {0: [True]},
        {None: [1]},
        OrderedDict({0: [1]}),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, graph):
    with pytest.raises(DatasetCorrupt, match=r"ind\.cora\.graph was read as a pickled graph"):
        citation("cora", write(tmp_path, graph))


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(LINKS)[:-20]])
def test_a_damaged_pickle_is_named(tmp_path, content):
    (tmp_path / "ind.citeseer.graph").write_bytes(content)
    with pytest.raises(
        DatasetCorrupt, match=rf"ind\.citeseer\.graph was read as a pickled graph \({len(content)} bytes"
    ):
        citation("citeseer", tmp_path)


def test_the_file_is_named_when_it_is_not_there(tmp_path):
    with pytest.raises(DatasetMissing, match=r"'citeseer' looks for ind\.citeseer\.graph in .*: ind\.cora\.graph\."):
        load_graph("citeseer", write(tmp_path))
