"""Gradient projection memory: singular vectors of old inputs, computed once per task."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from spikewright._util.ranges import check_count, check_within
from spikewright._util.trial import evaluating, restored
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
    r"""Gradient projection memory: gradients stay orthogonal to the principal directions of earlier inputs.

    With :math:`H_l` the orthonormal rows of earlier tasks at layer l and :math:`\delta_l \otimes p_l` the gradient that
    the rule inside finds,

    .. math::
        \nabla W_l = \textstyle\sum \delta_l \otimes (p_l - H_l^\top H_l\,p_l).

    When a task ends, the fewest eigenvectors of the second moment of the inputs of layer l, averaged over time, are
    added to :math:`H_l` such that all rows together hold a share :math:`\epsilon` of it.

    **Exact when**: in the first task where the rule inside is; from then on for parameters that are not protected.

    **Cost**: that of the rule inside and of the projection; per task, one forward pass over samples and one
    eigendecomposition per weight.

    **Carried / Checkpointed**: nothing beside the rule inside / the rows, `[row, input]` per weight, and the number of
    the task.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself.
        threshold: Share :math:`\epsilon` of the second moment, in the first task.  In (0, 1].  Default: 0.97.
        increase: What each later task adds to the share, which stays at most 1.  Any finite number.  Default: 0.0.
        samples_per_class: Number of samples per class of a finished task to compute the rows from.  At least 1.
            Default: 30.
        project: What is projected: "inputs", what weight gradients are taken at; "gradient", finished gradients; or
            "auto", whichever takes fewer multiplications.  Default: "auto".
        free: Names of modules that are not protected, such as heads that serve one task; a name includes the modules
            inside.  Default: (), none.

    Raises:
        ConfigError: `threshold`, `increase` or `samples_per_class` is out of range; `project` is unknown; `rule` is not
            a rule, or is a continual rule itself.
        IncompatibleRule: `project="inputs"` with a rule that finds its gradients by itself; or, in a later task,
            something that is not protected may change.

    Reference:
        Saha, Garg, Roy, Gradient Projection Memory for Continual Learning, ICLR 2021, arXiv 2103.09762, section 4.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> rule = sw.rules.GPM(sw.rules.BPTT())
        >>> rule.next_task(net, x, y, loss)
        >>> rule.freeze(net)
        >>> (update,) = rule.updates(net, torch.rand(5, 2, 4), y, loss)
        >>> bool((net.module[0].weight.grad @ rule.subspaces["0"].old.T).abs().max() < 1e-6)
        True
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
        check_within("GPM", "threshold", threshold, "(0, 1]", "the threshold is a share of what arrives")
        check_within("GPM", "increase", increase, "(-inf, inf)", "each task adds it to the threshold")
        check_count("GPM", "samples_per_class", samples_per_class, "rows are found on at least one sample per class")
        self.threshold, self.increase, self.samples_per_class = threshold, increase, samples_per_class

    @property
    def samples(self) -> int:
        return self.samples_per_class

    def learn_rows(self, arrived: Mapping[str, Rows]) -> None:
        pass

    @torch.no_grad()
    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        steps = 1 if net.sites.recurrent else len(x)  # per chunk of `net.run`
        seen = _Seen(steps, self.owners(net.sites))

        def look(turn: Turn) -> None:
            with restored(net), evaluating(net):
                net.run(x, observers=(seen,))

        exclusively(net.module, every_module(net.module), look)  # the mode is switched meanwhile
        share = min(1.0, self.threshold + self.increase * (int(self.task) - 1))
        for name, rows in seen.rows.items():
            subspace = self.subspaces[name]
            moment = rows.moment.double()
            old = subspace.old.double()
            remainder = moment - moment @ old.T @ old
            remainder = remainder - old.T @ (old @ remainder)
            values, vectors = torch.linalg.eigh((remainder + remainder.T) / 2)
            values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
            whole = moment.trace()
            rounding = len(moment) * torch.finfo(rows.moment.dtype).eps * whole
            missing = share * whole - (whole - remainder.trace()) - rounding
            enough = int((values.cumsum(0) < missing).sum()) + 1 if missing > 0 else 0
            subspace.add(vectors.T[: min(enough, subspace.room)])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}, increase={self.increase}"


class _Seen:
    """An observer that stores the inputs of weights, as the mean over the steps of a chunk.

    Args:
        steps: Number of steps of a chunk.  At least 1.
        owners: By the name of every observed module, the name that its rows are stored under.
    """

    def __init__(self, steps: int, owners: Mapping[str, str]) -> None:
        self._steps, self._owners = steps, owners
        self.rows: dict[str, Rows] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None: ...

    def potential(self, site: str, potential: Tensor) -> None: ...

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        name = self._owners.get(module_name(site))
        if name is not None:
            mean = x.unflatten(0, (self._steps, -1)).mean(0)
            self.rows.setdefault(name, Rows(weight[0].numel())).add(operation.patches(mean, weight))
