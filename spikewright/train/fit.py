"""The training loop."""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import CheckpointError, ConfigError, NotFinite
from spikewright.metrics.memory import SavedBytes
from spikewright.train import checkpoint
from spikewright.train.build import Experiment
from spikewright.train.diagnose import finite, first_not_finite
from spikewright.train.distributed import Ranks, average_gradients, total
from spikewright.train.evaluate import evaluate
from spikewright.train.log import Reporter, Row, Silent, Table, events
from spikewright.train.result import result


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
        saved_bytes: Kept for backward at once, measured on the first batch.
        best: Best validation accuracy so far, or lowest training loss (negative) without validation.
        rows: The history, one row per epoch.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    saved_bytes: int = 0
    best: float = float("-inf")
    rows: list[Row] = field(default_factory=list)


def fit(
    experiment: Experiment,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = Silent(),  # noqa: B008  (it has no state)
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
) -> dict[str, Any]:
    """Train, evaluate, and keep everything in a folder.

    Writes `config.json`, `log.csv`, `last.safetensors` (after every epoch, and inside one if asked), `best.safetensors`
    (by validation accuracy if samples are held out, else by training loss; never by the test set) and `result.json`.

    Args:
        experiment: What to train.
        out: The folder.
        resume: Go on from `last.safetensors`, to exactly the weights an uninterrupted run ends with.
        reporter: Told about progress.
        ranks: Which of several processes this is.

    Returns:
        The contents of `result.json`.

    Raises:
        NotFinite: The loss or a gradient stopped being finite; the message names where it began.
        CheckpointError: The folder cannot be written, or there is nothing sound to resume from.
    """
    trainer = _Trainer(experiment, out, ranks, reporter)
    trainer.prepare(resume)
    settings = experiment.config["train"]
    progress = trainer.progress
    table = Table(out / "log.csv", progress.rows)
    reporter.start(len(experiment.training), settings["epochs"], progress.epoch, progress.batch)
    try:
        with events(out / "events" if settings["tensorboard"] and ranks.first else None) as write:
            while progress.epoch < settings["epochs"]:
                trainer.epoch()
                row = trainer.measure()
                if ranks.first:
                    table.add(row)
                    write(row)
                    trainer.keep()
                reporter.epoch(row)
    finally:
        reporter.stop()
    final = result(experiment, progress.rows, progress.seconds, progress.saved_bytes)
    if ranks.first:
        checkpoint.write_atomically(out / "result.json", json.dumps(final, indent=2).encode())
    return final


class _Trainer:
    def __init__(self, experiment: Experiment, out: Path, ranks: Ranks, reporter: Reporter) -> None:
        self.experiment, self.out, self.ranks, self.reporter = experiment, out, ranks, reporter
        self.progress = Progress()
        self.settings = experiment.config["train"]
        self.scaler = torch.amp.GradScaler(experiment.device.type, enabled=self.settings["amp"] == "float16")
        self.parameters = [p for p in experiment.net.parameters() if p.requires_grad]

    def prepare(self, resume: bool) -> None:
        """Make the folder, or read where a run in it stands."""
        if resume:
            self._restore(checkpoint.load(self.out / "last.safetensors"))
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if (self.out / "last.safetensors").exists():
                raise ConfigError(
                    f"The folder {self.out} already holds a run. Nothing was overwritten. Continue it with "
                    f"--resume {self.out}, or choose another --out."
                )
            if self.ranks.first:
                config = json.dumps(self.experiment.config, indent=2)
                checkpoint.write_atomically(self.out / "config.json", config.encode())
        except OSError as error:
            raise CheckpointError(
                f"The run was to be written to {self.out}, but that is not possible: {error.strerror}. Choose a folder "
                "that can be written with --out. Nothing was trained."
            ) from error

    def epoch(self) -> None:
        """Train to the end of the epoch under way."""
        experiment, progress = self.experiment, self.progress
        experiment.net.train()
        began = time.perf_counter()
        every = self.settings["checkpoint_every"]
        for x, y in experiment.training.epoch(progress.epoch, progress.batch):
            self._learn(x, y)
            progress.batch += 1
            experiment.schedule.after_batch()
            mean = progress.loss / progress.seen
            self.reporter.batch(progress.epoch, progress.batch - 1, mean, progress.correct / progress.seen)
            if every and progress.batch % every == 0 and progress.batch < len(experiment.training):
                began = self._clock(began)
                self._save("last")
        experiment.schedule.after_epoch(progress.loss / progress.seen)
        self._clock(began)

    def measure(self) -> Row:
        """Close the epoch: evaluate, and start the counters of the next."""
        experiment, progress = self.experiment, self.progress
        sums = torch.tensor([progress.loss, progress.correct, progress.seen], dtype=torch.float64)
        loss, correct, seen = total(sums, self.ranks).tolist()
        row: Row = {
            "epoch": progress.epoch + 1,
            "train_loss": loss / seen,
            "train_accuracy": correct / seen,
            "validation_accuracy": None,
            "test_accuracy": None,
            "test_loss": None,
            "firing_rate": None,
            "seconds": progress.seconds,
        }
        last = progress.epoch + 1 == self.settings["epochs"]
        if last or (progress.epoch + 1) % self.settings["evaluate_every"] == 0:
            score = evaluate(experiment.net, experiment.measuring(experiment.dataset.test), experiment.loss)
            rate = sum(score.rates.values()) / len(score.rates)
            row |= {"test_accuracy": score.accuracy, "test_loss": score.loss, "firing_rate": rate}
            if experiment.held_out is not None:
                held = evaluate(experiment.net, experiment.measuring(experiment.held_out), experiment.loss)
                row["validation_accuracy"] = held.accuracy
        progress.rows.append(row)
        progress.epoch += 1
        progress.batch = progress.seen = progress.correct = 0
        progress.loss = 0.0
        return row

    def keep(self) -> None:
        """Save the last checkpoint, and the best if this is it."""
        row = self.progress.rows[-1]
        held, lost = row["validation_accuracy"], row["train_loss"]
        merit = held if self.experiment.held_out is not None else -(lost or 0.0)
        if merit is not None and merit > self.progress.best:
            self.progress.best = merit
            self._save("best")
        self._save("last")

    def _learn(self, x: Tensor, y: Tensor) -> None:
        experiment, progress = self.experiment, self.progress
        first = progress.epoch == 0 and progress.batch == 0
        outputs = torch.zeros(())
        lost = 0.0
        with SavedBytes() if first else nullcontext() as saved, self._autocast():
            for update in experiment.rule.updates(experiment.net, x, y, experiment.loss, backward=self._backward):
                lost += self._finite(update.loss, x)
                self._step(x)
                outputs = outputs + update.output.sum(0).cpu()
        if isinstance(saved, SavedBytes):
            progress.saved_bytes = saved.peak
        progress.loss += lost * len(y)
        progress.correct += int((outputs.argmax(-1) == y.cpu()).sum())
        progress.seen += len(y)

    def _step(self, x: Tensor) -> None:
        optimizer = self.experiment.optimizer
        average_gradients(self.parameters, self.ranks)
        self.scaler.unscale_(optimizer)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if not self.scaler.is_enabled():
            self._finite(norm, x)
        if self.settings["clip_norm"] is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.settings["clip_norm"], norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()

    def _finite(self, value: Tensor, x: Tensor) -> float:
        if not finite(value):
            progress, culprit = self.progress, first_not_finite(self.experiment.net, x)
            raise NotFinite(
                f"Training stopped in epoch {progress.epoch + 1}, batch {progress.batch + 1}: the loss or its gradient "
                f"is {value.item()}. The first thing that is not finite is {culprit}. Earlier checkpoints in "
                f"{self.out} are untouched. Lower optimizer.lr, or set train.clip_norm."
            )
        return value.item()

    def _autocast(self) -> Any:
        if self.settings["amp"] == "off":
            return nullcontext()
        return torch.autocast(self.experiment.device.type, getattr(torch, self.settings["amp"]))

    def _backward(self, value: Tensor) -> None:
        with torch.autocast(self.experiment.device.type, enabled=False):
            self.scaler.scale(value).backward()

    def _clock(self, began: float) -> float:
        now = time.perf_counter()
        self.progress.seconds += now - began
        return now

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield "model", self.experiment.net.module
        yield "optimizer", self.experiment.optimizer
        yield "schedule", self.experiment.schedule.scheduler
        yield "rule", self.experiment.rule
        yield "scaler", self.scaler

    def _save(self, name: str) -> None:
        if not self.ranks.first:
            return
        random = {"cpu": torch.get_rng_state()}
        if self.experiment.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.experiment.device)
        tree = {
            "config": self.experiment.config,
            "progress": asdict(self.progress),
            "random": random,
            "parts": {key: part.state_dict() for key, part in self._parts()},
        }
        checkpoint.save(self.out / f"{name}.safetensors", tree)

    def _restore(self, tree: dict[str, Any]) -> None:
        _same_run(tree["config"], self.experiment.config)
        for key, part in self._parts():
            part.load_state_dict(tree["parts"][key])
        self.progress = Progress(**tree["progress"])
        torch.set_rng_state(tree["random"]["cpu"])
        if "cuda" in tree["random"]:
            torch.cuda.set_rng_state(tree["random"]["cuda"], self.experiment.device)


def _same_run(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with another configuration; only the number of epochs and what is reported may change."""
    free = {("train", k) for k in ("epochs", "checkpoint_every", "evaluate_every", "tensorboard", "device")} | {
        ("data", "dir")
    }
    for section, table in now.items():
        for key, value in table.items():
            before = saved.get(section, {}).get(key)
            if (section, key) not in free and before != value:
                raise CheckpointError(
                    f"The checkpoint was made with {section}.{key} = {before!r}, but the configuration says {value!r}. "
                    "A run is resumed as it was begun; start a new one to change it."
                )
