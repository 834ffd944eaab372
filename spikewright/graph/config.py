"""The configuration of reasoning over a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikewright.errors import ConfigError, nearest
from spikewright.graph.presets import preset
from spikewright.graph.ranking import SHARE_OF_TIES
from spikewright.train.config import Tree, assemble, check_counts, check_keys, check_seed_and_norm, read_recipe


@dataclass(frozen=True)
class GraphSettings:
    """How long and how to train.

    Attributes:
        epochs: Passes over the training facts.
        batch_size: Facts per batch.
        accumulate: Batches per update.
        negatives: Wrong answers beside each true one.
        temperature: Of the weights of wrong answers; 0 weighs all the same.
        between: Hide every edge between the two nodes of a fact that is asked for; else the edge of the fact alone.
        seed: Of weights, orders and negatives.
        device: "cpu", "cuda", or "auto": CUDA where there is one.
        clip_norm: Largest norm of the gradient; `None` does not clip.
        evaluate_every: Epochs between evaluations on the validation queries; the last epoch is always evaluated.
        evaluate_batch: Queries at a time meanwhile.
        checkpoint_every: Batches between checkpoints inside an epoch; `None` saves at the end of each epoch only.
        limit_batches: Batches per epoch, at most.
        ties: Rank of an answer that others are level with: "realistic", "optimistic" or "pessimistic".
    """

    epochs: int = 20
    batch_size: int = 32
    accumulate: int = 1
    negatives: int = 32
    temperature: float = 0.5
    between: bool = False
    seed: int = 0
    device: str = "auto"
    clip_norm: float | None = None
    evaluate_every: int = 1
    evaluate_batch: int = 32
    checkpoint_every: int | None = None
    limit_batches: int | None = None
    ties: str = "realistic"


@dataclass(frozen=True)
class ReasoningConfig:
    """A complete configuration: one table per section, with a `name` where there is a choice."""

    data: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    train: GraphSettings

    def tree(self) -> Tree:
        """Return the configuration as plain nested dictionaries."""
        return asdict(self)


def configure_reasoning(
    recipe: Path | str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    **sections: Mapping[str, Any] | str | None,
) -> ReasoningConfig:
    """Put a configuration together: what is usual for the graph, then the recipe, then `sections`, then `overrides`.

    Args:
        recipe: A TOML file, or its contents.
        overrides: `section.key=value`.
        **sections: Tables, or names, by section; `None` values in them are left out.

    Raises:
        ConfigError: Something is unknown, or out of its range.

    >>> configure_reasoning(data="umls", overrides=["train.epochs=3"]).train.epochs
    3
    """
    given = read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else dict(recipe or {})
    bare: Tree = {"data": {"name": "family"}, "model": {"name": "grsnn"}, "optimizer": {"name": "adam"}, "train": {}}
    named = assemble(bare, given, overrides, **sections)
    usual = _usual(named)
    tree = {section: {**usual.get(section, {}), **table} for section, table in named.items()}
    check_keys("train", tree["train"], GraphSettings)
    settings = GraphSettings(**tree["train"])
    _check(settings)
    return ReasoningConfig(**{**tree, "train": settings})  # type: ignore[arg-type]


def _usual(named: Tree) -> Tree:
    """Return what is usual for the graph, as far as the model and the optimizer that were chosen take it."""
    split = named["data"].get("split")
    found = preset(str(named["data"]["name"] if split is None else split))
    if not str(named["model"]["name"]).lower().startswith("grsnn"):
        found.get("model", {}).pop("scale", None)
    adam = str(named["optimizer"]["name"]).lower() == "adam"
    return {**found, "optimizer": {"lr": 0.002, **found.get("optimizer", {})} if adam else {}}


def _check(settings: GraphSettings) -> None:
    counts = "epochs", "batch_size", "accumulate", "negatives", "evaluate_every", "evaluate_batch"
    check_counts("train", settings, *counts, "checkpoint_every", "limit_batches")
    check_seed_and_norm(settings.seed, settings.clip_norm)
    if settings.temperature < 0:
        raise ConfigError(f"train.temperature = {settings.temperature}: it is 0 (no weights) or above.")
    if settings.ties not in SHARE_OF_TIES:
        raise ConfigError(f"train.ties = '{settings.ties}' is unknown. {nearest(settings.ties, SHARE_OF_TIES)}")
