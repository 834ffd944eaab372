from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikewright.cli.__main__ import main
from tests.train.support import SHORT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that a command makes by default are not made in the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command: its exit status, and what it wrote to the two streams."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            status = stop.code
        written = capsys.readouterr()
        return status, written.out, written.err

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test writes to."""
    out = tmp_path_factory.mktemp("cli") / "run"
    held = ["--set", "data.validation=0.2", "--set", "optimizer.lr=0.02"]
    assert main(["train", *SHORT, *held, "--quiet", "--out", str(out)]) == 0
    return out
