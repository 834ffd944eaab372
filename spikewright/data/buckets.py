"""Batches of sequences of similar lengths."""

import torch
from torch import Generator, Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_count, check_instance
from spikewright.errors import InputError, ShapeError


def bucketed(lengths: Tensor, batch_size: int, generator: Generator, pool: int = 16) -> list[Tensor]:
    """Return the batches of an epoch, each of sequences of similar lengths, in a random order.

    Sequences are shuffled and dealt into pools of `pool` batches; each pool is sorted by length, and cut.  So batches
    differ from epoch to epoch, and the larger a pool, the less is padded.  Every sequence is in one batch; at most one
    batch is smaller than `batch_size`.  Equal generators give equal batches.

    Args:
        lengths: Number of steps of each sequence, at least 1 each.  int64 `[n]`, n at least 1.
        batch_size: Sequences of a batch, at least 1.
        generator: `torch.Generator` of the order, on the CPU.
        pool: Number of batches that are sorted together, at least 1; 1 leaves batches random.  Default: 16.

    Returns:
        Positions of the sequences, int64 `[batch_size]` each, as `Sequences.batch` takes them.

    Raises:
        ShapeError: `lengths` is no such tensor.
        InputError: A length is below 1.
        ConfigError: Another argument is out of range.

    >>> import torch
    >>> from spikewright.data import bucketed
    >>> lengths = torch.tensor([9, 2, 8, 3, 9, 1])
    >>> sorted(lengths[batch].tolist() for batch in bucketed(lengths, 2, torch.Generator()))
    [[1, 2], [3, 8], [9, 9]]
    """
    check_tensor("lengths", lengths, "int64 [n]")
    if lengths.dtype != torch.int64 or lengths.dim() != 1 or not len(lengths):
        raise ShapeError(
            f"bucketed got lengths {lengths.dtype} {list(lengths.shape)}. It makes batches of sequences by their "
            "number of steps, int64 [n], of at least one sequence. Give Sequences.steps."
        )
    if int(lengths.min()) < 1:
        place = int(lengths.argmin())
        raise InputError(
            f"bucketed got lengths[{place}] = {int(lengths[place])}. A sequence has at least one step. Leave it out."
        )
    check_count("bucketed", "batch_size", batch_size, "a batch has at least one sequence")
    check_count("bucketed", "pool", pool, "at least one batch is sorted by itself")
    check_instance("bucketed", "generator", generator, Generator, "torch.Generator()")
    order = torch.randperm(len(lengths), generator=generator)
    batches = list[Tensor]()
    for part in order.split(pool * batch_size):
        batches.extend(part[lengths[part].argsort(stable=True)].split(batch_size))
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
