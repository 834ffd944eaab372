"""Rules that differentiate past their caller are told so, whichever way they do it; others are left alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules import BPTT, SLTT, Batch, ContinualRule, Replay, Rule, Update
from spikewright.testing import assert_rule


class Whole(Rule):
    """BPTT on the whole sequence; what is done with the loss is left open."""

    traits = replace(BPTT.traits, memory="unknown", gradients="own")

    def __init__(self, chunk: int | str | None = None) -> None:
        super().__init__(chunk)

    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        batch.backward(value)

    def learn(self, batch: Batch) -> Iterator[Update]:
        run = batch.start()
        output = run.advance(batch.x)
        value = batch.loss(output, batch.y, len(batch.x))
        self.differentiate(batch, output, value)
        run.detach()
        yield Update(value.detach(), output.detach(), run.state, run)


class LossBackward(Whole):
    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        value.backward()


class ModuleBackward(Whole):
    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        torch.autograd.backward([value])


def add(batch: Batch, value: Tensor, factor: Tensor | float = 1.0) -> None:
    """Writes gradients of its own to `.grad`."""
    weights = [p for p in batch.net.module.parameters() if p.requires_grad]
    for p, found in zip(weights, torch.autograd.grad(value, weights)):
        p.grad = factor * found if p.grad is None else p.grad + factor * found


class OwnGradients(Whole):
    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        add(batch, value)


class HalfPast(Whole):
    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        (0.5 * value).backward(retain_graph=True)
        batch.backward(0.5 * value)


class ErrorPast(Whole):
    """Takes the error at the output by itself."""

    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        (error,) = torch.autograd.grad(value, output, retain_graph=True)
        output.backward(error)


class CallsForNothing(Whole):
    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        value.backward(retain_graph=True)
        batch.backward(0 * value)


class OverridesUpdates(BPTT):
    def updates(self, net: Network, x: Tensor, y: Tensor, loss: Loss, *given: object) -> Iterator[Update]:  # type: ignore[override]
        return super().updates(net, x, y, loss, given[0] if given else None)  # type: ignore[arg-type]


class Around(ContinualRule):
    """A rule around BPTT that adds a part of the loss from the second task on."""

    def __init__(self, chunk: int | str | None = None) -> None:
        super().__init__(BPTT(chunk), hold=False)

    def end_task(self, net: Network, x: Tensor, y: Tensor, loss: Loss) -> None:
        pass

    def add(self, batch: Batch) -> None:
        pass

    def learn(self, batch: Batch) -> Iterator[Update]:
        for update in self.rule.learn(batch):
            if self.task > 1:
                self.add(batch)
            yield update


class InnerUpdates(Around):
    def learn(self, batch: Batch) -> Iterator[Update]:
        return self.rule.updates(batch.net, batch.x, batch.y, batch.loss, batch.state)


class Penalty(Around):
    def penalty(self, batch: Batch) -> Tensor:
        return sum((p.square().sum() for p in batch.net.module.parameters()), torch.zeros(()))

    def add(self, batch: Batch) -> None:
        batch.backward(self.penalty(batch))


class PenaltyPast(Penalty):
    def add(self, batch: Batch) -> None:
        self.penalty(batch).backward()


class DecayPast(Penalty):
    def add(self, batch: Batch) -> None:
        for p in batch.net.module.parameters():
            if p.grad is not None:
                p.grad = p.grad + 0.1 * p.detach()


class ReplayPast(Around):
    """Learns a second batch with the caller forgotten."""

    def add(self, batch: Batch) -> None:
        list(self.rule.learn(Batch(batch.net, batch.x, batch.y, batch.loss)))


PAST: dict[str, type[Rule]] = {
    kind.__name__: kind
    for kind in (
        *(LossBackward, ModuleBackward, OwnGradients, HalfPast, ErrorPast, CallsForNothing, OverridesUpdates),
        *(InnerUpdates, PenaltyPast, DecayPast, ReplayPast),
    )
}


@pytest.mark.parametrize("name", PAST)
def test_rules_that_differentiate_past_their_caller(name: str) -> None:
    said = rf"^{name}\(.* breaks the contract 'backward' on 'mlp': .*Differentiate every loss by batch.backward\(loss\)"
    with pytest.raises(AssertionError, match=said):
        assert_rule(PAST[name], nets=["mlp"])


class Twice(Whole):
    """In two calls of the caller's, each with a part of the loss."""

    def learn(self, batch: Batch) -> Iterator[Update]:
        for weight in (0.25, 0.75):
            run = batch.start()
            output = run.advance(batch.x)
            value = batch.loss(output, batch.y, len(batch.x))
            batch.backward(weight * value)
            run.detach()
        yield Update(value.detach(), output.detach(), run.state, run)


class OwnOfWhatArrives(Whole):
    """Makes gradients of its own, and asks the caller how large they are to be."""

    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        scale = torch.ones((), dtype=value.dtype, requires_grad=True)
        batch.backward(value.detach() + (scale - 1))
        assert scale.grad is not None
        add(batch, value, scale.grad)


class ErrorOfWhatArrives(Whole):
    """Takes the error at the output from the caller, and goes on by itself."""

    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        leaf = output.detach().requires_grad_()
        batch.backward(batch.loss(leaf, batch.y, len(batch.x)))
        output.backward(leaf.grad)


FINE: dict[str, Callable[..., Rule]] = {
    kind.__name__: kind for kind in (Whole, Twice, OwnOfWhatArrives, ErrorOfWhatArrives, Around, Penalty)
}
FINE["Replay"] = lambda **given: Replay(SLTT(**given), samples_per_class=1)


@pytest.mark.parametrize("name", FINE)
def test_rules_whose_losses_all_go_through_their_caller(name: str) -> None:
    assert_rule(FINE[name], nets=["mlp"])


class Doubled(Whole):
    """Gives the caller the whole loss twice, and claims to be BPTT."""

    def differentiate(self, batch: Batch, output: Tensor, value: Tensor) -> None:
        batch.backward(2 * value)

    def exact(self, *given: object) -> bool:
        return True


def test_a_loss_that_goes_through_the_caller_twice_is_a_claim_that_is_broken() -> None:
    with pytest.raises(AssertionError, match="breaks the contract 'claims'"):
        assert_rule(Doubled, nets=["mlp"])
