"""Neurons that see several rows of every sample, if the network folds patches or windows into the batch."""

from torch import Tensor


def by_sample(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return input or output of neurons, `[time, batch * row, *feature]`, as `[time, batch, *shape]`.

    Args:
        x: Input or output of neurons, `[time, batch * row, *feature]`.
        shape: Shape of a sample, as in `Wiring.shapes`: `[row, *feature]`, or `[*feature]` with one row.
    """
    return x.unflatten(1, (-1, shape[0])) if len(shape) > x.dim() - 2 else x
