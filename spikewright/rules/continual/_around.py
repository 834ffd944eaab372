"""The base of rules that wrap another rule and learn one task after another."""

from abc import abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright._util.ranges import check_flag, check_instance, check_names
from spikewright.errors import ConfigError, IncompatibleRule, nearest
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring, module_name
from spikewright.rules._base import Rule, random_parts, reference_rule
from spikewright.rules._check import check_loss, check_network, check_timed
from spikewright.rules._fitted import fitted


class ContinualRule(Rule):
    """Base of rules that learn each task by another rule, and protect what earlier tasks have learned.

    Call `next_task` between tasks, and `freeze` after every `net.train()`.  A subclass implements `learn` and
    `end_task`.

    Args:
        rule: The rule that finds the gradients, a `Rule` that is not continual itself.
        hold: If True, batch norm and all parameters except the weights of linear and convolution layers stay constant
            from the second task on: `freeze` makes them so.
        free: Names of modules that are not protected and not held, such as heads that serve one task; a name includes
            the modules inside.  Default: (), none.

    Raises:
        ConfigError: `rule` is not a rule, or is a continual rule itself; `hold` is not a bool.

    Attributes:
        task: Number of the current task, from 1; 0 before the first, an integer tensor without axes.
    """

    ragged: ClassVar[bool] = False
    """Whether it learns and stores nothing from single steps of a batch, so that some of them may be padding."""
    task: Tensor
    """Number of the task under way, from 1; 0 before the first."""

    def __init__(self, rule: Rule, hold: bool, free: Collection[str] = ()) -> None:
        name = type(self).__name__
        check_inner(name, rule)
        check_flag(name, hold=hold)
        if isinstance(rule, ContinualRule):
            raise ConfigError(
                f"{type(self).__name__} was given {type(rule).__name__}, which is a continual rule itself. Give it "
                "the rule inside."
            )
        self.traits = replace(rule.traits, ragged=rule.traits.ragged and self.ragged)
        super().__init__(rule.chunk)
        self.rule, self.hold = rule, hold
        self.free = check_names(name, "free", free, "('features.0',)")
        self.register_buffer("task", torch.zeros((), dtype=torch.int64))

    @property
    def samples(self) -> int:
        """Number of samples of each class of a finished task that `next_task` needs."""
        return 1

    def begin_task(self, net: Network) -> None:
        """Prepare for the task that begins.

        Args:
            net: The network.
        """

    @abstractmethod
    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        """Store what is needed of the task that ends.

        Args:
            net: The network, as the task has left it.
            x: Inputs of the task that ends, `[time, batch, *feature]`.
            y: Their targets, `[batch, ...]`.
            loss: The loss it was learned by.
        """

    def prepare(self, net: Network, x: Input) -> None:
        super().prepare(net, x)
        self.rule.prepare(net, x)
        if not self.task:
            self.task += 1
            self.begin_task(net)

    def next_task(self, net: Network, x: Input, y: Input, loss: Loss) -> None:
        """End the current task, and begin the next.

        Args:
            net: The network, as the task has left it.
            x: Inputs of the task that ends, `[time, batch, *feature]`, with `samples` samples per class; or several in
                a tuple, list or dictionary.
            y: Their targets, `[batch, ...]`, or several.
            loss: The loss it was learned by.

        Raises:
            ShapeError: `x` or `y` is no tensor.
            ConfigError: The network or the loss was not wrapped.
        """
        check_network(type(self).__name__, net)
        check_loss(type(self).__name__, loss)
        check_timed(self, loss)
        net, x = net.given(x)
        wiring = net.wiring(x)
        loss, y = fitted(loss, y, wiring.outputs)
        loss.check(y, x.shape[0], x.shape[1], wiring.output[0] if wiring.output else 1)
        self.prepare(net, x)
        self.end_task(net, x.detach(), y.detach(), loss)  # what is kept of a task has no graph, nor is x learned
        self.task += 1
        self.begin_task(net)

    def freeze(self, net: Network) -> None:
        """Freeze what is held from the second task on; call it after every `net.train()`.

        Batch norm is put in evaluation mode; held parameters require no gradient any more, and their `.grad` is
        removed.

        Args:
            net: The network.
        """
        check_network(type(self).__name__, net)
        if self.task < 2 or not self.hold:
            return
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        for name in self._held(net.sites):
            held = net.module.get_parameter(name).requires_grad_(False)
            held.grad = None  # or an optimizer would still move it

    def check_optimizer(self, optimizer: torch.optim.Optimizer, task: int | None = None) -> None:
        """Raise `IncompatibleRule` if an optimizer, at the start of a task, would undo the protection.

        Args:
            optimizer: The optimizer as it is when the task begins.
            task: Number of the task.  At least 1.  Default: None, the current one.
        """

    def check(self, wiring: Wiring, sites: Sites) -> None:
        self.check_task(wiring, sites)
        self.rule.check(wiring, sites)

    def check_task(self, wiring: Wiring, sites: Sites) -> None:
        """Raise an error if the current task cannot be learned, apart from the rule inside.

        Args:
            wiring: Wiring of the network.
            sites: Layers of the network.

        Raises:
            ConfigError: `free` names no linear or convolution layer.
            IncompatibleRule: Something that is held may still change.
        """
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
        for found, what in ((norms, "normalises by statistics that change"), (moving, "may change")):
            if found:
                raise IncompatibleRule(
                    f"{type(self).__name__} is in task {int(self.task)} and keeps everything constant but the weights "
                    f"of linear and convolution layers, but '{found[0]}' {what} (and {len(found) - 1} more), which "
                    "alters what earlier tasks have learned. Call rule.freeze(net) after net.train()."
                )

    def _held(self, sites: Sites) -> Iterable[str]:
        """Yield the names of parameters that are held constant."""
        for name, _ in sites.module.named_parameters():
            module, _, kind = name.rpartition(".")
            if not (is_in(module, self.free) or (kind == "weight" and module in sites.synapses)):
                yield name

    def trial_copy(self, chunk: int) -> Self:
        copy = super().trial_copy(chunk)
        copy.rule = self.rule.trial_copy(chunk)
        copy.traits = copy.rule.traits
        return copy

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return self.rule.exact(parameter, wiring, steps)

    def random_parts(self, steps: int) -> tuple[str, ...]:
        """Return what the rule draws random numbers for in every sequence, in words; `()` if for nothing.

        Args:
            steps: Length of the sequences.  At least 1.
        """
        return random_parts(self.rule, steps)

    @property
    def reference_rule(self) -> Rule | None:
        """The reference rule of the rule inside."""
        return reference_rule(self.rule)

    def extra_repr(self) -> str:
        return f"{self.rule}" + (f", free={self.free}" if self.free else "")


def check_inner(owner: str, rule: object) -> None:
    """Raise `ConfigError` unless a rule, to be wrapped by a continual one, is a `Rule`."""
    check_instance(owner, "rule", rule, Rule, "sw.rules.BPTT()")


def check_once(owner: str, rule: Rule) -> None:
    """Raise `IncompatibleRule` unless a rule updates once per sequence, so that two sequences can be learned together.

    Args:
        owner: Name of the continual rule.
        rule: The rule inside.
    """
    if rule.traits.updates != "once":
        raise IncompatibleRule(
            f"{owner} learns from two sequences in one update from the second task on, but {rule} updates at "
            f"{rule.traits.updates} of a sequence. Use the form that updates once (online=False)."
        )


def is_in(module: str, names: Collection[str]) -> bool:
    """Return True if a module is one of those named, or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)
