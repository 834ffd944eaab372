"""Sequences of different lengths with their labels, held sparse until a batch is made of some."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_row
from spikewright.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences `[steps, *feature]` with their labels; only entries that are not 0 are held. `len` is their number.

    Args:
        steps: Number of steps of each sequence, at least 1.  int64 `[n]`.
        feature: Shape of one step, whole numbers of at least 1.
        starts: Where the entries of each sequence begin, and the end of the last.  int64 `[n + 1]`.
        places: Where the entries are: `step * size + position` in a sequence, with `size` the numbers in a step, rising
            and never twice the same within a sequence.  int32 or int64 `[entries]`.
        values: Numbers at these places.  uint8, int16 or float32 `[entries]`.
        labels: Classes.  int64 `[n]`.

    Raises:
        ShapeError: Types or numbers of entries do not fit.
        InputError: A place is outside of its sequence, or places do not rise.

    >>> import torch
    >>> from spikewright.data import Sequences
    >>> data = Sequences.of([torch.eye(3), torch.ones(2, 3)], torch.tensor([0, 1]))
    >>> x, lengths = data.batch(torch.tensor([0, 1]))
    >>> x.shape, lengths, x[2, 1]
    (torch.Size([3, 2, 3]), tensor([3, 2]), tensor([0., 0., 0.]))
    """

    steps: Tensor
    feature: tuple[int, ...]
    starts: Tensor
    places: Tensor
    values: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        check_row("Sequences", "feature", self.feature)
        kinds = {
            "steps": (torch.int64,),
            "starts": (torch.int64,),
            "places": (torch.int32, torch.int64),
            "values": (torch.uint8, torch.int16, torch.float32),
            "labels": (torch.int64,),
        }
        for name, allowed in kinds.items():
            tensor = getattr(self, name)
            check_tensor(name, tensor, "one axis")
            if tensor.dim() != 1 or tensor.dtype not in allowed:
                raise ShapeError(
                    f"Sequences got {name} of {tensor.dtype} {list(tensor.shape)}. It is a list of "
                    f"{' or '.join(str(kind) for kind in allowed)}. Make sequences with Sequences.of."
                )
        numbers = len(self.steps), len(self.labels), len(self.starts) - 1
        if len(set(numbers)) != 1 or len(self.places) != len(self.values):
            raise ShapeError(
                f"Sequences got {numbers[0]} steps, {numbers[1]} labels, {len(self.starts)} starts, {len(self.places)} "
                f"places and {len(self.values)} values. There is one of steps and of labels for each sequence, one of "
                "starts more, and one value for each place. Make sequences with Sequences.of."
            )
        self._check_places()

    def _check_places(self) -> None:
        starts, places = self.starts, self.places
        inner = len(starts) > 0 and int(starts[0]) == 0 and int(starts[-1]) == len(places)
        if not inner or bool((starts[1:] < starts[:-1]).any()) or bool((self.steps < 1).any()):
            raise InputError(
                "Sequences got starts that do not rise from 0 to the number of places, or a sequence without steps. "
                "Make sequences with Sequences.of."
            )
        counts = starts[1:] - starts[:-1]
        ends = torch.repeat_interleave(self.steps * self.size, counts)
        rises = places[1:] > places[:-1]
        first = starts[1:-1][(starts[1:-1] > 0) & (starts[1:-1] < len(places))]
        rises[first - 1] = True
        if bool((places < 0).any()) or bool((places >= ends).any()) or not bool(rises.all()):
            raise InputError(
                "Sequences got places that are outside of their sequence, or do not rise. A place is step * size + "
                f"position, with size {self.size} of feature {list(self.feature)}. Make sequences with Sequences.of."
            )

    @classmethod
    def of(cls, sequences: Iterable[Tensor], labels: Tensor, feature: Sequence[int] | None = None) -> "Sequences":
        """Return sequences from dense ones.

        Args:
            sequences: Tensors `[steps, *feature]` of uint8, int16 or float32, all of one type.
            labels: Classes, int64, one for each.
            feature: Shape of a step.  Default: None, that of the first sequence.

        Raises:
            ShapeError: Shapes or types differ, or there is no sequence and no `feature`.
        """
        steps, counts, places, values = list[int](), [0], list[Tensor](), list[Tensor]()
        for number, each in enumerate(sequences):
            check_tensor(f"sequence {number}", each, "[steps, *feature]")
            feature = tuple(each.shape[1:]) if feature is None else tuple(feature)
            if tuple(each.shape[1:]) != feature or len(each) == 0 or (values and each.dtype != values[0].dtype):
                raise ShapeError(
                    f"Sequences.of got sequence {number} of {each.dtype} {list(each.shape)}, where the steps have "
                    f"shape {list(feature)}. All have the same features and type, and at least one step."
                )
            flat = each.reshape(-1)
            where = flat.nonzero().flatten()
            steps.append(len(each))
            counts.append(counts[-1] + len(where))
            places.append(where.to(torch.int32 if flat.numel() < 2**31 else torch.int64))
            values.append(flat[where])
        if feature is None:
            raise ShapeError(
                "Sequences.of got no sequence, and no feature that says what a step would look like. Give one."
            )
        wide = any(one.dtype == torch.int64 for one in places)
        return cls(
            torch.tensor(steps, dtype=torch.int64),
            tuple(feature),
            torch.tensor(counts, dtype=torch.int64),
            torch.cat([one.to(torch.int64) if wide else one for one in places])
            if places
            else torch.zeros(0, dtype=torch.int32),
            torch.cat(values) if values else torch.zeros(0, dtype=torch.uint8),
            labels,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Numbers in a step."""
        return math.prod(self.feature)

    @property
    def density(self) -> float:
        """Share of the entries that are not 0."""
        return len(self.places) / max(1, int(self.steps.sum()) * self.size)

    def subset(self, indices: Tensor) -> "Sequences":
        """Return the sequences at some indices, in that order.

        Args:
            indices: int64 `[m]`, each from 0 to n - 1.

        Raises:
            ShapeError: `indices` is no such tensor.
            InputError: An index is out of range.
        """
        chosen = self._entries(indices)
        counts = (self.starts[1:] - self.starts[:-1])[indices]
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return Sequences(
            self.steps[indices], self.feature, starts, self.places[chosen], self.values[chosen], self.labels[indices]
        )

    def batch(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return some sequences side by side, padded with zeros, and their lengths.

        Args:
            indices: int64 `[m]`, each from 0 to n - 1; at least one.
            dtype: Type of the batch.  Default: float32.

        Returns:
            The sequences `[most steps, m, *feature]`, and int64 `[m]`.

        Raises:
            ShapeError: `indices` is no such tensor.
            InputError: An index is out of range.
        """
        self._check_indices(indices)
        lengths, many = self.steps[indices], len(indices)
        x = torch.zeros(int(lengths.max()) if many else 0, many, self.size, dtype=dtype)
        for row, index in enumerate(indices.tolist()):  # in turn: what one sequence needs stays in fast memory
            steps, entries = int(self.steps[index]), slice(int(self.starts[index]), int(self.starts[index + 1]))
            places = self.places[entries] if steps * self.size < 2**31 else self.places[entries].long()
            bounds = torch.searchsorted(places, torch.arange(steps + 1, dtype=places.dtype) * self.size)
            before = (torch.arange(steps) * (many - 1) + row) * self.size  # numbers of other sequences up to each step
            moved = torch.repeat_interleave(before, bounds.diff()).add_(places)
            x.view(-1).index_copy_(0, moved, self.values[entries].to(dtype))
        return x.view(*x.shape[:2], *self.feature), lengths

    def _entries(self, indices: Tensor) -> Tensor:
        """Return the positions of all entries of some sequences."""
        self._check_indices(indices)
        begin, end = self.starts[:-1][indices], self.starts[1:][indices]
        counts = end - begin
        within = torch.arange(int(counts.sum())) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        return torch.repeat_interleave(begin, counts) + within

    def _check_indices(self, indices: Tensor) -> None:
        check_tensor("indices", indices, "int64 [m]")
        if indices.dtype != torch.int64 or indices.dim() != 1:
            raise ShapeError(
                f"Sequences got indices {indices.dtype} {list(indices.shape)}. Sequences are taken by a list of "
                "positions, int64 [m]. Give mask.nonzero().flatten() for a mask."
            )
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise InputError(
                f"Sequences got indices from {int(indices.min())} to {int(indices.max())}, but there are {len(self)} "
                "sequences, numbered from 0. Leave the others out."
            )


def of_arrays(
    entries: Sequence[tuple[int, np.ndarray, np.ndarray]], feature: Sequence[int], labels: Tensor
) -> Sequences:
    """Return sequences from their entries.

    Args:
        entries: For each sequence its number of steps, its places (rising), and the numbers there.
        feature: Shape of a step.
        labels: Classes, int64 `[n]`.
    """
    places = np.concatenate([each[1] for each in entries]) if entries else np.zeros(0, np.int32)
    values = np.concatenate([each[2] for each in entries]) if entries else np.zeros(0, np.uint8)
    counts = np.cumsum([0, *(len(each[1]) for each in entries)], dtype=np.int64)
    largest = max((each[0] for each in entries), default=0) * math.prod(feature)
    return Sequences(
        torch.tensor([each[0] for each in entries], dtype=torch.int64),
        tuple(feature),
        torch.from_numpy(counts),
        torch.from_numpy(places.astype(np.int32 if largest < 2**31 else np.int64)),
        torch.from_numpy(values),
        labels,
    )
