"""Where a run stands, as one tree that a checkpoint holds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from spikewright.errors import CheckpointError
from spikewright.train._build import Experiment
from spikewright.train.log import Row


@dataclass
class Progress:
    """Where a run stands: all that is not weights, optimizer or random state.

    Attributes:
        epoch: The epoch under way.
        batch: Batches of it that are done.
        loss: Sum of the loss over its samples so far.
        correct: Samples of it classified right so far, while learning.
        seen: Samples of it so far.
        seconds: Spent in training, over all sittings.
        unsolved: Batches so far whose equation the rule did not solve.
        trouble: Why the last of them was not.
        saved_bytes: Kept for backward at once, measured on the first batch.
        best: Best validation accuracy so far, or lowest training loss (negative) without validation.
        rows: The history, one row per epoch.
        alignment: How gradients compared with those of backpropagation, one row per comparison and parameter.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    unsolved: int = 0
    trouble: str = ""
    saved_bytes: int = 0
    best: float = float("-inf")
    rows: list[Row] = field(default_factory=list)
    alignment: list[dict[str, Any]] = field(default_factory=list)

    def close_epoch(self, row: Row) -> None:
        """Add the epoch's row, and start the counters of the next."""
        self.rows.append(row)
        self.epoch += 1
        self.batch = 0
        self.clear_sums()

    def clear_sums(self) -> None:
        """Forget the sums over samples."""
        self.loss, self.correct, self.seen = 0.0, 0, 0


def gather(experiment: Experiment, scaler: torch.amp.GradScaler, progress: Progress) -> dict[str, Any]:
    """Return everything an exact continuation needs."""
    random = {"cpu": torch.get_rng_state()}
    if experiment.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(experiment.device)
    return {
        "config": experiment.config,
        "progress": asdict(progress),
        "random": random,
        "parts": {key: part.state_dict() for key, part in _parts(experiment, scaler)},
    }


def restore(tree: dict[str, Any], experiment: Experiment, scaler: torch.amp.GradScaler) -> Progress:
    """Put an experiment where `gather` found it.

    Raises:
        CheckpointError: It belongs to another configuration.
    """
    _refuse_another(tree["config"], experiment.config)
    for key, part in _parts(experiment, scaler):
        part.load_state_dict(tree["parts"][key])
    torch.set_rng_state(tree["random"]["cpu"])
    if "cuda" in tree["random"] and experiment.device.type == "cuda":
        torch.cuda.set_rng_state(tree["random"]["cuda"], experiment.device)
    return Progress(**tree["progress"])


def _parts(experiment: Experiment, scaler: torch.amp.GradScaler) -> Iterator[tuple[str, Any]]:
    yield "model", experiment.net.module
    yield "optimizer", experiment.optimizer
    yield "schedule", experiment.schedule.scheduler
    yield "rule", experiment.rule
    yield "scaler", scaler


_FREE = {
    *(("train", key) for key in ("epochs", "checkpoint_every", "evaluate_every", "tensorboard", "device")),
    *(("train", key) for key in ("certify_every", "weights")),
    ("data", "dir"),
}
"""What may change between the sittings of a run."""


def _refuse_another(saved: dict[str, Any], now: dict[str, Any]) -> None:
    for section, table in now.items():
        for key, value in table.items():
            before = saved.get(section, {}).get(key)
            if (section, key) not in _FREE and before != value:
                raise CheckpointError(
                    f"The checkpoint was made with {section}.{key} = {before!r}, but the configuration says {value!r}. "
                    "A run is resumed as it was begun; start a new one to change it."
                )
