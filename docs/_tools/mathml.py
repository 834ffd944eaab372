"""A Markdown extension: mathematics as MathML made at build time, and the tables of docstrings.

It reads `$...$` and fences of `math`, as pages have them, and the role and directive `math` of docstrings.
"""

import re
from collections.abc import Iterator

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

ROLE = r":math:`([^`]+)`"
DOLLARS = r"(?<![\\$\w])\$(?=[^\s$])([^$`]*?[^\s\\$])\$(?![\w$])"
FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([\w-]*)")
DIRECTIVE = re.compile(r"^(\s*)\.\. math::(.*)$")
BORDER = re.compile(r"^\s*=+( +=+)+\s*$")


def mathml(latex: str, display: bool = False) -> str:
    """Return the MathML of a formula; several lines are aligned."""
    latex = " ".join(latex.split()).replace("{aligned}", "{align*}")
    if display and r"\begin" not in latex and (r"\\" in latex or "&" in latex):
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    made = convert(latex, display="block" if display else "inline")
    unknown = re.search(r">(\\\w+|&)<", made)
    if unknown:
        raise ValueError(f"{latex}: {unknown[1]} cannot be converted to MathML. Write it with other commands.")
    return made


class Inline(InlineProcessor):
    """A formula within a line."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        """Put the formula where no other pattern looks."""
        return self.md.htmlStash.store(mathml(m[1])), m.start(0), m.end(0)


class Blocks(Preprocessor):
    """Formulas on lines of their own, and tables with borders of equals signs."""

    def run(self, lines: list[str]) -> list[str]:
        """Replace them, outside of other fences."""
        return list(self._replaced(lines))

    def _replaced(self, lines: list[str]) -> Iterator[str]:
        at = 0
        while at < len(lines):
            fence, directive = FENCE.match(lines[at]), DIRECTIVE.match(lines[at])
            if fence:
                end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == fence[1]), len(lines))
                yield from self._formula(lines[at + 1 : end], "") if fence[2] == "math" else lines[at : end + 1]
                at = end + 1
            elif directive:
                end = _end_of_block(lines, at + 1, len(directive[1]))
                yield from self._formula([directive[2], *lines[at + 1 : end]], directive[1])
                at = end
            elif BORDER.match(lines[at]):
                end = next((i for i in range(at + 1, len(lines)) if not lines[i].strip()), len(lines))
                yield from _table(lines[at:end])
                at = end
            else:
                yield lines[at]
                at += 1

    def _formula(self, lines: list[str], indent: str) -> list[str]:
        html = f'<div class="math">{mathml(" ".join(lines), display=True)}</div>'
        return ["", indent + self.md.htmlStash.store(html), ""]


def _end_of_block(lines: list[str], start: int, indent: int) -> int:
    """Return where the lines that are blank or further in than `indent` end."""
    end = start
    for at in range(start, len(lines)):
        if lines[at].strip():
            if len(lines[at]) - len(lines[at].lstrip()) <= indent:
                break
            end = at + 1
    return end


def _table(lines: list[str]) -> Iterator[str]:
    """Yield a table with borders of equals signs as one of Markdown; a line without a first cell goes on the last."""
    columns = [m.span() for m in re.finditer("=+", lines[0])]
    spans = [(a, b) for (a, _), (b, _) in zip(columns, [*columns[1:], (10_000, 0)])]
    rows: list[list[str]] = []
    for line in lines:
        if BORDER.match(line):
            continue
        cells = [line[a:b].strip().replace("|", r"\|") for a, b in spans]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells)]
    header = rows.pop(0) if sum(map(bool, map(BORDER.match, lines))) > 2 else [""] * len(spans)
    indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
    yield ""
    for row in (header, ["---"] * len(spans), *rows):
        yield f"{indent}| {' | '.join(row)} |"


class MathML(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register: blocks before fences are hidden, inline formulas before code and before backslashes."""
        md.preprocessors.register(Blocks(md), "mathml-blocks", 29)
        md.inlinePatterns.register(Inline(ROLE, md), "mathml-role", 195)
        md.inlinePatterns.register(Inline(DOLLARS, md), "mathml-dollars", 185)


def makeExtension(**options: object) -> MathML:
    """Return the extension, under the name that Markdown looks for."""
    return MathML(**options)
