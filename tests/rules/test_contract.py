"""The contract of rules: how little there is to write, and what is declared."""

import inspect
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.rules import BPTT, EWC, GPM, HLOP, OTTT, SLTT, Batch, Cost, LwF, Naive, Replay, Rule, Traits, Update
from tests.nets import NETS, sample
from tests.rules.support import CE, collected, gradients, learn
from tests.subspaces.wrapping import net as small

OWN = Traits(loss="any", credit_through_time=True, gradients="own", memory="linear")


class Own(Rule):
    """BPTT that finds its gradients by itself, past the layers of the run."""

    traits = OWN

    def __init__(self, chunk: int | None = None) -> None:
        super().__init__(chunk)

    def learn(self, batch: Batch) -> Iterator[Update]:
        run = batch.start()
        output = run.advance(batch.x)
        value = batch.loss(output, batch.y, len(batch.x))
        parameters = [p for p in batch.net.module.parameters() if p.requires_grad]
        for p, grad in zip(parameters, torch.autograd.grad(value, parameters)):
            p.grad = grad if p.grad is None else p.grad + grad
        run.detach()
        yield Update(value.detach(), output.detach(), run.state, run)


def test_a_rule_has_at_most_ten_names_and_writes_one() -> None:
    bases = Rule.__mro__[: Rule.__mro__.index(nn.Module)]
    names = {n for base in bases for n in (*vars(base), *inspect.get_annotations(base))}
    names = {n for n in names if not (n.startswith("__") and n.endswith("__")) and not n.startswith("_abc_")}
    assert len(names) <= 10, names
    assert Rule.__abstractmethods__ == {"learn"}
    classes = [c for c in vars(sw.rules).values() if isinstance(c, type) and issubclass(c, Rule)]
    assert [c.__name__ for c in classes if "updates" in vars(c)] == ["Rule"]


def test_nothing_is_assumed_of_a_rule() -> None:
    class Silent(Rule):
        def learn(self, batch: Batch) -> Iterator[Update]:
            return iter(())

    with pytest.raises(ConfigError, match="Silent declares no traits"):
        Silent(None)
    net, (x, y) = sw.Network(NETS["mlp"](0)), sample("mlp", 0)
    assert not any(row.exact for row in sw.certify(net, Own(), x, y, CE).rows)
    found = sw.energy(net, Own(), x, y, CE)
    assert found.backward is None and found.ratio is None and found.feedback_parameters is None
    assert "not stated" in found.table() and "carry errors back" not in found.table()


def in_second_task(rule: Rule, module: nn.Module, x: Tensor, y: Tensor) -> None:
    net = sw.Network(module)
    learn(rule, module, x, y)
    rule.next_task(net, x, y, CE)  # type: ignore[operator]
    rule.freeze(net)  # type: ignore[operator]


def leaked(rule: GPM | HLOP, module: nn.Module) -> float:
    """The largest share of a weight's gradient along the rows of the first task."""
    shares = []
    for name, subspace in rule.subspaces.by_name().items():
        grad = module.get_submodule(name).weight.grad.flatten(1)  # type: ignore[union-attr]
        shares.append(float((grad @ subspace.old.T).norm() / grad.norm()))
    return max(shares)


def test_finished_gradients_of_a_rule_with_its_own_are_projected() -> None:
    module, (x, y) = small("mlp"), sample("mlp", 0)
    rule = GPM(Own(), threshold=0.9)
    in_second_task(rule, module, x, y)
    module.zero_grad()
    learn(rule, module, x.flip(1), y)
    assert leaked(rule, module) < 1e-9
    assert any(grad.any() for grad in collected(module).values())


def test_what_cannot_be_protected_under_a_rule_with_its_own_is_refused() -> None:
    with pytest.raises(IncompatibleRule, match=r"HLOP learns its lateral weights .* finds its gradients by itself"):
        HLOP(Own())
    with pytest.raises(IncompatibleRule, match=r"GPM\(project='inputs'\) .* finds its gradients by itself"):
        GPM(Own(), project="inputs")


def test_traits_are_those_of_the_rule_inside() -> None:
    for around in (EWC, Naive):
        assert around(OTTT(online=True)).traits == OTTT(online=True).traits
    for around in (EWC, LwF, Naive, Replay):
        assert around(BPTT(checkpoint=True)).traits.memory == "root"
    assert HLOP(SLTT(k=3)).traits.least_steps == 3


@pytest.mark.parametrize("around", [EWC, LwF, Replay])
def test_no_claim_in_a_second_task_that_learns_more_than_the_batch(around: type[Rule]) -> None:
    module, (x, y) = small("mlp"), sample("mlp", 0)
    rule = around(BPTT())  # type: ignore[call-arg]
    in_second_task(rule, module, x, y)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(1.01)
    found = sw.certify(sw.Network(module), rule, x, y, CE)
    assert found.ok and not any(row.exact for row in found.rows)


def test_costs_count_what_is_done() -> None:
    net, (x, y) = sw.Network(NETS["mlp"](0)), sample("mlp", 0)
    whole, two = (sw.energy(net, rule, x, y, CE).backward for rule in (SLTT(), SLTT(k=2)))
    assert whole is not None and two is not None and two.multiplications * len(x) == 2 * whole.multiplications
    traced = sw.energy(net, OTTT(), x, y, CE).backward
    # A trace per input of the two layers that feed neurons, 8 and 12, and one for each of their biases, at each step.
    assert traced is not None and traced.multiplications - whole.multiplications == len(x) * (8 + 1 + 12 + 1)


@pytest.mark.long
def test_rules_around_rules_state_what_they_add() -> None:
    x, y = sample("mlp", 0)
    for around, least in ((EWC, 1.0), (LwF, 2.0), (Replay, 2.0)):
        module = small("mlp")
        inner = sw.energy(sw.Network(module), BPTT(), x, y, CE).backward
        rule = around(BPTT())
        assert sw.energy(sw.Network(module), rule, x, y, CE).backward == inner
        in_second_task(rule, module, x, y)
        more = sw.energy(sw.Network(module), rule, x, y, CE).backward
        assert inner is not None and more is not None and more.multiplications > least * inner.multiplications


class Functional(nn.Module):
    """A layer whose operation belongs to no module that a rule knows."""

    def __init__(self, of: int, to: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(to, of))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.kernel)


def test_parameters_that_a_rule_does_not_see_are_named_once() -> None:
    module = nn.Sequential(nn.Linear(8, 12), sw.LIF(), Functional(12, 12), sw.LIF(), nn.Linear(12, 4)).double()
    x, y = sample("mlp", 0)
    net = sw.Network(module)
    with pytest.warns(UserWarning, match=r"OTTT does not see '2\.kernel'"):
        list(OTTT().updates(net, x, y, CE))
    list(OTTT().updates(net, x, y, CE))  # not again
    list(OTTT().updates(sw.Network(module, known=["2.kernel"]), x, y, CE))
    gradients(BPTT(), module, x, y)  # sees everything
    rows = sw.certify(net, OTTT(), x, y, CE).rows
    assert [row.is_layer for row in rows if row.site == "2.kernel"] == [False]


def test_a_stated_cost_adds_up() -> None:
    one = Cost(sw.rules._cost.Operations(1.0, 2.0), 5)
    assert one + one == Cost(sw.rules._cost.Operations(2.0, 4.0), 5)


def test_what_was_not_wrapped_is_said() -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    with pytest.raises(ConfigError, match=r"OTTT was given Sequential as its network.*spikewright.Network\(module\)"):
        list(OTTT().updates(module, x, y, CE))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"OTTT was given CrossEntropyLoss as its loss.*PerStep\(nn.CrossEntropyLoss\(\)\)"
    ):
        list(OTTT().updates(sw.Network(module), x, y, nn.CrossEntropyLoss()))  # type: ignore[arg-type]
