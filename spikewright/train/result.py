"""The result of a finished run."""

import platform
from typing import Any

import numpy
import torch

import spikewright
from spikewright.reports.energy_estimate import Energy
from spikewright.train._build import Experiment
from spikewright.train._evaluate import Score
from spikewright.train.progress import Progress


def result(experiment: Experiment, progress: Progress, score: Score, energy: Energy) -> dict[str, Any]:
    """Return the contents of `result.json`; the test accuracy is that of the last epoch.

    Args:
        experiment: `Experiment` after training.
        progress: `Progress` at the end.
        score: `Score` on the test data at the end.
        energy: `Energy` estimate of a training step at the end.
    """
    config = experiment.config
    rows = progress.rows
    return {
        "rule": config["rule"]["name"],
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "seed": config["train"]["seed"],
        "steps": config["train"]["steps"],
        "epochs": len(rows),
        "train_loss": rows[-1]["train_loss"],
        "train_accuracy": rows[-1]["train_accuracy"],
        "test_accuracy": score.accuracy,
        "test_loss": score.loss,
        "firing_rates": score.rates,
        "mean_firing_rate": score.mean_rate,
        "saved_bytes": progress.saved_bytes,
        "unsolved_batches": progress.unsolved,
        "trouble": progress.trouble,
        "energy": {
            "simulation_nj": energy.forward.picojoules / 1e3,
            "learning_nj": None if energy.backward is None else energy.backward.picojoules / 1e3,
            "bptt_nj": energy.bptt.picojoules / 1e3,
            "ratio": energy.ratio,
            "second_phase_rates": energy.back_rates,
            "spike_operations": energy.forward.additions,
            "learning_operations": None if energy.backward is None else energy.backward.count,
            "feedback_parameters": energy.feedback_parameters,
        },
        "alignment": progress.alignment,
        "seconds": progress.seconds,
        "parameters": sum(p.numel() for p in experiment.net.parameters()),
        "train_samples": len(experiment.dataset.train),
        "test_samples": score.samples,
        "device": str(experiment.device),
        "versions": versions(),
        "config": config,
        "history": rows,
    }


def versions() -> dict[str, str]:
    """Return the versions and settings that results depend on."""
    return {
        "spikewright": spikewright.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }
