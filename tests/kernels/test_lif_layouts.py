"""Memory layouts: strides of currents, membranes and gradients change nothing but the order of the work."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikewright.kernels.lif import lif_scan
from spikewright.kernels.rate import accumulate, accumulate_naive
from spikewright.kernels.trace import trace_naive, trace_scan
from tests.kernels.support import assert_close, assert_identical, assert_twins, at_both, draw, needs_kernels, run

pytestmark = needs_kernels

T, N, C, H, W = 3, 2, 5, 4, 3


def sparse(x: Tensor) -> Tensor:
    """The same values with gaps between them."""
    gaps = x.new_full([2 * size for size in x.shape], torch.nan)
    gaps[tuple(slice(1, None, 2) for _ in x.shape)] = x
    return gaps[tuple(slice(1, None, 2) for _ in x.shape)]


def in_order(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """The same values, laid out in another order of the axes."""
    back = sorted(range(x.dim()), key=order.__getitem__)
    return x.permute(order).contiguous().permute(back)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "channels last": lambda x: in_order(x, (0, 1, 3, 4, 2)),
    "batch first": lambda x: in_order(x, (1, 0, 2, 3, 4)),
    "time last": lambda x: in_order(x, (1, 2, 3, 4, 0)),
    "transposed": lambda x: in_order(x, (0, 4, 3, 2, 1)),
    "sparse": sparse,
    "sparse, channels last": lambda x: in_order(sparse(in_order(x, (0, 1, 3, 4, 2))), (0, 1, 3, 4, 2)),
    "part of a longer chunk": lambda x: torch.cat([x.new_full((2, *x.shape[1:]), torch.nan), x])[2:],
    "part of wider features": lambda x: torch.cat([x.new_full(x.shape, torch.nan), x], 2)[:, :, C:],
}


def expansions(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Currents that repeat themselves along an axis without a copy."""
    full, sizes = draw(T, N, C, H, W, dtype=dtype), (T, N, C, H, W)
    single = {axis: full.narrow(axis, 0, 1).expand(sizes) for axis in range(5)}
    return {f"repeated along axis {axis}": x for axis, x in single.items()} | {
        "repeated everywhere": full[:1, :1, :1, :1, :1].expand(sizes),
        "repeated, channels last": in_order(full[:1], (0, 1, 3, 4, 2)).expand(sizes),
    }


def test_currents_in_every_layout() -> None:
    x, leak = draw(T, N, C, H, W), draw(C, 1, 1, low=0.2, high=1.0)
    both: list[dict[str, Any]] = [{"detach_reset": False}, {"reset": "zero", "through_time": False}]
    currents = {name: layout(x) for name, layout in LAYOUTS.items()} | expansions()
    for name, current in currents.items():
        for options in both:
            assert_twins(current, draw(N, C, H, W, seed=1), leak=leak, case=name, **options)
            assert_twins(current, case=f"{name}, from rest", **options)


def test_membranes_in_every_layout() -> None:
    x, before = draw(T, N, C, H, W), draw(N, C, H, W, seed=1)
    leak = draw(N, C, H, W, low=0.2, high=1.0, seed=2)
    for inner in ("plain", "channels last"):
        for name, layout in LAYOUTS.items():
            if name != "part of a longer chunk":
                membrane, leaks = layout(before.unsqueeze(0))[0], layout(leak.unsqueeze(0))[0]
                assert_twins(LAYOUTS[inner](x), membrane, leak=leaks, case=(inner, name))
        for size in [(1, C, H, W), (C, 1, 1), (W,), ()]:
            assert_twins(LAYOUTS[inner](x), before.flatten()[0].expand(size), case=(inner, size))


def test_gradients_arrive_in_every_layout() -> None:
    x = draw(T, N, C, H, W)
    for inner in ("plain", "channels last", "sparse"):
        for name, layout in LAYOUTS.items():

            def arriving(spikes: Tensor, membrane: Tensor, layout: Callable[[Tensor], Tensor] = layout):
                at_spikes, at_membrane = at_both(spikes, membrane)
                return layout(at_spikes), layout(at_membrane.unsqueeze(0))[0]

            assert_twins(LAYOUTS[inner](x), arriving=arriving, leak=0.9, case=(inner, name))

        def repeated(spikes: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
            return draw(1, 1, C, 1, 1).expand_as(spikes), draw(1).expand_as(membrane)

        assert_twins(LAYOUTS[inner](x), arriving=repeated, leak=0.9, case=(inner, "repeated"))


def test_a_dense_layout_comes_out_as_it_went_in() -> None:
    """So that a convolution after the neuron finds the layout it likes."""
    for order in permutations(range(1, 5)):
        x = in_order(draw(T, N, C, H, W), (0, *order))
        found = run(lif_scan, x)
        traces, last = trace_scan(x, None, 0.5)
        for whole in (found.spikes, found.grads["current"], traces):
            assert whole.stride() == x.stride(), order
        for one in (found.membrane, last, accumulate(x, None)):
            assert one.stride() == x[0].stride(), order


@st.composite
def strided(draws: st.DrawFn) -> Tensor:
    """A chunk of any shape, order of axes, gaps and repetitions."""
    shape = draws(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    x = draw(*shape, seed=draws(st.integers(0, 9)))
    x = in_order(x, tuple(draws(st.permutations(range(len(shape))))))
    if draws(st.booleans()):
        axis = draws(st.integers(0, len(shape) - 1))
        x = x.narrow(axis, 0, 1).expand(*shape[:axis], draws(st.integers(1, 4)), *shape[axis + 1 :])
    return sparse(x) if draws(st.booleans()) else x


@given(x=strided(), leak=st.sampled_from([0.5, 0.9, 1.0]), gradient=st.sampled_from(["plain", "sparse", "last first"]))
def test_any_strides(x: Tensor, leak: float, gradient: str) -> None:
    change = {"plain": lambda y: y, "sparse": sparse, "last first": lambda y: in_order(y, (*range(y.dim()),)[::-1])}
    lay = change[gradient]
    assert_twins(x, x[0], leak=leak, detach_reset=False, arriving=lambda s, v: [lay(g) for g in at_both(s, v)])
    for found, expected in zip(trace_scan(x, x[0], leak), trace_naive(x, x[0], leak)):
        assert_identical(found, expected)
    assert_close(accumulate(x, x[0], leak), accumulate_naive(x, x[0], leak), len(x))
