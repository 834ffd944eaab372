"""SLTT and SLTT-K: which steps are learned at, and that each of them stands alone."""

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import SLTT
from tests.catalogue import drawn_steps
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Params
from tests.rules.support import CE, assert_identical, collected, gradients, learn


class Witness(nn.Module):
    """Passes its input on and notes whether there is a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.graphs.append(torch.is_grad_enabled() and x.requires_grad)
        return x


def scaled(gradients: Params, factor: float) -> Params:
    return {name: factor * grad for name, grad in gradients.items()}


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_k_steps_have_a_backward_pass_and_no_other_has_a_graph(k: int) -> None:
    witness, (x, y), passes = Witness(), sample("mlp", 0), []
    net, rule = Network(nn.Sequential(nn.Linear(8, 12), LIF(), witness, nn.Linear(12, 4))), SLTT(k=k)
    net.wiring(x)
    witness.graphs.clear()
    drawn = drawn_steps(rule, len(x))
    list(rule.updates(net, x, y, CE, backward=lambda value: (passes.append(value), value.backward())[1]))
    assert len(drawn) == len(passes) == k
    assert [step for step, graph in enumerate(witness.graphs) if graph] == drawn


def test_all_steps_drawn_is_sltt() -> None:
    x, y = sample("conv", 0)
    assert_agree(gradients(SLTT(k=6), NETS["conv"](0), x, y), gradients(SLTT(), NETS["conv"](0), x, y))


@pytest.mark.parametrize("name", ["conv", "branching"])
def test_the_mean_over_all_choices_is_a_share_of_sltt(name: str) -> None:
    x, y = sample(name, 0, steps=4)
    seeds = {tuple(drawn_steps(SLTT(k=2, seed=seed), 4)): seed for seed in range(60)}
    assert sorted(seeds) == list(combinations(range(4), 2))
    parts = [gradients(SLTT(k=2, seed=seed), NETS[name](0), x, y) for seed in seeds.values()]
    mean = {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}
    assert_agree(mean, scaled(gradients(SLTT(), NETS[name](0), x, y), 2 / 4))


def test_rescaling_makes_up_for_the_steps_not_drawn() -> None:
    x, y = sample("mlp", 0)
    plain, rescaled = (gradients(SLTT(k=2, rescale=r), NETS["mlp"](0), x, y) for r in (False, True))
    assert_agree(rescaled, scaled(plain, 6 / 2))
    assert_identical(gradients(SLTT(rescale=True), NETS["mlp"](0), x, y), gradients(SLTT(), NETS["mlp"](0), x, y))


@pytest.mark.parametrize("name", NETS)
def test_single_steps_from_saved_membranes_add_up(name: str) -> None:
    module, (x, y), parts, state = NETS[name](0), sample(name, 0), [], None
    for frame in x.split(1):
        module.zero_grad()
        (update,) = learn(SLTT(), module, frame, y, PerStep(nn.functional.cross_entropy, steps=6), state)
        state = {site: dict(carried) for site, carried in update.state.items()}
        parts.append(collected(module))
    assert_agree({key: sum(part[key] for part in parts) for key in parts[0]}, gradients(SLTT(), module, x, y))


def test_a_seed_is_a_sequence_of_draws_and_leaves_the_common_randomness_alone() -> None:
    def draws(seed: int) -> list[list[int]]:
        rule, drawn = SLTT(k=3, seed=seed), list[list[int]]()
        for _ in range(8):
            drawn.append(drawn_steps(rule, 6))
            learn(rule, module, *sample("mlp", 0))
        return drawn

    module = NETS["mlp"](0)
    before = torch.get_rng_state()
    assert draws(1) == draws(1) != draws(2)
    assert len({tuple(drawn) for drawn in draws(1)}) > 3
    assert torch.equal(torch.get_rng_state(), before)


def test_every_step_is_drawn_equally_often() -> None:
    counts = torch.zeros(6)
    for seed in range(600):
        counts[drawn_steps(SLTT(k=2, seed=seed), 6)] += 1
    assert counts.sum() == 1200 and ((counts - 200).abs() < 5 * 200**0.5).all()


def test_the_chunk_does_not_change_the_draw() -> None:
    assert len({tuple(drawn_steps(SLTT(k=3, seed=4, chunk=chunk), 8)) for chunk in (1, 3, 8, None)}) == 1


def test_more_steps_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match=r"SLTT\(k=7\) was given a sequence of 6 steps. Use k <= 6, or k=None"):
        learn(SLTT(k=7), NETS["mlp"](0), *sample("mlp", 0))
    with pytest.raises(ConfigError, match=r"SLTT\(k=0\): at least one step"):
        SLTT(k=0)
    with pytest.raises(ConfigError, match=r"SLTT\(chunk=0\): a chunk has at least one step"):
        SLTT(chunk=0)
