"""Entries of the result of a finished run, and the digest that tells whether they are still those."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch

import spikewright
from spikewright._util.files import as_json
from spikewright.reports.energy_estimate import Energy


def energy_entry(energy: Energy) -> dict[str, Any]:
    """Return an energy estimate as plain values.

    Args:
        energy: `Energy` of a training step.
    """
    return {
        "simulation_nj": energy.forward.picojoules / 1e3,
        "learning_nj": None if energy.backward is None else energy.backward.picojoules / 1e3,
        "bptt_nj": energy.bptt.picojoules / 1e3,
        "ratio": energy.ratio,
        "second_phase_rates": energy.back_rates,
        "spike_operations": energy.forward.additions,
        "learning_operations": None if energy.backward is None else energy.backward.count,
        "feedback_parameters": energy.feedback_parameters,
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


def sealed(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a result with a `digest` of its entries and of the history of its run.

    It tells damage, such as an edited figure or the file of another run. It is no protection against tampering: who
    changes a figure can compute the digest of the change.

    Args:
        result: Entries; a digest among them is replaced.
        rows: History of the run, one row per epoch.
    """
    entries = {key: value for key, value in result.items() if key != "digest"}
    return {**entries, "digest": hashlib.sha256(as_json([entries, list(rows)])).hexdigest()}
