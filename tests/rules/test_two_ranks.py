"""Two processes that share batches learn what one process learns, whatever the rule, the criterion and the division."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright import layers
from spikewright._util.randomness import keyed_generator
from spikewright.errors import ShapeError
from spikewright.losses import FiringRatePenalty, Loss, OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.rules import DSR, GPM, HLOP, IDE, OTTT, SLTT, SPIDE, ContinualRule, Replay, Rule, Share
from spikewright.solvers import Anderson
from spikewright.spatial import OPZO, ZO, Local
from spikewright.train.distributed import sum_gradients
from tests.catalogue import RULES
from tests.nets import NETS, sample
from tests.processes import both

STEPS, SAMPLES = 3, 5
SIZES = (5, 3, 1, 4, 2)
"""Samples per batch: parts that differ, and a batch of one sample, which both processes learn."""


class Twice(nn.BatchNorm1d):
    """A batch norm with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def feedback() -> nn.Module:
    neurons = IF()
    back = layers.Feedback(nn.Linear(6, 12), source=neurons)
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), back, IF(), nn.Linear(12, 6), neurons, nn.Linear(6, 4))


def joint() -> nn.Module:
    norms = layers.JointBatchNorm1d(12), layers.JointBatchNorm1d(6)
    return nn.Sequential(nn.Linear(8, 12), IF(), nn.Linear(12, 12), norms[0], nn.Linear(12, 6), norms[1], IF(), OUT())


OUT = partial(nn.Linear, 6, 4)
MODULES: dict[str, Callable[[], nn.Module]] = {
    "norms": lambda: nn.Sequential(
        nn.Linear(8, 12), nn.BatchNorm1d(12), LIF(), nn.Dropout(0.2), nn.Linear(12, 6), Twice(6), LIF(), OUT()
    ),
    "noise": lambda: nn.Sequential(
        nn.Linear(8, 12), LIF(noise=0.1), layers.StepDropout(0.2), nn.Linear(12, 6), LIF(), nn.Dropout(0.2), OUT()
    ),
    "feedback": feedback,
    "joint": joint,
}


def module(name: str) -> nn.Module:
    if name not in MODULES:
        return NETS[name](0)
    made, source = MODULES[name]().double(), keyed_generator(0)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0, layer.in_features**-0.5, generator=source)
                layer.bias.normal_(0, 0.1, generator=source)
    if name == "noise":
        layers.restrict_frobenius(made.get_submodule("3"), limit=1.5, probes=3)  # also draws
    return made


def rule_named(name: str) -> Rule:
    made = next((entry.make for entry in RULES if str(entry) == name), None)
    return made() if made is not None else OTHERS[name]()


OTHERS: dict[str, Callable[[], Rule]] = {
    "DSR joint": partial(DSR, batch_norm="joint"),
    "GPM of DSR joint": lambda: GPM(DSR(batch_norm="joint")),
    "IDE rate": partial(IDE, batch_norm="rate", solver=Anderson(tolerance=1e-2)),
    "IDE loose": partial(IDE, batch_norm="running", solver=Anderson(tolerance=0.2)),
    "SPIDE rate": partial(SPIDE, batch_norm="rate", steps=20),
    "HLOP steps": lambda: HLOP(OTTT(), rows=2, observe="steps"),
    "HLOP bursts": lambda: HLOP(SLTT(), rows=2, lateral_steps=8),
    "OTTT in chunks": partial(OTTT, chunk="10KiB"),  # of a step or of three, by the samples of a process
    "Replay of one": partial(Replay, SLTT()),
    "OPZO centred": lambda: OTTT(spatial=OPZO(center_output=True), local=Local()),
}


def loss_for(rule: Rule, kind: str) -> Loss:
    spatial = getattr(rule, "spatial", None)
    weight = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    criterion = {
        "sum": nn.CrossEntropyLoss(weight, ignore_index=2, reduction="sum"),
        "mean": nn.CrossEntropyLoss(weight, ignore_index=2),
        "plain": nn.CrossEntropyLoss(),
        "timed": nn.CrossEntropyLoss(weight),
        "penalty": nn.CrossEntropyLoss(),
        "coupled": lambda output, y: F.cross_entropy(output, y) + (output - output.mean(0)).square().sum(),
    }["plain" if isinstance(spatial, ZO) else kind]
    penalty = FiringRatePenalty(0.2, 0.3, 3.0, 5.0) if kind == "penalty" else None
    if rule.traits.loss == "rate":
        return OnRate(criterion, penalty=penalty)
    return PerStep(criterion, timed=kind == "timed", penalty=penalty)


def learned(rank: int, world: int, name: str, net: str, kind: str, sync_batch_norm: bool) -> dict[str, Tensor]:
    """Return parameters, buffers and losses after a few updates, with a change of task if there are tasks."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    net_, rule = Network(module(net)), rule_named(name)
    x, y = sample("mlp", 0, batch=SAMPLES)
    x, y = x[:STEPS], torch.tensor([0, 2, 1, 3, 1])
    loss, losses = loss_for(rule, kind), []
    y = torch.stack([y.roll(t) for t in range(STEPS)]) if loss.batch_axis else y
    rule.prepare(net_, x)
    parameters = [*net_.parameters(), *rule.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.02 if kind == "sum" else 0.2)
    kept = 1 if name == "Replay of one" else SAMPLES
    for number, size in enumerate(SIZES):
        size = max(size, 2) if sync_batch_norm else size  # one sample has no variance
        if number == 2 and isinstance(rule, ContinualRule):
            rule.next_task(net_, x[:, :kept], y[:kept], loss)
            rule.freeze(net_)
        torch.manual_seed(rank)  # what the library draws must not depend on it
        share = Share(size, rank, world, keyed_generator(0, number), sync_batch_norm)
        optimizer.zero_grad()
        own = [share.own(v.narrow(axis, 0, size), axis) for v, axis in ((x, 1), (y, loss.batch_axis))]
        for update in rule.updates(net_, *own, loss, share=share):
            sum_gradients(parameters, share)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(update.loss)
            if (report := update.report) is not None:
                shown = [report.iterations, report.saturated, report.silent, *report.rates.values()]
                losses += [torch.tensor(float(value)) for value in shown]
    tensors = {**dict(net_.named_parameters()), **dict(net_.named_buffers())}
    tensors |= {f"rule.{key}": value for key, value in rule.state_dict().items()}
    return {key: value.detach().double() for key, value in tensors.items()} | {"losses": torch.stack(losses)}


def shared(rank: int, *args: Any) -> dict[str, Tensor]:
    return learned(rank, 2, *args)


def assert_same(*args: Any) -> None:
    expected = learned(0, 1, *args)
    for found in both(shared, *args):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=lambda text: f"{name}: {text}")  # noqa: B023


@pytest.mark.parametrize("entry", RULES, ids=str)
def test_two_processes_are_one(entry: Any) -> None:
    assert_same(str(entry), "mlp", "sum", False)


OF_PENALTY = [
    "BPTT()", "BPTT(checkpoint=True)", "SLTT()", "OTTT(online=True)", "OTTT+DFA()()", "DSR()", "IDE()",
    "LwF of BPTT()()",
]  # fmt: skip


@pytest.mark.parametrize("name", OF_PENALTY)
def test_two_processes_share_a_penalty_on_firing_rates(name: str) -> None:
    assert_same(name, "mlp", "penalty", False)


FEW = ["BPTT()", "SLTT(k=2)", "OTTT(online=True)", "OPZO(alpha=0.5, momentum=0.8)", "OPZO centred", "HLOP of OTTT()()"]


@pytest.mark.parametrize("name", [*FEW, "DSR()", "HLOP steps", "HLOP bursts"])
def test_with_statistics_of_the_whole_batch(name: str) -> None:
    assert_same(name, "norms", "mean", True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("OTTT in chunks", "timed"),
        ("BPTT()", "timed"),
        ("OPZO centred", "coupled"),
        ("LwF of BPTT()()", "coupled"),
        ("DSR()", "coupled"),
        ("Replay of one", "mean"),
    ],
)
def test_with_other_targets_criteria_and_memories(name: str, kind: str) -> None:
    assert_same(name, "mlp", kind, False)


def test_a_part_of_another_size_is_refused() -> None:
    x, y = sample("mlp", 0, batch=2)
    net, loss, share = Network(module("mlp")), PerStep(F.cross_entropy), Share(5, 0, 2)
    with pytest.raises(ShapeError, match=r"the samples 0 to 2 of 5, which are 3\. Give each process its own part"):
        next(iter(SLTT().updates(net, x, y, loss, share=share)))


@pytest.mark.parametrize("name", FEW[:-1])  # HLOP refuses weights that are computed
def test_with_noise_and_dropout(name: str) -> None:
    assert_same(name, "noise", "mean", False)


@pytest.mark.parametrize(
    ("name", "net"),
    [
        ("IDE loose", "feedback"),
        ("IDE rate", "feedback"),
        ("SPIDE rate", "feedback"),
        ("DSR joint", "joint"),
        ("GPM of DSR joint", "joint"),
    ],
)
@pytest.mark.long
def test_rates_with_statistics_of_the_whole_batch(name: str, net: str) -> None:
    assert_same(name, net, "mean", True)
