"""Where `--json` points: a link, a pipe, or what cannot be written."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest


def test_a_pipe_is_read_at_its_other_end(says: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        assert says("list", "rules", "--quiet", "--json", "pipe") == (0, "", "")
        assert json.loads(read.result(timeout=10))
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays(says: Any, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    for target in ("there", "not-yet"):
        (tmp_path / "link").symlink_to(target)
        assert says("list", "rules", "--quiet", "--json", "link") == (0, "", "")
        assert (tmp_path / "link").is_symlink() and json.loads((tmp_path / target).read_text())
        (tmp_path / "link").unlink()


@pytest.mark.parametrize("place", ["loop", "folder", "into/nowhere"])
def test_what_cannot_be_written_is_told_and_left(says: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "into").symlink_to("folder/none")
    before = sorted(tmp_path.iterdir())
    status, _, err = says("list", "rules", "--json", place)
    assert status == 2 and f"--json {place}: the file cannot be written" in err
    assert sorted(tmp_path.iterdir()) == before
