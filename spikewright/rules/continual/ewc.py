"""Elastic weight consolidation: a quadratic penalty weighted by the Fisher information."""

from collections.abc import Collection, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from spikewright._util.matrices import Matrices
from spikewright._util.ranges import check_count, check_within
from spikewright._util.real_numbers import as_real, real_type
from spikewright._util.share import divided_share
from spikewright._util.targets import ignored_labels
from spikewright._util.trial import evaluating, untouched
from spikewright.losses import Loss
from spikewright.metrics.operations import Operations
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update, fresh_copy
from spikewright.rules._batch import Batch
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule, is_in


class EWC(ContinualRule):
    r"""Elastic weight consolidation: a quadratic penalty on changes of parameters, weighted by Fisher information.

    With :math:`g_n` the gradient that the rule inside finds for sample n of a finished task i, N the number of these
    samples and :math:`\theta_i` the parameters at its end,

    .. math::
        F_i = \tfrac{1}{N} \textstyle\sum_n |g_n|^2, \qquad
        \nabla\theta \leftarrow \nabla\theta + \lambda \sum_i F_i \odot (\theta - \theta_i).

    **Exact when**: in the first task where the rule inside is; later never, since the penalty is added.

    **Cost**: that of the rule inside; per task, one pass of it over each of the N samples.

    **Carried / Checkpointed**: nothing beside the rule inside / two tensors of the shape of each parameter, whatever
    the number of tasks, and the number of the task.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself.
        strength: Factor :math:`\lambda` of the penalty.  > 0.  Default: 100.0.
        samples_per_class: Number of samples per class of a finished task that F is computed from.  At least 1.
            Default: 20.
        hold: If True, batch norm and all parameters except the weights of linear and convolution layers stay constant
            from the second task on: `freeze` makes them so.  Default: True.
        free: Names of modules that are neither held nor penalised, such as heads that serve one task; a name includes
            the modules inside.  Default: (), none.

    Raises:
        ConfigError: `strength` or `samples_per_class` is out of range; `rule` is not a rule, or is a continual rule
            itself; `hold` is not a bool.

    Reference:
        Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 2017, arXiv 1612.00796, equation
        3, with the Fisher information of the targets of the data.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> rule, weight = sw.rules.EWC(sw.rules.BPTT(), hold=False), net.module[0].weight
        >>> rule.next_task(net, x, y, loss)
        >>> with torch.no_grad():
        ...     _ = weight.add_(1.0)
        >>> (update,) = rule.updates(net, torch.zeros_like(x), y, loss)  # an input that has no gradient at this weight
        >>> fisher = rule.stiffness["0.weight"]
        >>> bool(fisher.sum() > 0), torch.allclose(weight.grad, 100 * fisher, rtol=1e-3, atol=1e-6)
        (True, True)
    """

    ragged: ClassVar[bool] = True

    takes_timed = False

    def __init__(
        self,
        rule: Rule,
        strength: float = 100.0,
        samples_per_class: int = 20,
        hold: bool = True,
        free: Collection[str] = (),
    ) -> None:
        super().__init__(rule, hold, free)
        check_within("EWC", "strength", strength, "(0, inf)", "the penalty is weighted by it")
        check_count("EWC", "samples_per_class", samples_per_class, "the Fisher information is a mean over samples")
        self.strength, self.samples_per_class = strength, samples_per_class
        self.stiffness, self.pull = Matrices(), Matrices()  # sums over tasks of F, and of F times what it was left at

    @property
    def samples(self) -> int:
        return self.samples_per_class

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        loss = loss.without_penalty()  # the information is that of the likelihood
        squares = {name: torch.zeros_like(p, dtype=real_type(p.dtype)) for name, p in self._sprung(net)}
        with untouched(net.module), evaluating(net), torch.enable_grad():
            rule = fresh_copy(self.rule, net, x[:, :1])
            for n in range(len(y)):
                if bool(ignored_labels(loss.criterion, y[n]).all()):
                    continue  # its gradient is 0
                net.zero_grad()
                for _ in rule.updates(net, x[:, n : n + 1], y[n : n + 1], loss):
                    pass
                for name, p in self._sprung(net):
                    squares[name] += 0 if p.grad is None else p.grad.abs().square()
        for name, p in self._sprung(net):
            found = squares[name] / len(y)
            self.stiffness[name] = found + (self.stiffness[name] if name in self.stiffness else 0)
            self.pull[name] = found * p.detach() + (self.pull[name] if name in self.pull else 0)

    def learn(self, batch: Batch) -> Iterator[Update]:
        for update in self.rule.learn(batch):
            if len(self.stiffness):
                batch.backward(self._penalty(batch.net))
            yield update

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return parameter not in self.stiffness and super().exact(parameter, wiring, steps)

    def cost(self, done: Done) -> Cost | None:
        inner = self.rule.cost(done)
        springs = 2 * sum(as_real(self.pull[name]).numel() for name in self.pull if name not in done.frozen)
        return None if inner is None else inner + Cost(Operations(0, springs), 0)

    def _penalty(self, net: Network) -> Tensor:
        """Return a scalar that has the gradient of the penalty."""
        terms = [
            (p * (self.stiffness[name] * p.detach() - self.pull[name]).conj()).real.sum()
            for name, p in self._sprung(net)
            if p.requires_grad
        ]
        share = divided_share()  # gradients of processes are added up
        return self.strength * (1.0 if share is None else share.weight) * torch.stack(terms).sum()

    def _sprung(self, net: Network) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for name, p in net.module.named_parameters():
            if not is_in(name.rpartition(".")[0], self.free):
                yield name, p

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, strength={self.strength}"
