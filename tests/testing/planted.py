"""Rules and neurons that each break one contract."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule
from spikewright.neurons import LIF, Dynamics, Neuron
from spikewright.rules import BPTT, Batch, OnlineRule, Rule, Update
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.synapse import SynapticInput
from spikewright.temporal import SiteState


class Steps(OnlineRule):
    """Every step by itself: nothing is wrong with it."""

    def __init__(self, chunk: int | str | None = 1) -> None:
        super().__init__(chunk)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


class Undeclared(Steps):
    traits = replace(Steps.traits, memory="const")  # type: ignore[arg-type]


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


class Loop(Neuron):
    """A leaky neuron with a scan of its own: nothing is wrong with it."""

    kept, told = 0.5, 0.5
    size = 1.0

    def __init__(self, detach_reset: bool = True) -> None:
        surrogate = Sigmoid(4.0)
        super().__init__(threshold=1.0, reset="subtract", detach_reset=detach_reset, surrogate=surrogate, inplace=False)

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(
            decay=self.told, linear=True, rate_map=self.map, binary=True, soft_reset=True, detached_reset=True
        )

    def map(self, rate: Tensor) -> Tensor:
        return rate.clamp(0, 1)

    def fire(self, u: Tensor) -> Tensor:
        return self.surrogate(u - 1)

    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return u - s.detach()

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, sent = state.get("v", torch.zeros_like(x[0])), []
        for step in x:
            u = self.kept * v + step
            s = self.fire(u)
            v = self.after(u, s)
            v = v if through_time else v.detach()
            sent.append(self.size * s)
        return torch.stack(sent), {"v": v}


class Flat(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent.flatten(2), after


class Wide(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent.double(), after


class Silent(Loop):
    size = 0.0


class Slopeless(Loop):
    def fire(self, u: Tensor) -> Tensor:
        return (u >= 1).to(u)


class InPlace(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        found = super().scan(x, state, through_time)
        if "v" in state:
            state["v"].data.mul_(0.5)
        return found


class Amnesic(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, {}, through_time)


class Uncut(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, state, True)


class Mixed(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x - 0.1 * x.mean(1, keepdim=True), state, through_time)


class Loose(Loop):
    """Draws a constant that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0.5 + 0.4 * float(torch.rand(()))
        self.told = self.kept


class TwoDecays(Loop):
    told = torch.tensor([0.5, 0.5])  # type: ignore[assignment]


class Twice(Loop):
    size = 2.0

    def map(self, rate: Tensor) -> Tensor:
        return 2 * rate.clamp(0, 1)


class OwnForward(Loop):
    def forward(self, current: Tensor) -> Tensor:
        return super().forward(2 * current)


class Floor(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return super().after(u, s).clamp(min=-0.1)


class Counting(Loop):
    """Carries a number that is no tensor."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, Any]:
        sent, after = super().scan(x, state, through_time)
        return sent, {**after, "steps": 1.0}


class Squeezed(Loop):
    """Carries one sample without its axis."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent, {"v": after["v"].squeeze(0)}


class AmnesicOnMaps(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, {} if x.dim() > 3 else state, through_time)


class AmnesicInEvaluation(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, state if self.training else {}, through_time)


class MixedOnMaps(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x - 0.1 * x.mean(1, keepdim=True) if x.dim() > 3 else x, state, through_time)


class MixedInEvaluation(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if self.training else x - 0.1 * x.mean(1, keepdim=True), state, through_time)


class OfSeveral(Loop):
    """Does something else with a sample by itself."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if x.shape[1] > 1 else 0.5 * x, state, through_time)


class SilentInEvaluation(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if self.training else 0 * x, state, through_time)


class SilentWithoutGradients(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if torch.is_grad_enabled() or x.shape[1] == 8 else 0 * x, state, through_time)


class AlongTheWrongAxis(Loop):
    """Has a gain for each of three channels, and gives it to the last axis."""

    def gain_at(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64).to(x)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x * self.gain_at(x), state, through_time)


class ByColumn(AlongTheWrongAxis):
    """The same where there are as many as it takes."""

    def gain_at(self, x: Tensor) -> Tensor:
        return super().gain_at(x) if x.shape[-1] == 3 else torch.linspace(1, 2, x.shape[-1]).to(x)


class Untaught(Loop):
    """Has a gain that nothing arrives at."""

    def __init__(self) -> None:
        super().__init__()
        self.boost = nn.Parameter(torch.ones(()))

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x * self.boost.detach(), state, through_time)


class SlopelessMap(Loop):
    def map(self, rate: Tensor) -> Tensor:
        return rate.detach().clamp(0, 1) + 0 * rate


class ThreeTimesTheSlope(Loop):
    def map(self, rate: Tensor) -> Tensor:
        value = rate.clamp(0, 1)
        return value.detach() + 3 * (value - value.detach())


class ByTheChunk(Surrogate):
    """A slope that looks at all of its argument."""

    def slope(self, x: Tensor) -> Tensor:
        return 1 / (1 + (x / (x.abs().max() + 1e-3)).square())


class GivenLater(LIF):
    def __init__(self) -> None:
        super().__init__()
        self.surrogate = ByTheChunk()


class GivenLaterInALoop(Loop):
    def __init__(self) -> None:
        super().__init__()
        self.surrogate = ByTheChunk()


class OtherDecay(Loop):
    told = 0.8


class HalfTheGradient(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        v = super().after(u, s)
        return 0.5 * (v + v.detach())


class Attached(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return u - s


class Hard(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return u * (1 - s.detach())


class OtherMap(Loop):
    kept = told = 1.0

    def map(self, rate: Tensor) -> Tensor:
        return rate.clamp(0, 1).square()


class FlatMap(Loop):
    def map(self, rate: Tensor) -> Tensor:
        return rate.detach().clamp(0, 1)


NEURONS: dict[str, tuple[str, Callable[[], Neuron]]] = {
    "flat": ("shape and type", Flat),
    "wide": ("shape and type", Wide),
    "silent": ("fires", Silent),
    "slopeless": ("live gradients", Slopeless),
    "in place": ("state not changed in place", InPlace),
    "amnesic": ("chunks", Amnesic),
    "counting": ("state", Counting),
    "squeezed": ("state", Squeezed),
    "amnesic on maps": ("chunks", AmnesicOnMaps),
    "amnesic in evaluation": ("chunks", AmnesicInEvaluation),
    "mixed on maps": ("samples apart", MixedOnMaps),
    "mixed in evaluation": ("samples apart", MixedInEvaluation),
    "of several": ("samples apart", OfSeveral),
    "silent in evaluation": ("evaluation", SilentInEvaluation),
    "silent without gradients": ("evaluation", SilentWithoutGradients),
    "along the wrong axis": ("shape and type", AlongTheWrongAxis),
    "by column": ("maps", ByColumn),
    "untaught": ("live gradients", Untaught),
    "slope by the chunk": ("chunks", GivenLater),
    "slope by the batch": ("samples apart", GivenLaterInALoop),
    "slopeless map": ("gradient of the rate map", SlopelessMap),
    "three times the slope": ("gradient of the rate map", ThreeTimesTheSlope),
    "uncut": ("credit cut", Uncut),
    "mixed": ("samples apart", Mixed),
    "loose": ("copies", Loose),
    "two decays": ("dynamics", TwoDecays),
    "twice": ("binary", Twice),
    "own forward": ("no forward", OwnForward),
    "floor": ("linear", Floor),
    "other decay": ("decay", OtherDecay),
    "half the gradient": ("gradient by the decay", HalfTheGradient),
    "attached": ("soft, detached reset", Attached),
    "hard": ("soft reset", Hard),
    "other map": ("rate map", OtherMap),
    "flat map": ("rate map", FlatMap),
}
"""Name -> the contract it breaks, and how it is made."""
