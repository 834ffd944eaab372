"""`sw.fit`: what it takes, what it measures, and what a run of it keeps when it goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

import spikewright as sw
from spikewright.errors import CheckpointError, ConfigError, InputError
from spikewright.losses import Loss, OnRate, PerStep
from spikewright.train._evaluate import evaluate
from spikewright.train.distributed import Ranks, seed_process
from spikewright.train.progress import Progress
from spikewright.train.source import LoaderSource
from tests.train.support import same, weights

T, N, CLASSES = 3, 24, 3


def network(**given: Any) -> sw.Network:
    torch.manual_seed(1)
    return sw.Network(nn.Sequential(nn.Linear(6, 12), sw.LIF(**given), nn.Linear(12, CLASSES)))


def data(size: int = N) -> tuple[Tensor, Tensor]:
    x = torch.rand(T, size, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(size) % CLASSES


def batches(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size, 1), y.split(size)))


def fitted(out: Path, loss: Loss | None = None, net: sw.Network | None = None, **given: Any) -> dict[str, Any]:
    net = net or network()
    optimizer = given.pop("optimizer", None) or torch.optim.SGD(net.parameters(), lr=0.1)
    loader = given.pop("loader", None) or batches(*data(), 7)
    loss = loss or PerStep(nn.CrossEntropyLoss())
    return sw.fit(net, sw.rules.SLTT(), loss, optimizer, loader, out=out, progress=False, **given)


WEIGHTS = torch.tensor([1.0, 10.0, 0.1])
CRITERIA: dict[str, Loss] = {
    "mean": PerStep(nn.CrossEntropyLoss()),
    "weights of classes": PerStep(nn.CrossEntropyLoss(WEIGHTS)),
    "of rates, with weights": OnRate(nn.CrossEntropyLoss(WEIGHTS)),
    "an ignored class": PerStep(nn.CrossEntropyLoss(ignore_index=1)),
    "both, smoothed": PerStep(nn.CrossEntropyLoss(WEIGHTS, ignore_index=2, label_smoothing=0.1)),
    "squares": PerStep(lambda output, y: F.mse_loss(output, F.one_hot(y, CLASSES).to(output.dtype))),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_an_evaluation_does_not_depend_on_the_sizes_of_batches(name: str) -> None:
    loss, (net, (x, y)) = CRITERIA[name], (network().double(), data())
    x = x.double()
    loss = loss.by(loss.criterion.double()) if isinstance(loss.criterion, nn.Module) else loss
    with torch.no_grad():
        output, _ = net.run(x)
    kept = y != getattr(loss.criterion, "ignore_index", -100)
    right = (output.mean(0).argmax(-1) == y)[kept].double().mean()
    for size in (1, 5, 7, N):
        found = evaluate(net, LoaderSource(batches(x, y, size), 0, torch.device("cpu"), False), loss)
        assert found.loss == pytest.approx(float(loss(output, y, T)), rel=1e-12)
        assert found.accuracy == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize(
    "criterion", [F.cross_entropy, partial(F.cross_entropy, label_smoothing=0.1), lambda o, y: F.cross_entropy(o, y)]
)
def test_any_callable_is_a_criterion_of_a_run_that_goes_on(tmp_path: Path, criterion: Any) -> None:
    fitted(tmp_path, PerStep(criterion), epochs=1)
    assert fitted(tmp_path, PerStep(criterion), epochs=2, resume=True)["epochs"] == 2


def test_labels_that_are_all_ignored_are_no_data_to_evaluate_on(tmp_path: Path) -> None:
    x, y = data()
    some, none = y.clone(), torch.full_like(y, -100)
    some[:7] = -100  # the first batch of seven
    found = fitted(tmp_path / "some", validation=batches(x, some, 7))
    assert 0 < found["validation_loss"] < 10 and (tmp_path / "some" / "best.safetensors").exists()
    with pytest.raises(InputError, match="ignores the labels of all"):
        fitted(tmp_path / "none", validation=batches(x, none, 7))


def test_training_figures_leave_ignored_labels_out(tmp_path: Path) -> None:
    """With a learning rate of 0 they are those of an evaluation."""
    net, loss = network(), PerStep(nn.CrossEntropyLoss(WEIGHTS, ignore_index=1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    found = fitted(tmp_path, loss, net, optimizer=optimizer, validation=batches(*data(), N))
    for name in ("loss", "accuracy"):
        assert found[f"train_{name}"] == pytest.approx(found[f"validation_{name}"], rel=1e-6)


def test_one_evaluation_that_is_no_number_does_not_block_the_best() -> None:
    progress = Progress()
    assert [progress.judge(merit, None) for merit in (float("nan"), 0.5, 0.25, float("nan"), 0.75)] == [
        False, True, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": {"loss": lambda o, y: 0.0}}, "metric named 'loss'"),
        ({"metrics": {"": lambda o, y: 0.0}}, "metric named ''"),
        ({"metrics": {"a,b": lambda o, y: 0.0}}, "metric named 'a,b'"),
        ({"metrics": {"each": lambda o, y: torch.ones(3)}}, r"'each' returned a tensor \[3\]"),
        ({"metrics": {"none": lambda o, y: None}}, "'none' returned None"),
        ({"optimizer": torch.optim.Adam(network().parameters())}, "without any parameter of the network"),
    ],
)
def test_what_could_not_be_right_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(tmp_path, **given)


def test_optimizers_and_schedules_that_a_rule_cannot_step(tmp_path: Path) -> None:
    net = network()
    with pytest.raises(ConfigError, match="LBFGS, which evaluates the loss several times"):
        fitted(tmp_path, net=net, optimizer=torch.optim.LBFGS(net.parameters()))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    plateau = ReduceLROnPlateau(optimizer)
    with pytest.raises(ConfigError, match="looks at the loss of an epoch"):
        fitted(tmp_path, net=net, optimizer=optimizer, schedule=plateau, schedule_every="batch")
    assert fitted(tmp_path, net=net, optimizer=optimizer, schedule=plateau)["epochs"] == 1


def again(out: Path, net: sw.Network, loss: Loss, gamma: float, every: str, size: int, **given: Any) -> dict[str, Any]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = StepLR(optimizer, 1, gamma)
    return fitted(
        out, loss, net, optimizer=optimizer, schedule=schedule, schedule_every=every, loader=batches(*data(size), 7),
        **given,
    )  # fmt: skip


PLAIN = PerStep(nn.CrossEntropyLoss(torch.ones(3)))
OTHERS = {
    "layers.1": (lambda: network(threshold=3.0), PLAIN, 0.5, "epoch", N),
    "loss.digest": (network, PerStep(nn.CrossEntropyLoss(WEIGHTS)), 0.5, "epoch", N),
    "loss.options": (network, PerStep(nn.CrossEntropyLoss(torch.ones(3), label_smoothing=0.1)), 0.5, "epoch", N),
    "schedule.gamma": (network, PLAIN, 0.1, "epoch", N),
    "schedule.every": (network, PLAIN, 0.5, "batch", N),
    "data.batches": (network, PLAIN, 0.5, "epoch", 40),
}


@pytest.mark.parametrize("key", OTHERS)
def test_a_run_that_goes_on_keeps_its_parts(tmp_path: Path, key: str) -> None:
    again(tmp_path, network(), PLAIN, 0.5, "epoch", N, epochs=1)
    make, *other = OTHERS[key]
    with pytest.raises(CheckpointError, match=rf"was made with {key} = "):
        again(tmp_path, make(), *other, epochs=2, resume=True)
    found = again(tmp_path, network(), PLAIN, 0.5, "epoch", N, epochs=2, resume=True)
    assert found["epochs"] == 2 and [change["key"] for change in found["changes"]] == ["train.epochs"]


def test_other_samples_of_the_same_number_are_noted(tmp_path: Path) -> None:
    x, y = data()
    fitted(tmp_path, epochs=1)
    found = fitted(tmp_path, loader=batches(x + 1, y, 7), epochs=2, resume=True)
    assert [change["key"] for change in found["changes"]] == ["data.first_batch", "train.epochs"]


def test_a_network_with_trained_constants_goes_on_in_the_same_process(tmp_path: Path) -> None:
    net = network(learn_tau=True)
    fitted(tmp_path, net=net, epochs=1)
    fitted(tmp_path, net=net, epochs=2, resume=True)
    whole = network(learn_tau=True)
    fitted(tmp_path / "whole", net=whole, epochs=2)
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


@pytest.mark.long
def test_noise_in_an_evaluation_is_that_of_the_seed_in_every_process(tmp_path: Path) -> None:
    """Processes have random numbers of their own, but evaluate the same samples."""
    x, y = data()
    found = set()
    for rank in range(2):
        folder = tmp_path / str(rank)
        seed_process(0, Ranks(rank, 2))
        net = network(noise=0.5)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        made = fitted(folder, net=net, optimizer=optimizer, validation=batches(x, y, 5), epochs=2)
        found |= {row["validation_loss"] for row in made["history"]}
    assert len(found) == 1
