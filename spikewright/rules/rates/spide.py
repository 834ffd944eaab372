"""Implicit differentiation by spikes: the equation of IDE, solved by the network itself in a second phase."""

from spikewright.rules._chunk_size import Chunk
from spikewright.rules.rates.ide import IDE
from spikewright.rules.rates.norms import NormName
from spikewright.solvers import Spiking


class SPIDE(IDE):
    r"""Spike-based implicit differentiation on the equilibrium state.

    `IDE`, with the adjoint equation solved by `spikewright.solvers.Spiking`: a second phase of `steps` steps in which
    ternary pairs send errors back as signed spikes.  With :math:`a_l` the rate of the first phase, :math:`\beta_l`
    that of the second and :math:`m_l = [0 < a_l < 1]`,

    .. math::
        \nabla W_l = \tfrac{1}{R}\,(m_l \odot \beta_l) \otimes a_{l-1}.

    Neurons should rest below zero (`IF(threshold=1.0, rest=-1.0)`), which makes the rates of the first phase unbiased.

    Exact when: nowhere promised; it tends to `IDE(mask="output")` as 1/steps while no pair is saturated.
    Cost: a simulation without a graph and `steps` sweeps from the top down, most of them of few spikes; memory depends
    on neither number of steps.
    Carried: nothing.  Checkpointed: nothing.

    Args:
        steps: Of the second phase.
        threshold: Of the pairs.
        loss_scale: Of the second phase, see `spikewright.solvers.Spiking`; gradients are divided by it again.
        leaky: Couples leak like the neurons they belong to.
        strict: Raise if pairs are saturated; otherwise `Update.report` says so.
        batch_norm: "running" (a fixed scale per channel, as far as spikes are concerned) or "rate".
        chunk: See `Rule`.

    Raises:
        IncompatibleRule: See `IDE`.
        NotConverged: `strict`, and more than one in a hundred pairs of a layer is saturated.

    Reference:
        Xiao et al., SPIDE: A Purely Spike-Based Method for Training Feedback Spiking Neural Networks, Neural Networks
        2023, arXiv 2302.00232.
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
