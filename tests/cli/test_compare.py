"""Rules side by side: the runs are real ones, and none is made twice."""

import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spikewright.cli.__main__ import main
from spikewright.train.result import sealed
from tests.train.support import SHORT, files, same, weights

FLAGS = [*SHORT, "--rules", "bptt, sltt:k=2", "--seeds", "2", "--set", "optimizer.lr=0.02"]
FOLDERS = ["bptt-seed0", "bptt-seed1", "sltt-k-2-seed0", "sltt-k-2-seed1"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "c"
    assert main(["compare", *FLAGS, "--out", str(out), "--json", str(out.parent / "c.json"), "--quiet"]) == 0
    return out


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training would fail."""

    def refused(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a run was made again")

    monkeypatch.setattr("spikewright.train.loop._Loop._stage", refused)
    yield


@pytest.mark.long
def test_every_run_is_kept(compared: Path) -> None:
    assert sorted(path.name for path in compared.iterdir() if path.is_dir()) == FOLDERS
    for folder in FOLDERS:
        config = json.loads((compared / folder / "config.json").read_text())
        assert folder.startswith(config["rule"]["name"]) and folder.endswith(str(config["train"]["seed"]))
    assert json.loads((compared / FOLDERS[2] / "config.json").read_text())["rule"]["k"] == 2


def test_the_summary_is_of_the_runs(compared: Path) -> None:
    summary = json.loads((compared / "compare.json").read_text())
    assert list(summary) == ["bptt", "sltt:k=2"]
    for entry, folders in zip(summary.values(), (FOLDERS[:2], FOLDERS[2:])):
        runs = [json.loads((compared / folder / "result.json").read_text()) for folder in folders]
        accuracies = [run["test_accuracy"] for run in runs]
        assert entry["test_accuracies"] == accuracies
        assert entry["test_accuracy"] == pytest.approx(sum(accuracies) / 2)
        assert entry["test_accuracy_std"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2)
        assert entry["seconds"] == pytest.approx(statistics.mean(run["seconds"] for run in runs))
        assert entry["saved_bytes"] == max(run["saved_bytes"] for run in runs)
    assert summary["bptt"]["saved_bytes"] > summary["sltt:k=2"]["saved_bytes"]


def test_the_summary_goes_to_other_programs(compared: Path) -> None:
    assert (compared.parent / "c.json").read_text() == (compared / "compare.json").read_text()


def test_there_is_a_plot(compared: Path) -> None:
    pytest.importorskip("matplotlib")
    assert (compared / "compare.png").read_bytes()[1:4] == b"PNG"


def test_a_run_is_what_training_alone_gives(compared: Path, tmp_path: Path) -> None:
    alone = ["train", *SHORT, "--rule", "sltt:k=2", "--seed", "1", "--set", "optimizer.lr=0.02", "--quiet"]
    assert main([*alone, "--out", str(tmp_path / "alone")]) == 0
    assert same(weights(compared / FOLDERS[3]), weights(tmp_path / "alone"))


def test_the_table_shows_the_runs(compared: Path, says: Any, untrained: None) -> None:
    before = {folder: files(compared / folder) for folder in FOLDERS}
    status, out, err = says("compare", *FLAGS, "--out", compared)
    assert status == 0
    summary = json.loads((compared / "compare.json").read_text())
    for name, entry in summary.items():
        assert f"{name}, seed 1" in err and f"{entry['test_accuracy']:.2%} ± {entry['test_accuracy_std']:.2%}" in out
    assert "mlp on synthetic, T = 3, 2 epochs" in " ".join(out.split())
    assert {folder: files(compared / folder) for folder in FOLDERS} == before


def test_the_most_that_any_seed_saved_is_shown(compared: Path, says: Any, untrained: None, tmp_path: Path) -> None:
    shutil.copytree(compared, tmp_path / "c")
    path = tmp_path / "c" / "bptt-seed1" / "result.json"
    result = json.loads(path.read_text())
    larger = result | {"saved_bytes": result["saved_bytes"] + 1}
    path.write_text(json.dumps(sealed(larger, result["history"])))
    assert says("compare", *FLAGS, "--out", tmp_path / "c", "--quiet")[0] == 0
    summary = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert summary["bptt"]["saved_bytes"] == result["saved_bytes"] + 1


def test_an_edited_result_is_not_believed(compared: Path, says: Any, untrained: None, tmp_path: Path) -> None:
    shutil.copytree(compared, tmp_path / "c")
    path = tmp_path / "c" / "bptt-seed1" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"test_accuracy": 2.0}))
    assert says("compare", *FLAGS, "--out", tmp_path / "c", "--quiet")[0] == 0
    summary = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert summary["bptt"]["test_accuracies"][1] == result["test_accuracy"]
    assert json.loads(path.read_text()) == result


def test_finished_runs_of_another_configuration_are_not_mixed_in(compared: Path, says: Any, untrained: None) -> None:
    status, _, err = says("compare", *FLAGS, "--steps", 4, "--out", compared, "--quiet")
    assert status == 2 and "bptt-seed0 holds a finished run with another configuration" in err


def test_a_run_that_was_interrupted_goes_on(compared: Path, says: Any, tmp_path: Path) -> None:
    assert (
        main(
            ["train", *SHORT, "--rule", "bptt", "--epochs", "1", "--out", str(tmp_path / "c" / "bptt-seed0"), "--quiet"]
        )
        == 0
    )
    (tmp_path / "c" / "bptt-seed0" / "result.json").unlink()
    flags = [*SHORT, "--rules", "bptt", "--seeds", "1", "--out", str(tmp_path / "c"), "--quiet"]
    assert says("compare", *flags) == (0, "", "")
    assert json.loads((tmp_path / "c" / "bptt-seed0" / "result.json").read_text())["epochs"] == 2


def test_the_folder_is_named_after_model_and_data(says: Any, tmp_path: Path) -> None:
    assert says("compare", *SHORT, "--rules", "sltt", "--seeds", 1, "--epochs", 1)[0] == 0
    assert (tmp_path / "runs" / "compare-mlp-synthetic" / "compare.json").exists()


def test_a_wrong_rule_is_told_before_any_run(says: Any, tmp_path: Path, untrained: None) -> None:
    status, _, err = says("compare", *SHORT, "--rules", "sltt:2,bptt", "--out", tmp_path / "c")
    assert status == 2 and "Write it as key=value" in err
    assert not (tmp_path / "c").exists()


@pytest.mark.long
def test_a_rule_is_what_its_name_says_whatever_the_recipe(says: Any, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("rule = {name = 'sltt', k = 2, rescale = true}")
    assert says("compare", "recipe.toml", *SHORT, "--rules", "sltt,sltt:k=3", "--seeds", 1, "--out", "c")[0] == 0
    for folder, k in (("sltt-seed0", None), ("sltt-k-3-seed0", 3)):
        rule = json.loads((tmp_path / "c" / folder / "config.json").read_text())["rule"]
        assert (rule["k"], rule["rescale"]) == (k, False)
