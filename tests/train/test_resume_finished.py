"""A run that is finished but for its last files gets them when it is resumed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spikewright.train import train_experiment
from spikewright.train.result import sealed
from tests.train.support import experiment, history, same, timeless, trained

CERTIFIED = ["train.certify_every=2"]


def without_extras(path: Path) -> None:
    result = json.loads(path.read_text())
    del result["energy"]
    path.write_text(json.dumps(result))


def edited(path: Path) -> None:
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"test_accuracy": 0.999}))


def of_a_shorter_run(path: Path) -> None:
    """Make the folder of a finished run that was given more epochs and killed before it wrote the new result."""
    result = json.loads(path.read_text())
    path.write_text(json.dumps(sealed({**result, "epochs": 1}, result["history"][:1])))


LOST: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no log": ("log.csv", Path.unlink),
    "the log of the epoch before": ("log.csv", lambda path: path.write_text("epoch\n1\n")),
    "no gradient comparisons": ("alignment.csv", Path.unlink),
    "no result": ("result.json", Path.unlink),
    "a result without what is computed last": ("result.json", without_extras),
    "half a result": ("result.json", lambda path: path.write_bytes(path.read_bytes()[:99])),
    "a result that was edited": ("result.json", edited),
    "the result of fewer epochs": ("result.json", of_a_shorter_run),
    "a result in another encoding": ("result.json", lambda path: path.write_text(path.read_text(), "utf-8-sig")),
    "a result that is too large to read": ("result.json", lambda path: os.truncate(path, 2**40)),
    "a list": ("result.json", lambda path: path.write_text("[]")),
    "a list that is too deep to read": ("result.json", lambda path: path.write_text("[" * 20_000)),
    "a number that is too long to read": ("result.json", lambda path: path.write_text("9" * 5_000)),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    trained(out, *CERTIFIED)
    return out


@pytest.mark.parametrize("name", LOST)
def test_what_a_finished_run_lacks_is_written(whole: Path, tmp_path: Path, name: str) -> None:
    file, lose = LOST[name]
    shutil.copytree(whole, tmp_path / "run")
    lose(tmp_path / "run" / file)
    train_experiment(experiment(*CERTIFIED), tmp_path / "run", resume=True)
    one, other = (json.loads((run / "result.json").read_text()) for run in (tmp_path / "run", whole))
    assert same(timeless(one), timeless(other))
    assert same(history(tmp_path / "run"), history(whole))
    assert (tmp_path / "run" / "alignment.csv").read_bytes() == (whole / "alignment.csv").read_bytes()


def test_a_sound_result_is_not_computed_again(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    before = (tmp_path / "run" / "result.json").stat().st_ino
    found = train_experiment(experiment(*CERTIFIED), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "result.json").stat().st_ino == before
    assert found == json.loads((whole / "result.json").read_text())
