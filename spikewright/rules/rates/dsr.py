"""Differentiation on spike representation: spike trains as rates, neurons as clipped linear maps of them."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from spikewright._util.ranges import check_flag
from spikewright.errors import IncompatibleRule
from spikewright.network.rates import Rate, sum_of_weights
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring
from spikewright.neurons import Neuron
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._rate_checks import clips_rate
from spikewright.rules.rates._rate import RateRule
from spikewright.rules.rates.norms import NormName
from spikewright.solvers import Adjoint, Report


class DSR(RateRule):
    r"""Differentiation on spike representation: the gradient of a network of clipped linear rate maps.

    With :math:`r_l` the mean current and :math:`o_l` the mean output of layer l, both as recorded by the simulation,
    and k the gain, R the reset amount and A the amplitude of the neurons,

    .. math::
        r_l = W_l\,o_{l-1} + b_l, \qquad o_l \approx A \min(1, \max(0, k r_l / R)), \qquad
        \nabla W_l = \delta_l \otimes o_{l-1}, \qquad
        \delta_l = \tfrac{A k}{R}\,[0 \le k r_l \le R] \odot W_{l+1}^\top \delta_{l+1}.

    Means of leaky neurons weigh a step by :math:`\lambda^{age}`, with :math:`\lambda` the decay.

    **Exact when**: never claimed.  It is the gradient of the rate maps, which the spikes follow up to the remaining
    membrane potential, of the order 1 / steps.  At readouts behind neurons without leak it equals that of BPTT.

    **Cost**: a simulation without a graph, and one forward and backward pass of an ordinary network.  Memory does not
    depend on the number of steps, except with `batch_norm="joint"`.

    **Carried / Checkpointed**: nothing / nothing (trained thresholds are parameters of their neurons).

    Args:
        batch_norm: How batch norm is treated in training mode: "rate" simulates with the running statistics and
            differentiates with the statistics of the mean currents of the batch, which update the running ones;
            "running" uses the running statistics as constants in both, and the mean currents update them; "joint" uses
            statistics over all steps and samples in both, as published: it needs all steps at once and a second
            simulation, and where norms follow each other without neurons in between a third, in memory that grows with
            the number of steps.  Default: "rate".
        reference: If True, do as the authors' code for leaky neurons: slope :math:`1/\tau` on the open range, plain
            means into weights, and the weights of the mean applied twice at the last layer.  Default: False.
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: "auto".  With "joint" batch
            norm all steps run together, whatever it is.

    Raises:
        ConfigError: `batch_norm` is unknown; `reference` is not a bool; `chunk` is below 1 or no known text.
        IncompatibleRule: The loss is per step; the network has feedback (use `IDE`); neurons have a hard reset or no
            rate map; or a layer has no meaning at rates (max pooling, dropout drawn at each step, layer norm).

    Differs from the reference code:
        The slope of a leaky neuron is that of the exact relation between means, :math:`(1 - \beta) / dt` with
        :math:`\beta = e^{-dt/\tau}`, not :math:`1/\tau`.  `reference=True` is the code.

    Reference:
        Meng, Xiao, Yan, Wang, Lin, Luo, Training High-Performance Low-Latency Spiking Neural Networks by
        Differentiation on Spike Representation, CVPR 2022, arXiv 2205.00459, section 4.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.IF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(20, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> (update,) = sw.rules.DSR().updates(net, x, y, loss)
        >>> sw.certify(net, sw.rules.DSR(), x, y, loss).rows[2].relative_error < 1e-5  # the weight of the readout
        True
    """

    def __init__(self, batch_norm: NormName = "rate", reference: bool = False, chunk: Chunk = "auto") -> None:
        super().__init__(batch_norm, "input", chunk)
        check_flag("DSR", reference=reference)
        self.reference = reference
        self.traits = replace(self.traits, ragged=not reference)  # whose slope depends on the number of steps

    def adjoint_loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report | None]:
        return value, None

    @property
    def plain_means(self) -> bool:
        return self.reference

    def value(self, wiring: Wiring, site: str, recorded: Rate) -> Tensor:
        return recorded.plain if self.reference and wiring.is_sender(site) else recorded.output

    def rate_map(self, wiring: Wiring, site: str, neuron: Neuron, recorded: Rate, rate: Tensor) -> Tensor:
        leak = neuron.dynamics.decay
        if not self.reference or leak == 1:
            return super().rate_map(wiring, site, neuron, recorded, rate)
        assert isinstance(leak, float)  # see `check`
        share = neuron.normalised_rate(rate) * (-math.log(leak) / (1 - leak))
        y = neuron.spike_amplitude * torch.where((share > 0) & (share < 1), share, (share > 1).to(share))
        if wiring.is_sender(site):
            return y
        steps = recorded.steps
        return y * (steps * sum_of_weights(leak**2, steps) / sum_of_weights(leak, steps) ** 2)

    def check(self, wiring: Wiring, sites: Sites) -> None:
        super().check(wiring, sites)
        if sites.recurrent:
            raise IncompatibleRule(
                f"DSR differentiates layer after layer, but '{next(iter(sites.sources))}' feeds back, so that rates "
                "are the solution of an equation. Use IDE, which is DSR with feedback, or SPIDE."
            )
        for site, neuron in wiring.neurons.items():
            decay = neuron.dynamics.decay
            if self.reference and not clips_rate(neuron):
                raise IncompatibleRule(
                    f"DSR(reference=True) defines its slope for neurons with a clipped linear rate map, but '{site}' "
                    f"({type(neuron).__name__}) declares another rate map. Use reference=False."
                )
            if self.reference and (not isinstance(decay, float) or decay == 0):
                raise IncompatibleRule(
                    f"DSR(reference=True) has a slope of -log(leak) / dt, but '{site}' has a leak of "
                    f"{decay}. Use one leak between 0 and 1 for the layer, or reference=False."
                )

    def extra_repr(self) -> str:
        return f"batch_norm={self.batch_norm!r}, reference={self.reference}, chunk={self.chunk!r}"
