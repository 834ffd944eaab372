"""What is asked of a neuron, asked of one."""

from collections.abc import Callable

import torch

from spikewright.neurons import Neuron
from spikewright.testing import _declared, _modes, _potential, _rates, _scans
from spikewright.testing._cell import Cell

CONTRACTS: tuple[Callable[[Cell], None], ...] = (
    _scans.no_forward,
    _scans.shapes_and_types,
    _modes.state,
    _scans.live,
    _scans.state_in_place,
    _scans.chunks,
    _scans.cut,
    _scans.samples,
    _modes.evaluation,
    _modes.positions,
    _scans.copies,
    _declared.declared,
    _declared.binary,
    _potential.linear,
    _potential.decay,
    _potential.soft,
    _declared.decaying_gradient,
    _declared.reset,
    _declared.traceable,
    _rates.rates,
    _rates.rate_gradient,
    _declared.rated,
)
"""Those first that others rest on."""


def assert_neuron(make: Callable[[], Neuron], *, channels: int = 3) -> None:
    """Hold a neuron to everything that the library takes for granted of one.

    On vectors and on maps, in training and in evaluation: a scan of a chunk is a scan of its steps, samples know
    nothing of each other, and the state is of tensors.  Neither the state nor the current is changed in place;
    `through_time=False` cuts all credit between steps; shape, dtype and device of the current are kept; evaluation does
    what training does; all that is trained gets a gradient; a copy, a pickle and a `state_dict` do the same.

    And what `dynamics` declares is what is measured: zeros and ones only, a potential that is linear in the current
    (after weak and strong currents of both signs, by the current that it still takes to fire), the decay, a soft and
    detached reset, the rate map and its gradient, the same channels at every position of a map; OTTT and DSR refuse a
    neuron that does not declare what they need.  What is declared but cannot be seen from outside, such as a detached
    reset without a decay, is not looked at.

    Args:
        make: Builds the neuron.
        channels: Channels of its currents.

    Raises:
        AssertionError: A contract is broken; says which, and how far off it is.
    """
    with torch.random.fork_rng(devices=[]):
        cell = Cell(make, channels)
        for contract in CONTRACTS:
            contract(cell)
