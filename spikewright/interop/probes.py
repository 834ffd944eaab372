"""Probe currents, which find what the input of a user does not: ties, several thresholds at once, long silence."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikewright.interop.copies import clone
from spikewright.interop.mapping import Mapping
from spikewright.interop.reading import Found
from spikewright.interop.reference import alone
from spikewright.interop.rounding import Compared, compare
from spikewright.neurons import Neuron

STEPS = 64
TOLERANCE = 1e-5
"""Largest difference of gradients, relative to the largest gradient of the neuron."""


@dataclass(frozen=True)
class Probe:
    """Comparison of one neuron on one probe current.

    Attributes:
        name: Name of the current.
        spikes: Comparison of the spikes.
        gradient: Largest difference of the gradients of the input, relative to the largest gradient of a neuron.
        trained: The same of the constants that are trained; 0 if there are none.
        without: Number of neurons whose gradient in the other library is NaN or infinite.
    """

    name: str
    spikes: Compared
    gradient: float
    trained: float
    without: int


def currents(dtype: torch.dtype, scale: float, feature: torch.Size) -> Iterator[tuple[str, Tensor]]:
    """Yield the four currents, `[64, 4, *feature]`, in units of what reaches the threshold at once.

    Args:
        dtype: Of the currents.
        scale: That unit.
        feature: Shape of one step of one sample.
    """
    source = torch.Generator().manual_seed(0)
    shape = (STEPS, 4, *feature)
    normal = torch.randn(shape, generator=source, dtype=torch.float64)
    grid = torch.randint(-2, 9, shape, generator=source) / 4
    bursts = (torch.rand(shape, generator=source) < 0.1) * (torch.randint(1, 5, shape, generator=source) / 2)
    for name, x in (
        ("grid of quarters", grid),
        ("strong, of both signs", 2.0 * normal),
        ("weak", 0.15 + 0.2 * normal.roll(1, 0)),
        ("sparse bursts", bursts),
    ):
        yield name, (x * scale).to(dtype)


def probed(found: Found, dtype: torch.dtype, feature: torch.Size) -> tuple[Mapping, list[Probe]]:
    """Compare a neuron with what it is here, on the four currents: spikes and gradients.

    Args:
        found: The neuron.
        dtype: To compare in.
        feature: Shape of one step of one sample.
    """
    neuron = clone(found.module).to(dtype).requires_grad_(True)
    for name, parameter in found.module.named_parameters():
        neuron.get_parameter(name).requires_grad_(parameter.requires_grad)
    mapping = found.read(neuron, dtype)
    ours = mapping.neuron.to(dtype)
    unit = mapping.fires_at / abs(mapping.neuron.gain) if mapping.neuron.gain else 1.0
    return mapping, [_probe(found, neuron, mapping, ours, name, x) for name, x in currents(dtype, unit, feature)]


def _probe(found: Found, neuron: nn.Module, mapping: Mapping, ours: Neuron, name: str, x: Tensor) -> Probe:
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(x.dtype)
    given, here = x.clone().requires_grad_(), x.clone().requires_grad_()
    their_constants = [neuron.get_parameter(each.theirs) for each in mapping.trained]
    our_constants = [ours.get_parameter(each.ours) for each in mapping.trained]
    with torch.enable_grad():
        theirs = alone(found, neuron, given)
        sent, _ = ours.scan(here, {}, True)
        compared = compare(mapping, x, theirs.detach(), sent.detach())
        used = weights * compared.same
        their_grads = torch.autograd.grad((used * theirs).sum(), [given, *their_constants])
        our_grads = torch.autograd.grad((used * sent).sum(), [here, *our_constants])
    real = their_grads[0].isfinite().all(0) & compared.same
    without = int((~their_grads[0].isfinite().all(0)).sum())
    gradient = _distance(our_grads[0], their_grads[0], real)
    trained = [
        _chained(each, ours, one, other) for each, one, other in zip(mapping.trained, our_grads[1:], their_grads[1:])
    ]
    return Probe(name, compared, gradient, max(trained, default=0.0), without)


def _distance(ours: Tensor, theirs: Tensor, real: Tensor) -> float:
    """Return the largest difference, of each neuron relative to its largest gradient or to 1."""
    if not bool(real.any()):
        return 0.0
    size = theirs.abs().amax(0).clamp_min(1.0)
    worst = ((ours - theirs).abs().amax(0) / size)[real].max().item()
    return worst


def _chained(each: object, ours: Neuron, one: Tensor, other: Tensor) -> float:
    from spikewright.interop.mapping import Trained

    assert isinstance(each, Trained)
    value = ours.get_parameter(each.ours).detach().clone().requires_grad_()
    (factor,) = torch.autograd.grad(each.back(value).sum(), value)
    expected = other * factor.to(other.dtype)
    return ((one - expected).abs() / expected.abs().clamp_min(1.0)).max().item()
