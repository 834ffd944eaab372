"""Continual-learning benchmarks by name: tasks, network and hyper-parameters, with those of particular rules."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from spikewright._util.ranges import check_known

Table = dict[str, Any]
Tree = dict[str, Table]

_MLP: Tree = {
    "model": {"name": "mlp", "hidden": [800, 800], "bias": False, "init": "torch"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": {"name": "constant"},
    "train": {"epochs": 1, "batch_size": 64},
}
_CNN: Tree = {
    "model": {
        "name": "conv",
        "channels": [64, 128, 256],
        "hidden": 0,
        "norm": "batch",
        "bias": False,
        "init": "kaiming",
    },
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
    "schedule": {"name": "cosine", "warmup": 5.0, "per_epoch": True},
    "train": {"epochs": 200, "batch_size": 64},
}
_RESNET: Tree = {
    "model": {"name": "stream_resnet18", "bias": False},
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "schedule": {"name": "cosine", "per_epoch": True},
    "continual": {"later_lr": 0.01},
    "train": {"epochs": 100, "batch_size": 64},
}

_LATER = [70, 70, 50, 50, 50, 30, 30, 30, 10]
_PMNIST_ROWS = {
    "features.1": [80, *_LATER],
    "features.3": [200, *_LATER],
    "readout": [100, *_LATER],
}
_CNN_ROWS = {"features.0": [6, 2], "features.4": [100, 20], "features.8": [200, 40]}
_RESNET_ROWS = {
    "stem": 6,
    **dict.fromkeys(("blocks.0.*", "blocks.1.*"), 40),
    "blocks.2.branch.0": 40,
    "blocks.2.shortcut": 6,
    **dict.fromkeys(("blocks.2.*", "blocks.3.*", "blocks.4.branch.0"), 100),
    "blocks.4.shortcut": 8,
    **dict.fromkeys(("blocks.4.*", "blocks.5.*", "blocks.6.branch.0"), 200),
    "blocks.6.shortcut": 16,
    **dict.fromkeys(("blocks.6.*", "blocks.7.*"), 200),
    "readout": 10,
}

BENCHMARKS: dict[str, Tree] = {
    "pmnist": {
        "scenario": {"name": "permuted", "tasks": 10},
        "data": {"name": "mnist"},
        **_MLP,
        "hlop": {"rows": _PMNIST_ROWS, "rate": {"features.1": 0.001, "*": 0.01}, "orthonormal": False},
    },
    "split-mnist": {"scenario": {"name": "split", "tasks": 5}, "data": {"name": "mnist"}, **_MLP},
    "split-digits": {
        "scenario": {"name": "split", "tasks": 5, "heads": False},
        "data": {"name": "digits"},
        **_MLP,
        "model": {"name": "mlp", "hidden": [200, 200], "bias": False},
        "train": {"epochs": 20, "batch_size": 32},
        "hlop": {"rows": 0.15},
    },
    "split-cifar10": {
        "scenario": {"name": "split", "tasks": 5},
        "data": {"name": "cifar10", "augment": "none"},
        **_CNN,
    },
    "split-cifar100": {
        "scenario": {"name": "split", "tasks": 10},
        "data": {"name": "cifar100", "augment": "none"},
        **_CNN,
        "hlop": {"rows": _CNN_ROWS, "orthonormal": False},
    },
    "5-datasets": {
        "scenario": {"name": "sequence"},
        "data": {"name": "cifar10", "augment": "none"},
        **_RESNET,
        "hlop": {"rows": _RESNET_ROWS, "orthonormal": False},
    },
}
"""Configurations by name. A section named like a rule holds the published arguments of that rule."""

_LEAK = 0.951229424500714
"""Decay exp(-0.05) of the DSR neurons, which weights time steps in their rates and in the loss."""
_BY_RULE: dict[str, Tree] = {
    "dsr": {
        "neuron": {"name": "dsrlif"},
        "loss": {"name": "on_rate", "leak": _LEAK},
        "train": {"steps": 20},
    },
    "bptt": {"neuron": {"name": "lif"}, "loss": {"name": "on_rate"}, "train": {"steps": 6}},
    "": {"neuron": {"name": "lif"}, "train": {"steps": 6}},
}
"""Sections by the name of the inner rule; "" for all others."""


def benchmark(name: str, rule: Mapping[str, Any]) -> Tree:
    """Return the configuration of a benchmark.

    Args:
        name: Name in `BENCHMARKS`: "pmnist", "split-mnist", "split-digits", "split-cifar10", "split-cifar100" or
            "5-datasets".
        rule: Table of the rule, with `name` and arguments.

    Raises:
        ConfigError: The benchmark is unknown.
    """
    check_known("The benchmark", name, BENCHMARKS)
    tree = deepcopy({key: value for key, value in BENCHMARKS[name].items() if key not in ("hlop",)})
    learning = rule.get("rule", rule)
    kind = learning if isinstance(learning, str) else learning.get("name", "")
    for section, table in _BY_RULE.get(kind, _BY_RULE[""]).items():
        tree[section] = {**table, **tree.get(section, {})}
    tree["rule"] = {**deepcopy(BENCHMARKS[name].get(rule["name"], {})), **rule}
    return tree
