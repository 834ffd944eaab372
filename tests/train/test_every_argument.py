"""Every argument of every constructor can be set from a configuration, and arrives where it was meant for.

The arguments are read off the signatures.  One that is new is tried with a value made from its default; where there is
none to make it from, the test asks for an entry in `VALUES`.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from spikewright.losses import PerStep
from spikewright.train import Config, configure
from spikewright.train import components as c
from spikewright.train._build import build_network, build_rule
from spikewright.train.components import construct, options
from spikewright.train.schedule import SCHEDULES

VALUES: dict[str, Any] = {
    "batch_norm": "running",
    "below": "only",
    "betas": [0.8, 0.9],
    "blocks": [1, 2],
    "channels": [4, 8],
    "chunk": 2,
    "free": ["readout"],
    "gamma": 0.5,
    "init": "kaiming",
    "k": 2,
    "intermediate": "middle",
    "kernel": 5,
    "lateral_steps": 40,
    "distribution": "rademacher",
    "layers": [4, "P", 4],
    "leak": 0.25,
    "learn_tau": True,
    "lower_bound": -1.0,
    "mask": "output",
    "milestones": [1, 2],
    "norm": "batch",
    "observe": "steps",
    "position": "pre",
    "potential": "before reset",
    "project": "gradient",
    "reset": "zero",
    "route": "penultimate",
    "restriction": "none",
    "step_size": 2,
    "stem": "cifar",
    "target": 1.0,
    "tau_syn": 3.0,
    "threshold_grad": 0.5,
    "tolerance": 0.01,
    "trace_bias": False,
    "trace_input": False,
    "trace_readout": True,
    "width": 0.125,
}
BY_BUILDER = {
    "AlphaLIF.reset": "subtract",
    "MLP.hidden": [8],
    "MLP.init": "torch",
    "StreamResNet18.stem": "miniimagenet",
    "HLOP.momentum": 0.5,
    "GPM.threshold": 0.9,
    "PerStep.steps": 4,
    "SGD.foreach": True,
    "SGD.momentum": 0.9,
    "RMSprop.momentum": 0.9,
    "SGD.fused": True,
}
BY_BUILDER |= {"Adam.foreach": True, "Adam.fused": True, "CrossEntropyLoss.reduction": "sum"}
BY_BUILDER |= {f"{net}.norm": "none" for net in ("alexnet_f", "cifarnet_f", "conv_f", "mlp_f")}
BY_BUILDER |= {
    "EProp.feedback": "random",
    "FixedPoint.damping": 0.5,
    "OPZO.init": "dfa",
    "OPZO.momentum": 0.5,
    "mlp_f.hidden": [8],
    "dvs_conv_f.init": "unit",
    "spide_conv_f.init": "unit",
    "SPIDE.batch_norm": "rate",
}
BESIDE: dict[str, dict[str, Any]] = {"nesterov": {"momentum": 0.9}}
"""Arguments that a value needs beside it."""

UNUSABLE = {"weight", "size_average", "reduce", "last_epoch", "maximize", "differentiable", "capturable"}
"""A tensor, two that torch has withdrawn, one that a checkpoint sets, and three that no run on a CPU can work with."""

SGD_AND_ADAM = {name: c.OPTIMIZERS[name] for name in ("sgd", "adam")}
COMMON = {name: SCHEDULES[name] for name in ("cosine", "constant", "steplr", "multisteplr")}
SECTIONS = {
    "rule": c.RULES,
    "model": c.MODELS,
    "neuron": c.NEURONS,
    "loss": c.LOSSES,
    "optimizer": SGD_AND_ADAM,
    "schedule": COMMON,
}
NESTED = {
    "neuron.surrogate": c.SURROGATES,
    "loss.criterion": c.CRITERIA,
    "rule.solver": c.SOLVERS,
    "rule.spatial": c.SPATIAL,
    "rule.local": c.LOCAL,
}
OWNER = {"rule.solver": ["rule.name=ide"], "rule.spatial": ["rule.name=ottt"], "rule.local": ["rule.name=opzo"]}
"""A rule that has such a component."""


def arguments(choices: c.Choices) -> Iterator[tuple[str, str]]:
    for name, builder in choices.items():
        yield from ((name, key) for key in options(builder) if key not in UNUSABLE and key not in c.NESTED)


def value(builder: Callable[..., Any], key: str) -> Any:
    """Something other than the default."""
    given = BY_BUILDER.get(f"{builder.__name__}.{key}", VALUES.get(key))
    default = inspect.signature(builder).parameters[key].default
    if given is not None:
        assert given != default
        return given
    assert isinstance(default, bool | int | float), f"{builder.__name__}.{key} needs an entry in VALUES"
    return not default if isinstance(default, bool) else default + (1 if type(default) is int else 0.125)


def spy(patch: pytest.MonkeyPatch, choices: Any, name: str) -> dict[str, Any]:
    """What the constructor is called with from now on."""
    seen: dict[str, Any] = {}
    builder = choices[name]
    function = builder.__init__ if inspect.isclass(builder) else builder

    @wraps(function)
    def noted(*args: Any, **given: Any) -> Any:
        seen.update(given)
        return function(*args, **given)

    if inspect.isclass(builder):
        patch.setattr(builder, "__init__", noted)
    else:
        patch.setitem(choices, name, noted)
    return seen


def assemble(config: Config) -> None:
    """Build every part of a configuration but the data; wide models are made narrow."""
    if "width" in options(c.MODELS[config.model["name"]]):
        config.model.setdefault("width", 1 / 16)
    parameters = [nn.Parameter(nn.init.zeros_(nn.Linear(2, 2).weight))]
    build_network(config, (1, 32, 32), 4)
    build_rule(config)
    construct("loss", c.LOSSES, {"criterion": {"name": "cross_entropy"}, **config.loss})
    optimizer = construct("optimizer", c.OPTIMIZERS, config.optimizer, parameters)
    construct("schedule", SCHEDULES, config.schedule, optimizer, 4, 3)


def required(builder: Callable[..., Any]) -> dict[str, Any]:
    return {k: VALUES[k] for k, p in options(builder).items() if p.default is p.empty and k not in c.NESTED}


def flat(*groups: dict[str, c.Choices]) -> list[tuple[str, str, str]]:
    return [(at, *pair) for group in groups for at, choices in group.items() for pair in arguments(choices)]


@pytest.mark.parametrize(("section", "name", "key"), flat(SECTIONS))
def test_an_argument_is_set(section: str, name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"optimizer": c.OPTIMIZERS, "schedule": SCHEDULES}.get(section, SECTIONS[section])
    builder = choices[name]
    table = {"name": name, **required(builder), **BESIDE.get(key, {})}
    given = value(builder, key)
    seen = spy(monkeypatch, choices, name)
    text = {True: "true", False: "false"}[given] if isinstance(given, bool) else repr(given)
    assemble(configure({section: table}, [f"{section}.{key}={text}"]))
    arrived = seen[key]
    assert (list(arrived) if isinstance(arrived, tuple) else arrived) == given
    assert type(arrived) is (tuple if isinstance(given, list) else type(given))


@pytest.mark.parametrize(("place", "name", "key"), flat(NESTED))
def test_an_argument_of_a_nested_component_is_set(
    place: str, name: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = value(NESTED[place][name], key)
    seen = spy(monkeypatch, NESTED[place], name)
    rule = OWNER.get(place, [])
    text = {True: "true", False: "false"}[given] if isinstance(given, bool) else repr(given)
    assemble(configure(None, [*rule, f"{place}.name={name}", f"{place}.{key}={text}"]))
    assert seen[key] == given


def test_required_arguments_are_asked_for() -> None:
    assert required(COMMON["steplr"]) == {"step_size": 2}
    assert not required(PerStep) and not required(SGD)
