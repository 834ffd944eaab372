r"""Hebbian learning based orthogonal projection: what lateral weights learned in old tasks, new tasks leave alone."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import Tensor

from spikewright.errors import ConfigError, IncompatibleRule, nearest
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._base import Rule
from spikewright.rules.continual._projected import ProjectedRule
from spikewright.rules.continual.subspaces import Hebbian, Lateral, Rows, Subspace
from spikewright.rules.continual.subspaces.input_recorder import Form, Observe

Growth = float | Sequence[int]
"""Rows per task: a share of the inputs, a number, or a number for every task, of which the last holds from there on."""
T = TypeVar("T")


class HLOP(ProjectedRule):
    r"""Hebbian learning based orthogonal projection, around another rule.

    With :math:`H_l` the lateral weights that old tasks left at weight l, and :math:`\delta_l \otimes p_l` the gradient
    of the rule,

    .. math::
        \nabla W_l = \textstyle\sum \delta_l \otimes (p_l - H_l^\top y(H_l\,p_l)),

    so that outputs for old inputs do not change.  While a task is learned, new rows of lateral weights learn what
    arrives there, see `spikewright.rules.continual.subspaces.Hebbian`; `next_task` adds them to :math:`H_l`.

    Exact when: in the first task where the rule is; from then on for parameters that are not protected.
    Cost: that of the rule, and products of what arrives with the lateral weights, once per update.  At a weight with
    settled rows for more than half of its N inputs, a matrix of N by N is kept, which projects.
    Carried: nothing of its own.  Checkpointed: the lateral weights and the number of the task.

    Args:
        rule: The rule.
        rows: Rows of lateral weights that each task adds, or a table of that by names of modules, which may have `*`.
        rate: Learning rate of lateral weights, or a table likewise.
        iterations: Steps of lateral weights per update.
        momentum: Of lateral weights.
        clamp: Largest entry of a step of lateral weights, before the rate.
        lateral_steps: Length of the bursts that stand for the output of lateral neurons; `None` has them linear.
        lateral_scale: Largest value of a burst.
        orthonormal: Make settled rows orthonormal when a task ends, so that the projection is one exactly, however
            far learning has got; published is `False`, where rows that have not converged turn gradients around.
        observe: What lateral weights learn from: the mean over time ("mean"), or every step, and where the gradient is
            taken at something else (a trace) that too ("steps", as published).
        project: What is projected: what gradients are taken at ("inputs"), or finished gradients ("gradient"); the same
            for linear lateral neurons, of which "auto" takes the cheaper.
        free: Names of modules that are not protected, such as heads that serve one task.
        seed: Of the first values of lateral weights.

    Raises:
        ConfigError: An argument is out of its range, or unknown.
        IncompatibleRule: Something that is not protected may move in a later task; or the rule finds its gradients by
            itself.

    Reference:
        Xiao et al., Hebbian Learning based Orthogonal Projection for Continual Learning of Spiking Neural Networks,
        ICLR 2024, arXiv 2402.11984.
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
        if rule.traits.gradients == "own":
            raise IncompatibleRule(
                f"HLOP learns its lateral weights from what layers see while {rule} learns, but that rule finds its "
                "gradients by itself, so that what layers see is not what they are taken at. Use GPM, which looks at "
                "samples when a task ends and projects the finished gradients."
            )
        super().__init__(rule, free, observe, project, Lateral(lateral_steps, lateral_scale))
        self.rows, self.orthonormal, self.seed = rows, orthonormal, seed
        rates = rate if isinstance(rate, Mapping) else {"*": rate}
        self.rates = {name: Hebbian(value, iterations, momentum, clamp) for name, value in rates.items()}
        for growth in rows.values() if isinstance(rows, Mapping) else [rows]:
            _check_rows(growth)

    def begin_task(self, net: Network) -> None:
        generator = torch.Generator().manual_seed(self.seed + int(self.task))
        for name, subspace in self.subspaces.by_name().items():
            growth = _chosen("rows", self.rows, name) if isinstance(self.rows, Mapping) else self.rows
            subspace.grow(_rows_of(growth, int(self.task) - 1, subspace.size), generator)

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        for subspace in self.subspaces.by_name().values():
            subspace.merge(self.orthonormal)

    def learn_rows(self, arrived: Mapping[str, Rows]) -> None:
        for name, rows in arrived.items():
            _chosen("rate", self.rates, name)(self.subspaces[name], rows)

    def products(self, subspace: Subspace) -> int:
        new = len(subspace.new)
        return next(iter(self.rates.values())).iterations * 3 * new + subspace.products if new else 0

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rows={self.rows}, orthonormal={self.orthonormal}"


def _chosen(what: str, table: Mapping[str, T], name: str) -> T:
    """Return what a table says of a module: the first entry whose name, which may have `*`, is the module's."""
    for pattern, value in table.items():
        if fnmatchcase(name, pattern):
            return value
    raise ConfigError(
        f"HLOP({what}={dict(table)}) says nothing of '{name}', which is protected. {nearest(name, table)} Give it an "
        "entry, or one for '*', or leave the layer out with free."
    )


def _rows_of(growth: Growth, task: int, size: int) -> int:
    """Return the rows that a task adds at a weight of so many inputs."""
    if isinstance(growth, Sequence):
        growth = growth[min(task, len(growth) - 1)]
    return round(growth * size) if isinstance(growth, float) else growth


def _check_rows(growth: Growth) -> None:
    numbers = list(growth) if isinstance(growth, list | tuple) else [growth]
    share = isinstance(growth, float) and 0 <= growth <= 1
    if not share and not (numbers and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)):
        raise ConfigError(
            f"HLOP(rows={growth!r}): give a share of the inputs from 0.0 to 1.0, a number of rows, or a number for "
            "every task."
        )
