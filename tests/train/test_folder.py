"""A folder belongs to one run, also when a process was killed at any moment of making or writing it."""

import os
import platform
import re
import time
from pathlib import Path

import pytest

from spikewright._util.files import write_atomically
from spikewright.errors import ConfigError
from spikewright.train import folder
from spikewright.train.folder import RunFolder


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors", "log.csv", "result.json", "config.json"])
def test_what_a_killed_write_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    RunFolder(tmp_path, {}, resume=False).close()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: None)  # as a process that is killed before it
        patch.setattr(os, "getpid", lambda: 2**22 + 1)  # above all numbers of processes
        write_atomically(tmp_path / name, b"half")
    (tmp_path / ".hidden").touch()
    assert len(list(tmp_path.iterdir())) == 4
    RunFolder(tmp_path, {}, resume=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "config.json", "run.lock"]


def test_a_folder_that_was_locked_but_not_begun_is_free(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("process 1 of here,")
    RunFolder(tmp_path, {"a": {}}, resume=False).close()
    assert (tmp_path / "config.json").exists()
    with pytest.raises(ConfigError, match="already holds a run"):
        RunFolder(tmp_path, {}, resume=False)


def test_a_folder_that_another_process_has_just_locked_is_not_free(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, {}, resume=False)
    (tmp_path / "config.json").unlink()  # as before it is written
    node = re.escape(platform.node())  # spelled as they are, as is the day
    with pytest.raises(ConfigError, match=f"Process {os.getpid()} of {node}, since {time.ctime()[:3]} .* is training"):
        RunFolder(tmp_path, {}, resume=False)
    first.close()


def test_without_locks_a_folder_that_was_locked_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_lock_file", lambda _: None)
    (tmp_path / "run.lock").write_text("process 1 of here,")
    with pytest.raises(ConfigError, match="already holds a run"):
        RunFolder(tmp_path, {}, resume=False)
    assert (tmp_path / "run.lock").read_text() == "process 1 of here,"
    assert not (tmp_path / "config.json").exists()
