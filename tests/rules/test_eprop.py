"""E-prop: its eligibilities by per-weight recursions, what it equals and what it does not, and what it keeps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError, NetworkError
from spikewright.layers import Feedback
from spikewright.network import Network
from spikewright.neurons import LIF, AlphaLIF, Neuron
from spikewright.reports.gradient_check import certify
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, OTTT, EProp
from spikewright.rules._eligibility_plans import plans_for
from tests.adaptive import Adaptive, Potential
from tests.nets import NETS, sample
from tests.oracles import eprop
from tests.oracles.compare import assert_agree, relative
from tests.oracles.draw import draw
from tests.oracles.machine import Params
from tests.rules.support import CE, gradients, learn

CELLS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "alif": ({"rho": 0.9, "jump": 0.4}, ("adaptation",)),
    "cuba": ({"a": 0.6}, ()),
    "alif, cuba": ({"a": 0.6, "rho": 0.8, "jump": 0.7}, ("adaptation",)),
    "hard reset": ({"hard": True}, ("membrane",)),
    "attached": ({"attached": True}, ("membrane",)),
    "hard, attached": ({"hard": True, "attached": True}, ("membrane",)),
    "hard, cuba": ({"hard": True, "a": 0.6}, ("membrane", "current")),
    "attached alif, cuba": (
        {"attached": True, "a": 0.4, "rho": 0.9, "jump": 0.5},
        ("membrane", "current", "adaptation"),
    ),
    "negative jump": ({"rho": 0.5, "jump": -0.3}, ("adaptation",)),
}
"""Constants of the recursions, and the parts of the state that need a number per weight."""
INPUTS, NEURONS, CLASSES = 8, 10, 4
RECURRENT = {"in": (NEURONS, INPUTS), "rec": (NEURONS, NEURONS), "out": (CLASSES, NEURONS)}


def cell(a: float = 0.0, b: float = 0.5, rho: float = 0.0, jump: float = 0.0, **resets: bool) -> Adaptive:
    return Adaptive(b, a, rho, jump, **resets)


class Detach(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Layer(nn.Module):
    """One layer of neurons, recurrent or not, and a readout, with parameters in the names of the program."""

    def __init__(
        self, neuron: Neuron, recurrent: bool = False, detached: bool = False, readout: Neuron | None = None
    ) -> None:
        super().__init__()
        self.neuron, self.readout = neuron, readout or nn.Identity()
        self.add_module("in", nn.Linear(INPUTS, NEURONS))
        self.rec, self.out = nn.Linear(NEURONS, NEURONS, bias=False), nn.Linear(NEURONS, CLASSES)
        before = Detach() if detached else nn.Identity()
        self.back = Feedback(nn.Sequential(before, self.rec), neuron) if recurrent else nn.Identity()
        drawn = draw(RECURRENT, 0)
        self.load_state_dict({name: p for name, p in drawn.items() if name != "rec.bias"}, strict=False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.out(self.neuron(self.back(self.get_submodule("in")(x)))))

    def params(self) -> Params:
        return {name: p.detach().clone() for name, p in self.named_parameters() if "back" not in name}


def found_in(rule: EProp, module: Layer, x: Tensor, y: Tensor) -> Params:
    """The gradients by the names of the program."""
    found = gradients(rule, module, x, y)
    return {name: grad for name, grad in found.items() if name != "rec.weight" or grad.any()}


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_equals_the_recursions_of_the_textbook(name: str, recurrent: bool) -> None:
    constants, parts = CELLS[name]
    module, (x, y) = Layer(cell(**constants), recurrent), sample("mlp", 0, steps=12)
    found = found_in(EProp(), module, x, y)
    assert_agree(found, eprop.textbook(module.params(), x, y, recurrent=recurrent, **constants), 1e-11)
    plans = plans_for("EProp", Network(module).wiring(x)).layers
    assert set(plans["in"].kept.get("neuron", ())) == set(parts)


@pytest.mark.parametrize("name", CELLS)
def test_random_feedback_meets_the_same_eligibilities(name: str) -> None:
    constants, _ = CELLS[name]
    module, (x, y) = Layer(cell(**constants), True), sample("mlp", 0)
    rule = EProp("random", scale=2.0, seed=3)
    found = found_in(rule, module, x, y)
    matrix = rule.spatial.matrices["output neuron"]  # type: ignore[union-attr,index]
    assert_agree(found, eprop.textbook(module.params(), x, y, recurrent=True, feedback=matrix, **constants), 1e-11)
    whole = certify(Network(module), rule, x, y, CE)
    assert whole.ok and {row.site for row in whole.rows if row.exact} == {"out.weight", "out.bias"}
    assert matrix.std() == pytest.approx(2.0 / CLASSES**0.5, rel=0.4)


@pytest.mark.parametrize("name", CELLS)
def test_a_recurrent_layer_is_bptt_without_the_paths_through_other_spikes(name: str) -> None:
    constants, _ = CELLS[name]
    (x, y), found = sample("mlp", 0, steps=12), {}
    for detached in (False, True):
        module = Layer(cell(**constants), True, detached)
        found[detached] = gradients(BPTT(), module, x, y)
    ours = gradients(EProp(), Layer(cell(**constants), True), x, y)
    assert_agree(ours, found[True], 1e-11)
    assert all(relative(ours, found[False])[key] > 1e-2 for key in ("in.weight", "rec.weight"))


@pytest.mark.parametrize("name", CELLS)
def test_is_bptt_where_neurons_send_to_none_and_says_so(name: str) -> None:
    constants, _ = CELLS[name]
    check = certify(Network(Layer(cell(**constants))), EProp(), *sample("mlp", 0), CE)
    rows = {row.site: row for row in check.rows if not row.site.startswith("rec")}
    assert check.ok and all(row.exact and row.relative_error < 1e-12 for row in rows.values()), check.table()
    check = certify(Network(Layer(cell(**constants))), OTTT(), *sample("mlp", 0), CE)
    rows = {row.site: row for row in check.rows}
    assert check.ok and rows["in.weight"].exact == (name == "cuba")
    assert (rows["in.weight"].relative_error > 1e-2) == (name != "cuba")


@pytest.mark.parametrize("feedback", ["exact", "random"])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", ["soft reset", *CELLS])
def test_leaky_readouts_filter_the_eligibilities(name: str, recurrent: bool, feedback: Any) -> None:
    constants, _ = CELLS.get(name, ({}, ()))
    module, (x, y) = Layer(cell(**constants), recurrent, readout=Potential(0.8)), sample("mlp", 0, steps=12)
    rule = EProp(feedback)
    found = found_in(rule, module, x, y)
    matrix = rule.spatial.matrices["output neuron"] if feedback == "random" else None  # type: ignore[union-attr,index]
    program = partial(eprop.textbook, module.params(), x, y, recurrent=recurrent, feedback=matrix, **constants)
    assert_agree(found, program(kappa=0.8), 1e-11)
    assert relative(found, {**program(kappa=0.8), "in.weight": program()["in.weight"]})["in.weight"] > 1e-2
    check = certify(Network(module), rule, x, y, CE)
    claimed = {row.site for row in check.rows if row.exact}
    assert check.ok and ("in.weight" in claimed) == (feedback == "exact" and not recurrent)


@pytest.mark.parametrize("a", [0.0, 0.6])
@pytest.mark.parametrize("name", ["soft reset", *CELLS])
def test_is_bptt_in_front_of_leaky_readouts_too(name: str, a: float) -> None:
    constants, _ = CELLS.get(name, ({}, ()))
    check = certify(Network(Layer(cell(**constants), readout=Potential(0.8, a))), EProp(), *sample("mlp", 0), CE)
    rows = {row.site: row for row in check.rows if not row.site.startswith("rec")}
    assert check.ok and all(row.exact and row.relative_error < 1e-12 for row in rows.values()), check.table()
    check = certify(Network(Layer(cell(**constants), readout=Potential(0.8, a))), OTTT(), *sample("mlp", 0), CE)
    rows = {row.site: row for row in check.rows}
    assert check.ok and not rows["in.weight"].exact and rows["in.weight"].relative_error > 1e-2
    assert rows["out.weight"].relative_error < 1e-12


def test_a_readout_whose_decay_is_declared_otherwise_filters_nothing_and_nothing_is_claimed() -> None:
    for readout in (Potential(0.8, told=0.5), LIF(5.0), None):
        net, x = Network(Layer(cell(), readout=readout)), sample("mlp", 0)[0]
        assert not plans_for("EProp", net.wiring(x)).filters
    check = certify(Network(Layer(cell(), readout=Potential(0.8, told=0.5))), EProp(), *sample("mlp", 0), CE)
    assert {row.site for row in check.rows if row.exact and row.site[:3] != "rec"} == {"out.weight", "out.bias"}
    assert check.ok, check.table()


@pytest.mark.parametrize("name", ["mlp", "two_leaks", "conv", "residual", "branching", "feedback", "shared", "if_net"])
def test_is_ottt_where_a_trace_is_enough(name: str) -> None:
    x, y = sample(name, 0)
    ours, theirs = (gradients(rule, NETS[name](0), x, y) for rule in (EProp(), OTTT()))
    assert_agree(ours, theirs, 1e-12)


def test_symmetric_feedback_is_exact_where_it_is_not_refused() -> None:
    module, (x, y) = Layer(cell(**CELLS["alif"][0]), True), sample("mlp", 0)
    assert_agree(gradients(EProp("symmetric"), module, x, y), gradients(EProp(), module, x, y), 1e-14)
    for name in NETS:
        with pytest.raises(Exception, match=r"EProp\(feedback='symmetric'\) sends .* but '\w+' sends to '[\w#]+' in"):
            learn(EProp("symmetric"), NETS[name](0), *sample(name, 0))


def conv(neuron: Callable[[], Neuron], between: nn.Module | None = None, groups: int = 2) -> nn.Module:
    layer = nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=groups)
    head = [nn.Flatten(), nn.Linear(96, CLASSES)]
    module = nn.Sequential(layer, between or nn.Identity(), neuron(), *head).double()
    module.load_state_dict(draw({"0": tuple(layer.weight.shape), "4": (CLASSES, 96)}, 3), strict=False)
    return module


HARD: Callable[[], Neuron] = partial(LIF, reset="zero", detach_reset=False)  # type: ignore[arg-type]
OTHERS: dict[str, Callable[[], Neuron]] = {
    "hard": HARD,
    "adaptive": Adaptive,
    "one decay per channel": partial(LIF, tau=[1.0, 1.5, 2.0, 3.0, 5.0, 9.0], reset="subtract"),
    "alpha": partial(AlphaLIF, threshold=1.0),
    "learned tau": partial(LIF, tau=4.0, learn_tau=True, reset="zero"),
    "shifted": partial(LIF, rest=-0.5, gain=0.7, amplitude=1.5, detach_reset=False),
}


@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", OTHERS)
def test_convolutions_have_one_per_position(name: str, groups: int, chunk: int | None) -> None:
    x, y = sample("conv", 0)
    check = certify(Network(conv(OTHERS[name], groups=groups)), EProp(chunk=chunk), x, y, CE)
    exact = {row.site for row in check.rows if row.exact}
    assert check.ok and exact == {"0.weight", "0.bias", "4.weight", "4.bias"}, check.table()


BETWEEN: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "norm in evaluation": lambda: norm().eval(),
    "factors": lambda: nn.Softplus(),
}


def norm() -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(6)
    nn.init.uniform_(module.weight, 0.5, 1.5)
    module.running_var = torch.linspace(0.5, 2.0, 6)
    return module


@pytest.mark.parametrize("between", BETWEEN)
def test_what_lies_between_may_have_any_slope_entry_by_entry(between: str) -> None:
    x, y = sample("conv", 0)
    check = certify(Network(conv(HARD, BETWEEN[between]())), EProp(), x, y, CE)
    rows = {row.site: row for row in check.rows}
    assert check.ok and rows["0.weight"].exact and rows["0.bias"].exact, check.table()


def test_neurons_on_several_tokens() -> None:
    module = nn.Sequential(nn.Linear(2, 6), HARD(), nn.Flatten(1), nn.Linear(24, CLASSES)).double()
    module.load_state_dict(draw({"0": (6, 2), "3": (CLASSES, 24)}, 3))
    x, y = sample("mlp", 0)
    check = certify(Network(module), EProp(), x.unflatten(2, (4, 2)), y, CE)
    assert check.ok and all(row.exact for row in check.rows), check.table()


def test_one_layer_may_feed_several_kinds() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.third = LIF(3.0), HARD(), LIF(1.5)
            self.shared, self.out = nn.Linear(8, 12), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            current = self.shared(x)
            return self.out(self.one(current) + self.other(current) + self.third(0.5 * current))

    torch.manual_seed(1)
    check = certify(Network(Fork().double()), EProp(), *sample("mlp", 0), CE)
    assert check.ok and all(row.exact for row in check.rows), check.table()


def test_a_static_input_and_a_frozen_weight() -> None:
    x, y = sample("mlp", 0)
    module, whole = Layer(Adaptive()), Layer(Adaptive())
    static = x[:1].expand(6, *x.shape[1:])
    assert_agree(gradients(EProp(), whole, static, y), gradients(EProp(), module, static.contiguous(), y))
    expected = gradients(EProp(), whole, x, y)
    module.get_parameter("in.weight").requires_grad_(False)
    found = gradients(EProp(), module, x, y)
    assert not found["in.weight"].any() and torch.equal(found["in.bias"], expected["in.bias"])


@pytest.mark.long
def test_memory_is_constant_in_time_and_grows_with_the_weights() -> None:
    x, _ = sample("mlp", 0)
    saved = {}
    for name, neuron in {"trace": LIF(), "eligibility": LIF(reset="zero"), "adaptive": Adaptive()}.items():
        rows = plan(Network(Layer(neuron)), EProp(), tuple(x.shape), measure=(4, 64), report=()).rows
        few, many = (row.saved_bytes for row in rows if row.measured)
        assert few == many
        saved[name] = few
    per_sample = NEURONS * INPUTS + NEURONS
    assert saved["eligibility"] - saved["trace"] > 0.9 * 8 * x.shape[1] * per_sample


def test_its_state_is_of_no_matter_to_a_plain_run_but_needed_to_go_on() -> None:
    (x, y), module = sample("mlp", 0), Layer(LIF(reset="zero"))
    net = Network(module)
    (first,) = EProp().updates(net, x[:3], y, CE)
    assert set(first.state["in"]) == {"eligibility_steps", "membrane of neuron", "membrane of neuron, by the bias"}
    assert float(first.state["in"]["eligibility_steps"]) == 3
    expected, _ = net.run(x)
    output, after = net.run(x[3:], first.state)
    torch.testing.assert_close(output, expected[3:])
    with pytest.raises(NetworkError, match=r"none for 'in', .* rules without traces leave none"):
        list(EProp().updates(net, x[3:], y, CE, net.run(x[:3])[1]))
    assert set(after) == {"neuron"}


def test_arguments() -> None:
    with pytest.raises(ConfigError, match=r"EProp\(feedback='exakt'\)"):
        EProp("exakt")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"online"):
        EProp(online=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"scale"):
        EProp("random", scale=0.0)
    assert repr(EProp("random", seed=4)) == "EProp(feedback='random', online=False, scale=1.0, seed=4, chunk=1)"
    assert EProp(online=True, chunk=4).chunk == 1


def test_online_learning_moves_the_weights_in_between() -> None:
    (x, y), module = sample("mlp", 0), Layer(Adaptive())
    updates = 0
    for _ in EProp(online=True).updates(Network(module), x, y, CE):
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
        module.zero_grad()
        updates += 1
    assert updates == len(x) and all(p.isfinite().all() for p in module.parameters())


def test_cross_entropy_of_the_program_is_that_of_the_rule() -> None:
    module, (x, y) = Layer(cell(**CELLS["alif"][0])), sample("mlp", 0)
    (update,) = learn(EProp(), module, x, y)
    expected = sum(F.cross_entropy(output, y) for output in Network(module).run(x)[0]) / len(x)
    torch.testing.assert_close(update.loss, expected)
