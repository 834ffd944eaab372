"""A Markdown extension for what docstrings have beside Markdown: doctests, labelled lines, tables with borders."""

import re
from collections.abc import Iterator

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from docs._tools import fences

BORDER = re.compile(r"^\s*=+( +=+)+\s*$")
LABEL = re.compile(r"^(\s*)(Exact when|Cost|Carried|Checkpointed): ")


class Docstrings(Preprocessor):
    """Writes all three as Markdown, outside of fences."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines in Markdown."""
        return [
            line for language, part in fences.parts(lines) for line in (_written(part) if language is None else part)
        ]


def _written(lines: list[str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        block = BORDER.match(lines[at]) or lines[at].lstrip().startswith(">>> ")
        end = next((i for i in range(at + 1, len(lines)) if not lines[i].strip()), len(lines)) if block else at + 1
        if not block:
            yield LABEL.sub(r"\n\1**\2:** ", lines[at])
        elif BORDER.match(lines[at]):
            yield from _table(lines[at:end])
        else:
            indent = " " * (len(lines[at]) - len(lines[at].lstrip()))
            yield from ["", indent + "```pycon", *lines[at:end], indent + "```"]
        at = end


def _table(lines: list[str]) -> Iterator[str]:
    """Yield a table as one of Markdown; a line without a first cell goes on the last row."""
    columns = [m.span() for m in re.finditer("=+", lines[0])]
    spans = [slice(a, b) for (a, _), b in zip(columns, [*(start for start, _ in columns[1:]), None])]
    rows: list[list[str]] = []
    for line in lines:
        if BORDER.match(line):
            continue
        cells = [line[span].strip().replace("|", r"\|") for span in spans]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells)]
    header = rows.pop(0) if sum(map(bool, map(BORDER.match, lines))) > 2 else [""] * len(spans)
    yield ""
    for row in (header, ["---"] * len(spans), *rows):
        yield f"{lines[0][: columns[0][0]]}| {' | '.join(row)} |"


class DocstringExtension(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register it before formulas are replaced and fences are hidden."""
        md.preprocessors.register(Docstrings(md), "docstrings", 29.5)


def makeExtension(**options: object) -> DocstringExtension:
    """Return the extension, under the name that Markdown looks for."""
    return DocstringExtension(**options)
