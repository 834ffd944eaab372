"""The update of one batch: precision, averaging over processes, gradient clipping, and checks for non-finite values."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import NotFinite
from spikewright.train._build import Experiment
from spikewright.train.diagnose import finite, first_not_finite
from spikewright.train.distributed import Ranks, average_buffers, average_gradients


@dataclass(frozen=True)
class Learned:
    """Result of training on a batch.

    Attributes:
        loss: Mean loss.
        correct: Number of samples classified correctly during training.
        trouble: Reason why an equation of the rule was not solved, or `None`.
    """

    loss: float
    correct: int
    trouble: str | None


class BatchLearner:
    """Trains an experiment on batches: applies every update that the rule yields.

    An update averages gradients over processes, unscales and clips them, and steps the optimizer.

    Args:
        experiment: `Experiment` to train; the settings `amp` and `clip_norm` of its configuration apply.
        ranks: `Ranks` of this process.
    """

    def __init__(self, experiment: Experiment, ranks: Ranks) -> None:
        settings = experiment.config["train"]
        self._experiment, self._ranks = experiment, ranks
        self._amp, self._clip_norm = settings["amp"], settings["clip_norm"]
        self._device = experiment.device.type
        learned = [*experiment.net.parameters(), *experiment.rule.parameters()]
        self._parameters = [p for p in learned if p.requires_grad]
        self.scaler = torch.amp.GradScaler(self._device, enabled=self._amp == "float16")

    def __call__(self, x: Tensor, y: Tensor) -> Learned:
        """Train on one batch and return a `Learned`.

        Args:
            x: Inputs. Shape `[time, batch, *feature]`.
            y: Classes, int64 `[batch]`.

        Raises:
            NotFinite: A weight, the loss or the gradient is not finite; the weights are those before the update.
        """
        experiment = self._experiment
        # An infinite weight before a neuron shows in neither loss nor gradient, and with loss scaling a NaN only skips
        # updates, so the weights themselves are checked.
        with torch.no_grad():
            self._checked("the norm of the weights", torch.nn.utils.get_total_norm(self._parameters), x)
        lost, outputs, trouble = 0.0, [], None
        with self._autocast():
            for update in experiment.rule.updates(experiment.net, x, y, experiment.loss, backward=self._backward):
                lost += self._checked("the loss", update.loss, x)
                self._step(x)
                outputs.append(update.output)
                if update.report is not None and not update.report.converged:
                    trouble = update.report.reason
        average_buffers(experiment.rule, self._ranks)
        return Learned(lost, experiment.loss.correct(torch.cat(outputs), y), trouble)

    def _step(self, x: Tensor) -> None:
        optimizer = self._experiment.optimizer
        average_gradients(self._parameters, self._ranks)
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if not self.scaler.is_enabled():  # loss scaling skips an overflow and lowers the scale
            self._checked("the norm of the gradient", norm, x)
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()

    def _checked(self, what: str, value: Tensor, x: Tensor) -> float:
        if not finite(value):
            raise NotFinite(
                f"{what} is {value.item()}. The first thing that is not finite is "
                f"{first_not_finite(self._experiment.net, x) or what + ', which overflows; its parts are finite'}. "
                "Lower optimizer.lr, or set train.clip_norm."
            )
        return value.item()

    def _autocast(self) -> Any:
        return nullcontext() if self._amp == "off" else torch.autocast(self._device, getattr(torch, self._amp))

    def _backward(self, value: Tensor) -> None:
        with torch.autocast(self._device, enabled=False):
            self.scaler.scale(value).backward()
