"""Queries that are no fair test: counted, told with an example, and in every result."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from spikewright.graph import load_graph
from spikewright.graph.data.family import family
from spikewright.graph.data.overlap import overlap
from tests.graph.data.writing import write
from tests.graph.test_negative_sampling import citations

NONE = dict.fromkeys(["valid_in_facts", "test_in_facts", "test_in_valid", "test_new_entities", "test_new_relations"], 0)
TRAIN = "a\tknows\tb\nb\tlikes\ta\nc\tknows\ta\n"


def told(folder: Path, name: str = "folder", **options: str) -> tuple[dict[str, int], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = overlap(load_graph(name, folder, **options))
    return found, [str(w.message) for w in caught]


@pytest.mark.parametrize(
    ("valid", "test", "name", "number", "message"),
    [
        (
            "",
            "b\tlikes\ta\nc\tlikes\ta\n",
            "test_in_facts",
            1,
            "1 of 2 test triples that .* For instance: b -likes-> a",
        ),
        ("c\tknows\ta\n", "c\tlikes\ta\n", "valid_in_facts", 1, "1 of 1 valid triples that are also facts"),
        ("c\tlikes\ta\n", "c\tlikes\ta\n", "test_in_valid", 1, "1 of 1 test triples that are also validation"),
        ("", "d\tknows\ta\nb\tknows\te\n", "test_new_entities", 2, "2 of 2 .* no facts.* For instance: d -knows-> a"),
        ("", "[b]\tknows\ta'\\\n", "test_new_entities", 1, r".* For instance: \[b\] -knows-> a'\\"),
        ("", "c\thates\ta\n", "test_new_relations", 1, "1 of 1 .* random. For instance: c -hates-> a"),
    ],
)
def test_each_kind_is_counted_and_told(
    tmp_path: Path, valid: str, test: str, name: str, number: int, message: str
) -> None:
    parts = {"train": TRAIN, "test": test} | ({"valid": valid} if valid else {})
    found, messages = told(write(tmp_path, parts))
    assert found == NONE | {name: number} and len(messages) == 1
    with pytest.warns(UserWarning, match=f"The graph 'folder' has {message}"):
        load_graph("folder", tmp_path)


def test_the_other_direction_is_another_triple(tmp_path: Path) -> None:
    found, messages = told(write(tmp_path, {"train": TRAIN, "test": "a\tlikes\tb\na\tknows\tc\n"}))
    assert found == NONE and not messages


def test_an_inductive_test_is_compared_with_the_facts_of_its_own_graph(tmp_path: Path) -> None:
    write(tmp_path / "one", {"train": TRAIN, "valid": "a\tlikes\tc\n", "test": "b\tknows\tc\n"})
    parts = {"train": "a\tlikes\tc\nb\tknows\ta\n", "valid": "b\tlikes\tc\n", "test": "a\tlikes\tc\na\tknows\tb\n"}
    write(tmp_path / "one_ind", parts)
    found, messages = told(tmp_path, "inductive", split="one")
    assert found == NONE | {"test_in_facts": 1} and len(messages) == 1


def test_generated_and_divided_graphs_have_none() -> None:
    assert overlap(family()) == NONE
    alone = overlap(family(trees=2))  # some of its people are in no training fact
    assert alone == NONE | {"test_new_entities": 4}
    links = citations()  # all parts are the same
    same = dict.fromkeys(["valid_in_facts", "test_in_facts", "test_in_valid"], len(links.test.queries))
    turned = replace(links, test=replace(links.test, queries=links.test.queries[:, [2, 1, 0]]))
    assert overlap(links) == overlap(turned) == NONE | same
