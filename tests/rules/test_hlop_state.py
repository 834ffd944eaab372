"""The rows of HLOP through tasks: how many there are, and that a file holds all that is needed to go on."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.network import Network
from spikewright.rules import BPTT, HLOP, IDE, OTTT, Rule
from tests.nets import sample
from tests.oracles.machine import Params
from tests.rules.support import assert_identical, collected
from tests.subspaces.wrapping import end_task, net, run


def counts(rule: HLOP, module: nn.Module, x: Tensor, y: Tensor, tasks: int) -> dict[str, list[int]]:
    """How many rows each task adds, by layer."""
    rule.prepare(Network(module), x)
    found: dict[str, list[int]] = {name: [] for name in rule.subspaces.by_name()}
    for task in range(1, tasks + 1):
        assert int(rule.task) == task
        for name, subspace in rule.subspaces.by_name().items():
            assert len(subspace.old) == sum(found[name]) and subspace.momentum.shape == subspace.new.shape
            found[name].append(len(subspace.new))
        end_task(rule, module, x, y)
    return found


GROWTH: list[tuple[Any, dict[str, list[int]]]] = [
    (0.25, {"0": [2, 2, 2, 2], "2": [3, 3, 3, 3], "4": [2, 2, 2, 2]}),  # of 8, 12 and 10 inputs
    (1.0, {"0": [8, 0, 0, 0], "2": [12, 0, 0, 0], "4": [10, 0, 0, 0]}),
    (1, {"0": [1] * 4, "2": [1] * 4, "4": [1] * 4}),
    (0, {"0": [0] * 4, "2": [0] * 4, "4": [0] * 4}),
    ([3, 2, 1], {"0": [3, 2, 1, 1], "2": [3, 2, 1, 1], "4": [3, 2, 1, 1]}),
    ((5,), {"0": [5, 3, 0, 0], "2": [5, 5, 2, 0], "4": [5, 5, 0, 0]}),
    ({"0": 0.5, "[24]": [4, 1]}, {"0": [4, 4, 0, 0], "2": [4, 1, 1, 1], "4": [4, 1, 1, 1]}),
    ({"4": 2, "*": 3, "0": 1}, {"0": [3, 3, 2, 0], "2": [3] * 4, "4": [2] * 4}),  # the first that fits
]


@pytest.mark.parametrize(("rows", "expected"), GROWTH, ids=lambda value: str(value)[:30])
def test_rows_per_task(rows: Any, expected: dict[str, list[int]]) -> None:
    assert counts(HLOP(OTTT(), rows=rows), net("mlp"), *sample("mlp", 0), tasks=4) == expected


def test_rows_of_a_convolution_count_its_patch() -> None:
    found = counts(HLOP(OTTT(), rows=0.5), net("conv"), *sample("conv", 0), tasks=1)
    assert found == {"0": [9], "3": [14], "6": [16]}  # of 2 * 9, of 3 * 9 in each group, of 32


def test_earlier_rows_stay_bit_for_bit() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around, seen = HLOP(OTTT(), rows=[3, 2], rate=0.3, orthonormal=False), {"0": [], "2": [], "4": []}
    for _ in range(3):
        run(around, module, x, y)
        module.zero_grad()
        for name, subspace in around.subspaces.by_name().items():
            seen[name].append(subspace.new.clone())
        end_task(around, module, x, y)
        for name, subspace in around.subspaces.by_name().items():
            assert torch.equal(subspace.old, torch.cat(seen[name]))


def test_orthonormal_rows_project_exactly() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    skews = {}
    for orthonormal in (False, True):
        around = HLOP(OTTT(), rows=3, rate=0.3, orthonormal=orthonormal)
        for _ in range(2):
            run(around, module, x, y)
            end_task(around, module, x, y)
        olds = {name: subspace.old for name, subspace in around.subspaces.by_name().items()}
        skews[orthonormal] = {n: float((old @ old.T - torch.eye(len(old))).abs().max()) for n, old in olds.items()}
        assert all(len(old) == 6 for old in olds.values())
    assert max(skews[True].values()) < 1e-12 and min(skews[False].values()) > 1e-3


def started(seed: int) -> Params:
    module, (x, _) = net("mlp"), sample("mlp", 0)
    around = HLOP(OTTT(), rows=3, seed=seed)
    around.prepare(Network(module), x)
    around.prepare(Network(module), x)  # what is there stays
    assert int(around.task) == 1
    return {name: subspace.new for name, subspace in around.subspaces.by_name().items()}


def test_first_values_are_a_function_of_the_seed() -> None:
    torch.manual_seed(9)
    first, other = started(1), started(2)
    torch.manual_seed(8)
    assert_identical(first, started(1))
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("through_file", [False, True])
@pytest.mark.parametrize(
    ("rule", "name"), [(BPTT(), "conv"), (OTTT(online=True), "mlp"), (IDE(), "feedback")], ids=lambda v: str(v)[:5]
)
def test_a_state_holds_all_there_is_to_know(rule: Rule, name: str, through_file: bool) -> None:
    module, (x, y) = net(name), sample(name, 0)
    rows = {"rows": [3, 2], "rate": 0.3}
    around = HLOP(rule, **rows)
    run(around, module, x, y)
    end_task(around, module, x, y)
    run(around, module, x, y)
    state = around.state_dict()
    if through_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    other = HLOP(rule, **rows)
    other.load_state_dict(state)
    assert_identical(other.state_dict(), around.state_dict())
    assert int(other.task) == 2 and all(s.momentum.any() for s in other.subspaces.by_name().values())
    ends: list[Params] = []
    for learner in (around, other):
        module.zero_grad()
        run(learner, module, x, y)
        end_task(learner, module, x, y)
        run(learner, module, x, y)
        ends.append({**learner.state_dict(), **collected(module)})
    assert_identical(ends[0], ends[1])


def test_a_state_may_be_loaded_where_there_are_rows_already() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around, other = HLOP(OTTT(), rows=[3, 2]), HLOP(OTTT(), rows=5)
    run(around, module, x, y)
    end_task(around, module, x, y)
    run(other, net("mlp"), x, y)
    other.load_state_dict(around.state_dict())
    assert_identical(other.state_dict(), around.state_dict())


@pytest.mark.parametrize("form", ["inputs", "gradient"])
def test_low_precision_leaves_rows_in_full(form: str) -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(8, 16), sw.LIF(), nn.Linear(16, 16), sw.LIF(), nn.Linear(16, 4)).float()
    for p in module.parameters():
        p.data *= 3
    x, y = 2 * torch.rand(6, 5, 8, dtype=torch.float32), torch.tensor([0, 1, 2, 3, 0])
    ends: list[Params] = []
    for autocast in (False, True):
        around, module_ = HLOP(OTTT(), rows=3, rate=0.3, project=form), nn.Sequential(*module)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            run(around, module_, x, y)
            module_.zero_grad()
            end_task(around, module_, x, y)
            run(around, module_, x, y)
        assert {b.dtype for n, b in around.subspaces.named_buffers()} == {torch.float32}
        grads = {n: g.clone() for n, g in collected(module_).items() if n.endswith("weight")}
        assert {g.dtype for g in grads.values()} == {torch.float32}
        ends.append({**{n: b.clone() for n, b in around.subspaces.named_buffers()}, **grads})
    for name, full in ends[0].items():
        assert full.any() and torch.cosine_similarity(ends[1][name].flatten(), full.flatten(), dim=0) > 0.95, name
