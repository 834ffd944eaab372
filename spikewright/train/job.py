"""Jobs of the training loop: one or more stages, each with an optimizer of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch

from spikewright._util.share import Share
from spikewright.train.config import Tree
from spikewright.train.log import Row
from spikewright.train.progress import Progress, Sum
from spikewright.train.schedule import Schedule
from spikewright.train.settings import LoopSettings
from spikewright.train.step import Stepper


class Stateful(Protocol):
    """Anything with a state that a checkpoint can hold."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...


class Source(Protocol):
    """Batches of an epoch, in an order that can be repeated from any batch on."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]: ...

    def share(self, epoch: int, index: int, sync_batch_norm: bool = False) -> Share | None:
        """Return the part of a batch that this process gets; `None` if each process gets the whole batch."""
        ...


@dataclass(frozen=True)
class Learned:
    """Result of training on a batch, over all processes.

    Attributes:
        loss: Mean loss.
        weight: Weight of the batch in a mean of the loss over batches, such as its number of samples.
        sums: Measures by name: the sum over those samples that count, and their number.
        trouble: Reason why an equation of the rule was not solved, or `None`.
    """

    loss: float
    weight: float
    sums: Mapping[str, Sum] = field(default_factory=dict[str, Sum])
    trouble: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one optimizer: a whole run, or one task of a sequence.

    Attributes:
        name: Name for the progress bar; empty if there is only one stage.
        source: Batches.
        stepper: Applies gradients.
        schedule: Learning-rate schedule.
    """

    name: str
    source: Source
    stepper: Stepper
    schedule: Schedule

    @property
    def batches(self) -> int | None:
        """Batches per epoch; `None` if the source does not know."""
        try:
            return len(self.source)
        except TypeError:
            return None

    def parts(self) -> dict[str, Any]:
        """Return what has a state for the length of the stage, by name."""
        parts = {"optimizer": self.stepper.optimizer, "schedule": self.schedule.scheduler, "step": self.stepper}
        return {**parts, "source": self.source} if hasattr(self.source, "state_dict") else parts


class Job(ABC):
    """One kind of training; the loop does all that kinds have in common.

    Attributes:
        config: Record of the run as nested dictionaries; a resumed run keeps it, except for `free` keys.
        settings: `LoopSettings`.
        device: `torch.device` of the training.
        stages: Number of stages, at least 1.
        fingerprint: Digest of each part of the data, which a resumed run keeps, by name.
        follows_length: True if the learning rate depends on the number of epochs.
        free: Keys of `config`, as (section, key), that may change when a run is resumed.
        lengthens: Key of the number of epochs if a resumed run may have another one, else `None`.
    """

    config: Tree
    settings: LoopSettings
    device: torch.device
    stages: int = 1
    fingerprint: Mapping[str, str] = MappingProxyType({})
    follows_length: bool = False
    free: ClassVar[frozenset[tuple[str, str]]] = frozenset(
        [*(("train", key) for key in ("checkpoint_every", "evaluate_every", "tensorboard", "device", "workers")),
         ("train", "weights"), ("data", "dir"), ("data", "first_batch")]
    )  # fmt: skip
    lengthens: tuple[str, str] | None = ("train", "epochs")

    @abstractmethod
    def begin(self, progress: Progress, resumed: bool) -> Stage:
        """Return stage `progress.stage`; `resumed` says whether part of it was trained by an earlier process."""

    @abstractmethod
    def learn(self, batch: Any, progress: Progress) -> Learned:
        """Train on one batch of the stage."""

    @abstractmethod
    def parts(self) -> dict[str, Stateful]:
        """Return what has a state throughout the run, by name."""

    @abstractmethod
    def train(self) -> None:
        """Prepare for the batches of an epoch: training mode, frozen parameters."""

    def agree(self) -> None:  # noqa: B027  (most jobs have nothing of their own in each process)
        """Make equal what each process has of its own, such as running statistics."""

    @abstractmethod
    def check_finite(self) -> None:
        """Raise `NotFinite` if a weight is not finite."""

    def measure(self, progress: Progress) -> Row:
        """Return the entries of an evaluation in the row of an epoch."""
        return {}

    @property
    def blank(self) -> Row:
        """Entries of an epoch without evaluation."""
        return {}

    def merit(self, row: Row) -> float | None:
        """Return how good the weights of an epoch are, larger is better; `None` if they are no candidate for best."""
        return -row["train_loss"]

    def end(self, progress: Progress, tell: Callable[[str], None]) -> None:  # noqa: B027  (most jobs do nothing)
        """Do what follows the last epoch of a stage; `tell` shows a line."""

    @abstractmethod
    def result(self, progress: Progress) -> dict[str, Any]:
        """Return the contents of `result.json`."""

    def extras(self) -> Mapping[str, Callable[[], Any]]:
        """Return further entries of the result by name; one that fails does not cost the others."""
        return {}
