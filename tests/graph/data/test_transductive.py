import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import pytest
import torch

from spikewright.errors import DatasetCorrupt, DatasetMissing
from spikewright.graph import load_graph
from spikewright.graph.data import transductive
from tests.graph.data.writing import PARTS, write

TRAIN = [[0, 0, 1], [1, 1, 0], [2, 0, 0]]
VALID = [[3, 0, 1]]
TEST = [[1, 2, 2], [4, 1, 3]]


UNSEEN = pytest.mark.filterwarnings("ignore:The graph .* test triples with")
"""The test triples are about new entities and relations."""


@UNSEEN
@pytest.mark.parametrize("packed", [False, True])
def test_every_part_reasons_from_the_training_triples(tmp_path, packed):
    graph = load_graph("folder", write(tmp_path, packed=packed))
    assert (graph.name, graph.relations, graph.homogeneous) == ("folder", ("knows", "likes", "hates"), False)
    for split, queries, known in (
        (graph.train, TRAIN, TRAIN),
        (graph.valid, VALID, TRAIN + VALID + TEST),
        (graph.test, TEST, TRAIN + VALID + TEST),
    ):
        assert split.facts.tolist() == TRAIN
        assert split.queries.tolist() == queries
        assert split.known.tolist() == known
        assert split.entities == ("a", "b", "c", "d", "e")


@UNSEEN
def test_validation_may_be_left_out_but_nothing_else(tmp_path):
    (write(tmp_path) / "valid.txt").unlink()
    graph = load_graph("folder", str(tmp_path))
    assert graph.valid.queries.shape == (0, 3)
    assert sorted(graph.test.known.tolist()) == sorted([[0, 0, 1], [1, 1, 0], [2, 0, 0], [1, 2, 2], [3, 1, 4]])
    with pytest.raises(DatasetMissing, match=r"'wn18rr' looks for valid\.txt or valid\.txt\.gz in"):
        load_graph("wn18rr", tmp_path, verify=False)
    (tmp_path / "test.txt").unlink()
    with pytest.raises(DatasetMissing, match=r"test\.txt or test\.txt\.gz in .* holds 1 entries: train\.txt\."):
        load_graph("folder", tmp_path)


def test_an_empty_validation_file_is_no_missing_one(tmp_path):
    with pytest.raises(DatasetCorrupt, match=r"valid\.txt was read for triples, but it is empty"):
        load_graph("folder", write(tmp_path, PARTS | {"valid": ""}))


@pytest.mark.parametrize(("name", "inner"), [("wn18rr", "WN18RR"), ("fb15k-237", "FB15k-237"), ("wn18rr", ".")])
def test_published_sets_are_found_in_a_folder_of_their_name(tmp_path, name, inner):
    write(tmp_path / "other")
    write(tmp_path / inner, packed=True)
    assert load_graph(name, tmp_path, verify=False).test.queries.tolist() == TEST
    assert load_graph(name, tmp_path / inner, verify=False).name == name


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("wn18rr", "86835, 3034, 3134"),
        ("fb15k-237", "272115, 17535, 20466"),
        ("nations", "1592, 199, 201"),
        ("umls", "5216, 652, 661"),
        ("kinships", "8544, 1068, 1074"),
    ],
)
def test_other_numbers_of_triples_than_the_published_are_refused(tmp_path, name, counts):
    write(tmp_path)
    message = rf"'{name}' was read from .* has 3, 1, 2 triples .* files have {counts}\..*verify=False"
    with pytest.raises(DatasetCorrupt, match=message):
        load_graph(name, tmp_path)
    assert load_graph(name, tmp_path, verify=False).test.queries.tolist() == TEST


def test_bundled_sets_are_read_from_the_package_without_importing_it(tmp_path, monkeypatch):
    write(tmp_path / "datasets" / "umls")
    spec = ModuleSpec("pykeen", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(transductive, "find_spec", lambda name: {"pykeen": spec}[name])
    monkeypatch.setitem(sys.modules, "pykeen", None)  # now an import of it fails
    assert load_graph("umls", verify=False).test.queries.tolist() == TEST
    with pytest.raises(DatasetMissing, match=r"'nations' was asked for from .*there is nothing at .*datasets/nations"):
        load_graph("nations")


def test_without_the_package_the_extra_and_the_folder_are_named(monkeypatch):
    monkeypatch.setattr(transductive, "find_spec", lambda name: None)
    message = (
        r"'kinships' .*'pykeen'.*pip install 'spikewright\[graph\]'.*folder that holds.*head TAB relation TAB tail"
    )
    with pytest.raises(DatasetMissing, match=message):
        load_graph("kinships")


@pytest.mark.skipif(find_spec("pykeen") is None, reason="pykeen, which brings the files, is not installed")
@pytest.mark.parametrize(
    ("name", "entities", "relations"), [("nations", 14, 55), ("umls", 135, 46), ("kinships", 104, 25)]
)
def test_the_files_of_pykeen_are_the_published_ones(name, entities, relations):
    graph = load_graph(name)
    assert (len(graph.test.entities), len(graph.relations)) == (entities, relations)
    assert len(torch.unique(graph.test.known, dim=0)) == len(graph.test.known)
