"""Implicit differentiation on the equilibrium state: DSR for networks with feedback."""

from dataclasses import replace
from typing import Self

from torch import Tensor

from spikewright._util.ranges import check_flag, check_instance
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
    r"""Implicit differentiation on the equilibrium state: the gradient of the fixed point that the rates approach.

    The rates a of a network with feedback solve :math:`a = f(a; \theta, x)`, and a simulation approximates the
    solution.  With :math:`J = \partial f / \partial a` at the recorded rates and g the gradient of the loss by a,

    .. math::
        v = J^\top v + g, \qquad \nabla\theta = \Big(\frac{\partial f}{\partial \theta}\Big)^{\!\top} v.

    Only feedback connections are solved for; between them the graph is differentiated as by `DSR`, and without feedback
    the two rules are the same.

    **Exact when**: never claimed.  It tends to the gradient of the equilibrium as 1 / steps if the feedback contracts.

    **Cost**: a simulation without a graph, and one backward pass per iteration of the solver.  Memory does not depend
    on the number of steps.

    **Carried / Checkpointed**: nothing / nothing.

    Args:
        solver: Solver of the equation, an object of `spikewright.solvers`: `Broyden`, `Anderson`, `FixedPoint` or
            `Spiking`.  Default: Broyden().
        strict: If True, raise an error if the solver did not converge; otherwise `Update.report` says so.
            Default: False.
        batch_norm: How batch norm is treated in training mode: "rate" simulates with the running statistics and
            differentiates with the statistics of the mean currents of the batch, which update the running ones;
            "running" uses the running statistics as constants in both, and the mean currents update them; "joint" is
            refused in networks with feedback.  Default: "rate".
        mask: Where the rate map has a derivative: "input", where the recorded mean current lies in the linear range,
            ends included; or "output", where the recorded mean output lies strictly between 0 and its maximum.
            Default: "input".
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: "auto".  A network with
            feedback runs one step at a time, whatever it is.

    Raises:
        ConfigError: `solver` is not a solver; `strict` is not a bool; `batch_norm` or `mask` is unknown; `chunk` is
            below 1 or no known text.
        IncompatibleRule: The loss is per step; neurons have a hard reset or no rate map; a layer has no meaning at
            rates; or feedback does not come from neurons, and the neurons have different decays.
        NotConverged: `strict` is True, and the solver did not converge.

    Differs from the reference code:
        Values and slopes of all layers are those that the simulation recorded, not only those of the last one.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, Training Feedback Spiking Neural Networks by Implicit Differentiation on the
        Equilibrium State, NeurIPS 2021, arXiv 2109.14247.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> neurons, back = sw.IF(threshold=2.0), sw.layers.restrict_spectral(torch.nn.Linear(8, 8, bias=False))
        >>> layers = torch.nn.Linear(4, 8), sw.Feedback(back, neurons), neurons, torch.nn.Linear(8, 3)
        >>> net = sw.Network(torch.nn.Sequential(*layers))
        >>> x, y, loss = torch.rand(20, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> (update,) = sw.rules.IDE().updates(net, x, y, loss)
        >>> update.report.converged
        True
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
        name = type(self).__name__
        check_instance(name, "solver", solver, Solver, "sw.solvers.Broyden()")
        check_flag(name, strict=strict)
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

    def trial_copy(self, chunk: int) -> Self:
        copy = super().trial_copy(chunk)
        copy.solver, copy.strict = self.solver.trial_copy(), False
        return copy

    def extra_repr(self) -> str:
        return f"solver={self.solver}, strict={self.strict}, {super().extra_repr()}"
