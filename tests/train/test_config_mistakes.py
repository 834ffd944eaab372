"""Mistakes in a configuration end in a message about the configuration, never in an error from inside."""

from datetime import date
from pathlib import Path

import pytest

from spikewright.continual import configure_continual
from spikewright.errors import CheckpointError, ConfigError
from spikewright.graph.config import configure_reasoning
from spikewright.train import build, configure
from tests.train.support import experiment, tiny

MISTAKES = {
    "optimizer.lr.x=3": "optimizer.lr",
    "neuron.surrogate=3": "neuron.surrogate",
    "optimizer.betas=[0.9]": "optimizer",
    "train.seed=100000000000000000000000": "train.seed",
    "train.steps=true": "train.steps = True is a bool",
    "train.clip_norm=small": "train.clip_norm = 'small' is a str",
    "train.clip_norm=-1.0": "train.clip_norm = -1.0",
    "train.clip_norm=0.0": "train.clip_norm = 0.0",
    "train.checkpoint_every=often": "train.checkpoint_every = 'often' is a str",
    "train.checkpoint_every=-3": "train.checkpoint_every = -3",
    "data.limit_train=few": "data.limit_train = 'few' is a str",
    "data.validation=some": "data.validation = 'some' is a str",
    "data.size=many": "data.size = 'many' is a str",
    "loss.criterion.size_average=true": "size_average = True: torch has replaced .* give loss.criterion.reduction",
    "loss.criterion.reduce=0.5": "loss.criterion.reduce = 0.5",
    "data.name=folder data.progress=[1]": "data.progress = .* is a tuple; data takes collections.abc.Callable",
    "schedule.name=cycliclr schedule.base_lr=0.1 schedule.max_lr=0.2 schedule.scale_fn=[1]": "schedule.scale_fn",
    "data.features=8": "data.features = 8 is an int",
    "data.features=[1,8]": r"data.features = \(1, 8\) is a tuple; data takes tuple\[int, int, int\]",
    "model.hidden=[4,true]": r"model.hidden = \(4, True\)",
    'optimizer.betas=[0.9,"many"]': "optimizer.betas",
    'schedule.name=multisteplr schedule.milestones=[1,"many"]': "schedule.milestones",
    "schedule.name=steplr schedule.step_size=long": "schedule.step_size = 'long' is a str",
    "schedule.name=lrscheduler": "schedule.name = 'lrscheduler' is unknown",
    "optimizer.name=lbfgs": "optimizer.*lbfgs",
    "optimizer.name=sparseadam": "optimizer.*sparseadam",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_as_one(text: str) -> None:
    with pytest.raises(ConfigError, match=MISTAKES[text]):
        build(tiny(*text.split()))


def test_a_recipe_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe[rule]")
    with pytest.raises(ConfigError, match=r"recipe.toml is not"):
        configure(tmp_path / "recipe.toml")


def test_arguments_of_the_default_nested_component_are_reached() -> None:
    found = experiment("neuron.surrogate.alpha=2.0", "neuron.surrogate.factor=0.5").config["neuron"]["surrogate"]
    assert found == {"name": "sigmoid", "alpha": 2.0, "factor": 0.5}
    assert experiment("loss.criterion.label_smoothing=0.1").loss.criterion.label_smoothing == 0.1
    assert experiment(neuron={"surrogate": {"alpha": 2.0}}).config["neuron"]["surrogate"]["alpha"] == 2.0


def test_another_nested_name_drops_arguments_too() -> None:
    stored = experiment().config
    changed = build(configure(stored, ["neuron.surrogate.name=rectangle"]))
    assert changed.config["neuron"]["surrogate"] == {"name": "rectangle", "width": 1.0, "factor": 1.0}


def test_every_argument_of_a_data_set_is_reached() -> None:
    built = experiment("data.classes=3", "data.size=30", "data.seed=2", "data.features=[1, 4, 4]")
    assert (built.dataset.classes, len(built.dataset.train), built.dataset.shape) == (3, 30, (1, 4, 4))
    assert built.config["data"]["classes"] == 3


def test_a_data_set_without_a_name() -> None:
    with pytest.raises(ConfigError, match=r"data"):
        build(tiny("data.name=none"))


@pytest.mark.parametrize("name", [3, 0.5, True, None, ["mlp"], {"name": "mlp"}, date(1979, 5, 27)])
@pytest.mark.parametrize("section", ["rule", "data", "model", "neuron", "loss", "optimizer", "schedule"])
def test_a_name_is_a_text(section: str, name: object) -> None:
    with pytest.raises(ConfigError, match=rf"{section}.name = .* but a component is looked up by a text"):
        configure({section: {"name": name}})


def test_names_of_all_commands_and_of_components_inside_are_texts() -> None:
    with pytest.raises(ConfigError, match=r"data.name = 3 is an int"):
        configure_reasoning({"data": {"name": 3}})
    with pytest.raises(ConfigError, match=r"scenario.name = 3 is an int"):
        configure_continual({"scenario": {"name": 3}})
    with pytest.raises(ConfigError, match=r"rule.rule.name = 3 is an int"):
        configure_continual({"scenario": {"name": "split"}, "rule": {"name": "gpm", "rule": {"name": 3}}})
    with pytest.raises(ConfigError, match=r"neuron.surrogate.name = 3 is an int"):
        configure(neuron={"surrogate": {"name": 3}})
    for name in (3, "", []):
        with pytest.raises(ConfigError, match=r"The benchmark .* is unknown"):
            configure_continual({"benchmark": name})


def test_a_path_with_a_null_character_names_no_file() -> None:
    with pytest.raises(CheckpointError, match="cannot be read: its name holds a null character"):
        build(configure(tiny().tree(), train={"weights": "a\0b"}))
