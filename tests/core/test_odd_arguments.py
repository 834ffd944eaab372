"""Arguments of a wrong class are refused at the call, by an error of the library."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright import continual, data, graph, rules
from spikewright.errors import ConfigError, ShapeError, SpikewrightError
from tests.core.test_every_range import call, kinships

ODD: list[Any] = [3, "word", [10**5000], torch.rand(2, 3, device="meta"), nn.Linear, object()]
PLACES = [
    ("LIF", "surrogate"), ("LIF", "tau"), ("continual.TwoPhaseProtocol", "space"), ("continual.permuted", "dataset"),
    ("continual.TwoPhaseProtocol", "seeds"), ("continual.TwoPhaseProtocol", "configuration"),
    ("continual.sequence", "dataset"), ("continual.sequence", "others"), ("continual.split", "dataset"),
    ("continual.AccuracyMatrix", "baseline"), ("fit", "net"), ("fit", "rule"), ("fit", "loss"), ("fit", "optimizer"),
    ("fit", "loader"), ("fit", "validation"), ("fit", "metrics"), ("fit", "schedule_every"),
    ("graph.GraphData", "relations"), ("graph.GraphData", "train"), ("graph.KnownAnswers", "triples"),
    ("graph.energy_of", "data"), ("graph.evaluate", "model"), ("graph.evaluate", "split"), ("graph.explain", "data"),
    ("graph.explain", "fact"), ("graph.explain", "surrogate"), ("layers.operator_norm", "size"),
    ("layers.power_iteration", "layer"), ("layers.restrict_spectral", "size"), ("losses.PerStep", "criterion"),
    ("models.FeedbackNet", "layers"), ("models.MLP", "neuron"), ("models.VGG", "layers"), ("plan", "measure"),
    ("plan", "report"), ("rules.EWC", "free"), ("rules.HLOP", "free"), ("train.MuonAdamW", "params"),
    ("train.configure", "recipe"), ("train.configure", "overrides"), ("train.cosine", "optimizer"),
]  # fmt: skip
TAKEN: dict[str, set[int]] = {"LIF tau": {0}, "models.MLP neuron": {4}}
"""Places of values in `ODD` that an argument takes after all."""


@pytest.mark.parametrize("name, argument", PLACES, ids=[f"{name}-{argument}" for name, argument in PLACES])
def test_odd_values_are_refused(name: str, argument: str) -> None:
    for place, value in enumerate(ODD):
        if place not in TAKEN.get(f"{name} {argument}", set()):
            with pytest.raises(SpikewrightError):
                call(name, **{argument: value})


TRIPLES = torch.tensor([[0, 0, 1], [1, 0, 2]])
CALLS: list[Callable[[Any], Any]] = [
    sw.detach,
    lambda odd: sw.surrogate.Sigmoid()(odd),
    lambda odd: sw.Network(nn.Sequential(sw.IF())).run(torch.rand(2, 1, 3), observers=odd),
    lambda odd: graph.auroc(odd, torch.tensor([0, 1])),
    lambda odd: graph.average_precision(torch.rand(2), odd),
    lambda odd: graph.rank_metrics(odd),
    lambda odd: graph.graph_of(kinships(), odd),
    lambda odd: graph.GraphSplit(odd, TRIPLES, TRIPLES, ("a", "b", "c")),
    lambda odd: graph.RankingEvaluator().add(odd, torch.tensor([0]), torch.zeros(1, 3, dtype=torch.bool)),
    lambda odd: graph.RelationalGraph.of(odd, 3, 1),
    lambda odd: graph.RelationalGraph.of(TRIPLES, 3, 1).without(odd),
    lambda odd: continual.AccuracyMatrix().add(odd),
    lambda odd: continual.Trajectory().begin(-1 if odd == 3 else odd),
    lambda odd: continual.split(data.load("synthetic", classes=4, size=12), tasks=2).task(odd),
    lambda odd: data.Poisson()(odd, 2, torch.Generator()),
]


@pytest.mark.parametrize("odd", [3, "word", {"a": 1}, None, object()], ids=type)
def test_methods_and_functions_refuse_them_too(odd: Any) -> None:
    for number, function in enumerate(CALLS):
        with pytest.raises(SpikewrightError):
            raise AssertionError(f"call {number} took {function(odd)}")


def test_what_is_kept_of_a_task_has_no_graph() -> None:
    """Though the input asks for a gradient, as that of an attack does: replayed, the graph would be gone."""
    rule = rules.Replay(rules.OTTT())
    net, loss = sw.Network(nn.Sequential(nn.Linear(4, 3), sw.LIF())), sw.losses.PerStep(nn.CrossEntropyLoss())
    x, y = torch.rand(3, 3, 4, requires_grad=True), torch.arange(3)
    for _ in range(2):
        list(rule.updates(net, x, y, loss))
        rule.next_task(net, x, y, loss)
    assert not rule.memory["x"].requires_grad


def test_stored_sequences_are_as_long_as_others() -> None:
    rule, net = rules.Replay(rules.BPTT()), sw.Network(nn.Sequential(nn.Linear(4, 3), sw.LIF()))
    loss, y = sw.losses.PerStep(nn.CrossEntropyLoss()), torch.arange(3)
    list(rule.updates(net, torch.rand(3, 3, 4), y, loss))
    rule.next_task(net, torch.rand(3, 3, 4), y, loss)
    with pytest.raises(ShapeError, match="Replay holds sequences of 3 steps, and was given some of 2"):
        list(rule.updates(net, torch.rand(2, 3, 4), y, loss))
    with pytest.raises(ShapeError, match="Replay holds sequences of 3 steps, and was given some of 2"):
        rule.next_task(net, torch.rand(2, 3, 4), y, loss)
    with pytest.raises(ShapeError, match="one number for x"):
        rule.next_task(net, torch.rand(3, 3, 4), torch.tensor(1), loss)
    with pytest.raises(ShapeError, match="at least one step"):
        net.run(torch.tensor(1.0), lengths=torch.tensor([1]))


def test_modules_without_values_can_be_made_and_shown() -> None:
    with torch.device("meta"):
        made = [sw.LIF(2.0), sw.LIF([2.0, 3.0]), sw.LIF(2.0, learn_tau=True), sw.neurons.DSRLIF(), sw.AlphaLIF()]
    assert "tau=<2 values>" in repr(made[1]) and all(map(repr, made))
    with pytest.raises(ConfigError, match="no values"):
        sw.layers.restrict_spectral(nn.Linear(2, 2, device="meta"))


def test_a_state_is_a_dictionary() -> None:
    with pytest.raises(ShapeError, match=r"detach was given a value of type list, which is no state"):
        sw.detach([1])  # type: ignore[arg-type]
