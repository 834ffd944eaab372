"""The kernels for neurons in general against the step-by-step scan: every kind and switch, all that may be absent."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import spikewright as sw
from spikewright.kernels import gpu, native, neuron_operators
from spikewright.kernels import neuron as scans
from spikewright.kernels.equations import CONSTANTS, Emits, Equations
from spikewright.kernels.neuron import neuron_scan
from spikewright.kernels.neuron_naive import neuron_naive
from spikewright.surrogate import BUILT_IN, Surrogate, Triangle
from tests.kernels.support import needs_kernels
from tests.kernels.test_neuron import ADAPTIVE, CURRENT, KINDS, PLAIN, SWITCHES, Own, assert_equal, outcome, quarters
from tests.kernels_gpu.support import DEVICE, draw, every_dtype, wide

pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # numpy, interpreting
PATHS: list[tuple[bool, Emits]] = list(
    itertools.product((True, False), ("nothing", "before reset", "after reset"))  # type: ignore[arg-type]
)
CASES = [
    (kind, switches, *PATHS[i % len(PATHS)]) for i, (kind, switches) in enumerate(itertools.product(KINDS, SWITCHES))
]
FULL = replace(PLAIN, **CURRENT, **ADAPTIVE, moving_reset=True, gain=0.9, lower_bound=-0.25)
COUNTING = replace(FULL, max_spikes=math.inf)
Scanned = tuple[list[Tensor | None], list[Tensor | None]]


@pytest.fixture(autouse=True)
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have operators call the kernels for GPUs on any device, and fill what is allocated with NaN."""
    if DEVICE == "cpu":
        monkeypatch.setattr(neuron_operators, "kernels", lambda x: gpu)
        monkeypatch.setattr(scans, "fused", lambda x: True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def assert_twins(found: Scanned, expected: Scanned, tolerance: float, case: object = "") -> None:
    """Outputs equal to the bit, gradients up to roundings."""
    for one, other in zip(found[0], expected[0], strict=True):
        assert (one is None) == (other is None), case
        assert one is None or other is None or torch.equal(one, other), case
    assert_equal(found[1], expected[1], tolerance)


def scanned(scan: Any, x: Tensor, states: Any, equations: Equations, at: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Scanned:
    """Return outputs, and the gradients of all that is a tensor when one arrives at the outputs numbered in `at`."""
    constants = {name: c for name in CONSTANTS if isinstance(c := getattr(equations, name), Tensor)}
    leaves = [v.detach().clone(memory_format=torch.preserve_format).requires_grad_() for v in constants.values()]
    before = [None if v is None else v.detach().clone().requires_grad_() for v in states]
    step = x.detach().requires_grad_()
    outputs = scan(step, tuple(before), replace(equations, **dict(zip(constants, leaves))), True, "before reset")
    arriving = [(y, draw(*y.shape, dtype=y.dtype, low=-1, seed=i)) for i, y in enumerate(outputs) if y is not None]
    arriving = [pair for i, pair in enumerate(arriving) if i in at]
    every = [step, *(v for v in before if v is not None), *leaves]
    reached, gradients = zip(*(pair for pair in arriving if pair[0].requires_grad))
    return list(outputs), list(torch.autograd.grad(reached, every, gradients, allow_unused=True))


def naive(x: Tensor, carried: Any, *options: Any) -> Any:
    """Run the step-by-step scan in the precision in which the fused ones compute."""
    spikes, emitted, *after = neuron_naive(x.to(wide(x.dtype)), carried, *options)
    return spikes.to(x.dtype), None if emitted is None else emitted.to(x.dtype), *after


def states_of(x: Tensor) -> list[Tensor]:
    return [draw(*x.shape[1:], dtype=wide(x.dtype), low=0.0, high=0.6, seed=i) for i in (5, 6, 7)]


def channels(equations: Equations, width: int, dtype: torch.dtype, names: Any = CONSTANTS) -> Equations:
    """Return equations with one constant per channel, close to those given."""
    spread = draw(width, dtype=dtype, low=0.9, high=1.1, seed=3)
    return replace(equations, **{name: getattr(equations, name) * spread for name in names})


@pytest.mark.parametrize(("kind", "switches", "through_time", "emits"), CASES, ids=str)
def test_every_kind_with_every_switch(kind: Any, switches: Any, through_time: bool, emits: Emits) -> None:
    equations = replace(PLAIN, **kind, **switches)
    if equations.counts and (equations.reset == "zero" or equations.strict):
        equations = replace(equations, detach_reset=True, strict=False)
    x = quarters(4, 2, 5).to(DEVICE)
    found, expected = (outcome(scan, x, equations, through_time, emits) for scan in (neuron_scan, neuron_naive))
    assert found[0][0].max() > 0 and found[0][0].min() == 0
    assert_twins(found, expected, 1e-10)


@pytest.mark.parametrize(("through_time", "emits"), PATHS)
@pytest.mark.parametrize("equations", [FULL, COUNTING, replace(FULL, strict=True, reset="zero")], ids=["", "n", "zero"])
def test_every_path(equations: Equations, through_time: bool, emits: Emits) -> None:
    x = draw(5, 2, 67)  # two programs, of which one is not full
    found, expected = (outcome(scan, x, equations, through_time, emits) for scan in (neuron_scan, neuron_naive))
    assert_twins(found, expected, 1e-4)


@every_dtype
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("at_rest", [True, False])
def test_every_precision(at_rest: bool, per_channel: bool, dtype: torch.dtype) -> None:
    x = draw(4, 3, 45, dtype=dtype, low=-1, high=3)
    before = [None] * 3 if at_rest else states_of(x)
    for equations in (FULL, COUNTING):
        given = channels(equations, 45, wide(dtype)) if per_channel else equations
        found, expected = (scanned(scan, x, before, given) for scan in (neuron_scan, naive))
        assert found[0][0].dtype == found[1][0].dtype == dtype  # type: ignore[union-attr]
        for some in (slice(0, 1), slice(1, None)):  # the gradient of the input has its precision
            tolerance = 200 * torch.finfo(dtype if dtype.itemsize == 2 else wide(dtype)).eps
            assert_twins((found[0], found[1][some]), (expected[0], expected[1][some]), tolerance)


@pytest.mark.parametrize("names", [*((name,) for name in CONSTANTS), ("leak", "current_gain")], ids=str)
def test_a_constant_alone(names: tuple[str, ...]) -> None:
    x = draw(4, 2, 5, dtype=torch.float64, low=-1.5, high=2)  # also below the lower bound
    given = channels(FULL, 5, torch.float64, names)
    found, expected = (scanned(scan, x, states_of(x), given) for scan in (neuron_scan, neuron_naive))
    assert all(grad is not None and grad.any() for grad in found[1][4:])
    assert_twins(found, expected, 1e-12)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_that_the_neuron_has_no_use_for(name: str) -> None:
    x = draw(4, 2, 5, dtype=torch.float64)
    given = channels(PLAIN, 5, torch.float64, [name] if name != "lower_bound" else [])
    found, expected = (scanned(scan, x, [None] * 3, given) for scan in (neuron_scan, neuron_naive))
    assert_twins(found, expected, 1e-12)


@pytest.mark.parametrize("at", [(0,), (1,), (2,), (3,), (4,)])
def test_a_gradient_that_arrives_at_one_output_alone(at: tuple[int, ...]) -> None:
    x = draw(4, 2, 5, dtype=torch.float64)
    given = channels(FULL, 5, torch.float64)
    found, expected = (scanned(scan, x, states_of(x), given, at) for scan in (neuron_scan, neuron_naive))
    assert_twins(found, expected, 1e-12)


@pytest.mark.parametrize("surrogate", [*(kind(0.8, 1.3) for kind in BUILT_IN), Own()], ids=lambda s: type(s).__name__)  # type: ignore[call-arg]
def test_every_surrogate(surrogate: Surrogate) -> None:
    x = draw(4, 2, 5, dtype=torch.float64)
    given = replace(FULL, surrogate=surrogate)
    found, expected = (scanned(scan, x, states_of(x), given) for scan in (neuron_scan, neuron_naive))
    assert_twins(found, expected, 1e-12)


@pytest.mark.parametrize("kind", [{}, CURRENT, ADAPTIVE], ids=str)
def test_a_neuron_that_never_fires(kind: Any) -> None:
    x = draw(4, 2, 5, dtype=torch.float64, high=100)
    given = channels(replace(PLAIN, **kind, threshold=math.inf), 5, torch.float64, ["leak", "gain"])
    found, expected = (scanned(scan, x, states_of(x), given) for scan in (neuron_scan, neuron_naive))
    assert not found[0][0].any()  # type: ignore[union-attr]
    assert_twins(found, expected, 1e-12)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [1.0, 0.0, -0.5, math.inf, [1, 0.3, math.inf, 0, -1, 1, 3, 0.1, 1]], ids=str)
def test_what_is_not_finite_is_treated_as_on_a_cpu(threshold: Any, dtype: torch.dtype) -> None:
    ends = [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40, -0.0, 0.9, 7.7]
    x = torch.tensor([[[a, b] for a in ends] for b in ends], dtype=dtype).transpose(1, 2).contiguous()
    each = torch.tensor(threshold, dtype=dtype).expand(2, 9).contiguous() if isinstance(threshold, list) else None
    numbers = [1.0, 0.6, 1.1, 0.8, 0.0 if isinstance(threshold, list) else threshold, 1.0, -2.0, 0.9, 0.3]
    for kind, strict, emits in itertools.product((0, 3, 8, 11, 12, 15), (0, 1), (1, 2, 3)):
        options = (numbers, kind, strict + 14, 3.0 if strict else math.inf, emits)

        def run(device: str, options: Any = options) -> Any:
            there = None if each is None else each.to(device)
            arrays = [there if name == "threshold" else None for name in CONSTANTS]
            return torch.ops.spikewright.neuron(x.to(device), [None] * 3, arrays, *options)

        found = run(DEVICE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(neuron_operators, "kernels", lambda x: native)
            expected = run("cpu")
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=0, atol=0, equal_nan=True)


def test_a_repeated_step_is_read_again_and_again() -> None:
    x = draw(1, 2, 67, dtype=torch.float64)
    for given in (channels(FULL, 67, torch.float64), PLAIN):
        found, copied = (scanned(neuron_scan, y, states_of(x), given) for y in (x.expand(5, 2, 67), x.repeat(5, 1, 1)))
        assert found[0][0].any()  # type: ignore[union-attr]
        assert all(torch.equal(*pair) for pair in zip(found[0], copied[0]) if pair[0] is not None)  # type: ignore[arg-type]
        assert_equal(found[1], copied[1], 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 128), (2, 129), (5,), (3, 0), (3, 2, 3, 5, 7)], ids=str)
def test_odd_sizes(shape: tuple[int, ...]) -> None:
    x = draw(*shape, dtype=torch.float64)
    found, expected = (scanned(scan, x, states_of(x), FULL) for scan in (neuron_scan, neuron_naive))
    assert_twins(found, expected, 1e-12)


@pytest.mark.parametrize(
    "neuron",
    [
        sw.CUBALIF(tau=2.0, tau_syn=3.0),
        sw.ALIF(tau=2.0, detach_reset=False),
        sw.LI(tau=2.0, tau_syn=2.0),
        sw.LIF(tau=2.0, max_spikes=None, surrogate=Triangle()),
        sw.LIF(tau=2.0, strict=True, lower_bound=-0.1, learn_threshold=True),
    ],
    ids=str,
)
def test_layers_train(neuron: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 9), neuron, torch.nn.Linear(9, 2)).double().to(DEVICE))
    results: list[list[Tensor]] = []
    asked: list[bool] = []
    for is_fused in (True, False):
        monkeypatch.setattr(scans, "fused", lambda x, is_fused=is_fused: asked.append(is_fused) or is_fused)
        output, _ = net.run(draw(6, 3, 4, dtype=torch.float64, high=4))
        results.append([output, *torch.autograd.grad(output.square().sum(), list(net.parameters()))])
    assert set(asked) == {True, False}
    found, expected = results
    assert found[1].any()
    assert_equal(found, expected, 1e-12)
