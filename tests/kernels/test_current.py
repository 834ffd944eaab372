"""The fused scan of neurons with a synaptic current against its naive twin: layouts, precisions, threads, memory."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright import LIF, AlphaLIF
from spikewright.kernels import native
from spikewright.kernels.equations import Equations
from spikewright.kernels.neuron import neuron_scan
from spikewright.kernels.neuron_naive import neuron_naive
from spikewright.metrics import SavedBytes
from spikewright.surrogate import BUILT_IN, Sigmoid, Surrogate
from tests.kernels.support import assert_close, assert_identical, draw, needs_kernels, threads
from tests.kernels.test_lif import OPTIONS, every_option, every_precision
from tests.kernels.test_lif_layouts import LAYOUTS, expansions

pytestmark = needs_kernels

DEFAULTS: dict[str, Any] = {
    "tau": 3.0,
    "threshold": 1.5,
    "reset": "zero",
    "detach_reset": False,
    "surrogate": Sigmoid(4.0),
    "through_time": True,
}
OPERANDS = OUTPUTS = ("x", "current", "membrane")
Scanned = tuple[Tensor, Tensor, Tensor]
Ran = tuple[Scanned, dict[str, Tensor]]


def scan_by(function: Any, x: Tensor, current: Tensor | None, membrane: Tensor | None, **options: Any) -> Scanned:
    tau, threshold, through_time = (options.pop(name) for name in ("tau", "threshold", "through_time"))
    rho, current_options = math.exp(-1 / tau), {"has_current": True, "gain": math.e / tau}
    equations = Equations(rho, threshold, threshold, current_leak=rho, **current_options, **options)
    spikes, _, current, membrane, _ = function(x, (current, membrane, None), equations, through_time)
    assert current is not None and membrane is not None
    return spikes, current, membrane


def alpha_scan(x: Tensor, *carried: Tensor | None, **options: Any) -> Scanned:
    return scan_by(neuron_scan, x, *carried, **options)  # type: ignore[arg-type]


def alpha_naive(x: Tensor, *carried: Tensor | None, **options: Any) -> Scanned:
    return scan_by(neuron_naive, x, *carried, **options)  # type: ignore[arg-type]


class Bell(Surrogate):
    """A surrogate that the kernels do not know."""

    def slope(self, x: Tensor) -> Tensor:
        return torch.exp(-x.square())


class Smooth(Sigmoid):
    """A surrogate with a step of its own."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * x)


def state(x: Tensor) -> tuple[Tensor, Tensor]:
    current, membrane = (draw(*x.shape[1:], dtype=x.dtype, seed=seed) for seed in (1, 2))
    return current, membrane


def run(
    scan: Any,
    x: Tensor,
    *carried: Tensor | None,
    arriving: tuple[bool, ...] = (True, True, True),
    wanted: tuple[str, ...] = OPERANDS,
    layout: Any = lambda grad: grad,
    **options: Any,
) -> Ran:
    """Run a scan forwards and back; `arriving` says at which outputs gradients arrive."""
    given = dict(zip(OPERANDS, (x, *carried, None, None)))
    leaves = {k: v.detach().requires_grad_() for k, v in given.items() if v is not None and k in wanted}
    outputs = scan(*(leaves.get(name, value) for name, value in given.items()), **(DEFAULTS | options))
    pairs = [
        (y, layout(draw(*y.shape, dtype=y.dtype, low=-1, high=1, seed=9)))
        for y, here in zip(outputs, arriving)
        if here and y.requires_grad
    ]
    if not pairs:
        return outputs, {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    grads = torch.autograd.grad(
        [y for y, _ in pairs], list(leaves.values()), [grad for _, grad in pairs], allow_unused=True
    )
    filled = (torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves.values(), grads))
    return outputs, dict(zip(leaves, filled))


def assert_twins(x: Tensor, *carried: Tensor | None, case: object = "", **options: Any) -> Ran:
    """Hold `alpha_scan` to `alpha_naive`; return what the fused scan gave.

    Gradients agree in float32 to 8 + T/2 units in the last place of the largest one, in float64 to 1e-12 too.
    """
    (expected, expected_grads), (found, grads) = (run(f, x, *carried, **options) for f in (alpha_naive, alpha_scan))
    for name, got, twin in zip(OUTPUTS, found, expected, strict=True):
        assert_identical(got, twin, f"{name}, {case}")
        assert got.requires_grad == twin.requires_grad, f"{name}, {case}"
    assert grads.keys() == expected_grads.keys()
    size = max(1.0, *(float(grad.abs().max()) for grad in expected_grads.values()))
    for name, grad in expected_grads.items():
        assert_close(grads[name], grad, 2 * len(x), size, f"gradient of {name}, {case}")
        if grad.dtype == torch.float64:
            torch.testing.assert_close(grads[name], grad, rtol=1e-12, atol=1e-12 * size)
    return found, grads


@every_precision
@every_option
def test_odd_sizes(options: dict[str, Any], dtype: torch.dtype) -> None:
    """One step, one neuron, 63 features, and widths around the 512 neurons that the kernel takes at a time."""
    sizes = [(1, 1, 1), (1, 1, 63), (9, 1, 1), (2, 3, 63), (4, 1, 511), (4, 1, 512), (4, 1, 513), (4, 1, 2049)]
    for size in [*sizes, (5,), (4, 3), (1, 3, 341), (2, 3, 7, 5, 3), (33, 2, 3)]:
        x = draw(*size, dtype=dtype)
        current, membrane = state(x)
        for carried in ((), (current, membrane), (current, None), (None, membrane)):
            (spikes, *_), grads = assert_twins(x, *carried, case=(size, len(carried)), **options)
        assert x.numel() < 60 or (0.05 < spikes.mean() < 0.95 and all(grad.any() for grad in grads.values()))


@every_precision
@every_option
@pytest.mark.parametrize("steps", [31, 32, 33, 64, 65, 100])
def test_lengths_around_the_32_steps_that_are_run_again_at_a_time(
    steps: int, options: dict[str, Any], dtype: torch.dtype
) -> None:
    x = draw(steps, 1, 67, dtype=dtype)
    assert_twins(x, *state(x), **options)
    assert_twins(x[:1].expand(x.shape), *state(x), case="one step repeated", **options)


@every_option
def test_gradients_may_arrive_anywhere_and_be_wanted_of_anything(options: dict[str, Any]) -> None:
    for steps in (2, 4):  # potentials are kept, and found again
        x = draw(steps, 3, 5)
        for arriving in product((True, False), repeat=3):
            assert_twins(x, *state(x), arriving=arriving, case=arriving, **options)
        for wanted in (("x",), ("current",), ("membrane",), ("x", "membrane")):
            _, grads = assert_twins(x, *state(x), wanted=wanted, case=wanted, **options)
            assert all(grad.any() for grad in grads.values())


@pytest.mark.parametrize(
    "surrogate",
    [*(kind(0.8, 1.3) for kind in BUILT_IN), Bell(), Smooth()],  # type: ignore[call-arg]
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@every_precision
def test_every_surrogate(surrogate: Surrogate, reset: str, dtype: torch.dtype) -> None:
    for size in ((4, 1, 1025), (9, 3, 5)):
        x = draw(*size, dtype=dtype)
        assert_twins(x, *state(x), surrogate=surrogate, reset=reset)


def test_every_layout() -> None:
    x = draw(4, 2, 5, 4, 3)
    inputs = {name: layout(x) for name, layout in LAYOUTS.items()} | expansions()
    for name, given in inputs.items():
        assert_twins(given, *state(given), case=name)
    for name, layout in LAYOUTS.items():
        carried = [layout(value.unsqueeze(0)).flatten(0, 1)[-2:] for value in state(x)]
        assert_twins(LAYOUTS["channels last"](x), *carried, case=f"state {name}")
        assert_twins(x, layout=lambda g, lay=layout: lay(g) if g.dim() == 5 else g, case=f"gradient {name}")
    for given in (x, LAYOUTS["channels last"](x)):
        (spikes, current, membrane), grads = run(alpha_scan, given)
        assert spikes.stride() == grads["x"].stride() == given.stride()
        assert current.stride() == membrane.stride() == given[0].stride()


@every_option
def test_the_number_of_threads_changes_no_bit(options: dict[str, Any]) -> None:
    for size in [(17, 1, 1025), (9, 1, 4099), (41, 1, 401)]:
        x = draw(*size)
        one = run(alpha_scan, x, *state(x), **options)
        with threads(2):
            two = run(alpha_scan, x, *state(x), **options)
        for got, expected in zip((*two[0], *two[1].values()), (*one[0], *one[1].values()), strict=True):
            assert_identical(got, expected, size)


def test_a_sequence_in_pieces_is_the_whole() -> None:
    """The gradient crosses the seam through current and membrane."""
    x = draw(7, 2, 1025)

    def in_pieces(x: Tensor, *carried: Tensor, **options: Any) -> Scanned:
        spikes = []
        for piece in x.split([3, 1, 3]):
            fired, *carried = alpha_scan(piece, *carried, **options)  # type: ignore[assignment]
            spikes.append(fired)
        return torch.cat(spikes), *carried  # type: ignore[return-value]

    for options in (options for options in OPTIONS if options["through_time"]):
        whole, pieces = (run(scan, x, *state(x), **options) for scan in (alpha_scan, in_pieces))
        for got, expected in zip((*pieces[0], *pieces[1].values()), (*whole[0], *whole[1].values()), strict=True):
            assert_identical(got, expected, options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scanned_in_float32(dtype: torch.dtype) -> None:
    x = draw(6, 2, 33).to(dtype)

    def in_float32(x: Tensor, *carried: Tensor | None, **options: Any) -> Scanned:
        spikes, *after = alpha_naive(x.float(), *carried, **options)  # type: ignore[misc]
        return spikes.to(x.dtype), *after  # type: ignore[return-value]

    (found, grads), (expected, expected_grads) = (run(scan, x) for scan in (alpha_scan, in_float32))
    assert [y.dtype for y in found] == [dtype, torch.float32, torch.float32]
    for got, twin in zip(found, expected, strict=True):
        assert_identical(got, twin)
    torch.testing.assert_close(grads["x"], expected_grads["x"], rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_more_is_kept_than_for_lif(options: dict[str, Any]) -> None:
    """The input alone; nothing if no gradient is wanted."""
    kept = []
    for neuron in (LIF(**_settings(options)), AlphaLIF(**_settings(options))):
        x = draw(16, 3, 40).requires_grad_()
        with SavedBytes() as saved:
            outputs = neuron.scan(x, {}, options["through_time"])
        kept.append(saved.alive)
        del outputs
        with SavedBytes() as saved, torch.no_grad():
            neuron.scan(x, {}, True)
        assert saved.peak == 0
    assert kept == [16 * 3 * 40 * 4] * 2


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("reset", "detach_reset")}


def test_without_a_gradient_it_fires_the_same() -> None:
    x = draw(5, 3, 1025)
    with torch.no_grad():
        outputs = alpha_scan(x, *state(x), **DEFAULTS)
    for got, expected in zip(outputs, run(alpha_scan, x, *state(x))[0], strict=True):
        assert not got.requires_grad and torch.equal(got, expected)


def test_without_kernels_the_results_are_the_naive_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEWRIGHT_NATIVE", "0")
    monkeypatch.setattr(native, "_KERNELS", None)
    x = draw(4, 2, 9)
    found, expected = (run(scan, x, *state(x)) for scan in (alpha_scan, alpha_naive))
    for got, twin in zip((*found[0], *found[1].values()), (*expected[0], *expected[1].values()), strict=True):
        assert_identical(got, twin)


def test_operands_that_do_not_fit_raise() -> None:
    x = draw(3, 4, 6)
    for shape in [(4, 5), (3, 6), (2, 4, 6), (0,)]:
        for carried in ((torch.zeros(shape), None), (None, torch.zeros(shape))):
            with pytest.raises(RuntimeError, match=r"size|expand"):
                alpha_scan(x, *carried, **DEFAULTS)
