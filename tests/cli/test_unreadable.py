"""Files that parsers of other libraries give up on, and messages of theirs, make one line."""

from pathlib import Path
from typing import Any

import pytest

from tests.graph.data.writing import write
from tests.train.support import SHORT

TOO_MUCH = {"number": "9" * 5_000, "nesting": "[" * 20_000}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_too_much_for_a_parser(says: Any, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.toml").write_text(f"[train]\nsteps = {TOO_MUCH[kind]}")
    (tmp_path / "config.json").write_text('{"train": {"steps": ' + TOO_MUCH[kind])
    runs = ["a.toml"], ["config.json"], ["--resume", "."], [*SHORT, "--set", f"train.steps={TOO_MUCH[kind]}"]
    for arguments in runs:
        status, out, err = says("train", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "train: ConfigError: " in err or "train: CheckpointError: " in err


def test_a_message_of_several_lines_is_told_in_one(says: Any) -> None:
    steps = ["schedule.name=steplr", "schedule.step_size=1", "schedule.last_epoch=1"]
    status, out, err = says("train", *SHORT, *(part for step in steps for part in ("--set", step)))
    assert (status, out, err.count("\n")) == (2, "", 1) and "schedule = steplr could not be built" in err


def test_a_line_break_in_a_name_is_told_in_one_line(says: Any, tmp_path: Path) -> None:
    write(tmp_path, {"train": "a\x0bknows\tb\n", "valid": "a\tknows\tb\n", "test": "a\tknows\tb\n"})
    status, _, err = says("reason", "--data", "folder", "--data-dir", tmp_path)
    assert status == 2 and len(err.splitlines()) == 1 and "DatasetCorrupt" in err


def test_a_folder_in_the_place_of_a_file_of_a_graph(says: Any, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "test.txt").unlink()
    (tmp_path / "test.txt").mkdir()
    status, _, err = says("reason", "--data", "folder", "--data-dir", tmp_path)
    assert status == 2 and "reason: DatasetCorrupt: " in err
