"""The training loop."""

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import NotFinite
from spikewright.metrics.memory import SavedBytes
from spikewright.reports.energy_estimate import Energy, energy
from spikewright.reports.gradient_check import certify
from spikewright.rules import reference_rule
from spikewright.train import checkpoint
from spikewright.train._build import Experiment
from spikewright.train._evaluate import Score, evaluate
from spikewright.train.batch import BatchLearner
from spikewright.train.distributed import Ranks, total
from spikewright.train.log import Reporter, Row, Silent, Table, events
from spikewright.train.progress import Progress, gather, restore
from spikewright.train.result import result


def fit(
    experiment: Experiment,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = Silent(),  # noqa: B008  (it has no state)
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
) -> dict[str, Any]:
    """Train a network, evaluate it, and write checkpoints and results to a folder.

    Writes `config.json`, `log.csv` (one row per epoch), `last.safetensors` (after every epoch, and within one if
    `train.checkpoint_every` is set), `best.safetensors` (by validation accuracy if samples are held out, else by
    training loss, never by the test set) and `result.json`.

    **Checkpointed**: weights, state of rule, optimizer, schedule and loss scaler, random state, position and counters.

    Args:
        experiment: `Experiment` from `build`.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run, on the same
            device and with the same number of threads. Default: False.
        reporter: `spikewright.train.log.Reporter` to call with progress. Default: `Silent()`, no output.
        ranks: `Ranks` of this process; only rank 0 writes. Default: `Ranks()`, a single process.

    Returns:
        The contents of `result.json`: `test_accuracy` and `test_loss` of the last epoch, `train_loss`,
        `train_accuracy`, `firing_rates`, `saved_bytes` (activation memory of the first batch), `energy` estimates,
        `alignment`, `seconds`, `parameters`, `versions`, `config` and `history` (one row per epoch).

    Raises:
        NotFinite: The loss or a gradient is not finite; the message names the first non-finite tensor.
        CheckpointError: The folder cannot be written, or there is no valid checkpoint of this configuration to resume
            from.
        ConfigError: The folder already holds a run, and `resume` is False.
    """
    trainer = _Trainer(experiment, out, ranks, reporter)
    if resume:
        trainer.progress = restore(checkpoint.load(out / "last.safetensors"), experiment, trainer.learn.scaler)
        if not ranks.first:  # rank 0 holds the sums of all processes
            trainer.progress.clear_sums()
    else:
        checkpoint.begin(out, experiment.config, write=ranks.first)
    progress, settings = trainer.progress, experiment.config["train"]
    table = Table(out / "log.csv", progress.rows)
    reporter.start(len(experiment.training), settings["epochs"], progress.epoch, progress.batch)
    try:
        with events(out / "events" if settings["tensorboard"] and ranks.first else None) as write:
            while progress.epoch < settings["epochs"]:
                row = trainer.epoch()
                if ranks.first:
                    table.add(row)
                    write(row)
                    trainer.keep()
                reporter.epoch(row)
    finally:
        reporter.stop()
    final = result(experiment, progress, trainer.score or trainer.measure(), trainer.energy())
    if ranks.first:
        checkpoint.write_atomically(out / "result.json", json.dumps(final, indent=2).encode())
    return final


_COUNTED = 32
"""Number of samples for the energy estimate."""


class _Trainer:
    def __init__(self, experiment: Experiment, out: Path, ranks: Ranks, reporter: Reporter) -> None:
        self.experiment, self.out, self.ranks, self.reporter = experiment, out, ranks, reporter
        self.learn = BatchLearner(experiment, ranks)
        self.certify_every: int | None = experiment.config["train"]["certify_every"]
        self.progress = Progress()
        self.score: Score | None = None

    def epoch(self) -> Row:
        """Train to the end of the current epoch, and evaluate."""
        experiment, progress = self.experiment, self.progress
        experiment.net.train()
        began = time.perf_counter()
        every = experiment.config["train"]["checkpoint_every"]
        for x, y in experiment.training.epoch(progress.epoch, progress.batch):
            self._batch(x, y)
            mean, accuracy = progress.loss / progress.seen, progress.correct / progress.seen
            self.reporter.batch(progress.epoch, progress.batch - 1, mean, accuracy)
            if every and progress.batch % every == 0 and progress.batch < len(experiment.training):
                began = self._clock(began)
                self._save("last", self._summed())
        self._clock(began)
        row = self._row()
        experiment.schedule.after_epoch(row["train_loss"] or 0.0)
        progress.close_epoch(row)
        return row

    def measure(self) -> Score:
        """Evaluate the network on the test data."""
        self.score = evaluate(
            self.experiment.net, self.experiment.measuring(self.experiment.dataset.test), self.experiment.loss
        )
        return self.score

    def energy(self) -> Energy:
        """Estimate the energy of a training step on a few samples."""
        experiment = self.experiment
        experiment.net.train()
        x, y = next(iter(experiment.training.epoch(0)))
        return energy(experiment.net, experiment.rule, x[:, :_COUNTED], y[:_COUNTED], experiment.loss)

    def keep(self) -> None:
        """Save the last checkpoint, and the best if it improved."""
        row = self.progress.rows[-1]
        held, lost = row["validation_accuracy"], row["train_loss"]
        merit = held if self.experiment.held_out is not None else -(lost or 0.0)
        if self.progress.alignment:
            Table(self.out / "alignment.csv", self.progress.alignment).write()
        if merit is not None and merit > self.progress.best:
            self.progress.best = merit
            self._save("best", self.progress)
        self._save("last", self.progress)

    def _batch(self, x: Tensor, y: Tensor) -> None:
        progress = self.progress
        first = progress.epoch == 0 and progress.batch == 0
        if first:
            self.experiment.net.wiring(x)  # so that its probe does not count as part of the step
        self._compare(x, y)
        try:
            with SavedBytes() if first else nullcontext() as saved:
                learned = self.learn(x, y)
        except NotFinite as error:
            raise NotFinite(
                f"Training stopped in epoch {progress.epoch + 1}, batch {progress.batch + 1}: {error} Earlier "
                f"checkpoints in {self.out} are untouched."
            ) from error
        if isinstance(saved, SavedBytes):
            progress.saved_bytes = saved.peak
        progress.loss += learned.loss * len(y)
        progress.correct += learned.correct
        if learned.trouble is not None:
            progress.unsolved += 1
            progress.trouble = learned.trouble
        progress.seen += len(y)
        progress.batch += 1
        self.experiment.schedule.after_batch()

    def _compare(self, x: Tensor, y: Tensor) -> None:
        """Compare the gradient with that of backpropagation, if a comparison is due."""
        experiment, progress = self.experiment, self.progress
        batch, every = progress.epoch * len(experiment.training) + progress.batch, self.certify_every
        if every is None or batch % every or not self.ranks.first:
            return
        made = certify(experiment.net, experiment.rule, x, y, experiment.loss, reference_rule(experiment.rule))
        progress.alignment += [
            {"batch": batch, "site": row.site, "cosine": row.cosine, "norm_ratio": row.norm_ratio} for row in made.rows
        ]

    def _row(self) -> Row:
        experiment, progress, settings = self.experiment, self.progress, self.experiment.config["train"]
        sums = self._summed()
        row: Row = {
            "epoch": progress.epoch + 1,
            "train_loss": sums.loss / sums.seen,
            "train_accuracy": sums.correct / sums.seen,
            "validation_accuracy": None,
            "test_accuracy": None,
            "test_loss": None,
            "firing_rate": None,
            "seconds": progress.seconds,
        }
        done = progress.epoch + 1
        if done == settings["epochs"] or done % settings["evaluate_every"] == 0:
            score = self.measure()
            row |= {"test_accuracy": score.accuracy, "test_loss": score.loss, "firing_rate": score.mean_rate}
            if experiment.held_out is not None:
                held = evaluate(experiment.net, experiment.measuring(experiment.held_out), experiment.loss)
                row["validation_accuracy"] = held.accuracy
        return row

    def _clock(self, began: float) -> float:
        now = time.perf_counter()
        self.progress.seconds += now - began
        return now

    def _summed(self) -> Progress:
        """Return the progress with sums over all processes."""
        own = torch.tensor([self.progress.loss, self.progress.correct, self.progress.seen], dtype=torch.float64)
        loss, correct, seen = total(own, self.ranks).tolist()
        return replace(self.progress, loss=loss, correct=int(correct), seen=int(seen))

    def _save(self, name: str, progress: Progress) -> None:
        if self.ranks.first:
            tree = gather(self.experiment, self.learn.scaler, progress)
            checkpoint.save(self.out / f"{name}.safetensors", tree)
