"""`spikewright continual`: what it writes and prints, and what it says to mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

SHORT = [
    *("--benchmark", "split-digits", "--tasks", "5", "--epochs", "1", "--steps", "2"),
    *("--set", "model.hidden=[16]", "--set", "data.limit_train=200", "--set", "data.limit_test=100"),
]


def test_a_course_leaves_everything_in_its_folder(says: Any, tmp_path: Path) -> None:
    status, out, err = says(
        "continual", *SHORT, "--rule", "hlop:sltt", "--probe-every", 2, "--out", "course", "--json", "result.json"
    )
    assert (status, err) == (0, "")
    assert "average accuracy (ACC)" in out and "min-ACC" in out and "task 5" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"acc", "bwt", "accuracy_matrix", "forgetting", "seconds"} <= result.keys()
    assert result["acc"] == pytest.approx(sum(result["accuracy_matrix"][-1]) / 5)
    assert result["bwt"] == pytest.approx(-result["forgetting"])
    assert [len(row) for row in result["accuracy_matrix"]] == [1, 2, 3, 4, 5]
    assert len(result["trajectory"]["starts"]) == 5 and result["monitor"]["wc_acc"] is not None
    written = {path.name for path in (tmp_path / "course").iterdir()}
    assert written == {"config.json", "last.safetensors", "result.json", "matrix.png", "accuracies.png"}
    assert result == json.loads((tmp_path / "course" / "result.json").read_text())


def test_a_finished_course_is_read_again_and_a_new_one_gets_a_folder(says: Any, tmp_path: Path) -> None:
    for _ in range(2):
        assert says("continual", *SHORT, "--rule", "gpm:bptt", "--quiet")[:2] == (0, "")
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == ["split-digits-gpm-bptt-seed0", "split-digits-gpm-bptt-seed0-2"]
    first, second = (tmp_path / "runs" / name / "result.json" for name in folders)
    status, _, _ = says("continual", "--resume", first.parent, "--quiet", "--json", "again.json")
    assert status == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["accuracy_matrix"] == json.loads(second.read_text())["accuracy_matrix"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--benchmark pmist", "benchmark 'pmist' is unknown. Did you mean 'pmnist'?"),
        ("", "There are no tasks. Name a benchmark"),
        ("--benchmark split-digits --rule hlopp:dsr", "rule.name = 'hlopp' is unknown. Did you mean 'hlop'?"),
        ("--benchmark split-digits --rule hlop:dsrr", "has the part 'dsrr'"),
        ("--benchmark split-digits --tasks 3", "10 classes of digits cannot be split evenly"),
        ("--benchmark split-digits --rule hlop:ottt --set optimizer.name=adam", "Adam scales the entries"),
        ("--benchmark pmnist --data-dir nowhere", "DatasetMissing"),
        ("--resume nowhere", "nowhere is not the folder of a run"),
        ("--benchmark split-digits --resume nowhere", "--benchmark or --out with it"),
    ],
)
def test_a_mistake_is_one_message(says: Any, line: str, message: str) -> None:
    status, out, err = says("continual", *line.split())
    assert (status, out) == (2, "")
    assert message in err and "Traceback" not in err
    assert not Path("runs").exists()
