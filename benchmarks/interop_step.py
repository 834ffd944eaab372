"""A training step of models of SpikingJelly, snnTorch, sinabs and Norse, in their own library and converted.

    PYTHONPATH=path/to/libraries python benchmarks/interop_step.py [--repeats 7] [--compiled]
    PYTHONPATH=path/to/libraries python benchmarks/interop_step.py --memory

The same model with the same parameters takes a step of BPTT in its own library, and converted; times are taken in turn
in one process, and their minima compared.  With --compiled, that of Norse runs through `torch.compile` beside.  With
--memory every step runs in a process of its own: what is compared is how much the peak of the process grows from a
short step to one of 100 steps, under the library's own BPTT, and under SLTT and OTTT of the converted model.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright._util.text import aligned

LIBRARIES = ("SpikingJelly", "snnTorch", "sinabs", "Norse")


@dataclass(frozen=True)
class Task:
    """A kind of network and the sizes of a batch `[steps, batch, *feature]`."""

    name: str
    steps: int
    batch: int
    feature: tuple[int, ...]

    def layers(self, neuron: Callable[[], nn.Module]) -> list[nn.Module]:
        if self.name == "mlp":
            return [nn.Linear(784, 512), neuron(), nn.Linear(512, 512), neuron(), nn.Linear(512, 10), neuron()]
        return [
            *(nn.Conv2d(1, 32, 3, padding=1), neuron(), nn.AvgPool2d(2), nn.Conv2d(32, 64, 3, padding=1), neuron()),
            *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 10), neuron()),
        ]


TASKS = {"mlp": Task("mlp", 100, 64, (784,)), "conv": Task("conv", 8, 32, (1, 28, 28))}
Run = Callable[[Tensor], Tensor]
"""From an input `[time, batch, *feature]` to outputs `[time, batch, class]`."""


class Loop(nn.Module):
    """A model of one step, run in a loop over time; its neurons start from rest."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, states: list[object]) -> tuple[Tensor, list[object]]:
        after: list[object] = []
        for layer, state in zip(self.layers, states, strict=True):
            y = layer(x) if state is Ellipsis else layer(x, state)
            x, left = y if isinstance(y, tuple) else (y, ...)
            after.append(left)
        return x, after

    def run(self, step: Callable[..., tuple[Tensor, list[object]]], first: list[object], x: Tensor) -> Tensor:
        outputs, states = [], first
        for one in x:
            y, states = step(one, states)
            outputs.append(y)
        return torch.stack(outputs)


def spikingjelly(task: Task) -> tuple[nn.Module, Run]:
    from spikingjelly.activation_based import functional, layer, neuron

    layers: list[nn.Module] = task.layers(lambda: neuron.LIFNode(tau=2.0, detach_reset=True))
    model = nn.Sequential(*layers)
    fitting = {
        nn.Linear: layer.Linear,
        nn.Conv2d: layer.Conv2d,
        nn.AvgPool2d: layer.AvgPool2d,
        nn.Flatten: layer.Flatten,
    }
    for i, plain in enumerate(model):
        if type(plain) is nn.Linear:
            model[i] = fitting[nn.Linear](plain.in_features, plain.out_features)
        elif type(plain) is nn.Conv2d:
            model[i] = fitting[nn.Conv2d](plain.in_channels, plain.out_channels, 3, padding=1)
        elif type(plain) in fitting:
            model[i] = fitting[type(plain)](2) if type(plain) is nn.AvgPool2d else fitting[nn.Flatten]()
    functional.set_step_mode(model, "m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(model)
        return model(x)

    return model, run


def snntorch(task: Task) -> tuple[nn.Module, Run]:
    import snntorch

    model = nn.Sequential(*task.layers(lambda: snntorch.Leaky(beta=0.5, init_hidden=True)))

    def run(x: Tensor) -> Tensor:
        for module in model:
            if isinstance(module, snntorch.Leaky):
                module.reset_mem()
        return torch.stack([model(step) for step in x])

    return model, run


def sinabs(task: Task) -> tuple[nn.Module, Run]:
    from sinabs.activation import SingleSpike
    from sinabs.layers import LIF, Repeat

    def neuron() -> nn.Module:
        made = LIF(tau_mem=2.0, spike_fn=SingleSpike, norm_input=False)
        made.tau_mem.requires_grad_(False)
        return made

    framed = [m if isinstance(m, LIF | nn.Linear) else Repeat(m) for m in task.layers(neuron)]
    model = nn.Sequential(
        *(nn.Flatten(2) if isinstance(m, Repeat) and isinstance(m.module, nn.Flatten) else m for m in framed)
    )

    def run(x: Tensor) -> Tensor:
        for module in model:
            if isinstance(module, LIF):
                module.reset_states()
        return model(x.transpose(0, 1)).transpose(0, 1)

    return model, run


def norse(task: Task, compiled: bool = False) -> tuple[nn.Module, Run]:
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
    from norse.torch.module.lif_box import LIFBoxCell
    from norse.torch.module.sequential import SequentialState

    parameters = LIFBoxParameters(tau_mem_inv=torch.tensor(500.0))
    layers = task.layers(lambda: LIFBoxCell(parameters, dt=0.001))
    model, loop = SequentialState(*layers), Loop(layers)
    step = torch.compile(loop) if compiled else loop
    shapes: list[tuple[int, ...]] = []

    def run(x: Tensor) -> Tensor:
        if not shapes:  # of the states, found once
            y = x[0]
            for layer in layers:
                y = layer(y)[0] if isinstance(layer, LIFBoxCell) else layer(y)
                shapes.append(tuple(y.shape))
        first: list[object] = [
            LIFBoxFeedForwardState(v=torch.zeros(shape)) if isinstance(layer, LIFBoxCell) else ...
            for layer, shape in zip(layers, shapes)
        ]
        return loop.run(step, first, x)

    return model, run


MADE = {"SpikingJelly": spikingjelly, "snnTorch": snntorch, "sinabs": sinabs, "Norse": norse}


def lively(model: nn.Module) -> None:
    """Make all layers fire."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(3.0)


def their_step(model: nn.Module, run: Run, x: Tensor, y: Tensor) -> None:
    model.zero_grad()
    F.cross_entropy(run(x).mean(0), y).backward()


def our_step(net: sw.Network, rule: sw.rules.Rule, x: Tensor, y: Tensor) -> None:
    per_step = rule.traits.loss == "steps"
    loss = (sw.losses.PerStep if per_step else sw.losses.OnRate)(nn.CrossEntropyLoss())
    for _ in rule.updates(net, x, y, loss):
        pass
    net.zero_grad()


def batch(task: Task, steps: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    x = torch.rand(steps, task.batch, *task.feature, generator=source)
    return (x < 0.3).float(), torch.randint(10, (task.batch,), generator=source)


def times(repeats: int, compiled: bool) -> None:
    rows = [("task", "library", "theirs ms", "converted ms", "ratio")]
    for task in TASKS.values():
        x, y = batch(task, task.steps)
        for library in LIBRARIES:
            torch.manual_seed(0)
            model, run = MADE[library](task)
            lively(model)
            net = sw.Network(sw.interop.convert(model, x[:12, :4], double=False).module)
            contenders = {"theirs": partial(their_step, model, run, x, y)}
            contenders["ours"] = partial(our_step, net, sw.rules.BPTT(), x, y)
            if library == "Norse" and compiled:
                fused, fast = norse(task, compiled=True)
                lively(fused)
                contenders["compiled"] = partial(their_step, fused, fast, x, y)
            best = dict.fromkeys(contenders, float("inf"))
            for _ in range(repeats + 1):  # the first is a warm-up that the others beat
                for name, step in contenders.items():
                    start = time.perf_counter()
                    step()
                    best[name] = min(best[name], time.perf_counter() - start)
            for name in contenders.keys() - {"ours"}:
                title = library if name == "theirs" else f"{library} ({name})"
                ratio = best[name] / best["ours"]
                rows.append((task.name, title, f"{best[name] * 1e3:.1f}", f"{best['ours'] * 1e3:.1f}", f"{ratio:.2f}"))
                print(rows[-1], flush=True)
    print(aligned(rows))


def peak() -> int:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def growth(task: Task, library: str, how: str) -> int:
    """Return by how many KiB the peak grows from a step of 2 to one of 100, in this process."""
    torch.manual_seed(0)
    model, run = MADE[library](task)
    lively(model)
    short, (x, y) = batch(task, 2), batch(task, 100)
    net = sw.Network(sw.interop.convert(model, short[0][:, :2], double=False).module)
    rules = {"SLTT": sw.rules.SLTT(), "OTTT": sw.rules.OTTT(), "BPTT": sw.rules.BPTT()}

    def step(x: Tensor, y: Tensor) -> None:
        their_step(model, run, x, y) if how == "theirs" else our_step(net, rules[how], x, y)

    step(*short)
    before = peak()
    step(x, y)
    return peak() - before


def memory() -> None:
    rows = [("task", "library", "own BPTT MiB", "SLTT MiB", "OTTT MiB", "SLTT / own", "OTTT / own")]
    for task in TASKS.values():
        for library in LIBRARIES:
            found = {}
            for how in ("theirs", "SLTT", "OTTT"):
                command = [sys.executable, __file__, "--case", task.name, library, how]
                found[how] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024
            shares = [f"{found[how] / found['theirs']:.3f}" for how in ("SLTT", "OTTT")]
            rows.append((task.name, library, *(f"{found[how]:.1f}" for how in ("theirs", "SLTT", "OTTT")), *shares))
            print(rows[-1], flush=True)
    print(aligned(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--case", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.case:
        task, library, how = options.case
        print(growth(TASKS[task], library, how))
    elif options.memory:
        memory()
    else:
        times(options.repeats, options.compiled)


if __name__ == "__main__":
    main()
