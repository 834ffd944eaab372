"""Back-propagation through time with surrogate gradients: autograd through all the steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params


def gradients(program: Callable, params: Params, x: Tensor, y: Tensor, criterion: Criterion) -> Params:
    """Gradient of the mean over time of `criterion(output[t], y)`."""
    machine = Machine(params, cut=False)
    losses = [criterion(output, y) for output in machine.run(program, x)]
    return machine.gradients(torch.stack(losses).sum() / len(x))


def gradients_of_mean(program: Callable, params: Params, x: Tensor, y: Tensor, criterion: Criterion) -> Params:
    """Gradient of `criterion(mean output, y)`, one loss on the output averaged over time."""
    machine = Machine(params, cut=False)
    outputs = torch.stack(list(machine.run(program, x)))
    return machine.gradients(criterion(outputs.sum(0) / len(x), y))
