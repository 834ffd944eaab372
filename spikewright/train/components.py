"""Components of a configuration: looked up by name, checked against their signature, and built.

A component is a name, or a table with `name` and arguments of its constructor. Every constructor argument can be set,
and no other key is accepted.
"""

import inspect
import math
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

import torch
from torch import nn

import spikewright.losses
import spikewright.models
import spikewright.neurons
import spikewright.rules
import spikewright.solvers
import spikewright.spatial
import spikewright.surrogate
from spikewright._util.arguments import shown
from spikewright._util.ranges import as_float
from spikewright._util.text import is_reference, kind_of
from spikewright.errors import ConfigError, nearest
from spikewright.losses._standard import standard_loss
from spikewright.train.arguments import check_type, hints, is_plain, tuples
from spikewright.train.arguments import options as options
from spikewright.train.optimizers import MuonAdamW, check_step
from spikewright.train.torch_ranges import check_torch_range
from spikewright.train.user_code import referenced

Choices = Mapping[str, Callable[..., Any]]


def _concrete(module: types.ModuleType, base: type, without: frozenset[str] = frozenset()) -> Choices:
    """Return the concrete subclasses of `base` in a module by lower-case name."""
    classes = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, base)]
    named = {c.__name__.lower(): c for c in classes if not inspect.isabstract(c) and c is not base}
    return {name: c for name, c in named.items() if name not in without}


def _public(choices: Choices) -> Choices:
    """Return the classes of public modules; bases to subclass are in private ones."""
    return {name: c for name, c in choices.items() if not c.__module__.rpartition(".")[2].startswith("_")}


RULES: Choices = _public(_concrete(spikewright.rules, spikewright.rules.Rule))
NEURONS: Choices = _concrete(spikewright.neurons, spikewright.neurons.Neuron)
SURROGATES: Choices = _concrete(spikewright.surrogate, spikewright.surrogate.Surrogate)
LOSSES: Choices = {
    "per_step": spikewright.losses.PerStep,
    "on_rate": spikewright.losses.OnRate,
    "last_step": spikewright.losses.LastStep,
    "max_over_time": spikewright.losses.MaxOverTime,
    "spike_count": spikewright.losses.SpikeCount,
    "first_spike": spikewright.losses.FirstSpike,
}
SOLVERS: Choices = _concrete(spikewright.solvers, spikewright.solvers.Solver)
SPATIAL: Choices = _concrete(spikewright.spatial, spikewright.spatial.Spatial)
CRITERIA: Choices = {
    "cross_entropy": nn.CrossEntropyLoss,
    "cross_entropy_mse": spikewright.losses.CrossEntropyMSE,
    "rate_mse": spikewright.losses.RateMSE,
}
MODELS: Choices = {name: spikewright.models.model_class(name) for name in spikewright.models.list_models()}


def none() -> None:
    """Leave out an optional component."""


LOCAL: Choices = {"none": none, "local": spikewright.spatial.Local}
PENALTIES: Choices = {"none": none, "firing_rate": spikewright.losses.FiringRatePenalty}
# L-BFGS needs a closure; SparseAdam takes no dense gradients.
OPTIMIZERS: Choices = {
    **_concrete(torch.optim, torch.optim.Optimizer, frozenset(("lbfgs", "sparseadam"))),
    "muon_adamw": MuonAdamW,
}

NESTED: Mapping[str, Choices] = {
    "surrogate": SURROGATES,
    "criterion": CRITERIA,
    "solver": SOLVERS,
    "spatial": SPATIAL,
    "local": LOCAL,
    "penalty": PENALTIES,
    "rule": RULES,
}
"""Arguments that are components themselves; `true` stands for the default component of an optional one."""
STANDARD: Mapping[str, str] = {"criterion": "cross_entropy", "rule": "ottt"}
"""Default names of required nested components."""

_REPLACED = {"size_average": "reduction", "reduce": "reduction"}
"""Arguments of torch's classes that are of no use any more, by what is given in their place."""


def construct(kind: str, choices: Choices, table: Mapping[str, Any], *fixed: Any, **given: Any) -> Any:
    """Build a component.

    Args:
        kind: Section of the configuration, for messages.
        choices: Constructors by name.
        table: `name` and constructor arguments.
        *fixed: Positional arguments that the program supplies.
        **given: Keyword arguments that the program supplies.

    Raises:
        ConfigError: The name or an argument is unknown, or an argument has the wrong type or value.
    """
    builder = choose(kind, choices, table["name"])
    known = options(builder, len(fixed), given)
    for key in table:
        if key != "name" and key not in known:
            raise ConfigError(f"{kind}.{key} is not an argument of {builder.__name__}. {nearest(key, known)}")
    arguments = {key: _argument(kind, builder, key, value) for key, value in table.items() if key != "name"}
    for key in NESTED.keys() & known.keys() - arguments.keys():
        if known[key].default is inspect.Parameter.empty:
            arguments[key] = _argument(kind, builder, key, {})
    try:
        built = builder(*fixed, **arguments, **given)
    except ConfigError:
        raise
    except Exception as error:  # constructors of other libraries can raise any exception
        advice = ""
        if kind == "optimizer" and str(table["name"]).lower() == "muon":
            advice = " For matrices by Muon and all else by AdamW, name it muon_adamw."
        raise ConfigError(f"{kind} = {table['name']} could not be built with {arguments}: {error}{advice}") from error
    if isinstance(built, torch.optim.Optimizer):
        check_step(
            built, lambda params: builder(params, **arguments, **given), f"{kind} = {table['name']} with {arguments}"
        )
    return built


def choose(kind: str, choices: Choices, name: str) -> Callable[..., Any]:
    """Return the constructor of a name.

    Raises:
        ConfigError: The name is unknown.
    """
    if is_reference(name):
        return referenced(kind, name)
    key = name.lower() if isinstance(name, str) else ""
    if key not in choices:
        raise ConfigError(f"{kind}.name = {shown(name)} is unknown. {nearest(key, choices)}")
    return choices[key]


def defaults(
    kind: str, choices: Choices, table: Mapping[str, Any], positional: int = 0, named: Collection[str] = ()
) -> dict[str, Any]:
    """Return the table with every default of the constructor filled in, as plain values.

    Args:
        kind: Section of the configuration, for messages.
        choices: Constructors by name.
        table: `name` and constructor arguments.
        positional: Number of positional arguments that the program supplies, which are not recorded. Default: 0.
        named: Keyword arguments that the program supplies, which are not recorded. Default: ().
    """
    builder = choose(kind, choices, table["name"])
    filled: dict[str, Any] = {"name": table["name"]}
    for key, parameter in options(builder, positional, named).items():
        value = table.get(key, parameter.default)
        if key in NESTED:
            nested = _nested(f"{kind}.{key}", builder, key, table.get(key, {}))
            value = defaults(f"{kind}.{key}", NESTED[key], nested)
        if value is not inspect.Parameter.empty and is_plain(value):
            filled[key] = list(value) if isinstance(value, tuple) else value
    return filled


def loss_of_rule(rule: Mapping[str, Any]) -> str:
    """Return the name of the default loss of a rule."""
    builder = RULES.get(str(rule["name"]).lower())
    if builder is not None and "rule" in options(builder):  # a rule around another rule
        return loss_of_rule(_nested("rule.rule", builder, "rule", rule.get("rule", {})))
    traits = getattr(builder, "traits", None)
    kind = standard_loss("any" if traits is None else traits.loss)
    return next(name for name, loss in LOSSES.items() if loss is kind)


def as_table(path: str, value: Any) -> dict[str, Any]:
    """Return a component as a table; its short form is its name.

    Raises:
        ConfigError: The value is neither a name nor a table.
    """
    if not isinstance(value, str | Mapping):
        raise ConfigError(f"{path} = {shown(value)} is {kind_of(value)}; it has to be a table, or a name.")
    return {"name": value} if isinstance(value, str) else dict(value)


def _argument(kind: str, builder: Callable[..., Any], key: str, value: Any) -> Any:
    path = f"{kind}.{key}"
    if key in NESTED:
        return construct(path, NESTED[key], _nested(path, builder, key, value))
    value, types_by_key = tuples(value), hints(builder)
    if value is None and "none" in get_args(types_by_key.get(key)):
        value = "none"  # a flag cannot distinguish None from "none"
    check_type(path, builder.__name__, value, types_by_key)
    if inspect.unwrap(builder).__module__.startswith("torch."):
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(map(_is_finite, numbers)):
            raise ConfigError(
                f"{path} = {shown(value)}: all that {builder.__name__} computes from it would be infinite or NaN. Give "
                "finite numbers."
            )
        check_torch_range(builder.__name__, key, value)
        if key in _REPLACED and value is not None:
            raise ConfigError(
                f"{path} = {shown(value)}: torch has replaced this argument of {builder.__name__}, and warns of it. "
                f"Leave it out, and give {kind}.{_REPLACED[key]}."
            )
    return value


def _is_finite(value: object) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float) or math.isfinite(as_float(value))


def _nested(path: str, builder: Callable[..., Any], key: str, value: Any) -> dict[str, Any]:
    """Return the table of a nested component, named by the constructor's default unless the table names one."""
    default = options(builder)[key].default
    if default is None:
        given = {} if isinstance(value, bool) else as_table(path, value)
        there = next(name for name in NESTED[key] if name != "none")
        return {"name": there if value is True or given else "none", **given}
    own = STANDARD.get(key) if default is inspect.Parameter.empty else type(default).__name__.lower()
    return {"name": own, **as_table(path, value)}
