r"""What is minimised: a mean of per-step losses, or a loss of the mean output.  The two are different problems.

A criterion is any callable `(output [batch, class], target) -> scalar`, such as `nn.CrossEntropyLoss()`.
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright._util.criterion import Criterion, applied, check_criterion
from spikewright._util.real_numbers import real_type
from spikewright._util.text import counted
from spikewright.errors import ConfigError, IncompatibleRule, InputError, ShapeError

__all__ = ["CrossEntropyMSE", "Loss", "LossOf", "OnRate", "PerStep"]

LossOf = Literal["any", "steps", "rate"]
"""What the loss of a rule may be: anything, a sum over steps, or a function of the mean output."""


class CrossEntropyMSE(nn.Module):
    r"""The mix of OTTT and SLTT: :math:`(1-\beta)\,\mathrm{CE}(o, y) + \beta\,\mathrm{MSE}(o, c)`.

    Args:
        mse: Weight :math:`\beta` of the squared error, in [0, 1]; its mean runs over batch and classes.
        target: What the squared error pulls the outputs to: the one-hot label (OTTT), or one constant for every
            class and sample (SLTT on CIFAR uses 1.0, a regulariser).

    Reference:
        Xiao et al., NeurIPS 2022, arXiv 2210.04195; Meng et al., ICCV 2023, arXiv 2302.14311.
    """

    def __init__(self, mse: float = 0.05, target: Literal["onehot"] | float = "onehot") -> None:
        super().__init__()
        if not 0 <= mse <= 1:
            raise ConfigError(f"CrossEntropyMSE(mse={mse}): the weight of the squared error lies in [0, 1].")
        if isinstance(target, str) and target != "onehot":
            raise ConfigError(f"CrossEntropyMSE(target={target!r}): give 'onehot' or a number.")
        self.mse, self.target = mse, target

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the scalar loss of `output` `[batch, class]` for class indices `y` `[batch]`."""
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
    """Whether a criterion of a batch is the mean over its samples, or a mean with weights that only targets decide.

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
    """A criterion and the way it meets time.

    Args:
        criterion: Called with outputs and targets; returns one number.

    Raises:
        ConfigError: `criterion` cannot be called like that, because it is a class or no function at all.
    """

    per_step: bool
    """Whether the loss is a sum of terms that each need one step only."""
    head: int | None = None
    """How many outputs make a head, where every task has its own; `None` if all outputs belong together."""

    def __init__(self, criterion: Criterion) -> None:
        check_criterion(type(self).__name__, criterion)
        self.criterion = criterion

    @abstractmethod
    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """Return what a chunk adds to the loss.

        Args:
            output: Outputs of the chunk, `[time, batch, *feature]`.
            y: Target, `[batch, ...]`.
            steps: Length of the whole sequence.
            start: Index of the chunk's first step in it.
        """

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """Return what each step and sample of a chunk adds to the loss, `[time, batch]`; arguments as in a call.

        Raises:
            IncompatibleRule: The loss is not a sum of such terms.
        """
        raise IncompatibleRule(f"{self} reads the mean output, so steps have no losses of their own. Use PerStep.")

    def mean(self, output: Tensor) -> Tensor:
        """Return what a decision is taken by: outputs `[time, batch, *feature]` averaged over time."""
        return output.sum(0) / len(output)

    def correct(self, output: Tensor, y: Tensor) -> int:
        """Return how many samples outputs `[time, batch, class]` decide right, given class indices `[batch]`."""
        return int((self.mean(output).argmax(-1) == y).sum())

    def by(self, criterion: Criterion) -> "Loss":
        """Return a loss that meets time in the same way, by another criterion of all outputs."""
        other = copy(self)
        other.criterion = criterion
        return other

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        """Raise if `y` is no target for `batch` samples and `classes` outputs."""
        if y.dim() == 0 or len(y) != batch:
            hint = ""
            if y.shape[:2] == (steps, batch):
                hint = " (for a target at every step, use PerStep(criterion, timed=True))"
            elif y.shape[:1] == (steps,):
                hint = " (x looks batch-first: use x.transpose(0, 1))"
            found = counted(len(y), "target") if y.dim() else "one number"
            raise ShapeError(
                f"{self} was given {found} for x of [time={steps}, batch={batch}, ...]{hint}. "
                f"There is one target per sample, and y has the shape {list(y.shape)}; the layout of x is [time, "
                "batch, *feature]."
            )
        self._check_labels(y, classes)

    def _applied(self, output: Tensor, y: Tensor) -> Tensor:
        return applied(self, self.criterion, output, y)

    def _check_labels(self, y: Tensor, classes: int) -> None:
        if (
            y.dtype.is_floating_point
            or y.is_complex()
            or not isinstance(self.criterion, nn.CrossEntropyLoss | nn.NLLLoss | CrossEntropyMSE)
        ):
            return
        ignored = y == getattr(self.criterion, "ignore_index", -100)
        bad = ((y < 0) | (y >= classes)) & ~ignored
        if bad.any():
            where = tuple(bad.nonzero()[0].tolist())
            raise InputError(
                f"{self} needs class indices from 0 to {classes - 1}, because the network has {classes} outputs, but "
                f"y[{', '.join(map(str, where))}] is {int(y[where])}. Check the labels, or the size of the readout."
            )

    def __repr__(self) -> str:
        name = getattr(self.criterion, "__name__", type(self.criterion).__name__)
        return f"{type(self).__name__}({name})"


class PerStep(Loss):
    r"""Mean over steps of the criterion at each step, :math:`\frac{1}{T}\sum_t \ell(o[t], y)`.

    For a convex criterion it bounds the loss of the mean output from above.

    Args:
        criterion: Applied to the output of each step.
        timed: The target has a time axis of its own, `[time, batch, ...]`.
        steps: Divide by this number instead of the length of the sequence, e.g. for a stream that arrives in pieces.
    """

    per_step = True

    def __init__(self, criterion: Criterion, timed: bool = False, steps: int | None = None) -> None:
        super().__init__(criterion)
        self.timed, self.steps = timed, steps

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        share = len(output) / (self.steps or steps)
        if len(output) == 1:
            return self._applied(output[0], y[start] if self.timed else y) * share
        if not self.timed and _is_mean(self.criterion):  # one call for all steps
            try:
                return self._applied(output.flatten(0, 1), y.expand(len(output), *y.shape).flatten(0, 1)) * share
            except (ShapeError, InputError):
                self._applied(output[0], y)  # whose error shows the shapes of one step
                raise
        terms = [self._applied(o, y[start + t] if self.timed else y) for t, o in enumerate(output)]
        return torch.stack(terms).mean() * share

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """See `Loss.terms`; the criterion has to be a mean over samples.

        Raises:
            IncompatibleRule: It says that it is not.
        """
        if (reduction := getattr(self.criterion, "reduction", "mean")) != "mean":
            raise IncompatibleRule(
                f"{self} was asked for the loss of each sample, as if the criterion were their mean, but its reduction "
                f"is '{reduction}'. Use reduction='mean'."
            )
        targets = y[start : start + len(output)] if self.timed else y.expand(len(output), *y.shape)
        one = torch.vmap(lambda o, t: self.criterion(o.unsqueeze(0), t.unsqueeze(0)))
        each = one(output.flatten(0, 1), targets.flatten(0, 1))
        return each.unflatten(0, output.shape[:2]) / (output.shape[1] * (self.steps or steps))

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        if not self.timed:
            return super().check(y, steps, batch, classes)
        if y.shape[:2] != (steps, batch):
            raise ShapeError(
                f"{self} with timed=True was given targets of shape {list(y.shape)} for x of [time={steps}, "
                f"batch={batch}, ...]. A timed target has one entry per step and sample: [time, batch, ...]."
            )
        self._check_labels(y, classes)


class OnRate(Loss):
    r"""The criterion of the output averaged over time, :math:`\ell(\frac{1}{T}\sum_t o[t], y)`.

    It exists only once the sequence is over, so rules that learn step by step cannot use it.

    Args:
        criterion: Applied to the mean output.
        leak: Weighs a step by `leak**age`, as rates of leaky neurons are; 1 is the plain mean.

    Raises:
        ConfigError: `leak` is not in (0, 1].
    """

    per_step = False

    def __init__(self, criterion: Criterion, leak: float = 1.0) -> None:
        super().__init__(criterion)
        if not 0 < leak <= 1:
            raise ConfigError(f"OnRate(leak={leak}): it weighs a step relative to the next one, in (0, 1].")
        self.leak = leak

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self._applied(self.mean(output), y)

    def mean(self, output: Tensor) -> Tensor:
        if self.leak == 1:
            return super().mean(output)
        kind = real_type(output.dtype)
        weights = self.leak ** torch.arange(len(output) - 1, -1, -1, dtype=kind, device=output.device)
        return torch.tensordot((weights / weights.sum()).to(output.dtype), output, 1)


def standard_loss(loss_of: LossOf) -> type[PerStep] | type[OnRate]:
    """Return the kind of loss for a rule of which nothing else is said: per step, unless it learns from rates only."""
    return OnRate if loss_of == "rate" else PerStep


def __dir__() -> list[str]:
    return __all__
