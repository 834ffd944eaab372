"""The adjoint equation of the rates solved by a second phase of spikes (SPIDE, arXiv 2302.00232).

Every unit has a couple of neurons that send `+R` where `u >= threshold` and `-R` where `u <= -threshold`, and subtract
what they sent; `R = 2 * threshold`. At each step the layers fire in the reverse order of their calls. A couple is
driven by the scaled slope of the loss in its unit's rate and by what the couples that it feeds send back through their
slopes and weights: at once on forward connections, one step later on feedback. Its average is the scaled total slope.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params
from tests.oracles.rate_machine import Cells, Layer, Mask, RateMachine, mean


class Severed(Machine):
    """The program at recorded rates, all of them leaves: `now` on forward connections, `sent` on feedback."""

    def __init__(self, params: Params, layers: dict[str, Layer]) -> None:
        super().__init__(params, cut=True)
        self.layers = layers
        self.currents: dict[str, Tensor] = {}
        self.sent: dict[str, Tensor] = {}

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        self.currents[name] = current
        self.now[name] = self.layers[name].output.clone().requires_grad_()
        return self.now[name]

    def last(self, name: str) -> Tensor:
        return self.sent.setdefault(name, self.layers[name].output.clone().requires_grad_())


def add_back(sums: dict[str, Tensor], leaves: dict[str, Tensor], root: Tensor, cotangent: Tensor | None = None) -> None:
    """Add to `sums` what `root` sends back to those of the `leaves` that it reads."""
    if leaves:
        found = torch.autograd.grad(root, list(leaves.values()), cotangent, retain_graph=True, allow_unused=True)
        sums.update({name: sums[name] + part for name, part in zip(leaves, found) if part is not None})


@dataclass(frozen=True)
class Couples:
    """The ternary neurons of a layer: their mean, what their membranes keep, and what they sent at each step.

    `drive` is the constant part of what they received, the scaled slope of the loss.
    """

    drive: Tensor
    average: Tensor
    membrane: Tensor
    spikes: Tensor


def ternary(
    graph: Severed, loss: Tensor, steps: int, threshold: float, loss_scale: float, leaky: bool, mask: Mask
) -> dict[str, Couples]:
    """Run the couples of all layers for a number of steps; with `leaky` each has the leak of its layer."""
    layers = {name: graph.layers[name] for name in graph.now}
    rest = {name: torch.zeros_like(layer.output) for name, layer in layers.items()}
    leaks = {name: layer.leak if leaky else 1.0 for name, layer in layers.items()}
    slopes = {name: layer.slope(mask) for name, layer in layers.items()}
    drives, spikes = dict(rest), {name: [] for name in layers}
    add_back(drives, graph.now, loss_scale * loss)
    add_back(drives, graph.sent, loss_scale * loss)
    charges = dict(drives)
    for _ in range(steps):
        late = dict(drives)
        for name in reversed(layers):
            up, down = charges[name] >= threshold, charges[name] <= -threshold
            sent = 2 * threshold * (up.to(rest[name]) - down.to(rest[name]))
            rest[name] = charges[name] - sent
            spikes[name].append(sent)
            add_back(charges, graph.now, graph.currents[name], slopes[name] * sent)
            add_back(late, graph.sent, graph.currents[name], slopes[name] * sent)
        charges = {name: leaks[name] * rest[name] + late[name] for name in layers}
    series = {name: torch.stack(spikes[name]) for name in layers}
    return {name: Couples(drives[name], mean(series[name], leaks[name]), rest[name], series[name]) for name in layers}


def sever(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    cells: Cells | None = None,
    entry: str | None = None,
) -> tuple[Severed, Tensor]:
    """The first phase: the program at the rates of a simulation, and its loss."""
    x_mean, layers = RateMachine(params, cells).simulate(program, x, entry)
    graph = Severed(params, layers)
    return graph, criterion(program(x_mean, graph), y)


def spide(
    program: Callable,
    params: Params,
    x: Tensor,
    y: Tensor,
    criterion: Criterion,
    steps: int,
    threshold: float,
    loss_scale: float,
    leaky: bool = False,
    mask: Mask = "output",
    cells: Cells | None = None,
    entry: str | None = None,
) -> Params:
    """Gradient of `criterion(output at the rates, y)` with `steps` steps of the second phase.

    Each synapse gets `slope * average / loss_scale` of its receiving layer at the rates of the sending one; the readout
    its plain gradient.
    """
    graph, loss = sever(program, params, x, y, criterion, cells, entry)
    total = loss
    for name, couples in ternary(graph, loss, steps, threshold, loss_scale, leaky, mask).items():
        error = graph.layers[name].slope(mask) * couples.average / loss_scale
        total = total + (error * graph.currents[name]).sum()
    return graph.gradients(total)
