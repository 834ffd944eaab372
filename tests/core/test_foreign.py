"""Modules of torch and of other libraries that keep state of their own are refused by name."""

import pytest
import torch
from torch import nn

from spikewright.errors import NetworkError
from spikewright.network import Network
from spikewright.neurons import LIF


def made(package: str, *names: str) -> nn.Module:
    """A module whose class and bases have the names of another library's, the last of `names` the most derived."""
    base: type = nn.Module
    for name in names:
        base = type(name, (base,), {"__module__": package, "forward": lambda self, x: x})
    user = type("Mine", (base,), {"__module__": "project.nets"})
    return user()


def mixed(package: str, name: str) -> nn.Module:
    """The same of a class that is mixed into torch's container."""
    mixin = type(name, (), {"__module__": package})
    user: type = type("Mine", (nn.Sequential, mixin), {"__module__": "project.nets"})
    return user(nn.Linear(4, 4))


JELLY, NORSE = "spikingjelly.activation_based", "norse.torch.module"
FOREIGN = {
    "LSTM": (nn.LSTM(4, 4), "LSTM of PyTorch.*before or behind the network"),
    "GRU": (nn.GRU(4, 4), "GRU of PyTorch"),
    "RNN": (nn.RNN(4, 4, batch_first=True), "RNN of PyTorch"),
    "LSTMCell": (nn.LSTMCell(4, 4), "LSTMCell of PyTorch.*spikewright.layers.Feedback"),
    "GRUCell": (nn.GRUCell(4, 4), "GRUCell of PyTorch"),
    "neuron": (
        made(f"{JELLY}.base", "MemoryModule", "BaseNode", "LIFNode"),
        "SpikingJelly.*spikewright.LIF for LIFNode",
    ),
    "rnn": (made(f"{JELLY}.rnn", "SpikingRNNBase", "SpikingLSTM"), "SpikingJelly"),
    "container": (mixed(f"{JELLY}.base", "MultiStepModule"), "SpikingJelly.*reads axis 0 as time"),
    "snntorch": (made("snntorch._neurons.leaky", "SpikingNeuron", "LIF", "Leaky"), "snnTorch.*LIF for Leaky"),
    "parallel": (made("snntorch._neurons.leakyparallel", "LeakyParallel"), "snnTorch"),
    "sinabs": (
        made("sinabs.layers.iaf", "StatefulLayer", "LIF", "IAF", "IAFSqueeze"),
        "sinabs.*spikewright.IF for IAF",
    ),
    "pooling": (made("sinabs.layers.pool2d", "SpikingMaxPooling2dLayer"), "sinabs.*reads axis 0 as time"),
    "norse": (made(f"{NORSE}.snn", "SNNCell", "LIFBoxCell"), "Norse.*spikewright.LIF for LIFBoxCell"),
    "sequential": (made(f"{NORSE}.sequential", "SequentialState"), "Norse.*nn.Sequential"),
    "filter": (made(f"{NORSE}.exp_filter", "ExpFilter"), "Norse.*time axis in front"),
}


@pytest.mark.parametrize("module, message", FOREIGN.values(), ids=FOREIGN)
def test_modules_with_a_state_of_their_own_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(NetworkError, match=rf"{type(module).__name__} of .*: '1\.inner' "):
        Network(nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"inner": module}), LIF()))
    with pytest.raises(NetworkError, match=message):
        Network(nn.Sequential(module, LIF()))


def test_a_foreign_neuron_is_named_before_the_lack_of_neurons() -> None:
    with pytest.raises(NetworkError, match="Mine of snnTorch: it keeps its state on itself"):
        Network(made("snntorch._neurons.leaky", "Leaky"))


@pytest.mark.parametrize(
    "module",
    [
        made(f"{JELLY}.layer.stateless_wrapper", "Conv2d"),
        made(f"{JELLY}.surrogate", "SurrogateFunctionBase", "ATan"),
        made("snntorch._layers.graded_spikes", "GradedSpikes"),
        made("sinabs.layers.merge", "Merge"),
        made("project.snntorch._neurons", "Leaky"),
        made("snntorch_neurons.leaky", "Leaky"),
        made("project.nets", "MemoryModule"),
        nn.MultiheadAttention(4, 1, batch_first=True),
    ],
    ids=lambda module: f"{type(module).__mro__[1].__module__}.{type(module).__mro__[1].__name__}",
)
def test_others_are_not(module: nn.Module) -> None:
    Network(nn.Sequential(module, LIF()))


def test_a_module_put_in_later_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), LIF(), nn.Identity())
    network = Network(net)
    net[2] = made("snntorch._neurons.leaky", "Leaky")
    with pytest.raises(NetworkError, match="'2' keeps its state on itself"):
        network.run(torch.rand(2, 3, 4))
