"""What a scan keeps, and how it answers wrong use."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.kernels.lif import lif_scan
from spikewright.kernels.trace import trace_scan
from spikewright.metrics import SavedBytes
from spikewright.surrogate import Sigmoid
from tests.kernels.support import DEFAULTS, draw, needs_kernels, run
from tests.kernels.test_lif import OPTIONS

pytestmark = needs_kernels


def test_the_potential_is_kept_only_where_asked_for() -> None:
    x = draw(4, 2, 5)
    for keep in (True, False):
        _, potential, _ = torch.ops.spikewright.lif(x, None, None, 0.5, 1.0, 1.0, True, keep)
        assert potential.numel() == (x.numel() if keep else 0)


class Calls(TorchDispatchMode):
    """Notes which scans are told to keep the potential, and which to run again."""

    def __init__(self) -> None:
        super().__init__()
        self.keep: list[bool] = []
        self.again: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.spikewright.lif.default:
            self.keep.append(args[-1])
        if func is torch.ops.spikewright.lif_backward.default:
            self.again.append(args[1])
        return func(*args, **(kwargs or {}))


class Mine(Sigmoid):
    """A surrogate that the kernels do not know."""


@pytest.mark.parametrize(
    "steps, options, keep",
    [
        (1, {}, False),
        (4, {}, False),
        (4, {"membrane": draw(2, 5)}, False),
        (3, {"membrane": draw(2, 5)}, True),
        (4, {"surrogate": Mine()}, True),
        (4, {"leak": draw(5, low=0.2, high=1.0)}, True),
    ],
    ids=str,
)
def test_the_potential_is_kept_where_the_current_is_not_enough(steps: int, options: dict[str, Any], keep: bool) -> None:
    with Calls() as calls:
        run(lif_scan, draw(steps, 2, 5), **options)
    assert (calls.keep, calls.again) == ([keep], [not keep])


def test_nothing_is_kept_where_there_is_no_way_back() -> None:
    x = draw(4, 2, 5)
    options = DEFAULTS | {"surrogate": Mine()}
    with Calls() as calls:
        lif_scan(x, None, **options)
        with torch.no_grad():
            lif_scan(x.clone().requires_grad_(), None, **options)
    assert calls.keep == [False, False]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_one_tensor_is_kept_for_the_way_back(options: dict[str, Any]) -> None:
    """`[time, batch, feature]`, the current itself; nothing if no gradient is wanted."""
    x = draw(16, 3, 40).requires_grad_()
    with SavedBytes() as saved:
        kept = lif_scan(x, None, **(DEFAULTS | options))
        x.square()  # keeps its operand: the same tensor, which counts once
    assert saved.alive == x.numel() * x.itemsize
    del kept
    with SavedBytes() as saved, torch.no_grad():
        lif_scan(x, None, **(DEFAULTS | options))
    with saved:
        lif_scan(x.detach(), None, **(DEFAULTS | options))
    assert saved.peak == 0


def test_no_gradient_mode_fires_the_same() -> None:
    x, before = draw(5, 3, 1025), draw(3, 1025, seed=1)
    with torch.no_grad():
        spikes, membrane = lif_scan(x, before, **DEFAULTS)
    found = run(lif_scan, x, before)
    assert not spikes.requires_grad and not membrane.requires_grad
    assert torch.equal(spikes, found.spikes) and torch.equal(membrane, found.membrane)


def test_operands_that_do_not_fit_raise() -> None:
    """A kernel that believed them would read beyond their end."""
    x = draw(3, 4, 6)
    for shape in [(4, 5), (3, 6), (4, 12), (2, 4, 6), (5,), (0,)]:
        with pytest.raises(RuntimeError, match=r"size|expand"):
            lif_scan(x, torch.zeros(shape), **DEFAULTS)
        with pytest.raises(RuntimeError, match=r"size|expand"):
            run(lif_scan, x, leak=torch.zeros(shape))
        with pytest.raises(RuntimeError, match=r"size|expand"):
            trace_scan(x, torch.zeros(shape), 0.5)


ROOT = Path(__file__).parents[2]
EMPTY = """
import torch
from spikewright.kernels.trace import trace_scan
traces, trace = trace_scan(torch.zeros(3, 0, 5), None, 0.5)
assert traces.shape == (3, 0, 5) and trace.shape == (0, 5)
"""


@pytest.mark.long
def test_an_empty_batch_is_no_crash() -> None:
    """In a process of its own, because a crash would take the other tests along."""
    ran = subprocess.run([sys.executable, "-c", EMPTY], cwd=ROOT, capture_output=True, text=True)
    if "Error" in ran.stderr:
        raise RuntimeError(ran.stderr)
    assert ran.returncode == 0
