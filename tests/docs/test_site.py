"""The built site: complete, without remote files, without raw mathematics.  Needs the `docs` extra."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs._tools import public
from docs._tools.check import complaints
from docs._tools.pages import ROOT

SITE = ROOT / "build" / "site"


def built_from_what_is_there() -> bool:
    """True if `make docs` ran after the last change of a source."""
    start = SITE / "index.html"
    folders = [ROOT / name for name in ("docs", "spikewright")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in {".md", ".py", ".css", ".png"}]
    changed = max(file.stat().st_mtime for file in [*files, ROOT / "README.md", ROOT / "mkdocs.yml"])
    return start.exists() and start.stat().st_mtime > changed


def test_the_site_is_built_without_a_warning_and_complete() -> None:
    pytest.importorskip("zensical")
    if not built_from_what_is_there():
        done = subprocess.run([sys.executable, "-m", "docs._tools"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(complaints(SITE)) == []
    assert "<math" in (SITE / "api" / "spikewright.rules.html").read_text()


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    for module, names in public.entries().items():
        (tmp_path / "api" / f"{module}.html").write_text("".join(f'<h2 id="{module}.{name}">' for name in names[1:]))
    (tmp_path / "a.html").write_text('<script src="https://a/b.js"></script><a href="https://c">c</a> :math:`x`')
    (tmp_path / "b.html").write_text('<link rel="stylesheet" href="//d/e.css"><link rel="canonical" href="https://f">')
    (tmp_path / "c.css").write_text("a { background: url(https://g/h.png) }")
    found = set(complaints(tmp_path))
    missing = {f"{module}.{names[0]}: no entry" for module, names in public.entries().items()}
    assert found - missing == {
        "a.html: loads https://a/b.js",
        "a.html: shows :math:",
        "b.html: loads //d/e.css",
        "c.css: loads https://g/h.png",
    }
    assert missing <= found
