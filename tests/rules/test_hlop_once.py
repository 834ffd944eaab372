"""What arrives is projected once: for the gradient and for lateral weights, and still inputs for all their steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, GPM, HLOP, OTTT, SLTT, Rule
from spikewright.rules.continual.subspaces import Subspace
from tests.nets import sample
from tests.oracles.hlop import learned
from tests.rules.support import CE, collected
from tests.subspaces.support import drawn
from tests.subspaces.wrapping import assert_near, inputs, kept_out, net, old_rows, run, settled

STEPS, BATCH = 6, 3


@pytest.fixture
def projected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Subspace, int]]:
    """How many rows are projected, call by call."""
    seen: list[tuple[Subspace, int]] = []
    project = Subspace.project

    def counted(self: Subspace, rows: Tensor) -> Tensor:
        seen.append((self, len(rows)))
        return project(self, rows)

    monkeypatch.setattr(Subspace, "project", counted)
    return seen


def wide() -> nn.Sequential:
    """Layers with more outputs than rows arrive, so that inputs are projected; the last one with fewer."""
    torch.manual_seed(0)
    first, second, readout = nn.Linear(8, 40, bias=False), nn.Linear(40, 30, bias=False), nn.Linear(30, 4)
    for layer in (first, second):
        layer.weight.data *= 3  # so that neurons fire
    return nn.Sequential(first, LIF(), second, LIF(), readout)


def rows_of(seen: list[tuple[Subspace, int]], around: HLOP) -> dict[str, list[int]]:
    return {name: [n for s, n in seen if s is space] for name, space in around.subspaces.by_name().items()}


COUNTS: dict[str, tuple[Callable[[], Rule], bool, dict[str, list[int]]]] = {
    # The readout's finished gradient has 4 rows, and the mean over time of what arrives there one per sample.
    "BPTT": (BPTT, False, {"0": [18], "2": [18], "4": [3, 4]}),
    "BPTT, still": (BPTT, True, {"0": [3], "2": [18], "4": [3, 4]}),
    "SLTT": (SLTT, False, {"0": [3] * 6, "2": [3] * 6, "4": [3, 4]}),
    "SLTT, still": (SLTT, True, {"0": [3], "2": [3] * 6, "4": [3, 4]}),
    "SLTT in chunks, still": (lambda: SLTT(chunk=4), True, {"0": [3], "2": [12, 6], "4": [3, 4]}),
    "OTTT": (OTTT, False, {"0": [3] * 6, "2": [3] * 6, "4": [3, 4]}),
    "DSR": (DSR, False, {"0": [3], "2": [3], "4": [3]}),
    # Rates that have not been projected yet when the next chunk comes are projected once more to learn from them.
    "BPTT in chunks": (lambda: BPTT(chunk=3), False, {"0": [9, 9, 3], "2": [9, 9, 3], "4": [3, 4]}),
}


@pytest.mark.parametrize("case", COUNTS)
def test_rows_are_projected_once(case: str, projected: list[tuple[Subspace, int]]) -> None:
    make, still, expected = COUNTS[case]
    x, y = sample("mlp", 0)
    x = x[:1].expand(STEPS, *x.shape[1:]) if still else x
    module = wide()
    around = settled(module, x, y, make(), rows=0.2)
    run(around, module, x, y)
    found = rows_of(projected, around)
    assert {name: sorted(rows) for name, rows in found.items()} == {n: sorted(rows) for n, rows in expected.items()}


def test_online_updates_share_a_still_input(projected: list[tuple[Subspace, int]]) -> None:
    x, y = sample("mlp", 0)
    x, module = x[:1].expand(STEPS, *x.shape[1:]), wide()
    around = settled(module, x, y, OTTT(online=True, reference=True), rows=0.2)
    run(around, module, x, y)
    assert rows_of(projected, around)["0"] == [BATCH]


def test_an_input_that_is_written_to_is_projected_again() -> None:
    x, y = sample("mlp", 0)
    still, found = x[:1], []
    for repeated in (False, True):
        module, now = wide(), still.clone()
        around = settled(module, still, y, OTTT(online=True, reference=True), rows=0.2)
        steps = now.expand(3, *now.shape[1:]) if repeated else torch.cat([now, 2 * now, 4 * now])
        for _ in around.updates(Network(module), steps, y, CE):
            if repeated:
                now.mul_(2)
        found.append(collected(module))
    assert_near(found[1], found[0])


CASES: dict[str, tuple[Callable[[], Rule], bool]] = {
    "BPTT": (BPTT, False),
    "BPTT in chunks": (lambda: BPTT(chunk=4), True),
    "BPTT, checkpoints": (lambda: BPTT(checkpoint=True), True),
    "BPTT, still": (BPTT, True),
    "SLTT": (SLTT, False),
    "SLTT, still": (SLTT, True),
    "SLTT in chunks, still": (lambda: SLTT(chunk=4), True),
}


@pytest.mark.parametrize("rows", [0.2, 0.7])
@pytest.mark.parametrize("form", ["inputs", "gradient", "auto"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_lateral_weights_are_those_of_the_programs(case: str, form: str, rows: float) -> None:
    make, still = CASES[case]
    x, y = sample("mlp", 0)
    x = x[:1].expand(STEPS, *x.shape[1:]) if still else x
    plain, module = wide(), wide()
    run(make(), plain, x, y)
    around = settled(module, x, y, make(), rows=rows, rate=0.05, project=form)
    new = {name: space.new.clone() for name, space in around.subspaces.by_name().items()}
    run(around, module, x, y)
    whole, found = collected(plain), collected(module)
    old = old_rows(around)
    assert_near({n: found[n] for n in old}, {n: kept_out(whole[n], h) for n, h in old.items()})
    for name, seen in inputs(module, x).items():
        space = around.subspaces[name]
        expected, _ = learned(space.old, new[name], torch.zeros_like(new[name]), seen.mean(0), rate=0.05)
        assert_near({name: space.new}, {name: expected})
        assert (expected - new[name]).abs().max() > 1e-5


class Places(nn.Module):
    """A layer that sees several vectors of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.out = nn.Linear(4, 30, bias=False), LIF(), nn.Linear(60, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lif(self.fc(x.unflatten(-1, (2, 4)))).flatten(1))


@pytest.mark.parametrize("rule", [BPTT(), SLTT()], ids=repr)
def test_vectors_of_one_sample_are_rows_each(rule: Rule) -> None:
    torch.manual_seed(0)
    module, (x, y) = Places(), sample("mlp", 0)
    around = settled(module, x, y, rule, rows=0.5, rate=0.05, project="inputs")
    space = around.subspaces["fc"]
    new, seen = space.new.clone(), x.mean(0).reshape(-1, 4)
    run(around, module, x, y)
    expected, _ = learned(space.old, new, torch.zeros_like(new), seen, rate=0.05)
    assert_near({"fc": space.new}, {"fc": expected})


@pytest.mark.parametrize("options", [{"lateral_steps": 4, "lateral_scale": 2.0}, {"observe": "steps"}], ids=str)
def test_what_bursts_leave_of_a_mean_is_not_the_mean_of_what_they_leave(options: dict[str, Any]) -> None:
    found = []
    for form in ("inputs", "gradient"):
        module, (x, y) = wide(), sample("mlp", 0)
        around = settled(module, x, y, SLTT(), rows=0.2, rate=0.05, project=form, **options)
        run(around, module, x, y)
        found.append({name: space.new for name, space in around.subspaces.by_name().items()})
    assert_near(found[0], found[1])


def test_a_rule_that_learns_nothing_projects_a_still_input_once(projected: list[tuple[Subspace, int]]) -> None:
    x, y = sample("mlp", 0)
    x, module = x[:1].expand(STEPS, *x.shape[1:]), net("mlp")
    around = GPM(SLTT(), project="inputs")
    around.prepare(Network(module), x)
    around.next_task(Network(module), x, y, CE)
    around.subspaces["0"].add(drawn(1, 8))
    around.freeze(Network(module))
    run(around, module, x, y)
    assert [n for space, n in projected if space is around.subspaces["0"]] == [BATCH]
