"""Every recipe names things that exist, and its network and rule run together."""

from pathlib import Path

import pytest
import torch

from spikewright import data as datasets
from spikewright.data import AUGMENTATIONS
from spikewright.train import configure
from spikewright.train.build import build_network, build_rule
from spikewright.train.components import LOSSES, MODELS, OPTIMIZERS, construct, options
from spikewright.train.schedule import SCHEDULES

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))
DIGITS = ((1, 28, 28), 10)
SHAPES = {"mnist": DIGITS, "fashion_mnist": DIGITS, "cifar10": ((3, 32, 32), 10), "cifar100": ((3, 32, 32), 100)}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_a_step_of_its_own_network(path):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    # What moves a weight must be its gradient, so nothing decays.
    overrides = ["optimizer.weight_decay=0.0"]
    if "width" in options(MODELS[configure(path).model["name"]]):
        overrides.append("model.width=0.0625")
    config = configure(path, overrides=overrides)
    shape, classes = SHAPES[config.data["name"]]
    net = build_network(config, shape, classes)
    loss = construct("loss", LOSSES, config.loss)
    optimizer = construct("optimizer", OPTIMIZERS, config.optimizer, net.parameters())
    construct("schedule", SCHEDULES, config.schedule, optimizer, 10, config.train.epochs)
    before = [p.detach().clone() for p in net.parameters()]
    for _ in build_rule(config).updates(net, torch.rand(12, 2, *shape), torch.tensor([0, classes - 1]), loss):
        optimizer.step()
        optimizer.zero_grad()
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters()))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_known_data(path):
    config = configure(path)
    assert config.data["name"] in datasets.names()
    assert config.data.get("augment", "none") in AUGMENTATIONS
    assert path.name in path.read_text(), "the command in the comment is the file's own"
