"""`assert_neuron`: every contract of a neuron, checked on one."""

from collections.abc import Callable

import torch

from spikewright._util.ranges import MOST, check_counts
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
    _declared.adaptive,
    _declared.traceable,
    _declared.eligible,
    _rates.rates,
    _rates.rate_gradient,
    _declared.rated,
)
"""Contracts in order; later ones rely on earlier ones."""


def assert_neuron(make: Callable[[], Neuron], *, channels: int = 3) -> None:
    """Check that a neuron keeps every contract that the library relies on; needs no test framework.

    It is run on vectors and on maps, in training and in evaluation mode:

    - A scan of a chunk equals a scan of its steps one by one, and samples do not depend on each other.
    - The state is tensors; neither state nor current is changed in place.
    - `through_time=False` cuts all gradients between steps.
    - Shape, dtype and device of the current are kept.
    - Evaluation computes the same as training, and so do a copy, a pickle and a `state_dict`.
    - Every trained parameter gets a gradient.
    - Everything that `dynamics` declares is measured: outputs of 0 and 1 only, a linear potential (by the current that
      the neuron still needs to fire after weak and strong currents of both signs), the decays of potential and current,
      a soft and detached reset, an adaptive threshold, and the rate map with its gradient.  Maps use the same channels
      at every position.
    - OTTT and DSR refuse a neuron that does not declare what they need, and EProp is exact for one of any kind.

    A declaration that cannot be observed from outside, such as a detached reset without a decay, is not checked.

    Args:
        make: Builds the neuron.  Function without arguments, such as the class, that returns a `Neuron`.
        channels: Channels of the currents.  Whole number from 1 to 10**6.  Default: 3.

    Raises:
        AssertionError: A contract is broken.  The message says which one, and by how much.
        ConfigError: `channels` is out of its range.

    >>> import spikewright as sw
    >>> from spikewright.testing import assert_neuron
    >>> assert_neuron(sw.IF)
    """
    check_counts("assert_neuron", most=MOST, channels=channels)
    with torch.random.fork_rng(devices=[]):
        cell = Cell(make, channels)
        for contract in CONTRACTS:
            contract(cell)
