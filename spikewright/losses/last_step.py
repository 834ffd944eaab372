"""The loss on the output of the last step."""

import torch
from torch import Tensor

from spikewright._util.criterion import check_sequence
from spikewright._util.terms import sample_terms
from spikewright.losses._base import Loss


class LastStep(Loss):
    r"""Loss on the output of the last step, :math:`\ell(o[T], y)`; in a padded batch, the last of each sequence.

    Here :math:`\ell` is the criterion and o[t] the output at step t.  It is a sum over steps of which one term is not
    zero, so that rules that learn step by step can use it; those without credit through time then learn from that step
    alone, and OTTT through its traces from the inputs before it.  A sequence that is learned in pieces has a last step
    in each.

    Args:
        criterion: Callable of the output of a step, `[batch, ...]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments.

    Examples:
        >>> import torch, spikewright as sw
        >>> loss = sw.losses.LastStep(torch.nn.MSELoss())
        >>> loss(torch.tensor([[[0.0]], [[3.0]]]), torch.ones(1, 1), steps=2).item()  # the square of 3 - 1
        4.0
    """

    per_step = True
    takes_lengths = True
    reads = "the output of the last step"

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        check_sequence(output, y)
        if self.lengths is not None:
            return self.terms(output, y, steps, start).sum()
        if start + len(output) < steps:
            return output[:0].sum()  # 0, with a graph
        return self._applied(output[steps - 1 - start], y)

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        step = torch.arange(start, start + len(output), device=output.device).unsqueeze(1)
        if self.lengths is None:
            last = step.new_full((output.shape[1],), steps - 1)
        else:
            last = self.lengths.each.clamp_max(steps) - 1
        place = (last - start).clamp(0, len(output) - 1)
        ends = output[place, torch.arange(output.shape[1], device=output.device)]
        each = sample_terms(self, self.criterion, ends.unsqueeze(0), y.unsqueeze(0))
        return torch.where(step == last, each, 0)

    def reduced(self, output: Tensor) -> Tensor:
        if self.lengths is None:
            return output[-1]
        last = self.lengths.each.clamp_max(len(output)) - 1
        return output[last, torch.arange(output.shape[1], device=output.device)]
