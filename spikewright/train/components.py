"""Things that a configuration names: looked up, checked against their signature, and built.

A component is written as a name, or as a table with a `name` and the arguments of its constructor.  Every constructor
argument is reachable this way and no other key is accepted.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

import spikewright.losses
import spikewright.models
import spikewright.neurons
import spikewright.rules
import spikewright.surrogate
from spikewright.errors import ConfigError, nearest

Choices = Mapping[str, Callable[..., Any]]


def _concrete(module: types.ModuleType, base: type) -> dict[str, Callable[..., Any]]:
    """Collect the public classes of a module that can be built, by lower-case name."""
    classes = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base)]
    return {c.__name__.lower(): c for c in classes if not inspect.isabstract(c) and c is not base}


RULES: Choices = {name: rule for name, rule in _concrete(spikewright.rules, spikewright.rules.Rule).items()}
NEURONS: Choices = _concrete(spikewright.neurons, spikewright.neurons.Neuron)
SURROGATES: Choices = _concrete(spikewright.surrogate, spikewright.surrogate.Surrogate)
LOSSES: Choices = {"per_step": spikewright.losses.PerStep, "on_rate": spikewright.losses.OnRate}
CRITERIA: Choices = {
    "cross_entropy": nn.CrossEntropyLoss,
    "cross_entropy_mse": spikewright.losses.CrossEntropyMSE,
}
MODELS: Choices = {name: spikewright.models.model_class(name) for name in spikewright.models.list_models()}
OPTIMIZERS: Choices = _concrete(torch.optim, torch.optim.Optimizer)

SUPPLIED = frozenset("params shape classes neuron optimizer batches epochs data_dir inplace".split())
"""Arguments that the program fills in, or that mean nothing here."""

NESTED: Mapping[str, Choices] = {"surrogate": SURROGATES, "criterion": CRITERIA}
"""Arguments that are components themselves."""


def construct(kind: str, choices: Choices, table: Mapping[str, Any], *fixed: Any, **given: Any) -> Any:
    """Build a component.

    Args:
        kind: What it is, for messages: the section of the configuration.
        choices: What the name may be.
        table: `name` and constructor arguments.
        *fixed: Positional arguments that the configuration does not decide.
        **given: Keyword arguments likewise.

    Raises:
        ConfigError: The name or an argument is unknown, or an argument has the wrong type or value.
    """
    builder = choose(kind, choices, table["name"])
    arguments = {}
    for key, value in table.items():
        if key != "name":
            arguments[key] = _argument(kind, builder, key, value, skip=set(given))
    try:
        return builder(*fixed, **arguments, **given)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{kind} = {table['name']} could not be built with {arguments}: {error}") from error


def choose(kind: str, choices: Choices, name: str) -> Callable[..., Any]:
    """Look a name up.

    Raises:
        ConfigError: There is no such name.
    """
    key = str(name).lower()
    if key not in choices:
        raise ConfigError(f"{kind}.name = '{name}' is unknown. {nearest(key, choices)}")
    return choices[key]


def options(builder: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return what a configuration may set on a constructor: its named parameters but those the program supplies."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(builder).parameters
    return {n: p for n, p in signature.items() if p.kind in kinds and n not in SUPPLIED}


def defaults(kind: str, choices: Choices, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with every default of the constructor filled in, as plain values."""
    filled: dict[str, Any] = {"name": table["name"]}
    for key, parameter in options(choose(kind, choices, table["name"])).items():
        value = table.get(key, parameter.default)
        if key in NESTED:
            if value is inspect.Parameter.empty or not isinstance(value, str | Mapping):
                value = {"name": "cross_entropy"} if key == "criterion" else {"name": type(value).__name__.lower()}
            value = defaults(f"{kind}.{key}", NESTED[key], as_table(value))
        if value is not inspect.Parameter.empty and _plain(value):
            filled[key] = list(value) if isinstance(value, tuple) else value
    return filled


def as_table(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """Turn the short form of a component, its name, into a table."""
    return {"name": value} if isinstance(value, str) else dict(value)


def _argument(kind: str, builder: Callable[..., Any], key: str, value: Any, skip: set[str]) -> Any:
    known = set(options(builder)) - skip
    if key not in known:
        raise ConfigError(f"{kind}.{key} is not an argument of {builder.__name__}. {nearest(key, known)}")
    if key in NESTED:
        return construct(f"{kind}.{key}", NESTED[key], as_table(value))
    value = _tuples(value)
    hint = _hints(builder).get(key)
    if hint is not None and not _matches(value, hint):
        shown = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise ConfigError(f"{kind}.{key} = {value!r} is a {type(value).__name__}; {builder.__name__} takes {shown}.")
    return value


def _hints(builder: Callable[..., Any]) -> dict[str, Any]:
    function = builder.__init__ if inspect.isclass(builder) else builder
    try:
        return get_type_hints(function)
    except NameError:  # a library that hides its annotations behind TYPE_CHECKING
        return {}


def _matches(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type hint; hints that no plain value could show to be wrong pass."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple or hint is tuple:
        return isinstance(value, tuple)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    # Some other class (a tensor, a sequence): only a tuple can stand for one.
    return isinstance(value, tuple) or (origin is None and not isinstance(value, str) and hint is not torch.Tensor)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool | dict)
