"""Probe currents, which find what the input of a user does not: ties, several thresholds at once, long silence."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.interop.copies import clone
from spikewright.interop.mapping import Mapping, Trained
from spikewright.interop.potentials import scanned, weighted, with_potentials
from spikewright.interop.reading import Found
from spikewright.interop.recorder import alone
from spikewright.interop.rounding import Compared, compare
from spikewright.neurons import Neuron

STEPS = 64
TOLERANCE = 1e-5
"""Largest difference of gradients, relative to the largest gradient of the neuron."""


SAMPLES = 4
"""Number of samples of each current."""


@dataclass(frozen=True)
class Probe:
    """Comparison of one neuron on the probe currents.

    Attributes:
        mapping: What the neuron is, in the dtype of the comparison.
        spikes: Comparison of the spikes.
        gradient: Largest difference of the gradients of the input, relative to the largest of each neuron, or to 1,
            beyond that of rounding.
        trained: The same of the constants that are trained; 0 if there are none.
        current: Name of the current with the first spike that differs, or with the gradients that are farthest apart.
        without: Number of neurons whose gradient in the other library is NaN or infinite.
    """

    mapping: Mapping
    spikes: Compared
    gradient: float
    trained: float
    current: str
    without: int


def unit_of(mapping: Mapping, feature: torch.Size) -> float | Tensor:
    """Return the current that reaches the threshold at once, a number or one per neuron.

    Args:
        mapping: The neuron.
        feature: Shape of one step of one sample.
    """
    eq = mapping.neuron.equations(torch.zeros(1, 1, *feature, dtype=torch.float64))
    factor = (
        torch.as_tensor(eq.gain * eq.current_gain if eq.has_current else eq.gain, dtype=torch.float64).detach().abs()
    )
    limit = torch.as_tensor(mapping.fires_at if mapping.neuron.spiking else 1.0, dtype=torch.float64)
    unit = torch.where(factor > 0, limit / factor, 1.0)
    return unit.item() if unit.numel() == 1 else unit


def currents(dtype: torch.dtype, scale: float | Tensor, feature: torch.Size) -> dict[str, Tensor]:
    """Return the four currents, `[64, 4, *feature]`, in units of what reaches the threshold at once.

    Args:
        dtype: Of the currents.
        scale: That unit.
        feature: Shape of one step of one sample.
    """
    source = torch.Generator().manual_seed(0)
    shape = (STEPS, SAMPLES, *feature)
    normal = torch.randn(shape, generator=source, dtype=torch.float64)
    grid = torch.randint(-2, 9, shape, generator=source).double() / 4
    bursts = (torch.rand(shape, generator=source) < 0.1) * torch.randint(1, 5, shape, generator=source).double() / 2
    found = {
        "grid of quarters": grid,
        "strong, of both signs": 2.0 * normal,
        "weak": 0.15 + 0.2 * normal.roll(1, 0),
        "sparse bursts": bursts,
    }
    return {name: (x * scale).to(dtype) for name, x in found.items()}


def probed(found: Found, dtype: torch.dtype, feature: torch.Size) -> Probe:
    """Compare a neuron with what it is here, on the four currents: spikes and gradients of a random weighting.

    Args:
        found: The neuron.
        dtype: To compare in.
        feature: Shape of one step of one sample.
    """
    neuron = clone(found.module).to("cpu", dtype)
    mapping = found.read(neuron, dtype)
    ours = mapping.neuron.to("cpu", dtype)
    if mapping.alone is not None:
        mapping.alone(neuron)
    if mapping.complete is not None:
        mapping.complete(neuron)
    each = currents(dtype, unit_of(mapping, feature), feature)
    x = torch.cat(list(each.values()), 1)  # side by side: neurons do not see each other
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    given, here = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.enable_grad():
        current = here if mapping.alone is not None else mapping.current(here, here)
        (theirs, told), (sent, emitted) = alone(found, neuron, given), scanned(ours, current)
        x = current.detach()
        compared = compare(mapping, x, theirs.detach(), sent.detach())
        if told is not None and emitted is not None:
            compared = with_potentials(compared, mapping, x, theirs.detach(), told.detach(), emitted.detach())
        used = weights * (compared.same & compared.smooth)
        rounded = _rounded(ours, x, used, sent.detach(), not found.library.double)
        their_constants = [neuron.get_parameter(constant.theirs) for constant in mapping.trained]
        our_constants = [ours.get_parameter(constant.ours) for constant in mapping.trained]
        their_grads = torch.autograd.grad(weighted(used, theirs, told), [given, *their_constants])
        our_grads = torch.autograd.grad(weighted(used, sent, emitted), [here, *our_constants])
    real = their_grads[0].isfinite().all(0)
    apart = (_apart(our_grads[0], their_grads[0]) - rounded).clamp_min(0).where(real & compared.same, 0)
    worst = int(apart.flatten(1).amax(1).argmax()) if compared.fault is None else compared.fault.place[0]
    trained = [
        chained(constant, ours, one, other)
        for constant, one, other in zip(mapping.trained, our_grads[1:], their_grads[1:])
    ]
    name = list(each)[worst // SAMPLES]
    return Probe(mapping, compared, float(apart.max()), max(trained, default=0.0), name, int((~real).sum()))


def _rounded(ours: Neuron, x: Tensor, used: Tensor, sent: Tensor, single: bool) -> Tensor:
    """Return by how much rounding may change the gradient of each neuron: that of a current off in its last places.

    Gradients can grow from step to step, and slopes can jump; a neuron whose spikes change with the last places is left
    out, with infinity.

    Args:
        ours: Our neuron.
        x: Its current.
        used: Weights of its output.
        sent: Its output.
        single: True adds the rounding of float32, for libraries that send float32 whatever they are given.
    """
    unit, found = torch.finfo(x.dtype).eps, torch.zeros_like(x[0])
    off = torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(x.dtype)
    moved = [x, x * (1 + 4 * unit * off), x * (1 - 4 * unit * off), *([x.float()] if single else [])]
    exact: Tensor | None = None
    for current in moved:
        given = current.requires_grad_() if current is not x else x.clone().requires_grad_()
        y, emitted = scanned(ours, given)
        (gradient,) = torch.autograd.grad(weighted(used, y, emitted), given)
        exact = gradient if exact is None else exact
        away = _apart(gradient.to(x.dtype), exact)
        if ours.spiking:
            away = away.masked_fill((y.detach().to(sent.dtype) != sent).any(0), torch.inf)
        found = torch.maximum(found, away)
    return 64 * found


def _apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the largest difference over time, of each neuron relative to its largest gradient or to 1."""
    return ((ours - theirs).abs().amax(0) / theirs.abs().amax(0).clamp_min(1.0)).nan_to_num(torch.inf)


def chained(constant: Trained, ours: Neuron, one: Tensor, other: Tensor) -> float:
    """Return how far the gradient of a constant is from that of theirs, by the chain rule through `back`."""
    value = ours.get_parameter(constant.ours).detach().clone().requires_grad_()
    (factor,) = torch.autograd.grad(constant.back(value).sum(), value)
    expected = other.reshape(one.shape) * factor.to(other.dtype)
    return ((one - expected).abs() / expected.abs().clamp_min(1.0)).max().item()
