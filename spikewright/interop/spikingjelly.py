"""Neurons and layers of SpikingJelly 2.0."""

from typing import Any

from torch import nn

from spikewright.interop.frames import as_plain, over_time
from spikewright.interop.mapping import Library
from spikewright.interop.spikingjelly_further import CONTAINERS, MISSING, NEURONS, UNVOICED, rest, sent

_WRAPPED = frozenset(
    "BatchNorm1d BatchNorm2d BatchNorm3d Conv1d Conv2d Conv3d Upsample ConvTranspose1d ConvTranspose2d "
    "ConvTranspose3d GroupNorm MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d "
    "AdaptiveAvgPool2d AdaptiveAvgPool3d Linear Flatten".split()
)
"""Layers that are torch's with a step mode."""
_OVER_TIME = frozenset({"MultiStepContainer", "SeqToANNContainer", "StepModeContainer"})


def plain(module: Any, axis: int | None) -> nn.Module | None:
    """Return the plain module for a layer or a container, around which there is a time axis or none."""
    kind, found = type(module).__name__, None
    if not type(module).__module__.startswith("spikingjelly.activation_based.layer"):
        return None
    if kind in _WRAPPED:
        found = as_plain(module, {"_step_mode"})
    elif kind in ("Dropout", "Dropout2d"):
        found = getattr(nn, kind)(module.p).train(module.training)
    elif kind in _OVER_TIME:
        return over_time(nn.Sequential(*module), axis)
    if found is None:
        return None
    return over_time(found, axis if module.step_mode == "m" else None)


def _form(node: Any) -> str:
    return "time" if type(node).__name__ in UNVOICED or node.step_mode == "m" else "step"


LIBRARY = Library(
    name="SpikingJelly",
    packages=("spikingjelly.activation_based",),
    neurons=NEURONS,
    missing=MISSING,
    bases=frozenset({"MemoryModule", "MultiStepModule", "SpikingRNNBase", "SpikingRNNCellBase"}),
    known=frozenset(
        "c_decay v_decay decode v sub_module_out_features element_wise_function _memories _memories_rv _step_mode v_threshold v_reset detach_reset _neuron_precision _store_v_seq v_seq "
        "lava_s_cale tau decay_input w".split()
    ),
    form=_form,
    rest=rest,
    sent=sent,
    containers=CONTAINERS,
    plain=plain,
)
