"""The configuration of a training run: sections of plain values from defaults, a recipe, flags and `--set`."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_names
from spikewright._util.reading import MOST_TEXT, read_regular
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, nearest
from spikewright.train.components import NESTED, RULES, as_table, loss_of_rule
from spikewright.train.settings import TrainSettings, settings_of

Tree = dict[str, dict[str, Any]]


AUTO_LOSS = "auto"
"""Name of the default loss of the rule: `on_rate` for rules of firing rates, else `per_step`."""

DEFAULTS: Tree = {
    "rule": {"name": "ottt"},
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "neuron": {"name": "lif"},
    "loss": {"name": AUTO_LOSS},
    "optimizer": {"name": "adam", "lr": 0.002},
    "schedule": {"name": "cosine"},
    "train": {},
}


@dataclass(frozen=True)
class Config:
    """A complete configuration of a training run, one attribute per section.

    Attributes:
        rule: `name` and arguments of the learning rule.
        data: `name` of the data set, keys of `Presentation`, and arguments of the loader.
        model: `name` and arguments of the model.
        neuron: `name` and arguments of the neuron class.
        loss: `name` ("per_step", "on_rate", "last_step", "max_over_time", "spike_count" or "first_spike") and arguments
            of the loss.
        optimizer: `name` of a class of `torch.optim` and its arguments.
        schedule: `name` of a learning-rate schedule and its arguments.
        train: `TrainSettings`.
        given: Keys of `train` that were given, so that they are not the defaults of `TrainSettings`. Set of texts.
            Default: frozenset(), none.
    """

    rule: dict[str, Any]
    data: dict[str, Any]
    model: dict[str, Any]
    neuron: dict[str, Any]
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    train: TrainSettings
    given: frozenset[str] = field(default=frozenset(), compare=False)

    def tree(self) -> Tree:
        """Return the configuration as nested dictionaries of plain values."""
        return {section: table for section, table in asdict(self).items() if section != "given"}


def configure(
    recipe: Path | str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    **sections: Mapping[str, Any] | str | None,
) -> Config:
    """Return a configuration from, in ascending priority: defaults, the recipe, `sections`, `overrides`.

    Args:
        recipe: Path of a TOML file, or its contents as a mapping. Default: None, no recipe.
        overrides: Strings `section.key=value`; the value is read as TOML, and as a string if that fails. Default: ().
        **sections: `rule`, `data`, `model`, `neuron`, `loss`, `optimizer`, `schedule` or `train`: a mapping of keys, or
            a component's name. Values of `None` are left out.

    Raises:
        ConfigError: A section or key is unknown, a value is out of its range, or the file cannot be read.

    >>> from spikewright.train import configure
    >>> configure(rule="sltt", overrides=["rule.k=2", "optimizer.lr=0.1"]).rule
    {'name': 'sltt', 'k': 2}
    """
    return settled(assemble(DEFAULTS, recipe, overrides, **sections))


def assemble(
    defaults: Tree,
    recipe: Path | str | Mapping[str, Any] | None,
    overrides: Sequence[str],
    **sections: Mapping[str, Any] | str | None,
) -> Tree:
    """Merge sections; a section that `defaults` does not have is an error. Arguments as for `configure`."""
    tree: Tree = {name: dict(table) for name, table in defaults.items()}
    if not isinstance(recipe, str | Path | Mapping | None):
        raise ConfigError(f"recipe={shown(recipe)} is neither the path of a recipe nor its contents. Give one of both.")
    check_names("configure", "overrides", overrides, "['rule.k=2']")
    given = read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else dict(recipe or {})
    for name, table in given.items():
        _merge(tree, name, table)
    flags = {name: _given(table) for name, table in sections.items()}
    for name, table in flags.items():
        _merge(tree, name, table)
    # Names first: flags and overrides of a section belong to its final component.
    names = [override for override in overrides if override.partition("=")[0].strip().endswith(".name")]
    for override in names:
        _override(tree, override)
    for name, table in flags.items():
        if isinstance(table, Mapping):
            _merge(tree, name, {key: value for key, value in table.items() if key != "name"})
    for override in overrides:
        _override(tree, override)
    for section, table in tree.items():
        _check_name(section, table)
    return tree


def settled(tree: Tree) -> Config:
    """Return the `Config` of merged sections, checked as far as possible without building components."""
    if tree["loss"]["name"] == AUTO_LOSS:
        tree["loss"]["name"] = loss_of_rule(tree["rule"])
    sections: dict[str, Any] = {**tree, "train": settings_of(TrainSettings, tree["train"])}
    return Config(**sections, given=frozenset(tree["train"]))


def rule_table(text: str) -> dict[str, Any]:
    """Return the table of a rule in short form, `name[:key=value]...`; a part that is a name is the inner rule.

    Raises:
        ConfigError: A part is neither `key=value` nor the name of a rule.

    >>> rule_table("sltt:k=2:rescale=true")
    {'name': 'sltt', 'k': 2, 'rescale': True}
    >>> rule_table("hlop:rows=0.2:ottt:online=true")
    {'name': 'hlop', 'rows': 0.2, 'rule': {'name': 'ottt', 'online': True}}
    """
    name, *arguments = text.split(":")
    table: dict[str, Any] = {"name": name}
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if not equals and argument.strip().lower() in RULES:
            return {**table, "rule": rule_table(":".join(arguments[place:]))}
        if not equals:
            raise ConfigError(
                f"The rule '{text}' has the part '{argument}'. Write it as key=value, e.g. sltt:k=2, or as the name of "
                f"the rule inside, e.g. hlop:dsr. {nearest(argument, RULES)}"
            )
        table[key] = _value(f"rule.{key}", value)
    return table


def _check_name(path: str, table: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a component in a table is named by anything but a text; `none` is one for those inside."""
    name, inside = table.get("name", ""), "." in path
    if not isinstance(name, str) and not (inside and name is None):
        raise ConfigError(
            f"{path}.name = {shown(name)} is {kind_of(name)}, but a component is looked up by a text. Write "
            f'{path}.name = "..."; `spikewright list` shows the names.'
        )
    for key, value in table.items():
        if key in NESTED and isinstance(value, Mapping):
            _check_name(f"{path}.{key}", cast("Mapping[str, Any]", value))


def _merge(tree: Tree, section: str, table: Any) -> None:
    if table is None:
        return
    if section not in tree:
        raise ConfigError(f"The configuration has a section '{section}', which is unknown. {nearest(section, tree)}")
    table = as_table(section, table)
    renamed = "name" in table and table["name"] != tree[section].get("name")
    tree[section] = {**({} if renamed else tree[section]), **table}


def _given(table: Mapping[str, Any] | str | None) -> Mapping[str, Any] | str | None:
    """Return a table without `None` values, which mark flags that were not given."""
    if table is None or isinstance(table, str):
        return table
    return {key: value for key, value in table.items() if value is not None}


def _override(tree: Tree, override: str) -> None:
    path, equals, text = override.partition("=")
    section, *keys = path.strip().split(".")
    if not equals or not keys:
        raise ConfigError(f"--set {override} cannot be read. Write section.key=value, e.g. optimizer.lr=0.05.")
    if section not in tree:
        raise ConfigError(f"--set {override}: there is no section '{section}'. {nearest(section, tree)}")
    table, path = tree[section], section
    for key in keys[:-1]:
        path = f"{path}.{key}"
        table[key] = as_table(path, table.get(key, {}))
        table = table[key]
    value = _value(f"{path}.{keys[-1]}", text)
    if keys[-1] == "name" and value != table.get("name", value):
        table.clear()  # drop the arguments of the other component
    table[keys[-1]] = value


_WORDS = {"none": None, "null": None, "true": True, "false": False}


def _value(key: str, text: str) -> Any:
    try:
        return _toml(f"value = {text}")["value"]
    except _NotRead as error:
        raise ConfigError(f"{key} = {text.strip()[:40]} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError:
        text = text.strip()
        if re.fullmatch(r"[+-]?(\d+\.|\d*\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
            return float(text)  # TOML wants digits on both sides of the point
        return _WORDS.get(text.lower(), text)


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file.

    Raises:
        ConfigError: The file cannot be read, or is not TOML.
    """
    try:
        return _toml(read_regular(path, MOST_TEXT).decode())
    except OSError as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (_NotRead, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {path} is not valid TOML: {error}.") from error


class _NotRead(Exception):
    """A text is TOML in form, and asks for what is not read."""


def _toml(text: str) -> dict[str, Any]:
    """Return what a text holds; whole numbers have 64 bits, as TOML has them."""
    try:
        found = tomllib.loads(text)
        _check_numbers(found)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise _NotRead("it nests tables or lists too deeply") from error
    except ValueError as error:  # Python reads no number of thousands of digits
        raise _NotRead(str(error)) from error
    return found


def _check_numbers(value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"a whole number of {value.bit_length()} bits was found, and TOML has numbers of 64")
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(entry)
