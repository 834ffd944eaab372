"""A training step in a process of its own, where its memory can be told from everybody else's."""

import gc
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spikewright.bench.contenders import Contender
from spikewright.bench.measure import ChildFailed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Spikes, Task, calibrate
from spikewright.metrics.memory import SavedBytes


@dataclass(frozen=True)
class IsolatedStep:
    """A contender and the number of steps it learns from."""

    contender: Contender
    steps: int
    settings: BenchSettings

    def task(self, steps: int) -> Task:
        """Return a small network with an input of so many steps."""
        random = self.settings.random()
        with self.settings.seeded():
            layers = nn.Sequential(nn.Linear(64, 256), Spikes(), nn.Linear(256, 256), Spikes(), nn.Linear(256, 10))
        x = torch.rand(steps, 16, 64, generator=random)
        calibrate(layers, x)
        return Task(layers, x, torch.randint(10, (16,), generator=random))


@dataclass(frozen=True)
class Use:
    """What a step used.

    Attributes:
        saved_bytes: Kept for backward at once.
        peak_bytes: Most memory taken from the system, above what the process held before; `None` if it does not say.
    """

    saved_bytes: int
    peak_bytes: int | None


def measure_apart(trial: IsolatedStep) -> Use:
    """Measure in a fresh process, with as many threads as this one.

    Raises:
        RuntimeError: The process was killed.
        ChildFailed: The process failed; the message is its own reason.
    """
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    child = subprocess.run(
        [sys.executable, "-m", "spikewright.bench.child"],
        input=pickle.dumps((trial, torch.get_num_threads())),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    last = (child.stdout.decode(errors="replace").strip().splitlines() or [""])[-1]
    if child.returncode < 0:
        raise RuntimeError(f"its process was ended by signal {-child.returncode}, perhaps for want of memory")
    if child.returncode:
        why = (child.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise ChildFailed(why.removeprefix("ImportError: "))
    return Use(**json.loads(last))


def measure_here(trial: IsolatedStep) -> Use:
    """Measure in this process, which should do nothing else.

    A step of the shortest sequence goes before, so that what torch and a library set up once is not counted.
    """
    trial.contender.ready(trial.task(1)).run()
    task = trial.task(trial.steps)
    step = trial.contender.ready(task)
    gc.collect()
    before = start_peak()
    step.run()
    after = peak()
    step.clear()
    with SavedBytes() as saved:
        step.run()
    return Use(saved.peak, None if before is None or after is None else max(0, after - before))


def start_peak() -> int | None:
    """Return the bytes the process holds, and let the peak start from there where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return _status("VmRSS")


def peak() -> int | None:
    """Return the most bytes the process has held.

    Linux hands `ru_maxrss` down from the parent to a new process, so a large parent would hide what its child takes.
    """
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)
