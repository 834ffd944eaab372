"""Build a continual-learning run from a configuration."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from spikewright.continual.config import ContinualConfig, ContinualSettings
from spikewright.continual.heads import TaskLoss
from spikewright.continual.scenario import SCENARIOS, Scenario
from spikewright.data import Batches, Dataset, Split
from spikewright.data.selection import balanced_order
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.wiring import Wiring, module_name
from spikewright.rules import ContinualRule, Naive
from spikewright.train._build import (
    Experiment,
    build_network,
    build_rule,
    build_schedule,
    check_accumulates,
    components,
    device_named,
    load_weights,
)
from spikewright.train._evaluate import correct
from spikewright.train.components import LOSSES, OPTIMIZERS, RULES, choose, construct, defaults
from spikewright.train.config import Config, Tree
from spikewright.train.distributed import Ranks, seed_process
from spikewright.train.feed import batches_of, load_dataset
from spikewright.train.settings import Presentation, TrainSettings
from spikewright.train.source import prepared


@dataclass
class ContinualExperiment:
    """A continual-learning run, built from a configuration.

    Attributes:
        config: Nested dictionary of the configuration, every default filled in.
        settings: `ContinualSettings`.
        train: `TrainSettings`; its epochs are those of each task.
        scenario: `Scenario`, the sequence of tasks.
        presentation: `Presentation` of the data: encoding, augmentation, limits.
        dataset: `Dataset` that the scenario is made of.
        net: `Network`, on `device`.
        rule: `ContinualRule`, on `device`.
        loss: `Loss`; `TaskLoss` if tasks have heads of their own.
        device: `torch.device` of network, rule and batches.
    """

    config: Tree
    settings: ContinualSettings
    train: TrainSettings
    scenario: Scenario
    presentation: Presentation
    dataset: Dataset
    net: Network
    rule: ContinualRule
    loss: Loss
    device: torch.device
    _tests: dict[int, Batches] = field(default_factory=dict[int, Batches])

    @property
    def tasks(self) -> int:
        """Number of tasks to learn."""
        return min(len(self.scenario), self.settings.only or len(self.scenario))

    def experiment(self, index: int, task: Dataset, ranks: Ranks = Ranks()) -> Experiment:  # noqa: B008
        """Return the training run of one task, with a new optimizer.

        Args:
            index: Number of the task, from 0.
            task: `Dataset` of the task.
            ranks: `Ranks` of this process. Default: `Ranks()`, a single process.
        """
        settings, held_out = self.train, None
        if self.presentation.validation:
            task, held_out = task.with_validation(self.presentation.validation, settings.seed)
        self.net.train()
        self.rule.freeze(self.net)
        batches = self.batches(
            task,
            task.train,
            index,
            batch_size=min(settings.batch_size, len(task.train)),
            augment=self.presentation.augment or task.augment,
            device="cpu" if settings.workers else self.device,
            rank=ranks.rank,
            world=ranks.world,
        )
        training = prepared(batches, settings.workers, self.device)
        table = dict(self.config["optimizer"])
        if index and self.settings.later_lr is not None:
            table["lr"] = self.settings.later_lr
        parameters = [p for p in [*self.net.parameters(), *self.rule.parameters()] if p.requires_grad]
        optimizer = construct("optimizer", OPTIMIZERS, table, parameters)
        self.rule.check_optimizer(optimizer)
        return Experiment(
            config=self.config,
            settings=settings,
            presentation=self.presentation,
            dataset=task,
            held_out=held_out,
            net=self.net,
            rule=self.rule,
            loss=self.loss,
            optimizer=optimizer,
            schedule=build_schedule(self.config["schedule"], optimizer, training, settings),
            training=training,
            device=self.device,
            measures=correct(self.loss),
        )

    def batches(self, task: Dataset, split: Split, index: int, **options: Any) -> Batches:
        """Return batches of a task's samples.

        Args:
            task: `Dataset` of the task.
            split: Samples, such as `task.train`.
            index: Number of the task, from 0; each has its own random stream.
            **options: Further arguments of `Batches`, such as `batch_size`.
        """
        seed = (self.train.seed + _APART * index) % 2**63
        return batches_of(
            task, split, self.presentation, self.train, **{"seed": seed, "device": self.device, **options}
        )

    def test(self, index: int, task: Dataset | None = None) -> Batches:
        """Return the test batches of a task; they are cached, the training data are not kept.

        Args:
            index: Number of the task, from 0.
            task: `Dataset` of the task. Default: None, made by the scenario.
        """
        if index not in self._tests:
            task = self.scenario.task(index) if task is None else task
            self._tests[index] = self.batches(task, task.test, index, batch_size=256, shuffle=False)
        return self._tests[index]

    def sample(self, index: int, task: Dataset, per_class: int) -> tuple[Tensor, Tensor]:
        """Return training samples of a task, balanced over classes, as inputs and labels.

        Inputs have the shape `[time, batch, C, H, W]`, labels `[batch]`.

        Args:
            index: Number of the task, from 0.
            task: `Dataset` of the task.
            per_class: Samples per class, at least 1; fewer if there are not as many.
        """
        few = task.train.subset(chosen(task, per_class, self.scenario.classes))
        return next(self.batches(task, few, index, batch_size=len(few), shuffle=False).epoch(0))


_APART = 7919
"""Difference between the seeds of consecutive tasks, so that their batches are independent."""


def chosen(task: Dataset, per_class: int, classes: int) -> Tensor:
    """Return the indices of so many training samples of each class, int64 `[any]`; the same at each call.

    Of a class with fewer samples all are taken.

    Args:
        task: `Dataset` of the task.
        per_class: Samples per class, at least 1.
        classes: Number of classes of the task, at least 1.
    """
    own = task.train.labels % classes  # with heads, labels index the outputs of all tasks
    order = balanced_order(own, seed=0)
    places = [(own[order] == label).nonzero().flatten()[:per_class] for label in range(classes)]
    return order[torch.cat(places).sort().values]


def build_continual(
    config: ContinualConfig,
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
    *,
    resumed: bool = False,
) -> ContinualExperiment:
    """Build a continual-learning run from a configuration.

    Seeds the global generator of torch with `train.seed`. A rule that is no `ContinualRule` is wrapped in `Naive`,
    which protects nothing. If tasks have heads of their own, the readout layers stay unprotected unless `rule.free`
    says otherwise.

    Args:
        config: `ContinualConfig` from `configure_continual`.
        ranks: `Ranks` of this process. Default: `Ranks()`, a single process.
        resumed: True leaves out what a checkpoint replaces: the weights of `train.weights`. Default: False.

    Raises:
        ConfigError: A name, key, type or value in the configuration is wrong.
        DatasetMissing: The files of a data set are not there.
        DatasetCorrupt: A file of a data set is damaged.

    >>> from spikewright.continual import build_continual
    >>> from spikewright.continual import configure_continual
    >>> config = configure_continual(rule="ottt", scenario={"name": "split", "tasks": 2}, data="synthetic")
    >>> run = build_continual(config)
    >>> run.tasks, type(run.rule).__name__, run.scenario.outputs
    (2, 'Naive', 4)
    """
    settings = config.config.train
    torch.manual_seed(settings.seed)
    device = device_named(settings.device)
    presentation, dataset = load_dataset(config.config.data)
    scenario: Scenario = construct("scenario", SCENARIOS, config.scenario, dataset)
    net = build_network(config.config, scenario.shape, scenario.outputs).to(device)
    if settings.weights is not None and not resumed:
        load_weights(net, settings.weights)
    x = torch.zeros(1, 1, *scenario.shape, device=device)
    plain = _around(config.config, net.wiring(x), scenario.heads)
    rule = build_rule(plain).to(device)
    assert isinstance(rule, ContinualRule)
    check_accumulates(rule, settings)
    rule.prepare(net, x)
    seed_process(settings.seed, ranks)
    if len(scenario) > 1 and config.settings.only != 1:  # an error now rather than after the first task
        rule.check_optimizer(construct("optimizer", OPTIMIZERS, plain.optimizer, [*net.parameters()]), task=2)
    loss: Loss = construct("loss", LOSSES, plain.loss)
    tree = components(plain)
    tree["data"] = {**tree["data"], **asdict(presentation)}
    tree["scenario"] = defaults("scenario", SCENARIOS, config.scenario, positional=1)
    tree["continual"] = asdict(config.settings)
    return ContinualExperiment(
        config=tree,
        settings=config.settings,
        train=settings,
        scenario=scenario,
        presentation=presentation,
        dataset=dataset,
        net=net,
        rule=rule,
        loss=TaskLoss(loss, scenario.classes) if scenario.heads else loss,
        device=device,
    )


def _around(config: Config, wiring: Wiring, heads: bool) -> Config:
    """Wrap a plain rule in `Naive`, and leave readouts unprotected where they are heads."""
    rule = dict(config.rule)
    builder = choose("rule", RULES, rule["name"])
    if not (isinstance(builder, type) and issubclass(builder, ContinualRule)):
        rule = {"name": Naive.__name__.lower(), "rule": rule}
    if heads and "free" not in rule:
        rule["free"] = [module_name(site) for site, synapse in wiring.synapses.items() if not synapse.receivers]
    return replace(config, rule=rule)
