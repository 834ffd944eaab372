"""What cannot be trained is refused, as early as it can be known, and what was there before stays."""

import math
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import spikewright as sw
from spikewright.errors import CheckpointError, ConfigError, IncompatibleRule, InputError, NotFinite
from spikewright.losses import PerStep
from spikewright.train import Experiment, train_experiment
from spikewright.train.log import Silent
from tests.train.support import experiment, files, same, trained, weights


def state(built: Experiment) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in built.net.module.state_dict().items()}


@torch.no_grad()
def poison(built: Experiment, name: str, value: float) -> None:
    """Put a number into the first place of a parameter."""
    built.net.module.get_parameter(name).view(-1)[0] = value


def test_a_folder_with_a_run_is_not_written_to(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"already holds a run. Nothing was overwritten.*--resume"):
        trained(tmp_path / "run", "train.seed=1")
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("place", ["file", "file/run", "file/deep/run"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    built = experiment()
    before = state(built)
    with pytest.raises(CheckpointError, match=r"is not possible: .*--out. Nothing was trained"):
        train_experiment(built, tmp_path / place)
    assert same(before, state(built))
    assert (tmp_path / "file").read_text() == "in the way"


NOT_FINITE = {
    "features.1.weight": (float("nan"), "the weight of synapse 'features.1' (1 of 1024 values)"),
    "features.1.bias": (float("nan"), "the current of synapse 'features.1' (30 of 480 values)"),
    "readout.weight": (float("-inf"), "the weight of synapse 'readout' (1 of 64 values)"),
    "readout.bias": (float("nan"), "the current of synapse 'readout' (30 of 120 values)"),
}


@pytest.mark.parametrize("name", NOT_FINITE)
@pytest.mark.parametrize("rule", ["ottt", "bptt"])
def test_the_first_thing_that_is_not_finite_is_named(tmp_path: Path, name: str, rule: str) -> None:
    built = experiment(rule=rule)
    value, culprit = NOT_FINITE[name]
    poison(built, name, value)
    before = state(built)
    with pytest.raises(NotFinite, match=rf"in epoch 1, batch 1: .*that is not finite is {re.escape(culprit)}"):
        train_experiment(built, tmp_path / "run")
    assert same(before, state(built))
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize("rule", ["ottt", "bptt"])
def test_an_infinite_weight_in_front_of_a_neuron_is_noticed(tmp_path: Path, rule: str) -> None:
    """The neuron fires at every step and its slope is zero, so the loss stays finite."""
    built = experiment(rule=rule)
    poison(built, "features.1.bias", float("inf"))
    with pytest.raises(NotFinite, match=r"features.1"):
        train_experiment(built, tmp_path / "run")


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_loss_scaling_does_not_hide_what_is_not_finite(tmp_path: Path) -> None:
    built = experiment("train.amp=float16", "schedule.name=constant", "train.epochs=20")
    poison(built, "features.1.weight", float("nan"))
    with pytest.raises(NotFinite, match=r"features.1"):
        train_experiment(built, tmp_path / "run")


UNSOUND = {
    "the loss": lambda o, y: cross_entropy(o, y) + float("inf"),
    "a gradient": lambda o, y: cross_entropy(o, y) + (0 * o.sum()).sqrt(),
}
"""Criteria of which one is infinite with finite gradients, and the other finite with gradients that are not."""


@pytest.mark.parametrize("what", UNSOUND)
def test_loss_and_gradient_are_looked_at_before_a_weight_moves(tmp_path: Path, what: str) -> None:
    built = experiment()
    built.loss = PerStep(UNSOUND[what])
    before = state(built)
    with pytest.raises(NotFinite, match=r"in epoch 1, batch 1: (the loss|the norm of the gradient) is (nan|inf)"):
        train_experiment(built, tmp_path / "run")
    assert same(before, state(built))


class Poisoner(Silent):
    """Spoils a weight in the middle of the second epoch."""

    def __init__(self, built: Experiment) -> None:
        self.built = built

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        if (epoch, batch) == (1, 1):
            poison(self.built, "features.1.weight", float("nan"))


def test_earlier_checkpoints_stay(tmp_path: Path) -> None:
    constant = "schedule.name=constant"
    trained(tmp_path / "one", "train.epochs=1", constant)
    built = experiment("train.epochs=3", constant)
    with pytest.raises(NotFinite, match=rf"in epoch 2, batch 3.*Earlier checkpoints in {tmp_path}/run are untouched"):
        train_experiment(built, tmp_path / "run", reporter=Poisoner(built))
    for name in ("last", "best"):
        assert same(weights(tmp_path / "run", name), weights(tmp_path / "one"))


def test_a_learning_rate_that_blows_up(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"in epoch 1, batch 2: the norm of the weights is .*Lower optimizer.lr"):
        trained(tmp_path / "run", "optimizer.lr=1e38", optimizer="sgd")


def test_an_input_that_is_not_finite(tmp_path: Path) -> None:
    built = experiment()
    images = built.training.split.images.float()
    images[3] = float("nan")
    object.__setattr__(built.training.split, "images", images)
    with pytest.raises(InputError, match="holds 192 values that are not finite"):
        train_experiment(built, tmp_path / "run")


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_out_of_range(tmp_path: Path, label: int) -> None:
    built = experiment()
    built.training.split.labels[5] = label
    with pytest.raises(InputError, match=rf"needs class indices from 0 to 3.*is {label}"):
        train_experiment(built, tmp_path / "run")


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_samples(part: str) -> None:
    with pytest.raises(ConfigError, match=f"data.limit_{part} = 0: it has to be at least 1"):
        experiment(f"data.limit_{part}=0")


def test_too_many_samples_held_out() -> None:
    with pytest.raises(ConfigError, match=r"data.validation = 1.5: it has to be a number in"):
        experiment("data.validation=1.5")


def test_a_rule_that_cannot_use_the_loss(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleRule, match="OTTT learns at every step, but the loss is OnRate"):
        trained(tmp_path / "run", "loss.name=on_rate")


def test_more_steps_to_draw_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SLTT\(k=4\) was given a sequence of 3 steps"):
        trained(tmp_path / "run", rule={"name": "sltt", "k": 4})


def test_images_too_small_for_the_model() -> None:
    with pytest.raises(ConfigError, match="Conv reduces its image by 16"):
        experiment(model={"name": "conv", "channels": [4, 4, 4, 4]})


class _Statistics(nn.Module):
    """A layer with two buffers: a mask that is infinite by right, and one that overflows while it trains."""

    mask: torch.Tensor
    running: torch.Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.register_buffer("running", torch.tensor(start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.running.mul_(1e30)
        return x


@pytest.mark.parametrize(("start", "trains"), [(0.0, True), (1e30, False)])
def test_a_buffer_that_overflows_is_noticed_and_one_that_was_infinite_is_left_alone(
    tmp_path: Path, start: float, trains: bool
) -> None:
    net = sw.Network(nn.Sequential(nn.Linear(3, 4), sw.LIF(), _Statistics(start), nn.Linear(4, 2)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loader = [(torch.rand(2, 4, 3), torch.tensor([0, 1, 0, 1]))] * 3
    with nullcontext() if trains else pytest.raises(NotFinite, match=r"The buffer 'model.2.running' is not finite"):
        sw.fit(net, sw.rules.BPTT(), sw.losses.PerStep(nn.CrossEntropyLoss()), optimizer, loader, out=tmp_path / "run")


@pytest.mark.parametrize("rule", [sw.rules.BPTT(), sw.rules.IDE(), sw.rules.OTTT()])
def test_batch_norm_of_one_value_is_told_of_as_such(tmp_path: Path, rule: sw.rules.Rule) -> None:
    """Rates of a sequence are one row per sample, however many steps it has."""
    net = sw.Network(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), sw.IF(reset="subtract"), nn.Linear(4, 2)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = (sw.losses.OnRate if isinstance(rule, sw.rules.IDE) else sw.losses.PerStep)(nn.CrossEntropyLoss())
    loader = [(torch.rand(1, 1, 3), torch.tensor([0]))]
    with pytest.raises(InputError, match=r"'1' \(BatchNorm1d\) was given 1 sample of shape .* one value per channel"):
        sw.fit(net, rule, loss, optimizer, loader, out=tmp_path / "run")
