"""Train an experiment: a network that learns sequences with classes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from spikewright.data import Dataset
from spikewright.reports.energy_estimate import energy
from spikewright.train import loop
from spikewright.train._build import Experiment
from spikewright.train._rule_job import RuleJob
from spikewright.train.distributed import Ranks
from spikewright.train.feed import fingerprint
from spikewright.train.job import Stage
from spikewright.train.log import Reporter, Silent
from spikewright.train.progress import Progress
from spikewright.train.result import energy_entry, versions
from spikewright.train.source import batch_size


def train_experiment(
    experiment: Experiment,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = Silent(),  # noqa: B008  (it has no state)
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
) -> dict[str, Any]:
    """Train the network of an experiment, evaluate it, and write checkpoints and results to a folder.

    Writes `config.json`, `log.csv` (one row per epoch), `last.safetensors` (after every epoch, and within one if
    `train.checkpoint_every` is set), `best.safetensors` (by validation accuracy if there are validation data, else by
    training loss, never by the test set) and `result.json`.

    **Checkpointed**: weights, state of rule, optimizer, schedule and loss scaler, accumulated gradients, random state,
    position and counters.

    Args:
        experiment: `Experiment` from `build`.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run, on the same
            device and with the same number of threads; without a checkpoint the run begins anew. Default: False.
        reporter: `spikewright.train.log.Reporter` to call with progress. Default: `Silent()`, no output.
        ranks: `Ranks` of this process; only rank 0 writes. Default: `Ranks()`, a single process.

    Returns:
        The contents of `result.json`: `test_accuracy` and `test_loss` of the last epoch, `train_loss`,
        `train_accuracy`, `firing_rates`, `saved_bytes` (activation memory of the first batch), `energy` estimates,
        `alignment`, `seconds`, `parameters`, `versions`, `config` and `history` (one row per epoch).

    Raises:
        NotFinite: The loss, a gradient or a weight is not finite; the message names the first non-finite tensor.
        CheckpointError: The folder cannot be written, or there is no valid checkpoint of this configuration to resume
            from.
        ConfigError: The folder already holds a run, and `resume` is False; or another process trains in it.
    """
    return loop.run(_ExperimentJob(experiment, ranks), out, resume=resume, reporter=reporter, ranks=ranks)


_COUNTED = 32
"""Number of samples for the energy estimate."""


class _ExperimentJob(RuleJob):
    def __init__(self, experiment: Experiment, ranks: Ranks) -> None:
        super().__init__(experiment.settings, experiment.net, experiment.rule, ranks)
        self.experiment, self.config, self.device = experiment, experiment.config, experiment.device
        self.fingerprint = fingerprint(experiment.dataset)
        self.follows_length = self.config["schedule"]["name"] == "cosine"

    def begin(self, progress: Progress, resumed: bool) -> Stage:
        return self.stage("", self.experiment)

    def result(self, progress: Progress) -> dict[str, Any]:
        config, rows, dataset = self.config, progress.rows, self.experiment.dataset
        if not self.samples:  # of a run that had been trained to its end before
            self.stage("", self.experiment)
            self.measure(progress)
        return {
            "rule": config["rule"]["name"],
            "model": config["model"]["name"],
            "data": config["data"]["name"],
            "seed": self.settings.seed,
            "steps": config["train"].get("steps"),
            "epochs": len(rows),
            **{key: value for key, value in rows[-1].items() if key not in ("epoch", "seconds", "firing_rate")},
            "firing_rates": self.rates,
            "mean_firing_rate": rows[-1].get("firing_rate"),
            "saved_bytes": progress.saved_bytes,
            "unsolved_batches": progress.unsolved,
            "trouble": progress.trouble,
            "alignment": progress.alignment,
            "seconds": progress.seconds,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "train_samples": len(dataset.train) if isinstance(dataset, Dataset) else None,
            "test_samples": self.samples.get("test"),
            "device": str(self.device),
            "versions": versions(),
            "config": config,
            "history": rows,
        }

    def extras(self) -> Mapping[str, Callable[[], Any]]:
        return {"energy": self._energy}

    def _energy(self) -> dict[str, Any]:
        """Estimate the energy of a training step on a few samples."""
        built = self.experiment
        built.net.train()
        x, y = next(iter(built.training.epoch(0)))
        few = tree_map_only(Tensor, lambda tensor: tensor[:, :_COUNTED], x)
        target = y.narrow(built.loss.batch_axis, 0, batch_size((few, y)))
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(self.settings.seed)  # masks do not depend on what was drawn before
            return energy_entry(energy(built.net, built.rule, few, target, built.loss))
