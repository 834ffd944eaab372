"""The contract of a rule that all losses go through `batch.backward`."""

import torch
from torch import Tensor

from spikewright.errors import SpikewrightError
from spikewright.network import Network
from spikewright.rules import ContinualRule, Rule
from spikewright.rules._base import fresh_copy
from spikewright.testing._trials import Trial

FACTOR = 3.0


class Scaled:
    """Differentiates losses times a factor, and counts them.

    Attributes:
        calls: Number of losses so far.
    """

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, value: Tensor) -> None:
        self.calls += 1
        (FACTOR * value).backward()


def backward(trial: Trial) -> None:
    """Every loss goes through `batch.backward`, so that gradients scale as the caller's losses do."""
    rule, scaled = trial.make(), Scaled()
    _hold(trial, scaled, trial.learn(rule, backward=scaled).gradients, trial.whole.gradients, "")
    if isinstance(rule, ContinualRule):
        _in_a_second_task(trial)


def _in_a_second_task(trial: Trial) -> None:
    """Check the same for a continual rule in a second task, with weights away from the end of the first."""
    rule, net, scaled = trial.make(), trial.new_net(), Scaled()
    if not _next_task(trial, rule, net):
        return
    copies = [fresh_copy(rule, net, trial.data()[0]) for _ in range(2)]
    expected = trial.learn(copies[0], net=net).gradients
    found = trial.learn(copies[1], net=net, backward=scaled).gradients
    _hold(trial, scaled, found, expected, " in a second task")


def _next_task(trial: Trial, rule: Rule, net: Network) -> bool:
    """Bring a rule to its second task, and change the weights; return True if it can learn there."""
    assert isinstance(rule, ContinualRule)
    (x, y), source = trial.data(), torch.Generator().manual_seed(8)
    trial.learn(rule, net=net)
    try:
        rule.next_task(net, x, y, trial.loss)
        rule.freeze(net)
        trial.learn(fresh_copy(rule, net, x), net=net)
    except SpikewrightError:  # it cannot protect some layer
        return False
    with torch.no_grad():
        for p in net.module.parameters():
            if p.requires_grad:
                p.add_(2.0**-5 * torch.randn(p.shape, generator=source, dtype=p.dtype))
    return True


def _hold(trial: Trial, scaled: Scaled, found: dict[str, Tensor], plain: dict[str, Tensor], where: str) -> None:
    contract = trial.contract("backward")
    contract.holds(scaled.calls, f"it learns without batch.backward{where}. {_ADVICE}")
    expected = {name: FACTOR * value for name, value in plain.items()}
    what = (
        f"gradients{where} where batch.backward scales every loss by {FACTOR:g}, and {FACTOR:g} times those where it "
        f"does not. {_ADVICE} Here"
    )
    contract.agree(found, expected, 1e-9, what)


_ADVICE = (
    "Differentiate every loss by batch.backward(loss), not by loss.backward() or torch.autograd.grad: the caller scales"
    " losses there. Gradients of a rule's own are made of what arrives by it, and rules inside are given the batch."
)
