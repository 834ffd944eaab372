"""Gradient projection memory: the directions of old inputs by singular vectors, found once per task."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from spikewright._util.trial import evaluating, restored
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.holding import Turn, every_module, exclusively
from spikewright.network.wiring import module_name
from spikewright.rules._base import Rule
from spikewright.rules.continual._projected import ProjectedRule
from spikewright.rules.continual.subspaces import Rows
from spikewright.rules.continual.subspaces.input_recorder import Form
from spikewright.synapses.operations import Operation


class GPM(ProjectedRule):
    r"""Gradient projection memory, around another rule.

    As `HLOP`, but the rows of :math:`H_l` are found when a task ends: the fewest eigenvectors of the second moment of
    what arrives at weight l, beside the rows that are there, such that all rows together hold a share
    :math:`\epsilon` of it.  Inputs are the means over time.

    Exact when: in the first task where the rule is; from then on for parameters that are not protected.
    Cost: that of the rule and of the projection; per task, one pass over samples and one eigendecomposition per weight.
    Carried: nothing of its own.  Checkpointed: the rows and the number of the task.

    Args:
        rule: The rule.
        threshold: The share :math:`\epsilon`, of the first task.
        increase: What each later task adds to it.
        samples_per_class: Samples of a finished task to look at.
        project: See `HLOP`.
        free: See `HLOP`.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
        IncompatibleRule: Something that is not protected may move in a later task.

    Reference:
        Saha, Garg, Roy, Gradient Projection Memory for Continual Learning, ICLR 2021, arXiv 2103.09762, section 4.
    """

    def __init__(
        self,
        rule: Rule,
        threshold: float = 0.97,
        increase: float = 0.0,
        samples_per_class: int = 30,
        project: Form = "auto",
        free: Collection[str] = (),
    ) -> None:
        super().__init__(rule, free, project=project)
        if not 0 < threshold <= 1 or samples_per_class < 1:
            raise ConfigError(
                f"GPM(threshold={threshold}, samples_per_class={samples_per_class}): the threshold is a share of what "
                "arrives, in (0, 1], found on at least one sample."
            )
        self.threshold, self.increase, self.samples_per_class = threshold, increase, samples_per_class

    @property
    def samples(self) -> int:
        return self.samples_per_class

    def learn_rows(self, arrived: Mapping[str, Rows]) -> None:
        pass

    @torch.no_grad()
    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        steps = 1 if net.sites.recurrent else len(x)  # that run at once
        seen = _Seen(steps, self.owners(net.sites))

        def look(turn: Turn) -> None:
            with restored(net), evaluating(net):
                net.run(x, observers=(seen,))

        exclusively(net.module, every_module(net.module), look)  # nobody else is to see the other mode
        share = min(1.0, self.threshold + self.increase * (int(self.task) - 1))
        for name, rows in seen.rows.items():
            subspace = self.subspaces[name]
            moment = rows.moment.double()
            old = subspace.old.double()
            rest = moment - moment @ old.T @ old
            rest = rest - old.T @ (old @ rest)
            values, vectors = torch.linalg.eigh((rest + rest.T) / 2)
            values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
            whole = moment.trace()
            rounding = len(moment) * torch.finfo(rows.moment.dtype).eps * whole
            missing = share * whole - (whole - rest.trace()) - rounding
            enough = int((values.cumsum(0) < missing).sum()) + 1 if missing > 0 else 0
            subspace.add(vectors.T[: min(enough, subspace.room)])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}, increase={self.increase}"


class _Seen:
    """An observer that keeps what arrived at weights, as the mean over the steps of a chunk.

    Args:
        steps: Of a chunk.
        owners: By the name of every module that is looked at, under which name its rows are kept.
    """

    def __init__(self, steps: int, owners: Mapping[str, str]) -> None:
        self._steps, self._owners = steps, owners
        self.rows: dict[str, Rows] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None: ...

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        name = self._owners.get(module_name(site))
        if name is not None:
            mean = x.unflatten(0, (self._steps, -1)).mean(0)
            self.rows.setdefault(name, Rows(weight[0].numel())).add(operation.patches(mean, weight))
