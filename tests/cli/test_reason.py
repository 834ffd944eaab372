"""`spikewright reason`: what it writes and prints, and what it says to mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from spikewright.cli.__main__ import main
from spikewright.train.checkpoint import load
from tests.graph.data.writing import write
from tests.train.support import same, timeless

SHORT = ["--data", "family", "--epochs", "2", "--batch-size", "8", "--set", "data.trees=1"]
SHORT += ["--set", "model.width=4", "--set", "train.negatives=4", "--set", "train.limit_batches=3"]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_run_leaves_everything_in_its_folder(says: Any, tmp_path: Path) -> None:
    status, out, err = says("reason", *SHORT, "--steps", 4, "--out", "run", "--json", "deep/result.json")
    assert status == 0
    result = read(tmp_path / "deep" / "result.json")
    assert result == read(tmp_path / "run" / "result.json")
    assert {"mrr", "hits_at_1", "hits_at_3", "hits_at_10", "energy", "seconds"} <= result.keys()
    assert 0 < result["mrr"] <= 1 and result["hits_at_1"] <= result["hits_at_3"] <= result["hits_at_10"] <= 1
    assert result["energy"]["nanojoules"] > 0 and result["config"]["model"]["steps"] == 4
    for name, shown in (("MRR", f"{result['mrr']:.4f}"), ("Hits@10", f"{result['hits_at_10']:.4f}")):
        assert any(name in line and shown in line for line in out.splitlines())
    assert "ties expected" in out and "ties pessimistic" in out and f"{result['mrr_pessimistic']:.4f}" in out
    assert f"{result['parameters']:,}" in out and "grsnn · family · 2 epochs" in out and "mean firing rate" in out
    assert err.count("epoch") == 2 and f"validation {result['history'][1]['validation']:.4f}" in err
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "log.csv", "last.safetensors", "best.safetensors", "result.json"} <= written


@pytest.mark.parametrize("ties", ["realistic", "pessimistic"])
def test_the_table_says_how_ties_and_rivals_count(says: Any, tmp_path: Path, ties: str) -> None:
    write(tmp_path / "fb237_v1")
    write(tmp_path / "fb237_v1_ind", {"train": "x\tlikes\ty\n", "valid": "z\tlikes\tx\n", "test": "w\thates\ty\n"})
    tiny = ["--epochs", 1, "--set", "model.width=4", "--set", "train.negatives=2", "--set", f"train.ties={ties}"]
    status, out, _ = says("reason", "--data", "fb237_v1", "--data-dir", ".", *tiny, "--out", "run")
    result, other = read(tmp_path / "run" / "result.json"), "expected" if ties == "pessimistic" else "pessimistic"
    assert status == 0 and f"ties {ties}" in out and f"ties {other}" in out
    for key, name in (("mrr", "MRR"), ("hits_at_10_of_50", "49 rivals"), ("hits_at_10_against_50", "against 50")):
        (line,) = (line for line in out.splitlines() if name in line)
        assert [cell.strip() for cell in line.split("│")[2:4]] == [f"{result[k]:.4f}" for k in (key, f"{key}_{other}")]


@pytest.mark.long
def test_quiet_runs_get_folders_of_their_own(says: Any, tmp_path: Path) -> None:
    for _ in range(2):
        assert says("reason", *SHORT, "--model", "nbfnet", "--quiet") == (0, "", "")
    first, second = (tmp_path / "runs" / f"nbfnet-family-seed0{more}" for more in ("", "-2"))
    assert same(timeless(read(first / "result.json")), timeless(read(second / "result.json")))
    assert says("reason", *SHORT, "--model", "nbfnet", "--seed", 1, "--lr", 0.5, "--quiet")[0] == 0
    other = read(tmp_path / "runs" / "nbfnet-family-seed1" / "result.json")
    assert other["config"]["optimizer"]["lr"] == 0.5 and "firing_rate" not in other["energy"]
    assert other["mrr"] != read(first / "result.json")["mrr"]


@pytest.mark.long
def test_a_run_is_continued(says: Any, tmp_path: Path) -> None:
    """From the checkpoint inside its first epoch, as a run that was stopped there would have left it."""
    flags = [*SHORT, "--model", "grsnn+", "--quiet", "--set", "train.checkpoint_every=2"]
    assert says("reason", *flags, "--out", "whole") == (0, "", "")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("spikewright.train.loop._Loop._close", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["reason", *flags, "--out", "cut"])
    assert load(tmp_path / "cut" / "last.safetensors")["progress"]["batch"] == 2
    assert says("reason", "--resume", "cut", "--json", "again.json", "--quiet") == (0, "", "")
    one, two = ([timeless(load(Path(run, f"{n}.safetensors"))) for n in ("last", "best")] for run in ("cut", "whole"))
    assert same(one, two)
    assert same(timeless(read(tmp_path / "again.json")), timeless(read(tmp_path / "whole" / "result.json")))
    status, _, err = says("reason", "--resume", "cut", "--set", "train.negatives=5")
    assert status == 2 and "made with train.negatives = " in err


def test_a_recipe_and_what_changes_it(says: Any, tmp_path: Path) -> None:
    Path("recipe.toml").write_text('model = "nbfnet"\n[data]\nname = "family"\ntrees = 1\n[train]\nepochs = 1\n')
    small = ["--set", "model.width=4", "--set", "train.limit_batches=1", "--quiet"]
    assert says("reason", "recipe.toml", *small, "--seed", 4, "--out", "run")[0] == 0
    config = read(tmp_path / "run" / "config.json")
    assert (config["model"]["name"], config["train"]["epochs"], config["train"]["seed"]) == ("nbfnet", 1, 4)
    assert config["data"] == {"name": "family", "trees": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--data famly", "The graph 'famly' is unknown. Did you mean 'family'?"),
        ("--data family --model grsn", "model.name = 'grsn' is unknown. Did you mean 'grsnn'?"),
        ("--data family --model nbfnet --steps 3", "model.steps is not an argument of NBFNet"),
        ("--data family --epochs 0", "train.epochs = 0: it has to be at least 1"),
        ("--data family --set train.ties=first", "train.ties = 'first' is unknown"),
        ("--data family --set model.max_delay=9", "max_delay"),
        ("--data wn18rr --data-dir nowhere", "DatasetMissing"),
        ("--data cora", "DatasetMissing"),
        ("--resume nowhere", "nowhere is not the folder of a run"),
        ("--resume nowhere --out other", "give no recipe or --out with it"),
        ("nowhere.toml", "The recipe nowhere.toml cannot be read"),
    ],
)
def test_a_mistake_is_one_message(says: Any, line: str, message: str) -> None:
    status, out, err = says("reason", *line.split())
    assert (status, out) == (2, "")
    assert message in err and "Traceback" not in err
    assert not Path("runs").exists()


def test_a_folder_with_a_run_is_left_alone(says: Any, tmp_path: Path) -> None:
    assert says("reason", *SHORT, "--model", "nbfnet", "--out", "run", "--quiet")[0] == 0
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    status, _, err = says("reason", *SHORT, "--out", "run")
    assert status == 2 and "already holds a run. Nothing was overwritten" in err
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
