"""Training steps: a fully connected network on long, sparse input, and a convolutional one on a static input."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import nn

from spikewright.bench.contenders import FLOOR, OURS, Contender, Floor, PeerBPTT, Ruled, ready, spiking
from spikewright.bench.measure import Tell, interleave
from spikewright.bench.online import SpikingJellyOnline
from spikewright.bench.peers import COMPILED, PEERS
from spikewright.bench.rates import SpikingJellyDSR
from spikewright.bench.report import Table, timed
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Spikes, Task, calibrate
from spikewright.rules import BPTT, DSR, OPZO, OTTT, SLTT


def mlp(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    """Time a training step of a fully connected network on long, sparse input, as in speech recognition."""
    steps, batch, (inputs, hidden, outputs) = (5, 2, (12, 8, 3)) if settings.quick else (100, 64, (700, 256, 20))
    random = settings.random()
    with settings.seeded():
        layers = nn.Sequential(
            nn.Linear(inputs, hidden), Spikes(), nn.Linear(hidden, hidden), Spikes(), nn.Linear(hidden, outputs)
        )
    x = torch.zeros(steps, batch, inputs).bernoulli_(0.02, generator=random)
    calibrate(layers, x)
    task = Task(layers, x, torch.randint(outputs, (batch,), generator=random))
    jelly, *others = PEERS
    peers = [PeerBPTT(jelly), *_online("OTTT", "SLTT"), *map(PeerBPTT, others), PeerBPTT(COMPILED)]
    title = f"training step of {inputs}-{hidden}-{hidden}-{outputs}, input {list(x.shape)}, 2 % active"
    yield _table("mlp", title, task, [*ours(settings), *peers], settings.times(10), tell)


def conv(settings: BenchSettings, tell: Tell) -> Iterator[Table]:
    """Time a training step of a convolutional network on a static input."""
    task = conv_task(3 if settings.quick else 8, settings)
    peers = [PeerBPTT(PEERS[0]), *_online("OTTT"), SpikingJellyDSR()]
    widths = "-".join(str(layer.out_channels) for layer in task.layers if isinstance(layer, nn.Conv2d))
    title = f"training step of a network of convolutions {widths}, static input {list(task.x.shape)}"
    yield _table("conv", title, task, [*ours(settings), *peers], settings.times(5), tell)


def conv_task(steps: int, settings: BenchSettings, batch: int = 16) -> Task:
    """Return a network of five convolutions, with a static input of `steps` time steps."""
    widths, side, batch = ((2, 3, 4, 4, 5), 8, 2) if settings.quick else ((64, 128, 256, 256, 512), 32, batch)
    random = settings.random()
    a, b, c, d, e = widths
    with settings.seeded():
        layers = nn.Sequential(
            *_conv(3, a), *_conv(a, b), nn.AvgPool2d(2),
            *_conv(b, c), *_conv(c, d), nn.AvgPool2d(2),
            *_conv(d, e), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(e * (side // 8) ** 2, 10),
        )  # fmt: skip
    x = torch.rand(batch, 3, side, side, generator=random).expand(steps, -1, -1, -1, -1)
    calibrate(layers, x)
    return Task(layers, x, torch.randint(10, (batch,), generator=random))


def ours(settings: BenchSettings) -> list[Contender]:
    """Return the lower bound and the rules of this library."""
    chunk = {"chunk": settings.chunk}
    shown = f", chunk {settings.chunk}"
    return [
        Floor(),
        Ruled(OURS, BPTT),
        Ruled(f"spikewright SLTT{shown}", SLTT, chunk),
        Ruled(f"spikewright OTTT{shown}", OTTT, chunk),
        Ruled(f"spikewright OPZO{shown}", OPZO, chunk),
        Ruled(f"spikewright DSR{shown}", DSR, chunk),
    ]


def _online(*rules: Literal["OTTT", "SLTT"]) -> list[Contender]:
    return [SpikingJellyOnline(rule) for rule in rules]


def _table(workload: str, title: str, task: Task, who: Sequence[Contender], repeats: int, tell: Tell) -> Table:
    going, left_out = ready(who, task)
    times = interleave(going, repeats, warm_up=1, in_a_row=3, tell=tell)
    with torch.no_grad():
        run = spiking(task.layers).start(task.x)
        run.advance(task.x)
    rates = ", ".join(f"{rate:.1%}" for rate in run.rates().values())
    notes = [f"firing rates of the neuron layers: {rates}"]
    return timed(workload, title, times, {"x floor: median [quartiles]": FLOOR}, left_out=left_out, notes=notes)


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), Spikes()]
