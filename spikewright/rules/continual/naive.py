"""One task after another without protection against forgetting: the baseline."""

from collections.abc import Collection, Iterator
from typing import ClassVar

from torch import Tensor

from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule


class Naive(ContinualRule):
    """Sequential fine-tuning: learns every task by another rule, without protection against forgetting.

    **Exact when**: the rule inside is.

    **Cost**: that of the rule inside.

    **Carried / Checkpointed**: nothing beside the rule inside / the number of the task.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself.
        hold: If True, batch norm and all parameters except the weights of linear and convolution layers stay constant
            from the second task on: `freeze` makes them so.  Default: True.  With the default it differs from `HLOP` by
            the projection alone.
        free: Names of modules that are not held, such as heads that serve one task; a name includes the modules inside.
            Default: (), none.

    Raises:
        ConfigError: `rule` is a continual rule itself.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> rule = sw.rules.Naive(sw.rules.BPTT())
        >>> (update,) = rule.updates(net, x, y, loss)
        >>> rule.next_task(net, x, y, loss)
        >>> rule.freeze(net)
        >>> int(rule.task), [name for name, p in net.module.named_parameters() if p.requires_grad]
        (2, ['0.weight', '2.weight'])
    """

    ragged: ClassVar[bool] = True

    def __init__(self, rule: Rule, hold: bool = True, free: Collection[str] = ()) -> None:
        super().__init__(rule, hold, free)

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        pass

    def learn(self, batch: Batch) -> Iterator[Update]:
        return self.rule.learn(batch)

    def cost(self, done: Done) -> Cost | None:
        return self.rule.cost(done)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, hold={self.hold}"
