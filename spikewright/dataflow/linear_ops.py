"""Operators that are linear with constant coefficients, and the arguments in which they are.

A formula is a sum of products of argument names: `self + mat1*mat2` is linear in each name as long as no other factor
of its product depends on anything, and takes no other tensor argument that does (an index, a mask, a divisor).  Added
constants do not matter.  An operator that is not in the table counts as not linear.
"""

from collections.abc import Callable
from typing import Any

COPIES: dict[str, str] = dict.fromkeys(
    """
    alias as_strided clone detach diag_embed diagonal expand flip gather index_select lift lift_fresh permute
    pixel_shuffle pixel_unshuffle repeat roll rot90 select slice split split_with_sizes squeeze t take transpose unbind
    unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as_complex view_as_real
    _conj _conj_physical _neg_view _reshape_alias _unsafe_view channel_shuffle constant_pad_nd im2col
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    index _unsafe_index zero tril triu
    alias_copy as_strided_copy detach_copy diagonal_copy expand_copy lift_fresh_copy permute_copy select_copy slice_copy
    split_copy split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsqueeze_copy view_copy
    view_as_complex_copy view_as_real_copy _conj_copy _neg_view_copy _reshape_alias_copy
    """.split(),
    "self",
) | {
    "as_strided_scatter": "self + src",
    "block_diag": "tensors",
    "cat": "tensors",
    "copy": "self + src",
    "diagonal_scatter": "self + src",
    "index_copy": "self + source",
    "index_fill": "self + value",
    "index_put": "self + values",
    "_index_put_impl": "self + values",
    "_unsafe_index_put": "self + values",
    "masked_fill": "self + value",
    "masked_scatter": "self + source",
    "put": "self + source",
    "scatter": "self + src",
    "select_scatter": "self + src",
    "slice_scatter": "self + src",
    "stack": "tensors",
    "where": "self + other",
}
"""Formulas of operators that move or copy entries, of any dtype."""

SUMS: dict[str, str] = dict.fromkeys(
    """
    sum mean neg cumsum trace _to_copy col2im avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d
    upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa _fft_c2c _fft_c2r _fft_r2c
    """.split(),
    "self",
) | {
    "add": "self + other",
    "sub": "self + other",
    "rsub": "self + other",
    "mul": "self*other",
    "div": "self",
    "lerp": "self + end + self*weight + end*weight",
    "addcmul": "self + tensor1*tensor2",
    "addcdiv": "self + tensor1",
    "addmm": "self + mat1*mat2",
    "addmv": "self + mat*vec",
    "addr": "self + vec1*vec2",
    "addbmm": "self + batch1*batch2",
    "baddbmm": "self + batch1*batch2",
    "mm": "self*mat2",
    "bmm": "self*mat2",
    "_sparse_addmm": "self + mat2",
    "_sparse_mm": "dense",
    "mv": "self*vec",
    "dot": "self*tensor",
    "vdot": "self*other",
    "linalg_cross": "self*other",
    "_trilinear": "i1*i2*i3",
    "convolution": "input*weight + bias",
    "complex": "real + imag",
    "embedding": "weight",
    "_embedding_bag": "weight*per_sample_weights",
    "_embedding_bag_forward_only": "weight*per_sample_weights",
    "grid_sampler_2d": "input",
    "grid_sampler_3d": "input",
    "affine_grid_generator": "theta",
    "index_add": "self + source",
    "scatter_add": "self + src",
    "native_batch_norm": "input*weight + running_mean*weight + bias",
    "cudnn_batch_norm": "input*weight + running_mean*weight + bias",
    "miopen_batch_norm": "input*weight + running_mean*weight + bias",
    "_native_batch_norm_legit": "input*weight + running_mean*weight + bias",
    "_native_batch_norm_legit_no_training": "input*weight + running_mean*weight + bias",
    "_batch_norm_no_update": "input*weight + running_mean*weight + bias",
}
"""Formulas of operators that compute; only floating-point results are linear, because integers wrap around."""


EXCEPT = {
    "scatter.reduce",
    "scatter.value_reduce",
    "view.dtype",
    "view_copy.dtype",
    "_native_batch_norm_legit.no_stats",
}
"""Overloads that are not linear although their operators are in the table."""

ONLY_IF: dict[str, Callable[[Callable[[str], Any]], bool]] = {
    "div": lambda argument: argument("rounding_mode") is None,
    "_embedding_bag": lambda argument: argument("mode") in (0, 1),  # sum and mean, not max
    "_embedding_bag_forward_only": lambda argument: argument("mode") in (0, 1),
    "native_batch_norm": lambda argument: argument("training") is False,
    "cudnn_batch_norm": lambda argument: argument("training") is False,
    "miopen_batch_norm": lambda argument: argument("training") is False,
    "_native_batch_norm_legit": lambda argument: argument("training") is False,
}
"""Conditions on the other arguments; each is a function of a lookup of arguments by name."""
