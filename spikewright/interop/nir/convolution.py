"""Convolution and pooling in numpy, position by position of the kernel."""

from itertools import product
from typing import Any

import numpy as np

from spikewright.interop.nir.graph import Node

Array = np.ndarray[Any, Any]


def convolved(node: Node, x: Array) -> Array:
    """Return the convolution of `[batch, channel, *place]` with the weight of a node, plus its bias."""
    weight, groups = node.array("weight").astype(float), int(node.values["groups"])
    kernel = weight.shape[2:]
    stride, dilation = (_each(node.values[key], len(kernel)) for key in ("stride", "dilation"))
    x = _padded(x, node.values["padding"], kernel, dilation)
    outputs = []
    for inputs, filters in zip(np.split(x, groups, 1), np.split(weight, groups, 0)):
        windows = _windows(inputs, kernel, stride, dilation)
        outputs.append(sum(np.einsum("oc,nc...->no...", filters[(..., *at)], part) for at, part in windows))
    return np.concatenate(outputs, 1) + node.array("bias").reshape(-1, *[1] * len(kernel))


def pooled(node: Node, x: Array) -> Array:
    """Return sums of windows, or their means over the whole window, padding included."""
    kernel, stride, padding = (_each(node.values[key], 2) for key in ("kernel_size", "stride", "padding"))
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    total = sum(part for _, part in _windows(x, kernel, stride, (1, 1)))
    return np.asarray(total) / (np.prod(kernel) if node.kind == "AvgPool2d" else 1)


def _windows(x: Array, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Yield each position of a kernel, and what of the input every output sees there."""
    counts = [
        (size - d * (k - 1) - 1) // s + 1 for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    for at in product(*map(range, kernel)):
        cut = (slice(a * d, a * d + s * (n - 1) + 1, s) for a, d, s, n in zip(at, dilation, stride, counts))
        yield at, x[(slice(None), slice(None), *cut)]


def _padded(x: Array, padding: Any, kernel: Any, dilation: Any) -> Array:
    if isinstance(padding, str):
        whole = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation)]
        sides = [(total // 2, total - total // 2) for total in whole]
    else:
        sides = [(p, p) for p in _each(padding, len(kernel))]
    return np.pad(x, [(0, 0), (0, 0), *sides])


def _each(value: Any, axes: int) -> tuple[int, ...]:
    sizes = [int(size) for size in np.ravel(np.asarray(value))]
    return tuple(sizes * axes if len(sizes) == 1 else sizes)
