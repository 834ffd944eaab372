"""A key that a command does not read is refused, and named; a recipe may hold it, as it serves several commands."""

import json
from pathlib import Path
from typing import Any

import pytest

SMALL = ["--data", "synthetic", "--model", "mlp", "--set", "model.hidden=[4]", "--steps", "2"]
LOADERS = """
import torch
def make(steps=5):
    return [(torch.rand(steps, 4, 1, 8, 8), torch.arange(4))], [(torch.rand(steps, 4, 1, 8, 8), torch.arange(4))]
def named():
    train, test = make()
    return {"train": train, "test": test, "shape": (1, 8, 8), "classes": 4}
"""


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        ("certify", ["train.epochs=3"]),
        ("certify", ["train.epochs=3", "optimizer.lr=3", "schedule.warmup=1"]),
        ("certify", ["optimizer.name=sgd", "train.amp=bfloat16", "data.limit_test=3"]),
        ("plan", ["train.epochs=3", "data.validation=.1"]),
        ("plan", ["loss.name=on_rate", "optimizer.lr=1", "train.seed=3", "data.encoding=poisson"]),
    ],
)
def test_keys_without_use_are_named(says: Any, command: str, changes: list[str]) -> None:
    given = [part for change in changes for part in ("--set", change)]
    status, out, err = says(command, *SMALL, *given)
    assert (status, out) == (2, "")
    assert f"--set {', '.join(change.partition('=')[0] for change in changes)} cannot be used with {command}" in err


@pytest.mark.parametrize("change", ["loss.name=per_step", "data.validation=.1", "train.batch_size=3", "rule.name=sltt"])
def test_keys_of_use_are_taken(says: Any, change: str) -> None:
    assert says("certify", *SMALL, "--set", change)[0] in (0, 1)


def test_a_recipe_may_hold_them(says: Any, tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text("[train]\nepochs = 3\n[optimizer]\nlr = 0.1\n[data]\nvalidation = 0.1\n")
    assert says("certify", "all.toml", *SMALL)[0] == 0
    assert says("plan", "all.toml", *SMALL)[0] == 0


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--classes", "5"], "--classes 5 has no effect without --shape"),
        (["--shape", "1,8,8", "--data", "synthetic"], "--data synthetic has no effect beside --shape"),
        (["--shape", "1,8,8", "--set", "data.size=3"], "--set data.size cannot be used with plan --shape"),
    ],
)
def test_plan_reads_the_shape_or_the_data(says: Any, flags: list[str], named: str) -> None:
    status, _, err = says("plan", *flags)
    assert status == 2 and named in err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--steps", "50", "--batch-size", "7", "--set", "train.workers=2"], "train.steps, train.batch_size, train.wo"),
        (["--steps", "6"], "train.steps cannot be used with"),
        (["--set", "train.workers=0"], "train.workers cannot be used with"),
    ],
)
@pytest.mark.usefixtures("tmp_path")
def test_what_loaders_decide_is_no_setting(says: Any, tmp_path: Path, changes: list[str], named: str) -> None:
    (tmp_path / "mine.py").write_text(LOADERS)
    for command in ("train", "certify", "compare"):
        status, _, err = says(command, "--data", "mine.py:named", "--model", "mlp", *changes)
        assert status == 2 and named in err


@pytest.mark.long
def test_loaders_decide_the_length(says: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOADERS)
    mine = ["--data", "mine.py:named", "--model", "mlp", "--set", "model.hidden=[4]", "--epochs", "1"]
    status, out, _ = says("train", *mine, "--out", "run")
    assert status == 0 and "T =" not in out
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert stored["steps"] is None and not {"steps", "batch_size", "workers"} & stored["config"]["train"].keys()
    assert says("train", "--resume", "run", "--epochs", "2", "--quiet")[0] == 0
    assert says("evaluate", "run", "--json", "e.json")[0] == 0
    assert json.loads((tmp_path / "e.json").read_text())["steps"] is None
    assert "train.steps cannot be used with" in says("evaluate", "run", "--steps", "9")[2]
    status, out, _ = says("compare", *mine, "--rules", "ottt", "--seeds", "1")
    assert status == 0 and "T =" not in out
    status, out, _ = says("plan", *mine[:-2], "--steps", "3")
    assert status == 0
