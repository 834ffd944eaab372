"""A state that is none, or of another network, is refused; a state is cut where no error crosses steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import InputError, NetworkError, ShapeError
from spikewright.layers import Feedback, SharedDropout, SynapticDelay
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.neurons import LIF, AlphaLIF
from spikewright.rules import BPTT, DSR, EWC, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, Rule
from spikewright.spatial import DFA
from spikewright.temporal import State, detach
from tests.rules.support import loss_for

X, Y = torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])


def network(*layers: nn.Module) -> Network:
    return Network(nn.Sequential(*layers)).double()


def usual(hidden: int = 8, inputs: int = 4) -> Network:
    return network(nn.Linear(inputs, hidden), LIF(), nn.Linear(hidden, 3))


def deep() -> Network:
    return network(nn.Linear(4, 8), LIF(), nn.Linear(8, 8), LIF(), nn.Linear(8, 3))


def state_of(net: Network, x: Tensor = X, rule: Rule | None = None) -> State:
    if rule is None:
        return net.run(x.double())[1]
    return list(rule.updates(net, x.double(), Y, loss_for(rule)))[-1].state


def membrane(value: Any) -> Any:
    return {"1": {"membrane": value}}


NO_STATE: dict[str, tuple[Callable[[], Any], str]] = {
    "list": (lambda: [1], "A state is a dictionary.*a list was given"),
    "tensor": (lambda: X, "a torch.Tensor was given"),
    "what run returns": (lambda: usual().run(X.double()), r"a tuple was given.*output, state = net.run\(x\)"),
    "tensors of layers": (lambda: {"1": torch.zeros(2, 8)}, r"for '1' it holds a tensor \[2, 8\]"),
    "numbers": (lambda: membrane(0.0), "for '1' it holds {'membrane': a float}"),
}
OF_ANOTHER: dict[str, tuple[Callable[[], Network], Callable[[], State], str]] = {
    "more layers": (usual, lambda: state_of(deep()), "an entry for '3', but the network has no layer of that name"),
    "fewer layers": (deep, lambda: state_of(usual()), "entries for other neurons, but none for '3'"),
    "wider": (usual, lambda: state_of(usual(6)), r"'1' could not go on .* membrane \[2, 6\], .* a step \[2, 8\]"),
    "one wide": (usual, lambda: state_of(usual(1)), r"'1' was given .* another shape .*membrane \[2, 1\].*\[2, 8\]"),
    "other neurons": (
        lambda: network(nn.Linear(4, 8), AlphaLIF(), nn.Linear(8, 3)),
        lambda: {"1": {"v": torch.zeros(2, 8)}},
        r"'1' carry current, membrane, but the state that was given has v \[2, 8\]",
    ),
    "a mask": (
        lambda: network(nn.Linear(4, 8), SharedDropout(0.5), LIF(), nn.Linear(8, 3)),
        lambda: {"1": {"mask": torch.ones(2, 1)}},
        r"Dropout was given a mask of shape \[2, 1\] to go on with, but .*\[2, 8\]",
    ),
    "feedback": (
        lambda: network(nn.Linear(4, 8), Feedback(nn.Linear(8, 8), "2"), LIF(), nn.Linear(8, 3)),
        lambda: {"1": {"last": torch.ones(2, 6)}},
        r"'1' could not go on .* last \[2, 6\]",
    ),
}


@pytest.mark.parametrize("how", ["run", "updates"])
@pytest.mark.parametrize("name", [*NO_STATE, *OF_ANOTHER])
def test_a_state_that_does_not_belong_here(name: str, how: str) -> None:
    net = usual() if name in NO_STATE else OF_ANOTHER[name][0]()
    make, message = NO_STATE[name] if name in NO_STATE else OF_ANOTHER[name][1:]
    state = make()
    with pytest.raises((ShapeError, NetworkError), match=message):
        if how == "run":
            net.run(X.double(), state)
        else:
            list(BPTT().updates(net, X.double(), Y, loss_for(BPTT()), state))


@pytest.mark.parametrize("inputs", [6, 1])
def test_traces_of_another_input(inputs: int) -> None:
    state = state_of(usual(inputs=inputs), torch.rand(5, 2, inputs), OTTT())
    with pytest.raises(ShapeError, match=rf"'0' .*trace \[2, {inputs}\]"):
        list(OTTT().updates(usual(), X.double(), Y, loss_for(OTTT()), state))


def test_states_that_belong_here() -> None:
    """That of a rule and that of a run, in part where a layer keeps nothing, and a number for all."""
    net = usual()
    list(BPTT().updates(net, X.double(), Y, loss_for(BPTT()), state_of(net)))
    for rule in OTTT(), BPTT():
        list(rule.updates(net, X.double(), Y, loss_for(rule), state_of(net, rule=OTTT())))
    net.run(X.double(), membrane(torch.tensor(0.3)))
    net.run(X.double(), {})


def test_traces_that_are_not_carried_on_are_not_kept() -> None:
    """Otherwise a rule would go on from them later, as if the steps between had not been."""
    net = usual()
    state = state_of(net, rule=OTTT())
    assert state.keys() == {"0", "1"}
    assert net.run(X.double(), state)[1].keys() == {"1"}
    for rule in BPTT(), SLTT(), SLTT(spatial=DFA()), DSR():
        (update,) = rule.updates(net, X.double(), Y, loss_for(rule), state)
        assert update.state.keys() == {"1"}, rule
    assert state.keys() == {"0", "1"}  # what was given stays as it is


def edited(state: State, site: str, name: str, value: Any) -> State:
    return {**state, site: {**state[site], name: value}}


def without(state: State, site: str, name: str) -> State:
    return {**state, site: {key: value for key, value in state[site].items() if key != name}}


def delayed() -> Network:
    return network(nn.Linear(4, 8), SynapticDelay(8, 3), LIF(), nn.Linear(8, 3))


def looped() -> Network:
    return network(nn.Linear(4, 8), Feedback(nn.Linear(8, 8), "2"), LIF(), nn.Linear(8, 3))


def alpha() -> Network:
    return network(nn.Linear(4, 8), AlphaLIF(), nn.Linear(8, 3))


NAN = torch.full((2, 8), torch.nan).double()
FLAWED: dict[str, tuple[Callable[[], Network], Callable[[], Rule], Callable[[State], State], str]] = {
    "misspelt": (usual, BPTT, lambda s: {"1": {"membrne": s["1"]["membrane"]}}, r"'1' carry membrane, .* has membrne"),
    "one name too many": (
        usual,
        BPTT,
        lambda s: edited(s, "1", "v", torch.ones(2, 8)),
        r"'1' carry membrane, .* v \[2, 8\]",
    ),
    "one name missing": (alpha, BPTT, lambda s: without(s, "1", "current"), r"'1' carry current, membrane, but .* has"),
    "another call": (usual, BPTT, lambda s: {**s, "1#2": s["1"]}, r"an entry for '1#2', but the network makes no such"),
    "not finite": (usual, BPTT, lambda s: edited(s, "1", "membrane", NAN), r"'1' holds nan, in 'membrane' \[2, 8\] at"),
    "one wide": (usual, BPTT, lambda s: {"1": {"membrane": s["1"]["membrane"][:, :1]}}, r"membrane \[2, 1\] and not"),
    "one axis": (usual, BPTT, lambda s: {"1": {"membrane": s["1"]["membrane"][:, 0]}}, r"membrane \[2\]"),
    "integers": (
        usual,
        BPTT,
        lambda s: {"1": {"membrane": s["1"]["membrane"].long()}},
        r"of torch.int64 and not torch",
    ),
    "complex": (usual, BPTT, lambda s: {"1": {"membrane": s["1"]["membrane"] + 0j}}, "complex"),
    "elsewhere": (
        usual,
        BPTT,
        lambda s: {"1": {"membrane": s["1"]["membrane"].to("meta")}},
        "on meta, but x is on cpu",
    ),
    "trace elsewhere": (usual, OTTT, lambda s: edited(s, "0", "trace", s["0"]["trace"].to("meta")), "on meta, but x"),
    "no trace": (
        usual,
        OTTT,
        lambda s: {"1": s["1"]},
        "none for '0'.* without trace, .* same rule learn from the earl",
    ),
    "no trace of a bias": (usual, OTTT, lambda s: without(s, "0", "bias_trace"), "'0' carry trace, bias_trace, but"),
    "a trace of another shape": (
        usual,
        OTTT,
        lambda s: edited(s, "0", "trace", s["0"]["trace"][:, :1]),
        r"trace \[2, 1\]",
    ),
    "no delay": (delayed, BPTT, lambda s: {"2": s["2"]}, "none for '1', which would start at rest, without past"),
    "a shorter delay": (
        delayed,
        BPTT,
        lambda s: edited(s, "1", "past", s["1"]["past"][:, 1:]),
        r"the last 4 steps, but .* \[2, 3, 8\]",
    ),
    "no feedback": (looped, BPTT, lambda s: {"2": s["2"]}, "none for '1', which would start at rest, without last"),
    "a feedback of one": (looped, BPTT, lambda s: edited(s, "1", "last", s["1"]["last"][:, :1]), r"'1' (was|could)"),
}


@pytest.mark.parametrize("name", FLAWED)
def test_a_state_is_checked_as_an_input_is(name: str) -> None:
    make, rule, change, message = FLAWED[name]
    net = make()
    state = change(state_of(net, rule=rule()))
    with pytest.raises((ShapeError, NetworkError, InputError), match=message):
        list(rule().updates(net, X.double(), Y, loss_for(rule()), state))
    if rule is BPTT:
        with pytest.raises((ShapeError, NetworkError, InputError), match=message):
            net.run(X.double(), state)


@pytest.mark.parametrize("rule", [SLTT, OTTT, lambda: OTTT(chunk=None), lambda: OTTT(spatial=DFA())])
def test_no_error_goes_back_into_the_state_where_none_crosses_steps(rule: Callable[[], Rule]) -> None:
    """The state of a differentiable run has the graph of the steps that led to it."""
    net = deep()
    for p in net.parameters():
        p.data *= 2
    found = []
    for cut in (True, False):
        state = {**state_of(net, rule=rule()), **state_of(net)}  # traces, and membranes with a graph
        net.zero_grad()
        list(rule().updates(net, X.double(), Y, loss_for(rule()), detach(state) if cut else state))
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(a.any() and torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_errors_do_go_back_into_it_where_they_cross_steps() -> None:
    net, rest = usual(), torch.full((2, 8), 0.3).double().requires_grad_()
    list(BPTT().updates(net, X.double(), Y, loss_for(BPTT()), membrane(rest)))
    assert rest.grad is not None and rest.grad.any()


EVERY: list[Callable[[], Rule]] = [BPTT, lambda: BPTT(checkpoint=True), SLTT, OTTT, lambda: OTTT(online=True), OPZO]
EVERY += [lambda: OTTT(spatial=DFA()), DSR, IDE, SPIDE, lambda: HLOP(OTTT()), lambda: EWC(BPTT())]


@pytest.mark.parametrize("rule", EVERY)
def test_all_is_frozen(rule: Callable[[], Rule]) -> None:
    net = usual().requires_grad_(False)
    with pytest.raises(InputError, match=r"no parameter of the network requires one.*Unfreeze some"):
        list(rule().updates(net, X.double(), Y, loss_for(rule())))


@pytest.mark.parametrize("rule", [BPTT, SLTT, OTTT, OPZO])
def test_a_frozen_network_passes_gradients_to_its_input(rule: Callable[[], Rule]) -> None:
    net, x = usual().requires_grad_(False), X.double().requires_grad_()
    list(rule().updates(net, x, Y, loss_for(rule())))
    assert x.grad is not None and x.grad.any()


class Idle(nn.Sequential):
    """Has a parameter that is not frozen, and is not used either."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), LIF(), nn.Linear(8, 3))
        self.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(()))


def constant(loss: Loss) -> Loss:
    return loss.by(lambda output, y: output.detach().mean())


@pytest.mark.parametrize("rule", [BPTT, lambda: BPTT(checkpoint=True), SLTT, OTTT, DSR, IDE])
@pytest.mark.parametrize("why", ["what is used is frozen", "the criterion is constant"])
def test_a_loss_that_depends_on_nothing(rule: Callable[[], Rule], why: str) -> None:
    frozen = why == "what is used is frozen"
    net, loss = (Network(Idle()).double() if frozen else usual()), loss_for(rule())
    with pytest.raises(InputError, match="depends on nothing that asks for a gradient"):
        list(rule().updates(net, X.double(), Y, loss if frozen else constant(loss)))
