"""Implicit differentiation by spikes: the equation of IDE, solved by the network itself in a second phase."""

from spikewright.rules._chunk_size import Chunk
from spikewright.rules.rates.ide import IDE
from spikewright.rules.rates.norms import NormName
from spikewright.solvers import Spiking


class SPIDE(IDE):
    r"""Spike-based implicit differentiation on the equilibrium state: errors travel back as signed spikes.

    It is `IDE`, with the adjoint equation solved by `spikewright.solvers.Spiking`: a second phase of `steps` steps in
    which ternary neuron pairs send errors back through the transposed weights.  With :math:`a_l` the rate of the first
    phase, :math:`\beta_l` that of the second, R the reset amount of the neurons and :math:`m_l = [0 < a_l < 1]`,

    .. math::
        \nabla W_l = \tfrac{1}{R}\,(m_l \odot \beta_l) \otimes a_{l-1}.

    Use neurons whose reset potential is below zero (`IF(threshold=1.0, rest=-1.0)`), which makes the rates of the first
    phase unbiased.

    **Exact when**: never claimed.  It tends to `IDE(mask="output")` as 1 / `steps` while no pair is saturated.

    **Cost**: a simulation without a graph, and `steps` passes from the last layer to the first, in which only spikes
    cause operations.  Memory depends on neither number of steps.

    **Carried / Checkpointed**: nothing / nothing.

    Args:
        steps: Number of steps of the second phase.  From 1 to 10**6.  Default: 100.
        threshold: Threshold of the pairs; a spike of a pair is worth twice that.  > 0.  Default: 0.5.
        loss_scale: Factor of the gradient of each sample in the second phase; gradients are divided by it again.
            Errors below about `threshold / (steps * loss_scale)` never cause a spike, errors beyond `2 * threshold /
            loss_scale` saturate.  > 0.  Default: 1.0.
        leaky: If True, pairs have the leak of the neurons they belong to.  Default: False.
        strict: If True, raise an error if pairs are saturated; otherwise `Update.report` says so.  Default: False.
        batch_norm: How batch norm is treated in training mode: "rate" simulates with the running statistics and
            differentiates with the statistics of the mean currents of the batch, which update the running ones;
            "running" uses the running statistics as constants in both, and the mean currents update them; "joint" is
            refused in networks with feedback.  Default: "running".
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: "auto".  It concerns the first
            phase; a network with feedback runs one step at a time, whatever it is.

    Raises:
        ConfigError: `steps`, `threshold` or `loss_scale` is out of range; `batch_norm` is unknown; `chunk` is below 1
            or no known text.
        IncompatibleRule: The loss is per step; neurons have a hard reset or no rate map; a layer has no meaning at
            rates; or feedback does not come from neurons, and the neurons have different decays.
        NotConverged: `strict` is True, and more than 1 % of the pairs of a layer are saturated.

    Differs from the reference code:
        The loss scale is divided out of the gradients, so that it changes neither the learning rate nor the weight
        decay, and it is per sample: the published 100 to 500 at 128 samples are 0.8 to 4 here.  Dropout masks enter
        weight gradients too.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, SPIDE: A Purely Spike-Based Method for Training Feedback Spiking Neural Networks,
        Neural Networks 2023, arXiv 2302.00232.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> neurons = sw.IF(threshold=1.0, rest=-1.0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), neurons, torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(20, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> (update,) = sw.rules.SPIDE(steps=200).updates(net, x, y, loss)
        >>> update.report.iterations, update.report.converged
        (200, True)
    """

    def __init__(
        self,
        steps: int = 100,
        threshold: float = 0.5,
        loss_scale: float = 1.0,
        leaky: bool = False,
        strict: bool = False,
        batch_norm: NormName = "running",
        chunk: Chunk = "auto",
    ) -> None:
        super().__init__(Spiking(steps, threshold, loss_scale, leaky), strict, batch_norm, "output", chunk)
