"""What ways of spatial credit keep between sequences: in which type, under which names, and how it goes on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT, OnlineRule
from spikewright.spatial import DFA, DKP, FA, OPZO, ZO, Local, Spatial
from tests.nets import NETS, sample
from tests.rules.support import assert_identical, gradients

WAYS: dict[str, Callable[[int], Spatial]] = {
    "FA": lambda seed: FA(seed),
    "DFA": lambda seed: DFA(seed=seed),
    "DKP": lambda seed: DKP(lr=1.0, seed=seed),
    "ZO": lambda seed: ZO(),
    "OPZO": lambda seed: OPZO(momentum=0.7, center_output=True),
    "OPZO, dfa": lambda seed: OPZO(momentum=0.7, init="dfa"),
}


def nested() -> nn.Module:
    """Layers whose names have dots in them."""
    torch.manual_seed(2)
    blocks = (nn.Sequential(nn.Linear(*sizes), LIF()) for sizes in ((8, 12), (12, 10)))
    return nn.Sequential(*blocks, nn.Linear(10, 4)).double()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("build", [nested, lambda: NETS["conv"](0)], ids=["nested", "conv"])
def test_a_rule_that_has_seen_no_network_takes_over_a_state(build: Callable[[], nn.Module], way: str) -> None:
    module, (x, y) = build(), sample("conv" if build is not nested else "mlp", 0)
    rule, other = OTTT(spatial=WAYS[way](0)), OTTT(spatial=WAYS[way](1))
    for _ in range(2):
        gradients(rule, module, x, y)
    other.load_state_dict(rule.state_dict())
    assert other.state_dict().keys() == rule.state_dict().keys()
    assert_identical(gradients(other, module, x, y), gradients(rule, module, x, y))


def test_a_state_is_a_copy() -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    rule, other = OTTT(spatial=OPZO(momentum=0.7)), OTTT(spatial=OPZO(momentum=0.7))
    gradients(rule, module, x, y)
    other.load_state_dict(rule.state_dict())
    before = {name: value.clone() for name, value in other.state_dict().items()}
    gradients(rule, module, x, y)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())


def test_sequences_and_steps_are_counted() -> None:
    module, (x, y), way = NETS["mlp"](0), sample("mlp", 0), OPZO()
    for times in (1, 2, 3):
        gradients(OTTT(spatial=way), module, x, y)
        assert way.noise is not None and int(way.noise.count) == times
        assert int(way.steps) == times * len(x)


def shapes(rule: OnlineRule) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in rule.state_dict().items()}


def test_matrices_have_a_row_for_every_neuron_and_the_name_of_what_they_join() -> None:
    module, (x, _) = NETS["conv"](0), sample("conv", 0)
    rule = OTTT(spatial=OPZO(center_output=True))
    rule.prepare(Network(module), x)
    assert shapes(rule) == {
        "spatial.steps": (),
        "spatial.noise.count": (),
        "spatial.means.output": (4,),
        "spatial.matrices.output 1": (6 * 8 * 8, 4),
        "spatial.matrices.output 4": (8 * 2 * 2, 4),
    }
    assert list(rule.parameters()) == []


def test_only_matrices_count_as_what_carries_errors_back() -> None:
    way = OPZO(center_output=True)
    OTTT(spatial=way).prepare(Network(NETS["mlp"](0)), sample("mlp", 0)[0])
    assert way.floats == (12 + 10) * 4


def test_preparing_again_changes_nothing() -> None:
    net, (x, _) = Network(NETS["mlp"](0)), sample("mlp", 0)
    for way in (DFA(), DKP(), FA(), OPZO(init="dfa")):
        rule = OTTT(spatial=way, local=Local())
        rule.prepare(net, x)
        before = {name: value.clone() for name, value in rule.state_dict().items()}
        rule.prepare(net, x)
        assert all(torch.equal(rule.state_dict()[name], value) for name, value in before.items())
        assert any(value.any() for value in before.values())


def test_readouts_are_all_there_is_to_train() -> None:
    net, (x, _) = Network(NETS["conv"](0)), sample("conv", 0)
    rule = OTTT(spatial=OPZO(), local=Local(pool=2))
    rule.prepare(net, x)
    assert sorted(tuple(p.shape) for p in rule.parameters()) == [(4,), (4,), (4, 24), (4, 32)]


def halved() -> tuple[nn.Module, Tensor, Tensor]:
    x, y = sample("mlp", 0)
    return NETS["mlp"](0).bfloat16(), x.bfloat16(), y


@pytest.mark.parametrize("way", WAYS)
def test_what_is_learned_has_32_bits_or_more_where_the_network_has_16(way: str) -> None:
    module, x, y = halved()
    rule = OTTT(spatial=WAYS[way](0))
    grads = gradients(rule, module, x, y)
    assert all(grad.any() and grad.isfinite().all() for grad in grads.values())
    floats = {name: value.dtype for name, value in rule.state_dict().items() if value.is_floating_point()}
    assert set(floats.values()) <= {torch.float32}
    assert bool(floats) == (way != "ZO")


@pytest.mark.parametrize("way", WAYS)
def test_a_rule_can_be_moved_to_64_bits(way: str) -> None:
    module, (x, y) = NETS["mlp"](0).float(), sample("mlp", 0)
    rule = OTTT(spatial=WAYS[way](0))
    gradients(rule, module, x.float(), y)
    rule.to(torch.float64)
    kinds = {name: value.dtype for name, value in rule.state_dict().items()}
    for name, kind in kinds.items():
        assert kind == (torch.int64 if name.endswith(("steps", "count")) else torch.float64)
    assert all(grad.isfinite().all() for grad in gradients(rule, module.double(), x, y).values())


def test_small_shares_of_new_matrices_are_not_lost_in_half_precision() -> None:
    module, x, y = halved()
    way = OPZO(momentum=1 - 1e-4, init="dfa")
    rule = OTTT(spatial=way)
    rule.prepare(Network(module), x)
    before = way.matrices["output 1"].clone()
    gradients(rule, module, x, y)
    moved = way.matrices["output 1"] - before
    assert float((moved != 0).float().mean()) > 0.9
    assert 0 < float(moved.abs().mean()) < 0.02


@pytest.mark.parametrize("way", [DFA, FA, OPZO])
def test_a_rule_that_belongs_to_another_network_says_so(way: type[Spatial]) -> None:
    rule, x = OTTT(spatial=way()), torch.rand(2, 3, 8)
    rule.prepare(Network(nn.Sequential(nn.Linear(8, 6), LIF(), nn.Linear(6, 4))), x)
    other = Network(nn.Sequential(nn.Linear(8, 5), LIF(), nn.Linear(5, 4)))
    with pytest.raises(IncompatibleRule, match=r"was made for .*6.*but this network needs .*5.*Make a new rule"):
        rule.prepare(other, x)


def test_a_synapse_at_two_places_has_one_feedback() -> None:
    hidden = nn.Linear(6, 6)
    way = FA()
    module = nn.Sequential(nn.Linear(8, 6), LIF(), hidden, LIF(), hidden, LIF(), nn.Linear(6, 4))
    OTTT(spatial=way).prepare(Network(module), torch.rand(2, 3, 8))
    assert set(way.weights) == {"2", "6"}
