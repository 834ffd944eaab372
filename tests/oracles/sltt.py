"""Spatial learning through time (Meng et al., 2023): BPTT without any edge from one step to the next.

The membrane is detached before it is carried on, and so is the spike that a feedback connection brings back.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from tests.oracles.machine import Criterion, Machine, Params


def gradients(program: Callable, params: Params, x: Tensor, y: Tensor, criterion: Criterion) -> Params:
    """Gradient of the mean over time of `criterion(output[t], y)`, by same-step paths only."""
    return gradients_of_steps(program, params, x, y, criterion, range(len(x)))


def gradients_of_steps(
    program: Callable, params: Params, x: Tensor, y: Tensor, criterion: Criterion, steps: Collection[int]
) -> Params:
    """SLTT-K: only the losses of the chosen `steps`, counted from 0, each still divided by the number of all steps."""
    machine = Machine(params, cut=True)
    outputs = enumerate(machine.run(program, x))
    losses = [criterion(output, y) / len(x) for step, output in outputs if step in steps]
    return machine.gradients(torch.stack(losses).sum())
