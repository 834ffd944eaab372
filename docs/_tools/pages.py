"""The source pages of the site: the README as start page, the pages of `docs`, the run notebooks, the reference."""

import os
import re
import shutil
from pathlib import Path

from docs._tools import notebook, public

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
ASSETS = (".png", ".svg", ".css")


def sources() -> dict[Path, str]:
    """Return the hand-written pages, by file, with their places in the site."""
    top = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
    found = {ROOT / name: place for name, place in top.items() if (ROOT / name).exists()}
    found |= {page: page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))}
    return found | {script: f"notebooks/{script.stem}.md" for script in notebooks()}


def notebooks() -> list[Path]:
    """Return the scripts that are notebooks."""
    return sorted((DOCS / "notebooks").glob("*.py"))


def unlisted(configuration: str) -> list[str]:
    """Return the places of pages that a configuration does not name in its navigation."""
    listed = set(re.findall(r": (\S+\.md)$", configuration, re.MULTILINE))
    return [place for place in sources().values() if place not in listed]


def with_links_of_the_site(text: str, source: Path, places: dict[Path, str]) -> str:
    """Return the text with links from page to page; links to other files of the repository become plain text."""

    def replaced(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        file = (source.parent / path).resolve()
        here = Path(places[source]).parent
        if file in places:
            place = os.path.relpath(places[file], here)
        elif file.is_relative_to(DOCS) and file.suffix in ASSETS:
            place = os.path.relpath(file.relative_to(DOCS), here)
        else:
            return words if file.exists() else match[0]
        return f"{image}[{words}]({place}{'#' + anchor if anchor else ''})"

    parts = FENCED.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def write_pages(to: Path) -> None:
    """Write all pages of the site and what they show into a folder."""
    shutil.rmtree(to, ignore_errors=True)
    places = sources()
    for source, place in places.items():
        page = to / place
        page.parent.mkdir(parents=True, exist_ok=True)
        run = source.suffix == ".py"
        text = notebook.as_markdown(source, page.parent / "figures") if run else source.read_text()
        page.write_text(with_links_of_the_site(text, source, places))
    for asset in (file for file in DOCS.rglob("*") if file.suffix in ASSETS):
        copy = to / asset.relative_to(DOCS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(asset, copy)
    for name, text in reference().items():
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_text(text)


def reference() -> dict[str, str]:
    """Return the pages of the reference by their places: one a public module, one entry a name."""
    pages = {}
    for module, names in public.entries().items():
        parts = [
            f"# {module}",
            f"::: {module}\n    options: {{members: false, show_root_heading: false, show_root_toc_entry: false}}",
        ]
        if module == "spikewright":
            parts.append(_elsewhere(set(public.public_names(public.spikewright)) - set(names)))
        parts += [f"::: {module}.{name}" for name in names]
        pages[f"api/{module}.md"] = "\n\n".join(parts) + "\n"
    return pages


def _elsewhere(names: set[str]) -> str:
    rows = [f"| `spikewright.{name}` | [{public.home(name)}][] |" for name in sorted(names)]
    return "\n".join(["| name | entry |", "|---|---|", *rows])
