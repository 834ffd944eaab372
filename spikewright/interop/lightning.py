"""A learning rule in the training loop of Lightning, which is not imported here."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from spikewright.errors import ConfigError
from spikewright.interop.stepping import samples_of, stepped
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.rules import Rule, Update
from spikewright.rules._check import check_loss, check_network
from spikewright.train.group import present_ranks


class LightningMixin:
    """Trains a `LightningModule` by a learning rule: the optimizer steps at every update, as in a plain loop.

    Put it before `LightningModule` among the bases. The module has the attributes `net`, `rule` and `loss`, and
    `configure_optimizers` with one optimizer. Optimisation is manual, since a rule calls the backward pass itself; what
    Lightning leaves out then is done here: clipping by `clip_norm`, and learning rate schedulers at their interval,
    where "step" is a batch. `trainer.global_step` counts optimizer steps. With several processes ("ddp") gradients
    are those of the samples of all.

    Attributes:
        net: The network, a `Network`.
        rule: Learning rule, a `Rule`. What it keeps in buffers is part of Lightning's checkpoints.
        loss: The loss, such as `PerStep(nn.CrossEntropyLoss())`.
        clip_norm: Largest norm of the gradient, > 0, in place of the trainer's `gradient_clip_val`. Default: None, no
            clipping.
        batch_first: True for inputs `[batch, time, *feature]`. Default: False.

    Raises:
        ConfigError: An attribute is missing or of another kind; there are several optimizers; or the trainer is set to
            16-bit precision with loss scaling, or to a strategy over several processes other than "ddp".

    Examples:
        >>> import torch, spikewright as sw
        >>> class Model(sw.interop.LightningMixin, torch.nn.Module):  # lightning.LightningModule in place of nn.Module
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF()))
        ...         self.rule, self.loss = sw.rules.OTTT(), sw.losses.PerStep(torch.nn.CrossEntropyLoss())
        >>> Model().automatic_optimization
        False
    """

    automatic_optimization: ClassVar[bool] = False
    net: Network
    rule: Rule
    loss: Loss
    clip_norm: float | None = None
    batch_first: bool = False

    if TYPE_CHECKING:  # what a LightningModule has
        trainer: Any
        optimizers: Callable[[], Any]
        lr_schedulers: Callable[[], Any]
        clip_gradients: Callable[..., None]
        lr_scheduler_step: Callable[[Any, Any], None]
        log: Callable[..., None]

    def sequences(self, batch: Any) -> tuple[Input, Input]:
        """Return inputs and targets of a batch; override it for batches that are not pairs.

        Args:
            batch: What the loader yields; by default a pair (x, y).
        """
        x, y = batch
        return x, y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Learn from one batch; log and return its loss, "train_loss", a scalar without graph.

        Args:
            batch: What the loader yields.
            batch_idx: Its number in the epoch, at least 0.
        """
        optimizer = self._checked()
        pair, total = self.sequences(batch), torch.zeros(())
        clip = None
        if (norm := self.clip_norm) is not None:
            clip = partial(self.clip_gradients, optimizer, gradient_clip_val=norm, gradient_clip_algorithm="norm")
        index, first = self.trainer.fit_loop.epoch_loop.total_batch_idx, self.batch_first
        for update in stepped(
            self.net, self.rule, pair, self.loss, optimizer, index=index, clip=clip, batch_first=first
        ):
            self.updated(update)
            total = total.to(update.loss) + update.loss
        self.log("train_loss", total, batch_size=samples_of(pair[0], first), prog_bar=True)
        self._schedule("step", batch_idx + 1)
        return total

    def updated(self, update: Update) -> None:
        """Called after every optimizer step; does nothing by default.

        Args:
            update: What the rule yielded: loss, output and firing rates.
        """

    def on_train_epoch_end(self) -> None:
        """Step the schedulers whose interval is an epoch."""
        self._schedule("epoch", self.trainer.current_epoch + 1)

    def _checked(self) -> Any:
        """Return the optimizer, or raise an error for what cannot be trained so."""
        name, trainer = type(self).__name__, self.trainer
        missing = [each for each in ("net", "rule", "loss") if not hasattr(self, each)]
        if missing:
            raise ConfigError(
                f"{name} trains by a rule, but has no attribute {' and no '.join(missing)}. Set self.net, self.rule, "
                "and self.loss in __init__, after super().__init__()."
            )
        check_network(name, self.net)
        check_loss(name, self.loss)
        optimizer = self.optimizers()
        if isinstance(optimizer, list):
            raise ConfigError(
                f"{name}.configure_optimizers returns {len(optimizer)} optimizers, but an update of a rule is one step "
                "of one. Give one optimizer with several groups of parameters."
            )
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ConfigError(
                f"{name} is trained with precision {trainer.precision!r}, which scales losses, but updates of a rule "
                "are clipped and applied here without the scaler. Use precision='bf16-mixed' or '32-true', or "
                "sw.fit(amp='float16')."
            )
        if present_ranks().world > 1 and not isinstance(trainer.model, DistributedDataParallel):
            raise ConfigError(
                f"{name} is trained by {present_ranks().world} processes with {type(trainer.strategy).__name__}, whose "
                "parameters may be parts in each, so that gradients cannot be added up. Use "
                "Trainer(strategy='ddp')."
            )
        return optimizer

    def _schedule(self, interval: str, done: int) -> None:
        """Step the schedulers of an interval, as Lightning does by itself with automatic optimisation."""
        for each in self.trainer.lr_scheduler_configs:
            if each.interval != interval or done % each.frequency:
                continue
            metric = None
            if each.reduce_on_plateau:
                metric = self.trainer.callback_metrics.get(each.monitor)
                if metric is None:
                    raise ConfigError(
                        f"A scheduler waits for '{each.monitor}', which has not been logged when it steps; logged are "
                        f"{sorted(self.trainer.callback_metrics)}. Give lr_scheduler a 'monitor' among them."
                    )
            self.lr_scheduler_step(each.scheduler, metric)
