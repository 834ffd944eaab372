"""Build an experiment from a configuration."""

import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spikewright import data as datasets
from spikewright._util.devices import usable_device
from spikewright._util.text import is_reference
from spikewright.data import Batches, Dataset, Split
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules import Rule
from spikewright.train import checkpoint
from spikewright.train._evaluate import Measures, correct
from spikewright.train.components import LOSSES, MODELS, NEURONS, OPTIMIZERS, RULES, choose, construct, defaults
from spikewright.train.config import DEFAULTS, Config, Tree
from spikewright.train.distributed import Ranks, seed_process
from spikewright.train.feed import OF_IMAGES, Loaders, batches_of, check_decides, load_data
from spikewright.train.job import Source
from spikewright.train.schedule import SCHEDULES, Schedule, rehearse
from spikewright.train.settings import Presentation, TrainSettings
from spikewright.train.source import LoaderSource, prepared

_TO_MODELS = frozenset(("shape", "classes", "neuron"))
"""Arguments of models that the program supplies."""


@dataclass
class Experiment:
    """A training run, built from a configuration.

    Attributes:
        config: Nested dictionary of the configuration, every default filled in.
        settings: `TrainSettings`.
        presentation: `Presentation` of the data.
        dataset: `Dataset`, whose training part lacks the held-out samples, or the `Loaders` of a user.
        held_out: `Split` of samples held out for validation, or `None`.
        net: `Network`, on `device`.
        rule: `Rule`, on `device`.
        loss: `Loss`.
        optimizer: `torch.optim.Optimizer` of the parameters of network and rule.
        schedule: `Schedule` of the learning rate.
        training: Batches to train on.
        device: `torch.device` of network, rule and batches.
        measures: What is measured beside the loss: functions of outputs `[time, batch, *feature]` and targets that
            return a sum over samples, by name.
    """

    config: Tree
    settings: TrainSettings
    presentation: Presentation
    dataset: Dataset | Loaders
    held_out: Split | None
    net: Network
    rule: Rule
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    training: Source
    device: torch.device
    measures: Measures

    def measuring(self, split: Split, batch_size: int = 256) -> Batches:
        """Return evaluation batches of a split: in order, not augmented, encoded as in training.

        Args:
            split: Samples, such as `dataset.test`.
            batch_size: Samples per batch, at least 1. Default: 256.
        """
        return batches_of(
            self.images,
            split,
            self.presentation,
            self.settings,
            batch_size=batch_size,
            shuffle=False,
            device=self.device,
        )

    @property
    def images(self) -> Dataset:
        """The data set.

        Raises:
            ConfigError: There are loaders instead.
        """
        if isinstance(self.dataset, Loaders):
            raise ConfigError(
                f"Samples of '{self.config['data']['name']}' cannot be picked: it makes loaders, which present their "
                "data themselves. Return a spikewright.data.Dataset from the function."
            )
        return self.dataset

    @property
    def testing(self) -> Source | None:
        """Batches of the test data; `None` if there are none."""
        if isinstance(self.dataset, Loaders):
            return self._loader(self.dataset.test)
        return self.measuring(self.dataset.test)

    @property
    def validating(self) -> Source | None:
        """Batches of the validation data; `None` if there are none."""
        if isinstance(self.dataset, Loaders):
            return self._loader(self.dataset.validation)
        return None if self.held_out is None else self.measuring(self.held_out)

    def _loader(self, loader: Any) -> Source | None:
        if loader is None:
            return None
        return LoaderSource(loader, self.settings.seed, self.device, self.presentation.batch_first)


def build(config: Config, ranks: Ranks = Ranks(), *, resumed: bool = False) -> Experiment:  # noqa: B008
    """Build a training run from a configuration.

    Seeds the global generator of torch with `train.seed`.

    Args:
        config: `Config` from `configure`.
        ranks: `Ranks` of this process. Default: `Ranks()`, a single process.
        resumed: True leaves out what a checkpoint replaces: the weights of `train.weights`. Default: False.

    Raises:
        ConfigError: A name, key, type or value in the configuration is wrong, or the schedule ends before training.
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
    check_decides(config.data["name"], dataset, config.given)
    held_out = None
    if presentation.validation and isinstance(dataset, Dataset):
        dataset, held_out = dataset.with_validation(presentation.validation, settings.seed)
    net = build_network(config, dataset.shape, dataset.classes).to(device)
    if settings.weights is not None and not resumed:
        load_weights(net, Path(settings.weights))
    rule = build_rule(config).to(device)
    check_accumulates(rule, settings)
    training = _training(dataset, presentation, settings, device, ranks)
    rule.prepare(net, _sample(dataset, training, device))
    parameters = [*net.parameters(), *rule.parameters()]
    optimizer = construct("optimizer", OPTIMIZERS, config.optimizer, parameters)
    loss = construct("loss", LOSSES, config.loss)
    schedule = build_schedule(config.schedule, optimizer, training, settings)
    seed_process(settings.seed, ranks)
    return Experiment(
        config=_resolved(config, presentation, dataset),
        settings=settings,
        presentation=presentation,
        dataset=dataset,
        held_out=held_out,
        net=net,
        rule=rule,
        loss=loss,
        optimizer=optimizer,
        schedule=schedule,
        training=training,
        device=device,
        measures=correct(loss),
    )


def _training(
    dataset: Dataset | Loaders, presentation: Presentation, settings: TrainSettings, device: torch.device, ranks: Ranks
) -> Source:
    if isinstance(dataset, Loaders):
        return LoaderSource(dataset.train, settings.seed, device, presentation.batch_first)
    batches = batches_of(
        dataset,
        dataset.train,
        presentation,
        settings,
        batch_size=min(settings.batch_size, len(dataset.train)),
        augment=presentation.augment or dataset.augment,
        device="cpu" if settings.workers else device,
        rank=ranks.rank,
        world=ranks.world,
    )
    return prepared(batches, settings.workers, device)


def _sample(dataset: Dataset | Loaders, training: Source, device: torch.device) -> Tensor:
    """Return an input for the sizes of a network."""
    if isinstance(dataset, Dataset):
        return torch.zeros(1, 1, *dataset.shape, device=device)
    first = next(training.epoch(0), None)
    if first is None:
        raise ConfigError("The training loader has no batch, so that nothing can be learned. Give it some data.")
    return first[0]


def build_schedule(
    table: dict[str, Any], optimizer: torch.optim.Optimizer, training: Source, settings: TrainSettings
) -> Schedule:
    """Return the learning-rate schedule of a configuration, after a rehearsal of all its steps.

    Raises:
        ConfigError: The schedule cannot be built, ends before training, or has a rate that is not finite.
    """
    try:
        steps = -(-len(training) // settings.accumulate)
    except TypeError:
        steps = 1
        if table["name"] == "cosine" and not table.get("per_epoch"):
            raise ConfigError(
                "schedule.name = 'cosine' steps after every batch, but the training loader does not know how many "
                "there are. Set schedule.per_epoch = true, or use schedule.name = 'constant'."
            ) from None
    schedule: Schedule = construct("schedule", SCHEDULES, table, optimizer, steps, settings.epochs)
    rehearse(schedule, settings.epochs, str(table["name"]))
    return schedule


def check_accumulates(rule: Rule, settings: TrainSettings) -> None:
    """Raise `ConfigError` if batches are to be accumulated for a rule that updates at every step."""
    if settings.accumulate > 1 and rule.traits.updates == "every step":
        raise ConfigError(
            f"train.accumulate = {settings.accumulate}, but {rule} updates the weights at every time step, so that "
            "gradients of several batches never meet. Use accumulate = 1, or a rule with one update per batch."
        )


def load_weights(net: Network | nn.Module, path: Path | str) -> None:
    """Load the weights of an earlier run.

    Args:
        net: `Network` or module that takes the weights.
        path: Folder of the run, for the weights of its last checkpoint, or a checkpoint such as `best.safetensors`.

    Raises:
        ConfigError: They do not fit the network.
        CheckpointError: There is no sound checkpoint.
    """
    path = Path(path)
    saved = checkpoint.load(path / "last.safetensors" if path.is_dir() else path)
    try:
        (net.module if isinstance(net, Network) else net).load_state_dict(saved["parts"]["model"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(
            f"train.weights = '{path}' holds weights that do not fit this network: {error} Use the same model, neuron "
            "and data as that run."
        ) from error


def build_network(config: Config, shape: tuple[int, ...] | None, classes: int | None) -> Network:
    """Return the network of a configuration.

    Args:
        config: `Config`.
        shape: Shape `(channels, height, width)` of a sample, or `None` if it is not known.
        classes: Number of classes, at least 1, or `None` if it is not known.

    Raises:
        ConfigError: The model cannot be built, or needs what is not known.
    """
    construct("neuron", NEURONS, config.neuron)  # reports a wrong key before the model is built
    name = config.model["name"]
    supplied: dict[str, Any] = {
        "shape": shape,
        "classes": classes,
        "neuron": lambda: construct("neuron", NEURONS, config.neuron),
    }
    if is_reference(name):
        known = inspect.signature(choose("model", MODELS, name)).parameters
        own = {key for key, parameter in known.items() if parameter.default is not inspect.Parameter.empty}
        supplied = {k: v for k, v in supplied.items() if k in known and (v is not None or k not in own)}
        if not _takes_neuron(config) and config.neuron != DEFAULTS["neuron"]:
            raise ConfigError(
                f"neuron = {config.neuron}, but the model '{name}' has no argument `neuron`, so that nothing would "
                "read it. Leave it out, or let the model take a function that makes neurons."
            )
    for key in ("shape", "classes"):
        if key in supplied and supplied[key] is None:
            raise ConfigError(
                f"The model '{name}' needs the {key} of the data, which loaders do not say. Return them beside the "
                'loaders: {"train": ..., "test": ..., "shape": (2, 34, 34), "classes": 10}.'
            )
    made = construct("model", MODELS, config.model, **supplied)
    _check_widths(config.model, made)
    return made if isinstance(made, Network) else Network(made)


def _check_widths(table: dict[str, Any], model: nn.Module) -> None:
    """Raise `ConfigError` if a layer of torch has no channels, which a model of a user may have been told to make."""
    for name, layer in model.named_modules():
        weight = getattr(layer, "weight", None) if type(layer).__module__.startswith("torch.nn.") else None
        if isinstance(weight, Tensor) and not is_lazy(weight) and 0 in weight.shape:
            zeros = [f"model.{key} = {value}" for key, value in table.items() if value == 0 and value is not False]
            raise ConfigError(
                f"{', '.join(zeros) or 'The model'} makes '{name}' ({type(layer).__name__}) with a "
                f"weight of shape {list(weight.shape)}, so that nothing passes through it. Give at least 1 channel."
            )


def _takes_neuron(config: Config) -> bool:
    """Return whether the model reads the section `[neuron]`; a user's may bring neurons of its own."""
    name = config.model["name"]
    return not is_reference(name) or "neuron" in inspect.signature(choose("model", MODELS, name)).parameters


def build_rule(config: Config) -> Rule:
    """Return the learning rule of a configuration."""
    return construct("rule", RULES, config.rule)


def data_shape(config: Config) -> tuple[tuple[int, ...], int | None]:
    """Return the shape of a sample, and the number of classes, or `None` if it is not known.

    Raises:
        ConfigError: The shape is not known.
    """
    dataset = load_data(config.data)[1]
    if dataset.shape is None:
        raise ConfigError(
            f"'{config.data['name']}' makes loaders, which do not say the shape of a sample. Give it with --shape, or "
            'return it beside the loaders: {"train": ..., "shape": (2, 34, 34), "classes": 10}.'
        )
    return dataset.shape, dataset.classes


def device_named(name: str) -> torch.device:
    """Return a usable device; "auto" is CUDA if available.

    Raises:
        ConfigError: The device does not exist or cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(f"train.device = '{name}'", name, "'cpu', or 'auto'")


def _resolved(config: Config, presentation: Presentation, dataset: Dataset | Loaders) -> Tree:
    """Return the configuration with every default filled in, for the record of a run."""
    tree = components(config)
    shown = asdict(presentation)
    if isinstance(dataset, Loaders):
        shown = {"batch_first": presentation.batch_first}
        tree["train"] = {key: value for key, value in tree["train"].items() if key not in OF_IMAGES}
    else:
        shown["augment"] = presentation.augment or dataset.augment
    name = tree["data"]["name"]
    known = {} if is_reference(name) else {name: datasets.loader(name)}
    own = asdict(presentation)
    arguments = {key: value for key, value in tree["data"].items() if key not in own}
    tree["data"] = {**defaults("data", known, arguments, named=own), **shown}
    return tree


def components(config: Config) -> Tree:
    """Return the configuration with every default of its components filled in."""
    tree = config.tree()
    tree["rule"] = defaults("rule", RULES, config.rule)
    supplied = _TO_MODELS - config.model.keys()  # loaders may leave some to the configuration
    tree["model"] = defaults("model", MODELS, config.model, named=supplied)
    if _takes_neuron(config):
        tree["neuron"] = defaults("neuron", NEURONS, config.neuron)
    tree["loss"] = defaults("loss", LOSSES, config.loss)
    tree["optimizer"] = defaults("optimizer", OPTIMIZERS, config.optimizer, positional=1)
    tree["schedule"] = defaults("schedule", SCHEDULES, config.schedule, positional=3)
    return tree
