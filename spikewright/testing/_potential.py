"""Contracts of a neuron about its potential, measured by the current that it still needs to fire.

Neither the state nor a gradient is read.  A change of earlier currents moves the firing point of the next step, and the
distance is the effect of that change on the potential.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.neurons import Neuron
from spikewright.temporal import SiteState
from spikewright.testing._cell import Cell, response, run

STEPS, SAMPLES = 48, 3
SIZES = tuple(2.0**power for power in (-6, -2, 0, 3, 7, 12))
"""Sizes of currents, in units of those at which the neuron fires."""
CHANGE = 2.0**-10
"""Change of currents, as a share of their size."""
_REACH, _HALVINGS, _LATEST = 2.0**34, 84, 4


@dataclass(frozen=True)
class Drives:
    """Weak and strong currents of every kind, and small changes of them.

    Attributes:
        base: Currents, `[time, batch, channel]`: all negative, all positive, of both signs, and positive at first.
        change: Changes of size 1, `[time, batch, channel]`.
        size: Sizes of the currents, `[batch, 1]`.
    """

    base: Tensor
    change: Tensor
    size: Tensor

    @classmethod
    def of(cls, cell: Cell) -> "Drives":
        """Return currents and changes for a neuron."""
        source = torch.Generator().manual_seed(7)
        shape = STEPS, SAMPLES, cell.channels
        above = 0.5 + torch.rand(shape, generator=source, dtype=torch.float64)
        both = torch.randn(shape, generator=source, dtype=torch.float64)
        falling = torch.where(torch.arange(STEPS).view(-1, 1, 1) < STEPS // 2, above, -above)
        kinds = torch.cat([-above, above, both, falling], 1)
        size = cell.scale * torch.tensor(SIZES, dtype=torch.float64).repeat_interleave(kinds.shape[1])[:, None]
        base = size * kinds.repeat(1, len(SIZES), 1)
        return cls(base, torch.randn(base.shape, generator=source, dtype=torch.float64), size)


@dataclass(frozen=True)
class Point:
    """The firing point of a neuron after some steps.

    Attributes:
        sent: Output at these steps, `[time, batch, channel]`.
        current: Least current of the next step at which it fires, `[batch, channel]`; NaN where there is none.
    """

    sent: Tensor
    current: Tensor


@torch.no_grad()
def _emitted(neuron: Neuron, current: Tensor, state: SiteState, late: int) -> Tensor:
    """Return the output some steps after a current."""
    steps = torch.cat([current[None], torch.zeros_like(current).expand(late, *current.shape)])
    return run(neuron, steps, state=state)[0][-1]


def _latency(cell: Cell, strong: Tensor) -> int:
    """Return the number of steps after which neurons at rest fire on a strong current."""
    neuron = cell.neuron()
    for late in range(_LATEST):
        if (_emitted(neuron, strong, {}, late) > _emitted(neuron, -strong, {}, late)).all():
            return late
    cell.contract("linear").broken(
        f"it declares a potential that is linear in the current, but no current makes it fire within {_LATEST} steps, "
        "so that it cannot be measured. Leave linear out of its dynamics."
    )


@torch.no_grad()
def firing_point(cell: Cell, x: Tensor) -> Point:
    """Return the least current that makes a neuron fire after `x` `[time, batch, channel]`, by bisection."""
    neuron = cell.neuron()
    sent, state = run(neuron, x)
    high = torch.full_like(x[0], _REACH * cell.scale)
    low, late = -high, _latency(cell, high)
    on, off = (_emitted(neuron, current, state, late) for current in (high, low))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _emitted(neuron, middle, state, late)
        fires = (found - on).abs() < (found - off).abs()
        low, high = torch.where(fires, low, middle), torch.where(fires, middle, high)
    return Point(sent, torch.where(on > off, high, torch.nan))


def worth_at_rest(cell: Cell, change: Tensor) -> Tensor:
    """Return the effect of changes of size 1 on the potential at rest, `[batch, channel]`."""
    size = 2.0**-6 * cell.scale / STEPS
    return (firing_point(cell, 0 * change).current - firing_point(cell, size * change).current) / size


def _hold(cell: Cell, name: str, across_spikes: bool) -> None:
    """Check that changes have the same effect after all currents, as long as spikes are the same."""
    drives, contract = Drives.of(cell), cell.contract(name)
    before = firing_point(cell, drives.base)
    fired = before.sent != firing_point(cell, 0 * drives.base).sent
    change = drives.change
    if not across_spikes:  # only changes after the last spike
        change = change * (fired.flip(0).cumsum(0).flip(0) == 0)
    size = CHANGE * drives.size
    after = firing_point(cell, drives.base + size * change)
    same = (after.sent == before.sent).all(0)
    contract.holds(
        (same & ~fired.any(0)).any(),
        "it declares a potential that is linear in the current, but whatever it is given, it emits something else "
        "than without a current, so that its potential cannot be measured. Leave linear out of its dynamics.",
    )
    found, expected = before.current - after.current, size * worth_at_rest(cell, change)
    looked_at = same & ~(found.isnan() & fired.any(0))
    off = torch.where(looked_at, (found - expected).abs() / (size * _usual(expected / size)), 0.0)
    row, channel = divmod(int(off.nan_to_num(torch.inf).argmax()), cell.channels)
    contract.holds(
        off[row, channel] <= 1e-6,
        f"after {STEPS} steps of currents of the size {float(drives.size[row]):g}, with "
        f"{int(fired[:, row, channel].sum())} spikes, a small change of these moves the current at which it fires next "
        f"by {float(found[row, channel]):.6g}, and not by {float(expected[row, channel]):.6g}, as it does at rest.",
    )


def _usual(worth: Tensor) -> Tensor:
    return worth.square().mean().sqrt().clamp(min=1e-6)


def linear(cell: Cell) -> None:
    """Between spikes, the effect of a change on the potential does not depend on the currents."""
    if cell.neuron().dynamics.linear:
        _hold(cell, "linear", across_spikes=False)


def soft(cell: Cell) -> None:
    """With a soft reset, the same holds across spikes."""
    dynamics = cell.neuron().dynamics
    if dynamics.linear and dynamics.soft_reset:
        _hold(cell, "soft reset", across_spikes=True)


def decay(cell: Cell) -> None:
    """The effect of a current changes from step to step as the decays say."""
    dynamics, neuron = cell.neuron().dynamics, cell.neuron()
    if not dynamics.linear or dynamics.decay is None:
        return
    change = Drives.of(cell).change
    later = response(neuron, torch.cat([change, change[:1]]))[1:].flip(0)
    tables = {"worth": worth_at_rest(cell, change)}, {"worth": (later * change).sum(0)}
    cell.contract("decay").agree(*tables, 1e-8, "what currents are worth at later steps, and by the decays")
