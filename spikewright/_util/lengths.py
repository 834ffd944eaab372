"""Lengths of the sequences of a padded batch: which steps of which sample count."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.real_numbers import real_type
from spikewright.errors import InputError, ShapeError
from spikewright.temporal import State


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

    def ended(self, state: State, steps: int) -> State:
        """Return a state in which samples that have ended before the last step are NaN, because they cannot go on.

        Args:
            state: State after so many steps.
            steps: Number of steps.
        """
        over = self.each < steps
        if not bool(over.any()):
            return state
        return {
            site: {name: self._without(value, over) for name, value in values.items()} for site, values in state.items()
        }

    def _without(self, value: Tensor, over: Tensor) -> Tensor:
        if not value.dim() or not (value.is_floating_point() or value.is_complex()):
            return value
        rows = over.repeat_interleave(len(value) // len(over))
        return value.masked_fill(rows.view(-1, *[1] * (value.dim() - 1)), torch.nan)

    def weights(self, x: Tensor, leak: float | Tensor = 1.0, start: int = 0) -> Tensor:
        """Return the leak to the power of the age of each step at the end of its sequence, and 0 behind that.

        Args:
            x: Chunk that is to be weighted, `[time, batch * rows, *feature]`; the result broadcasts to it.
            leak: Factor by which the weight of a step falls per step of age.  A tensor broadcasts to a step of `x`.
            start: Index of the first step of the chunk.
        """
        age = self.each - 1 - torch.arange(start, start + len(x), device=x.device).unsqueeze(1)
        age = age.repeat_interleave(x.shape[1] // len(self.each), 1).view(*x.shape[:2], *[1] * (x.dim() - 2))
        leak = torch.as_tensor(leak, dtype=torch.promote_types(real_type(x.dtype), torch.float32), device=x.device)
        return torch.where(age < 0, 0, leak ** age.clamp_min(0))

    def mean(self, x: Tensor, leak: float = 1.0) -> Tensor:
        """Return the mean over the own steps of every sample, `[batch, *feature]`.

        Args:
            x: Sequences from their first step on, `[time, batch, *feature]`.
            leak: Factor by which the weight of a step falls per step of age.
        """
        weights = Lengths(self.each.clamp_max(len(x))).weights(x, leak)
        return ((weights / weights.sum(0)).to(x.dtype) * self.masked(x)).sum(0)

    def held(self, y: Tensor) -> Tensor:
        """Return timed targets, `[time, batch, ...]`, with the last own one of a sample at all later steps."""
        step = torch.arange(len(y), device=y.device).unsqueeze(1).minimum(self.each.to(y.device) - 1)
        return y[step, torch.arange(y.shape[1], device=y.device)]
