"""The loss on the output summed over time."""

from torch import Tensor

from spikewright._util.criterion import check_sequence
from spikewright.losses._reduced import Reduced
from spikewright.losses.criteria import RateMSE


class SpikeCount(Reduced):
    r"""Loss on the output summed over time, :math:`\ell(\sum_t o[t], y)`: of spikes, their count.

    Here :math:`\ell` is the criterion and o[t] the output at step t.  With `nn.CrossEntropyLoss()` it is the
    cross-entropy of spike counts; with `RateMSE()` the squared error to target counts, which are the target rates times
    the number of steps.  In a padded batch the steps of each sequence count.  It is the number of steps T times the
    mean output that the criterion sees, so that rules of rates can use it: there the count is T times the mean output
    they learn from.  It exists when the sequence has ended, so that rules that learn step by step cannot.

    Args:
        criterion: Callable of the sums, `[batch, ...]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments.

    Examples:
        >>> import torch, spikewright as sw
        >>> spikes, y = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([0])
        >>> sw.losses.SpikeCount(sw.losses.RateMSE(correct_rate=0.75))(spikes, y, steps=2).item()  # 1 is 0.5 below 1.5
        0.125
    """

    of_mean = True
    reads = "the output summed over all steps"

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        check_sequence(output, y)
        return self._of(self.reduced(output), y, steps)

    def reduced(self, output: Tensor) -> Tensor:
        return output.sum(0) if self.lengths is None else self.lengths.masked(output).sum(0)

    def at_mean(self, output: Tensor, y: Tensor, steps: int) -> Tensor:
        own = self._own_steps(output, steps)
        return self._of(output * own, y, steps)

    def _of(self, count: Tensor, y: Tensor, steps: int) -> Tensor:
        if not isinstance(self.criterion, RateMSE):
            return self._applied(count, y)
        criterion, own = self.criterion, self._own_steps(count, steps)
        return self._applied(count, y, lambda output, target: criterion(output, target, own))

    def _own_steps(self, output: Tensor, steps: int) -> int | Tensor:
        """Return the number of steps of each sequence, such that it broadcasts to `[batch, *feature]`."""
        if self.lengths is None:
            return steps
        return self.lengths.each.to(output.dtype).view(-1, *[1] * (output.dim() - 1))
