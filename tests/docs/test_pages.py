"""Pages of rules have one form, and the table of published figures says nothing that stands nowhere else."""

import re
from pathlib import Path

import pytest

from docs._tools.pages import DOCS, ROOT

FORM = ["Equation", "Exact when", "Cost", "Arguments", "Differs from the reference code", "Source"]
RULES = sorted((DOCS / "rules").glob("*.md"))
PUBLISHED = DOCS / "published.md"
FIGURE = re.compile(r"\d*\.\d+")


@pytest.mark.parametrize("page", RULES, ids=lambda page: page.stem)
def test_a_page_of_a_rule_has_the_form(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading in FORM] == FORM
    assert "```math" in page.read_text().split("## Exact when")[0]


def figures(text: str) -> set[float]:
    return {float(figure) for figure in FIGURE.findall(re.sub(r"`[^`]*`", "", text))}


def test_every_figure_of_the_table_stands_at_its_source() -> None:
    sources = [page for page in DOCS.rglob("*.md") if page != PUBLISHED] + list((ROOT / "recipes").glob("*.toml"))
    known = figures("\n".join(source.read_text() for source in sources))
    assert len(figures(PUBLISHED.read_text())) > 60
    assert figures(PUBLISHED.read_text()) - known == set()


def test_the_figures_of_a_row_stand_in_the_recipe_that_it_names() -> None:
    rows = re.findall(r"^\| `(recipes/\S+)` \| (.+) \|$", PUBLISHED.read_text(), re.MULTILINE)
    assert len(rows) > 15
    for recipe, published in rows:
        assert figures(published) <= figures((ROOT / recipe).read_text()), recipe
