"""The example with Accelerate in two processes, which get the weights of one; and what happens without the mean."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import spikewright

ROOT = Path(spikewright.__file__).parent.parent


def difference(tmp_path: Path, *, averaged: bool) -> float:
    """Return the largest difference to a plain loop that two processes print."""
    pytest.importorskip("accelerate")
    text = (ROOT / "examples" / "with_accelerate.py").read_text()
    line = "            sw.train.average_gradients(net)"
    assert line in text
    script = tmp_path / "script.py"
    script.write_text(text if averaged else text.replace(line, "            pass"))
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("2 processes")]
    return float(found.rpartition(" ")[2])


def test_two_processes_get_the_weights_of_one(tmp_path: Path) -> None:
    assert difference(tmp_path, averaged=True) < 1e-6


def test_without_the_mean_they_drift_away(tmp_path: Path) -> None:
    assert difference(tmp_path, averaged=False) > 1e-3
