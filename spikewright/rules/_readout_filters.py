"""Leaky readouts behind neurons: what they remember of spikes, by which derivatives of the spikes are filtered."""

import torch
from torch import nn

from spikewright.network.wiring import Wiring
from spikewright.neurons import Neuron
from spikewright.rules._own_state import OwnState, own_state
from spikewright.rules._traces import Taps, number, remembering, taps_of


def filter_parts(taps: Taps) -> tuple[str, ...]:
    """Return the names of what is kept of the derivatives of an output that readouts of some decays see.

    Args:
        taps: Decays of the readouts; empty if there are none.
    """
    return ("current of readouts", "potential of readouts")[-len(taps) :] if taps else ()


def readout_taps(site: str, wiring: Wiring) -> Taps:
    """Return the decays of the leaky readouts that neurons send to, if they send to nothing else in the same step.

    Args:
        site: Name of the neurons.
        wiring: Wiring of the network.
    """
    reached = wiring.at_once.get(site, frozenset())
    bent = any(curve.source == site for curve in wiring.curves)
    if not reached or bent or site in wiring.read_out or not all(map(wiring.is_last, reached)):
        return ()
    found = [response_taps(name, wiring) for name in sorted(reached)]
    return found[0] if len({tuple(map(number, taps)) for taps in found}) == 1 else ()


def response_taps(site: str, wiring: Wiring) -> Taps:
    """Return the decays of neurons that do not spike, if these are what their output makes of an input.

    Args:
        site: Name of the neurons.
        wiring: Wiring of the network.
    """
    neuron = wiring.neurons[site]
    if neuron.binary:  # spikes are no potential
        return ()
    taps = tuple(tap for tap in taps_of(neuron.dynamics) if tap is not None and number(tap) is not None)
    response = measured_state(site, neuron, wiring, anew=True).response
    if not response or not taps:
        return ()
    numbers = [0.0, *(float(number(tap) or 0.0) for tap in taps)][-2:]
    worth, left = [1.0], 1.0
    for _ in response[1:]:
        left *= numbers[0]
        worth.append(worth[-1] * numbers[1] + left)
    near = all(abs(a - b) <= 1e-5 for a, b in zip(worth, response))
    return remembering(taps) if near else ()


def measured_state(site: str, neuron: Neuron, wiring: Wiring, anew: bool = False) -> OwnState:
    """Return the measured own state of neurons, found once per wiring.

    Args:
        site: Name of the neurons.
        neuron: The neurons.
        wiring: Wiring of the network.
        anew: True measures again if constants of the neurons have been trained since.  Default: False.
    """
    key, constants = f"own state of {site}", tuple(p._version for p in neuron.parameters())
    before, state = wiring.memory.get(key, (None, None))
    if state is None or (anew and before != constants):
        state = own_state(neuron, wiring.shapes[site], _like(wiring.sites.module))
        wiring.memory[key] = constants, state
    return state


def _like(module: nn.Module) -> torch.Tensor:
    """Return a tensor of the type and device of a network, in 32 bits at least."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            wide = parameter.dtype if parameter.dtype.itemsize >= 4 else torch.float32
            return torch.empty(0, dtype=wide, device=parameter.device)
    return torch.empty(0)
