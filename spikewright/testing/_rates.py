"""Contracts of a neuron about its rate map."""

import torch

from spikewright.testing._cell import Cell, run

STEP = 2.0**-20
"""Step of finite differences, as a share of the currents at which the neuron fires."""


def rates(cell: Cell) -> None:
    """The rate map is differentiable, and the mean output approaches it."""
    neuron, contract = cell.neuron(), cell.contract("rate map")
    dynamics = neuron.dynamics
    if dynamics.rate_map is None:
        return
    current = torch.linspace(-0.25, 1.25, 16, dtype=torch.float64)[:, None].repeat(1, cell.channels) * cell.scale
    expected = dynamics.rate_map(current.requires_grad_())
    contract.holds(expected.requires_grad, "its rate map is not differentiable.")
    expected = expected.detach()
    full = float(expected.abs().max())
    contract.holds(full > 0, "its rate map is 0 at currents at which it fires.")
    kept = torch.as_tensor(1.0 if dynamics.decay is None else dynamics.decay, dtype=torch.float64).detach()
    for steps in (64, 512):
        with torch.no_grad():
            sent, _ = run(neuron, current.detach().expand(steps, *current.shape))
        weights = kept ** torch.arange(steps - 1, -1, -1, dtype=torch.float64).view(-1, 1)
        mean = (sent * weights[:, None] / weights.sum(0)).sum(0)
        error = (mean - expected).abs() / full
        noise = neuron.noise / full * weights.square().sum(0).sqrt() / weights.sum(0)  # its standard deviation
        allowed = 1.5 / weights.sum(0) + 5 * noise
        worst = float((error - allowed).max())
        contract.holds(
            worst <= 0,
            f"for constant currents over {steps} steps its mean output is up to {float(error.max()):.3g} of its range "
            f"away from its rate map, where {float(allowed.max()):.3g} is what the rest of a potential can be.",
        )


def rate_gradient(cell: Cell) -> None:
    """The gradient of the rate map is its slope."""
    rate_map, contract = cell.neuron().dynamics.rate_map, cell.contract("gradient of the rate map")
    if rate_map is None:
        return
    for space in ((), cell.space):
        source = torch.Generator().manual_seed(6)
        shape = 16, cell.channels, *space
        current = cell.scale * (1.5 * torch.rand(shape, generator=source, dtype=torch.float64) - 0.25)
        towards, weights = (torch.rand(shape, generator=source, dtype=torch.float64) for _ in range(2))
        rate = rate_map(current.requires_grad_())
        (grad,) = torch.autograd.grad((weights * rate).sum(), current)
        with torch.no_grad():
            high, low = (rate_map(current + sign * cell.scale * STEP * towards) for sign in (1, -1))
        measured = (weights * (high - low)).flatten(1).sum(1) / (2 * cell.scale * STEP)
        tables = {"slope": (grad * towards).flatten(1).sum(1)}, {"slope": measured}
        contract.agree(*tables, 1e-4, "its gradient and how it changes with the current, sample by sample,")
