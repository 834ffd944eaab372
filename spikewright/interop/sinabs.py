"""Neurons and layers of sinabs 3.1."""

from typing import Any

import torch
from torch import nn

from spikewright.interop.frames import Unsqueeze, over_time
from spikewright.interop.mapping import Library
from spikewright.interop.sinabs_neurons import read_alif, read_iaf, read_leak, read_lif, read_recurrent


def plain(module: Any, axis: int | None) -> nn.Module | None:
    """Return the plain module for one that folds or unfolds time."""
    kind = type(module)
    if kind.__module__ != "sinabs.layers.reshape":
        return None
    if kind.__name__ == "Repeat":
        return over_time(module.module, axis)
    if kind.__name__ == "FlattenTime":
        return nn.Identity() if axis is None else nn.Flatten(0, 1)
    if kind.__name__ == "UnflattenTime":
        return nn.Identity() if axis is None else Unsqueeze(axis)
    return None


def _form(layer: Any) -> str:
    return "folded" if hasattr(layer, "squeeze_forward") else "batch"


def _rest(layer: Any) -> None:
    for name in list(layer._buffers):
        layer._buffers[name] = torch.zeros(0)


LIBRARY = Library(
    name="sinabs",
    packages=("sinabs.layers",),
    neurons={
        **dict.fromkeys(("LIF", "LIFSqueeze"), read_lif),
        **dict.fromkeys(("IAF", "IAFSqueeze"), read_iaf),
        **dict.fromkeys(("ExpLeak", "ExpLeakSqueeze"), read_leak),
        **dict.fromkeys(("ALIF", "ALIFSqueeze"), read_alif),
        "LIFRecurrent": read_recurrent(read_lif),
        "LIFRecurrentSqueeze": read_recurrent(read_lif),
        "IAFRecurrent": read_recurrent(read_iaf),
        "ALIFRecurrent": read_recurrent(read_alif),
    },
    missing={},
    bases=frozenset({"StatefulLayer", "SpikingMaxPooling2dLayer", "Img2SpikeLayer", "Sig2SpikeLayer"}),
    known=frozenset(
        "spike_fn reset_fn surrogate_grad_fn train_alphas norm_input record_states recordings firing_rate v_mem i_syn "
        "tau_mem tau_syn alpha_mem alpha_syn spike_threshold min_v_mem batch_size num_timesteps out_shape b b0 "
        "tau_adapt alpha_adapt adapt_scale".split()
    ),
    form=_form,
    rest=_rest,
    plain=plain,
    double=False,
)
