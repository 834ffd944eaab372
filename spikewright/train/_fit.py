"""The training loop for a network, a loss, an optimizer and a loader of the user's own."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from spikewright._util.arguments import shown
from spikewright._util.digest import digest
from spikewright._util.ranges import check_flag, check_instance
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules import Rule
from spikewright.rules._check import check_loss, check_network
from spikewright.train._build import Experiment, check_accumulates
from spikewright.train._evaluate import correct
from spikewright.train._fit_arguments import Metric, check_metrics, check_optimizer, schedule_of, summed
from spikewright.train._fit_record import record
from spikewright.train._train_experiment import train_experiment
from spikewright.train.distributed import seed_process
from spikewright.train.feed import Loaders
from spikewright.train.log import ProgressBar, Silent
from spikewright.train.processes import joined, of_first, share_weights
from spikewright.train.settings import Presentation, TrainSettings
from spikewright.train.source import LoaderSource, tensors


def fit(
    net: Network,
    rule: Rule,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    loader: Iterable[Any],
    *,
    out: Path | str,
    epochs: int = 1,
    validation: Iterable[Any] | None = None,
    schedule: LRScheduler | ReduceLROnPlateau | None = None,
    schedule_every: Literal["epoch", "batch"] = "epoch",
    metrics: Mapping[str, Metric] | None = None,
    batch_first: bool = False,
    resume: bool = False,
    seed: int = 0,
    amp: Literal["off", "float16", "bfloat16"] = "off",
    clip_norm: float | None = None,
    accumulate: int = 1,
    checkpoint_every: int | None = None,
    evaluate_every: int = 1,
    patience: int | None = None,
    certify_every: int | None = None,
    sync_batch_norm: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a network with a rule on batches of a loader, with checkpoints, resume, metrics and early stop.

    Writes `config.json`, `log.csv` (one row per epoch), `last.safetensors`, `best.safetensors` and `result.json` to a
    folder. The best weights are those of the highest validation accuracy; of the lowest validation loss, if there is no
    accuracy; and without validation data those of the lowest training loss. The first of equals counts, also for
    `patience`. A run that was interrupted
    goes on with the same call and `resume=True`, to exactly the weights of an uninterrupted one: at the start of an
    epoch the generators that the loader draws its order from are seeded by `seed` and the number of the epoch.

    Under torchrun every process calls it with the same arguments; batches are shared among the processes.

    Args:
        net: `Network`, on the device to train on.
        rule: Learning rule, a `Rule`.
        loss: `Loss`, such as `PerStep(nn.CrossEntropyLoss())`.
        optimizer: `torch.optim.Optimizer` of the parameters of the network, and of the rule if it has any.
        loader: Iterable of pairs (x, y) of inputs `[time, batch, *feature]` and targets `[batch, ...]`, such as a
            `torch.utils.data.DataLoader`; it is iterated in every epoch anew.
        out: Folder of the run, created if needed; it must not hold another run.
        epochs: Passes over the loader, from 1 to 10**6. Default: 1.
        validation: Iterable of such pairs to evaluate on after epochs. Default: None, no evaluation.
        schedule: Scheduler of `torch.optim.lr_scheduler` of the optimizer. Default: None, constant learning rates.
        schedule_every: "epoch" steps the scheduler after every epoch, "batch" after every optimizer step;
            `ReduceLROnPlateau`, which is given the training loss, takes "epoch" only. Default: "epoch".
        metrics: Functions of outputs and targets that return a mean over samples, one number, by name: letters, digits
            and underscores, but not "loss". Default: None, the accuracy if targets are classes; a label that the
            criterion ignores does not count.
        batch_first: True for inputs `[batch, time, *feature]`. Default: False.
        resume: True continues the run in `out`; if there is none yet, or no checkpoint, it begins. Default: False.
        seed: Seed of the order of the loader and of all random numbers of training, from 0 to 2**63 - 1. Default: 0.
        amp: Automatic mixed precision: "off", "float16" (with loss scaling) or "bfloat16". Default: "off".
        clip_norm: Largest norm of the gradient, > 0. Default: None, no clipping.
        accumulate: Batches per optimizer step, at least 1. Default: 1.
        checkpoint_every: Batches between checkpoints within an epoch, at least 1. Default: None, one per epoch.
        evaluate_every: Epochs between evaluations, at least 1; the last epoch is always evaluated. Default: 1.
        patience: Evaluations without a new best after which training ends early, at least 1. Default: None, never.
        certify_every: Batches between comparisons of the gradient with that of backpropagation, at least 1.
            Default: None, no comparisons.
        sync_batch_norm: True takes the statistics of batch norm over the batches of all processes. Default: False.
        tensorboard: True also writes TensorBoard events. Default: False.
        progress: True shows a progress bar on standard error, if the package rich is installed. Default: True.

    Returns:
        The contents of `result.json`: `train_loss`, and metrics with the prefixes `train_` and `validation_`, of the
        last epoch, `epochs`, `firing_rates`, `saved_bytes` (activation memory of the first batch), `energy` estimates,
        `seconds`, `parameters`, `versions` and `history` (one row per epoch).

    Raises:
        ConfigError: An argument is out of its range, the folder holds another run, the loader cannot be iterated
            again, or the optimizer has no parameter of the network or needs a closure.
        NotFinite: The loss, a gradient or a weight is not finite.
        CheckpointError: The folder cannot be written, or its checkpoint does not belong to this run.

    Examples:
        >>> import tempfile, torch, spikewright as sw
        >>> from torch import nn
        >>> net = sw.Network(nn.Sequential(nn.Linear(8, 16), sw.LIF(), nn.Linear(16, 2)))
        >>> data = [(torch.randn(5, 4, 8), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
        >>> loss = sw.losses.PerStep(nn.CrossEntropyLoss())
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> folder = tempfile.mkdtemp()
        >>> result = sw.fit(net, sw.rules.SLTT(), loss, optimizer, data, out=folder, epochs=2, progress=False)
        >>> result["epochs"], sorted(result["history"][0])
        (2, ['epoch', 'seconds', 'train_accuracy', 'train_loss'])
    """
    check_flag("fit", batch_first=batch_first, resume=resume, sync_batch_norm=sync_batch_norm, tensorboard=tensorboard)
    check_flag("fit", progress=progress)
    check_network("fit", net)
    check_instance("fit", "rule", rule, Rule, "sw.rules.OTTT()")
    check_loss("fit", loss)
    check_instance("fit", "optimizer", optimizer, torch.optim.Optimizer, "torch.optim.SGD(net.parameters(), lr=0.1)")
    if not isinstance(out, str | Path):
        raise ConfigError(f"fit(out={shown(out)}) is to be the folder of the run. Give its path, a text or a Path.")
    check_metrics(metrics)
    check_optimizer(optimizer, net)
    settings = TrainSettings(
        epochs=epochs,
        seed=seed,
        amp=amp,
        clip_norm=clip_norm,
        accumulate=accumulate,
        checkpoint_every=checkpoint_every,
        evaluate_every=evaluate_every,
        patience=patience,
        certify_every=certify_every,
        sync_batch_norm=sync_batch_norm,
        tensorboard=tensorboard,
    )
    settings.check()
    if loss.batch_axis and metrics is None:
        metrics = {}
    with joined() as ranks:
        experiment = Experiment(
            config=record(net, rule, loss, optimizer, (schedule, schedule_every), settings, loader, batch_first),
            settings=settings,
            presentation=Presentation(batch_first=batch_first),
            dataset=Loaders.of("fit", {"train": loader, "validation": validation}),
            held_out=None,
            net=net,
            rule=rule,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule_of(schedule, schedule_every, optimizer),
            training=LoaderSource(loader, seed, next(net.parameters()).device, batch_first),
            device=next(net.parameters()).device,
            measures={},
        )
        check_accumulates(rule, settings)
        _prepare(experiment, metrics)
        share_weights(net.module, rule, ranks)
        seed_process(seed, ranks)
        there = of_first(lambda: resume and (Path(out) / "config.json").exists(), ranks)
        visible = progress and ranks.first and find_spec("rich") is not None
        reporter = ProgressBar() if visible else Silent()
        return train_experiment(experiment, Path(out), resume=there, reporter=reporter, ranks=ranks)


def _prepare(experiment: Experiment, metrics: Mapping[str, Metric] | None) -> None:
    """Look at the first batch: prepare the rule for its sizes, and count correct answers if targets are classes."""
    first = next(experiment.training.epoch(0), None)
    if first is None:
        raise ConfigError("fit was given a loader without a batch, so that nothing can be learned. Give it some data.")
    experiment.config["data"]["first_batch"] = digest(tensors(first))
    x, y = first
    experiment.rule.prepare(experiment.net, x)
    if metrics is not None:
        experiment.measures = {name: summed(name, metric) for name, metric in metrics.items()}
    elif isinstance(y, Tensor) and y.dtype == torch.int64 and y.dim() == 1:
        experiment.measures = correct(experiment.loss)
