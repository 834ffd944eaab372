"""More subjects of random calls: runs that go on, tasks, graphs, measures, and public names with one odd argument."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright import continual, data, graph, rules
from spikewright.train import components as c
from tests.core import test_every_range as ranges
from tests.fuzz.pieces import (
    CLASSES,
    FEATURES,
    SAMPLES,
    STEPS,
    Draw,
    built,
    check_update,
    inputs,
    module,
    plain,
    promise,
    targets,
)

ODD: list[Callable[[], Any]] = [
    lambda: None, lambda: "word", lambda: "", lambda: [1], lambda: {"a": 1}, lambda: 0.5, lambda: 3, lambda: -1,
    lambda: (1, 2), lambda: torch.rand(3, 4), lambda: torch.rand(2, 3, device="meta"), lambda: torch.arange(3),
    lambda: nn.Linear(2, 2), lambda: nn.Linear, lambda: lambda *_: None, object, lambda: float("nan"),
    lambda: [10**5000], lambda: {1}, lambda: torch.tensor(1.0), lambda: torch.zeros(0), lambda: sw.LIF(),
]  # fmt: skip
"""Values that few arguments take."""
CALLED = [n for n in ranges.ITEMS if n in {**ranges.BASE, "fit": 0} and not n.startswith(("testing.", "plots."))]


def some(draw: Draw, odd: float, *good: Any) -> list[Any]:
    """Arguments, of which one may be odd."""
    given = list(good)
    if draw.random() < odd:
        given[draw.randrange(len(given))] = draw.choice(ODD)()
    return given


def resume(draw: Draw, odd: float, folder: Path) -> None:
    """Runs with lengths, with the batch in front, in pieces and with observers; updates from a state."""
    net, x = sw.Network(module(draw, odd * 0.3)), torch.rand(STEPS, SAMPLES, FEATURES)
    lengths: Any = draw.choice([None, torch.randint(1, STEPS + 1, (SAMPLES,))])
    first: Any = draw.random() < 0.3
    observers: Any = ()
    x, lengths, first, observers, state = some(draw, odd, x, lengths, first, observers, None)
    given = x.transpose(0, 1) if first is True and isinstance(x, Tensor) and x.dim() > 1 else x
    output, state = net.run(given, state, lengths=lengths, batch_first=first, observers=observers)
    if plain(x) and x.dim() == 3:
        promise(output.shape[-1] == CLASSES, f"an output {list(output.shape)}")
    rule, loss = built(draw, c.RULES, 0.0), sw.losses.OnRate(nn.CrossEntropyLoss())
    if rule.traits.loss != "rate":
        loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    for update in rule.updates(net, given, targets(draw, odd, x), loss, lengths=lengths, batch_first=first):
        check_update(update, x, net)


def tasks(draw: Draw, odd: float, folder: Path) -> None:
    """Tasks under a continual rule: learned, ended, frozen, and stored."""
    kind = draw.choice([rules.Replay, rules.EWC, rules.LwF, rules.GPM, rules.HLOP, rules.Naive])
    rule = kind(draw.choice([rules.BPTT(), rules.SLTT(), rules.OTTT()]))
    net = sw.Network(nn.Sequential(nn.Linear(FEATURES, 5), sw.LIF(), nn.Linear(5, CLASSES)))
    loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        net.train()
        rule.freeze(net)
        rule.check_optimizer(optimizer)
        x = inputs(draw, odd * 0.3)
        y = targets(draw, odd * 0.3, x)
        for update in rule.updates(net, x, y, loss):
            check_update(update, x, net)
        rule.next_task(*some(draw, odd, net, x, y, loss))
    other = kind(rules.BPTT())
    other.load_state_dict(rule.state_dict(), strict=False)


def graphs(draw: Draw, odd: float, folder: Path) -> None:
    """A small graph: its data, models, metrics and known answers."""
    made: Any = ranges.kinships()
    model: Any = graph.GRSNN(2 * len(made.relations), width=2, steps=2)
    scores, labels = torch.rand(6), torch.tensor([0, 1, 0, 1, 1, 0])
    triples, ranks = torch.tensor([[0, 0, 1], [1, 0, 2]]), torch.tensor([1.0, 2.0, 3.5])
    number = draw.randrange(9)
    if number == 0:
        found = graph.evaluate(*some(draw, odd, model, made, made.test))
        promise(0 <= found["mrr"] <= 1, f"mrr {found['mrr']}")
    elif number == 1:
        promise(0 <= graph.auroc(*some(draw, odd, scores, labels)) <= 1, "auroc")
        promise(0 <= graph.average_precision(*some(draw, odd, scores, labels)) <= 1, "average precision")
    elif number == 2:
        graph.rank_metrics(*some(draw, odd, ranks))
    elif number == 3:
        graph.graph_of(*some(draw, odd, made, made.train))
    elif number == 4:
        known = graph.KnownAnswers(*some(draw, odd, triples, 3, 1))
        known.mask(*some(draw, odd, torch.tensor([0, 2]), torch.tensor([0, 1])))
        known.negatives(*some(draw, odd, torch.tensor([0]), torch.tensor([0]), 4, torch.Generator()))
    elif number == 5:
        evaluator = graph.RankingEvaluator()
        evaluator.add(*some(draw, odd, torch.rand(2, 3), torch.tensor([0, 2]), torch.zeros(2, 3, dtype=torch.bool)))
        evaluator.result()
    elif number == 6:
        graph.GraphSplit(*some(draw, odd, triples, triples, triples, ("a", "b", "c")))
    elif number == 7:
        graph.load_graph(*some(draw, odd, "family"), trees=draw.choice([1, 2]))
    else:
        of = draw.choice([graph.RelationalGraph.of, graph.RelationalGraph.of_edges])
        found = of(*some(draw, odd, triples, 3, 1))
        found.without(*some(draw, odd, triples))


def measures(draw: Draw, odd: float, folder: Path) -> None:
    """Records of continual learning, and what a data set can be asked for."""
    images = data.load("synthetic", classes=4, size=12)
    number = draw.randrange(6)
    if number == 0:
        matrix = continual.AccuracyMatrix()
        for row in some(draw, odd, [0.5], [0.5, 0.75], [1.0, 0.25, 0.5]):
            matrix.add(row)
        promise(matrix.acc is not None, "no accuracy")
        continual.AccuracyMatrix.from_tree(matrix.tree())
    elif number == 1:
        trajectory = continual.Trajectory()
        trajectory.begin(*some(draw, odd, 0))
        trajectory.add(*some(draw, odd, 0, 1, 0.5))
        trajectory.end(*some(draw, odd, 2))
        trajectory.summary(*some(draw, odd, (10,), 5))
        continual.Trajectory.from_tree(trajectory.tree())
    elif number == 2:
        scenario = draw.choice([continual.split, continual.permuted])(images, tasks=2)
        scenario.task(*some(draw, odd, 1))
    elif number == 3:
        images.limited(*some(draw, odd, 4, 2))
        images.with_validation(*some(draw, odd, 0.5, 0))
        images.train.subset(*some(draw, odd, torch.tensor([0, 1])))
    elif number == 4:
        x = torch.rand(2, 1, 4, 4)
        for kind in data.ENCODINGS.values():
            kind()(*some(draw, odd * 0.3, x, 3, torch.Generator()))
        for name in data.AUGMENTATIONS:
            data.Batches(images.train, batch_size=3, steps=2, mean=(0.5,), std=(0.5,), augment=name).epoch(0)
    else:
        sw.detach(*some(draw, odd, {"0": {"membrane": torch.rand(2, requires_grad=True)}}))
        value = draw.choice(sw.surrogate.BUILT_IN)()
        value(*some(draw, odd, torch.rand(3)))


def public(draw: Draw, odd: float, folder: Path) -> None:
    """Any public name with one argument replaced."""
    name = draw.choice(CALLED)
    arguments = [
        key
        for key, p in ranges.taken(name).items()
        if p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    ranges.call(name, **({draw.choice(arguments): draw.choice(ODD)()} if arguments else {}))


FURTHER: dict[str, Callable[[Draw, float, Path], None]] = {
    "resume": resume, "tasks": tasks, "graphs": graphs, "measures": measures, "public": public,
}  # fmt: skip
