"""The oracles check each other, on their own parameters and without the package."""

from functools import partial
from itertools import combinations

import pytest
import torch

from tests.oracles import bptt, eprop, ottt, sltt
from tests.oracles.compare import assert_agree, case, relative
from tests.oracles.draw import sample, weights
from tests.oracles.machine import Machine, forward
from tests.oracles.programs import PROGRAMS, mlp

NAMES = list(PROGRAMS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_every_layer_is_alive(name: str, seed: int) -> None:
    _, spikes = forward(PROGRAMS[name], weights(name, seed), sample(name, seed)[0])
    assert all(0.05 < float(layer.mean()) < 0.95 for layer in spikes.values())


@pytest.mark.parametrize("hard, rests", [(False, (0.0, 0.5, 0.5, 0.25)), (True, (0.0, 0.5, 0.0, 0.0))])
def test_the_neuron_by_numbers(hard: bool, rests: tuple[float, ...]) -> None:
    machine = Machine({}, cut=True)
    for current, spike, rest in zip((1.0, 0.5, 1.25, 1.0), (1, 0, 1, 1), rests):
        assert machine.lif("a", torch.tensor([current]), tau=2.0, hard=hard).tolist() == [spike]
        assert machine.membranes["a"].tolist() == [rest]


@pytest.mark.parametrize("name", NAMES)
def test_one_step_makes_all_rules_equal(name: str) -> None:
    run = case(name, steps=1)
    expected = bptt.gradients(*run)
    assert_agree(bptt.gradients_of_mean(*run), expected)
    assert_agree(sltt.gradients(*run), expected)
    assert_agree(ottt.gradients(*run), expected)
    assert_agree(ottt.gradients(*run, reference=True), expected)


@pytest.mark.parametrize("name", NAMES)
def test_own_states_are_traces_where_resets_are_soft_and_detached(name: str) -> None:
    run = case(name)
    found, traced = eprop.gradients(*run), ottt.gradients(*run)
    if not eprop.resets_otherwise(*run[:3]):
        assert_agree(found, traced)
        return
    assert relative(found, traced)["2.weight"] > 1e-2
    whole = bptt.gradients(*run)
    assert_agree({key: found[key] for key in ("2.weight", "2.bias")}, {k: whole[k] for k in ("2.weight", "2.bias")})


def test_no_leak_makes_all_rules_equal() -> None:
    run = partial(mlp, taus=(1.0, 1.0)), *case("mlp")[1:]
    assert_agree(sltt.gradients(*run), bptt.gradients(*run))
    assert_agree(ottt.gradients(*run), bptt.gradients(*run))


def test_the_temporal_part_shrinks_with_the_leak() -> None:
    distances = []
    for leak in (0.02, 0.01):
        run = partial(mlp, taus=(1 / (1 - leak),) * 2), *case("mlp")[1:]
        distances.append(relative(sltt.gradients(*run), bptt.gradients(*run))["2.weight"])
    assert distances[0] / distances[1] == pytest.approx(2.0, rel=0.1)


def test_a_linear_loss_does_not_tell_the_mean_output_from_the_mean_loss() -> None:
    run = *case("mlp")[:-1], lambda output, y: output.gather(1, y[:, None]).mean()
    assert_agree(bptt.gradients_of_mean(*run), bptt.gradients(*run))
    assert relative(bptt.gradients_of_mean(*case("mlp")), bptt.gradients(*case("mlp")))["4.weight"] > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_traces_without_leak_are_sltt(name: str) -> None:
    assert_agree(ottt.gradients(*case(name), leak=0.0), sltt.gradients(*case(name)))
    assert_agree(ottt.gradients(*case(name), leak=0.0, reference=True), sltt.gradients(*case(name)))


LAST = {"mlp": "2", "two_leaks": "2", "deep": "4", "conv": "3", "residual": "conv2", "shared": "fc2", "if_net": "2"}


@pytest.mark.parametrize("name", LAST)
def test_ottt_is_bptt_in_the_last_spiking_layer_only(name: str) -> None:
    distances = relative(ottt.gradients(*case(name)), bptt.gradients(*case(name)))
    layers = [key.removesuffix(".weight") for key in distances if key.endswith(".weight")]
    for layer in layers:
        exact = layers.index(layer) >= layers.index(LAST[name])
        assert all((distances[f"{layer}.{kind}"] < 1e-12) == exact for kind in ("weight", "bias")), distances
        assert exact or distances[f"{layer}.weight"] > 1e-2, distances


def test_the_reset_path_matters_to_bptt_only() -> None:
    for hard in (False, True):
        detached, attached = (partial(mlp, hard=hard, attached=attached) for attached in (False, True))
        rest = case("mlp")[1:]
        assert_agree(sltt.gradients(attached, *rest), sltt.gradients(detached, *rest), 1e-300)
        assert_agree(ottt.gradients(attached, *rest), ottt.gradients(detached, *rest), 1e-300)
        assert relative(bptt.gradients(attached, *rest), bptt.gradients(detached, *rest))["0.weight"] > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_single_steps_add_up_to_sltt(name: str) -> None:
    run = case(name)
    alone = [sltt.gradients_of_steps(*run, [step]) for step in range(6)]
    assert_agree({key: sum(part[key] for part in alone) for key in alone[0]}, sltt.gradients(*run))


def test_all_pairs_of_steps_average_to_a_share_of_sltt() -> None:
    run = case("conv", steps=4)
    pairs = [sltt.gradients_of_steps(*run, pair) for pair in combinations(range(4), 2)]
    mean = {key: sum(part[key] for part in pairs) / len(pairs) for key in pairs[0]}
    assert_agree(mean, {key: value / 2 for key, value in sltt.gradients(*run).items()})


def test_feedback_starts_its_trace_at_the_second_step() -> None:
    keys = ("1.transform.weight", "1.transform.bias")
    for steps, same in ((1, True), (2, True), (3, False)):
        run = case("feedback", steps=steps)
        distances = relative(ottt.gradients(*run), sltt.gradients(*run))
        assert all((distances[key] < 1e-12) == same for key in keys)


def test_the_reference_uses_the_leak_of_the_sender() -> None:
    run = case("branching")
    sender = relative(ottt.gradients(*run, reference=True), ottt.gradients(*run, leak=1 / 3, trace_bias=False))
    receiver = relative(ottt.gradients(*run), ottt.gradients(*run, leak=0.8))
    assert sender["left.weight"] < 1e-12 and sender["right.weight"] < 1e-12 and sender["out.weight"] > 1e-2
    assert receiver["right.weight"] < 1e-12 and receiver["left.weight"] > 1e-2
