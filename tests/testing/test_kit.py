"""Every contract of the kit bites: what breaks it is told so, by its name."""

import pytest
import torch

from spikewright.errors import ConfigError
from spikewright.neurons import LIF, AlphaLIF
from spikewright.rules import BPTT, DSR, OTTT, SLTT, EProp
from spikewright.rules import _eligibility_hooks as hooks
from spikewright.spatial import ZO
from spikewright.testing import NETS, assert_neuron, assert_rule, neuron, rule
from tests.testing.planted import RULES, GradientsOff, Steps
from tests.testing.planted_neurons import NEURONS, Loop


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_breaks_a_contract(name: str) -> None:
    contract, make, said = RULES[name]
    with pytest.raises(AssertionError, match=rf"^\w+\(.*\) breaks the contract '{contract}' on ('mlp'|no network): "):
        assert_rule(make, nets=["mlp"], **said)


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_that_breaks_a_contract(name: str) -> None:
    contract, make = NEURONS[name]
    with pytest.raises(AssertionError, match=rf"^\w+\(.*\) breaks the contract '{contract}' on currents of 3 channels"):
        assert_neuron(make)


def test_every_contract_is_broken_by_something() -> None:
    """One for each function of the kit, and what is looked at once: memory, layer hooks, whether neurons fire."""
    assert len({contract for contract, _, _ in RULES.values()} - {"traits", "refusal"}) == len(rule.EVERYWHERE) + 2
    assert len({contract for contract, _ in NEURONS.values()} | {"OTTT", "EProp", "DSR"}) == len(neuron.CONTRACTS) + 1


@pytest.mark.long
def test_what_is_right_passes() -> None:
    assert_rule(Steps, nets=["mlp", "masked", "feedback"])
    assert_neuron(Loop)
    assert_neuron(Loop, channels=1)


def test_a_neuron_that_declares_nothing_passes_and_is_refused() -> None:
    assert_neuron(Unknown)


class Unknown(Loop):
    """Declares nothing."""

    dynamics = LIF.dynamics


@pytest.mark.long
def test_rules_that_do_not_refuse_a_neuron_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(OTTT, "check", lambda *given: None)
        with pytest.raises(AssertionError, match=r"Unknown\(.*'OTTT' on .*: OTTT takes it, with decay=None"):
            assert_neuron(Unknown)
    with monkeypatch.context() as patch:
        patch.setattr(OTTT, "exact", lambda *given: False)
        with pytest.raises(AssertionError, match=r"'OTTT' on .*: OTTT does not claim .* '0.weight' in front of it"):
            assert_neuron(LIF)
    with monkeypatch.context() as patch:
        patch.setattr(EProp, "exact", lambda *given: False)
        with pytest.raises(AssertionError, match=r"'EProp' on .*: EProp does not claim .* '0.weight' in front of it"):
            assert_neuron(Unknown)
    with monkeypatch.context() as patch:
        patch.setattr(hooks, "attach", lambda state, *given: state)
        with pytest.raises(AssertionError, match=r"'EProp' on .*: EProp's gradient in front of it is 0.\d+ off BPTT's"):
            assert_neuron(Unknown)
    with monkeypatch.context() as patch:
        patch.setattr(DSR, "check", lambda *given: None)
        patch.setattr(DSR, "learn", lambda *given: iter(()))
        with pytest.raises(AssertionError, match=r"AlphaLIF\(.*'DSR' on .*: DSR takes it, with rate_map=None"):
            assert_neuron(AlphaLIF)


@pytest.mark.long
def test_noise_has_to_be_said() -> None:
    with pytest.raises(AssertionError, match=r"'(updates|order of the batch|repetition|claims|resumption)'"):
        assert_rule(lambda **given: SLTT(spatial=ZO(), **given), nets=["mlp"])
    assert_rule(lambda **given: SLTT(spatial=ZO(), **given), nets=["mlp"], noisy=True)


def test_names_of_networks() -> None:
    with pytest.raises(ConfigError, match=r"a network 'mlpp', which is unknown. Did you mean 'mlp'"):
        assert_rule(BPTT, nets=["mlpp"])
    with pytest.raises(ConfigError, match=r"a network 'convs', which is unknown. Did you mean 'conv'"):
        assert_rule(BPTT, refuses=["convs"])


@pytest.mark.long
def test_random_numbers_go_on_as_if_nothing_had_been() -> None:
    before = torch.get_rng_state()
    assert_rule(SLTT, nets=["mlp"])
    assert_neuron(LIF)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_on_after_a_rule_that_leaves_them_off() -> None:
    with pytest.raises(AssertionError, match=r"torch.is_grad_enabled\(\) is False after learning, and was True"):
        assert_rule(GradientsOff, nets=["mlp"])
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.long
def test_networks_are_live_and_the_same_every_time(name: str) -> None:
    (one, x, y), (other, again, _) = NETS[name](), NETS[name]()
    assert torch.equal(x, again) and all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    assert {p.dtype for p in one.parameters()} == {torch.float64} == {x.dtype} and len(y) == x.shape[1]
    assert_rule(BPTT, nets=[name])
