"""Neurons and delays of a network as nodes, or the reason why there is none."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright.interop.nir.tracing import Trace
from spikewright.layers import SynapticDelay
from spikewright.neurons import Neuron


def neuron_node(trace: Trace, site: str, neuron: Neuron, x: Tensor) -> Tensor:
    """Record an LIF or IF node with the leak, gain and threshold of a neuron.

    Args:
        trace: What is recorded.
        site: Name of the neuron layer in a run.
        neuron: The neuron.
        x: Its current, `[batch, *feature]`.

    Raises:
        NetworkError: NIR has no equal of this neuron.
    """
    shown = f"'{site}' ({type(neuron).__name__})"
    if not neuron._plain_scan:
        raise trace.refuse(
            f"the neuron {shown}",
            "it has a scan of its own, and the nodes LIF and IF of NIR have one potential with one decay",
            "Use spikewright.LIF or spikewright.IF.",
        )
    if neuron.reset != "zero":
        raise trace.refuse(
            f"the neuron {shown} with reset='subtract'",
            "a spike of NIR sets the potential to v_reset and forgets what was above the threshold; readers would take "
            "a soft reset for a hard one without a word",
            "Train with reset='zero'.",
        )
    if not neuron.binary:
        why = f"amplitude={neuron.spike_amplitude}, noise={neuron.noise}"
        raise trace.refuse(
            f"the neuron {shown} that sends other values than 0 and 1 ({why})",
            "a spike of NIR is 1, and there is no noise",
            "Put the amplitude into the weights behind it, and set noise=0.",
        )
    if any(isinstance(value, Tensor) and value.numel() != 1 for value in (neuron.threshold, neuron.gain)):
        raise trace.refuse(
            f"the neuron {shown} with a threshold or a gain for each channel",
            "most readers of NIR take one for all neurons of a layer",
            "Put them into the weights in front, which makes them 1.",
        )
    with trace.paused(), torch.no_grad():
        leak = neuron._per_channel(neuron.leak, x.unsqueeze(0))
        leaks = torch.as_tensor(_exact(neuron, leak), dtype=torch.float64).expand(x.shape[1:]).clone().numpy()
        values: dict[str, Any] = {"leak": leaks, "gain": float(neuron.gain), "threshold": float(neuron.threshold)}
        values["strict"] = not fires_at_threshold(neuron, x)
        kind = "IF" if bool((leaks == 1).all()) else "LIF"
        return trace.output(kind, values, x, torch.zeros_like(x), site=site)


def fires_at_threshold(neuron: Neuron, like: Tensor) -> bool:
    """Whether a neuron fires at its threshold, measured by a first current that brings it there exactly.

    Args:
        neuron: The neuron.
        like: A current, `[batch, *feature]`.
    """
    gain, threshold = float(neuron.gain), float(neuron.threshold)
    near = np.asarray(threshold / gain if gain else np.inf)
    candidates = [near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)]
    exact = [float(current) for current in candidates if gain * float(current) == threshold]
    if not exact:  # no number does: its product is rounded to the one or the other side
        return True
    current = torch.full((1, 1, *like.shape[1:]), exact[0], dtype=torch.float64)
    return bool(neuron.scan(current, {}, False)[0].all())


def _exact(neuron: Neuron, leak: float | Tensor) -> float | Tensor:
    """Return a leak in double precision, where the neuron keeps it so, in the shape that it has for its current."""
    own = neuron.leak
    if isinstance(own, Tensor) and isinstance(leak, Tensor) and own.dtype == torch.float64:
        return own.reshape(leak.shape)
    return leak


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
