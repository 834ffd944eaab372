import gzip
import re

import pytest

from spikewright.errors import DatasetCorrupt
from spikewright.graph.data.triples import entity_numbers, numbered, read_triples, relation_numbers

TRIPLES = [("b", "knows", "a"), ("new york", "part of", "a"), ("ä", "knows", "b")]
TEXT = "".join("\t".join(triple) + "\n" for triple in TRIPLES)


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.rstrip("\n").encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.replace("\n", "\r\n").encode(),
        (TEXT + "\r\n\n").encode(),
    ],
    ids=["plain", "no last line end", "byte order mark", "windows", "empty lines at the end"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_triples_are_read_in_order_and_once(tmp_path, content, packed):
    path = tmp_path / ("train.txt.gz" if packed else "train.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read_triples(path) == TRIPLES


def test_repeated_lines_count_once_and_are_told(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(TEXT + TEXT + "ä\tknows\tb\r\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"train\.txt has 4 duplicate lines, .* For instance: ä TAB knows TAB b"):
        assert read_triples(path) == TRIPLES


def test_only_line_ends_divide_lines(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes("a\u2028b\tis\u0085in\tc\x0cd\n".encode())
    assert read_triples(path) == [("a\u2028b", "is\u0085in", "c\x0cd")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tr\tb\na\tr\n", "line 2, .* has 2 fields: a TAB r\\."),
        (b"3\na\tr\tb\n", "line 1, .* has 1 fields: 3\\."),
        (b"a r b\n", "line 1, .* with a tab between"),
        (b"a\tr\tb\tc\n", "line 1, .* has 4 fields"),
        (b"a\tr\tb\n\na\tr\tc\n", "line 2, .* it is empty\\."),
        (b"a\tr\tb\na\t \tc\n", "line 2, .* has an empty name"),
        (b"a\tr\tb\nb\tr\t\r\n", "line 2, .* has an empty name"),
        (b"a\tr\tb\na\tr\t\xff\n", "line 2, .* UTF-8"),
        (b"", "it is empty"),
        (b"\xef\xbb\xbf\r\n\n", "it is empty"),
        (b"x" * 200, r" x{77}\.\.\.\. "),
        (b'it\'s\\\t"a"\n', r"has 2 fields: it's\\ TAB \"a\"\."),
    ],
)
def test_another_form_is_named_by_file_and_line(tmp_path, content, message):
    path = tmp_path / "valid.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=f"{re.escape(str(path))}.*{message}"):
        read_triples(path)


def test_damaged_compression_is_named(tmp_path):
    path = tmp_path / "test.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:-6])
    with pytest.raises(DatasetCorrupt, match=r"test\.txt\.gz was read as gzip"):
        read_triples(path)


def test_numbers_follow_first_appearance_across_parts():
    more = [("z", "made", "b")]
    entities, relations = entity_numbers([TRIPLES, more]), relation_numbers([TRIPLES, more])
    assert list(entities.items()) == [("b", 0), ("a", 1), ("new york", 2), ("ä", 3), ("z", 4)]
    assert list(relations.items()) == [("knows", 0), ("part of", 1), ("made", 2)]
    assert numbered(TRIPLES + more, entities, relations).tolist() == [[0, 0, 1], [2, 1, 1], [3, 0, 0], [4, 2, 0]]
    assert numbered([], entities, relations).shape == (0, 3)
