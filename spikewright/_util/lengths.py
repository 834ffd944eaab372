"""Lengths of the sequences of a padded batch: which steps of which sample count."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.real_numbers import real_type
from spikewright.errors import InputError, ShapeError


@dataclass(frozen=True)
class Lengths:
    """The own number of steps of every sample of a batch; what comes later is padding.

    Attributes:
        each: Number of steps of every sample, int64 `[batch]`.
    """

    each: Tensor

    @classmethod
    def of(cls, lengths: object, x: Tensor) -> "Lengths":
        """Return the lengths of the samples of an input, on its device.

        Args:
            lengths: Lengths as the user gave them.
            x: Input, `[time, batch, *feature]`.

        Raises:
            ShapeError: They are no int64 tensor of one length per sample.
            InputError: A length is below 1, or above the number of steps.
        """
        steps, batch = x.shape[:2]
        check_tensor("lengths", lengths, "[batch], with the number of steps of every sample")
        assert isinstance(lengths, Tensor)
        if lengths.dtype != torch.int64 or lengths.shape != (batch,):
            raise ShapeError(
                f"lengths has the shape {list(lengths.shape)} and the type {lengths.dtype}, for x of [time={steps}, "
                f"batch={batch}, ...]. It holds one number of steps per sample. Give int64 numbers, [{batch}], such as "
                "torch.tensor([len(sequence) for sequence in sequences])."
            )
        bad = ((lengths < 1) | (lengths > steps)).nonzero()
        if len(bad):
            raise InputError(
                f"lengths[{int(bad[0])}] is {int(lengths[bad[0]])}, but x has {steps} steps, and a sequence has at "
                f"least one. Give numbers from 1 to {steps}, or drop empty sequences from the batch."
            )
        return cls(lengths.to(x.device))

    def valid(self, steps: int, start: int = 0) -> Tensor:
        """Return True where a step belongs to the sequence of a sample, bool `[time, batch]`.

        Args:
            steps: Number of steps.
            start: Index of the first one.
        """
        return torch.arange(start, start + steps, device=self.each.device).unsqueeze(1) < self.each

    def masked(self, x: Tensor, start: int = 0) -> Tensor:
        """Return a chunk, `[time, batch * rows, *feature]`, with zeros after the end of each sequence.

        Args:
            x: The chunk.
            start: Index of its first step.
        """
        valid = self.valid(len(x), start).repeat_interleave(x.shape[1] // len(self.each), 1)
        return torch.where(valid.view(*x.shape[:2], *[1] * (x.dim() - 2)), x, torch.zeros_like(x))

    def mean(self, x: Tensor, leak: float = 1.0) -> Tensor:
        """Return the mean over the own steps of every sample, `[batch, *feature]`.

        Args:
            x: Sequences from their first step on, `[time, batch, *feature]`.
            leak: Factor by which the weight of a step falls per step of age.
        """
        kind = real_type(x.dtype)
        age = self.each.clamp_max(len(x)) - 1 - torch.arange(len(x), device=x.device).unsqueeze(1)
        weights = torch.where(age >= 0, torch.as_tensor(leak, dtype=kind, device=x.device) ** age.clamp_min(0), 0)
        shares = (weights / weights.sum(0)).to(x.dtype).view(*x.shape[:2], *[1] * (x.dim() - 2))
        return (shares * self.masked(x)).sum(0)

    def held(self, y: Tensor) -> Tensor:
        """Return timed targets, `[time, batch, ...]`, with the last own one of a sample at all later steps."""
        step = torch.arange(len(y), device=y.device).unsqueeze(1).minimum(self.each.to(y.device) - 1)
        return y[step, torch.arange(y.shape[1], device=y.device)]
