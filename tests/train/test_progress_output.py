"""Progress is shown where it can be, and training goes on where it cannot."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spikewright.train.log import ProgressBar
from tests.train.support import SHORT


class Full(io.StringIO):
    """A stream on a full disk: writing fails at once, or as the buffer is flushed."""

    def __init__(self, fails: str, error: Exception) -> None:
        super().__init__()
        self.fails, self.error, self.calls = fails, error, 0

    def _fail(self, method: str) -> None:
        if method == self.fails:
            self.calls += 1
            raise self.error

    def write(self, text: str) -> int:
        self._fail("write")
        return super().write(text)

    def flush(self) -> None:
        self._fail("flush")

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("error", [OSError(28, "full"), BrokenPipeError(32, "left"), ValueError("closed")])
@pytest.mark.parametrize("fails", ["write", "flush"])
def test_every_report_falls_silent(monkeypatch: pytest.MonkeyPatch, fails: str, error: Exception) -> None:
    stream = Full(fails, error)
    monkeypatch.setattr(sys, "stderr", stream)
    reporter = ProgressBar()
    reporter.note("a note")
    reporter.start("stage", 2, 3, 0, 0)
    reporter.batch(0, 0, {"loss": 0.5})
    reporter.epoch({"epoch": 1, "train_loss": 0.5})
    reporter.stop()
    assert stream.calls == 1  # it is not tried again
    assert sys.stderr is stream


def test_what_can_be_written_is(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ProgressBar()
    reporter.note("a [note] of 50 %")
    reporter.epoch({"epoch": 1, "train_accuracy": 0.5})
    assert capsys.readouterr().err == "a [note] of 50 %\nepoch 1  train accuracy 50.00%\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize(("closed", "arguments"), [(False, []), (True, ["--quiet"])])
@pytest.mark.long
def test_a_run_ends_well_with_a_full_standard_error(tmp_path: Path, closed: bool, arguments: list[Any]) -> None:
    command = [sys.executable, "-m", "spikewright", "train", *map(str, SHORT), *arguments, "--out", str(tmp_path / "r")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full if closed else subprocess.PIPE, stderr=full, timeout=100)
    assert done.returncode == 0
    assert json.loads((tmp_path / "r" / "result.json").read_text())["epochs"] > 0
