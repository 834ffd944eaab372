"""One linear layer with neurons at several sizes, as in the public comparison of spiking libraries."""

from collections.abc import Iterator

import torch
from torch import nn

from spikewright._util.text import readable
from spikewright.bench._environment import free_memory
from spikewright.bench.contenders import FLOOR, OURS, Contender, Floor, PeerBPTT, Plain, ready
from spikewright.bench.measure import Tell, interleave, reason
from spikewright.bench.peers import COMPILED, EVERYONE, NORSE
from spikewright.bench.report import Table, timed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Spikes, Task, calibrate
from spikewright.metrics.memory import SavedBytes

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
SMALL = 32
"""Number of neurons at which memory is measured, to estimate that of larger sizes."""
TRANSIENT = 8
"""Number of temporary tensors of the size of the current, beside those saved for backward."""
STAND_IN: dict[str, Contender] = {PeerBPTT(COMPILED).name: PeerBPTT(NORSE)}
"""Contender whose memory is measured instead, because compiling takes long."""


def linear(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    """Time a linear layer with its neurons; contenders run one after the other and free their memory."""
    steps, batch, sizes = (5, 2, (16, 32)) if settings.quick else (500, 16, SIZES)
    everyone: list[Contender] = [Floor(), Plain(), *map(PeerBPTT, EVERYONE)]
    needs, failed = {}, {}
    for contender in everyone:
        tell(f"{contender.name}, memory")
        try:
            needs[contender.name] = _saved(STAND_IN.get(contender.name, contender), settings, steps, batch)
        except Exception as error:
            failed[contender.name] = reason(error)
    for size in settings.sizes or sizes:
        free, left_out = free_memory(), dict(failed)
        for name, saved in needs.items():
            need = _need(saved, size, steps, batch)
            if free is not None and need > free:
                left_out[name] = f"needs about {readable(need)}, but {readable(free)} are free"
        fitting = [contender for contender in everyone if contender.name not in left_out]
        yield _table(size, settings, fitting, left_out, (steps, batch), tell)


def _table(
    size: int,
    settings: BenchSettings,
    fitting: list[Contender],
    left_out: dict[str, str],
    rows: tuple[int, int],
    tell: Tell,
) -> Table:
    title = f"Linear({size}, {size}) and LIF neurons, input {[*rows, size]}, forward and backward"
    if not fitting:
        return Table("linear", title, left_out=left_out)
    going, failed = ready(fitting, _task(size, settings, *rows))
    most = settings.times(10)
    repeats = max(min(most, 2), min(most, most * 2048 // size))
    warm_up = 2 if size < 8192 else 1
    times = interleave(going, repeats, warm_up, tell=lambda line: tell(f"{size} neurons, {line}"))
    references = {"x ours: median [quartiles]": OURS, "x floor: median [quartiles]": FLOOR}
    return timed("linear", title, times, references, left_out={**left_out, **failed})


def _task(size: int, settings: BenchSettings, steps: int, batch: int) -> Task:
    random = settings.random()
    with settings.seeded():
        layers = nn.Sequential(nn.Linear(size, size), Spikes())
    x = torch.zeros(steps, batch, size).bernoulli_(0.1, generator=random)
    calibrate(layers, x)
    return Task(layers, x, torch.randn(x.shape, generator=random))


def _saved(contender: Contender, settings: BenchSettings, steps: int, batch: int) -> int:
    """Return the bytes saved for backward at the size `SMALL`."""
    step = contender.ready(_task(SMALL, settings, steps, batch))
    with SavedBytes() as saved:
        step.run()
    return saved.peak


def _need(saved: int, size: int, steps: int, batch: int) -> int:
    """Return an estimate of the bytes of a step, input and weights included."""
    current, weight = 4 * steps * batch * size, 4 * size * size
    return saved * size // SMALL + TRANSIENT * current + 2 * current + 2 * weight
