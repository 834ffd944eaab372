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


@pytest.mark.long
def test_a_course_leaves_everything_in_its_folder(says: Any, tmp_path: Path) -> None:
    status, out, err = says(
        "continual", *SHORT, "--rule", "hlop:sltt", "--probe-every", 2, "--out", "course", "--json", "result.json"
    )
    assert status == 0 and "task 5  seconds" in err
    assert "average accuracy (ACC)" in out and "min-ACC" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"acc", "bwt", "accuracy_matrix", "forgetting", "seconds"} <= result.keys()
    assert result["acc"] == pytest.approx(sum(result["accuracy_matrix"][-1]) / 5)
    assert result["bwt"] == pytest.approx(-result["forgetting"])
    assert [len(row) for row in result["accuracy_matrix"]] == [1, 2, 3, 4, 5]
    assert len(result["trajectory"]["starts"]) == 5 and result["monitor"]["wc_acc"] is not None
    written = {path.name for path in (tmp_path / "course").iterdir()}
    plots = {"matrix.png", "accuracies.png", "stability_gap.png"}
    kept = {"config.json", "last.safetensors", "best.safetensors", "log.csv", "result.json", "run.lock"}
    assert written == kept | plots
    assert result == json.loads((tmp_path / "course" / "result.json").read_text())


@pytest.mark.long
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
        (
            "--benchmark split-digits --set continual.probe_dense=-1",
            "continual.probe_dense = -1: it has to be at least",
        ),
        ("--benchmark split-digits --probe-every -1", "continual.probe_every = -1: it has to be at least 1"),
        ("--resume nowhere", "nowhere is not the folder of a run"),
        ("--benchmark split-digits --resume nowhere", "--benchmark or --out with it"),
    ],
)
def test_a_mistake_is_one_message(says: Any, line: str, message: str) -> None:
    status, out, err = says("continual", *line.split())
    assert (status, out) == (2, "")
    assert message in err and "Traceback" not in err
    assert not Path("runs").exists()


TRAJECTORY = {
    "starts": [0, 4],
    "ends": [4, 7],
    "probes": [[(0, 0.1), (4, 0.9), (5, 0.4), (7, 0.8)], [(4, 0.2), (5, 0.5), (7, 0.7)]],
}


def test_the_gap_is_drawn_against_the_accuracy_at_the_switch() -> None:
    from spikewright.plots import accuracies, stability_gap

    result = {"trajectory": TRAJECTORY, "accuracy_matrix": [[0.9], [0.8, 0.7]]}
    gap = stability_gap(result).axes[0].lines[0]
    assert list(gap.get_xdata()) == [0, 1, 3]
    assert list(gap.get_ydata()) == pytest.approx([0, -50, -10])
    drawn = accuracies(result).axes[0].lines
    assert [tuple(p) for p in drawn[0].get_xydata()] == TRAJECTORY["probes"][0]
    coarse = accuracies({**result, "trajectory": None}).axes[0].lines
    assert [list(line.get_ydata()) for line in coarse] == [[0.9, 0.8], [0.7]]


def test_the_matrix_is_drawn_with_its_figures() -> None:
    from spikewright.plots import accuracy_matrix

    texts = accuracy_matrix([[0.914], [0.8, 1.0]]).axes[0].texts
    assert [(t.get_position(), t.get_text()) for t in texts] == [((0, 0), "91"), ((0, 1), "80"), ((1, 1), "100")]
