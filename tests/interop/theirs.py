"""Neurons of other libraries from the lines of the mapping table, and small networks around them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.interop.table import LINES, Line
from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF
from spikewright.surrogate import ATan, Sigmoid

MODULES = {
    "SpikingJelly": (
        "spikingjelly.activation_based.surrogate",
        "spikingjelly.activation_based.layer",
        "spikingjelly.activation_based.neuron",
    ),
    "snnTorch": ("snntorch",),
    "sinabs": ("sinabs.layers", "sinabs.activation"),
    "Norse": (
        "norse.torch.functional.reset",
        "norse.torch.functional.lif_box",
        "norse.torch.functional.iaf",
        "norse.torch.functional.lif",
        "norse.torch.functional.lsnn",
        "norse.torch.functional.leaky_integrator",
        "norse.torch.functional.leaky_integrator_box",
        "norse.torch.module.lif",
        "norse.torch.module.leaky_integrator",
        "norse.torch.module.leaky_integrator_box",
        "norse.torch.module.lif_box",
        "norse.torch.module.iaf",
        "norse.torch.module.lsnn",
    ),
}
OURS = {"SpikingJelly": Sigmoid(4.0), "snnTorch": ATan(2.0), "sinabs": Sigmoid(4.0), "Norse": Sigmoid(4.0)}
"""Surrogates here of the neurons that are made here."""


@dataclass(frozen=True)
class Values:
    """Values of the symbols of the table."""

    tau: float
    beta: float
    c: float
    g: float
    V: float
    a: float = 1.5
    n: float = 3.5
    q: float = 6.0
    d: float = 0.4
    e: float = 0.7

    def names(self, dtype: torch.dtype) -> dict[str, Any]:
        def above(value: float) -> float:
            return torch.nextafter(torch.tensor(value, dtype=dtype), torch.tensor(math.inf, dtype=dtype)).item()

        return {**vars(self), "S": above, "k": math.exp(-1 / self.tau)} | self._decays()

    def _decays(self) -> dict[str, float]:
        return {"j": math.exp(-1 / self.n), "r": math.exp(-1 / self.q)}


VALUES = {"any": Values(2.7, 0.6, -0.5, 0.3, 1.25), "halves": Values(2.0, 0.5, -0.5, 0.25, 1.0, d=0.5, e=0.25)}
"""With halves potentials reach the threshold exactly."""


def imported(library: str) -> list[Any]:
    for name in MODULES[library]:
        pytest.importorskip(name.partition(".")[0])
    return [import_module(name) for name in MODULES[library]]


def namespace(library: str) -> dict[str, Any]:
    """Names of a library for the code of its lines, with arguments as tensors where it wants them."""
    names: dict[str, Any] = {}
    for module in imported(library):
        names |= {key: value for key, value in vars(module).items() if not key.startswith("_")}
    if library == "Norse":
        for kind in ("LIFBoxParameters", "IAFParameters", "LIFParameters", "LSNNParameters"):
            names[kind] = with_tensors(names[kind])
        for kind in ("LIParameters", "LIBoxParameters"):
            names[kind] = with_tensors(names[kind], slope=False)
    if library == "sinabs":
        names |= {kind: sinabs_layer(names[kind]) for kind in ("LIF", "IAF", "ALIF")}
    return names


def with_tensors(make: Callable[..., Any], slope: bool = True) -> Callable[..., Any]:
    def parameters(**given: Any) -> Any:
        tensors = {key: torch.tensor(v) if isinstance(v, float) else v for key, v in given.items()}
        return make(**(({"method": "tanh", "alpha": torch.tensor(2.0)} if slope else {}) | tensors))

    return parameters


def sinabs_layer(make: Callable[..., Any]) -> Callable[..., Any]:
    def layer(**given: Any) -> Any:
        threshold = torch.tensor(given.pop("spike_threshold", 1.0))
        given = {key: torch.tensor(v) if key.startswith("tau_") else v for key, v in given.items()}
        return make(spike_threshold=threshold, **{"surrogate_grad_fn": sigmoid_slope, **given})

    return layer


def sigmoid_slope(membrane: Tensor, threshold: Tensor) -> Tensor:
    s = torch.sigmoid(4 * (membrane - threshold))
    return 4 * s * (1 - s)


def their_neuron(line: Line, values: Values) -> nn.Module:
    names = namespace(line.library) | values.names(torch.float32)
    neuron = eval(line.theirs, names)
    return neuron.requires_grad_(False) if "requires_grad_(False)" in line.note else neuron


def our_neuron(line: Line, values: Values, dtype: torch.dtype = torch.float32) -> Any:
    def made(kind: type) -> Callable[..., Any]:
        return lambda *given, **options: kind(*given, surrogate=OURS[line.library], **options)

    spiking = {kind.__name__: made(kind) for kind in (LIF, IF, CUBALIF, ALIF)}
    return eval(line.ours, values.names(dtype) | spiking | {"LI": LI})


def spikes_of(neuron: Any, x: Tensor) -> Tensor:
    """Run a neuron of another library over a current `[time, batch, *feature]`, as its documentation says."""
    kind = type(neuron).__module__
    if kind.startswith("spikingjelly"):
        if type(neuron).__name__.startswith("NonSpiking"):
            return torch.stack(neuron(x))
        neuron.step_mode = "s"
        neuron.reset()
        return torch.stack([neuron(step) for step in x])
    if kind.startswith("sinabs"):
        for name in list(neuron._buffers):
            neuron._buffers[name] = torch.zeros(0)
        return neuron(x.transpose(0, 1)).transpose(0, 1)
    if kind.startswith("snntorch"):
        for name in ("mem", "syn", "spk"):
            if name in neuron._buffers:
                neuron._buffers[name] = torch.zeros(0)
        told = [neuron(step) for step in x]  # spikes, and the potential last
        return torch.stack([y[-1] if neuron.reset_mechanism == "none" else y[0] for y in told])
    state, spikes = None, []
    for step in x:
        spike, state = neuron(step, state)
        spikes.append(spike)
    return torch.stack(spikes)


SCALED = {f"{line.library} {line.theirs}": line for line in LINES}
LIBRARIES = tuple(MODULES)


def line(library: str, index: int = 0) -> Line:
    return [each for each in LINES if each.library == library][index]
