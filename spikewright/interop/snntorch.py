"""Neurons of snnTorch 1.0."""

from typing import Any

import torch
from torch import Tensor

from spikewright.interop.mapping import Library
from spikewright.interop.snntorch_neurons import (
    SURROGATES,
    read_lapicque,
    read_leaky,
    read_recurrent,
    read_synaptic,
)

__all__ = ["LIBRARY", "SURROGATES"]


def _rest(cell: Any) -> None:
    for name in ("mem", "syn", "syn_exc", "syn_inh", "spk"):
        if isinstance(cell._buffers.get(name), Tensor):
            cell._buffers[name] = torch.zeros(0)


def _sent(cell: Any, x: Tensor, y: Any) -> Tensor:
    """Return the spikes; the potential of one that never resets, whose spikes do not count."""
    if not isinstance(y, tuple):
        return y
    return y[-1] if cell.state_function.__name__ == "_base_int" else y[0]


_LEAKY = "The nearest exact one is Leaky(beta)"
_WHOLE = "a whole sequence in one pass"
MISSING: dict[str, tuple[str, str]] = {
    "Alpha": (
        "its potential is not carried from step to step, but computed as tau_alpha (i_exc + i_inh) from two currents, "
        "i_exc = alpha i_exc + x and i_inh = beta i_inh - x, which a reset changes, and no neuron here does so",
        "The nearest exact one is Synaptic(alpha, beta)",
    ),
    "RSynaptic": (
        "its reset is written into tensors in place, i = alpha i + x + V s, u = beta u + i - V_thr r, and a recurrent "
        "layer with a synaptic current is not proven here",
        "The nearest exact ones are RLeaky(beta) and Synaptic(alpha, beta)",
    ),
    "DeltaLeaky": (
        "it fires where the change of its potential, |u[t] - u[t-1]|, exceeds a threshold, and never resets; a neuron "
        "here fires where its potential does",
        _LEAKY,
    ),
    "LinearLeaky": (
        f"it holds a linear layer and runs {_WHOLE}, u[t] = beta u[t-1] + W x[t], without a reset",
        "Use nn.Linear and Leaky(beta)",
    ),
    "LeakyParallel": (
        f"it is an nn.RNN with relu, u[t] = relu(W x[t] + V u[t-1]), run over {_WHOLE}: its potential cannot be below "
        "0, and its spikes do not reset it",
        _LEAKY,
    ),
    "StateLeaky": (
        f"it sums inputs with decay over {_WHOLE} and never resets its potential, and no neuron here fires without a "
        "reset",
        _LEAKY,
    ),
    "AssociativeLeaky": (
        "its state is a matrix, which it computes over a whole sequence, and no neuron here has one",
        _LEAKY,
    ),
    "SLSTM": (
        "its potential is the hidden state of an LSTM cell, u = o tanh(c) with gates of the input and of u, and no "
        "neuron here has gates",
        _LEAKY,
    ),
    "SConv2dLSTM": (
        "its potential is the hidden state of a convolutional LSTM cell, u = o tanh(c) with gates of the input and of "
        "u, and no neuron here has gates",
        _LEAKY,
    ),
}

LIBRARY = Library(
    name="snnTorch",
    packages=("snntorch._neurons",),
    neurons={
        "Leaky": read_leaky,
        "Lapicque": read_lapicque,
        "Synaptic": read_synaptic,
        "RLeaky": read_recurrent,
    },
    missing=MISSING,
    bases=frozenset({"SpikingNeuron", "LIF", "LeakyParallel", "StateLeaky", "LinearLeaky"}),
    known=frozenset(
        "spike_grad init_hidden inhibition output surrogate_disable _reset_mechanism state_quant state_function "
        "reset_delay reset threshold graded_spikes_factor reset_mechanism_val alpha beta mem syn spk time_step R C V "
        "all_to_all learn_recurrent linear_features kernel_size conv2d_channels padding".split()
    ),
    form=lambda cell: "step",
    rest=_rest,
    plain=lambda module, axis: None,
    double=False,
    resting={"RLeaky": 2, "Synaptic": 2},
    sent=_sent,
)
