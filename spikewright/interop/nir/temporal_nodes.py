"""Neurons and delays of a network as nodes, or the reason why there is none."""

from typing import Any

import torch
from torch import Tensor

from spikewright.interop.nir.tracing import Trace
from spikewright.interop.nir.unwritten import reason
from spikewright.kernels.equations import Equations
from spikewright.layers import SynapticDelay
from spikewright.neurons import LI, Neuron


def neuron_node(trace: Trace, site: str, neuron: Neuron, x: Tensor) -> Tensor:
    """Record a node with the constants of the equations of a neuron.

    Args:
        trace: What is recorded.
        site: Name of the neuron layer in a run.
        neuron: The neuron.
        x: Its current, `[batch, *feature]`.

    Raises:
        NetworkError: NIR has no equal of this neuron.
    """
    with trace.paused(), torch.no_grad():
        shown = f"the neuron '{site}' ({type(neuron).__name__})"
        if not (neuron._plain_scan or integrates(neuron)):
            raise trace.refuse(
                f"{shown}",
                "it has a scan of its own, and nothing says which equation of NIR that computes",
                "Use IF, LIF, CUBALIF or LI of spikewright.",
            )
        equations = neuron.equations(x.double().unsqueeze(0))
        found = reason(neuron, equations)
        if found is not None:
            raise trace.refuse(f"{shown} {found.what}", found.why, found.way)
        values = constants(equations, x.shape[1:])
        return trace.output(_kind(equations, values), values, x, torch.zeros_like(x), site=site)


def integrates(neuron: Neuron) -> bool:
    """True for a leaky integrator with the scan of its class."""
    return isinstance(neuron, LI) and type(neuron).scan is LI.scan and "scan" not in neuron.__dict__


def constants(equations: Equations, shape: Any) -> dict[str, Any]:
    """Return the constants of equations in double precision, `[*feature]`, under the names that they have there.

    Under `varying` is the smallest shape that all of them broadcast from.

    Args:
        equations: With constants in the layout of a current.
        shape: Of a sample, `[*feature]`.
    """
    names = ["leak", "gain", *(["current_leak", "current_gain"] if equations.has_current else [])]
    names += [] if equations.silent else ["threshold"]
    found = {name: torch.as_tensor(getattr(equations, name), dtype=torch.float64).cpu() for name in names}
    varying = torch.broadcast_shapes(*(value.shape for value in found.values()), (1,) * len(shape))[-len(shape) :]
    wide = {name: value.expand(1, *shape)[0].clone().numpy() for name, value in found.items()}
    return {**wide, "varying": tuple(varying), "strict": equations.strict}


def _kind(equations: Equations, values: dict[str, Any]) -> str:
    if equations.has_current:
        return "CubaLI" if equations.silent else "CubaLIF"
    lossless = bool((values["leak"] == 1).all())
    return ("I" if lossless else "LI") if equations.silent else "IF" if lossless else "LIF"


def delay_node(trace: Trace, site: str, delay: SynapticDelay, x: Tensor) -> Tensor:
    """Record a Delay node with the whole steps of a delay.

    Args:
        trace: What is recorded.
        site: Name of the delay in a run.
        delay: The delay.
        x: What is delayed, `[batch, *feature]`.

    Raises:
        NetworkError: It shares a spike between two steps.
    """
    with trace.paused(), torch.no_grad():
        fitted = delay._fitting(x.unsqueeze(0))
        steps = fitted.round()
        if not delay.rounding and not bool((steps == fitted).all()):
            raise trace.refuse(
                f"'{site}' (SynapticDelay with rounding=False)",
                "it shares a spike between two steps, and a Delay node sends it once",
                "Use rounding=True, or round the delays.",
            )
        whole = steps.double().expand(x.shape[1:]).clone().numpy()
        return trace.output("Delay", {"steps": whole}, x, x.clone())
