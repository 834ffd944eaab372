"""Contracts of a rule on one network about its gradients."""

from dataclasses import replace

import torch
from torch import Tensor

from spikewright.errors import IncompatibleRule, SpikewrightError
from spikewright.losses import Loss
from spikewright.network.hooks import Hooks
from spikewright.reports.gradient_check import certify
from spikewright.rules import HLOP, Batch, ContinualRule
from spikewright.testing._trials import Trial, different_chunks
from spikewright.testing.contracts import Contract


def live_gradients(trial: Trial) -> None:
    """Every parameter gets a finite gradient."""
    found = trial.whole.gradients
    dead = [name for name, value in found.items() if not value.any()]
    trial.contract("live gradients").holds(not dead, f"no gradient arrives at {dead}.")
    odd = [name for name, value in found.items() if not value.isfinite().all()]
    trial.contract("live gradients").holds(not odd, f"the gradients of {odd} are not finite.")


def chunks(trial: Trial) -> None:
    """The chunk does not change the result."""
    expected = trial.whole
    for chunk in different_chunks(trial.make, trial.net, trial.data()[0]):
        found, contract = trial.learn(trial.make(chunk=chunk)), trial.contract("chunks")
        contract.agree(found.gradients, expected.gradients, 1e-12, f"gradients with chunk={chunk} and by default")
        outputs = {"output": found.output}, {"output": expected.output}
        contract.agree(*outputs, 1e-12, f"outputs with chunk={chunk} and by default")


def claims(trial: Trial) -> None:
    """Where `exact` says so, the gradient is that of BPTT."""
    x, y = trial.data()
    for steps in (1, len(x)):
        rule, net = trial.make(), trial.net
        if steps < rule.traits.least_steps:
            continue
        for row in certify(net, rule, x[:steps], y, trial.loss).rows:
            trial.contract("claims").holds(
                row.match or row.relative_error <= 1e-9,
                f"exact is claimed for '{row.site}', which is {row.relative_error:.3g} (relative) off BPTT with "
                f"{steps} steps.",
            )


def order_of_the_batch(trial: Trial) -> None:
    """The order of samples does not change the result, except for noisy rules."""
    if trial.noisy:
        return
    (x, y), order, contract = trial.data(), [2, 0, 1], trial.contract("order of the batch")
    straight, turned = trial.whole, trial.learn(data=(x[:, order], y[order]))
    contract.agree(turned.gradients, straight.gradients, 1e-11, "gradients with samples in another order")
    outputs = {"output": turned.output}, {"output": straight.output[:, order]}
    contract.agree(*outputs, 1e-11, "outputs with samples in another order")


def lengths(trial: Trial) -> None:
    """Gradients do not depend on what follows the end of a sequence, if the rule declares that."""
    if not trial.make().traits.ragged:
        return
    (x, y), contract = trial.data(), trial.contract("lengths")
    own = len(x) - torch.arange(x.shape[1]) % len(x)
    after = (torch.arange(len(x))[:, None] >= own).view(*x.shape[:2], *[1] * (x.dim() - 2))
    try:
        one, other = (trial.learn(data=(x.where(~after, part), y), lengths=own) for part in (x.flip(0), 1 - x))
    except IncompatibleRule:  # a layer may count padding as data
        return
    contract.agree(one.gradients, other.gradients, 1e-12, "gradients of sequences padded in two ways")


def no_error(trial: Trial) -> None:
    """A loss of 0 leaves no gradient."""
    found = trial.learn(loss=trial.loss.by(lambda output, y: 0 * output.sum())).gradients
    moved = {name: float(value.norm()) for name, value in found.items() if value.any()}
    trial.contract("no error, no gradient").holds(not moved, f"a loss of 0 leaves gradients of the norms {moved}.")


def accumulation(trial: Trial) -> None:
    """Gradients are added to what `.grad` holds."""
    net, found = trial.net, trial.whole.gradients
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    both = trial.learn(net=net).gradients
    expected = {name: 1 + value for name, value in found.items()}
    trial.contract("accumulation").agree(both, expected, 1e-12, "`.grad` after learning beside ones that were there")


def resumption(trial: Trial) -> None:
    """A sequence can be resumed in the middle; outputs continue, and gradients add up if the rule declares it."""
    (x, y), contract, whole = trial.data(), trial.contract("resumption"), trial.whole
    rule, net, loss = trial.make(), trial.net, trial.piece_loss
    if rule.traits.least_steps > len(x) // 2:
        return
    first = trial.learn(rule, net=net, data=(x[:3], y), loss=loss)
    second = trial.learn(rule, net=net, data=(x[3:], y), loss=loss, state=first.updates[-1].state)
    if not trial.noisy:
        outputs = {"output": torch.cat([first.output, second.output])}, {"output": whole.output}
        contract.agree(*outputs, 1e-12, "outputs of a sequence in two pieces and of the whole")
    if trial.resumes:
        added = {name: value + second.gradients[name] for name, value in first.gradients.items()}
        contract.agree(added, whole.gradients, 1e-11, "gradients of a sequence in two pieces and of the whole")


def credit_through_time(trial: Trial) -> None:
    """Errors cross steps if and only if the rule declares it; measured at the gradient of the input."""
    (x, y), rule, contract = trial.data(), trial.make(chunk=None), trial.contract("credit through time")
    loss = trial.loss
    if not loss.per_step:
        return
    x = x.clone().requires_grad_()
    trial.learn(rule, data=(x, y), loss=_LastStep(loss, len(x)))
    if x.grad is None or not x.grad[-1].any():
        return
    crossed, declared = float(x.grad[:-1].norm()), rule.traits.credit_through_time
    if not declared:
        contract.holds(crossed == 0, f"an error at the last step leaves {crossed:.3g} at the input of earlier ones.")
    else:
        contract.holds(crossed > 0, "an error at the last step leaves nothing at the input of earlier ones.")


class _LastStep(Loss):
    """A loss whose terms before the last step are zero."""

    per_step = True

    def __init__(self, loss: Loss, steps: int) -> None:
        super().__init__(loss.criterion)
        self._loss, self._steps = loss, steps

    def _weights(self, output: Tensor, start: int) -> Tensor:
        step = torch.arange(start, start + len(output), device=output.device)
        return (step == self._steps - 1).to(output.dtype)

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        value = 0 * output.sum()
        if start + len(output) == self._steps:
            value = value + self._loss(output[-1:], y, steps, self._steps - 1)
        return value

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self._loss.terms(output, y, steps, start) * self._weights(output, start)[:, None]


def layer_hook(trial: Trial) -> bool:
    """Weight gradients that come from the backward pass of layers can be projected there.

    Returns:
        True if that was tried: not for a rule with gradients="own", nor in a network that cannot be protected.
    """
    rule, net, (x, y), contract = trial.make(), trial.new_net(), trial.data(), trial.contract("layer hook")
    if rule.traits.gradients == "own" or isinstance(rule, ContinualRule):
        return False
    called: list[Hooks] = []

    def look(hooks: Hooks) -> Hooks:
        called.append(hooks)
        return hooks

    rule.prepare(net, x)
    for _ in rule.learn(Batch(net, x, y, trial.loss, around=look)):
        pass
    net.zero_grad()
    contract.holds(
        called,
        "gradients are declared to come from the backward pass of layers, but no run takes the hooks of the batch. "
        "Start runs with batch.start(hooks), or declare gradients='own'.",
    )
    around = HLOP(trial.make(), rows=2, project="inputs")
    other = replace(trial, make=lambda **given: around)
    try:
        other.learn(around, net=net)
        around.next_task(net, x, y, trial.loss)
        around.freeze(net)
        found = other.learn(around, net=net).gradients
    except SpikewrightError:
        return False
    _outside(contract, around, found)
    return True


def _outside(contract: Contract, around: object, found: dict[str, Tensor]) -> None:
    for layer, subspace in around.subspaces.by_name().items():  # type: ignore[attr-defined]
        grad = found[f"{layer}.weight"].flatten(1)
        inside, size = float((grad @ subspace.old.T.to(grad)).norm()), float(grad.norm())
        contract.holds(
            inside <= 1e-9 * size,
            "gradients are declared to come from the backward pass of layers, but with a projection there, "
            f"{inside:.3g} of {size:.3g} of the gradient of '{layer}' lies in the directions that are closed. Declare "
            "gradients='own', or find them in runs started with the hooks of the batch.",
        )
