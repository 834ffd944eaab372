"""The position and counters of a run, as a tree that a checkpoint holds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from spikewright.errors import CheckpointError
from spikewright.train._build import Experiment
from spikewright.train.log import Row


@dataclass
class Progress:
    """Position and counters of a run, without weights, optimizer and random state.

    Attributes:
        epoch: Number of the current epoch, from 0.
        batch: Batches of it that are finished.
        loss: Sum of the loss over its samples so far.
        correct: Number of its samples classified correctly so far, during training.
        seen: Number of its samples so far.
        seconds: Training time in seconds, over all sessions.
        unsolved: Number of batches so far for which the rule did not solve its equation.
        trouble: Reason of the last of them.
        saved_bytes: Peak bytes saved for backward, measured on the first batch.
        best: Best validation accuracy so far, or without validation the negative of the lowest training loss.
        rows: History, one row per epoch.
        alignment: Comparisons with the gradient of backpropagation, one row per comparison and parameter.
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
        """Append the row of the epoch and reset its counters."""
        self.rows.append(row)
        self.epoch += 1
        self.batch = 0
        self.clear_sums()

    def clear_sums(self) -> None:
        """Reset the sums over samples."""
        self.loss, self.correct, self.seen = 0.0, 0, 0


def gather(experiment: Experiment, scaler: torch.amp.GradScaler, progress: Progress) -> dict[str, Any]:
    """Return everything that an exact continuation needs."""
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
    """Restore an experiment from the tree of `gather`, and return the progress.

    Raises:
        CheckpointError: The tree belongs to another configuration.
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
"""Keys that may change when a run is resumed."""


def _refuse_another(saved: dict[str, Any], now: dict[str, Any]) -> None:
    for section, table in now.items():
        for key, value in table.items():
            before = saved.get(section, {}).get(key)
            if (section, key) not in _FREE and before != value:
                raise CheckpointError(
                    f"The checkpoint was made with {section}.{key} = {before!r}, but the configuration says {value!r}. "
                    "A resumed run keeps its configuration. Start a new run to change it."
                )
