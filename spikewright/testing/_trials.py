"""One rule on one network, run repeatedly from the same start."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.losses import Loss, PerStep
from spikewright.losses._standard import standard_loss
from spikewright.network import Network
from spikewright.rules import ContinualRule, Rule, Update
from spikewright.rules._batch import Backward, plain_backward
from spikewright.rules._chunk_size import steps_at_once
from spikewright.temporal import State
from spikewright.testing.contracts import Contract, Table
from spikewright.testing.nets import NETS


@dataclass(frozen=True)
class Learned:
    """The updates and the gradients of a sequence."""

    updates: list[Update]
    gradients: dict[str, Tensor]

    @property
    def output(self) -> Tensor:
        """Output of all steps, `[time, batch, *output]`."""
        return torch.cat([update.output for update in self.updates])


@dataclass(frozen=True)
class Trial:
    """A rule, a network, and what is expected of the two.

    Attributes:
        make: Builds the rule; takes `chunk`.
        name: Name of the network.
        given_loss: Loss; `None` is the standard one of the rule.
        resumes: True if a sequence learned in pieces gives the gradient of the whole.
        noisy: True if the rule draws noise, which belongs to places in the batch.
    """

    make: Callable[..., Rule]
    name: str
    given_loss: Loss | None
    resumes: bool
    noisy: bool

    @property
    def loss(self) -> Loss:
        """The loss that is minimised."""
        return self.given_loss or standard_loss(self.make().traits.loss)(F.cross_entropy)

    @property
    def piece_loss(self) -> Loss:
        """The loss of a part of a sequence, as a share of the whole."""
        loss = self.loss
        return PerStep(loss.criterion, steps=len(self.data()[0])) if isinstance(loss, PerStep) else loss

    @cached_property
    def net(self) -> Network:
        """One network, shared by all contracts that do not change it."""
        return self.new_net()

    def new_net(self) -> Network:
        """Return a new network."""
        return Network(NETS[self.name]()[0])

    def data(self) -> tuple[Tensor, Tensor]:
        """Return input and targets."""
        return NETS[self.name]()[1:]

    @cached_property
    def whole(self) -> Learned:
        """Updates and gradients of the whole sequence."""
        return self.learn()

    def contract(self, name: str) -> Contract:
        """Return a contract of the rule on the network."""
        return Contract(name, repr(self.make()), f"'{self.name}'")

    def learn(
        self,
        rule: Rule | None = None,
        *,
        net: Network | None = None,
        data: tuple[Tensor, Tensor] | None = None,
        loss: Loss | None = None,
        state: State | None = None,
        backward: Backward = plain_backward,
        lengths: Tensor | None = None,
    ) -> Learned:
        """Run a rule on a batch, with the same random numbers every time; by default a new rule, and `net`."""
        rule, net = rule or self.make(), net or self.net
        x, y = data or self.data()
        torch.default_generator.manual_seed(3)
        ragged: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
        updates = list(rule.updates(net, x, y, loss or self.loss, state, backward, **ragged))
        return Learned(updates, gradients(net))


def gradients(net: Network) -> dict[str, Tensor]:
    """Return the gradient of every parameter, zero where there is none, and clear it."""
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in net.module.named_parameters()}
    net.zero_grad()
    return found


def different_chunks(make: Callable[..., Rule], net: Network, x: Tensor) -> list[int]:
    """Return chunk lengths at which a rule runs differently from its default and from each other.

    Args:
        make: Builds the rule; takes `chunk`.
        net: The network; with feedback there are none, because steps run one by one.
        x: Input, `[time, batch, *feature]`.
    """
    if net.sites.recurrent:
        return []
    wiring = net.wiring(x)
    known, found = {steps_at_once(make(), wiring, len(x)) or len(x)}, []  # all of few steps fit a budget
    for chunk in (1, 2, 4, len(x)):
        at_once = steps_at_once(make(chunk=chunk), wiring, len(x)) or len(x)
        if at_once not in known:
            known.add(at_once)
            found.append(chunk)
    return found


def inner(rule: Rule) -> Rule:
    """Return the rule inside a rule that goes around one, or the rule itself."""
    return rule.rule if isinstance(rule, ContinualRule) else rule


def copied(table: Table) -> dict[str, Tensor]:
    """Return a table of copies."""
    return {name: value.detach().clone() for name, value in table.items()}
