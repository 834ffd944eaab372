"""One task after another, with nothing done against forgetting: what every other way is measured by."""

from collections.abc import Collection, Iterator

from torch import Tensor

from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._cost import Cost, Done
from spikewright.rules.continual._around import ContinualRule


class Naive(ContinualRule):
    """Learns every task as another rule does.

    Exact when: the rule is.
    Cost: that of the rule.
    Carried: nothing of its own.  Checkpointed: the number of the task.

    Args:
        rule: The rule.
        hold: From the second task on, hold still batch norm and all parameters but the weights of synapses, as `HLOP`
            does, so that what is compared is the projection alone.
        free: Names of modules that are not held, such as heads that serve one task.
    """

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
