"""The per-timestep loss."""

import torch
from torch import Tensor

from spikewright._util.criterion import Criterion, check_sequence
from spikewright._util.ranges import check_count, check_flag
from spikewright._util.terms import sample_terms
from spikewright.errors import InputError, ShapeError
from spikewright.losses._base import Loss
from spikewright.losses.criteria import is_mean
from spikewright.losses.firing_rate import FiringRatePenalty


class PerStep(Loss):
    r"""Per-timestep loss: the mean over steps of the criterion at each step, :math:`\frac{1}{T}\sum_t \ell(o[t], y)`.

    Here :math:`\ell` is the criterion, o[t] the output at step t and T the number of steps (TET loss).  For a convex
    criterion it is an upper bound of the loss of the mean output.  Rules that learn step by step need it.

    Args:
        criterion: Callable of the output of a step, `[batch, ...]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        timed: If True, the target has a time axis, `[time, batch, ...]`.  Default: False.
        steps: Number to divide by, e.g. for a stream that arrives in pieces.  At least 1.  Default: None, the length T
            of the sequence.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments; `steps` is not a whole number of at
            least 1; or `timed` is not a bool.

    Examples:
        >>> import torch, spikewright as sw
        >>> loss = sw.losses.PerStep(torch.nn.MSELoss())
        >>> loss(torch.tensor([[[0.0]], [[2.0]]]), torch.ones(1, 1), steps=2).item()  # the mean of 1 and 1
        1.0
    """

    per_step = True
    takes_lengths = True
    reads = "the output of each step"

    def __init__(
        self,
        criterion: Criterion,
        timed: bool = False,
        steps: int | None = None,
        penalty: FiringRatePenalty | None = None,
    ) -> None:
        super().__init__(criterion, penalty)
        check_flag("PerStep", timed=timed)
        if steps is not None:
            check_count("PerStep", "steps", steps, "the sum over steps is divided by it")
        self.timed, self.steps = timed, steps

    @property
    def batch_axis(self) -> int:
        return int(self.timed)

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        check_sequence(output, y)
        if self.lengths is not None:
            return self.terms(output, y, steps, start).sum()
        share = len(output) / (self.steps or steps)
        if len(output) == 1:
            return self._applied(output[0], y[start] if self.timed else y) * share
        if not self.timed and is_mean(self.criterion):  # one call for all steps
            try:
                return self._applied(output.flatten(0, 1), y.expand(len(output), *y.shape).flatten(0, 1)) * share
            except (ShapeError, InputError):
                self._applied(output[0], y)  # whose error shows the shapes of one step
                raise
        values = [self._applied(o, y[start + t] if self.timed else y) for t, o in enumerate(output)]
        return torch.stack(values).mean() * share

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """Return what each step and sample of a chunk adds to the loss, `[time, batch]`; their sum is the loss.

        An ignored sample adds 0, and so does a step after the end of its sequence.  With class weights, a sample adds
        its weighted share.

        Args:
            output: Outputs of the chunk, `[time, batch, *feature]`.
            y: Target, `[batch, ...]`, or `[time, batch, ...]` with `timed`.
            steps: Length of the whole sequence.  At least 1.
            start: Index of the chunk's first step in it.  At least 0.  Default: 0.

        Raises:
            IncompatibleRule: The value of the criterion is no sum over samples.
        """
        if self.timed:
            targets = (y if self.lengths is None else self.lengths.held(y))[start : start + len(output)]
        else:
            targets = y.expand(len(output), *y.shape)
        terms = sample_terms(self, self.criterion, output, targets)
        if self.lengths is None:
            return terms / (self.steps or steps)
        valid = self.lengths.valid(len(output), start)
        return torch.where(valid, terms / (self.steps or self.lengths.each), 0)

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        if not self.timed:
            return super().check(y, steps, batch, classes)
        if y.shape[:2] != (steps, batch):
            raise ShapeError(
                f"{self} with timed=True was given targets of shape {list(y.shape)} for x of [time={steps}, "
                f"batch={batch}, ...]. A timed target has one entry per step and sample: [time, batch, ...]."
            )
        self._check_targets(y if self.lengths is None else self.lengths.held(y), classes, timed=True)
