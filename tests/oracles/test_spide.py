"""The second phase of spikes: its exact identities, and its way to the dense solution."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles import rate
from tests.oracles.compare import assert_agree, case, relative
from tests.oracles.loops import distance, loop, order, settled
from tests.oracles.machine import Params
from tests.oracles.programs import PROGRAMS
from tests.oracles.rate_machine import Cell, Mask
from tests.oracles.spide import Couples, Severed, sever, spide, ternary

pytestmark = pytest.mark.timeout(30)
CE = F.cross_entropy
CELL = Cell(reset_amount=2.0, fraction=0.5, gain=1.25, amplitude=0.75)
ACYCLIC = [name for name in PROGRAMS if name not in ("feedback", "hard_reset", "delayed")]


def first_phase(seed: int, depth: int, tau: float = math.inf) -> tuple[Severed, Tensor, Params]:
    params, x, y = settled(seed, depth, reset_amount=2.0)
    cells = {str(layer): CELL for layer in range(1, depth + 1)}
    return *sever(partial(loop, depth=depth, tau=tau), params, x.expand(25, -1, -1), y, CE, cells), params


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("tau, leaky", [(math.inf, False), (5.0, False), (5.0, True)])
def test_the_means_of_the_couples_obey_their_identities(depth: int, tau: float, leaky: bool) -> None:
    """`beta_N = g + k W^T m_1 beta'_1 - u_N / Z` and `beta_l = k F_l^T m_(l+1) beta_(l+1) - u_l / Z`.

    What comes over the feedback, `beta'_1`, lacks the last step: `(beta_1 - s_1[T] / Z) / leak`. The slope `k` is
    `amplitude * gain / reset_amount`.
    """
    steps, leak = 40, 0.8 if leaky else 1.0
    graph, loss, params = first_phase(2, depth, tau)
    couples = ternary(graph, loss, steps, 0.5, 1.5, leaky, "output")
    total = sum(leak**age for age in range(steps))
    fired = {key: layer.spikes.mean(0) for key, layer in graph.layers.items()}
    sent = {key: CELL.slope * ((share > 0) & (share < 1)).double() for key, share in fired.items()}
    (g,) = torch.autograd.grad(loss, graph.now[str(depth)], retain_graph=True)
    first = couples["1"]
    late = (first.average - first.spikes[-1] / total) / leak
    for level in range(depth, 0, -1):
        key, above, own = str(level), str(level + 1), couples[str(level)]
        if level == depth:
            expected = 1.5 * g + (sent["1"] * late) @ params["back.weight"]
            torch.testing.assert_close(own.drive, 1.5 * g, rtol=1e-13, atol=1e-13)
        else:
            expected = (sent[above] * couples[above].average) @ params[f"forth{key}.weight"]
            assert not own.drive.any()
        torch.testing.assert_close(own.average, expected - own.membrane / total, rtol=1e-12, atol=1e-12)
        assert own.spikes.unique().tolist() == [-1, 0, 1]


def test_opposite_errors_are_answered_by_opposite_spikes() -> None:
    graph, loss, _ = first_phase(2, 3, tau=5.0)
    for leaky in (False, True):
        there, back = (ternary(graph, loss, 50, 0.5, scale, leaky, "output") for scale in (1.5, -1.5))
        assert all(torch.equal(there[key].spikes, -back[key].spikes) for key in there)
        assert all(couples.spikes.any() for couples in there.values())


DRIVES = torch.linspace(-1.2, 1.2, 24, dtype=torch.float64)


def single(drives: Tensor, steps: int, tau: float = math.inf, leaky: bool = False) -> Couples:
    """The couples of one layer of 24 units without feedback, each with its drive."""
    program = partial(loop, depth=1, tau=tau, closed=False)
    params, x, y = settled(0, depth=1)
    params |= {"out.weight": torch.eye(6, dtype=torch.float64), "out.bias": torch.zeros(6, dtype=torch.float64)}
    graph, loss = sever(program, params, x.expand(5, -1, -1), y, lambda output, _: (drives.view(4, 6) * output).sum())
    return ternary(graph, loss, steps, 0.5, 1.0, leaky, "output")["1"]


def test_a_couple_fires_at_its_threshold_on_both_sides() -> None:
    assert single(DRIVES.sign() * 0.5, 1).spikes.flatten().tolist() == [-1] * 12 + [1] * 12
    assert not single(DRIVES.sign() * 0.499, 1).spikes.any()


def test_a_couple_rounds_a_constant_drive_and_saturates_at_its_quantum() -> None:
    couples = single(DRIVES, 30)
    assert torch.equal(couples.spikes.sum(0), (30 * couples.drive).round().clamp(-30, 30))
    assert couples.average.abs().max() == 1 and (couples.membrane.abs() > 5).any()
    assert (couples.membrane[couples.drive.abs() < 1].abs() <= 0.5).all()


def test_a_leaky_couple_has_a_dead_zone() -> None:
    couples = single(DRIVES, 200, tau=5.0, leaky=True)
    assert torch.equal(couples.spikes.any(0), couples.drive.abs() >= 0.5 * 0.2)
    assert not couples.spikes.any(0).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.long
def test_the_error_to_the_dense_solution_falls_with_the_steps(depth: int) -> None:
    steps, errors = (32, 100, 316, 1000), []
    for seed in range(2):
        params, x, y = settled(seed, depth, reset_amount=2.0, batch=16)
        cells = {str(layer): Cell(2.0, fraction=0.5) for layer in range(1, depth + 1)}
        run = partial(loop, depth=depth), params, x.expand(25, -1, -1), y, CE
        expected = rate.gradients(*run, "output", cells)
        errors.append([distance(spide(*run, n, 0.5, 4.0, cells=cells), expected) for n in steps])
        for couples in ternary(*sever(*run, cells), 178, 0.5, 4.0, False, "output").values():
            assert couples.average.abs().max() < 0.9 and couples.average.any()
    means = torch.tensor(errors, dtype=torch.float64).mean(0).tolist()
    assert order(steps, means) == pytest.approx(-1, abs=0.15), errors
    assert means[-1] < 4e-3, errors


@pytest.mark.long
def test_a_saturated_second_phase_stays_wrong() -> None:
    params, x, y = settled(31, reset_amount=2.0)
    cells = dict.fromkeys("12", Cell(2.0, fraction=0.5))
    run = loop, params, x.expand(25, -1, -1), y, CE
    expected = rate.gradients(*run, "output", cells)
    small, large = (
        [distance(spide(*run, n, threshold, 10.0, cells=cells), expected) for n in (100, 1000)]
        for threshold in (0.5, 5.0)
    )
    assert small[1] > 0.2 and small[1] == pytest.approx(small[0], rel=0.05)
    assert large[1] < 0.01 and large[1] < large[0] / 4


@pytest.mark.parametrize("name", ACYCLIC)
@pytest.mark.parametrize("mask", ["input", "output"])
def test_every_acyclic_program_approaches_its_gradient(name: str, mask: Mask) -> None:
    program, params, x, y = case(name, steps=10)[:4]
    expected = rate.gradients(program, params, x, y, CE, mask)
    scale = 20.0 if name in ("conv", "residual") else 1.0
    errors = [distance(spide(program, params, x, y, CE, n, 4.0, scale, mask=mask), expected) for n in (50, 500)]
    assert errors[1] < 0.08 and errors[1] < errors[0] / 4, errors
    readout, found = list(params)[-2:], spide(program, params, x, y, CE, 1, 1.0, 1.0, mask=mask)
    assert_agree({key: found[key] for key in readout}, {key: expected[key] for key in readout})


def test_the_masks_and_the_leak_of_the_second_phase_matter() -> None:
    program, params, x, y = case("two_leaks", steps=10)[:4]
    plain, leaky = (spide(program, params, x, y, CE, 200, 1.0, 1.0, leaky=leaky) for leaky in (False, True))
    other = spide(program, params, x, y, CE, 200, 1.0, 1.0, mask="input")
    assert relative(leaky, plain)["0.weight"] > 1e-2 and relative(other, plain)["0.weight"] > 1e-2
