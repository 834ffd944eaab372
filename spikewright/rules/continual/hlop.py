"""Hebbian learning based orthogonal projection: lateral weights learn which inputs old tasks had."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from spikewright._util.ranges import check_counts, check_flag, check_numbers, check_seed
from spikewright.errors import IncompatibleRule
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._base import Rule
from spikewright.rules.continual._around import check_inner
from spikewright.rules.continual._growth import Growth, check_rows, entry_for, rows_of
from spikewright.rules.continual._projected import ProjectedRule
from spikewright.rules.continual.subspaces import Hebbian, Lateral, Rows, Subspace
from spikewright.rules.continual.subspaces.input_recorder import Form, Observe


class HLOP(ProjectedRule):
    r"""Hebbian learning based orthogonal projection: gradients avoid the directions of earlier inputs.

    With :math:`H_l` the lateral weights of earlier tasks at layer l, y the function of the lateral neurons (the
    identity if they are linear) and :math:`\delta_l \otimes p_l` the gradient that the rule inside finds,

    .. math::
        \nabla W_l = \textstyle\sum \delta_l \otimes (p_l - H_l^\top y(H_l\,p_l)),

    so that outputs for old inputs do not change.  While a task is learned, new rows of lateral weights learn the inputs
    x of the layer by Oja's subspace rule.  With :math:`z = y(H x)` from all rows, old and new, momentum m, :math:`\mu`
    (`momentum`), c (`clamp`) and :math:`\eta` (`rate`),

    .. math::
        D = \mathrm{clamp}\bigl(\langle z_{new} (x - H^\top z)^\top \rangle, \pm c\bigr), \qquad
        m \leftarrow \mu m + (1 - \mu) D, \qquad H_{new} \leftarrow H_{new} + \eta\, m.

    `next_task` adds the new rows to :math:`H_l`.

    **Exact when**: in the first task where the rule inside is; from then on for parameters that are not protected.

    **Cost**: that of the rule inside, and products of the inputs with the lateral weights, once per update.  A weight
    whose old rows are more than half of its N inputs keeps the projection as a matrix, `[N, N]`.

    **Carried / Checkpointed**: nothing beside the rule inside / the lateral weights and the momentum of the new ones,
    `[row, input]` per weight, and the number of the task.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself.
        rows: Number of rows that each task adds: a float is the share of the inputs, in [0, 1]; an integer their
            number, at least 0; a sequence has an integer for each task, of which the last counts for later ones too; a
            mapping has one of these by name of the module, which may contain `*`.  Default: 0.1.
        rate: Learning rate :math:`\eta` of the lateral weights, or a mapping of rates by name of the module, which may
            contain `*`.  > 0; stable below about the inverse of the largest mean square along a direction.
            Default: 0.01.
        iterations: Number of steps of the lateral weights per update.  From 1 to 10**6.  Default: 5.
        momentum: Momentum :math:`\mu` of the lateral weights.  In [0, 1).  Default: 0.9.
        clamp: Largest entry c of a step of the lateral weights, before the rate.  > 0.  Default: 10.0.
        lateral_steps: Number of steps of the bursts that the lateral neurons emit.  At least 1.  Default: None, linear
            neurons.
        lateral_scale: Largest value of a burst; without effect for linear neurons.  > 0.  Default: 20.0.
        orthonormal: If True, replace the rows by an orthonormal basis of their span when a task ends, so that the
            projection is exact; with False (as published) rows that have not converged reverse gradients along some
            directions.  Default: True.
        observe: What lateral weights learn from: "mean", the mean over time of what weight gradients are taken at; or
            "steps" (as published), what is transmitted at every step, and if gradients are taken at something else (a
            trace), that too.  Default: "mean".
        project: What is projected: "inputs", what weight gradients are taken at; "gradient", finished gradients; or
            "auto", the cheaper of the two, which are equal for linear lateral neurons.  Default: "auto".
        free: Names of modules that are not protected, such as heads that serve one task; a name includes the modules
            inside.  Default: (), none.
        seed: Seed of the first lateral weights.  From 0 to 2**63 - 1.  Default: 0.

    Raises:
        ConfigError: An argument is out of its range or unknown; a mapping has no entry for a protected module; `rule`
            is not a rule, or is a continual rule itself.
        IncompatibleRule: The rule inside finds its gradients by itself; or, in a later task, something that is not
            protected may change.

    Differs from the reference code:
        Rows are made orthonormal when a task ends.  Lateral weights learn once per update, from all inputs of it, not
        once per step, and from means over time.  Patches have the true stride of a convolution.  `orthonormal=False`
        and `observe="steps"` are the code.

    Reference:
        Xiao, Meng, Zhang, He, Lin, Hebbian Learning based Orthogonal Projection for Continual Learning of Spiking
        Neural Networks, ICLR 2024, arXiv 2402.11984.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> rule = sw.rules.HLOP(sw.rules.BPTT(), rows=1)
        >>> (update,) = rule.updates(net, x, y, loss)
        >>> rule.next_task(net, x, y, loss)
        >>> rule.freeze(net)
        >>> net.zero_grad()
        >>> (update,) = rule.updates(net, torch.rand(5, 2, 4), y, loss)
        >>> bool((net.module[0].weight.grad @ rule.subspaces["0"].old.T).abs().max() < 1e-6)
        True
    """

    def __init__(
        self,
        rule: Rule,
        rows: Growth | Mapping[str, Growth] = 0.1,
        rate: float | Mapping[str, float] = 0.01,
        iterations: int = 5,
        momentum: float = 0.9,
        clamp: float = 10.0,
        lateral_steps: int | None = None,
        lateral_scale: float = 20.0,
        orthonormal: bool = True,
        observe: Observe = "mean",
        project: Form = "auto",
        free: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        check_inner("HLOP", rule)
        check_flag("HLOP", orthonormal=orthonormal)
        check_seed("HLOP", seed)
        if rule.traits.gradients == "own":
            raise IncompatibleRule(
                f"HLOP learns its lateral weights from the inputs of layers while {rule} learns, but that rule finds "
                "its gradients by itself, so that these inputs are not what gradients are taken at. Use GPM, which "
                "runs samples when a task ends and projects the finished gradients."
            )
        check_counts("HLOP", optional=True, lateral_steps=lateral_steps)
        check_numbers("HLOP", "(0, inf)", lateral_scale=lateral_scale)
        super().__init__(rule, free, observe, project, Lateral(lateral_steps, lateral_scale))
        self.rows, self.orthonormal, self.seed = rows, orthonormal, seed
        rates = rate if isinstance(rate, Mapping) else {"*": rate}
        self.rates = {name: Hebbian(value, iterations, momentum, clamp) for name, value in rates.items()}
        for growth in rows.values() if isinstance(rows, Mapping) else [rows]:
            check_rows(growth)

    def begin_task(self, net: Network) -> None:
        generator = torch.Generator().manual_seed(self.seed + int(self.task))
        for name, subspace in self.subspaces.by_name().items():
            growth = entry_for("rows", self.rows, name) if isinstance(self.rows, Mapping) else self.rows
            subspace.grow(rows_of(growth, int(self.task) - 1, subspace.size), generator)

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        for subspace in self.subspaces.by_name().values():
            subspace.merge(self.orthonormal)

    def learn_rows(self, arrived: Mapping[str, Rows]) -> None:
        for name, rows in arrived.items():
            entry_for("rate", self.rates, name)(self.subspaces[name], rows.over_batch())

    def products(self, subspace: Subspace) -> int:
        new = len(subspace.new)
        return next(iter(self.rates.values())).iterations * 3 * new + subspace.products if new else 0

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rows={self.rows}, orthonormal={self.orthonormal}"
