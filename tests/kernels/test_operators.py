"""The operators before the dispatcher and `torch.compile`: schemas, shapes without data, one graph."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels import operators
from spikewright.kernels.lif import lif_scan
from spikewright.surrogate import BUILT_IN
from tests.kernels.support import DEFAULTS, assert_identical, draw, needs_kernels, run
from tests.kernels.test_current import alpha_scan

pytestmark = needs_kernels

X, ONE, LEAKS = draw(3, 2, 5), draw(2, 5, seed=1), draw(2, 5, low=0.2, high=1.0)
CALLS: dict[str, list[tuple[Any, ...]]] = {
    "lif": [
        (X, ONE, LEAKS, 0.0, 1.0, 0.7, True, True),
        (X[:1].expand(3, 2, 5), None, None, 0.5, 1.0, 1.0, True, True),
        (X, None, None, 0.5, 1.0, 1.0, False, False),
    ],
    "lif_backward": [
        (X, True, ONE, X, ONE, None, LEAKS, 0.0, 1.0, 0.7, True, False, True, 1, 4.0, 0.3),
        (X[:1].expand(3, 2, 5), True, None, X, None, None, None, 0.5, 1.0, 1.0, True, True, True, 2, 2.0, 1.0),
        (X, False, None, X, None, None, None, 0.5, 1.0, 1.0, False, True, True, 3, 1.0, 1.0),
        (X, False, None, None, ONE, X, None, 0.5, 1.0, 1.0, True, True, False, 0, 0.0, 1.0),
    ],
    "neuron": [
        (X, [ONE, ONE, ONE], [LEAKS] * 9, [0.0] * 9, 15, 1, 2.0, 1),
        (X[:1].expand(3, 2, 5), [None, ONE, None], [None] * 9, [0.7] * 9, 8, 0, 1.0, 2),
        (X, [None] * 3, [None, None, None, LEAKS] + [None] * 5, [0.7] * 9, 0, 0, 1.0, 0),
    ],
    "neuron_backward": [
        *[(X, [ONE] * 3, [LEAKS] * 9, [0.0] * 9, 15, 13, 2.0, 1, X, X, [ONE] * 3, None, 1, 4.0, 0.3, [True] * 9)],
        *[(X, [None] * 3, [None] * 9, [0.7] * 9, 8, 8, 1.0, 0, X, None, [None] * 3, X, 0, 0.0, 1.0, [False] * 9)],
    ],
    "trace": [(X, ONE, LEAKS, 0.0, True), (X[:1].expand(3, 2, 5), None, None, 0.5, True), (X, None, None, 0.5, False)],
}


def cast(value: Any, precision: torch.dtype) -> Any:
    return value.to(precision) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("name", CALLS)
def test_schemas_and_shapes(name: str) -> None:
    """What an operator returns has the size that is promised before it runs; what it reads stays as it is."""
    operator = getattr(torch.ops.spikewright, name).default
    for precision in (torch.float32, torch.float64):
        for arguments in CALLS[name]:
            given = tuple(
                [cast(b, precision) for b in a] if isinstance(a, list) else cast(a, precision) for a in arguments
            )
            found = torch.library.opcheck(operator, given, test_utils=("test_schema", "test_faketensor"))
            assert found == {"test_schema": "SUCCESS", "test_faketensor": "SUCCESS"}


def test_only_surrogates_with_their_own_slope_have_a_number() -> None:
    given = {(kind, 0.7, factor) for kind in BUILT_IN for factor in (1.0, 0.3)}
    found = {case: operators.surrogate_number(case[0](*case[1:])) for case in given}  # type: ignore[call-arg]
    assert all(found[case][1:] == case[1:] for case in given)
    assert {number for number, *_ in found.values()} == {*range(1, len(BUILT_IN) + 1)}

    class Mine(operators.Sigmoid):
        pass

    assert operators.surrogate_number(Mine(2.0, 3.0)) == (0, 0.0, 1.0)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
@pytest.mark.long
def test_compiled_scans_are_one_graph_and_the_same_numbers() -> None:
    def scan(current: Tensor, membrane: Tensor | None, **options: Any) -> tuple[Tensor, Tensor]:
        return compiled(current, membrane, **options)

    compiled = torch.compile(lif_scan, fullgraph=True, backend="aot_eager", dynamic=False)
    x, before, leak = draw(3, 2, 5), draw(2, 5, seed=1), draw(5, low=0.2, high=1.0)
    attached: dict[str, Any] = {"leak": leak, "detach_reset": False}
    cut: dict[str, Any] = {"leak": 0.9, "reset": "zero", "through_time": False}
    reset_amount: dict[str, Any] = attached | {"reset_amount": 0.7}
    for options in (attached, reset_amount, cut):
        for membrane in (None, before):
            expected, found = (run(f, x, membrane, **options) for f in (lif_scan, scan))
            assert_identical(found.spikes, expected.spikes)
            assert_identical(found.membrane, expected.membrane)
            assert found.grads.keys() == expected.grads.keys()
            for name, grad in expected.grads.items():
                assert_identical(found.grads[name], grad, f"{name}, {options}")
    alpha: dict[str, Any] = {"tau": 3.0, "threshold": 1.0, "reset": "zero", "detach_reset": False}
    alpha |= {"surrogate": DEFAULTS["surrogate"], "through_time": True}
    both = torch.compile(alpha_scan, fullgraph=True, backend="aot_eager", dynamic=False), alpha_scan
    leaf = x.clone().requires_grad_()
    outputs = [f(leaf, before, None, **alpha) for f in both]
    for got, eager in zip(*outputs, strict=True):
        assert_identical(got, eager)
    (got,), (eager,) = (torch.autograd.grad(sum(y.square().sum() for y in ys), leaf) for ys in outputs)
    assert_identical(got, eager)
    with torch.no_grad():
        for eager, got in zip(lif_scan(x, before, **DEFAULTS), scan(x, before, **DEFAULTS)):
            assert_identical(got, eager)
