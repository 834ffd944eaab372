import pytest

from spikewright.errors import ConfigError, DatasetCorrupt, DatasetMissing
from spikewright.graph import load_graph
from tests.graph.data.writing import write

OTHER = {"train": "x\tlikes\ty\ny\tknows\tz\n", "valid": "z\tlikes\tx\n", "test": "w\thates\ty\n"}
TRAIN = [[0, 0, 1], [1, 1, 0], [2, 0, 0]]
VALID = [[3, 0, 1]]
TEST = [[1, 2, 2], [4, 1, 3]]


@pytest.fixture
def both(tmp_path):
    write(tmp_path / "fb237_v1")
    write(tmp_path / "fb237_v1_ind", OTHER, packed=True)
    return tmp_path


@pytest.mark.filterwarnings("ignore:The graph .* has 1 of 1 test triples")
def test_the_test_is_about_another_graph_with_the_same_relations(both):
    graph = load_graph("inductive", both, split="fb237_v1")
    assert (graph.name, graph.relations) == ("fb237_v1", ("knows", "likes", "hates"))
    assert graph.train.entities == graph.valid.entities == ("a", "b", "c", "d", "e")
    assert graph.train.facts.tolist() == graph.train.queries.tolist() == graph.train.known.tolist() == TRAIN
    assert (graph.valid.facts.tolist(), graph.valid.queries.tolist()) == (TRAIN, VALID)
    assert graph.valid.known.tolist() == TRAIN + VALID + TEST
    assert graph.test.entities == ("x", "y", "z", "w")
    assert graph.test.facts.tolist() == [[0, 1, 1], [1, 0, 2]]
    assert graph.test.queries.tolist() == [[3, 2, 1]]
    assert graph.test.known.tolist() == [[0, 1, 1], [1, 0, 2], [2, 1, 0], [3, 2, 1]]


def test_the_reference_knows_only_facts(both):
    graph, usual = load_graph("fb237_v1", both, reference=True), load_graph("fb237_v1", both)
    for split, other in ((graph.valid, usual.valid), (graph.test, usual.test)):
        assert split.known.tolist() == split.facts.tolist() == other.facts.tolist()
        assert split.queries.tolist() == other.queries.tolist()


def test_a_relation_that_training_never_sees_is_named(both):
    write(both / "fb237_v1_ind", {"test": "x\tlikes\ty\nw\tfears\ty\nw\tfears\tx\n"})
    message = r"'fb237_v1_ind' has the relation 'fears' \(1 such\).* 3 relations of 'fb237_v1'"
    with pytest.raises(DatasetCorrupt, match=message):
        load_graph("fb237_v1", both)


def test_both_folders_are_needed(both):
    with pytest.raises(DatasetMissing, match=r"'WN18RR_v2' looks for WN18RR_v2 in .*fb237_v1, fb237_v1_ind"):
        load_graph("WN18RR_v2", both)
    (both / "fb237_v1_ind").rename(both / "elsewhere")
    with pytest.raises(DatasetMissing, match="'fb237_v1' looks for fb237_v1_ind in"):
        load_graph("fb237_v1", both)
    with pytest.raises(DatasetMissing, match=r"'fb237_v1' .* holds 'fb237_v1' and 'fb237_v1_ind'"):
        load_graph("fb237_v1")


def test_the_split_is_named_by_the_option_or_by_the_name(both):
    with pytest.raises(ConfigError, match=r"without the option 'split', which has no default\. Give split="):
        load_graph("inductive", both)
    with pytest.raises(ConfigError, match="'fb237_v1' has no option 'split'"):
        load_graph("fb237_v1", both, split="WN18RR_v1")
