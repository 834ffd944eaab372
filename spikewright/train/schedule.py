"""Learning-rate schedules: cosine with warm-up, constant, and those of torch by name."""

import inspect
import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from spikewright._util.ranges import check_counts, check_flag, check_instance, check_within
from spikewright.errors import ConfigError


class Steady:
    """A scheduler that leaves the learning rates, and the optimizer, alone."""

    def step(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take an empty state."""


@dataclass(frozen=True)
class Schedule:
    """A learning-rate scheduler and when it steps.

    Attributes:
        scheduler: `torch.optim.lr_scheduler.LRScheduler`, or `Steady`.
        per_batch: True steps after every batch, False after every epoch.
    """

    scheduler: LRScheduler | Steady
    per_batch: bool

    def after_batch(self) -> None:
        """Step the scheduler if it steps after every batch."""
        if self.per_batch:
            self.scheduler.step()

    def after_epoch(self, train_loss: float) -> None:
        """Step the scheduler if it steps after every epoch; `ReduceLROnPlateau` gets the training loss."""
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
    r"""Return a schedule with linear warm-up and cosine decay.

    With W warm-up units of a total of N (batches, or epochs with `per_epoch`), after n units the learning rate is
    multiplied by

    .. math:: \frac{n+1}{W+1} \ (n < W), \qquad f + (1-f)\, \tfrac12 \Big(1 + \cos \pi \frac{n-W}{N-W}\Big) \ (n \ge W).

    Args:
        optimizer: `torch.optim.Optimizer` whose learning rates are multiplied.
        batches: Batches per epoch, at least 1.
        epochs: Epochs of the run, at least 1.
        warmup: Epochs of warm-up, at least 0, may be a fraction. Default: 0.0.
        floor: Factor f at the end, in [0, 1]. Default: 0.0.
        per_epoch: True steps once per epoch, as in the papers, False after every batch. Default: False.

    Raises:
        ConfigError: An argument is out of its range.
    """
    check_instance("cosine", "optimizer", optimizer, Optimizer, "torch.optim.SGD(net.parameters(), lr=0.1)")
    check_counts("cosine", batches=batches, epochs=epochs)
    check_within("cosine", "warmup", warmup, "[0, inf)", "warm-up takes so many epochs")
    check_within("cosine", "floor", floor, "[0, 1]", "the learning rate is multiplied by it at the end")
    check_flag("cosine", per_epoch=per_epoch)
    unit = 1 if per_epoch else batches
    rising, total = warmup * unit, epochs * unit

    def factor(done: int) -> float:
        if done < rising:
            return (done + 1) / (rising + 1)
        progress = min(1.0, (done - rising) / max(1.0, total - rising))
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return Schedule(LambdaLR(optimizer, factor), per_batch=not per_epoch)


def constant(optimizer: Optimizer, batches: int, epochs: int) -> Schedule:
    """Return a schedule with a constant learning rate.

    Args:
        optimizer: `torch.optim.Optimizer`.
        batches: Batches per epoch; not used.
        epochs: Epochs of the run; not used.
    """
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


# Their arguments are functions or schedulers, which a configuration cannot represent.
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


def rehearse(schedule: Schedule, epochs: int, name: str) -> None:
    """Go through the epochs of a schedule and back to its start, so that what goes wrong does so before training.

    Raises:
        ConfigError: The schedule ends too early, or its learning rate is not finite, is negative, or is always 0.
    """
    scheduler = schedule.scheduler
    if isinstance(scheduler, Steady):
        return
    optimizer = scheduler.optimizer
    groups = [dict(group) for group in optimizer.param_groups]
    state = deepcopy(scheduler.state_dict())
    steps = 0 if schedule.per_batch else epochs
    done, highest = 0, 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer has not stepped
            for done in range(steps + 1):
                rates = [float(group["lr"]) for group in optimizer.param_groups]
                if not all(0 <= rate < math.inf for rate in rates):
                    raise ValueError(f"the learning rate is {rates[0]}")
                if done < steps:
                    highest = max(highest, *rates)
                    schedule.after_epoch(0.0)
            if steps and not highest:
                raise ValueError("the learning rate is always 0, so that nothing is learned")
    except Exception as error:  # schedulers of torch raise what they like
        raise ConfigError(
            f"schedule.name = '{name}' does not get through {epochs} epochs; after {done} of them: {error}. "
            "Give the schedule as many steps as there are epochs. Nothing was trained."
        ) from error
    finally:
        for group, before in zip(optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(before)
        scheduler.load_state_dict(state)
