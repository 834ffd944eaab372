"""What is wrong with a built site: remote files, raw mathematics, names without an entry."""

import re
from collections.abc import Iterator
from pathlib import Path

from docs._tools import public

REMOTE = re.compile(
    r"""<(?:script|img|iframe|source|link(?=[^>]*rel=["']?(?:stylesheet|preload|preconnect|icon)))[^>]*?(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
)
IMPORT = re.compile(r"""url\(["']?((?:https?:)?//[^)"']+)|@import\s+["']((?:https?:)?//[^"']+)""")
RAW = (":math:", ".. math::", "<p>====", "<blockquote>\n<blockquote>", "$$")


def complaints(site: Path) -> Iterator[str]:
    """Yield one line for every fault of a site in a folder."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"{site}: no pages"
    for page in pages:
        text, name = page.read_text(), page.relative_to(site)
        yield from (f"{name}: loads {url}" for url in REMOTE.findall(text))
        yield from (f"{name}: shows {raw}" for raw in RAW if raw in text)
    for sheet in site.rglob("*.css"):
        urls = ("".join(groups) for groups in IMPORT.findall(sheet.read_text()))
        yield from (f"{sheet.relative_to(site)}: loads {url}" for url in urls)
    for module, names in public.entries().items():
        page = site / "api" / f"{module}.html"
        text = page.read_text() if page.exists() else ""
        yield from (f"{module}.{name}: no entry" for name in names if f'id="{module}.{name}"' not in text)
