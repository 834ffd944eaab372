"""Run a file in every installed library that reads NIR, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from spikewright.interop.nir.importer_child import LIBRARIES
from spikewright.interop.nir.proof import tolerance
from spikewright.interop.nir.report import NIRRow

Array = np.ndarray[Any, Any]


def installed() -> tuple[str, ...]:
    """Return the names of the libraries that read NIR and can be imported here."""
    return tuple(name for name in LIBRARIES if find_spec(name) is not None)


def compared(reader: str, output: Array, expected: Array, spiking: bool, dtype: Any, version: str = "") -> NIRRow:
    """Return the row of a reader: spikes are compared exactly, other outputs but for rounding.

    Args:
        reader: Its name.
        output: What it computed.
        expected: What the network computes.
        spiking: True if the output consists of spikes.
        dtype: Precision of the network.
        version: Version of the reader.
    """
    if output.shape != expected.shape:
        return NIRRow(reader, version, refused=f"output {list(output.shape)} in place of {list(expected.shape)}")
    allowed = 0.0 if spiking else 10 * tolerance(dtype) * (1 + float(np.abs(expected).max(initial=0)))
    differing = int((~(np.abs(output - expected) <= allowed)).sum())
    return NIRRow(reader, version, expected.size, differing)


def read_by(library: str, path: Path, x: Tensor, expected: Array, spiking: bool, dt: float) -> NIRRow:
    """Return what a library computes of a file, compared with the network.

    Args:
        library: Its name.
        path: The file.
        x: Input, `[time, batch, *feature]`.
        expected: Output of the network.
        spiking: True if it consists of spikes.
        dt: Duration of a step, which the library is told.
    """
    try:
        found = version(library)
    except PackageNotFoundError:
        found = ""
    with TemporaryDirectory() as folder:
        given, result = Path(folder, "input.npy"), Path(folder, "output.npy")
        np.save(given, x.detach().cpu().numpy())
        why = _run([library, str(path), str(given), str(result), repr(dt)])
        if why:
            return NIRRow(library, found, refused=why)
        return compared(library, np.load(result).astype(float), expected, spiking, x.dtype, found)


def _run(arguments: Sequence[str], timeout: float = 300) -> str:
    """Run the child process, and return why it failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path)}
    command = [sys.executable, "-W", "ignore", "-m", "spikewright.interop.nir.importer_child", *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"no answer in {timeout:g} seconds"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
