"""What HLOP leaves as it finds it: gradients that are there already, and its rows while nothing is learned."""

from copy import deepcopy

import pytest
import torch

import spikewright as sw
from spikewright.errors import InputError
from spikewright.network import Network
from spikewright.rules import BPTT, DSR, HLOP, OTTT, SLTT, Batch, Rule
from spikewright.rules._weight_hooks import WeightHooks
from spikewright.rules.continual.subspaces.input_recorder import InputRecorder
from tests.nets import sample
from tests.oracles.machine import Params
from tests.rules.support import CE, assert_identical, collected
from tests.subspaces.support import drawn
from tests.subspaces.wrapping import WRAPPED, assert_near, kept_out, net, new_rows, old_rows, run, settled

forms = pytest.mark.parametrize("form", ["inputs", "gradient"])


def kept(rule: HLOP) -> Params:
    return {name: buffer.clone() for name, buffer in rule.state_dict().items()}


@forms
@pytest.mark.parametrize("rule", ["BPTT", "OTTT", "OTTT, online", "OPZO", "DSR"])
def test_gradients_that_are_there_stay_and_are_not_projected(rule: str, form: str) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = settled(module, x, y, WRAPPED[rule](), project=form)
    twin, other = deepcopy(around), deepcopy(module)
    run(twin, other, x, y)
    before = {n: drawn(*p.shape, seed=i) for i, (n, p) in enumerate(module.named_parameters()) if p.requires_grad}
    for name, grad in before.items():
        module.get_parameter(name).grad = grad.clone()
    run(around, module, x, y)
    found, added = collected(module), collected(other)
    assert_near({n: found[n] for n in before}, {n: before[n] + added[n] for n in before}, 1e-14)
    assert_identical(kept(around), kept(twin))


@forms
def test_an_online_rule_adds_up_what_nobody_takes(form: str) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = settled(module, x, y, OTTT(online=True), project=form)
    twin, other, each = deepcopy(around), deepcopy(module), []
    for _ in twin.updates(Network(other), x, y, CE):
        each.append(collected(other))
        other.zero_grad()
    run(around, module, x, y)
    names, found = old_rows(around), collected(module)
    assert len(each) == len(x)
    total = {n: torch.stack([grads[n] for grads in each]).sum(0) for n in names}
    assert_near({n: found[n] for n in names}, total, 1e-14)


@forms
def test_a_caller_who_leaves_early_keeps_what_was_ready(form: str) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = settled(module, x, y, OTTT(online=True), project=form)
    plain, names = net("mlp"), old_rows(around)
    for rule, learner in ((OTTT(online=True), plain), (around, module)):
        updates = rule.updates(Network(learner), x, y, CE)
        for _ in range(3):  # the first layers have to fire
            next(updates)
        del updates
    whole, found = collected(plain), collected(module)
    assert all(whole[n].any() for n in names)
    assert_near({n: found[n] for n in names}, {n: kept_out(whole[n], rows) for n, rows in names.items()})


def test_gradients_are_there_again_after_an_error() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = settled(module, x, y, OTTT())
    module[0].weight.grad = before = drawn(12, 8)  # type: ignore[index]
    with pytest.raises(InputError):
        run(around, module, x * float("nan"), y)
    assert module.get_parameter("0.weight").grad is before and module.get_parameter("2.weight").grad is None


@pytest.mark.parametrize("task", [1, 2])
def test_evaluation_and_certificates_teach_nothing(task: int) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = HLOP(OTTT(), rows=0.3, rate=0.3)
    run(around, module, x, y)
    if task == 2:
        around = settled(module, x, y, OTTT(), rate=0.3)
    rows, grads = kept(around), collected(module)
    Network(module)(x)
    with torch.no_grad():
        Network(module)(x)
    sw.certify(Network(module), around, x, y, CE)
    around.check(Network(module).wiring(x), Network(module).sites)
    assert_identical(kept(around), rows)
    assert_identical(collected(module), grads)


def test_a_certificate_promises_nothing_where_gradients_are_projected() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    first = sw.certify(Network(module), HLOP(BPTT(), rows=3), x, y, CE)
    assert first.ok and all(row.exact for row in first.rows)
    around = settled(module, x, y, BPTT())
    later = sw.certify(Network(module), around, x, y, CE)
    assert later.ok and later.rows and not any(row.exact for row in later.rows)
    assert all(row.relative_error > 1e-3 for row in later.rows)


@pytest.mark.parametrize("observe", ["mean", "steps"])
@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_chunks_that_run_twice_teach_once(chunk: int | None, observe: str) -> None:
    found = []
    for checkpoint in (False, True):
        module, (x, y) = net("conv"), sample("conv", 0)
        around = HLOP(BPTT(chunk=chunk, checkpoint=checkpoint), rows=0.3, rate=0.3, observe=observe)  # type: ignore[arg-type]
        run(around, module, x, y)
        run(around, module, x, y)
        found.append(new_rows(around))
    assert_near(found[0], found[1])


@pytest.mark.parametrize("rule", [BPTT(), OTTT(), DSR()], ids=repr)
def test_a_watch_sees_nothing_without_gradients(rule: Rule) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = settled(module, x, y, OTTT())
    weights = {n: module.get_submodule(n).weight for n in around.subspaces.by_name()}
    owners = {name: name for name in weights}
    watch = InputRecorder(around.subspaces.by_name(), weights, owners, "mean", "inputs", 6, whole=False)  # type: ignore[arg-type]
    batch = Batch(Network(module), x, y, CE, around=watch)
    own = WeightHooks(rule.on_weight, batch.wiring) if isinstance(rule, OTTT) else None
    with torch.no_grad():
        output = batch.start(own).advance(x)
    assert torch.equal(output, Network(module)(x)) and watch.arrived() == {} and not watch.projected_inputs
    batch.start(own).advance(x)
    assert watch.arrived().keys() == weights.keys() == watch.projected_inputs
    assert watch.arrived() == {}  # they are given out once


@pytest.mark.parametrize("k", [1, 2])
def test_steps_without_a_graph_teach_nothing(k: int) -> None:
    found = []
    for other in (0.0, 1.0):
        module, (x, y) = net("mlp"), sample("mlp", 0)
        rule = SLTT(k=k)
        drawn_steps = [t for s in deepcopy(rule).chunks(len(x), 1) if s.learn for t in range(s.start, s.stop)]
        assert len(drawn_steps) == k
        x[max(drawn_steps) + 1 :] += other  # what comes after the last of them
        around = HLOP(rule, rows=0.3, rate=0.3)
        run(around, module, x, y)
        found.append(new_rows(around))
    assert_identical(found[0], found[1])


def test_the_network_is_not_changed() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = settled(module, x, y, OTTT())
    names = {name: [*vars(m), *m.state_dict()] for name, m in module.named_modules()}
    run(around, module, x, y)
    assert {name: [*vars(m), *m.state_dict()] for name, m in module.named_modules()} == names
    assert not any(parameter.requires_grad for parameter in around.parameters())


def test_nothing_is_held_still_in_the_first_task() -> None:
    module, (x, _) = net("mlp"), sample("mlp", 0)
    around = HLOP(OTTT(), rows=3)
    around.prepare(Network(module), x)
    around.freeze(Network(module))
    assert all(parameter.requires_grad for parameter in module.parameters())
