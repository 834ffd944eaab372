"""Compiled scans refuse operands on several devices, whose memory they would read by its address."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.errors import ShapeError
from spikewright.kernels import native, operators
from spikewright.kernels.lif import lif_scan
from spikewright.kernels.rate import accumulate
from spikewright.kernels.trace import trace_scan
from spikewright.surrogate import Sigmoid
from tests.kernels.test_current import alpha_scan

X, ELSEWHERE = torch.rand(3, 2, 4, dtype=torch.float32), torch.zeros(2, 4, dtype=torch.float32, device="meta")
HERE = torch.zeros(2, 4, dtype=torch.float32)


def lif(x: Tensor, membrane: Tensor | None, leak: float | Tensor = 0.5) -> object:
    given = {"threshold": 1.0, "reset": "subtract", "detach_reset": True, "through_time": True}
    return lif_scan(x, membrane, leak=leak, surrogate=Sigmoid(4.0), **given)  # type: ignore[arg-type]


def alpha(current: Tensor, membrane: Tensor) -> object:
    given = {"tau": 2.0, "threshold": 1.0, "reset": "subtract", "detach_reset": True, "through_time": True}
    return alpha_scan(X, current, membrane, surrogate=Sigmoid(4.0), **given)  # type: ignore[arg-type]


OPS = torch.ops.spikewright
CALLS: dict[str, Callable[[], object]] = {
    "lif": lambda: lif(X, ELSEWHERE),
    "lif, half": lambda: lif(X.half(), ELSEWHERE),
    "lif, leaks": lambda: lif(X, None, ELSEWHERE[0]),
    "trace": lambda: trace_scan(X, ELSEWHERE, 0.5),
    "rate": lambda: accumulate(X, ELSEWHERE, 0.5),
    "alpha": lambda: alpha(ELSEWHERE, HERE),
    "alpha, membrane": lambda: alpha(HERE, ELSEWHERE),
    "operator lif": lambda: OPS.lif(X, ELSEWHERE, None, 0.5, 1.0, 1.0, True, False),
    "operator trace": lambda: OPS.trace(X, HERE, ELSEWHERE, 0.5, True),
    "operator neuron": lambda: OPS.neuron(X, [None, ELSEWHERE, None], [None] * 9, [0.5] * 9, 8, 0, 1.0, 0),
    "operator neuron, constants": lambda: OPS.neuron(X, [None] * 3, [ELSEWHERE] * 9, [0.5] * 9, 8, 0, 1.0, 0),
    "operator lif, back": lambda: OPS.lif_backward(
        *(X, False, None, ELSEWHERE, None, None, None, 0.5, 1.0, 1.0, True, True, True, 1, 4.0, 1.0)
    ),
}


@pytest.mark.skipif(not operators.fused(X), reason="there are no compiled kernels")
@pytest.mark.parametrize("name", CALLS)
def test_operands_on_two_devices(name: str) -> None:
    with pytest.raises(ShapeError, match=r"computes on cpu, but one of its operands, \[.*4\], is on meta"):
        CALLS[name]()


@pytest.mark.skipif(not operators.fused(X), reason="there are no compiled kernels")
def test_any_kernel() -> None:
    with pytest.raises(ShapeError, match="The scan 'trace' computes on cpu"):
        native.invoke("trace", torch.float32, 3, 8, X, False, ELSEWHERE, None, 0.5, X, HERE)
