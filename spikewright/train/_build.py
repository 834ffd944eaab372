"""Build an experiment from a configuration."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from spikewright import data as datasets
from spikewright.data import Batches, Dataset, Split
from spikewright.errors import ConfigError, nearest
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules import Rule
from spikewright.train import checkpoint
from spikewright.train.arguments import hints, options, tuples
from spikewright.train.components import LOSSES, MODELS, NEURONS, OPTIMIZERS, RULES, construct, defaults
from spikewright.train.config import Config, Presentation, Tree, check_keys
from spikewright.train.distributed import Ranks
from spikewright.train.schedule import SCHEDULES, Schedule


@dataclass
class Experiment:
    """A training run, built from a configuration.

    Attributes:
        config: Nested dictionary of the configuration, every default filled in.
        dataset: `Dataset`; its training part lacks the held-out samples.
        held_out: `Split` of samples held out for validation, or `None`.
        net: `Network`, on `device`.
        rule: `Rule`, on `device`.
        loss: `Loss`.
        optimizer: `torch.optim.Optimizer` of the parameters of network and rule.
        schedule: `Schedule` of the learning rate.
        training: `Batches` to train on.
        device: `torch.device` of network, rule and batches.
    """

    config: Tree
    dataset: Dataset
    held_out: Split | None
    net: Network
    rule: Rule
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    training: Batches
    device: torch.device

    def measuring(self, split: Split, batch_size: int = 256) -> Batches:
        """Return evaluation batches of a split: in order, not augmented, encoded as in training.

        Args:
            split: Samples, such as `dataset.test`.
            batch_size: Samples per batch, at least 1. Default: 256.
        """
        return Batches(
            split,
            batch_size=batch_size,
            steps=self.config["train"]["steps"],
            mean=self.dataset.mean,
            std=self.dataset.std,
            seed=self.config["train"]["seed"],
            shuffle=False,
            encoding=self.config["data"]["encoding"],
            device=self.device,
        )


def build(config: Config, ranks: Ranks = Ranks()) -> Experiment:  # noqa: B008  (a frozen value)
    """Build a training run from a configuration.

    Seeds the global generator of torch with `train.seed`.

    Args:
        config: `Config` from `configure`.
        ranks: `Ranks` of this process. Default: `Ranks()`, a single process.

    Raises:
        ConfigError: A name, key, type or value in the configuration is wrong.
        DatasetMissing: The files of the data set are not there.
        DatasetCorrupt: A file of the data set is damaged.

    >>> from spikewright.train import build
    >>> from spikewright.train import configure
    >>> experiment = build(configure(data="synthetic", model={"name": "mlp", "hidden": [16]}))
    >>> len(experiment.training), experiment.net.module.readout
    (4, Linear(in_features=16, out_features=4, bias=True))
    """
    settings = config.train
    torch.manual_seed(settings.seed)
    device = device_named(settings.device)
    presentation, dataset = load_data(config.data)
    held_out = None
    if presentation.validation:
        dataset, held_out = dataset.with_validation(presentation.validation, settings.seed)
    net = build_network(config, dataset.shape, dataset.classes).to(device)
    if settings.weights is not None:
        _take_weights(net, Path(settings.weights))
    rule = build_rule(config).to(device)
    rule.prepare(net, torch.zeros(1, 1, *dataset.shape, device=device))
    training = Batches(
        dataset.train,
        batch_size=min(settings.batch_size, len(dataset.train)),
        steps=settings.steps,
        mean=dataset.mean,
        std=dataset.std,
        seed=settings.seed,
        augment=presentation.augment or dataset.augment,
        encoding=presentation.encoding,
        device=device,
        rank=ranks.rank,
        world=ranks.world,
        drop_last=ranks.world > 1,
    )
    parameters = [*net.parameters(), *rule.parameters()]
    optimizer = construct("optimizer", OPTIMIZERS, config.optimizer, parameters)
    schedule = construct("schedule", SCHEDULES, config.schedule, optimizer, len(training), settings.epochs)
    return Experiment(
        config=_resolved(config, presentation, dataset),
        dataset=dataset,
        held_out=held_out,
        net=net,
        rule=rule,
        loss=construct("loss", LOSSES, config.loss),
        optimizer=optimizer,
        schedule=schedule,
        training=training,
        device=device,
    )


def _take_weights(net: Network, path: Path) -> None:
    """Load the weights of an earlier run."""
    saved = checkpoint.load(path / "last.safetensors" if path.is_dir() else path)
    try:
        net.module.load_state_dict(saved["parts"]["model"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(
            f"train.weights = '{path}' holds weights that do not fit this network: {error} Use the same model, neuron "
            "and data as that run."
        ) from error


def build_network(config: Config, shape: tuple[int, int, int], classes: int) -> Network:
    """Return the network of a configuration.

    Args:
        config: `Config`.
        shape: Shape `(channels, height, width)` of a sample.
        classes: Number of classes, at least 1.
    """
    construct("neuron", NEURONS, config.neuron)  # reports a wrong key before the model is built

    def neuron() -> Any:
        return construct("neuron", NEURONS, config.neuron)

    return Network(construct("model", MODELS, config.model, shape, classes, neuron))


def build_rule(config: Config) -> Rule:
    """Return the learning rule of a configuration."""
    return construct("rule", RULES, config.rule)


def data_shape(config: Config) -> tuple[tuple[int, int, int], int]:
    """Return the shape `(channels, height, width)` of a sample and the number of classes."""
    dataset = load_data(config.data)[1]
    return dataset.shape, dataset.classes


def load_data(table: dict[str, Any]) -> tuple[Presentation, Dataset]:
    """Return the presentation and the data set of the section `[data]`."""
    if not isinstance(table["name"], str):
        raise ConfigError(f"data.name = {table['name']!r} is not a name. {nearest('', datasets.names())}")
    loader = datasets.loader(table["name"])
    types = {key: Any for key in options(loader)} | hints(loader)
    given = {key: value for key, value in table.items() if key != "name"}
    check_keys("data", given, Presentation, also={key: types[key] for key in options(loader)})
    own = {field.name for field in fields(Presentation)}
    presentation = Presentation(**{key: value for key, value in given.items() if key in own})
    arguments = {key: tuples(value) for key, value in given.items() if key not in own}
    dataset = datasets.load(table["name"], presentation.dir, **arguments)
    return presentation, dataset.limited(presentation.limit_train, presentation.limit_test)


def device_named(name: str) -> torch.device:
    """Return a usable device; "auto" is CUDA if available.

    Raises:
        ConfigError: The device does not exist or cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"train.device = '{name}' cannot be used here: {error}. Use 'cpu', or 'auto'.") from error
    return device


def _resolved(config: Config, presentation: Presentation, dataset: Dataset) -> Tree:
    """Return the configuration with every default filled in, for the record of a run."""
    tree = components(config)
    shown = {**asdict(presentation), "augment": presentation.augment or dataset.augment}
    loader = {tree["data"]["name"]: datasets.loader(tree["data"]["name"])}
    arguments = {key: value for key, value in tree["data"].items() if key not in shown}
    tree["data"] = {**defaults("data", loader, arguments), **shown}
    return tree


def components(config: Config) -> Tree:
    """Return the configuration with every default of its components filled in."""
    tree = config.tree()
    sections = {
        "rule": RULES,
        "model": MODELS,
        "neuron": NEURONS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
    }
    for section, choices in sections.items():
        tree[section] = defaults(section, choices, tree[section])
    return tree
