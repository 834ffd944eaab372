"""A run that is finished but for its last files gets them when it is resumed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spikewright.train import train_experiment
from tests.train.support import experiment, history, same, timeless, trained

CERTIFIED = ["train.certify_every=2"]


def without_extras(path: Path) -> None:
    result = json.loads(path.read_text())
    del result["energy"]
    path.write_text(json.dumps(result))


LOST: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no log": ("log.csv", Path.unlink),
    "the log of the epoch before": ("log.csv", lambda path: path.write_text("epoch\n1\n")),
    "no gradient comparisons": ("alignment.csv", Path.unlink),
    "no result": ("result.json", Path.unlink),
    "a result without what is computed last": ("result.json", without_extras),
    "half a result": ("result.json", lambda path: path.write_bytes(path.read_bytes()[:99])),
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
