"""From a configuration to what reasons over a graph."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from spikewright.graph.config import ReasoningConfig
from spikewright.graph.data import GraphData, load_graph
from spikewright.graph.models import GRSNN, LinkScorer, NBFNet
from spikewright.graph.models.grsnn import PLUS
from spikewright.graph.negative_sampling import NegativeSampler
from spikewright.train._build import device_named
from spikewright.train.components import OPTIMIZERS, choose, construct, defaults
from spikewright.train.config import Tree

MODELS: Mapping[str, Callable[..., LinkScorer]] = {"grsnn": GRSNN, "nbfnet": NBFNet}
VARIANTS: Mapping[str, dict[str, Any]] = {"grsnn+": {"name": "grsnn", **PLUS}}
"""Models by names that stand for others with arguments."""


@dataclass
class Reasoning:
    """Everything that learning to reason over a graph consists of.

    Attributes:
        config: What it was built from, with every default filled in.
        data: The graph.
        model: What answers, on its device.
        optimizer: What it learns with.
        sampler: What it is asked while it learns.
        device: Where the model lives.
    """

    config: Tree
    data: GraphData
    model: LinkScorer
    optimizer: Optimizer
    sampler: NegativeSampler
    device: torch.device


def build_reasoning(config: ReasoningConfig) -> Reasoning:
    """Build what a configuration names; seeds the global generator of torch.

    Raises:
        ConfigError: A name, key, type or value in the configuration is wrong.
        DatasetMissing: The files of the graph are not there.
        DatasetCorrupt: They are there, but damaged.
    """
    settings = config.train
    torch.manual_seed(settings.seed)
    device = device_named(settings.device)
    table = dict(config.data)
    folder = table.pop("dir", None)
    data = load_graph(table.pop("name"), None if folder is None else Path(folder), **table)
    relations = 1 if data.homogeneous else 2 * len(data.relations)
    chosen = resolved(config.model)
    model: LinkScorer = construct("model", MODELS, chosen, relations).to(device)
    optimizer = construct("optimizer", OPTIMIZERS, config.optimizer, model.parameters())
    sampler = NegativeSampler(data, settings.batch_size, settings.negatives, settings.seed, device)
    tree = {
        "data": config.data,
        "model": {**defaults("model", MODELS, chosen), "name": config.model["name"]},
        "optimizer": defaults("optimizer", OPTIMIZERS, config.optimizer),
        "train": asdict(settings),
    }
    return Reasoning(tree, data, model, optimizer, sampler, device)


def resolved(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a model with the name that it is known by in `MODELS`."""
    choose("model", {**MODELS, **dict.fromkeys(VARIANTS, GRSNN)}, table["name"])
    variant = VARIANTS.get(str(table["name"]).lower(), {})
    return {**variant, **table, "name": variant.get("name", table["name"])}
