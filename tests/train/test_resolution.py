"""The configuration that a run records says everything, and leads to the same run again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright.train import Experiment, build, configure
from tests.train.support import TINY, experiment, same, tiny

ROOT = Path(__file__).parents[2]
CONV = {"model": {"name": "conv", "channels": [4], "hidden": 8, "norm": "batch"}}
VGG: dict[str, Any] = {"name": "vgg", "layers": [4, "P", 4], "dropout": 0.3}
EXPERIMENTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "the defaults": ([], {}),
    "bptt": ([], {"rule": "bptt", "loss": "on_rate", **CONV}),
    "sltt": (["rule.k=2", "rule.rescale=true", "train.clip_norm=1.0"], {"rule": "sltt", "model": VGG}),
    "reference": (["rule.reference=true", "rule.online=true"], {"neuron": {"name": "if", "reset": "zero"}}),
    "several leaks": (["neuron.tau=[2.0, 3.0, 2.5, 4.0]"], {"rule": "bptt", "model": VGG}),
    "learned leak": (["neuron.learn_tau=true", "neuron.surrogate=rectangle"], {"rule": "sltt"}),
    "mixed loss": (["loss.criterion={name = 'cross_entropy_mse', target = 1.0}"], {}),
    "sgd": (["schedule.warmup=0.5", "optimizer.momentum=0.9"], {"optimizer": {"name": "SGD", "lr": 0.1}}),
    "adamw": (["optimizer.betas=[0.8, 0.9]"], {"optimizer": "adamw", "schedule": "constant"}),
    "steps": (["schedule.milestones=[1, 2]"], {"schedule": "multisteplr"}),
    "data": (["data.features=[2, 4, 4]", "data.encoding=poisson", "data.validation=0.2", "data.augment=crop"], {}),
    "limits": (["data.limit_train=20", "data.limit_test=8", "train.checkpoint_every=3"], {}),
}


def again(config: Any) -> Experiment:
    """The experiment that the stored form of a configuration leads to."""
    return build(configure(json.loads(json.dumps(config))))


def assert_equal(left: Experiment, right: Experiment) -> None:
    assert left.config == right.config
    assert repr(left.rule) == repr(right.rule) and repr(left.loss) == repr(right.loss)
    assert repr(left.net.module) == repr(right.net.module)
    assert same(left.net.module.state_dict(), right.net.module.state_dict())
    assert same(left.optimizer.state_dict(), right.optimizer.state_dict())
    assert left.schedule.per_batch is right.schedule.per_batch
    first, second = (next(e.training.epoch(1)) for e in (left, right))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_resolved_configuration_resolves_to_itself(name: str) -> None:
    overrides, sections = EXPERIMENTS[name]
    first = experiment(*overrides, **sections)
    assert_equal(first, again(first.config))


@pytest.mark.parametrize("rule", ["ottt", "sltt"])
def test_an_argument_that_is_none_on_purpose_stays(rule: str) -> None:
    first = experiment("rule.chunk=none", rule=rule)
    assert first.rule.chunk is None
    assert_equal(first, again(first.config))


def test_every_default_is_in_it() -> None:
    config = experiment().config
    surrogate = {"name": "sigmoid", "alpha": 4.0, "factor": 1.0}
    assert config["rule"]["chunk"] == 1 and config["neuron"]["surrogate"] == surrogate
    assert config["optimizer"]["betas"] == [0.9, 0.999] and config["schedule"]["floor"] == 0.0
    assert config["loss"]["criterion"]["label_smoothing"] == 0.0 and config["train"]["evaluate_every"] == 1
    assert config["data"]["encoding"] == "direct" and config["data"]["augment"] == "none"
    assert json.loads(json.dumps(config)) == config


def test_building_leaves_the_configuration_alone() -> None:
    config = tiny()
    before = json.dumps(config.tree())
    build(config)
    assert json.dumps(config.tree()) == before


def test_building_seeds_the_weights() -> None:
    first = experiment().net.module.state_dict()
    torch.rand(3)
    assert same(first, experiment().net.module.state_dict())
    assert not same(first, experiment("train.seed=1").net.module.state_dict())


OTHERS = ("continual-", "reason-")
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.toml") if not path.stem.startswith(OTHERS))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_name_what_exists(path: Path) -> None:
    """The data of a recipe is replaced; models are made narrow where they can be."""
    config = configure(path)
    narrow = {"width": 1 / 16} if "width" in config.model or config.model["name"] not in ("mlp", "conv") else {}
    data = {**TINY["data"], "features": [3, 32, 32]}
    built = build(configure(path, data=data, model=narrow, train={"batch_size": 4}))
    assert built.config["rule"]["name"] == config.rule["name"]
    assert_equal(built, again(built.config))
