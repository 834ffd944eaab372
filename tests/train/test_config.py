"""A configuration is put together in one order, and whatever is wrong in it is named."""

import os
from pathlib import Path
from typing import Any

import pytest

from spikewright.errors import ConfigError
from spikewright.surrogate import ATan, Rectangle
from spikewright.train import Config, build, configure
from spikewright.train._build import build_network, build_rule
from spikewright.train.config import DEFAULTS, rule_table
from tests.train.support import tiny


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def slope(config: Config) -> Any:
    """The surrogate of the hidden layer."""
    return build_network(config, (1, 8, 8), 4).module.get_submodule("features.2").surrogate


def test_nothing_given_is_the_defaults() -> None:
    assert configure().tree() | {"train": {}} == DEFAULTS | {"loss": {"name": "per_step"}}
    assert (configure().train.steps, configure().train.device) == (6, "auto")


def test_later_sources_win(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[optimizer]\nlr = 0.1\neps = 0.1\nweight_decay = 0.1\n[train]\nsteps = 2\nepochs = 2\n")
    sections: dict[str, Any] = {"optimizer": {"eps": 0.2, "weight_decay": 0.2}, "train": {"epochs": 4}}
    config = configure(path, ["optimizer.weight_decay=0.3"], **sections)
    assert config.optimizer == {"name": "adam", "lr": 0.1, "eps": 0.2, "weight_decay": 0.3}
    assert (config.train.steps, config.train.epochs, config.train.batch_size) == (2, 4, 64)


def test_the_defaults_are_not_written_to() -> None:
    configure(None, ["optimizer.lr=5", "neuron.surrogate.name=atan"], rule="dsr")
    assert configure().tree() | {"train": {}} == DEFAULTS | {"loss": {"name": "per_step"}}


@pytest.mark.parametrize(
    "rule, loss", [("dsr", "on_rate"), ("IDE", "on_rate"), ("ottt", "per_step"), ("x", "per_step")]
)
def test_the_loss_follows_the_rule_unless_it_is_named(rule: str, loss: str) -> None:
    table = configure(None, ["loss.criterion.name=cross_entropy_mse"], rule=rule).loss
    assert table == {"name": loss, "criterion": {"name": "cross_entropy_mse"}}
    assert configure(None, ["loss.name=per_step"], rule=rule).loss == {"name": "per_step"}


def test_none_is_a_choice_where_nothing_is_not_one() -> None:
    config = configure(None, ["model.restriction=none"], rule="ide", model="mlp_f")
    assert not [m for m in build_network(config, (1, 8, 8), 4).modules() if hasattr(m, "parametrizations")]


def test_a_recipe_is_not_written_to() -> None:
    given = {"neuron": {"surrogate": {"name": "sigmoid", "alpha": 2.0}}}
    configure(given, ["neuron.surrogate.alpha=3.0"])
    assert given == {"neuron": {"surrogate": {"name": "sigmoid", "alpha": 2.0}}}


@pytest.mark.parametrize("given", [{"optimizer": "sgd"}, {"optimizer": {"name": "sgd"}}])
def test_another_name_drops_arguments_of_the_default(given: dict[str, Any]) -> None:
    assert configure(given).optimizer == {"name": "sgd"}
    assert configure(None, [], **given).optimizer == {"name": "sgd"}
    assert configure(None, ["optimizer.name=sgd"]).optimizer == {"name": "sgd"}


def test_another_name_drops_arguments_of_the_recipe() -> None:
    given = {"rule": {"name": "sltt", "k": 2}}
    assert configure(given, rule="ottt").rule == {"name": "ottt"}
    assert configure(given, rule={"name": "sltt", "seed": 3}).rule == {"name": "sltt", "k": 2, "seed": 3}


def test_entries_that_are_none_leave_the_recipe_alone() -> None:
    given = {"data": {"name": "synthetic", "size": 40}}
    assert configure(given, rule=None, data={"name": None, "dir": None}).data == given["data"]


def test_an_override_can_say_none() -> None:
    given = {"train": {"clip_norm": 2.0, "checkpoint_every": 5}}
    settings = configure(given, ["train.clip_norm=none", "train.checkpoint_every=null"]).train
    assert (settings.clip_norm, settings.checkpoint_every) == (None, None)
    assert build_rule(configure({"rule": {"name": "sltt", "k": 2}}, ["rule.k=none"])).get_buffer("draws") == 0


def test_values_are_read_as_toml_and_else_as_text() -> None:
    texts = {"2": 2, "0.5": 0.5, "true": True, "[1, 2]": [1, 2], '"2"': "2", "plain": "plain", "{a = 1}": {"a": 1}}
    for text, value in texts.items():
        assert configure(None, [f"model.hidden={text}"]).model["hidden"] == value


def test_nested_components_are_reached() -> None:
    config = tiny("neuron.surrogate.name=rectangle", "neuron.surrogate.width=0.5")
    assert slope(config) == Rectangle(0.5)
    assert slope(tiny("neuron.surrogate=atan")) == ATan()
    config = tiny("loss.criterion.name=cross_entropy_mse", "loss.criterion.mse=0.25")
    assert build(config).loss.criterion.mse == 0.25
    assert build(tiny("loss.criterion.mse=0.25", "loss.criterion.name=cross_entropy_mse")).loss.criterion.mse == 0.25


def test_rules_in_short_form() -> None:
    assert rule_table("bptt") == {"name": "bptt"}
    assert rule_table("ottt:online=true:leak=0.5") == {"name": "ottt", "online": True, "leak": 0.5}
    with pytest.raises(ConfigError, match=r"'sltt:2' has the part '2'.*key=value"):
        rule_table("sltt:2")


REFUSED = {
    "rul.name=sltt": "there is no section 'rul'. Did you mean 'rule'",
    "train": "--set train cannot be read",
    "train=3": "--set train=3 cannot be read",
    "train.epoch=3": "train.epoch is not a setting. Did you mean 'epochs'",
    "train.epochs=10000000": "train.epochs = 10000000: it can be at most 1000000",
    "train.workers=2000": "train.workers = 2000: it can be at most 1024",
    "train.epochs=0": "train.epochs = 0: it has to be at least 1",
    "train.steps=2.5": "train.steps = 2.5 is a float; ",
    "train.tensorboard=1": "train.tensorboard = 1 is an int; ",
    "train.amp=bfloat": "train.amp = 'bfloat' is unknown. Did you mean 'bfloat16'",
    "train.device=graphics": "train.device = 'graphics' cannot be used here",
    "rule.name=otttt": "rule.name = 'otttt' is unknown. Did you mean 'ottt'",
    "rule.onlin=true": "rule.onlin is not an argument of OTTT. Did you mean 'online'",
    "rule.online=yes": "rule.online = 'yes' is a str; OTTT takes bool",
    "rule.chunk=true": "rule.chunk = True is a bool",
    "model.name=mpl": "model.name = 'mpl' is unknown. Did you mean 'mlp'",
    "model.hiden=[8]": "model.hiden is not an argument of MLP. Did you mean 'hidden'",
    "model.hidden=8": "model.hidden = 8 is an int; MLP takes tuple[int, ...]",
    "model.shape=[1, 8, 8]": "model.shape is not an argument of MLP",
    "neuron.name=liff": "neuron.name = 'liff' is unknown. Did you mean 'lif'",
    "neuron.tau=slow": "neuron.tau = 'slow' is a str",
    "neuron.tau=0.5": "tau must be at least 1",
    "neuron.reset=subtracted": "neuron.reset = 'subtracted' is a str; LIF takes Literal['subtract', 'zero', 'late']",
    "neuron.surrogate=sigmod": "neuron.surrogate.name = 'sigmod' is unknown. Did you mean 'sigmoid'",
    "loss.criterion=mse": "loss.criterion.name = 'mse' is unknown",
    "optimizer.momentum=0.9": "optimizer.momentum is not an argument of Adam",
    "optimizer.lr=none": "optimizer.lr = None; Adam takes float",
    "optimizer.lr=-1.0": "optimizer = adam could not be built",
    "schedule.name=cosin": "schedule.name = 'cosin' is unknown. Did you mean 'cosine'",
    "schedule.warm=1": "schedule.warm is not an argument of cosine. Did you mean 'warmup'",
    "schedule.name=steplr": "schedule = steplr could not be built.*step_size",
    "data.name=digit": "The data set 'digit' is unknown. Did you mean 'digits'",
    "data.sise=40": "data.sise is not a setting. Did you mean 'size'",
    "data.encoding=directly": "The encoding 'directly' is unknown. Did you mean 'direct'",
    "data.augment=crops": "The augmentation 'crops' is unknown. Did you mean 'crop'",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_wrong_is_named(override: str) -> None:
    pattern = REFUSED[override].replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ConfigError, match=pattern):
        build(tiny(override))


def test_sections_of_a_recipe_are_named_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"section 'optimiser', which is unknown. Did you mean 'optimizer'"):
        configure(recipe(tmp_path, "[optimiser]\nlr = 1\n"))
    with pytest.raises(ConfigError, match="train = 3 is an int; it has to be a table"):
        configure(recipe(tmp_path, "train = 3\n"))


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe.toml is not valid TOML.*line 1"):
        configure(recipe(tmp_path, "rule = \n"))
    with pytest.raises(ConfigError, match=r"missing.toml cannot be read: No such file"):
        configure(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read: it is a directory, not a regular file"):
        configure(str(tmp_path))


FAR_TOO_LONG = "9" * 5000


@pytest.mark.parametrize(
    "text",
    [
        f"rule.seed = {FAR_TOO_LONG}",
        f"rule.seed = 0x{FAR_TOO_LONG}",
        "rule.seed = 9223372036854775808",
        f"rule.rows = {'[' * 5000}{']' * 5000}",
        f"rule = {'{a = ' * 5000}1{'}' * 5000}",
    ],
)
def test_what_toml_does_not_have_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe.toml is not valid TOML: (Exceeds|a whole number of|it nests)"):
        configure(recipe(tmp_path, text))
    key, _, value = text.partition(" = ")
    with pytest.raises(ConfigError, match=r"rule.* = .* cannot be read: (Exceeds|a whole number of|it nests)"):
        configure(overrides=[f"{key if '.' in key else 'rule.a'}={value}"])


def test_a_recipe_is_a_short_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "a named pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ConfigError, match=f"The recipe {path} cannot be read: it is {why}"):
            configure(path)
    with pytest.raises(ConfigError, match="cannot be read: it holds more than 1 MiB"):
        configure(recipe(tmp_path, "#" * (2**20 + 1)))


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000, [10**5000]], ids=["large", "low", "huge", "list"])
def test_numbers_of_any_size_are_refused_in_words(value: Any) -> None:
    for section, key in (("train", "seed"), ("train", "clip_norm"), ("train", "device"), ("rule", "spatial")):
        with pytest.raises(ConfigError, match=f"{section}.{key} = "):
            build_rule(configure(**{section: {key: value}}))
