"""Which layers reach their neurons entry by entry, measured by the gradients between them in a probe."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from spikewright.network.probing.recorder import Recorder, Seen


def elementwise(recorder: Recorder, fed: Mapping[str, Collection[str]]) -> frozenset[str]:
    """Return the layers whose every entry of the current reaches one entry of their neurons' input, at the same place.

    Gradients for two random errors at the neurons are then these errors times the same factors.

    Args:
        recorder: What the probe saw, with its graph.
        fed: Neurons that each layer feeds.
    """
    met, apart = set[str](), dict.fromkeys(fed, True)
    for neuron in recorder.neurons:
        layers = [seen for seen in recorder.synapses if seen.step == neuron.step and neuron.site in fed[seen.site]]
        for layer, same in zip(layers, _reached(neuron, layers)):
            met.add(layer.site)
            apart[layer.site] &= same
    return frozenset(site for site in met if apart[site])


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
    return torch.allclose(left, right, rtol=1e-3 if a.dtype.itemsize < 4 else 1e-5, atol=0.0)
