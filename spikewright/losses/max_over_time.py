"""The loss on the largest output over time."""

import torch
from torch import Tensor

from spikewright._util.real_numbers import check_real
from spikewright.losses._reduced import Reduced


class MaxOverTime(Reduced):
    r"""Loss on the largest output over time, :math:`\ell(\max_t o[t], y)`, as of the membrane potential of a readout.

    Here :math:`\ell` is the criterion and o[t] the output at step t; the maximum is taken of every class by itself.
    Its gradient goes to the step of the maximum, to the first of equal ones.  In a padded batch the maximum is over the
    steps of each sequence.  Which step that is shows when the sequence has ended, so that rules that learn step by step
    cannot use it, and it is no function of the mean output, so that rules of rates cannot.

    Args:
        criterion: Callable of the largest outputs, `[batch, ...]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments.

    Examples:
        >>> import torch, spikewright as sw
        >>> loss = sw.losses.MaxOverTime(torch.nn.MSELoss())
        >>> loss(torch.tensor([[[3.0]], [[2.0]]]), torch.ones(1, 1), steps=2).item()  # the square of 3 - 1
        4.0
    """

    of_mean = False
    reads = "the largest output over time"

    def reduced(self, output: Tensor) -> Tensor:
        why, advice = "takes the largest output", "Have the network return real numbers, such as z.abs()."
        check_real(self, "the output of the network", output, why, advice)
        if self.lengths is not None:
            valid = self.lengths.valid(len(output)).view(*output.shape[:2], *[1] * (output.dim() - 2))
            output = torch.where(valid, output, -torch.inf)
        return output.max(0).values
