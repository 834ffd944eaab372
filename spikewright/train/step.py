"""From finished gradients to an optimizer step: accumulation, processes, loss scaling, clipping, finite values."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from spikewright._util.share import Share
from spikewright.errors import ConfigError, NotFinite
from spikewright.train.diagnose import finite
from spikewright.train.distributed import Ranks, sum_gradients
from spikewright.train.settings import LoopSettings


class Stepper:
    """Applies gradients: averages those of several batches, sums them over processes, unscales, clips, and steps.

    Args:
        parameters: Trained parameters by name.
        optimizer: `torch.optim.Optimizer` of them.
        settings: `LoopSettings`; `amp`, `clip_norm` and `accumulate` are read.
        device: `torch.device` of the training.
        ranks: `Ranks` of this process.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        settings: LoopSettings,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.parameters = {name: p for name, p in parameters.items() if p.requires_grad}
        self.optimizer, self._ranks, self._device = optimizer, ranks, device.type
        self._amp, self._clip_norm, self._accumulate = settings.amp, settings.clip_norm, settings.accumulate
        self.scaler = torch.amp.GradScaler(self._device, enabled=self._amp == "float16")
        self._held: dict[str, Tensor] = {}
        self._samples = self._batches = self._updates = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass in mixed precision."""
        return nullcontext() if self._amp == "off" else torch.autocast(self._device, getattr(torch, self._amp))

    def backward(self, value: Tensor) -> None:
        """Differentiate a scalar, with loss scaling."""
        with torch.autocast(self._device, enabled=False):
            self.scaler.scale(value).backward()

    def update(self, share: Share, culprit: Callable[[], str | None]) -> None:
        """Use the gradients of a batch: step, or keep them until as many batches as a step takes are there.

        Args:
            share: Share of the batch that this process has. Gradients of a divided batch are summed over processes;
                those of a batch that every process has are averaged.
            culprit: Function that returns what is not finite, or `None`, for messages.

        Raises:
            NotFinite: The gradient is not finite.
            ConfigError: A rule that updates several times per batch is to accumulate batches.
        """
        if self._accumulate == 1:
            self._step(share, culprit)
            return
        self._updates += 1
        if self._updates > 1:
            raise ConfigError(
                f"train.accumulate = {self._accumulate}, but the rule updates several times per batch, so that batches "
                "cannot be accumulated. Use accumulate = 1, or a rule with one update per batch."
            )
        for name, p in self.parameters.items():
            if p.grad is not None:
                part = p.grad * (share.total if share.divided else share.total / share.world)
                self._held[name] = self._held[name] + part if name in self._held else part
        self._samples += share.total
        self.optimizer.zero_grad()

    def end_batch(self) -> bool:
        """Count a batch, and return whether a step has used it."""
        self._batches += 1
        self._updates = 0
        return self._batches >= self._accumulate and self.flush()

    def flush(self) -> bool:
        """Step with what is left of a window of batches, and return whether there was any."""
        there = self._batches > 0
        if self._held:
            for name, held in self._held.items():
                self.parameters[name].grad = held / self._samples
            self._held = {}
            self._step(Share(self._ranks.world, self._ranks.rank, self._ranks.world), lambda: None)
        self._samples = self._batches = 0
        return there

    def check(self, what: str, value: Tensor, culprit: Callable[[], str | None]) -> float:
        """Return a scalar as a number.

        Raises:
            NotFinite: It is not finite.
        """
        if not finite(value):
            first = culprit() or what + ", which overflows; its parts are finite"
            raise NotFinite(
                f"{what} is {value.item()}. The first thing that is not finite is {first}. Lower optimizer.lr, or set "
                "train.clip_norm."
            )
        return value.item()

    def check_weights(self, culprit: Callable[[], str | None]) -> None:
        """Raise `NotFinite` if a trained parameter is not finite."""
        with torch.no_grad():
            self.check("the norm of the weights", get_total_norm(list(self.parameters.values())), culprit)

    def state_dict(self) -> dict[str, Any]:
        """Return loss scale and held gradients."""
        return {
            "scaler": self.scaler.state_dict(),
            "held": dict(self._held),
            "samples": self._samples,
            "batches": self._batches,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.scaler.load_state_dict(state_dict["scaler"])
        self._held = {name: held.to(self.parameters[name].device) for name, held in state_dict["held"].items()}
        self._samples, self._batches = state_dict["samples"], state_dict["batches"]

    def _step(self, share: Share, culprit: Callable[[], str | None]) -> None:
        sum_gradients(self.parameters.values(), share)
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        if not self.scaler.is_enabled():  # loss scaling skips an overflow and lowers the scale
            self.check("the norm of the gradient", norm, culprit)
        if self._clip_norm is not None:
            clip_grads_with_norm_(self.parameters.values(), self._clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
