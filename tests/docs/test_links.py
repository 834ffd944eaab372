"""Links of pages lead to files, pages and headings that exist, and every page is in the navigation."""

import re
from pathlib import Path

import pytest

from docs._tools.pages import ROOT, sources, unlisted

PAGES = [page for page in sources() if page.suffix == ".md"]
FENCED = re.compile(r"^(`{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return what a link may have behind `#`, by the rule of code hosts."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_of_a_page_exist(page: Path) -> None:
    named = re.findall(r"`((?:spikewright|docs|tests|recipes|benchmarks|examples)/[\w./-]+)`", page.read_text())
    assert broken_links(page) == []
    named = [name for name in named if "NAME" not in name]  # which stands for one of the reader's own
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# One *thing*\n[a](b.md) [b](a.md#one-thing) [c](a.md#two) [d](#three)\n```\n[e](f)\n```\n"
    )
    assert broken_links(tmp_path / "a.md") == ["b.md", "a.md#two", "#three"]


def test_the_navigation_names_pages_that_exist_and_the_rest_is_added() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", text, re.MULTILINE)
    assert "index.md" in named and "changelog.md" not in named
    assert sorted(named + unlisted(text)) == sorted(sources().values())
