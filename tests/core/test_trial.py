"""What is tried on a network leaves no mark: neither on it, nor on the rule, nor on what is drawn afterwards."""

import random
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm as spectral_norm_by_hook
from torch.nn.utils.parametrizations import spectral_norm

from spikewright._util.trial import restored, untouched
from spikewright.errors import IncompatibleRule
from spikewright.losses import OnRate
from spikewright.network import Network
from spikewright.neurons import DSRIF, LIF
from spikewright.reports.energy_estimate import energy
from spikewright.reports.gradient_check import certify
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, DSR, EWC, IDE, OTTT, SLTT, Rule
from spikewright.spatial import DFA, OPZO, Local
from tests.catalogue import RULES, Entry
from tests.core.support import CE, lively
from tests.nets import NETS, sample
from tests.rules.support import NOISY, names, unless_refused

pytestmark = pytest.mark.filterwarnings("ignore:.*draws random numbers")

MSE = OnRate(nn.CrossEntropyLoss())


def marks(value: Any, known: dict[int, Any] | None = None) -> Any:
    """All that can be seen of an object, to be compared: objects that are the same, in an order, and bits of tensors.

    What it has looked at stays alive with the result.
    """
    known = {} if known is None else known
    if id(value) in known:
        return id(value)
    known[id(value)] = value
    if isinstance(value, Tensor):
        grad = marks(value.grad, known) if value.is_leaf else None
        bits = value.detach().numpy().tobytes()
        return id(value), value.data_ptr(), value._version, bits, value.requires_grad, value.is_leaf, grad
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return id(value), [(key, marks(v, known)) for key, v in value.items()]
    if isinstance(value, list | tuple | deque):
        return id(value), [marks(v, known) for v in value]
    if isinstance(value, set):
        return id(value), sorted(map(str, value))
    if isinstance(value, str | int | float | bool | type | None):
        return value
    fields = {
        key: v for key, v in getattr(value, "__dict__", {}).items() if key != "_probed"
    }  # remembered, and no mark
    return id(value), type(value), [(key, marks(v, known)) for key, v in fields.items()]


def drawn() -> list[Any]:
    """Where all global generators stand."""
    numpy: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2:]]


def loss_of(rule: Rule) -> Any:
    return MSE if rule.traits.loss == "rate" else CE


def two_grads(net: nn.Module) -> None:
    for p in list(net.parameters())[:2]:
        p.grad = torch.full_like(p, 0.5)


@pytest.mark.parametrize("entry", RULES, ids=names())
@pytest.mark.parametrize("name", NOISY)
def test_a_gradient_check_of_any_rule_changes_nothing(entry: Entry, name: str) -> None:
    unless_refused(entry, name)
    net, rule, (x, y) = Network(NETS[name](0) if entry.rates else NOISY[name]()), entry.make(), sample(name, 0)
    two_grads(net)
    kept: tuple[dict[int, Any], dict[int, Any]] = {}, {}
    before = marks(net, kept[0]), marks(rule, kept[1]), drawn(), x.clone()
    certify(net, rule, x, y, entry.loss)
    assert (marks(net), marks(rule), drawn()) == before[:3]
    assert torch.equal(x, before[3])


class Busy(nn.Module):
    """Changes whatever a module can hold, and draws from all that can be drawn from, or from all of torch's."""

    @dataclass
    class Counts:
        calls: int = 0
        seen: list[int] = field(default_factory=list)

    def __init__(self, past_torch: bool) -> None:
        super().__init__()
        self.past_torch = past_torch
        self.register_buffer("in_place", torch.zeros(3))
        self.register_buffer("reassigned", torch.zeros(3))
        self.register_buffer("hidden", torch.zeros(()), persistent=False)
        self.register_buffer("through", torch.zeros(12, dtype=torch.float64))
        self.register_buffer("row", torch.zeros(1).expand(4))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.calls, self.last, self.seen = 0, None, []
        self.by_name: dict[str, Any] = {"inner": {"calls": 0}, "tensor": torch.zeros(2)}
        self.queue, self.kinds = deque([1], maxlen=2), {"a"}
        self.counts, self.loose = Busy.Counts(), SimpleNamespace(calls=0)
        self.outside = (nn.BatchNorm1d(12).double(),)  # not registered, as modules that are shared often are
        self.generators = torch.Generator(), np.random.default_rng(0), random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        self.in_place += 1
        self.reassigned = self.reassigned + 1
        self.hidden.data.add_(1)
        self.through.add_(x.detach().mean(0)).mul_(self.scale)  # which gives a buffer a graph
        self.through.detach_()
        self.row.data[:1] += 1
        self.frozen.data = self.frozen.data * 0.5
        self.calls, self.last = self.calls + 1, x
        self.seen.append(x)
        self.by_name["inner"]["calls"] += 1
        self.by_name["tensor"].sub_(1)
        self.by_name["new"] = x
        self.queue.append(self.calls)
        self.kinds.add(str(self.calls))
        self.counts.calls += 1
        self.counts.seen.append(self.calls)
        self.loose.calls += 1
        self.register_buffer(f"late{self.calls}", torch.zeros(1))
        self.outside[0](x)
        one, two, three = self.generators
        torch.rand(1, generator=one), two.random(), three.random()
        torch.rand(1)
        if self.past_torch:
            np.random.rand(), random.random()
        return x * self.scale


def busy(past_torch: bool = True) -> nn.Module:
    module = lively(nn.Sequential(nn.Linear(8, 12), LIF(), nn.Linear(12, 4)))
    module.insert(1, Busy(past_torch))  # type: ignore[operator]
    return module


def by_spectral_norms() -> nn.Module:
    torch.manual_seed(0)
    first = [spectral_norm(nn.Linear(8, 12)), LIF(), spectral_norm_by_hook(nn.Linear(12, 10)), nn.BatchNorm1d(10)]
    return nn.Sequential(*first, LIF(), nn.Dropout(), nn.Linear(10, 4)).double()


def below_its_floor(frozen: bool = False) -> nn.Module:
    module = lively(nn.Sequential(nn.Linear(8, 12), DSRIF(0.5, floor=0.1), nn.Linear(12, 4)))
    module[1].threshold.data.fill_(-0.3)
    module[1].threshold.requires_grad_(not frozen)
    return module


def half_frozen() -> nn.Module:
    module = by_spectral_norms()
    module[3].eval()
    module[6].requires_grad_(False)
    return module


MODULES = {
    "busy": busy,
    "busy within torch": lambda: busy(past_torch=False),
    "spectral norms": by_spectral_norms,
    "below its floor": below_its_floor,
    "frozen below its floor": lambda: below_its_floor(frozen=True),
    "half frozen": half_frozen,
}
ATTEMPTS: dict[str, Callable[[Network, Rule, Tensor, Tensor], object]] = {
    "certify": lambda net, rule, x, y: certify(net, rule, x, y, loss_of(rule)),
    "plan": lambda net, rule, x, y: plan(net, rule, x.shape, measure=(2, 3), report=()),
    "energy": lambda net, rule, x, y: energy(net, rule, x, y, loss_of(rule)),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("rule", [BPTT(), OTTT(), DSR(), SLTT(spatial=DFA(), local=Local())], ids=repr)
@pytest.mark.parametrize("name", MODULES)
def test_nothing_that_a_network_holds_changes(name: str, rule: Rule, attempt: str) -> None:
    net, (x, y) = Network(MODULES[name]()), sample("mlp", 0)
    two_grads(net)
    x.requires_grad_()
    net.wiring(x)
    if isinstance(rule, SLTT):
        rule.prepare(net, x)
    kept: dict[int, Any] = {}
    before = marks([net, rule], kept), drawn(), x.grad
    first, *_ = before[0][1]
    unknown = name == "busy" and isinstance(rule, DSR)
    with pytest.raises(IncompatibleRule, match="a draw past torch") if unknown else nullcontext():
        ATTEMPTS[attempt](net, rule, x, y)
    (_, after) = marks([net, rule], {})
    assert (after, drawn(), x.grad) == (before[0][1], *before[1:])
    assert first


def test_a_threshold_stays_below_its_floor_until_it_is_trained() -> None:
    net, (x, y) = Network(below_its_floor()), sample("mlp", 0)
    certify(net, DSR(), x, y, MSE)
    assert net.module[1].threshold.item() == pytest.approx(-0.3)  # type: ignore[index, union-attr]
    list(DSR().updates(net, x, y, MSE))
    assert net.module[1].threshold.item() == pytest.approx(0.1)  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    "rule",
    [SLTT(local=Local()), OTTT(local=Local()), SLTT(local=Local(), spatial=DFA())],
    ids=["SLTT", "OTTT", "DFA"],
)
@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), nn.Dropout1d(0.5)], ids=repr)
def test_both_sides_draw_the_same_numbers(rule: Rule, dropout: nn.Module) -> None:
    """Readouts that the rule begins with are drawn too, and must not move the masks that are drawn after them."""
    module = lively(nn.Sequential(nn.Linear(8, 12), LIF(), dropout, nn.Linear(12, 4)))
    found = certify(Network(module), rule, *sample("mlp", 0), CE)
    errors = {row.site: row.relative_error for row in found.rows if row.site.startswith("3.")}
    assert found.ok and len(errors) == 2, found.table()
    assert max(errors.values()) < 1e-12
    assert any(row.relative_error > 1e-3 for row in found.rows)


def test_a_module_that_draws_from_numpy_draws_the_same_on_both_sides() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.from_numpy(np.random.rand(*x.shape)) * random.random()

    module = lively(nn.Sequential(nn.Linear(8, 12), LIF(), Noisy(), nn.Linear(12, 4)))
    found = certify(Network(module), SLTT(chunk=None), *sample("mlp", 0), CE)
    assert found.ok, found.table()


def test_the_reference_draws_the_same_too() -> None:
    rule = SLTT(spatial=OPZO(), local=Local())
    found = certify(Network(NOISY["mlp"]()), rule, *sample("mlp", 0), CE, reference=rule)
    assert all(row.relative_error == 0 for row in found.rows)


@pytest.mark.parametrize("inner", [SLTT(local=Local()), IDE()], ids=["SLTT", "IDE"])
def test_the_end_of_a_task_changes_nothing_but_the_springs(inner: Rule) -> None:
    net, rule, (x, y) = Network(below_its_floor()), EWC(inner), sample("mlp", 0)
    kept: dict[int, Any] = {}
    before, random_before = marks(net, kept), drawn()
    rule.next_task(net, x, y, loss_of(inner))
    assert (marks(net), drawn()) == (before, random_before) or isinstance(inner, SLTT)
    assert marks(net) == before
    assert len(rule.stiffness)


def test_a_graph_from_before_can_still_be_differentiated() -> None:
    """Norms keep their statistics, which a trial moves and puts back, for the backward pass."""
    module = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), LIF(), nn.Linear(12, 4))
    net, (x, y) = Network(module.eval()), sample("mlp", 0)
    output, _ = net.run(x)
    with untouched(net):
        net.train()
        for p in net.parameters():
            p.data.mul_(2)
        with torch.no_grad():
            module[0].weight.mul_(3)
        net.run(x)
    certify(net.train(), BPTT(), x, y, CE)
    output.sum().backward()


def test_what_a_trial_replaces_comes_back() -> None:
    module = nn.Linear(3, 2)
    weight, bias, version = module.weight, module.bias.detach().clone(), module.bias._version
    with pytest.raises(ZeroDivisionError), untouched(module):
        module.half()
        module.weight = nn.Parameter(torch.zeros(1))
        module.extra = nn.Linear(2, 2)
        del module.bias
        raise ZeroDivisionError
    assert module.weight is weight and weight.dtype == torch.float64
    assert torch.equal(module.bias, bias) and module.bias._version == version
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias"]
    assert not hasattr(module, "extra")


def test_zeros_and_nans_keep_their_bits() -> None:
    module = nn.Module()
    module.register_buffer("values", torch.tensor([-0.0, float("nan"), 1.0]))
    before = module.get_buffer("values").numpy().tobytes()
    for trial in (untouched, restored):
        with trial(module):
            module.get_buffer("values").zero_()
        assert module.get_buffer("values").numpy().tobytes() == before


def test_a_lazy_layer_that_a_trial_fills_in_stays_filled_in() -> None:
    module = nn.Sequential(nn.LazyLinear(3))
    with restored(module):
        module(torch.zeros(2, 5))
    assert module(torch.zeros(2, 5)).shape == (2, 3) and type(module[0]) is nn.Linear
