r"""Online pseudo-zeroth order: OTTT whose errors reach every layer directly, through feedback learned from noise."""

from typing import Literal

from spikewright.rules._chunk_size import Chunk
from spikewright.rules.ottt import OTTT
from spikewright.spatial import OPZO as Feedback
from spikewright.spatial import Local
from spikewright.spatial._base import Route
from spikewright.spatial._noise import Distribution, Position


class OPZO(OTTT):
    r"""Online pseudo-zeroth order: no backward pass, in time or through layers.

    Traces are those of `OTTT`.  In place of backpropagation through layers, the exact error e of the output reaches
    each of them through a matrix that noise in the forward pass teaches:

    .. math::
        M_l &\leftarrow \lambda M_l + (1 - \lambda)\, z_l \otimes o[t] / \alpha \\
        \delta_l[t] &= \psi(u_l[t]) \odot M_l\, e[t] \\
        \nabla W_l &= \textstyle\sum_t \delta_l[t] \otimes p_l[t].

    It is `OTTT(spatial=spikewright.spatial.OPZO(...))`; the other ways of `spikewright.spatial` are used like that.

    Exact when: nowhere promised, since outputs are perturbed while it learns.
    Cost: memory independent of the number of steps; one forward pass, and no error goes back through a layer's weights.
    Carried: a trace per traced synapse.  Checkpointed: the matrices, and how much noise has been drawn.

    Args:
        momentum: See `spikewright.spatial.OPZO`.
        alpha: See there.
        distribution: See there.
        position: See there.
        antithetic: See there.
        scale_by_alpha: See there.
        init: See there.
        debias: See there.
        center_output: See there.
        seed: See there.
        route: See there.
        local: Readouts and errors of every layer beside that, see `spikewright.spatial.Local`.
        online: Update the weights at every step.
        chunk: See `Rule`.

    Raises:
        IncompatibleRule: See `OTTT`.
        ConfigError: An argument is out of its range, or unknown.

    Reference:
        Xiao et al., Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR 2026,
        arXiv 2407.12516, section 4.
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
            momentum,
            alpha,
            distribution,
            position,
            antithetic,
            scale_by_alpha,
            init,
            debias,
            center_output,
            seed,
            route,
        )
        super().__init__(online=online, chunk=chunk, spatial=feedback, local=local)
