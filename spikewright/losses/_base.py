"""The base of losses over time."""

from abc import ABC, abstractmethod
from copy import copy
from typing import ClassVar, Literal

from torch import Tensor, nn

from spikewright._util.criterion import Criterion, applied, check_criterion
from spikewright._util.lengths import Lengths
from spikewright._util.targets import check_labels, check_values, ignored_labels
from spikewright._util.terms import batch_weight
from spikewright._util.text import counted
from spikewright.errors import IncompatibleRule, ShapeError
from spikewright.losses.criteria import CrossEntropyMSE, RateMSE
from spikewright.losses.firing_rate import FiringRatePenalty, check_penalty

LossOf = Literal["any", "steps", "rate"]
"""What the loss of a rule may be: anything, a sum over steps, or a function of the mean output."""

_OF_LABELS = (nn.CrossEntropyLoss, nn.NLLLoss, CrossEntropyMSE, RateMSE)


class Loss(ABC):
    """Base of losses over time: a criterion, and how it is applied to the outputs of several steps.

    A subclass sets `per_step`, and `of_mean` where that holds, and implements the call.

    Args:
        criterion: Callable of outputs `[batch, ...]` and targets that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments; or `penalty` is no
            `FiringRatePenalty`.

    Attributes:
        per_step: True if the loss is a sum of terms that each need one step only.
        of_mean: True if the loss is a function of the mean output alone, and of the number of steps.
        takes_lengths: True if steps after the end of a sequence do not count once `lengths` is set.
        reads: What the loss reads of the outputs, in words.
        head: Number of outputs of a head, if every task has its own; `None` if all outputs belong together.
        timed: True if the target has a time axis, `[time, batch, ...]`.
        lengths: Lengths of the sequences of a padded batch; `None` if all steps count.
        penalty: Penalty on firing rates, which rules add to the loss; a call of the loss does not.
    """

    per_step: bool
    """Whether the loss is a sum of terms that each need one step only."""
    of_mean: bool = False
    """Whether the loss is a function of the mean output alone, and of the number of steps."""
    takes_lengths: ClassVar[bool] = False
    """Whether steps after the end of a sequence do not count once `lengths` is set."""
    reads: ClassVar[str] = "the outputs of the whole sequence"
    """What the loss reads of the outputs, for messages."""
    head: int | None = None
    """How many outputs make a head, where every task has its own; `None` if all outputs belong together."""
    timed: bool = False
    """Whether the target has a time axis."""
    lengths: Lengths | None = None
    """Lengths of the sequences of a padded batch; `None` if all steps count."""

    @property
    def batch_axis(self) -> int:
        """Axis of a target along which samples lie: 0, or 1 if the target has a time axis in front."""
        return 0

    penalty: FiringRatePenalty | None = None
    """Penalty on firing rates, which rules add to the loss; a call of the loss does not."""

    def __init__(self, criterion: Criterion, penalty: FiringRatePenalty | None = None) -> None:
        check_criterion(type(self).__name__, criterion)
        check_penalty(type(self).__name__, penalty)
        self.criterion, self.penalty = criterion, penalty

    @abstractmethod
    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """Return what a chunk adds to the loss, a scalar.

        Args:
            output: Outputs of the chunk, `[time, batch, *feature]`.
            y: Target, `[batch, ...]`.
            steps: Length of the whole sequence.  At least 1.
            start: Index of the chunk's first step in it.  At least 0.  Default: 0.
        """

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """Return what each step and sample of a chunk adds to the loss, `[time, batch]`; their sum is the loss.

        Args:
            output: Outputs of the chunk, `[time, batch, *feature]`.
            y: Target, `[batch, ...]`.
            steps: Length of the whole sequence.  At least 1.
            start: Index of the chunk's first step in it.  At least 0.  Default: 0.

        Raises:
            IncompatibleRule: The loss is not a sum of such terms.
        """
        raise IncompatibleRule(f"{self} reads {self.reads}, so steps have no losses of their own. Use PerStep.")

    def at_mean(self, output: Tensor, y: Tensor, steps: int) -> Tensor:
        """Return the loss, a scalar, of sequences with the given mean output; for losses that declare `of_mean`.

        Args:
            output: Mean output, `[batch, *feature]`.
            y: Target, `[batch, ...]`.
            steps: Length of the sequences.  At least 1.
        """
        return self(output.unsqueeze(0), y, 1)

    def over(self, lengths: Lengths) -> "Loss":
        """Return the loss of a padded batch: each sample counts as its own sequence does alone.

        Args:
            lengths: The own number of steps of every sample, `[batch]`.

        Raises:
            IncompatibleRule: The class does not say how; it overrides this method then.
        """
        if not self.takes_lengths:
            raise IncompatibleRule(
                f"{self} was given lengths of sequences, but {type(self).__name__} does not say what steps after the "
                "end of a sequence mean for it. Use PerStep or OnRate, or override its method over(lengths)."
            )
        other = copy(self)
        other.lengths = lengths
        return other

    def mean(self, output: Tensor) -> Tensor:
        """Return the outputs averaged over the own steps of every sample, `[batch, *feature]`.

        Args:
            output: Outputs, `[time, batch, *feature]`.
        """
        return output.sum(0) / len(output) if self.lengths is None else self.lengths.mean(output)

    def reduced(self, output: Tensor) -> Tensor:
        """Return what the criterion is given of a whole sequence, `[batch, *feature]`; the mean output by default.

        Args:
            output: Outputs, `[time, batch, *feature]`.
        """
        return self.mean(output)

    def scores(self, output: Tensor) -> Tensor:
        """Return the numbers by the largest of which a sample is classified, `[batch, *feature]`.

        Args:
            output: Outputs, `[time, batch, *feature]`.
        """
        return self.reduced(output)

    def correct(self, output: Tensor, y: Tensor, lengths: Tensor | None = None) -> int:
        """Return the number of samples that are classified correctly; those with an ignored label do not count.

        Args:
            output: Outputs, `[time, batch, class]`.
            y: Class indices, `[batch]`.
            lengths: Own number of steps of every sample of a padded batch, int64 `[batch]`, from 1 to the number of
                steps.  Losses that read a certain step, such as `LastStep`, need them: outputs after the end of a
                sequence are 0.  Default: None, all steps belong to the sequences.

        Raises:
            ShapeError: `lengths` does not hold one whole number per sample.
            InputError: A length is out of range.
        """
        own = self if lengths is None else self.over(Lengths.of(lengths, output))
        right = own.scores(output).argmax(-1) == y
        return int((right & ~ignored_labels(self.criterion, y)).sum())

    def labelled(self, y: Tensor) -> int:
        """Return the number of targets that the criterion does not ignore.

        Args:
            y: Target, `[batch, ...]`.
        """
        return int((~ignored_labels(self.criterion, y)).sum())

    def weight(self, output: Tensor, y: Tensor) -> float:
        """Return the weight of a batch in a mean of the loss over batches, so that their sizes do not matter.

        It is the number of samples; for a mean of torch over classes, the sum of the weights of their classes, where
        an ignored label has none.

        Args:
            output: Outputs, `[time, batch, *feature]`.
            y: Target, `[batch, ...]`.
        """
        return batch_weight(self.criterion, output, y if self.timed else y.unsqueeze(0))

    def by(self, criterion: Criterion) -> "Loss":
        """Return a loss with the same treatment of time and another criterion.

        Args:
            criterion: Callable of outputs `[batch, ...]` and targets that returns a scalar.
        """
        check_criterion(type(self).__name__, criterion)
        other = copy(self)
        other.criterion = criterion
        return other

    def without_penalty(self) -> "Loss":
        """Return the same loss without its penalty on firing rates."""
        other = copy(self)
        other.penalty = None
        return other

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        """Raise an error if `y` is no target for a batch.

        Args:
            y: Target, `[batch, ...]`.
            steps: Length of the sequence.  At least 1.
            batch: Number of samples.  At least 1.
            classes: Number of outputs.  At least 1.

        Raises:
            ShapeError: `y` does not have one target per sample.
            InputError: A class index is out of range.
        """
        if y.dim() == 0 or len(y) != batch:
            hint = ""
            if y.shape[:2] == (steps, batch):
                hint = " (for a target at every step, use PerStep(criterion, timed=True))"
            elif y.shape[:1] == (steps,):
                hint = " (x looks batch-first: use x.transpose(0, 1), or say batch_first=True)"
            found = counted(len(y), "target") if y.dim() else "one number"
            raise ShapeError(
                f"{self} was given {found} for x of [time={steps}, batch={batch}, ...]{hint}. "
                f"There is one target per sample, and y has the shape {list(y.shape)}; the layout of x is [time, "
                "batch, *feature]."
            )
        self._check_targets(y, classes)

    def _applied(self, output: Tensor, y: Tensor, criterion: Criterion | None = None) -> Tensor:
        return applied(self, criterion or self.criterion, output, y)

    def _check_targets(self, y: Tensor, classes: int, timed: bool = False) -> None:
        if y.is_floating_point():
            check_values(self, self.criterion, y, classes, 2 if timed else 1)
        elif not y.is_complex() and isinstance(self.criterion, _OF_LABELS):
            check_labels(self, self.criterion, y, classes, timed)

    def __repr__(self) -> str:
        name = getattr(self.criterion, "__name__", type(self.criterion).__name__)
        return f"{type(self).__name__}({name}{'' if self.penalty is None else f', penalty={self.penalty}'})"
