"""Contracting networks with a feedback connection, and how fast an error falls with the number of steps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tests.oracles.draw import CLASSES, draw
from tests.oracles.equilibrium import RateMap
from tests.oracles.machine import Machine, Params

UNITS, INPUTS = 6, 5


def loop(x: Tensor, net: Machine, depth: int = 2, tau: float = math.inf, closed: bool = True) -> Tensor:
    """Layers `1` to `depth`, joined by `forth1` and so on; if `closed`, the last is fed back to the first by `back`."""
    current, sent = net.syn("in", x, post="1"), net.last(str(depth)) if closed else None
    if sent is not None:
        current = current + net.syn("back", sent, pre=str(depth), post="1")
    s = net.lif("1", current, tau)
    for layer in range(1, depth):
        current = net.syn(f"forth{layer}", s, pre=str(layer), post=str(layer + 1))
        s = net.lif(str(layer + 1), current, tau)
    return net.syn("out", s, pre=str(depth))


def settled(seed: int, depth: int = 2, reset_amount: float = 1.0, batch: int = 4) -> tuple[Params, Tensor, Tensor]:
    """Parameters of a `loop` that contracts, with its reset amount, constant input `[batch, feature]`, classes."""
    forth = [f"forth{layer}" for layer in range(1, depth)]
    shapes = {"in": (UNITS, INPUTS), "back": (UNITS, UNITS), **{name: (UNITS, UNITS) for name in forth}}
    params = draw({**shapes, "out": (CLASSES, UNITS)}, seed)
    for name, gain in {"in": 1.5, "back": 0.7, **dict.fromkeys(forth, 1.0)}.items():
        weight = params[f"{name}.weight"]
        params[f"{name}.weight"] = reset_amount * gain * weight / torch.linalg.matrix_norm(weight, 2)
        params[f"{name}.bias"] *= reset_amount
    params["back.bias"] -= 0.45 * reset_amount
    source = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, INPUTS, generator=source, dtype=torch.float64)
    return params, x, torch.randint(CLASSES, (batch,), generator=source)


def clearance(rates: RateMap, reset_amount: float = 1.0) -> float:
    """Distance of the units from the kinks of their rate maps, the smallest, in units of `reset_amount`."""
    drive = torch.stack(list(rates.currents.values())) / reset_amount
    return float(torch.minimum(drive.abs(), (drive - 1).abs()).min())


def distance(left: Params, right: Params) -> float:
    """Between all gradients together, relative to the size of the second."""
    assert left.keys() == right.keys()
    apart, size = (torch.cat([g.flatten() for g in gs]) for gs in ([left[k] - right[k] for k in left], right.values()))
    return float(apart.norm() / size.norm())


def order(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Slope of the regression of log error on log steps."""
    points = torch.tensor([steps, errors], dtype=torch.float64).log()
    across, up = points - points.mean(1, keepdim=True)
    return float((across * up).sum() / across.square().sum())
