"""Neurons that see several rows of every sample, because the network has folded patches or windows into the batch."""

from torch import Tensor


def by_sample(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return what neurons see or emit, `[time, batch * row, *feature]`, as `[time, batch, *shape]`.

    Args:
        x: What they see or emit.
        shape: Of a sample, as in `Wiring.shapes`: `[row, *feature]`, or `[*feature]` where there is one row.
    """
    return x.unflatten(1, (-1, shape[0])) if len(shape) > x.dim() - 2 else x
