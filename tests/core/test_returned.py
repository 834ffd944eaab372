"""Methods of one's own that return something else than they have to: an error that names class and method."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ExtensionError, SpikewrightError
from spikewright.losses import Loss
from spikewright.network.hooks import Hooks
from spikewright.neurons import LIF, Neuron
from spikewright.rules import BPTT, IDE, OTTT, Naive, OnlineRule, RateRule, Rule, Traits, Update
from spikewright.solvers import Iterative
from spikewright.spatial import Spatial
from spikewright.spatial.direct import Direct
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState, Temporal
from tests.rules.support import loss_for

X, Y = torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])


def network(*middle: nn.Module) -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(4, 8), *(middle or [LIF()]), nn.Linear(8, 3))).double()


def learn(rule: Rule, net: sw.Network | None = None, loss: Loss | None = None) -> list[Update]:
    return list(rule.updates(net or network(), X.double(), Y, loss or loss_for(rule)))


class Own(OnlineRule):
    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__(1)
        self.answer = answer

    def on_weight(self, layer: Any, x: Tensor, carried: SiteState) -> Any:
        return self.answer(layer, x, carried)


ON_WEIGHT: dict[str, tuple[Callable[..., Any], str]] = {
    "a tensor": (lambda w, x, c: x, r"a SynapticInput and what it carries on.*returned a tensor \[1, 2, 4\]"),
    "nothing": (lambda w, x, c: None, "returned None"),
    "no state": (
        lambda w, x, c: SynapticInput(x),
        r"returned a spikewright.*\.SynapticInput\. Return both",
    ),
    "in reverse": (lambda w, x, c: (c, SynapticInput(x)), r"returned \({}, a spikewright"),
    "a tensor and a state": (lambda w, x, c: (x, c), r"returned \(a tensor \[1, 2, 4\] of float64, {}\)"),
    "no dictionary": (lambda w, x, c: (SynapticInput(x), x[-1]), "returned"),
    "a dictionary of numbers": (lambda w, x, c: (SynapticInput(x), {"a": 1.0}), "{'a': a float}"),
    "a state without batch": (lambda w, x, c: (SynapticInput(x), {"a": x.mean((0, 1))}), r"{'a': a tensor \[4\]"),
    "no value": (lambda w, x, c: (SynapticInput(None), c), "with a value of the layout of its input.*None"),  # type: ignore[arg-type]
    "a shorter value": (lambda w, x, c: (SynapticInput(x[..., :2]), c), r"with a value .*\[1, 2, 4\].*\[1, 2, 2\]"),
    "a smaller batch": (lambda w, x, c: (SynapticInput(x[:, :1]), c), r"with a value .*\[1, 1, 4\]"),
    "a shorter factor": (lambda w, x, c: (SynapticInput(x, x[..., :2]), c), r"presynaptic factor .*\[1, 2, 2\]"),
    "a folded factor": (lambda w, x, c: (SynapticInput(x, x.flatten(0, 1)), c), r"presynaptic factor .*\[2, 4\]"),
    "a factor for one": (lambda w, x, c: (SynapticInput(x, x[:, :1]), c), r"presynaptic factor .*\[1, 1, 4\]"),
    "a number at the bias": (lambda w, x, c: (SynapticInput(x, None, 1.0), c), r"presynaptic_bias .*\[1\].* float"),  # type: ignore[arg-type]
    "a long bias": (lambda w, x, c: (SynapticInput(x, None, torch.ones(3)), c), r"presynaptic_bias .*\[3\]"),
    "transposed": (lambda w, x, c: (SynapticInput(x, back=x.new_ones(w.weight).T), c), r"in back .*\[8, 4\].*\[4, 8\]"),
    "no function": (lambda w, x, c: (SynapticInput(x, project=3), c), "a function in project.*an int"),  # type: ignore[arg-type]
    "fewer rows": (lambda w, x, c: (SynapticInput(x, project=lambda r: r[:1]), c), r"project has to .*\[2, .*\[1, "),
    "no rows": (lambda w, x, c: (SynapticInput(x, project=lambda r: None), c), "project has to .*None"),  # type: ignore[arg-type,return-value]
}


@pytest.mark.parametrize("name", ON_WEIGHT)
def test_on_weight(name: str) -> None:
    answer, message = ON_WEIGHT[name]
    owner = "SynapticInput.project" if "rows" in name else "Own.on_weight"
    with pytest.raises(ExtensionError, match=message) as caught:
        learn(Own(answer))
    assert str(caught.value).startswith(owner)


def spikes(x: Tensor) -> Tensor:
    return (x > 0.1).to(x) + 0 * x


class OwnNeuron(Neuron):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__(threshold=1.0, reset="subtract", detach_reset=True, surrogate=Sigmoid(), inplace=False)
        self.answer = answer

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> Any:
        return self.answer(x)


class OwnLayer(Temporal):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> Any:
        return self.answer(x)


SCAN: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "spikes only": (spikes, r"returned a tensor \[1, 4, 8\] of float64\. Return both"),
    "nothing": (lambda x: None, "returned None"),
    "a list": (lambda x: [spikes(step) for step in x], "returned a list"),
    "a list and a state": (lambda x: (list(spikes(x)), {}), r"returned \(a list, {}\)"),
    "a tensor for a state": (lambda x: (spikes(x), x[-1]), r"returned \(a tensor .*, a tensor \[4, 8\]"),
    "a state of numbers": (lambda x: (spikes(x), {"v": 0.0}), "{'v': a float}"),
    "a state without batch": (lambda x: (spikes(x), {"v": x.mean((0, 1))}), r"{'v': a tensor \[8\]"),
    "in reverse": (lambda x: ({"v": x[-1]}, spikes(x)), r"returned \({'v': "),
    "three things": (lambda x: (spikes(x), {}, 1), "an int"),
    "the last step": (lambda x: (spikes(x)[-1], {}), r"returned \(a tensor \[4, 8\]"),
    "a step too many": (lambda x: (torch.cat([spikes(x), spikes(x[:1])]), {}), r"returned \(a tensor \[2, 4, 8\]"),
    "one sample": (lambda x: (spikes(x)[:, :1], {}), r"returned \(a tensor \[1, 1, 8\]"),
}


@pytest.mark.parametrize("kind", [OwnNeuron, OwnLayer])
@pytest.mark.parametrize("name", SCAN)
def test_scan(name: str, kind: type[OwnNeuron] | type[OwnLayer]) -> None:
    answer, message = SCAN[name]
    module: nn.Module = kind(answer)
    net = network(module) if kind is OwnNeuron else network(module, LIF())
    asked = r"its output and its state, a tensor \[time=1, batch=4, \*feature\]"
    with pytest.raises(ExtensionError, match=f"{kind.__name__}.scan has to return {asked}.*{message}"):
        net.run(X.double())


def test_a_scan_that_forgets_time_is_found_where_there_is_some() -> None:
    def first(x: Tensor) -> tuple[Tensor, SiteState]:
        return spikes(x)[:1], {}

    with pytest.raises(ExtensionError, match=r"\[time=5, batch=2, .* an input \[5, 2, 8\], but .*\[1, 2, 8\]"):
        network(OwnNeuron(first)).run(X.double())


class OwnRule(Rule):
    traits = Traits(loss="any", credit_through_time=True, gradients="layer hook", memory="linear")

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        super().__init__(None)
        self.answer = answer

    def learn(self, batch: Any) -> Any:
        return self.answer(batch)


def update(batch: Any, loss: Any = None) -> Update:
    run = batch.start()
    output = run.advance(batch.x).detach()
    return Update(output.sum() if loss is None else loss, output, run.state, run)


LEARN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda batch: None, "an iterator of updates, but it returned None. Write it as a generator"),
    "an update": (update, "but it returned a spikewright.rules._base.Update. Write it as a generator"),
    "one that yields nothing": (lambda batch: iter([None]), "but it returned None. Yield Update"),
    "one that yields losses": (lambda batch: iter(torch.ones(2)), r"but it returned a tensor \[\]"),
    "one that yields tuples": (lambda batch: iter([(1, 2)]), r"but it returned \(an int, an int\)"),
    "a number as loss": (lambda batch: iter([update(batch, 1.0)]), "iterator of updates, with tensors"),
}


@pytest.mark.parametrize("name", LEARN)
@pytest.mark.parametrize("around", [lambda rule: rule, Naive], ids=["alone", "inside another"])
def test_learn(name: str, around: Callable[[Rule], Rule]) -> None:
    answer, message = LEARN[name]
    rule = around(OwnRule(answer))
    with pytest.raises(ExtensionError, match=f"{type(rule).__name__}.learn has to return .*{message}"):
        learn(rule)


def test_lists_and_generators_of_updates() -> None:
    assert len(learn(OwnRule(lambda batch: [update(batch), update(batch)]))) == 2
    assert learn(OwnRule(lambda batch: iter(()))) == []


class OwnHooks(Hooks):
    def __init__(self, **answers: Callable[..., Any]) -> None:
        vars(self).update(answers)


HOOKS: dict[str, tuple[OwnHooks, str]] = {
    "on_current": (OwnHooks(on_current=lambda site, x: None), r"the shape of what it is given, \[5, 2, 8\].*None"),
    "on_spikes": (OwnHooks(on_spikes=lambda site, x: x[-1]), r"\[5, 2, 8\], but it returned a tensor \[2, 8\]"),
    "on_output": (OwnHooks(on_output=lambda x: x.sum()), r"\[5, 2, 3\], but it returned a tensor \[\]"),
    "on_weight": (OwnHooks(on_weight=lambda *a: a[2]), r"a SynapticInput and what it carries on.*tensor \[5, 2, 4\]"),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks(name: str) -> None:
    hooks, message = HOOKS[name]
    with pytest.raises(ExtensionError, match=rf"OwnHooks.{name} has to return .*{message}"):
        network().start(X.double(), hooks=hooks).advance(X.double())


class OwnWay(Spatial):
    cuts = True

    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__()
        self.answer = answer

    def signals(self, lesson: Any) -> Any:
        return self.answer(lesson)


class OwnBack(Spatial):
    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__()
        self.answer = answer

    def back(self, synapse: Any, weight: Tensor) -> Any:
        return self.answer(weight)


class OwnMatrices(Direct):
    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__(0, "output")
        self.answers = answers

    def first(self, neurons: int, components: int, generator: torch.Generator) -> Any:
        return self.answers.get("first", torch.ones)(neurons, components)

    def signal(self, key: str, moment: Any) -> Any:
        return self.answers.get("signal", lambda m: m.activity)(moment)


WAYS: dict[str, tuple[Spatial, str]] = {
    "no signals": (OwnWay(lambda lesson: None), "OwnWay.signals has to return a dictionary .*None"),
    "of no layer": (OwnWay(lambda lesson: {"z": X}), "OwnWay.signals .*{'z': a tensor"),
    "of a step": (OwnWay(lambda lesson: {s: a[0] for s, a in lesson.activity.items()}), r"OwnWay.signals .*\[2, 8\]"),
    "of lists": (OwnWay(lambda lesson: {s: [1] for s in lesson.activity}), "OwnWay.signals .*{'1': a list}"),
    "transposed": (OwnBack(lambda w: w.T), r"OwnBack.back .*\[8, 4\], but it returned a tensor \[4, 8\]"),
    "a number": (OwnBack(lambda w: 1.0), "OwnBack.back .* a float"),
    "no matrix": (OwnMatrices(first=lambda n, c: torch.ones(c, n)), r"OwnMatrices.first .*\[8, 3\].*\[3, 8\]"),
    "no signal": (OwnMatrices(signal=lambda m: None), r"OwnMatrices.signal .*\[2, 8\], but it returned None"),
    "the error": (OwnMatrices(signal=lambda m: m.error), r"OwnMatrices.signal .*\[2, 8\].*\[2, 3\]"),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_of_spatial_credit(name: str) -> None:
    spatial, message = WAYS[name]
    with pytest.raises(ExtensionError, match=message):
        learn(OTTT(spatial=spatial))


class OwnRates(RateRule):
    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__("rate", "input", None)
        self.answers = answers

    def rate_map(self, wiring: Any, site: str, neuron: Neuron, recorded: Any, rate: Tensor) -> Any:
        return self.answers.get("rate_map", lambda rate: rate)(rate)

    def adjoint_loss(self, value: Tensor, adjoint: Any) -> Any:
        return self.answers.get("adjoint_loss", lambda value: (value, None))(value)


RATES: dict[str, tuple[Callable[..., Any], str]] = {
    "rate_map": (lambda rate: None, r"at '1' \(LIF\), of its shape, \[2, 8\], but it returned None"),
    "rate_map of one": (lambda rate: rate[:, :1], r"\[2, 8\], but it returned a tensor \[2, 1\]"),
    "rate_map that is constant": (torch.ones_like, "a constant map has no derivative"),
    "adjoint_loss": (lambda value: None, "what is to be differentiated and a Report, .*None"),
    "adjoint_loss alone": (lambda value: value, r"a tensor \[\] of float64. Return both"),
}


@pytest.mark.parametrize("name", RATES)
def test_rules_of_rates(name: str) -> None:
    (answer, message), method = RATES[name], name.partition(" ")[0]
    with pytest.raises(ExtensionError, match=f"OwnRates.{method} has to return .*{message}"):
        learn(OwnRates(**{method: answer}))


@pytest.mark.parametrize("total", [lambda value: 1.0, lambda value: value.expand(2)])
def test_what_is_differentiated_is_one_number(total: Callable[[Tensor], Any]) -> None:
    with pytest.raises(ExtensionError, match="has to be a tensor of one number"):
        learn(OwnRates(adjoint_loss=lambda value: (total(value), None)))


class OwnSolver(Iterative):
    def __init__(self) -> None:
        super().__init__(1, None)

    def solve(self, product: Any, g: Tensor) -> Any:
        return g


def test_a_solver() -> None:
    loop = network(sw.Feedback(nn.Linear(8, 8), "2"), LIF())
    with pytest.raises(ExtensionError, match=r"OwnSolver.solve has to return the solution, .* and a Report"):
        learn(IDE(OwnSolver()), loop)


class NoDynamics(OwnNeuron):
    @property
    def dynamics(self) -> Any:
        return {"decay": 0.5}


def test_dynamics() -> None:
    with pytest.raises(ExtensionError, match=r"NoDynamics.dynamics has to return a spikewright.Dynamics, .*'decay'"):
        network(NoDynamics(spikes))


class OwnSlope(Surrogate):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        self.answer = answer

    def slope(self, x: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize("answer", [lambda x: None, lambda x: 1.0, lambda x: x[..., :3], lambda x: x[None]])
@pytest.mark.parametrize("rule", [BPTT, OTTT])
def test_slopes(rule: Callable[[], Rule], answer: Callable[[Tensor], Any]) -> None:
    with pytest.raises(ExtensionError, match=r"OwnSlope.slope has to return a tensor of the shape of its argument"):
        learn(rule(), network(LIF(surrogate=OwnSlope(answer))))


def test_they_belong_to_the_family() -> None:
    assert issubclass(ExtensionError, SpikewrightError) and issubclass(ExtensionError, TypeError)
