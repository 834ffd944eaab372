"""Contracts of a neuron about what it declares in `dynamics`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import Dynamics
from spikewright.reports.gradient_check import certify
from spikewright.rules import DSR, OTTT, EProp, Rule
from spikewright.testing._cell import BATCH, STEPS, Cell, differentiated, response, run


def declared(cell: Cell) -> None:
    """It declares `Dynamics`, with one decay or one per channel."""
    contract, dynamics = cell.contract("dynamics"), cell.neuron().dynamics
    contract.holds(isinstance(dynamics, Dynamics), f"its dynamics are {dynamics!r}, and no Dynamics.")
    for what, decay in (("decays", dynamics.decay), ("current decays", dynamics.current_decay)):
        entries = torch.as_tensor(0.0 if decay is None else decay).numel()
        contract.holds(entries in (1, cell.channels), f"it declares {entries} {what} for {cell.channels} channels.")


def binary(cell: Cell) -> None:
    """All outputs are 0 or 1, if it declares that."""
    neuron = cell.neuron()
    if not (neuron.dynamics.binary or neuron.binary):
        return
    with torch.no_grad():
        sent, _ = run(neuron, torch.cat([cell.currents(seed=seed) for seed in range(4)]))
    odd = sorted(set(sent.unique().tolist()) - {0.0, 1.0})
    cell.contract("binary").holds(not odd, f"it emits {odd[:3]}, and not zeros and ones only.")


def _traced(cell: Cell, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients at currents through time, and those of single steps summed by the response."""
    neuron = cell.neuron()
    whole = differentiated(neuron, x)["gradient of current"]
    single = differentiated(neuron, x, through_time=False)["gradient of current"]
    worth = response(neuron, x)
    expected = torch.stack([(worth[: len(x) - t] * single[t:]).sum(0) for t in range(len(x))])
    return whole, expected.detach()


def decaying_gradient(cell: Cell) -> None:
    """Far below the threshold, the gradient of a current changes from step to step as the decays say."""
    dynamics = cell.neuron().dynamics
    if dynamics.decay is None or dynamics.adaptive or not (dynamics.linear and dynamics.detached_reset):
        return
    neuron = cell.neuron()
    x = (-4 * cell.scale * (0.5 + torch.rand(STEPS, BATCH, cell.channels, dtype=torch.float64))).requires_grad_()
    (grad,) = torch.autograd.grad(run(neuron, x)[0][-1].sum(), x)
    last = grad[-1]
    if not last.all():  # a surrogate may have no slope there
        return
    tables = {"share": grad / last}, {"share": response(neuron, x.detach()).flip(0)}
    cell.contract("gradient by the decay").agree(
        *tables, 1e-6, "the gradient of a current at later steps, and what the decays make of it"
    )


def reset(cell: Cell) -> None:
    """With a soft, detached reset and a constant threshold, the same holds across spikes."""
    dynamics = cell.neuron().dynamics
    linear = dynamics.decay is not None and dynamics.linear and not dynamics.adaptive
    if not (linear and dynamics.soft_reset and dynamics.detached_reset):
        return
    found, expected = _traced(cell, cell.currents())
    tables = {"gradient of current": found}, {"gradient of current": expected}
    cell.contract("soft, detached reset").agree(*tables, 1e-9, "credit through time over spikes, and by the decay")


def adaptive(cell: Cell) -> None:
    """With a threshold that adapts, earlier spikes have a part in the gradient."""
    dynamics = cell.neuron().dynamics
    if not (dynamics.adaptive and dynamics.linear and dynamics.soft_reset and dynamics.detached_reset):
        return
    if dynamics.decay is None:
        return
    found, expected = _traced(cell, cell.currents())
    cell.contract("adaptive").holds(
        float((found - expected).norm()) > 1e-6 * float(expected.norm()),
        "it declares a threshold that depends on its earlier spikes, but the gradient of a current is that by the "
        "decays alone. Leave adaptive out of its dynamics.",
    )


def _learns(cell: Cell) -> tuple[Network, Tensor, Tensor]:
    """Return a network with the neurons in its last layer, and data."""
    torch.default_generator.manual_seed(4)
    layer = nn.Linear(6, cell.channels).double()
    with torch.no_grad():
        layer.weight.copy_(cell.scale * torch.rand(layer.weight.shape, dtype=torch.float64) / 2)
    net = Network(nn.Sequential(layer, cell.neuron(), nn.Linear(cell.channels, 4).double()))
    return net, torch.rand(STEPS, BATCH, 6, dtype=torch.float64), torch.tensor([0, 2, 1])


def traceable(cell: Cell) -> None:
    """OTTT claims the gradient of BPTT in front of last neurons with one decay, and refuses neurons without."""
    dynamics, rule, contract = cell.neuron().dynamics, OTTT(), cell.contract("OTTT")
    net, x, y = _learns(cell)
    refused = _refused(rule, net, x, y)
    decays = dynamics.decay, 0.0 if dynamics.current_decay is None else dynamics.current_decay
    one = all(decay is not None and torch.as_tensor(decay).numel() == 1 for decay in decays)
    contract.holds(refused != one, f"OTTT {'refuses' if refused else 'takes'} it, with decay={dynamics.decay}.")
    constant = dynamics.soft_reset and dynamics.detached_reset and not dynamics.adaptive
    if refused or not (dynamics.linear and constant):
        return
    rows = {row.site: row for row in certify(net, rule, x, y, PerStep(F.cross_entropy)).rows}
    for name in ("0.weight", "0.bias"):
        contract.holds(rows[name].exact, f"OTTT does not claim the gradient of BPTT for '{name}' in front of it.")
        error = rows[name].relative_error
        contract.holds(rows[name].match or error < 1e-9, f"OTTT's gradient in front of it is {error:.3g} off BPTT's.")


def eligible(cell: Cell) -> None:
    """E-prop claims the gradient of BPTT in front of last neurons of any kind, unless channels depend on each other."""
    rule, contract = EProp(), cell.contract("EProp")
    net, x, y = _learns(cell)
    if _refused(rule, net, x, y):
        return
    for row in certify(net, rule, x, y, PerStep(F.cross_entropy)).rows:
        if row.site in ("0.weight", "0.bias"):
            contract.holds(row.exact, f"EProp does not claim the gradient of BPTT for '{row.site}' in front of it.")
            near = row.match or row.relative_error < 1e-9
            contract.holds(near, f"EProp's gradient in front of it is {row.relative_error:.3g} off BPTT's.")


def rated(cell: Cell) -> None:
    """Rules that learn from rates take neurons with a rate map, and refuse others."""
    contract, rate_map = cell.contract("DSR"), cell.neuron().dynamics.rate_map
    net, x, y = _learns(cell)
    refused = _refused(DSR(), net, x[:1].expand(len(x), *x.shape[1:]), y)
    contract.holds(
        refused != (rate_map is not None), f"DSR {'refuses' if refused else 'takes'} it, with rate_map={rate_map}."
    )


def _refused(rule: Rule, net: Network, x: Tensor, y: Tensor) -> bool:
    loss = (OnRate if rule.traits.loss == "rate" else PerStep)(F.cross_entropy)
    try:
        for _ in rule.updates(net, x, y, loss):
            pass
    except IncompatibleRule:
        return True
    finally:
        net.zero_grad()
    return False
