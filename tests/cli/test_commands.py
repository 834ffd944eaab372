"""What each command does with a run, and what it hands to other programs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from spikewright import cli
from tests.train.support import SHORT, files, history, same, weights

RECIPE = """
rule = "sltt"
[data]
name = "synthetic"
size = 40
[model]
name = "mlp"
hidden = [8]
[optimizer]
name = "sgd"
lr = 0.1
[train]
steps = 2
epochs = 1
batch_size = 20
"""


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_training_prints_writes_and_returns_zero(says: Any, tmp_path: Path) -> None:
    status, out, err = says("train", *SHORT, "--out", tmp_path / "run", "--json", tmp_path / "deep" / "result.json")
    assert status == 0
    result = read(tmp_path / "deep" / "result.json")
    assert result == read(tmp_path / "run" / "result.json")
    assert f"{result['test_accuracy']:.2%}" in out and f"{result['saved_bytes']:,} bytes" in out
    assert err.count("epoch") == 2 and f"loss {result['train_loss']:.4f}" in err


def test_quiet_is_quiet(says: Any, tmp_path: Path) -> None:
    assert says("train", *SHORT, "--quiet", "--out", "run") == (0, "", "")
    assert says("evaluate", "run", "--quiet", "--json", "e.json") == (0, "", "")
    assert says("certify", "run", "--quiet", "--json", "c.json") == (0, "", "")
    assert says("plan", "run", "--quiet", "--json", "p.json") == (0, "", "")
    assert says("list", "rules", "--quiet", "--json", "l.json") == (0, "", "")
    assert all(read(tmp_path / f"{name}.json") for name in "ecpl")


def test_a_run_is_kept_under_a_new_name_by_default(says: Any, tmp_path: Path) -> None:
    for name in ("ottt-mlp-synthetic-seed0", "ottt-mlp-synthetic-seed0-2", "ottt-mlp-synthetic-seed0-3"):
        assert says("train", *SHORT, "--epochs", 1, "--quiet")[0] == 0
        assert (tmp_path / "runs" / name / "result.json").exists()
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_flags_and_sets_change_what_a_recipe_says(says: Any, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    flags = ["--rule", "sltt:k=1", "--lr", 0.05, "--seed", 3, "--steps", 4, "--neuron", "if"]
    sets = ["--set", "optimizer.momentum=0.5", "--set", "neuron.surrogate=atan", "--set", "train.steps=3"]
    assert says("train", "recipe.toml", *flags, *sets, "--quiet", "--out", "run")[0] == 0
    config = read(tmp_path / "run" / "config.json")
    assert config["rule"] | {"name": "sltt", "k": 1} == config["rule"]
    assert config["optimizer"] | {"name": "sgd", "lr": 0.05, "momentum": 0.5} == config["optimizer"]
    assert config["neuron"]["name"] == "if" and config["neuron"]["surrogate"]["name"] == "atan"
    assert (config["train"]["steps"], config["train"]["seed"], config["model"]["hidden"]) == (3, 3, [8])


def test_the_learning_rate_of_a_flag_is_for_the_optimizer_that_is_set(says: Any, tmp_path: Path) -> None:
    assert says("train", *SHORT, "--lr", 0.05, "--set", "optimizer.name=sgd", "--quiet", "--out", "run")[0] == 0
    assert read(tmp_path / "run" / "config.json")["optimizer"]["lr"] == 0.05


def test_a_rule_in_short_form_may_say_none(says: Any, tmp_path: Path) -> None:
    assert says("train", *SHORT, "--rule", "ottt:chunk=none", "--quiet", "--out", "run")[0] == 0
    assert read(tmp_path / "run" / "config.json")["rule"]["chunk"] is None


def test_a_stored_configuration_is_a_recipe(says: Any, run: Path, tmp_path: Path) -> None:
    for recipe in (run, run / "config.json"):
        assert says("train", recipe, "--quiet", "--out", tmp_path / recipe.name)[0] == 0
        assert same(weights(tmp_path / recipe.name), weights(run))


def test_resuming_a_finished_run(says: Any, run: Path) -> None:
    before = files(run)
    status, out, _ = says("train", "--resume", run)
    assert status == 0 and str(read(run / "result.json")["epochs"]) in out
    assert files(run) == before


def test_resuming_with_another_configuration(says: Any, run: Path) -> None:
    status, _, err = says("train", "--resume", run, "--lr", 0.5)
    assert status == 2 and "CheckpointError: The checkpoint was made with optimizer.lr = 0.02" in err


def test_a_result_that_could_not_be_written_is_told_before_training(says: Any, run: Path) -> None:
    status, _, err = says("train", *SHORT, "--out", "new", "--json", run / "log.csv" / "result.json")
    assert status == 2 and "the file cannot be written" in err and "Nothing was run" in err
    assert not Path("new").exists()


def test_a_damaged_run_is_refused(says: Any, tmp_path: Path) -> None:
    says("train", *SHORT, "--quiet", "--out", "run")
    data = (tmp_path / "run" / "last.safetensors").read_bytes()
    (tmp_path / "run" / "last.safetensors").write_bytes(data[:-1])
    for command in ("evaluate run", "certify run", "train --resume run"):
        status, _, err = says(*command.split())
        assert status == 2 and "CheckpointError" in err and "truncated" in err
    (tmp_path / "run" / "config.json").write_text("{")
    status, _, err = says("train", "--resume", "run")
    assert status == 2 and "The configuration run/config.json is damaged" in err


@pytest.mark.parametrize(
    "content",
    [b"[1]", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
    ids=["a list", "not text", "a deep list", "a long number"],
)
def test_a_stored_configuration_that_is_none_is_refused(says: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    status, _, err = says("train", "config.json", "--out", "run")
    assert status == 2 and "The configuration config.json is damaged" in err


def test_a_stored_configuration_is_a_short_regular_file(says: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b" " * (2**20 + 1))
    status, _, err = says("train", "config.json", "--out", "run")
    assert status == 2 and "config.json cannot be read (it holds more than 1 MiB" in " ".join(err.split())
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    status, _, err = says("train", "config.json", "--out", "run")
    assert status == 2 and "config.json cannot be read (it is a named pipe" in " ".join(err.split())


def test_evaluation_gives_the_figures_of_the_result(says: Any, run: Path, tmp_path: Path) -> None:
    status, out, _ = says("evaluate", run, "--json", tmp_path / "e.json")
    found, result = read(tmp_path / "e.json"), read(run / "result.json")
    assert status == 0 and f"{result['test_accuracy']:.2%}" in out
    assert found["accuracy"] == result["test_accuracy"] and found["loss"] == result["test_loss"]
    assert found["rates"] == result["firing_rates"] and found["samples"] == 40 and found["steps"] == 3


def test_evaluation_of_the_best_and_of_other_lengths(says: Any, run: Path, tmp_path: Path) -> None:
    says("evaluate", run, "--checkpoint", "best", "--json", tmp_path / "best.json")
    best = max(history(run), key=lambda row: float(row["validation_accuracy"]))
    assert read(tmp_path / "best.json")["accuracy"] == float(best["test_accuracy"])
    says("evaluate", run, "--steps", 5, "--json", tmp_path / "long.json")
    long = read(tmp_path / "long.json")
    assert long["steps"] == 5 and long["loss"] != read(run / "result.json")["test_loss"]


def test_commands_are_functions_too(run: Path) -> None:
    found = cli.evaluate(run, quiet=True)
    assert found["accuracy"] == read(run / "result.json")["test_accuracy"]
    assert cli.certify(run, quiet=True)["ok"]


def test_figures_of_a_run(says: Any, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    status, out, _ = says("plot", run, "--sample", 3, "--neurons", 5, "--out", tmp_path / "figures")
    assert status == 0
    assert out.split() == [str(tmp_path / "figures" / name) for name in ("raster.png", "curves.png")]
    assert all((tmp_path / "figures" / name).read_bytes()[1:4] == b"PNG" for name in ("raster.png", "curves.png"))
    status, _, err = says("plot", run, "--sample", 40)
    assert status == 2 and "--sample 40 was asked for, but the test set has 40 samples" in err
