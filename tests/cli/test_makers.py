"""A folder that another command made is refused with the command that made it, and what it is for."""

import json
from pathlib import Path
from typing import Any

import pytest

from spikewright.continual import configure_continual
from spikewright.graph.config import configure_reasoning
from spikewright.train import configure

TREES = {
    "train": configure().tree(),
    "continual": configure_continual(name="split-digits").tree(),
    "reason": configure_reasoning().tree(),
}
USES = {
    "train": "Use it with evaluate, plot, certify or plan",
    "continual": "Its figures are in continual/result.json; continue it: spikewright continual --resume continual",
    "reason": "use it with explain",
    "compare": "The folders in it are runs of `spikewright train`",
}
READERS = {
    "train": "train --resume, train, certify, plan, compare, evaluate, plot",
    "reason": "reason --resume, reason, explain",
    "continual": "continual --resume",
}
PAIRS = [
    (line, maker, wanted)
    for wanted, lines in READERS.items()
    for line in lines.split(", ")
    for maker in USES
    if maker != wanted
]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for maker, tree in TREES.items():
        (tmp_path / maker).mkdir()
        (tmp_path / maker / "config.json").write_text(json.dumps(tree))
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "compare.json").write_text("{}")
    return tmp_path


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(("line", "maker", "wanted"), PAIRS)
def test_the_command_that_made_a_folder_is_named(says: Any, line: str, maker: str, wanted: str) -> None:
    status, out, err = says(*line.split(), maker)
    assert (status, out) == (2, "")
    assert f"{maker} was made by `spikewright {maker}`, but a run of `spikewright {wanted}`" in err
    assert USES[maker] in err and "Traceback" not in err


@pytest.mark.usefixtures("folders")
def test_a_stored_configuration_is_told_apart_too(says: Any) -> None:
    err = says("plan", "reason/config.json")[2]
    assert "reason/config.json was made by `spikewright reason`" in err and "--resume reason." in err


@pytest.mark.usefixtures("folders")
def test_a_run_of_train_can_be_the_recipe_of_tasks(says: Any) -> None:
    assert "There are no tasks" in says("continual", "train")[2]
