"""Rules around another rule, which learn one task after another."""

from abc import abstractmethod
from collections.abc import Collection, Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright._util.arguments import check_tensor
from spikewright.errors import ConfigError, IncompatibleRule, nearest
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring, module_name
from spikewright.rules._base import Rule, reference_rule


class ContinualRule(Rule):
    """Learns a task as another rule does, and does something so that earlier tasks are not forgotten.

    Args:
        rule: The rule.
        hold: From the second task on, hold still what is not a weight of a synapse: batch norm, thresholds, biases.
        free: Names of modules that are left out of all this, such as heads that serve one task.

    Raises:
        ConfigError: `rule` is one of these itself.
    """

    task: Tensor
    """Number of the task under way, from 1; 0 before the first."""

    def __init__(self, rule: Rule, hold: bool, free: Collection[str] = ()) -> None:
        if isinstance(rule, ContinualRule):
            raise ConfigError(
                f"{type(self).__name__} was given {type(rule).__name__}, which is a way not to forget itself. Give it "
                "the rule inside."
            )
        self.traits = rule.traits
        super().__init__(rule.chunk)
        self.rule, self.hold, self.free = rule, hold, tuple(free)
        self.register_buffer("task", torch.zeros((), dtype=torch.int64))

    @property
    def samples(self) -> int:
        """How many samples of each class of a finished task `next_task` should see."""
        return 1

    def begin_task(self, net: Network) -> None:
        """Make ready for the task that begins."""

    @abstractmethod
    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        """Keep what is needed of the task that ends; arguments as for `next_task`."""

    def prepare(self, net: Network, x: Tensor) -> None:
        self.rule.prepare(net, x)
        if not self.task:
            self.task += 1
            self.begin_task(net)

    def next_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        """End the task under way, and begin the next.

        Args:
            net: The network, as the task has left it.
            x: Inputs of the task that ends, `[time, batch, *feature]`.
            y: Their targets, `[batch, ...]`.
            loss: The loss it was learned by.
        """
        check_tensor("x", x, "[time, batch, *feature]")
        check_tensor("y", y, "[batch, ...], with the target of every sample")
        self.prepare(net, x)
        self.end_task(net, x, y, loss)
        self.task += 1
        self.begin_task(net)

    def freeze(self, net: Network) -> None:
        """Hold still what is to be held from the second task on: call it after every `net.train()`.

        Batch norm is put in evaluation mode, and parameters that are held ask for no gradient any more.
        """
        if self.task < 2 or not self.hold:
            return
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        for name in self._held(net.sites):
            held = net.module.get_parameter(name).requires_grad_(False)
            held.grad = None  # or an optimizer would still move it

    def check_optimizer(self, optimizer: torch.optim.Optimizer, task: int | None = None) -> None:
        """Raise `IncompatibleRule` if an optimizer, at the start of a task, would undo what the rule is for.

        Args:
            optimizer: As it is when the task begins.
            task: Number of the task, from 1; the one under way if it is not given.
        """

    def check(self, wiring: Wiring, sites: Sites) -> None:
        self.check_task(wiring, sites)
        self.rule.check(wiring, sites)

    def check_task(self, wiring: Wiring, sites: Sites) -> None:
        """Raise if this, apart from the rule inside, cannot learn in the task under way; see `check`."""
        names = dict.fromkeys(map(module_name, wiring.synapses))
        for name in self.free:
            if not any(is_in(other, (name,)) for other in names):
                raise ConfigError(
                    f"{type(self).__name__}(free=...) names '{name}', which is no linear or convolution layer of this "
                    f"network. {nearest(name, names)}"
                )
        if self.task < 2 or not self.hold:
            return
        norms = [n for n, m in sites.temporal.items() if isinstance(m, _BatchNorm) and m.training]
        moving = [n for n in self._held(sites) if sites.module.get_parameter(n).requires_grad]
        for found, what in ((norms, "normalises by statistics that move"), (moving, "may move")):
            if found:
                raise IncompatibleRule(
                    f"{type(self).__name__} is in task {int(self.task)} and holds still all but the weights of "
                    f"synapses, but '{found[0]}' {what} (and {len(found) - 1} more), which changes what earlier tasks "
                    "have learned. Call rule.freeze(net) after net.train()."
                )

    def _held(self, sites: Sites) -> Iterable[str]:
        """Return the names of parameters that are held still."""
        for name, _ in sites.module.named_parameters():
            module, _, kind = name.rpartition(".")
            if not (is_in(module, self.free) or (kind == "weight" and module in sites.synapses)):
                yield name

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return self.rule.exact(parameter, wiring, steps)

    @property
    def reference_rule(self) -> Rule | None:
        """That of the rule inside."""
        return reference_rule(self.rule)

    def extra_repr(self) -> str:
        return f"{self.rule}" + (f", free={self.free}" if self.free else "")


def is_in(module: str, names: Collection[str]) -> bool:
    """Whether a module is one of those named, or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)
