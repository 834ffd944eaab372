"""Implicit differentiation on the equilibrium state: DSR through feedback."""

from dataclasses import replace

from torch import Tensor

from spikewright.errors import NotConverged
from spikewright.metrics.operations import Operations
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._rate_checks import check_feedback
from spikewright.rules.rates._rate import Mask, RateRule
from spikewright.rules.rates.norms import NormName
from spikewright.solvers import Adjoint, Broyden, Report, Solver


class IDE(RateRule):
    r"""Implicit differentiation on the equilibrium state.

    Rates of a network with feedback solve :math:`a = f(a; \theta, x)`, of which a simulation is a solver.  So with
    :math:`J = \partial f / \partial a` at the recorded rates and g the gradient of the loss at a,

    .. math::
        v = J^\top v + g, \qquad \nabla\theta = \Big(\frac{\partial f}{\partial \theta}\Big)^{\!\top} v.

    Only feedback is solved for: between its ends the graph is differentiated as by `DSR`, and without feedback this is
    `DSR`.

    Exact when: nowhere promised; it tends to the gradient of the equilibrium as 1/T if the feedback contracts.
    Cost: a simulation without a graph, and one backward pass per iteration of the solver.
    Carried: nothing.  Checkpointed: nothing.

    Args:
        solver: Of the equation: `spikewright.solvers.Broyden`, `Anderson`, `FixedPoint` or `Spiking`.
        strict: Raise if the solver did not converge; otherwise `Update.report` says so.
        batch_norm: "rate" (statistics of the mean currents) or "running".
        mask: Where neurons have a slope, see `RateRule`.
        chunk: See `Rule`; a network with feedback is simulated step by step.

    Raises:
        IncompatibleRule: The loss is per step; a hard reset; a layer that means nothing at rates.
        NotConverged: `strict`, and the solver did not.

    Reference:
        Xiao et al., Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium State,
        NeurIPS 2021, arXiv 2109.14247.
    """

    def __init__(
        self,
        solver: Solver = Broyden(),  # noqa: B008  (it has no state)
        strict: bool = False,
        batch_norm: NormName = "rate",
        mask: Mask = "input",
        chunk: Chunk = "auto",
    ) -> None:
        super().__init__(batch_norm, mask, chunk)
        self.solver, self.strict = solver, strict
        self.traits = replace(self.traits, gradient_rows=1 + solver.passes)

    @property
    def cuts_layers(self) -> bool:
        return self.solver.cuts_layers

    def adjoint_loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report | None]:
        total, report = self.solver.loss(value, adjoint)
        if self.strict and not report.converged:
            raise NotConverged(f"{type(self).__name__}(strict=True): {report.reason}")
        return total, report

    def cost(self, done: Done) -> Cost | None:
        once = super().cost(done)
        if once is None:
            return None
        wiring, report = done.wiring, done.report
        passes = {site: w.dense for site, w in done.work.items() if done.crosses(site)}
        if report is None or not report.rates:
            solved = (report.iterations if report else 0) * sum(passes.values())
            return replace(once, operations=once.operations + Operations(0, solved))
        back = Operations(0, done.at_weights)  # the gradients at weights
        for site, dense in passes.items():
            layer = wiring.synapses[site]
            if not layer.receivers:
                back += Operations(0, dense)  # a readout sends its error once
            for receiver in layer.receivers:
                back += Operations(report.iterations * report.rates.get(receiver, 0.0) * dense)
        return replace(once, operations=back)

    def check(self, wiring: Wiring, sites: Sites) -> None:
        super().check(wiring, sites)
        check_feedback(type(self).__name__, wiring, sites)

    def extra_repr(self) -> str:
        return f"solver={self.solver}, strict={self.strict}, {super().extra_repr()}"
