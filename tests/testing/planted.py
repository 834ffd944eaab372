"""Rules that each break one contract."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikewright.errors import IncompatibleRule
from spikewright.rules import BPTT, Batch, OnlineRule, Rule, Update
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class Steps(OnlineRule):
    """Every step by itself: nothing is wrong with it."""

    def __init__(self, chunk: int | str | None = 1) -> None:
        super().__init__(chunk)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


class Undeclared(Steps):
    def __init__(self, chunk: int | str | None = 1) -> None:
        super().__init__(chunk)
        self.traits = None  # type: ignore[assignment]


class Fails(Steps):
    def learn(self, batch: Batch) -> Iterator[Update]:
        raise ZeroDivisionError("of its own")


class Late(Steps):
    def learn(self, batch: Batch) -> Iterator[Update]:
        yield from super().learn(batch)
        raise IncompatibleRule("said too late")


class Refuses(Steps):
    def learn(self, batch: Batch) -> Iterator[Update]:
        raise IncompatibleRule("said in time")


class Dead(Steps):
    def on_weight(self, layer: Any, x: Tensor, carried: SiteState) -> tuple[SynapticInput, SiteState]:
        return SynapticInput(x, presynaptic=0 * x.detach()), carried


class MeanOfChunk(Steps):
    def on_weight(self, layer: Any, x: Tensor, carried: SiteState) -> tuple[SynapticInput, SiteState]:
        return SynapticInput(x, presynaptic=x.detach().mean(0).expand_as(x)), carried


class ByPlace(Steps):
    def on_weight(self, layer: Any, x: Tensor, carried: SiteState) -> tuple[SynapticInput, SiteState]:
        places = torch.arange(1.0, 1 + x.shape[1]).to(x).view(-1, *[1] * (x.dim() - 2))
        return SynapticInput(x, presynaptic=x.detach() * places), carried


class Claims(Steps):
    def exact(self, *given: object) -> bool:
        return True


class Around(Steps):
    """Does something before and after learning."""

    def before(self, batch: Batch) -> Batch:
        return batch

    def after(self, batch: Batch, update: Update) -> Update:
        return update

    def learn(self, batch: Batch) -> Iterator[Update]:
        batch = self.before(batch)
        for update in super().learn(batch):
            yield self.after(batch, update)


class Decays(Around):
    def after(self, batch: Batch, update: Update) -> Update:
        for p in filter(lambda p: p.requires_grad, batch.net.module.parameters()):
            p.grad = p.detach().clone() if p.grad is None else p.grad + p.detach()
        return update


class Overwrites(Around):
    def before(self, batch: Batch) -> Batch:
        batch.net.zero_grad()
        return batch


class ByTheInput(Around):
    """Weights samples by all of their input, padding included."""

    def before(self, batch: Batch) -> Batch:
        return batch.weighted(float(batch.x.mean()))


class ShareOfSix(Around):
    def before(self, batch: Batch) -> Batch:
        return batch.weighted(len(batch.x) / 6)


class FromRest(Around):
    def before(self, batch: Batch) -> Batch:
        return replace(batch, state=None)


class Forgetful(Around):
    """What it has learned is in no buffer."""

    seen = 0

    def before(self, batch: Batch) -> Batch:
        self.seen += 1
        return batch.weighted(self.seen)


class OneOfAll(Around):
    seen: ClassVar[list[int]] = []

    def before(self, batch: Batch) -> Batch:
        self.seen.append(1)
        return batch.weighted(len(self.seen))


class NoCopy(Around):
    def before(self, batch: Batch) -> Batch:
        self.count += 1
        return batch

    def __deepcopy__(self, memo: object) -> "NoCopy":
        copy = NoCopy(self.chunk)
        copy._buffers = self._buffers
        return copy


class Tells(Around):
    def after(self, batch: Batch, update: Update) -> Update:
        return replace(update, loss=2 * update.loss)


class Marks(Around):
    def before(self, batch: Batch) -> Batch:
        batch.net.module.seen = True  # type: ignore[assignment]
        return batch


class Moves(Around):
    def after(self, batch: Batch, update: Update) -> Update:
        with torch.no_grad():
            next(batch.net.module.parameters()).mul_(1.5)
        return update


class Scribbles(Around):
    def after(self, batch: Batch, update: Update) -> Update:
        batch.x.zero_()
        return update


class GradientsOff(Around):
    """Leaves gradients off after the last update."""

    def learn(self, batch: Batch) -> Iterator[Update]:
        torch.set_grad_enabled(True)
        yield from super().learn(batch)
        torch.set_grad_enabled(False)


class GradientsOffBetween(Around):
    """Has them off while its caller has the update."""

    def learn(self, batch: Batch) -> Iterator[Update]:
        for update in super().learn(batch):
            with torch.no_grad():
                yield update


class Trains(Around):
    def before(self, batch: Batch) -> Batch:
        batch.net.module.train()
        return batch


class Thaws(Around):
    def before(self, batch: Batch) -> Batch:
        batch.net.module.requires_grad_()
        return batch


class FillsIn(Around):
    """Gives a gradient to those that ask for none."""

    def after(self, batch: Batch, update: Update) -> Update:
        for p in batch.net.module.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return update


class NeedsAll(Around):
    """Takes it that every parameter has a gradient."""

    def after(self, batch: Batch, update: Update) -> Update:
        for p in batch.net.module.parameters():
            assert p.grad is not None
        return update


class OnlyDouble(Around):
    def before(self, batch: Batch) -> Batch:
        return replace(batch, x=batch.x + torch.zeros_like(batch.x, dtype=torch.float64))


class Rounds(Around):
    """Underflows in single precision."""

    def before(self, batch: Batch) -> Batch:
        single = batch.x.dtype == torch.float32
        return batch.weighted(0.0) if single else batch


class OfSeveralSamples(Around):
    def before(self, batch: Batch) -> Batch:
        return batch.weighted(float(batch.x.shape[1] > 1))


class NeedsSeveralSamples(Around):
    def before(self, batch: Batch) -> Batch:
        if batch.x.shape[1] == 1:
            raise ZeroDivisionError("of its own")
        return batch


class Draws(Around):
    def before(self, batch: Batch) -> Batch:
        torch.rand(3)
        return batch


class Seeds(Around):
    def before(self, batch: Batch) -> Batch:
        torch.manual_seed(0)
        return batch


class SaysOften(BPTT):
    traits = replace(BPTT.traits, updates="every step")


class SaysConstant(BPTT):
    traits = replace(BPTT.traits, memory="constant")


class SaysRoot(BPTT):
    traits = replace(BPTT.traits, memory="root")


class SaysLinear(Steps):
    traits = replace(Steps.traits, memory="linear")


class SaysLinearOfRoot(BPTT):
    def __init__(self, chunk: int | str | None = None) -> None:
        super().__init__(chunk, checkpoint=True)
        self.traits = replace(self.traits, memory="linear")


class SaysCut(BPTT):
    traits = replace(BPTT.traits, credit_through_time=False)


class SaysThrough(Steps):
    traits = replace(Steps.traits, credit_through_time=True)


class WithoutHooks(Rule):
    """Runs without the hooks of the batch, as a rule whose gradients are its own would."""

    traits = replace(BPTT.traits, memory="unknown")

    def learn(self, batch: Batch) -> Iterator[Update]:
        run = batch.net.start(batch.x, batch.state)
        output = run.advance(batch.x)
        value = batch.loss(output, batch.y, len(batch.x))
        batch.backward(value)
        run.detach()
        yield Update(value.detach(), output.detach(), run.state, run)


class ByItself(WithoutHooks):
    """Differentiates as if there were no caller."""

    def learn(self, batch: Batch) -> Iterator[Update]:
        return super().learn(replace(batch, backward=Tensor.backward))


class Signs(BPTT):
    """Makes gradients of its own from those of layers."""

    def exact(self, *given: object) -> bool:
        return False

    def learn(self, batch: Batch) -> Iterator[Update]:
        weights = list(batch.net.module.parameters())
        before = [0 if p.grad is None else p.grad.clone() for p in weights]
        for update in super().learn(batch):
            for p, old in zip(weights, before):
                if p.grad is not None:
                    p.grad = old + (p.grad - old).sign() * (p.grad - old).norm()
            yield update


RULES: dict[str, tuple[str, Callable[..., Rule], dict[str, Any]]] = {
    "undeclared": ("traits", Undeclared, {}),
    "fails": ("refusal", Fails, {}),
    "late": ("refusal", Late, {"refuses": ("mlp",)}),
    "refuses what it should not": ("refusal", Refuses, {}),
    "takes what it should not": ("refusal", Steps, {"refuses": ("mlp",)}),
    "dead": ("live gradients", Dead, {}),
    "mean of the chunk": ("chunks", MeanOfChunk, {}),
    "by place": ("order of the batch", ByPlace, {}),
    "by the input": ("lengths", ByTheInput, {}),
    "claims": ("claims", Claims, {}),
    "decays": ("no error, no gradient", Decays, {}),
    "overwrites": ("accumulation", Overwrites, {}),
    "share of six": ("resumption", ShareOfSix, {}),
    "from rest": ("resumption", FromRest, {"resumes": False}),
    "forgetful": ("state dict", Forgetful, {}),
    "one of all": ("repetition", OneOfAll, {}),
    "no copy": ("fresh copy", NoCopy, {}),
    "tells": ("updates", Tells, {}),
    "says often": ("updates", SaysOften, {}),
    "marks": ("untouched network", Marks, {}),
    "moves": ("untouched network", Moves, {}),
    "scribbles": ("untouched network", Scribbles, {}),
    "gradients off": ("settings of torch", GradientsOff, {}),
    "gradients off between": ("settings of torch", GradientsOffBetween, {}),
    "trains": ("modes", Trains, {}),
    "thaws": ("frozen parameters", Thaws, {}),
    "fills in": ("frozen parameters", FillsIn, {}),
    "needs all": ("frozen parameters", NeedsAll, {}),
    "only double": ("single precision", OnlyDouble, {}),
    "rounds": ("single precision", Rounds, {}),
    "of several samples": ("one sample", OfSeveralSamples, {}),
    "needs several samples": ("one sample", NeedsSeveralSamples, {}),
    "draws": ("random numbers", Draws, {}),
    "seeds": ("random numbers", Seeds, {}),
    "seeds, and is noisy": ("random numbers", Seeds, {"noisy": True}),
    "says constant": ("memory", SaysConstant, {}),
    "says root": ("memory", SaysRoot, {}),
    "says linear": ("memory", SaysLinear, {}),
    "says linear of root": ("memory", SaysLinearOfRoot, {}),
    "says cut": ("credit through time", SaysCut, {}),
    "says through": ("credit through time", SaysThrough, {}),
    "by itself": ("backward", partial(ByItself, chunk=None), {}),
    "without hooks": ("layer hook", partial(WithoutHooks, chunk=None), {}),
    "signs": ("layer hook", Signs, {}),
}
"""Name -> the contract it breaks, how it is made, and what is said of it."""
