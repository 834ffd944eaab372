"""`spikewright bench` from end to end."""

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spikewright.bench.apart import IsolatedStep, Use, measure_apart, measure_here
from spikewright.bench.measure import Tell
from spikewright.bench.report import Table
from spikewright.bench.settings import BenchSettings
from spikewright.bench.workloads import WORKLOADS
from spikewright.cli.__main__ import main


def fine(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    tell("working")
    yield Table("fine", "a table", results={"threads": torch.get_num_threads()})


def broken(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    yield Table("broken", "a first table")
    raise ValueError("and no more")


def interrupted(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    yield Table("interrupted", "a first table")
    raise KeyboardInterrupt


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in (fine, broken, interrupted):
        monkeypatch.setitem(WORKLOADS, workload.__name__, workload)


def one_apart(trial: IsolatedStep) -> Use:
    """BPTT in a process of its own; what all others would be sent to theirs is measured here."""
    return measure_apart(trial) if trial.contender.name == "spikewright BPTT" else measure_here(copied(trial))


def copied(trial: IsolatedStep) -> IsolatedStep:
    return pickle.loads(pickle.dumps(trial))


@pytest.mark.long
def test_every_workload_runs_and_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["spikewright.bench.workloads._memory"], "measure_apart", one_apart)
    file, state = tmp_path / "bench.json", torch.get_rng_state()
    assert main(["bench", "--quick", "--seed", "3", "--json", str(file)]) == 0
    assert torch.equal(torch.get_rng_state(), state)
    result, printed = json.loads(file.read_text()), capsys.readouterr().out
    assert list(dict.fromkeys(table["workload"] for table in result["tables"])) == list(WORKLOADS)
    assert result["ok"]
    assert result["settings"]["seed"] == 3
    assert {"torch", "python", "processor", "spikingjelly", "snntorch", "norse", "sinabs"} <= set(result["environment"])
    for table in result["tables"]:
        ours = [name for name in table["results"] if name.startswith("spikewright")]
        assert ours and not [name for name in table["left_out"] if name.startswith("spikewright")]
        assert table["title"] in printed
    kept = result["tables"][-1]["results"]["spikewright BPTT"]
    assert kept["saved_bytes"]["4"] > 0
    assert set(kept["peak_bytes"]) == {"4"}


@pytest.mark.usefixtures("planted")
def test_threads_are_set_and_put_back(tmp_path: Path) -> None:
    file, before = tmp_path / "bench.json", torch.get_num_threads()
    assert main(["bench", "--workloads", "fine", "--threads", str(before + 1), "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["environment"]["threads"].startswith(f"{before + 1} of")
    assert result["tables"][0]["results"] == {"threads": before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("planted")
def test_a_workload_that_fails_keeps_its_tables_and_the_others(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "--workloads", "broken,fine", "--json", str(file)]) == 1
    result = json.loads(file.read_text())
    assert [(t["workload"], t["title"], t["ok"]) for t in result["tables"]] == [
        ("broken", "a first table", True),
        ("broken", "failed", False),
        ("fine", "a table", True),
    ]
    assert result["tables"][1]["left_out"] == {"a result": "ValueError: and no more"}


@pytest.mark.usefixtures("planted")
def test_an_interrupted_run_keeps_what_was_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "--workloads", "fine,interrupted,fine", "--json", str(file)]) == 1
    result = json.loads(file.read_text())
    assert [table["workload"] for table in result["tables"]] == ["fine", "interrupted"]
    assert not result["ok"]
    assert f"interrupted; what was finished is in {file}" in capsys.readouterr().err


@pytest.mark.usefixtures("planted")
def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--workloads", "fine", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workloads", "layr"], "There is no workload 'layr'."),
        (["--workloads", ","], "names no workload"),
        (["--repeats", "0"], "--repeats 0: at least 1 is needed"),
        (["--threads", "0"], "--threads 0: at least 1 is needed"),
        (["--sizes", "12,wide"], "--sizes 12,wide: whole numbers"),
        (["--sizes", "0"], "--sizes 0: at least 1 is needed"),
        (["--chunk", "some"], "--chunk some: a number of steps, auto, or a memory budget"),
        (["--chunk", "0"], "--chunk 0: at least 1 is needed"),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", *arguments]) == 2
    assert message in capsys.readouterr().err
