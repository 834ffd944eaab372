"""Neurons of other libraries: the tables of `help(LIF)` and `help(IF)`, run beside each library that is installed."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.bench.peers import PEERS, Peer
from spikewright.bench.peers._base import load
from spikewright.network import Network
from spikewright.neurons import IF, LIF, Neuron
from spikewright.surrogate import Sigmoid

Scan = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Constants:
    """Values of the symbols in the tables."""

    tau: float
    beta: float
    c: float
    g: float
    a: float = 1.5
    V: float = 1.0

    @property
    def tau_mem(self) -> float:
        return self.tau if self.tau != 2 else 1 / math.log(2)

    def names(self, **more: float) -> dict[str, Any]:
        """Return the symbols of all tables; `more` are those that another library uses otherwise."""
        here = {"k": math.log(1 / self.beta), "time_step": 1.0, "C": 1 / (1 - self.beta), "S": above}
        return {**vars(self), **here, **more}


def above(threshold: float) -> float:
    return torch.nextafter(torch.tensor(threshold), torch.tensor(math.inf)).item()


SETS = {"any": Constants(2.7, 0.6, -0.5, 0.3), "halves": Constants(2.0, 0.5, -0.5, 0.25)}
"""With halves potentials reach the threshold exactly."""


@dataclass(frozen=True)
class Elsewhere:
    """A neuron of another library: makes a function of a current, and says what symbols stand for in its lines."""

    scan: Callable[[Constants], Scan]
    symbols: Callable[[Constants], dict[str, float]] = lambda constants: {}


def jelly(name: str, *symbols: str, tau: str = "tau", **options: Any) -> Elsewhere:
    def scan(constants: Constants) -> Scan:
        neurons, surrogate = load(
            "spikingjelly", "spikingjelly.activation_based.neuron", "spikingjelly.activation_based.surrogate"
        )
        given = {} if name == "IFNode" else {tau: constants.tau}
        given |= {"v_reset": constants.c} if "c" in symbols else {}
        return getattr(neurons, name)(step_mode="m", surrogate_function=surrogate.Sigmoid(4.0), **given, **options)

    return Elsewhere(scan)


def torches(name: str, *symbols: str, **options: Any) -> Elsewhere:
    def scan(constants: Constants) -> Scan:
        library, surrogate = load("snntorch", "snntorch", "snntorch.surrogate")
        given: dict[str, Any] = {"graded_spikes_factor": constants.a} if "a" in symbols else {}
        given |= {"C": 1 / (1 - constants.beta), "time_step": 1} if "C" in symbols else {}
        cell = getattr(library, name)(constants.beta, spike_grad=surrogate.sigmoid(slope=4), **given, **options)
        return lambda x: _looped(lambda step, state: cell(step, torch.zeros_like(step) if state is None else state), x)

    return Elsewhere(scan)


def nabs(name: str, reset: str | None = None, **options: Any) -> Elsewhere:
    def scan(constants: Constants) -> Scan:
        layers, activation = load("sinabs", "sinabs.layers", "sinabs.activation")
        given = {} if reset is None else {"reset_fn": getattr(activation, reset)()}
        given |= {"tau_mem": constants.tau_mem} if name == "LIF" else {}
        layer = getattr(layers, name)(
            spike_fn=activation.SingleSpike,
            surrogate_grad_fn=_slope,
            spike_threshold=torch.tensor(1.0),
            **given,
            **options,
        )
        return lambda x: layer(x.transpose(0, 1)).transpose(0, 1)

    return Elsewhere(scan, lambda constants: {"a": math.exp(-1 / constants.tau_mem)})


def norse(name: str, reset: str | None = None) -> Elsewhere:
    def scan(constants: Constants) -> Scan:
        file = {"LIFBoxCell": "lif_box", "IAFCell": "iaf"}[name]
        functional, module = load("norse", f"norse.torch.functional.{file}", f"norse.torch.module.{file}")
        given: dict[str, Any] = {"method": "tanh", "alpha": 2.0}
        if reset is not None:
            given["reset_method"] = getattr(load("norse", "norse.torch.functional.reset")[0], reset)
        if name == "IAFCell":
            return partial(_looped, module.IAFCell(functional.IAFParameters(**given)))
        parameters = functional.LIFBoxParameters(tau_mem_inv=torch.tensor(1000 * constants.g), **given)
        return partial(_looped, module.LIFBoxCell(parameters, dt=0.001))

    return Elsewhere(scan)


def nir() -> Elsewhere:
    """Euler steps of tau dv/dt = v_leak - v + r I, of length dt, with a reset to 0: the equation in the format."""

    def scan(constants: Constants) -> Scan:
        return lambda x: _looped(partial(_euler, 1 / constants.tau, constants.tau), x)

    return Elsewhere(scan, lambda constants: {"gain": 1.0})


def _euler(dt_over_tau: float, r: float, step: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
    v = torch.zeros_like(step) if v is None else v
    v = v + dt_over_tau * (r * step - v)
    fired = _fire(v - 1)
    return fired, v * (1 - fired.detach())


def _looped(cell: Callable[..., tuple[Tensor, Any]], x: Tensor) -> Tensor:
    state, out = None, []
    for step in x:
        fired, state = cell(step, state)
        out.append(fired)
    return torch.stack(out)


def _fire(x: Tensor) -> Tensor:
    soft = torch.sigmoid(4 * x)
    return (x >= 0).to(x.dtype) + (soft - soft.detach())


def _slope(membrane: Tensor, threshold: Tensor) -> Tensor:
    s = torch.sigmoid(4 * (membrane - threshold))
    return 4 * s * (1 - s)


LINES: dict[str, Elsewhere] = {
    "SpikingJelly `LIFNode(tau, v_reset=0.0)`": jelly("LIFNode", v_reset=0.0),
    "SpikingJelly `decay_input=False`": jelly("LIFNode", decay_input=False, v_reset=0.0),
    "SpikingJelly `v_reset=None`": jelly("LIFNode", v_reset=None),
    "SpikingJelly `v_reset=c`": jelly("LIFNode", "c"),
    "SpikingJelly `detach_reset=True`": jelly("LIFNode", v_reset=0.0, detach_reset=True),
    "SpikingJelly `ParametricLIFNode(tau, decay_input=False)`": jelly(
        "ParametricLIFNode", tau="init_tau", decay_input=False
    ),
    "SpikingJelly `IFNode(v_reset=0.0)`": jelly("IFNode", v_reset=0.0),
    "SpikingJelly `IFNode(v_reset=None)`": jelly("IFNode", v_reset=None),
    "snnTorch `Leaky(beta)`, soft reset, `reset_delay=True`": torches("Leaky"),
    'snnTorch `Leaky(beta, reset_mechanism="zero")`': torches("Leaky", reset_mechanism="zero"),
    "snnTorch hard reset, `reset_delay=False`": torches("Leaky", reset_mechanism="zero", reset_delay=False),
    "snnTorch `graded_spikes_factor=a`": torches("Leaky", "a", reset_mechanism="zero"),
    "snnTorch `Lapicque(beta)`, soft reset": torches("Lapicque", "C"),
    "sinabs `LIF(tau_mem, spike_fn=SingleSpike)`, a = exp(-1/tau_mem)": nabs("LIF"),
    "sinabs `norm_input=False`": nabs("LIF", norm_input=False),
    "sinabs `reset_fn=MembraneReset()`": nabs("LIF", "MembraneReset"),
    "sinabs `IAF(spike_fn=SingleSpike)`": nabs("IAF"),
    "Norse `LIFBoxCell`, g = dt tau_mem_inv": norse("LIFBoxCell"),
    "Norse `reset_method=reset_subtract`": norse("LIFBoxCell", "reset_subtract"),
    "Norse `IAFCell`": norse("IAFCell"),
    "NIR `LIF(tau=tau*dt, r=gain*tau)`, Euler steps of dt": nir(),
}


def lines(kind: type[Neuron]) -> Iterator[tuple[str, str, str]]:
    """Yield the lines of the table of a class: what it is elsewhere, the code here, and what is added to the code."""
    code = ""
    for line in (kind.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not line.strip().startswith("| ") or len(cells) != 2 or cells[0] == "Elsewhere":
            continue
        found = re.findall(r"`([^`]*)`", cells[1])[0]
        added = found if cells[1].startswith("the same with") else ""
        code = code if added else found
        yield cells[0], code, added


STATED = [(kind, *line) for kind in (LIF, IF) for line in lines(kind)]


def test_every_line_of_the_tables_is_run() -> None:
    assert [line for _, line, _, _ in STATED] == sorted(LINES, key=[line for _, line, _, _ in STATED].index)


def currents(kind: str) -> Tensor:
    source = torch.Generator().manual_seed(0)
    if kind == "halves":  # potentials at the threshold, and several thresholds at once
        return torch.randint(-2, 9, (60, 8, 40), generator=source) / 4
    return 0.8 * torch.randn(60, 8, 40, generator=source) + 0.3


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize(("neuron", "line", "code", "added"), STATED, ids=[line for _, line, _, _ in STATED])
def test_spikes_and_gradients_are_those_of_the_library(
    neuron: type[Neuron], line: str, code: str, added: str, kind: str
) -> None:
    other, constants, x = LINES[line], SETS[kind], currents(kind)
    try:
        scan = other.scan(constants)
    except ImportError as error:
        pytest.skip(str(error))
    names = constants.names(**other.symbols(constants))
    more = eval(f"dict({added})", names)

    def made(*given: Any, **options: Any) -> Neuron:
        return neuron(*given, **{"surrogate": Sigmoid(4.0), **options, **more})

    here = Network(nn.Sequential(eval(code, {**names, neuron.__name__: made})))
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    weights, spikes = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), []
    for given, run in ((ours, here), (theirs, scan)):
        spikes.append(run(given))
        (weights * spikes[-1]).sum().backward()
    assert spikes[0].any() and torch.equal(*spikes), f"{int((spikes[0] != spikes[1]).sum())} of {x.numel()} differ"
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_neurons_of_the_benchmark_send_the_spikes_that_its_page_says(peer: Peer) -> None:
    x = currents("any")
    try:
        scan = peer.neuron()
    except ImportError as error:
        pytest.skip(str(error))
    ours = Network(nn.Sequential(LIF()))(x)
    theirs = scan(x.transpose(0, 1)).transpose(0, 1) if peer.batch_first else scan(x)
    assert torch.equal(ours, theirs) != bool(peer.differs)
