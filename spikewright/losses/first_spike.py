"""The loss on the time of the first spike."""

import torch
from torch import Tensor

from spikewright._util.criterion import Criterion
from spikewright._util.ranges import check_flag
from spikewright._util.real_numbers import check_real
from spikewright.errors import IncompatibleRule
from spikewright.losses._reduced import Reduced
from spikewright.losses.firing_rate import FiringRatePenalty


class FirstSpike(Reduced):
    r"""Loss on the time to the first spike of every output neuron: the earlier, the larger the output of its class.

    The time is the number of steps before the first spike, from 0 to T, the number of steps, for a neuron that never
    fires.  With :math:`s_c[k]` the spike of output neuron c at step k, 0 or 1,

    .. math::
        \tau_c = \sum_{t=0}^{T-1} \prod_{k=0}^{t} (1 - s_c[k]), \qquad L = \ell(-\tau, y) ,

    where :math:`\ell` is the criterion; with `negate=False` it is given :math:`\tau`.  The gradient at a spike is the
    derivative of this polynomial, linear in every :math:`s_c[k]`: exactly the change of the time by a spike that is
    added at step k, or taken away there, given the others.  It is :math:`-(\tau_c - k)` before the first spike, minus
    the steps from the first to the second spike at the first, and 0 after it; of a silent neuron it is
    :math:`-(T - k)`, so that its class can be learned.  It is passed on by the surrogate derivative of the neurons.

    The time is known when the sequence has ended, so that rules that learn step by step cannot use it, and it is no
    function of the mean output, so that rules of rates cannot.  In a padded batch T is the length of each sequence.

    Args:
        criterion: Callable of minus the times, `[batch, class]`, and the target that returns a scalar, such as
            `nn.CrossEntropyLoss()`.
        negate: True gives the criterion minus the times; False the times, in steps, as for `nn.MSELoss()` with target
            times.  Default: True.
        penalty: A `FiringRatePenalty` that is added to the loss.  Default: None.

    Raises:
        ConfigError: `criterion` is a class, or cannot be called with two arguments; or `negate` is not a bool.

    Differs from others:
        snnTorch takes -1 as derivative of the time by the first spike, and 0 by all others.

    Reference:
        The product is the probability that a neuron has not fired yet, if spikes are drawn independently, so that the
        sum is the mean time to the first one; a function that is linear in every argument, with given values for 0 and
        1, is its multilinear extension: Owen, Multilinear Extensions of Games, Management Science 18, 1972.

    Examples:
        >>> import torch, spikewright as sw
        >>> loss = sw.losses.FirstSpike(torch.nn.MSELoss(), negate=False)
        >>> spikes = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
        >>> loss(spikes, torch.tensor([[0.0, 3.0]]), steps=3).item()  # times are 1 and, without a spike, 3
        0.5
    """

    of_mean = False
    reads = "the time of the first spike"

    def __init__(self, criterion: Criterion, negate: bool = True, penalty: FiringRatePenalty | None = None) -> None:
        super().__init__(criterion, penalty)
        check_flag("FirstSpike", negate=negate)
        self.negate = negate

    def times(self, output: Tensor) -> Tensor:
        """Return the times of the first spikes, in steps, `[batch, *feature]`.

        Args:
            output: Outputs, `[time, batch, *feature]`, spikes of 0 and of one positive number.

        Raises:
            IncompatibleRule: The outputs are no spikes.
        """
        why, advice = "reads spikes", "Let the network end in a layer of neurons."
        check_real(self, "the output of the network", output, why, advice)
        size = output.detach().amax()
        self._check_spikes(output, size)
        silent = (1 - output / torch.where(size > 0, size, 1)).cumprod(0)
        return silent.sum(0) if self.lengths is None else self.lengths.masked(silent).sum(0)

    def reduced(self, output: Tensor) -> Tensor:
        times = self.times(output)
        return -times if self.negate else times

    def scores(self, output: Tensor) -> Tensor:
        return -self.times(output)

    def _check_spikes(self, output: Tensor, size: Tensor) -> None:
        if torch.compiler.is_compiling():
            return
        other = (output != 0) & (output != size)
        if bool(other.any()):
            raise IncompatibleRule(
                f"{self} reads the time of the first spike of every output, but the output of the network holds "
                f"{output[other][0].item():.4g} and up to {size.item():.4g}, where spikes are 0 or one positive "
                "number. Let the network end in a layer of neurons, or use MaxOverTime for the potential of a readout."
            )
