"""The neuron scan against its naive twin: every option, odd sizes, every kind of operand."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_scan
from tests.kernels.support import (
    assert_identical,
    assert_twins,
    at_both,
    at_membrane,
    at_spikes,
    draw,
    needs_kernels,
    run,
    threads,
)

pytestmark = needs_kernels

every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
OPTIONS = [
    {"reset": reset, "detach_reset": detached, "through_time": through}
    for reset, detached, through in product(("subtract", "zero"), (True, False), (True, False))
]


def _name(options: dict[str, Any]) -> str:
    marks = {"-attached": not options["detach_reset"], "-cut": not options["through_time"]}
    return options["reset"] + "".join(mark for mark, holds in marks.items() if holds)


every_option = pytest.mark.parametrize("options", OPTIONS, ids=_name)


@every_precision
@every_option
def test_odd_sizes(options: dict[str, Any], dtype: torch.dtype) -> None:
    """One step, one neuron, and widths around the 512 neurons that the kernel takes at a time."""
    sizes = [(1, 1, 1), (1, 1, 63), (9, 1, 1), (2, 3, 63), (4, 1, 511), (4, 1, 512), (4, 1, 513), (4, 1, 2049)]
    for size in [*sizes, (5,), (4, 3), (1, 3, 341), (2, 3, 7, 5, 3), (33, 2, 3)]:
        assert_twins(draw(*size, dtype=dtype), draw(*size[1:], dtype=dtype, seed=1), case=size, leak=0.9, **options)
        assert_twins(draw(*size, dtype=dtype), case=(*size, "from rest"), leak=0.9, **options)


@every_precision
@every_option
@pytest.mark.parametrize("steps", [31, 32, 33, 64, 65, 100])
def test_lengths_around_the_32_steps_that_are_run_again_at_a_time(
    steps: int, options: dict[str, Any], dtype: torch.dtype
) -> None:
    x, before = draw(steps, 1, 67, dtype=dtype), draw(1, 67, dtype=dtype, seed=1)
    leak = draw(67, dtype=dtype, low=0.2, high=1.0)
    assert_twins(x, before, leak=0.9, **options)
    assert_twins(x, leak=leak, fixed=("leak",), case="a leak each", **options)
    assert_twins(x[:1].expand(x.shape), before, leak=0.9, case="one step repeated", **options)


def leaks(*shape: int, dtype: torch.dtype) -> dict[str, float | Tensor]:
    """Return every kind of leak for `[batch, channel, *rest]`; what may be learned is, unless a test fixes it."""
    _, channels, *rest = shape
    sizes = {"one, of no axis": (), "one": (1,), "channel": (channels, *[1] * len(rest)), "sample": (shape[0], 1, 1)}
    sizes |= {"feature": (channels, *rest), "neuron": shape}
    learned = {name: draw(*size, dtype=dtype, low=0.2, high=1.0, seed=3) for name, size in sizes.items()}
    return learned | {"number": 0.7, "none": 1.0, "all": 0.0}


@every_precision
@every_option
def test_every_kind_of_operand(options: dict[str, Any], dtype: torch.dtype) -> None:
    x, before = draw(4, 3, 5, 2, dtype=dtype), draw(3, 5, 2, dtype=dtype, seed=1)
    for kind, leak in leaks(3, 5, 2, dtype=dtype).items():
        for membrane, (threshold, reset_amount) in product((None, before), ((1.0, None), (0.75, None), (0.75, 0.5))):
            for arriving in (at_both, at_spikes, at_membrane):
                rest = "rest" if membrane is None else "membrane"
                case = f"leak {kind}, {rest}, {threshold}, {reset_amount}, {arriving.__name__}"
                given = {
                    "leak": leak,
                    "threshold": threshold,
                    "reset_amount": reset_amount,
                    "arriving": arriving,
                    **options,
                }
                assert_twins(x, membrane, case=case, **given)


@every_option
def test_any_operand_may_go_without_a_gradient(options: dict[str, Any]) -> None:
    x, before, leak = draw(4, 3, 5), draw(3, 5, seed=1), draw(5, low=0.2, high=1.0)
    names = ("current", "membrane", "leak")
    for wanted in [{"current"}, {"membrane"}, {"leak"}, {"current", "leak"}, {"membrane", "leak"}]:
        fixed = tuple(name for name in names if name not in wanted)
        found = assert_twins(x, before, leak=leak, fixed=fixed, case=wanted, **options)
        assert found.grads.keys() == wanted and all(g.any() for g in found.grads.values())


@every_precision
@every_option
def test_the_number_of_threads_changes_no_bit(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Widths of which two threads get unequal shares, and one that is too small to be shared."""
    for size in [(17, 1, 1023), (17, 1, 1024), (17, 1, 1025), (9, 1, 2049), (9, 1, 4099), (41, 1, 401), (2, 1, 1025)]:
        x, before = draw(*size, dtype=dtype), draw(*size[1:], dtype=dtype, seed=1)
        leak = draw(*size[1:], dtype=dtype, low=0.2, high=1.0, seed=2)
        one = assert_twins(x, before, leak=leak, case=(*size, "one thread"), **options)
        with threads(2):
            two = run(lif_scan, x, before, leak=leak, **options)
        assert_identical(two.spikes, one.spikes, size)
        assert_identical(two.membrane, one.membrane, size)
        for name, grad in one.grads.items():
            assert_identical(two.grads[name], grad, f"{name}, {size}")


def test_a_sequence_in_pieces_is_the_whole() -> None:
    """The gradient crosses the seam through the membrane."""
    x, before = draw(7, 2, 1025), draw(2, 1025, seed=1)

    def in_pieces(current: Tensor, membrane: Tensor | None, **options: Any) -> tuple[Tensor, Tensor]:
        spikes = []
        for piece in current.split([3, 1, 3]):
            fired, membrane = lif_scan(piece, membrane, **options)
            spikes.append(fired)
        assert membrane is not None
        return torch.cat(spikes), membrane

    for options in OPTIONS:
        if options["through_time"]:
            whole, pieces = (run(scan, x, before, leak=0.9, **options) for scan in (lif_scan, in_pieces))
            assert_identical(pieces.spikes, whole.spikes, options)
            assert_identical(pieces.membrane, whole.membrane, options)
            for name, grad in whole.grads.items():
                assert_identical(pieces.grads[name], grad, f"{name}, {options}")


def test_operands_stay_as_they_are() -> None:
    x, before, leak = draw(3, 2, 5), draw(2, 5, seed=1), draw(5, low=0.2, high=1.0)
    copies = [t.clone() for t in (x, before, leak)]
    found = run(lif_scan, x, before, leak=leak)
    for now, then in zip((x, before, leak), copies):
        assert_identical(now, then)
    own = {t.untyped_storage().data_ptr() for t in (x, before, leak, found.spikes, found.membrane)}
    assert len(own) == 5
