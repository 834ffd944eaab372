"""Criteria of outputs and class labels, for a loss over time."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright._util.criterion import Criterion
from spikewright._util.ranges import check_numbers, check_within
from spikewright.errors import ConfigError


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


class RateMSE(nn.Module):
    r"""Squared error to target rates, :math:`\frac{1}{BC}\sum_{b,c} (r_{bc} - r^*_{bc})^2`: one of the labelled class,
    another of all others.

    With :math:`r_{bc}` the output of class c for sample b, and C classes, the target :math:`r^*_{bc}` is `correct_rate`
    if c is the label of b, and `incorrect_rate` otherwise.  In `OnRate` the output is the mean output.  In `SpikeCount`
    counts are compared with the target rates times the number of steps, which need not be whole numbers: the "mse
    count loss".

    Args:
        correct_rate: Target of the labelled class, in spikes per step.  Any finite number.  Default: 1.0.
        incorrect_rate: Target of the other classes, in spikes per step.  Any finite number.  Default: 0.0.

    Raises:
        ConfigError: A rate is not a finite number.

    Differs from others:
        `mse_count_loss` of snnTorch rounds the target counts down to whole numbers and divides by the number of steps.

    Examples:
        >>> import torch, spikewright as sw
        >>> criterion = sw.losses.RateMSE(correct_rate=0.8, incorrect_rate=0.1)
        >>> round(criterion(torch.tensor([[0.8, 0.3]]), torch.tensor([0])).item(), 4)  # off by 0 and by 0.2
        0.02
    """

    def __init__(self, correct_rate: float = 1.0, incorrect_rate: float = 0.0) -> None:
        super().__init__()
        check_numbers("RateMSE", "(-inf, inf)", correct_rate=correct_rate, incorrect_rate=incorrect_rate)
        self.correct_rate, self.incorrect_rate = correct_rate, incorrect_rate

    def forward(self, output: Tensor, y: Tensor, steps: int | Tensor = 1) -> Tensor:
        """Return the loss, a scalar.

        Args:
            output: Output, `[batch, class]`.
            y: Class indices, `[batch]`.
            steps: Number of steps that outputs are summed over; one number, or `[batch, 1]`.  At least 1.  Default: 1.
        """
        right = F.one_hot(y, output.shape[-1]).bool()
        target = torch.where(right, self.correct_rate, self.incorrect_rate).to(output.dtype) * steps
        return F.mse_loss(output, target)

    def extra_repr(self) -> str:
        return f"correct_rate={self.correct_rate}, incorrect_rate={self.incorrect_rate}"


def is_mean(criterion: Criterion) -> bool:
    """Return True if a criterion is the mean over the samples of a batch, with weights that depend on targets only.

    With the same targets at each step, its value for all steps together is then the mean over steps.
    """
    return type(criterion) in _MEANS and getattr(criterion, "reduction", "mean") == "mean"


_MEANS = (
    CrossEntropyMSE,
    RateMSE,
    nn.CrossEntropyLoss,
    nn.NLLLoss,
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.KLDivLoss,
)
