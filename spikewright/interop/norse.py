"""Neurons and containers of Norse 1.1."""

from typing import Any

from torch import nn

from spikewright.interop.frames import StateSequential, over_time
from spikewright.interop.mapping import Library, Refused
from spikewright.interop.norse_neurons import (
    read_box,
    read_iaf,
    read_li,
    read_li_box,
    read_lif,
    read_lsnn,
    read_recurrent,
)


def plain(module: Any, axis: int | None) -> nn.Module | None:
    """Return the plain module for a container."""
    kind = type(module)
    if kind.__module__ == "norse.torch.module.lift" and kind.__name__ == "Lift":
        return over_time(module.lifted_module, axis)
    if kind.__module__ == "norse.torch.module.sequential" and kind.__name__ == "SequentialState":
        if module.return_hidden:
            raise Refused("it returns what every layer sends (return_hidden=True)", "Use return_hidden=False")
        if module.forward_state_hooks:
            raise Refused("hooks see the states of its layers", "Call remove_forward_state_hooks()")
        return StateSequential(*module)
    return None


_NOT_HERE = {
    "LSNNRecurrent LSNNRecurrentCell": "no gradient passes through its adaptation (b takes z.detach()), and here one "
    "does",
    "LIFAdEx LIFAdExCell LIFAdExRecurrent LIFAdExRecurrentCell LIFAdExRefracCell LIFAdExRefracRecurrent "
    "LIFAdExRefracRecurrentCell": "its potential grows by an exponential of itself and has an adaptation current, "
    "dv = g (v_leak - v + D exp((v - v_th)/D) + i - a), and here a potential is linear between spikes",
    "LIFEx LIFExCell LIFExRecurrent LIFExRecurrentCell": "its potential grows by an exponential of itself, "
    "dv = g (v_leak - v + D exp((v - v_th)/D) + i), and here a potential is linear between spikes",
    "Izhikevich IzhikevichCell IzhikevichRecurrent IzhikevichRecurrentCell": "its potential is quadratic, "
    "dv = 0.04 v^2 + 5 v + 140 - u + i, and here a potential is linear between spikes",
    "CobaLIFCell": "its conductances multiply the distance of the potential to their reversal potentials, and here a "
    "current is added to the potential",
    "LIFRefracCell LIFRefracRecurrent LIFRefracRecurrentCell": "its potential and its spikes stand still for some "
    "steps after a spike (rho), and no neuron here has such a time",
    "LIFMCRecurrentCell LIFMCRefracRecurrentCell": "its potentials flow into each other within a step (g_coupling), "
    "and here a neuron sees others through their spikes",
    "LILinearCell": "it is a layer and an integrator in one, which holds the weights of the layer (use nn.Linear and "
    "LICell)",
    "RecurrentSequential": "it feeds the output of a sequence of modules back one step later, and here that is a "
    "module beside them (spikewright.Feedback)",
}
"""Why neurons have no equal here: the recurrence that is not there."""
MISSING: dict[str, tuple[str, str]] = {
    name: (why, "The nearest exact ones are LIFCell and LIFRecurrentCell")
    for names, why in _NOT_HERE.items()
    for name in names.split()
}
_OVER_TIME = frozenset({"IAF", "LIF", "LI", "LIFRecurrent", "LSNN"})

LIBRARY = Library(
    name="Norse",
    packages=("norse.torch.module",),
    neurons={
        "LIFBoxCell": read_box,
        **dict.fromkeys(("IAFCell", "IAF"), read_iaf),
        **dict.fromkeys(("LIFCell", "LIF"), read_lif),
        **dict.fromkeys(("LIFRecurrentCell", "LIFRecurrent"), read_recurrent),
        **dict.fromkeys(("LSNNCell", "LSNN"), read_lsnn),
        **dict.fromkeys(("LICell", "LI"), read_li),
        "LIBoxCell": read_li_box,
    },
    missing=MISSING,
    bases=frozenset(
        "SNN SNNCell SNNRecurrent SNNRecurrentCell CobaLIFCell LIFCorrelation RegularizationCell ExpFilter LConv2d "
        "TemporalReceptiveField ConstantCurrentLIFEncoder PoissonEncoder SignedPoissonEncoder SpikeLatencyEncoder "
        "SpikeLatencyLIFEncoder PopulationEncoder SpikesToTimesDecoder".split()
    ),
    known=frozenset(
        "activation activation_sparse state_fallback p dt record_states input_size hidden_size autapses input_weights "
        "recurrent_weights".split()
    ),
    form=lambda cell: "time" if type(cell).__name__ in _OVER_TIME else "step",
    rest=lambda cell: None,
    plain=plain,
    given_state=True,
)
