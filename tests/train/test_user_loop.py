"""The loop for a user's own network and loader: in Python, and by files that the command line names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spikewright as sw
from spikewright.cli.__main__ import main
from spikewright.errors import CheckpointError, ConfigError, InputError, ShapeError
from spikewright.train import load_weights
from spikewright.train._train_experiment import train_experiment
from spikewright.train.log import Silent
from tests.train.support import history, same, timeless


def samples() -> TensorDataset:
    source = torch.Generator().manual_seed(0)
    x = torch.rand(22, 5, 6, generator=source)  # [batch, time, feature]
    y = torch.arange(22) % 2
    x[y == 1, :, :3] += 1.0
    return TensorDataset(x, y)


def network(dropout: float = 0.3) -> sw.Network:
    torch.manual_seed(1)
    return sw.Network(nn.Sequential(nn.Linear(6, 16), sw.LIF(), nn.Dropout(dropout), nn.Linear(16, 2)))


LOSS = sw.losses.PerStep(nn.CrossEntropyLoss())


def fitted(out: Path, net: sw.Network, loader: Any = None, rule: Any = None, **options: Any) -> dict[str, Any]:
    """Fit with Adam on shuffled batches of five, the last of two."""
    loader = DataLoader(samples(), 5, shuffle=True) if loader is None else loader
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    given = {"batch_first": True, "progress": False, "epochs": 3, **options}
    return sw.fit(net, rule or sw.rules.OTTT(), LOSS, optimizer, loader, out=out, **given)


def test_it_learns_and_says_what_it_did(tmp_path: Path) -> None:
    net = network()
    found = fitted(tmp_path / "run", net, epochs=8, validation=DataLoader(samples(), 8))
    assert found["validation_accuracy"] == 1.0
    assert found["train_loss"] < 0.5 * found["history"][0]["train_loss"]
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == found
    assert [float(row["train_loss"]) for row in history(tmp_path / "run")] == [
        r["train_loss"] for r in found["history"]
    ]
    other = network()
    load_weights(other, tmp_path / "run")
    assert same(dict(other.module.state_dict()), dict(net.module.state_dict()))


def test_it_takes_the_steps_that_a_loop_by_hand_takes(tmp_path: Path) -> None:
    batches = [(torch.rand(5, 4, 6), torch.tensor([0, 1, 1, 0])) for _ in range(3)]
    net, twin = network(0.0), network(0.0)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02)
    for _ in range(2):
        for x, y in batches:
            for _ in sw.rules.OTTT().updates(twin, x, y, LOSS):
                optimizer.step()
                optimizer.zero_grad()
    fitted(tmp_path, net, batches, batch_first=False, epochs=2)
    assert same(dict(net.module.state_dict()), dict(twin.module.state_dict()))


class Interrupter(Silent):
    def __init__(self, after: int) -> None:
        self.left = after

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("after", [3, 7, 10])
@pytest.mark.long
def test_an_interrupted_run_ends_with_the_weights_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, workers: int
) -> None:
    def loader() -> Any:
        return DataLoader(samples(), 5, shuffle=True, num_workers=workers)

    whole, cut = network(), network()
    expected = fitted(tmp_path / "whole", whole, loader(), checkpoint_every=2)
    torch.rand(3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("spikewright.train._fit.Silent", lambda: Interrupter(after))
        fitted(tmp_path / "cut", cut, loader(), checkpoint_every=2)
    rest = network()
    found = fitted(tmp_path / "cut", rest, loader(), checkpoint_every=2, resume=True)
    assert same(dict(rest.module.state_dict()), dict(whole.module.state_dict()))
    assert timeless(found) == timeless(expected)


def test_a_loader_that_does_not_repeat_its_order_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loader() -> list[tuple[Tensor, Tensor]]:
        source = torch.Generator().manual_seed(torch.seed() % 1000)
        return [(torch.rand(4, 5, 6, generator=source), torch.tensor([0, 1, 0, 1])) for _ in range(4)]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("spikewright.train._fit.Silent", lambda: Interrupter(3))
        fitted(tmp_path, network(), loader(), checkpoint_every=2)
    with pytest.raises(CheckpointError, match="does not repeat the order"):
        fitted(tmp_path, network(), loader(), checkpoint_every=2, resume=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rule": sw.rules.SLTT()}, "rule.name = 'OTTT"),
        ({"clip_norm": 1.0}, "train.clip_norm = None"),
        ({"batch_first": False}, "data.batch_first = True"),
    ],
)
def test_another_run_is_not_taken_up(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    fitted(tmp_path, network(), epochs=1)
    with pytest.raises(ConfigError, match="already holds a run"):
        fitted(tmp_path, network(), epochs=2)
    with pytest.raises(CheckpointError, match=message):
        fitted(tmp_path, network(), **{"epochs": 2, "resume": True, **changed})
    assert fitted(tmp_path, network(), epochs=2, resume=True)["epochs"] == 2


def test_own_metrics_are_means_over_samples(tmp_path: Path) -> None:
    def positive(output: Tensor, y: Tensor) -> Tensor:
        return (y == 1).double().mean()

    found = fitted(tmp_path, network(), epochs=1, metrics={"ones": positive}, validation=DataLoader(samples(), 4))
    assert (found["train_ones"], found["validation_ones"]) == pytest.approx((0.5, 0.5))
    assert "train_accuracy" not in found


def test_it_stops_early(tmp_path: Path) -> None:
    net = network(0.0)
    for p in net.module[3].parameters():
        p.data.zero_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    found = sw.fit(
        net, sw.rules.SLTT(), LOSS, optimizer, DataLoader(samples(), 11), out=tmp_path, epochs=9, patience=2,
        batch_first=True, progress=False,
    )  # fmt: skip
    assert (found["epochs"], found["stopped_early"]) == (3, True)


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (iter([]), ConfigError, "train loader. It has to be an iterable"),
        ([], ConfigError, "without a batch"),
        ([torch.rand(5, 4, 6)], InputError, "yields a Tensor"),
        ([(torch.rand(5, 4, 6),)], InputError, "of 1 entries"),
        (3, ConfigError, "fit was given an int as train loader"),
        ([(None, torch.zeros(2))], InputError, r"whose x is None, but inputs are tensors"),
        ([([[0.0]], torch.zeros(2))], InputError, r"whose x is a list, but"),
        ([(torch.zeros(3), torch.zeros(2))], InputError, r"whose x is a tensor \[3\] of float32, but"),
        ([(torch.zeros(2, 3, 6), torch.tensor(1))], ShapeError, "given one number for x"),
        ([(torch.zeros(2, 3, 6), torch.zeros(2, dtype=torch.int64))], ShapeError, "given 2 targets for x"),
    ],
)
def test_what_is_no_loader_is_refused(tmp_path: Path, loader: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fitted(tmp_path / "run", network(), loader, batch_first=False)
    assert not (tmp_path / "run").exists()


def test_a_schedule_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    other = torch.optim.SGD(network().parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(other, 1)
    with pytest.raises(ConfigError, match="of another optimizer"):
        fitted(tmp_path, network(), schedule=schedule)


SOURCE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import spikewright as sw
from spikewright.data import load

class Net(nn.Module):
    def __init__(self, hidden: int = 8):
        super().__init__()
        self.inner, self.spikes, self.out = nn.Linear(6, hidden), sw.LIF(), nn.Linear(hidden, 2)
    def forward(self, x):
        return self.out(self.spikes(self.inner(x)))

class Images(nn.Module):
    def __init__(self, shape, classes, neuron):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), neuron(), nn.Linear(8, classes))
    def forward(self, x):
        return self.body(x)

def make(count: int = 20):
    x, y = torch.rand(count, 5, 6, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 2
    return DataLoader(TensorDataset(x, y), 8, shuffle=True), DataLoader(TensorDataset(x, y), 8)

def named():
    train, test = make()
    return {"train": train, "validation": test, "shape": (6,), "classes": 2}

def images(): return load("synthetic", size=20)
def broken(): return 1, 2, 3, 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def command(file: Path, model: str, data: str, *rest: str) -> list[str]:
    named = ["--model", f"{file}:{model}", "--data", f"{file}:{data}"]
    return ["train", *named, "--epochs", "2", "--quiet", "--out", str(file.parent / "run"), *rest]


def test_a_model_and_loaders_of_ones_own_by_the_command_line(file: Path) -> None:
    loaders = ["--set", "data.batch_first=true", "--set", "data.count=24", "--set", "model.hidden=4"]
    run = file.parent / "run"
    assert main(command(file, "Net", "make", *loaders)) == 0
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1 and result["config"]["model"]["hidden"] == 4
    assert result["test_samples"] == 24 and result["parameters"] == 7 * 4 + 5 * 2
    assert main(["train", "--resume", str(run), "--epochs", "3", "--quiet"]) == 0
    assert json.loads((run / "result.json").read_text())["epochs"] == 3
    assert main(["evaluate", str(run), "--quiet"]) == 0


@pytest.mark.parametrize("data", ["images", "named"])
def test_a_model_is_given_what_it_asks_for(file: Path, data: str) -> None:
    more = ["--set", "data.batch_first=true"] if data == "named" else []
    model = "Images" if data == "images" else "Net"
    assert main(command(file, model, data, *more)) == 0
    result = json.loads((file.parent / "run" / "result.json").read_text())
    assert ("validation_loss" in result) is (data == "named")


@pytest.mark.parametrize(
    ("model", "data", "rest", "message"),
    [
        ("Nett", "make", [], "names Nett in .*Did you mean 'Net'"),
        ("Net", "made", [], "names made in .*Did you mean 'make'"),
        ("Net", "broken", [], "returned 4 loaders"),
        ("Images", "make", [], "needs the shape of the data"),
        ("Net", "make", ["--set", "data.counts=3"], "data.counts is not a setting. Did you mean 'count'"),
        ("Net", "make", ["--set", "model.width=3"], "model.width is not an argument of Net"),
        ("Net", "make", ["--set", "neuron.tau=3.0"], "has no argument `neuron`, so that nothing would read it"),
        ("Net", "make", ["--set", "data.augment=crop"], "data.augment = 'crop' cannot be used with"),
        ("Net", "make", ["--set", "data.validation=0.5"], "data.validation = 0.5 cannot be used with"),
        ("Images", "images", ["--set", "data.batch_first=true"], "data.batch_first = True cannot be used with"),
        ("Images", "images", ["--data-dir", "elsewhere"], "data.dir = 'elsewhere' cannot be used with"),
    ],
)
def test_mistakes_are_told(
    file: Path, capsys: pytest.CaptureFixture[str], model: str, data: str, rest: list[str], message: str
) -> None:
    assert main(command(file, model, data, *rest)) == 2
    error = capsys.readouterr().err
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(error)
    assert not (file.parent / "run").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model", str(tmp_path / "none.py:Net"), "--quiet"]) == 2
    assert "which is not there" in capsys.readouterr().err
    (tmp_path / "loop.py").symlink_to("loop.py")
    assert main(["train", "--model", str(tmp_path / "loop.py:Net"), "--quiet"]) == 2
    assert "which is not there" in capsys.readouterr().err
    (tmp_path / "bad.py").write_text("import nothing_of_that_name")
    assert main(["train", "--model", str(tmp_path / "bad.py:Net"), "--quiet"]) == 2
    assert "cannot be imported: ModuleNotFoundError" in capsys.readouterr().err
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)")
    assert main(["train", "--model", str(tmp_path / "script.py:Net"), "--quiet"]) == 2
    assert "cannot be imported: SystemExit: 0. Put what is to run as a script" in capsys.readouterr().err


def test_the_loop_of_commands_is_that_of_python() -> None:
    """Both train an experiment."""
    from spikewright.cli import _train
    from spikewright.train import _fit

    assert _fit.train_experiment is train_experiment and "train_experiment" in _train.train.__code__.co_names
