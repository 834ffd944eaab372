"""Losses over time: the mean of per-timestep losses (`PerStep`), or the loss of the mean output (`OnRate`).

A criterion is any callable `(output [batch, class], target) -> scalar`, such as `nn.CrossEntropyLoss()`.
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright._util.criterion import Criterion, applied, check_criterion, check_sequence
from spikewright._util.lengths import Lengths
from spikewright._util.ranges import check_count, check_flag, check_within
from spikewright._util.real_numbers import real_type
from spikewright._util.targets import check_labels, check_values, ignored_labels
from spikewright._util.terms import batch_weight, sample_terms
from spikewright._util.text import counted
from spikewright.errors import ConfigError, IncompatibleRule, InputError, ShapeError

__all__ = ["CrossEntropyMSE", "Loss", "LossOf", "OnRate", "PerStep"]

LossOf = Literal["any", "steps", "rate"]
"""What the loss of a rule may be: anything, a sum over steps, or a function of the mean output."""


class CrossEntropyMSE(nn.Module):
    r"""Cross-entropy plus a squared error, :math:`(1-\beta)\,\mathrm{CE}(o, y) + \beta\,\mathrm{MSE}(o, c)`.

    It is a criterion for `PerStep` or `OnRate`, as used by OTTT and SLTT.

    Args:
        mse: Weight :math:`\beta` of the squared error, whose mean runs over batch and classes.  In [0, 1].
            Default: 0.05.
        target: Target c of the squared error: "onehot", the one-hot label (OTTT); or one constant for every class and
            sample, any finite number (SLTT on CIFAR uses 1.0 as a regulariser).  Default: "onehot".

    Raises:
        ConfigError: `mse` is out of range, or `target` an unknown text or not a finite number.

    Reference:
        Xiao, Meng, Zhang, He, Lin, Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv
        2210.04195; Meng, Xiao, Yan, Wang, Lin, Luo, Towards Memory- and Time-Efficient Backpropagation for Training
        Spiking Neural Networks, ICCV 2023, arXiv 2302.14311.

    Examples:
        >>> import torch, spikewright as sw
        >>> criterion = sw.losses.CrossEntropyMSE(mse=1.0)
        >>> criterion(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).item()  # both outputs are off by 1
        1.0
    """

    def __init__(self, mse: float = 0.05, target: Literal["onehot"] | float = "onehot") -> None:
        super().__init__()
        check_within("CrossEntropyMSE", "mse", mse, "[0, 1]", "the weight of the squared error lies in [0, 1]")
        if isinstance(target, str) and target != "onehot":
            raise ConfigError(f"CrossEntropyMSE(target={target!r}): give 'onehot' or a number.")
        if not isinstance(target, str):
            check_within("CrossEntropyMSE", "target", target, "(-inf, inf)", "outputs are drawn to it")
        self.mse, self.target = mse, target

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            output: Output, `[batch, class]`.
            y: Class indices, `[batch]`.
        """
        if self.mse == 0:
            return F.cross_entropy(output, y)
        if self.target == "onehot":
            target = F.one_hot(y, output.shape[-1]).to(output.dtype)
        else:
            target = torch.full_like(output, float(self.target))
        return (1 - self.mse) * F.cross_entropy(output, y) + self.mse * F.mse_loss(output, target)

    def extra_repr(self) -> str:
        return f"mse={self.mse}, target={self.target!r}"


def _is_mean(criterion: Criterion) -> bool:
    """Return True if a criterion is the mean over the samples of a batch, with weights that depend on targets only.

    With the same targets at each step, its value for all steps together is then the mean over steps.
    """
    return type(criterion) in _MEANS and getattr(criterion, "reduction", "mean") == "mean"


_MEANS = (
    CrossEntropyMSE,
    nn.CrossEntropyLoss,
    nn.NLLLoss,
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.KLDivLoss,
)


class Loss(ABC):
    """Base of losses over time: a criterion, and how it is applied to the outputs of several steps.

    A subclass sets `per_step` and implements the call.

    Args:
        criterion: Callable of outputs `[batch, ...]` and targets that returns a scalar, such as
            `nn.CrossEntropyLoss()`.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments.

    Attributes:
        per_step: True if the loss is a sum of terms that each need one step only.
        head: Number of outputs of a head, if every task has its own; `None` if all outputs belong together.
        timed: True if the target has a time axis, `[time, batch, ...]`.
        lengths: Lengths of the sequences of a padded batch; `None` if all steps count.
    """

    per_step: bool
    """Whether the loss is a sum of terms that each need one step only."""
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

    def __init__(self, criterion: Criterion) -> None:
        check_criterion(type(self).__name__, criterion)
        self.criterion = criterion

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
        raise IncompatibleRule(f"{self} reads the mean output, so steps have no losses of their own. Use PerStep.")

    def over(self, lengths: Lengths) -> "Loss":
        """Return the loss of a padded batch: each sample counts as its own sequence does alone.

        Args:
            lengths: The own number of steps of every sample, `[batch]`.

        Raises:
            IncompatibleRule: The class does not say how; it overrides this method then.
        """
        if type(self).over is Loss.over and not isinstance(self, PerStep | OnRate):
            raise IncompatibleRule(
                f"{self} was given lengths of sequences, but {type(self).__name__} does not say what steps after the "
                "end of a sequence mean for it. Use PerStep or OnRate, or override its method over(lengths)."
            )
        other = copy(self)
        other.lengths = lengths
        return other

    def mean(self, output: Tensor) -> Tensor:
        """Return the outputs averaged over the own steps of every sample, by which a sample is classified.

        Args:
            output: Outputs, `[time, batch, *feature]`.
        """
        return output.sum(0) / len(output) if self.lengths is None else self.lengths.mean(output)

    def correct(self, output: Tensor, y: Tensor) -> int:
        """Return the number of samples that are classified correctly; those with an ignored label do not count.

        Args:
            output: Outputs, `[time, batch, class]`.
            y: Class indices, `[batch]`.
        """
        right = self.mean(output).argmax(-1) == y
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

    def _applied(self, output: Tensor, y: Tensor) -> Tensor:
        return applied(self, self.criterion, output, y)

    def _check_targets(self, y: Tensor, classes: int, timed: bool = False) -> None:
        if y.is_floating_point():
            check_values(self, self.criterion, y, classes, 2 if timed else 1)
        elif not y.is_complex() and isinstance(self.criterion, nn.CrossEntropyLoss | nn.NLLLoss | CrossEntropyMSE):
            check_labels(self, self.criterion, y, classes, timed)

    def __repr__(self) -> str:
        name = getattr(self.criterion, "__name__", type(self.criterion).__name__)
        return f"{type(self).__name__}({name})"


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

    def __init__(self, criterion: Criterion, timed: bool = False, steps: int | None = None) -> None:
        super().__init__(criterion)
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
        if not self.timed and _is_mean(self.criterion):  # one call for all steps
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


class OnRate(Loss):
    r"""Loss on the mean output, :math:`\ell(\frac{1}{T}\sum_t o[t], y)`: the criterion of the output averaged in time.

    Here :math:`\ell` is the criterion, o[t] the output at step t and T the number of steps.  It exists only when the
    sequence has ended, so that rules that learn step by step cannot use it.  Rules that learn from rates need it.

    Args:
        criterion: Callable of the mean output, `[batch, ...]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        leak: Factor by which the weight of a step falls per step of age, as in rates of leaky neurons; 1 is the plain
            mean.  In (0, 1].  Default: 1.0.

    Raises:
        ConfigError: `leak` is not in (0, 1]; `criterion` is a class, or cannot be called with two arguments.

    Examples:
        >>> import torch, spikewright as sw
        >>> loss = sw.losses.OnRate(torch.nn.MSELoss())
        >>> loss(torch.tensor([[[0.0]], [[2.0]]]), torch.ones(1, 1), steps=2).item()  # the mean output is 1
        0.0
    """

    per_step = False

    def __init__(self, criterion: Criterion, leak: float = 1.0) -> None:
        super().__init__(criterion)
        check_within("OnRate", "leak", leak, "(0, 1]", "it weighs a step relative to the next one, in (0, 1]")
        self.leak = leak

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        check_sequence(output, y)
        return self._applied(self.mean(output), y)

    def mean(self, output: Tensor) -> Tensor:
        if self.leak == 1:
            return super().mean(output)
        if self.lengths is not None:
            return self.lengths.mean(output, self.leak)
        kind = real_type(output.dtype)
        weights = self.leak ** torch.arange(len(output) - 1, -1, -1, dtype=kind, device=output.device)
        return torch.tensordot((weights / weights.sum()).to(output.dtype), output, 1)


def standard_loss(loss_of: LossOf) -> type[PerStep] | type[OnRate]:
    """Return the class of the default loss of a rule: `OnRate` if the rule needs rates, otherwise `PerStep`.

    Args:
        loss_of: What the loss of the rule may be: "any", "steps" (a sum over steps), or "rate" (a function of the mean
            output).
    """
    return OnRate if loss_of == "rate" else PerStep


def __dir__() -> list[str]:
    return __all__
