"""The configuration of a link-prediction run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikewright._util.ranges import check_known, is_within
from spikewright.errors import ConfigError
from spikewright.graph.presets import preset
from spikewright.graph.ties import SHARE_OF_TIES
from spikewright.train.config import Tree, assemble, read_recipe
from spikewright.train.settings import LoopSettings, check_counts, settings_of


@dataclass(frozen=True)
class GraphSettings(LoopSettings):
    """The `[train]` section: length of training, sampling and evaluation.

    Attributes:
        epochs: Passes over the training facts, from 1 to 10**6. Default: 20.
        seed: Seed of weights, order and negatives, from 0 to 2**63 - 1. Default: 0.
        device: "cpu", "cuda", "cuda:N", or "auto" (CUDA if available). Default: "auto".
        amp: Automatic mixed precision: "off", "float16" (with loss scaling) or "bfloat16". Default: "off".
        clip_norm: Largest norm of the gradient, > 0. Default: None, no clipping.
        accumulate: Batches per optimizer step, at least 1; the gradient is their mean, weighted by facts, also in a
            last window with fewer batches. Default: 1.
        workers: Processes that prepare batches ahead, at least 0; 0 prepares them in the training process. Batches
            are the same for every number. Default: 0.
        checkpoint_every: Batches between checkpoints within an epoch, at least 1. Default: None, one checkpoint per
            epoch.
        evaluate_every: Epochs between evaluations on the validation queries, at least 1; the last epoch is always
            evaluated. Default: 1.
        patience: Evaluations without a new best after which training ends early, at least 1. Default: None, never.
        tensorboard: True also writes TensorBoard events. Default: False.
        weights: Folder or checkpoint of a run whose weights to start from; the optimizer starts anew. Default: None,
            new weights.
        batch_size: Facts per batch, at least 1. Default: 32.
        negatives: Negative answers per fact, at least 1. Default: 32.
        temperature: Softmax temperature of the weights of negatives (self-adversarial sampling), at least 0; 0 weighs
            all the same. Default: 0.5.
        between: True hides every edge between the source of a query and its candidates, the answer and all negatives
            (strict one-hop removal, as the released code); False hides the edge of the fact alone. Default: False.
        evaluate_batch: Queries per forward pass in evaluations, at least 1. Default: 32.
        limit_batches: Largest number of batches per epoch, at least 1. Default: None, all.
        ties: Treatment of an answer whose score equals that of others: "expected" (mean of the metric over all orders
            of the tied), "realistic" (metric of the mean rank), "optimistic" (of the first rank) or "pessimistic" (of
            the last rank, as in the published tables of NBFNet). Default: "expected".
    """

    epochs: int = 20
    batch_size: int = 32
    negatives: int = 32
    temperature: float = 0.5
    between: bool = False
    evaluate_batch: int = 32
    limit_batches: int | None = None
    ties: str = "expected"

    def check(self) -> None:
        super().check()
        check_counts("train", self, "batch_size", "negatives", "evaluate_batch", "limit_batches")
        if not is_within(self.temperature, "[0, inf)"):
            raise ConfigError(f"train.temperature = {self.temperature}: it is 0 (no weights) or above, and finite.")
        check_known("train.ties =", self.ties, SHARE_OF_TIES)


@dataclass(frozen=True)
class ReasoningConfig:
    """A complete configuration of a link-prediction run, one attribute per section.

    Attributes:
        data: `name`, `dir` and options of the graph's loader.
        model: `name` ("grsnn", "grsnn+" or "nbfnet") and keyword arguments of the model.
        optimizer: `name` of a class of `torch.optim` and its arguments.
        train: `GraphSettings`.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    train: GraphSettings

    def tree(self) -> Tree:
        """Return the configuration as nested dictionaries of plain values."""
        return asdict(self)


def configure_reasoning(
    recipe: Path | str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    **sections: Mapping[str, Any] | str | None,
) -> ReasoningConfig:
    """Return a configuration from, in ascending priority: presets of the graph, the recipe, `sections`, `overrides`.

    Args:
        recipe: Path of a TOML file, or its contents as a mapping. Default: None, no recipe.
        overrides: Strings `section.key=value`; the value is read as TOML, and as a string if that fails. Default: ().
        **sections: `data`, `model`, `optimizer` or `train`: a mapping of keys, or a component's name. Values of `None`
            are left out.

    Raises:
        ConfigError: A section, key or name is unknown, a value is out of its range, or the file cannot be read.

    >>> configure_reasoning(data="umls", overrides=["train.epochs=3"]).train.epochs
    3
    """
    given = read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else dict(recipe or {})
    bare: Tree = {"data": {"name": "family"}, "model": {"name": "grsnn"}, "optimizer": {"name": "adam"}, "train": {}}
    named = assemble(bare, given, overrides, **sections)
    usual = _usual(named)
    tree = {section: {**usual.get(section, {}), **table} for section, table in named.items()}
    return ReasoningConfig(**{**tree, "train": settings_of(GraphSettings, tree["train"])})  # type: ignore[arg-type]


def _usual(named: Tree) -> Tree:
    """Return the preset of the graph, without entries that the chosen model and optimizer do not take."""
    split = named["data"].get("split")
    found = preset(str(named["data"]["name"] if split is None else split))
    if not str(named["model"]["name"]).lower().startswith("grsnn"):
        found.get("model", {}).pop("scale", None)
    adam = str(named["optimizer"]["name"]).lower() == "adam"
    return {**found, "optimizer": {"lr": 0.002, **found.get("optimizer", {})} if adam else {}}
