"""Why NIR has no equal of a neuron."""

from typing import NamedTuple

import torch

from spikewright.kernels.equations import Equations
from spikewright.neurons import Neuron


class Reason(NamedTuple):
    """A reason.

    Attributes:
        what: What the neuron has, behind its name.
        why: Why NIR cannot say it.
        way: What to do.
    """

    what: str
    why: str
    way: str


def reason(neuron: Neuron, equations: Equations) -> Reason | None:
    """Return why there is no node with these equations; None if there is one.

    Args:
        neuron: The neuron.
        equations: Its equations, with constants in the layout of its current.
    """
    for found in (_moving, _several, _bounded, _leaking) + (() if equations.silent else (_reset,)):
        why = found(neuron, equations)
        if why is not None:
            return why
    return _output(neuron, equations)


def _moving(neuron: Neuron, equations: Equations) -> Reason | None:
    if not equations.adaptive:
        return None
    return Reason(
        "with a threshold that moves with its spikes",
        "the threshold of a node of NIR is a constant",
        "Use LIF, or CUBALIF if it has a synaptic current.",
    )


def _several(neuron: Neuron, equations: Equations) -> Reason | None:
    if not equations.counts:
        return None
    return Reason(
        f"with max_spikes={neuron.max_spikes}",
        "a neuron of NIR sends at most one spike in a step",
        "Train with max_spikes=1.",
    )


def _bounded(neuron: Neuron, equations: Equations) -> Reason | None:
    if neuron.lower_bound is None:
        return None
    return Reason(
        f"with lower_bound={neuron.lower_bound}",
        "potentials of NIR have no lower bound, so that an inhibited neuron would fire later elsewhere",
        "Train with lower_bound=None.",
    )


def _leaking(neuron: Neuron, equations: Equations) -> Reason | None:
    leaks = torch.as_tensor(equations.leak), torch.as_tensor(equations.current_leak)
    lossless = [bool((leak == 1).any()) for leak in leaks]
    if not equations.has_current or not any(lossless):
        return None
    return Reason(
        f"with a synaptic current and a {'potential' if lossless[0] else 'current'} without leak",
        "the nodes with a current, CubaLI and CubaLIF, have finite time constants",
        "Give it a long time constant, such as tau=1e4.",
    )


def _reset(neuron: Neuron, equations: Equations) -> Reason | None:
    if neuron.reset == "zero":
        return None
    late = "; a late reset takes the threshold off a step later, which NIR has no word for either"
    return Reason(
        f"with reset={neuron.reset!r}",
        "a spike of NIR sets the potential to v_reset and forgets what was above the threshold; readers would take "
        f"a soft reset for a hard one without a word{late if neuron.reset == 'late' else ''}",
        "Train with reset='zero'.",
    )


def _output(neuron: Neuron, equations: Equations) -> Reason | None:
    if neuron.potential is not None:
        return Reason(
            f"with potential={neuron.potential!r}",
            "it returns spikes and potentials, and a node of NIR has one output: IF, LIF and CubaLIF send spikes, "
            "LI, CubaLI and I potentials",
            "Use potential=None, or LI as the readout.",
        )
    if equations.silent or neuron.binary:
        return None
    return Reason(
        f"that sends other values than 0 and 1 (amplitude={neuron.spike_amplitude}, noise={neuron.noise})",
        "a spike of NIR is 1, and there is no noise",
        "Put the amplitude into the weights behind it, and set noise=0.",
    )
