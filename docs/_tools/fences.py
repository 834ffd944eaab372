"""The lines of a Markdown text, apart by whether they are in a fence."""

import re
from collections.abc import Iterator

FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([\w-]*)")


def parts(lines: list[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Yield fences with their language, borders included, and what is between them with `None`."""
    start = at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        yield None, lines[start:at]
        end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == fence[1]), len(lines) - 1)
        yield fence[2], lines[at : end + 1]
        start = at = end + 1
    yield None, lines[start:]
