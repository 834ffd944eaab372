"""The rates a network settles at, by iteration of its rate map, and how a loss on them changes with a parameter."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params
from tests.oracles.rate_machine import Cell, Cells


class RateMap(Machine):
    """Every neuron layer is `amplitude * clip(gain * current / reset_amount, 0, 1)`, plus a constant from `offsets`.

    `last` is the output rate of one iteration ago. Plain autograd through one iteration gives its gradient.
    """

    def __init__(self, params: Params, cells: Cells | None = None, offsets: dict[str, Tensor] | None = None) -> None:
        super().__init__(params, cut=True)
        self.cells, self.offsets = cells or {}, offsets or {}
        self.currents: dict[str, Tensor] = {}

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        self.currents[name] = current
        self.now[name] = self.cells.get(name, Cell()).clip(current) + self.offsets.get(name, 0.0)
        return self.now[name]


@torch.no_grad()
def equilibrium(
    program: Callable,
    params: Params,
    x_mean: Tensor,
    cells: Cells | None = None,
    start: dict[str, Tensor] | None = None,
    tolerance: float = 1e-15,
    iterations: int = 10000,
) -> tuple[Tensor, RateMap]:
    """Output and rates (`now` of the map) where no rate changes by more than `tolerance` any more."""
    machine = RateMap(params, cells)
    machine.now = start or {}
    for _ in range(iterations):
        machine.before, machine.now = machine.now, {}
        output, before = program(x_mean, machine), machine.before
        changes = [float((rate - before[name]).abs().max()) for name, rate in machine.now.items() if before]
        if changes and max(changes) <= tolerance:
            return output, machine
    raise ArithmeticError(f"The rates have not settled after {iterations} iterations: the loop is no contraction.")


def finite_difference(
    program: Callable,
    params: Params,
    x_mean: Tensor,
    y: Tensor,
    criterion: Criterion,
    name: str,
    cells: Cells | None = None,
    step: float = 1e-5,
) -> Tensor:
    """Central differences of `criterion(output at the equilibrium, y)` by every element of the parameter `name`."""
    start = equilibrium(program, params, x_mean, cells)[1].now

    def loss(element: int, change: float) -> float:
        moved = params[name].clone()
        moved.view(-1)[element] += change
        return float(criterion(equilibrium(program, params | {name: moved}, x_mean, cells, start)[0], y))

    slopes = [(loss(i, step) - loss(i, -step)) / (2 * step) for i in range(params[name].numel())]
    return torch.tensor(slopes, dtype=torch.float64).view_as(params[name])
