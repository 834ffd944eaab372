"""Online pseudo-zeroth order: OTTT with direct feedback matrices that are learned from noise."""

from typing import Literal

from spikewright.rules._chunk_size import Chunk
from spikewright.rules.ottt import OTTT
from spikewright.spatial import OPZO as Feedback
from spikewright.spatial import Local
from spikewright.spatial._base import Route
from spikewright.spatial._noise import Distribution, Position


class OPZO(OTTT):
    r"""Online pseudo-zeroth order: no backward pass, neither through time nor through layers.

    Traces p are those of `OTTT`.  In place of backpropagation through layers, the exact error e of the output reaches
    each layer of neurons through a feedback matrix, which is estimated from noise :math:`\alpha z_l` in the forward
    pass.  With o the output, B the batch size, :math:`u_l` the membrane potential and :math:`\psi` the surrogate
    derivative,

    .. math::
        M_l &\leftarrow \lambda M_l + (1 - \lambda)\, \tfrac1B \textstyle\sum_b z_l^{(b)} \otimes o^{(b)}[t] / \alpha \\
        \delta_l[t] &= \psi(u_l[t]) \odot M_l\, e[t] \\
        \nabla W_l &= \textstyle\sum_t \delta_l[t] \otimes p_l[t].

    It is `OTTT(spatial=spikewright.spatial.OPZO(...))`; combine `OTTT` or `SLTT` with other classes of
    `spikewright.spatial` in the same way.

    **Exact when**: never claimed, since outputs are perturbed during learning.  M tends to the transposed Jacobian of
    the output, averaged over data and noise.

    **Cost**: one forward pass, and two products with M per layer and step; no error passes through the weights of
    another layer.  Activation memory is that of one chunk, whatever the number of steps.

    **Carried / Checkpointed**: a trace per traced layer, `[batch, *input_feature]` / the matrices M, `[neuron, output]`
    per layer, and the numbers of sequences and steps so far.

    Args:
        momentum: Share :math:`\lambda` of M that is kept per step; M averages over about 1 / (1 - momentum) steps.  In
            [0, 1); 1 too with `init="dfa"`, whose matrices then stay as they are.  Default: 0.9999.
        alpha: Size :math:`\alpha` of the noise.  > 0.  Default: 0.2.
        distribution: Distribution of the noise, of variance 1 before `alpha`: "gaussian", "rademacher" (plus or minus
            1), or "sphere" (uniform on a sphere, for each sample and layer).  Default: "gaussian".
        position: "post" adds noise to what neurons emit, so that the layers behind see it; "pre" adds it to the
            current, so that spikes stay binary.  Default: "post".
        antithetic: If True, the second step of every pair takes the noise of the first with the opposite sign, which
            removes the common part of the two outputs; it biases M below the last layer where neurons leak.
            Default: True.
        scale_by_alpha: If True, divide by :math:`\alpha`, as in the definition; otherwise M and all errors are
            :math:`\alpha` times smaller.  Default: True.
        init: First value of M: "zero", or "dfa", a random matrix as of `spikewright.spatial.DFA`, whose share decays.
            Default: "zero".
        debias: If True, divide M by :math:`1 - \lambda^k` after k steps, so that errors have their full size from the
            first step; without effect with `init="dfa"`.  Default: True.
        center_output: If True, subtract a running mean (rate 0.01) from the output before it is correlated with the
            noise: less variance, the same expectation.  Default: False.
        seed: Seed of the noise and of the first M.  From 0 to 2**63 - 1.  Default: 0.
        route: Where errors start: "output", the output of the network; or "penultimate", the input of the readout, so
            that M does not grow with the number of outputs.  Default: "output".
        local: A `spikewright.spatial.Local`, which gives every layer of neurons a trained readout and an error of its
            own.  Default: None, no local errors.
        online: If True, yield an update at every step; otherwise one per sequence.  Default: False.
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: 1.  With `online` it is 1.

    Raises:
        ConfigError: `momentum`, `alpha` or `seed` is out of range; a flag is not a bool; `distribution`, `position`,
            `init` or `route` is unknown; `chunk` is below 1 or no known text.
        IncompatibleRule: The loss is not per step; a layer feeds neurons of different decays; the output is complex; or
            `route="penultimate"` in a network without a single linear readout behind neurons.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR
        2026, arXiv 2407.12516, section 4, equation 6.  No code is published.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(6, 2, 4), torch.tensor([0, 2]), sw.losses.PerStep(torch.nn.CrossEntropyLoss())
        >>> rule = sw.rules.OPZO()
        >>> (update,) = rule.updates(net, x, y, loss)
        >>> bool(net.module[0].weight.grad.abs().sum() > 0), list(rule.spatial.matrices["output 1"].shape)
        (True, [8, 3])
    """

    def __init__(
        self,
        momentum: float = 0.9999,
        alpha: float = 0.2,
        distribution: Distribution = "gaussian",
        position: Position = "post",
        antithetic: bool = True,
        scale_by_alpha: bool = True,
        init: Literal["zero", "dfa"] = "zero",
        debias: bool = True,
        center_output: bool = False,
        seed: int = 0,
        route: Route = "output",
        local: Local | None = None,
        online: bool = False,
        chunk: Chunk = 1,
    ) -> None:
        feedback = Feedback(
            momentum=momentum,
            alpha=alpha,
            distribution=distribution,
            position=position,
            antithetic=antithetic,
            scale_by_alpha=scale_by_alpha,
            init=init,
            debias=debias,
            center_output=center_output,
            seed=seed,
            route=route,
        )
        super().__init__(online=online, chunk=chunk, spatial=feedback, local=local)
