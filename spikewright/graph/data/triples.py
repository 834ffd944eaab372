"""Read triples from text files and number their entities and relations."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikewright.data.idx import read_content
from spikewright.errors import DatasetCorrupt

Triple = tuple[str, str, str]
"""Names of head, relation and tail."""
MOST_TEXT = 2**28
"""Most bytes of text, decompressed; as triples it takes several times as much."""


def read_triples(path: Path) -> list[Triple]:
    """Read a file with one triple per line: head, relation and tail, separated by tabs.

    Names may hold spaces. A byte order mark, Windows line ends and empty lines at the end are accepted; duplicate lines
    count once, with a `UserWarning`.

    Args:
        path: UTF-8 text file, gzip-compressed if its name ends in `.gz`.

    Raises:
        DatasetCorrupt: The file is damaged or empty, or has a line of another form.
    """
    content = read_content(path, MOST_TEXT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content.count(b"\n", 0, cause.start) + 1
        raise DatasetCorrupt(
            f"{path}, line {line}, was read as UTF-8 text, but {cause}. Names must be readable to be told apart. "
            "Convert the file to UTF-8, or fetch it again."
        ) from cause
    lines = text.rstrip("\r\n").split("\n")
    if lines == [""]:
        raise DatasetCorrupt(
            f"{path} was read for triples, but it is empty. There is nothing to learn or to ask. Fetch the file again, "
            "or write one triple on a line: head, relation and tail with a tab between them."
        )
    triples = [_triple(line.removesuffix("\r"), path, number) for number, line in enumerate(lines, 1)]
    unique = list(dict.fromkeys(triples))
    if more := len(triples) - len(unique):
        again = Counter(triples).most_common(1)[0][0]
        warnings.warn(
            f"{path} has {more} duplicate lines, which count once. For instance: {' TAB '.join(again)}", stacklevel=2
        )
    return unique


def _triple(line: str, path: Path, number: int) -> Triple:
    names = line.split("\t")
    if len(names) != 3 or not all(name.strip() for name in names):
        shown = (line if len(line) <= 80 else f"{line[:77]}...").replace("\t", " TAB ")
        found = f"has {len(names)} fields: {shown}" if len(names) != 3 else f"has an empty name: {shown}"
        found = found if line.strip() else "is empty"
        raise DatasetCorrupt(
            f"{path}, line {number}, was read as a triple, but it {found}. A line holds three names, head, relation "
            "and tail, with a tab between them and nothing else. Correct the line, or fetch the file again."
        )
    head, relation, tail = names
    return head, relation, tail


def entity_numbers(parts: Iterable[Sequence[Triple]]) -> dict[str, int]:
    """Number the entities in the order of first appearance, head before tail."""
    return _numbers(name for triples in parts for head, _, tail in triples for name in (head, tail))


def relation_numbers(parts: Iterable[Sequence[Triple]]) -> dict[str, int]:
    """Number the relations in the order of first appearance."""
    return _numbers(relation for triples in parts for _, relation, _ in triples)


def _numbers(names: Iterator[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def numbered(triples: Sequence[Triple], entities: Mapping[str, int], relations: Mapping[str, int]) -> Tensor:
    """Return triples as numbers, int64 `[len(triples), 3]`."""
    rows = [(entities[head], relations[relation], entities[tail]) for head, relation, tail in triples]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
