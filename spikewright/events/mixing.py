"""Batches of frames in which recordings are mixed, with labels in the same shares."""

import numpy as np
import torch
from torch import Generator, Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_counts, check_within
from spikewright.errors import InputError, ShapeError


def mixup(
    x: Tensor, labels: Tensor, generator: Generator, *, classes: int, alpha: float = 0.5
) -> tuple[Tensor, Tensor]:
    r"""Return frames mixed with those of another recording of the batch, and labels in the same shares.

    With one share :math:`\lambda` of the distribution Beta(alpha, alpha) for the batch and a random order :math:`\pi`,

    .. math:: x_i' = \lambda x_i + (1 - \lambda) x_{\pi(i)}, \quad
        y_i' = \lambda e_{y_i} + (1 - \lambda) e_{y_{\pi(i)}}.

    A shorter recording has zeros at its end, as in the batch; the mixed one is as long as the longer of the two.

    Args:
        x: Frames, floating-point.  Shape `[steps, batch, *feature]`.
        labels: Classes, int64 `[batch]`, each from 0 to classes - 1.
        generator: `torch.Generator` on the CPU.
        classes: Number of classes, at least 1.
        alpha: Parameter of the distribution, a number > 0.  Default: 0.5.

    Returns:
        Frames as `x`, and labels of its type, `[batch, classes]`, for a loss such as `nn.CrossEntropyLoss()`.

    Raises:
        ShapeError: `x` or `labels` has another shape or type.
        InputError: A label is out of range.
        ConfigError: A setting is out of its range.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.

    >>> import torch
    >>> from spikewright.events import mixup
    >>> x, y = mixup(torch.ones(4, 2, 3), torch.tensor([0, 1]), torch.Generator().manual_seed(0), classes=2)
    >>> x.shape, y.sum(1)
    (torch.Size([4, 2, 3]), tensor([1., 1.]))
    """
    check_counts("mixup", classes=classes)
    check_within("mixup", "alpha", alpha, "(0, inf)", "it is a parameter of a distribution")
    check_tensor("x", x, "[steps, batch, *feature]")
    check_tensor("labels", labels, "int64 [batch]")
    if x.dim() < 2 or not x.is_floating_point() or labels.dtype != torch.int64 or labels.shape != x.shape[1:2]:
        raise ShapeError(
            f"mixup got x {x.dtype} {list(x.shape)} and labels {labels.dtype} {list(labels.shape)}. Shares of frames "
            "are no whole numbers, and each recording has one label. Give x.float() [steps, batch, *feature] and "
            "int64 [batch]."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(
            f"mixup got labels from {int(labels.min())} to {int(labels.max())} for {classes} classes. Labels number "
            f"outputs, 0 to {classes - 1}. Give the right number of classes."
        )
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))  # torch draws none of it from a generator
    order = torch.randperm(len(labels), generator=generator)
    target = torch.nn.functional.one_hot(labels, classes).to(x.dtype)
    return share * x + (1 - share) * x[:, order], share * target + (1 - share) * target[order]
