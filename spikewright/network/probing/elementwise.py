"""Which layers reach their neurons entry by entry, measured by the gradients between them in a probe."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from spikewright.network.probing.recorder import Recorder, Seen
from spikewright.neurons import Neuron


def elementwise(
    recorder: Recorder, neurons: Mapping[str, Neuron], fed: Mapping[str, Collection[str]]
) -> frozenset[str]:
    """Return the layers whose every entry of the current reaches one entry of their neurons' input, at the same place.

    Gradients for two random errors at the neurons are then these errors times the same factors.  It is not measured, as
    that takes time, where a trace of inputs tells all that neurons hold of them.

    Args:
        recorder: What the probe saw, with its graph.
        neurons: Neurons, by name of the call.
        fed: Neurons that each layer feeds.
    """
    met, apart = set[str](), dict.fromkeys(fed, True)
    several = {site for reached in fed.values() if len(reached) > 1 for site in reached}
    potentials = any(not neuron.binary for neuron in neurons.values())
    for neuron in recorder.neurons:
        if not (potentials or neuron.site in several or _holds_more(neurons[neuron.site])):
            continue
        layers = [seen for seen in recorder.synapses if seen.step == neuron.step and neuron.site in fed[seen.site]]
        for layer, same in zip(layers, _reached(neuron, layers)):
            met.add(layer.site)
            apart[layer.site] &= same
    return frozenset(site for site in met if apart[site])


def _holds_more(neuron: Neuron) -> bool:
    """Return True if no trace of inputs with one decay is known to be what neurons hold of them."""
    dynamics = neuron.dynamics
    decays = [decay for decay in (dynamics.decay, dynamics.current_decay) if decay is not None]
    plain = dynamics.linear and dynamics.soft_reset and dynamics.detached_reset and not dynamics.adaptive
    return not plain or not decays or any(torch.as_tensor(decay).numel() > 1 for decay in decays)


def _reached(neuron: Seen, layers: list[Seen]) -> list[bool]:
    current, sent = neuron.entering, [layer.leaving for layer in layers]
    if not current.requires_grad or current.is_complex() or not current.is_floating_point():
        return [False] * len(layers)
    source = torch.Generator().manual_seed(11)
    errors = [1 + torch.rand(current.shape, generator=source, dtype=torch.float64).to(current) for _ in range(2)]
    try:
        first, second = (
            torch.autograd.grad(current, sent, error, retain_graph=True, allow_unused=True) for error in errors
        )
    except Exception:  # a backward pass that cannot be run twice, or not at all
        return [False] * len(layers)
    one, other = (error.flatten() for error in errors)
    fits = [not layer.rewritten and layer.leaving.numel() == current.numel() for layer in layers]
    return [fit and _proportional(a, b, one, other) for fit, a, b in zip(fits, first, second)]


def _proportional(a: Tensor | None, b: Tensor | None, one: Tensor, other: Tensor) -> bool:
    """Return True if two gradients are two errors, times factors that are the same for both."""
    if a is None or b is None:
        return False
    left, right = a.flatten() * other, b.flatten() * one
    return torch.allclose(left, right, rtol=max(1e-5, 8 * torch.finfo(a.dtype).eps), atol=0.0)
