import pytest
import torch

from spikewright.errors import InputError, ShapeError
from spikewright.graph import GraphData, GraphSplit

TRIPLES = torch.tensor([[0, 0, 1], [2, 1, 0]])
ENTITIES = ("a", "b", "c")


@pytest.mark.parametrize(
    "wrong", [TRIPLES.to(torch.int32), TRIPLES.double(), TRIPLES[0], TRIPLES[:, :2], torch.tensor([])]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_other_layouts_are_refused(wrong, place):
    tensors = [TRIPLES] * 3
    tensors[place] = wrong
    with pytest.raises(ShapeError, match=rf"GraphSplit got {['facts', 'queries', 'known'][place]} torch\..*\[any, 3\]"):
        GraphSplit(*tensors, ENTITIES)


@pytest.mark.parametrize(("column", "number"), [(0, -1), (0, 3), (2, 3), (2, -1)])
def test_numbers_without_an_entity_are_refused(column, number):
    wrong = TRIPLES.clone()
    wrong[1, column] = number
    with pytest.raises(InputError, match=rf"queries of a split hold the number {number}, but there are 3 entities"):
        GraphSplit(TRIPLES, wrong, TRIPLES, ENTITIES)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_relation_without_a_name_is_refused_in_every_part(place):
    wrong = torch.tensor([[0, 2, 1]])
    good = GraphSplit(TRIPLES, TRIPLES, TRIPLES, ENTITIES)
    parts = [good] * 3
    parts[place] = GraphSplit(TRIPLES, wrong, TRIPLES, ENTITIES)
    part = ["train", "valid", "test"][place]
    with pytest.raises(InputError, match=rf"The {part} queries of 'toy' hold the number 2, but there are 2 relations"):
        GraphData("toy", ("r", "s"), *parts)


def test_a_homogeneous_graph_has_one_relation():
    split = GraphSplit(TRIPLES, TRIPLES, TRIPLES, ENTITIES)
    with pytest.raises(InputError, match="homogeneous, but it has 2 relations"):
        GraphData("toy", ("r", "s"), split, split, split, homogeneous=True)


def test_a_graph_describes_itself_in_one_line():
    none = torch.empty(0, 3, dtype=torch.int64)
    train, valid = GraphSplit(TRIPLES, TRIPLES, TRIPLES, ENTITIES), GraphSplit(TRIPLES, none, TRIPLES, ENTITIES)
    test = GraphSplit(TRIPLES, TRIPLES[:1], TRIPLES, (*ENTITIES, "d"))
    graph = GraphData("toy", ("r", "s"), train, valid, test)
    assert graph.describe() == (
        "toy: 2 relations; train 2 queries on 2 facts of 3 entities; valid 0 queries on 2 facts of 3 entities; "
        "test 1 queries on 2 facts of 4 entities"
    )
    assert repr(graph) == f"<GraphData {graph.describe()}>"
