"""Spikes of converted networks beside those of SpikingJelly, snnTorch, sinabs and Norse, for every line of the table.

A convolutional network (conv, neuron, pool, conv, neuron, pool, linear, neuron) is made with every neuron of
`spikewright.interop.table.LINES`, converted, and run freely beside the original in float32, on random spikes, on a
static image as current, and on an image as Poisson spikes.

    PYTHONPATH=path/to/libraries python benchmarks/interop_spikes.py --data-dir path/to/mnist

Without --data-dir the images are random.  Libraries that are not installed are left out.
"""

import argparse
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spikewright.data.mnist import mnist
from spikewright.errors import ConversionError
from spikewright.interop import Conversion, convert
from spikewright.interop.table import LINES, Line
from tests.interop.theirs import VALUES, imported, their_neuron


class PerStep(nn.Sequential):
    """A network of one step, whose neurons may return states too."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        potentials = [getattr(m, "reset_mechanism", "") == "none" for m in layers]  # the last of what is returned
        self.taken = [-1 if potential else 0 for potential in potentials]

    def forward(self, input: Tensor) -> Tensor:
        for module, place in zip(self, self.taken):
            y = module(input)
            input = y[place] if isinstance(y, tuple) else y
        return input


ONE_TO_ONE = Line("snnTorch", "RLeaky(beta, V=0.5, all_to_all=False, threshold=V)", "", "recurrent, of any shape")
LSNN = Line(
    "Norse", "LSNNCell(LSNNParameters(tau_mem_inv=1000*g, tau_syn_inv=1000*d, tau_adapt_inv=100.0, v_th=V, beta=a))", ""
)
CASES = (*LINES, ONE_TO_ONE, LSNN)
"""Neurons that are compared."""


def network(line: Line, values: str, gain: float) -> nn.Module:
    def neuron() -> nn.Module:
        return their_neuron(line, VALUES[values])

    layers: list[nn.Module] = [
        nn.Conv2d(1, 16, 3, padding=1), neuron(), nn.AvgPool2d(2), nn.Conv2d(16, 32, 3, padding=1), neuron(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10), neuron(),
    ]  # fmt: skip
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(gain)
    if "NonSpiking" in line.theirs:
        return over_sequences(layers)
    return folded(layers) if line.library == "sinabs" else PerStep(*layers)


def over_sequences(layers: list[nn.Module]) -> nn.Module:
    """The layout [time, batch] of SpikingJelly, with a readout that sends its potential behind neurons that fire."""
    from spikingjelly.activation_based import functional, layer, neuron

    plain = [layer.SeqToANNContainer(m) if type(m).__module__.startswith("torch.") else m for m in layers]
    for place in (1, 4):
        plain[place] = neuron.IFNode()
    net = nn.Sequential(*plain)
    functional.set_step_mode(net, "m")
    return net


def folded(layers: list[nn.Module]) -> nn.Module:
    """The layout of sinabs, [batch, time]."""
    from sinabs.layers import Repeat, StatefulLayer

    framed = [m if isinstance(m, StatefulLayer | nn.Linear) else Repeat(m) for m in layers]
    return nn.Sequential(
        *(nn.Flatten(2) if isinstance(m, Repeat) and isinstance(m.module, nn.Flatten) else m for m in framed)
    )


def inputs(steps: int, batch: int, data_dir: str | None) -> Iterator[tuple[str, Tensor]]:
    source = torch.Generator().manual_seed(0)
    if data_dir is None:
        image = torch.rand(batch, 1, 28, 28, generator=source)
    else:
        image = mnist(data_dir).train.images[:batch].float() / 255
    yield "random", (torch.rand(steps, batch, 1, 28, 28, generator=source) < 0.3).float()
    yield "current", image.expand(steps, -1, -1, -1, -1).contiguous()
    yield "Poisson", (torch.rand(steps, *image.shape, generator=source) < image).float()


def lively(line: Line, values: str, x: Tensor) -> Conversion | None:
    """Convert a network with weights so large that all layers fire."""
    found = None
    for gain in (2.0, 4.0, 8.0, 16.0, 32.0):
        torch.manual_seed(1)
        found = convert(network(line, values, gain), x, double=False)
        if found.proven:
            return found
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", help="folder with the files of MNIST; random images without it")
    options.add_argument("--library", default="", help="of one library alone")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--values", choices=list(VALUES), default="any")
    chosen = options.parse_args()
    print(f"{'library':<13}{'neuron':<88}{'input':<9}{'compared':>11}{'fired':>10}{'own':>5}{'free':>6}  remarks")
    compared = differing = cases = 0
    began = time.perf_counter()
    for line in CASES:
        if chosen.library not in ("", line.library):
            continue
        try:
            imported(line.library)
        except pytest.skip.Exception:
            continue
        for name, x in inputs(chosen.steps, chosen.batch, chosen.data_dir):
            try:
                found = lively(line, chosen.values, x)
            except ConversionError as error:
                print(f"{line.library:<13}{line.theirs:<88}{name:<9}{error}")
                continue
            assert found is not None
            own, free = sum(r.differing for r in found.rows), sum(r.free for r in found.rows)
            total, fired = sum(r.compared for r in found.rows), sum(r.fired for r in found.rows)
            why = "; ".join(sorted({r.reason for r in found.rows if r.differing or r.free or not r.proven}))
            print(
                f"{line.library:<13}{line.theirs:<88}{name:<9}{total:>11,}{fired:>10,}{own:>5}{free:>6}  {why}",
                flush=True,
            )
            compared, differing, cases = compared + total, differing + (free > 0), cases + 1
    print(f"{cases} cases, {compared:,} spikes and silences compared, {differing} cases with a difference")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
