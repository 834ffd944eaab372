"""Learning-rate schedules: warm-up and cosine of our own, and any of torch by name."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau


@dataclass(frozen=True)
class Schedule:
    """A scheduler and how often it moves.

    Attributes:
        scheduler: Of torch.
        per_batch: Moves after every batch; otherwise after every epoch.
    """

    scheduler: LRScheduler
    per_batch: bool

    def after_batch(self) -> None:
        """Move on by a batch."""
        if self.per_batch:
            self.scheduler.step()

    def after_epoch(self, train_loss: float) -> None:
        """Move on by an epoch."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(train_loss)
        elif not self.per_batch:
            self.scheduler.step()


def cosine(
    optimizer: Optimizer,
    batches: int,
    epochs: int,
    *,
    warmup: float = 0.0,
    floor: float = 0.0,
    per_epoch: bool = False,
) -> Schedule:
    """Linear warm-up, then half a cosine from the full learning rate down to `floor` times it.

    Args:
        optimizer: Its learning rates are scaled.
        batches: Batches in an epoch.
        epochs: Epochs of the run.
        warmup: Epochs of warm-up; may be a fraction.
        floor: Fraction of the learning rate at the end.
        per_epoch: Move once per epoch, as the papers do, instead of after every batch.
    """
    unit = 1 if per_epoch else batches
    rising, total = warmup * unit, epochs * unit

    def factor(done: int) -> float:
        if done < rising:
            return (done + 1) / (rising + 1)
        progress = min(1.0, (done - rising) / max(1.0, total - rising))
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return Schedule(LambdaLR(optimizer, factor), per_batch=not per_epoch)


def constant(optimizer: Optimizer, batches: int, epochs: int) -> Schedule:
    """The learning rate as it is."""
    return Schedule(LambdaLR(optimizer, lambda _: 1.0), per_batch=False)


def _of_torch(scheduler: type[LRScheduler]) -> Callable[..., Schedule]:
    def make(optimizer: Optimizer, batches: int, epochs: int, **options: Any) -> Schedule:
        return Schedule(scheduler(optimizer, **options), per_batch=False)

    signature = inspect.signature(scheduler)
    fixed = list(inspect.signature(make).parameters.values())[:3]
    taken = {p.name for p in fixed}
    own = [p.replace(kind=p.KEYWORD_ONLY) for n, p in signature.parameters.items() if n not in taken]
    make.__signature__ = signature.replace(parameters=[*fixed, *own])  # type: ignore[attr-defined]
    make.__name__ = scheduler.__name__
    make.__wrapped__ = scheduler  # type: ignore[attr-defined]
    return make


# These are made of functions or of other schedulers, which a configuration cannot write down.
_NOT_PLAIN = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "ChainedScheduler", "SequentialLR")

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    **{
        name.lower(): _of_torch(scheduler)
        for name, scheduler in vars(lr_scheduler).items()
        if inspect.isclass(scheduler)
        and issubclass(scheduler, LRScheduler)
        and name not in _NOT_PLAIN
        and name[0] != "_"
    },
    "cosine": cosine,
    "constant": constant,
}
