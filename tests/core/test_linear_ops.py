"""The table of linear operators: every line is held against numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.dataflow import Dataflow
from spikewright.dataflow.linear_ops import COPIES, EXCEPT, ONLY_IF, SUMS
from spikewright.dataflow.schemas import operator

A = torch.ops.aten
IMAGE, MATRIX, VECTOR, CUBE = (2, 4, 4, 4), (3, 3), (3,), (2, 3, 3)
I = torch.tensor([1, 0, 2])  # noqa: E741
EDGE = torch.ones(3, 3, dtype=torch.bool).tril()
Call = tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]


def same(*names: str, shape: tuple[int, ...] = MATRIX, args: tuple[Any, ...] = ()) -> dict[str, list[Call]]:
    return {name: [(lambda x, name=name: getattr(A, name)(x, *args), (shape,))] for name in names}


def convolve(transposed: bool, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return A.convolution(x, weight, bias, [1, 1], [1, 1], [1, 1], transposed, [0, 0], 2)


def norm(name: str, *last: Any) -> dict[str, list[Call]]:
    """Batch norm of `[2, 3, 3]` by given statistics; its weight, bias and mean may be data, too."""
    variance = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)

    def call(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor) -> Tensor:
        return getattr(A, name)(x, weight, bias, mean, variance, *last)[0]

    return {name: [(call, (CUBE, VECTOR, VECTOR, VECTOR))]}


CALLS: dict[str, list[Call]] = (
    same("alias", "clone", "detach", "diag_embed", "diagonal", "lift", "lift_fresh", "squeeze", "t", "unbind", "zero")
    | same("tril", "triu", "alias_copy", "detach_copy", "diagonal_copy", "lift_fresh_copy", "squeeze_copy", "t_copy")
    | same("unbind_copy", "_conj_physical", "_neg_view", "_neg_view_copy", "sum", "mean", "neg")
    | same("trace", "_to_copy")
    | same("as_strided", "as_strided_copy", "_reshape_alias", "_reshape_alias_copy", args=((2, 2), (3, 1)))
    | same("flip", args=((0,),))
    | same("expand", "expand_copy", args=((2, 3, 3),))
    | same("view", "_unsafe_view", "view_copy", args=((9,),))
    | same("permute", "permute_copy", args=((1, 0),))
    | same("transpose", "transpose_copy", "rot90", args=(0, 1))
    | same("rot90", args=(1, (0, 1)))
    | same("repeat", args=((2, 1),))
    | same("roll", args=((1,), (0,)))
    | same("select", "select_copy", args=(1, 2))
    | same("slice", "slice_copy", args=(1, 0, 2))
    | same("split", "unsafe_split", "split_copy", args=(2,))
    | same("unsafe_chunk", args=(2,))
    | same("split_with_sizes", "unsafe_split_with_sizes", "split_with_sizes_copy", args=((1, 2),))
    | same("unfold", "unfold_copy", args=(1, 2, 1))
    | same("unsqueeze", "unsqueeze_copy", args=(0,))
    | same("view_as_complex", "view_as_complex_copy", shape=(3, 2))
    | same("gather", args=(1, I[:, None]))
    | same("index_select", args=(1, I))
    | same("take", args=(I,))
    | same("index", "_unsafe_index", args=([None, I],))
    | same("cumsum", args=(1,))
    | same("constant_pad_nd", args=((1, 1), 2.0))
    | same("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", shape=IMAGE, args=(2,))
    | same("im2col", shape=IMAGE, args=((2, 2), (1, 1), (0, 0), (1, 1)))
    | same("col2im", shape=(2, 8, 9), args=((4, 4), (2, 2), (1, 1), (0, 0), (1, 1)))
    | same("reflection_pad1d", "replication_pad1d", shape=CUBE, args=((1, 1),))
    | same("reflection_pad2d", "replication_pad2d", shape=IMAGE, args=((1, 1, 1, 1),))
    | same("reflection_pad3d", "replication_pad3d", shape=(1, *IMAGE), args=((1, 1, 1, 1, 1, 1),))
    | same("avg_pool1d", shape=CUBE, args=((2,),))
    | same("avg_pool2d", shape=IMAGE, args=((2, 2),))
    | same("avg_pool3d", shape=(1, *IMAGE), args=((2, 2, 2),))
    | same("adaptive_avg_pool1d", shape=CUBE, args=((2,),))
    | same("adaptive_avg_pool2d", "_adaptive_avg_pool2d", shape=IMAGE, args=((3, 2),))
    | same("adaptive_avg_pool3d", "_adaptive_avg_pool3d", shape=(1, *IMAGE), args=((2, 3, 2),))
    | same("upsample_linear1d", shape=CUBE, args=((5,), False))
    | same("upsample_bilinear2d", "upsample_bicubic2d", shape=IMAGE, args=((5, 7), False))
    | same("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", shape=IMAGE, args=((3, 7), False))
    | same("upsample_trilinear3d", shape=(1, *IMAGE), args=((3, 5, 7), True))
    | same("upsample_nearest1d", "_upsample_nearest_exact1d", shape=CUBE, args=((5,),))
    | same("upsample_nearest2d", "_upsample_nearest_exact2d", shape=IMAGE, args=((5, 7),))
    | same("upsample_nearest3d", "_upsample_nearest_exact3d", shape=(1, *IMAGE), args=((3, 5, 7),))
    | same("_fft_r2c", args=((0,), 0, True))
    | same("affine_grid_generator", shape=(2, 2, 3), args=((2, 1, 3, 3), False))
    | norm("native_batch_norm", False, 0.1, 1e-5)
    | norm("_native_batch_norm_legit", False, 0.1, 1e-5)
    | norm("_native_batch_norm_legit_no_training", 0.1, 1e-5)
    | norm("_batch_norm_no_update", 0.1, 1e-5)
    | {
        "view_as_real": [(lambda x: A.view_as_real(x.to(torch.complex128)), (MATRIX,))],
        "view_as_real_copy": [(lambda x: A.view_as_real_copy(x.to(torch.complex128)), (MATRIX,))],
        "_fft_c2c": [(lambda x, y: A._fft_c2c(torch.complex(x, y), [0], 0, True), (MATRIX, MATRIX))],
        "_fft_c2r": [(lambda x, y: A._fft_c2r(torch.complex(x, y), [0], 0, 4), (MATRIX, MATRIX))],
        "_conj": [(lambda x, y: A._conj(torch.complex(x, y)), (MATRIX, MATRIX))],
        "_conj_copy": [(lambda x, y: A._conj_copy(torch.complex(x, y)), (MATRIX, MATRIX))],
        "complex": [(A.complex, (MATRIX, MATRIX))],
        "as_strided_scatter": [(lambda x, y: A.as_strided_scatter(x, y, (2, 2), (3, 1)), (MATRIX, (2, 2)))],
        "block_diag": [(lambda x, y: A.block_diag([x, y]), (MATRIX, MATRIX))],
        "cat": [(lambda x, y: A.cat([x, y], 1), (MATRIX, MATRIX))],
        "stack": [(lambda x, y: A.stack([x, y], 1), (MATRIX, MATRIX))],
        "copy": [(A.copy, (MATRIX, VECTOR)), (lambda x, y: A.copy_(x.clone(), y), (MATRIX, VECTOR))],
        "diagonal_scatter": [(A.diagonal_scatter, (MATRIX, VECTOR))],
        "select_scatter": [(lambda x, y: A.select_scatter(x, y, 0, 1), (MATRIX, VECTOR))],
        "slice_scatter": [(lambda x, y: A.slice_scatter(x, y, 0, 0, 2), (MATRIX, (2, 3)))],
        "index_copy": [(lambda x, y: A.index_copy(x, 1, I, y), (MATRIX, MATRIX))],
        "index_add": [(lambda x, y: A.index_add(x, 1, I, y, alpha=2), (MATRIX, MATRIX))],
        "index_fill": [(lambda x, y: A.index_fill(x, 1, I[:2], y), (MATRIX, ()))],
        "index_put": [(lambda x, y: A.index_put(x, [I], y, True), (MATRIX, MATRIX))],
        "_unsafe_index_put": [(lambda x, y: A._unsafe_index_put(x, [I], y), (MATRIX, MATRIX))],
        "_index_put_impl": [(lambda x, y: A._index_put_impl(x, [EDGE], y), (MATRIX, ()))],
        "put": [(lambda x, y: A.put(x, I, y), (MATRIX, VECTOR))],
        "masked_fill": [(lambda x, y: A.masked_fill(x, EDGE, y), (MATRIX, ()))],
        "masked_scatter": [(lambda x, y: A.masked_scatter(x, EDGE, y), (MATRIX, MATRIX))],
        "scatter": [(lambda x, y: A.scatter(x, 1, I[:, None], y), (MATRIX, MATRIX))],
        "scatter_add": [(lambda x, y: A.scatter_add(x, 1, I[:, None], y), (MATRIX, MATRIX))],
        "where": [(lambda x, y: A.where(EDGE, x, y), (MATRIX, MATRIX))],
        "add": [(lambda x, y: A.add(x, y, alpha=3), (MATRIX, VECTOR)), (lambda x: A.add(x, 2), (MATRIX,))],
        "sub": [(lambda x, y: A.sub(x, y, alpha=3), (MATRIX, VECTOR)), (lambda x: A.sub(x, 2), (MATRIX,))],
        "rsub": [(A.rsub, (MATRIX, VECTOR)), (lambda x: A.rsub(x, 2), (MATRIX,))],
        "mul": [(A.mul, (MATRIX, VECTOR)), (lambda x: A.mul(x, 2), (MATRIX,))],
        "div": [(lambda x: A.div(x, 2), (MATRIX,)), (lambda x: A.div(x, 1.0 + I), (MATRIX,))],
        "lerp": [(A.lerp, (MATRIX, MATRIX, MATRIX)), (lambda x, y: A.lerp(x, y, 0.3), (MATRIX, MATRIX))],
        "addcmul": [(A.addcmul, (MATRIX, MATRIX, VECTOR))],
        "addcdiv": [(lambda x, y: A.addcdiv(x, y, 1.0 + I), (MATRIX, MATRIX))],
        "addmm": [(A.addmm, (VECTOR, MATRIX, MATRIX))],
        "_sparse_addmm": [(lambda x, y: A._sparse_addmm(x, EDGE.double().to_sparse(), y), (MATRIX, MATRIX))],
        "_sparse_mm": [(lambda x: A._sparse_mm(EDGE.double().to_sparse(), x), (MATRIX,))],
        "addmv": [(A.addmv, (VECTOR, MATRIX, VECTOR))],
        "addr": [(A.addr, (MATRIX, VECTOR, VECTOR))],
        "addbmm": [(A.addbmm, (MATRIX, CUBE, CUBE))],
        "baddbmm": [(A.baddbmm, (CUBE, CUBE, CUBE))],
        "mm": [(A.mm, (MATRIX, MATRIX))],
        "bmm": [(A.bmm, (CUBE, CUBE))],
        "mv": [(A.mv, (MATRIX, VECTOR))],
        "dot": [(A.dot, (VECTOR, VECTOR))],
        "vdot": [(A.vdot, (VECTOR, VECTOR))],
        "linalg_cross": [(A.linalg_cross, (MATRIX, MATRIX))],
        "_trilinear": [(lambda x, y, z: A._trilinear(x, y, z, [], [], [], [1]), (MATRIX, MATRIX, MATRIX))],
        "convolution": [(partial(convolve, transposed), (IMAGE, (4, 2, 3, 3), (4,))) for transposed in (False, True)],
        "embedding": [(lambda w: A.embedding(w, I), (MATRIX,))],
        "_embedding_bag": [
            (lambda w, s: A._embedding_bag(w, I, I[1:2], False, 0, False, s)[0], (MATRIX, VECTOR)),
            (lambda w: A._embedding_bag(w, I, I[1:2], False, 1)[0], (MATRIX,)),
        ],
        "_embedding_bag_forward_only": [
            (lambda w, s: A._embedding_bag_forward_only(w, I, I[1:2], False, 0, False, s)[0], (MATRIX, VECTOR))
        ],
        "grid_sampler_2d": [(lambda x: A.grid_sampler_2d(x, GRID, 0, 0, False), (IMAGE,))],
        "grid_sampler_3d": [(lambda x: A.grid_sampler_3d(x, GRID_3D, 1, 1, True), ((2, *IMAGE),))],
    }
)
GRID = torch.linspace(-1.2, 0.9, 36, dtype=torch.float64).view(2, 3, 3, 2)
GRID_3D = torch.linspace(-1.2, 0.9, 48, dtype=torch.float64).view(2, 2, 2, 2, 3)
ELSEWHERE = {"cudnn_batch_norm", "miopen_batch_norm"}
"""Operators that the CPU does not have; their formula is that of `native_batch_norm`."""


def flat(result: Any) -> Tensor:
    parts = result if isinstance(result, list | tuple) else [result]
    return torch.cat([(torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).flatten() for x in parts])


def claimed(call: Callable[..., Any], values: list[Tensor], chosen: list[int]) -> bool:
    """Whether the flow says that the result is linear in each of the chosen arguments, and depends on them."""
    values = [value.clone() for value in values]
    with Dataflow() as flow:
        for place in chosen:
            flow.source(values[place], str(place))
        result = call(*values)
    assert not flow.left and not flow.random
    parts = result if isinstance(result, list | tuple) else [result]
    found = [flow.depends(x) for x in parts if x.numel()]
    assert all(depends.keys() == set(map(str, chosen)) for depends in found)
    return not any(bends for depends in found for bends in depends.values())


def curvature(call: Callable[..., Any], values: list[Tensor], chosen: list[int]) -> float:
    """How far the result is from f(x + a d) = f(x) + a (f(x + d) - f(x)), for a = 2 and a = -3."""
    ways = [torch.randn_like(value) if place in chosen else 0 for place, value in enumerate(values)]
    start, once, twice, back = (
        flat(call(*[value + a * way for value, way in zip(values, ways)])) for a in (0, 1, 2, -3)
    )
    step = once - start
    return max((twice - start - 2 * step).abs().max().item(), (back - start + 3 * step).abs().max().item())


def test_every_line_of_the_table_is_tried() -> None:
    assert CALLS.keys() | ELSEWHERE == COPIES.keys() | SUMS.keys()
    assert not COPIES.keys() & SUMS.keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_counts_as_linear_is(name: str) -> None:
    for call, shapes in CALLS[name]:
        values = [torch.randn(shape) for shape in shapes]
        places = list(range(len(values)))
        for place in places:
            assert claimed(call, values, [place])
            assert curvature(call, values, [place]) < 1e-12
        straight = curvature(call, values, places) < 1e-12
        assert straight or "*" in (COPIES | SUMS)[name]
        assert claimed(call, values, places) == straight


def test_formulas_name_arguments_that_exist() -> None:
    for name, formula in (COPIES | SUMS).items():
        packet = getattr(A, name)
        known = {argument.name for o in packet.overloads() for argument in getattr(packet, o)._schema.arguments}
        assert {part for term in formula.split(" + ") for part in term.split("*")} <= known, name
    for name in EXCEPT:
        packet, overload = name.split(".")
        assert hasattr(getattr(A, packet), overload)
    assert ONLY_IF.keys() <= SUMS.keys()


CURVED: dict[str, Callable[[Tensor], Any]] = {
    "div": lambda x: A.div(x, 2, rounding_mode="floor"),
    "embedding_bag": lambda x: A._embedding_bag(x, I, I[1:2], False, 2),
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3), training=True),
    "scatter": lambda x: x.scatter(1, I[:, None], 2.0, reduce="multiply"),
    "view": lambda x: x.view(torch.int64),
    "to": lambda x: x.to(torch.int64),
    "gather": lambda x: torch.arange(3.0).gather(0, x.argmax(1)),
    "index_put": lambda x: torch.zeros(3).index_put((x.argmax(1),), torch.ones(3)),
    "where": lambda x: torch.where(x > 0, 1.0, 0.0),
    "mul": lambda x: x * x,
    "addcdiv": lambda x: torch.addcdiv(torch.zeros(3), torch.ones(3), x),
    "sum": lambda x: x.sum(dtype=torch.int64),
    "copy": lambda x: torch.zeros(3, 3, dtype=torch.int64).copy_(x),
}


@pytest.mark.parametrize("name", CURVED)
def test_arguments_that_make_linear_operators_curved(name: str) -> None:
    x = torch.rand(3, 3) + 0.5
    with Dataflow() as flow:
        flow.source(x, "x")
        result = CURVED[name](x)
    for part in result if isinstance(result, tuple) else [result]:
        assert name in {bend.op for bend in flow.depends(part).get("x", ())} or not part.numel()


def test_each_operator_is_read_once() -> None:
    assert operator(A.add.Tensor) is operator(A.add.Tensor)
    assert operator(A.add_.Tensor).written == ("self",)
    assert operator(A.add.out).unread == {"out"}
