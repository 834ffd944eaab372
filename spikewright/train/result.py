"""The record of a finished run."""

import platform
from typing import Any

import numpy
import torch

import spikewright
from spikewright.train.build import Experiment
from spikewright.train.evaluate import evaluate
from spikewright.train.log import Row


def result(experiment: Experiment, rows: list[Row], seconds: float, saved_bytes: int) -> dict[str, Any]:
    """Return what `result.json` holds; the test accuracy is that of the last epoch.

    Args:
        experiment: After training.
        rows: Its history.
        seconds: Time spent in training, evaluation not counted.
        saved_bytes: Kept for backward at once.
    """
    config = experiment.config
    score = evaluate(experiment.net, experiment.measuring(experiment.dataset.test), experiment.loss)
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
        "mean_firing_rate": sum(score.rates.values()) / len(score.rates),
        "saved_bytes": saved_bytes,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in experiment.net.parameters()),
        "train_samples": len(experiment.dataset.train),
        "test_samples": score.samples,
        "device": str(experiment.device),
        "versions": versions(),
        "config": config,
        "history": rows,
    }


def versions() -> dict[str, str]:
    """Return the versions a number depends on."""
    return {
        "spikewright": spikewright.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }
