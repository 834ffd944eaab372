"""Build data, model, optimizer and sampler from a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from spikewright._util.randomness import keyed_generator
from spikewright.errors import ConfigError, InputError
from spikewright.graph.config import GraphSettings, ReasoningConfig
from spikewright.graph.data import GraphData, load_graph
from spikewright.graph.models import GRSNN, LinkScorer, NBFNet
from spikewright.graph.models.grsnn import PLUS
from spikewright.graph.negative_sampling import NegativeSampler, known_answers, pairs
from spikewright.train._build import device_named, load_weights
from spikewright.train.arguments import check_type
from spikewright.train.components import OPTIMIZERS, choose, construct, defaults
from spikewright.train.config import Tree

MODELS: Mapping[str, Callable[..., LinkScorer]] = {"grsnn": GRSNN, "nbfnet": NBFNet}
VARIANTS: Mapping[str, dict[str, Any]] = {"grsnn+": {"name": "grsnn", **PLUS}}
"""Presets of models by name: a model with arguments."""


@dataclass
class Reasoning:
    """A link-prediction run, built from a configuration.

    Attributes:
        config: Nested dictionary of the configuration, every default filled in.
        settings: `GraphSettings`.
        data: `GraphData`.
        model: `LinkScorer`, on `device`.
        optimizer: `torch.optim.Optimizer` of the model's parameters.
        sampler: `NegativeSampler` of training batches.
        device: `torch.device` of the model and the batches.
    """

    config: Tree
    settings: GraphSettings
    data: GraphData
    model: LinkScorer
    optimizer: Optimizer
    sampler: NegativeSampler
    device: torch.device


def build_reasoning(config: ReasoningConfig, *, resumed: bool = False) -> Reasoning:
    """Build a link-prediction run from a configuration.

    Seeds the global generator of torch with `train.seed`.

    Args:
        config: `ReasoningConfig` from `configure_reasoning`.
        resumed: True leaves out what a checkpoint replaces: the weights of `train.weights`. Default: False.

    Raises:
        ConfigError: A name, key, type or value in the configuration is wrong.
        DatasetMissing: The files of the graph are not there.
        DatasetCorrupt: A file of the graph is damaged.

    >>> from spikewright.graph.config import configure_reasoning
    >>> config = configure_reasoning(data={"name": "family", "trees": 2}, model={"name": "grsnn", "width": 4})
    >>> run = build_reasoning(config)
    >>> type(run.model).__name__, run.model.width
    ('GRSNN', 4)
    """
    settings = config.train
    torch.manual_seed(settings.seed)
    device = device_named(settings.device)
    data = load_data(config.data)
    relations = 1 if data.homogeneous else 2 * len(data.relations)
    chosen = resolved(config.model)
    model: LinkScorer = construct("model", MODELS, chosen, relations).to(device)
    if settings.weights is not None and not resumed:
        load_weights(model, settings.weights)
    optimizer = construct("optimizer", OPTIMIZERS, config.optimizer, model.parameters())
    on = torch.device("cpu") if settings.workers else device
    sampler = NegativeSampler(data, settings.batch_size, settings.negatives, settings.seed, on)
    tree = {
        "data": config.data,
        "model": {**defaults("model", MODELS, chosen, positional=1), "name": config.model["name"]},
        "optimizer": defaults("optimizer", OPTIMIZERS, config.optimizer, positional=1),
        "train": asdict(settings),
    }
    return Reasoning(tree, settings, data, model, optimizer, sampler, device)


def load_data(table: Mapping[str, Any]) -> GraphData:
    """Return the graph of the section `[data]`: `name`, `dir` and options of its loader.

    Raises:
        ConfigError: A key is unknown, a value has the wrong type or is out of its range, or the graph leaves nothing to
            test.
        DatasetMissing: The files of the graph are not there.
        DatasetCorrupt: A file of the graph is damaged.
    """
    options = dict(table)
    name, folder = options.pop("name"), options.pop("dir", None)
    check_type("data.dir", "the folder of a graph", folder, {"dir": str | None})
    if "data_dir" in options:
        raise ConfigError(
            f"data.data_dir = {options['data_dir']!r} is not a setting. The folder of a graph is data.dir."
        )
    try:
        data = load_graph(name, None if folder is None else Path(folder), **options)
        if not len(data.test.queries):
            raise ConfigError(
                f"The graph '{data.name}' has no test queries, so that a model has nothing to be tested by."
            )
        for split in (data.valid, data.test) if data.homogeneous else ():
            pairs(split.queries, known_answers(data, split.known, split.entities), keyed_generator(0))
    except (ConfigError, InputError) as error:
        raise ConfigError(f"[data] {error}") from error
    return data


def resolved(table: dict[str, Any]) -> dict[str, Any]:
    """Return a model table with the name of its class in `MODELS` and the arguments of its variant."""
    choose("model", {**MODELS, **dict.fromkeys(VARIANTS, GRSNN)}, table["name"])
    variant = VARIANTS.get(str(table["name"]).lower(), {})
    return {**variant, **table, "name": variant.get("name", table["name"])}
