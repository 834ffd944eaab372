"""Gradients of a sample that depend on the samples beside it although its outputs do not."""

from collections.abc import Callable

import torch
from torch import Tensor

from spikewright._util.real_numbers import as_real
from spikewright.network.probing.inputs import FIRST, Rows
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.norms import alike
from spikewright.network.probing.recomputation import OtherParameters
from spikewright.network.run import Run
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import Sites

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def coupled(sites: Sites, x: Tensor, other: tuple[Tensor, Rows], begin: Callable[[], object]) -> frozenset[str]:
    """Return the parameters whose gradients of the output of one sample change with the samples beside it.

    A factor of `x.numel()` behind `detach`, and counts or means over rows, do that.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input of the first pass.
        other: Input with the sample in another row, among others, and its rows.
        begin: Puts back the state from which a pass starts.
    """
    others = OtherParameters(sites.module)
    try:
        others.begin()
        named = {name: p for name, p in sites.module.named_parameters() if p.requires_grad}
        first, second = (_gradients(sites, list(named.values()), *given, begin) for given in ((x, FIRST), other))
    except Exception:  # the network cannot be differentiated, which is not checked here
        return frozenset()
    finally:
        others.end()
    largest = max((float(g.abs().max()) for g in first if g is not None and g.numel()), default=0.0)
    differ = (_differ(a, b, largest) for a, b in zip(first, second))
    return frozenset(name for name, other in zip(named, differ) if other)


def _gradients(
    sites: Sites, parameters: list[Tensor], x: Tensor, rows: Rows, begin: Callable[[], object]
) -> list[Tensor | None]:
    begin()
    live = LiveSpikes(None if rows == FIRST else rows)
    with torch.enable_grad():
        options = RunOptions(hooks=live, normalise=alike, count=False, writes_input=True)
        output = Run(sites, options=options).advance(x)
        sample = output[:, rows.places[0]]
        weights = torch.rand(sample.shape, generator=torch.Generator().manual_seed(2)).to(sample)
        value = (weights * sample).sum()
        value = value.real if value.is_complex() else value
        return list(torch.autograd.grad(value, parameters, allow_unused=True))


def _differ(a: Tensor | None, b: Tensor | None, largest: float) -> bool:
    if a is None or b is None:
        return a is not b
    a, b = as_real(a.to_dense()), as_real(b.to_dense())
    rounding = _TOLERANCE.get(a.dtype, 1e-2) * max(float(a.abs().max()) if a.numel() else 0.0, 1e-3 * largest)
    return not torch.allclose(a, b, rtol=0.0, atol=rounding, equal_nan=True)
