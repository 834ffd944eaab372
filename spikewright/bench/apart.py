"""Memory of a training step, measured in a process of its own."""

import gc
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spikewright.bench.contenders import Contender
from spikewright.bench.measure import ChildFailed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Spikes, Task, calibrate
from spikewright.metrics.memory import SavedBytes


def small_task(steps: int, settings: BenchSettings) -> Task:
    """Return a small network with an input of `steps` time steps."""
    random = settings.random()
    with settings.seeded():
        layers = nn.Sequential(nn.Linear(64, 256), Spikes(), nn.Linear(256, 256), Spikes(), nn.Linear(256, 10))
    x = torch.rand(steps, 16, 64, generator=random)
    calibrate(layers, x)
    return Task(layers, x, torch.randint(10, (16,), generator=random))


@dataclass(frozen=True)
class IsolatedStep:
    """A training step to measure in a process of its own.

    Attributes:
        contender: `Contender` that does the step.
        steps: Number of time steps, at least 1.
        settings: `BenchSettings`.
        build: Function of the number of time steps and the settings that returns a `Task`, importable by its name.
            Default: small_task.
    """

    contender: Contender
    steps: int
    settings: BenchSettings
    build: Callable[[int, BenchSettings], Task] = small_task

    def task(self, steps: int) -> Task:
        """Return the task with an input of `steps` time steps."""
        return self.build(steps, self.settings)


@dataclass(frozen=True)
class Use:
    """Memory of a training step in bytes.

    Attributes:
        saved_bytes: Peak of the tensors saved for backward.
        peak_bytes: Peak memory of the process above that before the step; `None` if the system does not tell.
    """

    saved_bytes: int
    peak_bytes: int | None


def measure_apart(isolated: IsolatedStep) -> Use:
    """Measure a step in a fresh process with the same number of threads.

    Raises:
        RuntimeError: The process was killed.
        ChildFailed: The process failed; the message is its last line.
    """
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    child = subprocess.run(
        [sys.executable, "-m", "spikewright.bench.child"],
        input=pickle.dumps((isolated, torch.get_num_threads())),
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


def measure_here(isolated: IsolatedStep) -> Use:
    """Measure a step in this process, which should do nothing else.

    Runs a step of two time steps first, to exclude the one-time setup of torch and other libraries.
    """
    isolated.contender.ready(isolated.task(min(2, isolated.steps))).run()
    task = isolated.task(isolated.steps)
    step = isolated.contender.ready(task)
    gc.collect()
    before = start_peak()
    step.run()
    after = peak()
    step.clear()
    with SavedBytes() as saved:
        step.run()
    return Use(saved.peak, None if before is None or after is None else max(0, after - before))


def start_peak() -> int | None:
    """Return the resident bytes of the process, and reset the peak to them if the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return _status("VmRSS")


def peak() -> int | None:
    """Return the peak of the resident bytes of the process, or `None`.

    On Linux a new process inherits `ru_maxrss` from its parent, so a large parent would hide the memory of the child.
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
