"""Modules of torch and of other libraries that keep a state of their own, or read axis 0 as time.

None of these libraries is imported: classes are recognised by the module and the name of their bases.
"""

from dataclasses import dataclass

import torch
from torch import nn

from spikewright.errors import NetworkError

_CONVERT = "spikewright.interop.convert(model, x) converts the whole model, with proof. By hand: "
_NEURONS = "help(spikewright.LIF) says how parameters map"
_FEEDBACK = "for recurrent connections spikewright.Recurrent or spikewright.layers.Feedback"


@dataclass(frozen=True)
class Foreign:
    """Classes that a network refuses.

    Attributes:
        library: Name of the library.
        package: Package that defines the classes.
        bases: Names of the classes, whose subclasses are refused too; empty for all classes of the package.
        why: Reason for the error message.
        instead: Advice for the error message.
    """

    library: str
    package: str
    bases: frozenset[str]
    why: str
    instead: str


_STATE = "keeps its state on itself from call to call"
_TIME = "reads axis 0 as time"

FOREIGN = (
    Foreign(
        "PyTorch",
        "torch.nn.modules.rnn",
        frozenset({"RNNBase", "RNNCellBase"}),
        "runs over a sequence of its own, or takes its state from whoever calls it",
        f"Run it before or behind the network, on [time, batch, feature]; {_FEEDBACK}",
    ),
    Foreign(
        "SpikingJelly",
        "spikingjelly.activation_based",
        frozenset({"MemoryModule", "SpikingRNNBase", "SpikingRNNCellBase"}),
        _STATE,
        f"{_CONVERT}use spikewright.LIF for LIFNode and ParametricLIFNode, spikewright.IF for IFNode ({_NEURONS}), "
        f"nn.Dropout for its dropout, spikewright.SynapticDelay for delays, and {_FEEDBACK}",
    ),
    Foreign(
        "SpikingJelly",
        "spikingjelly.activation_based",
        frozenset({"MultiStepModule"}),
        _TIME,
        f"{_CONVERT}use the plain torch layers that it holds or extends, nn.BatchNorm* or "
        "spikewright.layers.JointBatchNorm*",
    ),
    Foreign(
        "snnTorch",
        "snntorch._neurons",
        frozenset(),
        "keeps its state on itself, or returns it",
        f"{_CONVERT}use spikewright.LIF for Leaky and Lapicque ({_NEURONS}; neurons with a synaptic current have no "
        f"equal here, the closest is spikewright.AlphaLIF), and {_FEEDBACK}",
    ),
    Foreign(
        "sinabs",
        "sinabs.layers",
        frozenset({"StatefulLayer"}),
        _STATE,
        f"{_CONVERT}use spikewright.LIF for LIF, spikewright.IF for IAF ({_NEURONS}), and {_FEEDBACK}",
    ),
    Foreign(
        "sinabs",
        "sinabs.layers",
        frozenset(
            {"SpikingMaxPooling2dLayer", "FlattenTime", "UnflattenTime", "Repeat", "Img2SpikeLayer", "Sig2SpikeLayer"}
        ),
        _TIME,
        f"{_CONVERT}leave the time axis to the network, and use pooling layers of torch",
    ),
    Foreign(
        "Norse",
        "norse.torch.module",
        frozenset(
            "SNN SNNCell SNNRecurrent SNNRecurrentCell SequentialState RecurrentSequential Lift CobaLIFCell "
            "LILinearCell LIFCorrelation RegularizationCell".split()
        ),
        "takes its state from whoever calls it and returns it, or runs over axis 0 as time",
        f"{_CONVERT}use spikewright.LIF for LIFBoxCell and spikewright.IF for IAF in an nn.Sequential ({_NEURONS}; "
        f"LIF and LIFCell, whose current has a leak of its own, have no equal here, the closest is spikewright.AlphaLIF), and "
        f"{_FEEDBACK}",
    ),
    Foreign(
        "Norse",
        "norse.torch.module",
        frozenset(
            "ExpFilter LConv2d TemporalReceptiveField ConstantCurrentLIFEncoder PoissonEncoder SignedPoissonEncoder "
            "SpikeLatencyEncoder SpikeLatencyLIFEncoder PopulationEncoder SpikesToTimesDecoder".split()
        ),
        "reads or makes a time axis in front",
        "Encode and decode outside the network (spikewright.data.encoding), and use nn.Linear or nn.Conv2d inside",
    ),
)
"""What `check_foreign` refuses."""


def check_foreign(name: str, module: nn.Module) -> None:
    """Raise `NetworkError` if a module cannot see steps that are folded into the batch.

    Args:
        name: Name of the module, empty for the network's module itself.
        module: A module of the network.
    """
    if torch.compiler.is_compiling():  # the network was checked when it was made
        return
    for base in type(module).__mro__:
        found = _foreign(base)
        if found is not None:
            where = f"'{name}'" if name else "it"
            raise NetworkError(
                f"Network was given {type(module).__name__} of {found.library}: {where} {found.why}, which cannot work "
                f"in a run, where the steps of a chunk are folded into the batch axis and the run holds all state. "
                f"{found.instead}."
            )


def _foreign(base: type) -> Foreign | None:
    """Return the entry that names a class."""
    if base.__module__.startswith("torch.") and base.__module__ != FOREIGN[0].package:
        return None
    for entry in FOREIGN:
        inside = base.__module__ == entry.package or base.__module__.startswith(f"{entry.package}.")
        if inside and (not entry.bases or base.__name__ in entry.bases):
            return entry
    return None
