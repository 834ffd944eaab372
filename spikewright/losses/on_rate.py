"""The loss on the mean output."""

import torch
from torch import Tensor

from spikewright._util.criterion import Criterion
from spikewright._util.ranges import check_within
from spikewright._util.real_numbers import real_type
from spikewright.losses._reduced import Reduced
from spikewright.losses.firing_rate import FiringRatePenalty


class OnRate(Reduced):
    r"""Loss on the mean output, :math:`\ell(\frac{1}{T}\sum_t o[t], y)`: the criterion of the output averaged in time.

    Here :math:`\ell` is the criterion, o[t] the output at step t and T the number of steps.  It exists only when the
    sequence has ended, so that rules that learn step by step cannot use it.  Rules that learn from rates need it.

    Args:
        criterion: Callable of the mean output, `[batch, ...]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        leak: Factor by which the weight of a step falls per step of age, as in rates of leaky neurons; 1 is the plain
            mean.  In (0, 1].  Default: 1.0.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `leak` is not in (0, 1]; `criterion` is a class, or cannot be called with two arguments.

    Examples:
        >>> import torch, spikewright as sw
        >>> loss = sw.losses.OnRate(torch.nn.MSELoss())
        >>> loss(torch.tensor([[[0.0]], [[2.0]]]), torch.ones(1, 1), steps=2).item()  # the mean output is 1
        0.0
    """

    of_mean = True
    reads = "the mean output"

    def __init__(self, criterion: Criterion, leak: float = 1.0, penalty: FiringRatePenalty | None = None) -> None:
        super().__init__(criterion, penalty)
        check_within("OnRate", "leak", leak, "(0, 1]", "it weighs a step relative to the next one, in (0, 1]")
        self.leak = leak

    def mean(self, output: Tensor) -> Tensor:
        if self.leak == 1:
            return super().mean(output)
        if self.lengths is not None:
            return self.lengths.mean(output, self.leak)
        kind = real_type(output.dtype)
        weights = self.leak ** torch.arange(len(output) - 1, -1, -1, dtype=kind, device=output.device)
        return torch.tensordot((weights / weights.sum()).to(output.dtype), output, 1)
