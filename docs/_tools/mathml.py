"""A Markdown extension: mathematics as MathML made at build time.

It reads `$...$` and fences of `math`, as pages have them, and the role and directive `math` of docstrings.
"""

import re
from collections.abc import Iterator

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

from docs._tools import fences

ROLE = r":math:`([^`]+)`"
DOLLARS = r"(?<![\\$\w])\$(?=[^\s$])([^$`]*?[^\s\\$])\$(?![\w$])"
DIRECTIVE = re.compile(r"^(\s*)\.\. math::(.*)$")


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
    """Formulas on lines of their own."""

    def run(self, lines: list[str]) -> list[str]:
        """Replace fences of `math`, and directives outside of other fences."""
        return list(self._replaced(lines))

    def _replaced(self, lines: list[str]) -> Iterator[str]:
        for language, part in fences.parts(lines):
            if language is None:
                yield from self._without_directives(part)
            else:
                yield from self._formula(part[1:-1], "") if language == "math" else part

    def _without_directives(self, lines: list[str]) -> Iterator[str]:
        at = 0
        while at < len(lines):
            directive, end = DIRECTIVE.match(lines[at]), at + 1
            if directive:
                end = _end_of_block(lines, at + 1, len(directive[1]))
                yield from self._formula([directive[2], *lines[at + 1 : end]], directive[1])
            else:
                yield lines[at]
            at = end

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
