"""State dicts of other libraries, as plain tensors: what is loaded, what is converted, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, NetworkError
from spikewright.interop import load_state_dict


def layer(*shape: int, at: str = "0") -> dict[str, Tensor]:
    weight = torch.arange(math.prod(shape), dtype=torch.float32).view(shape)
    return {f"{at}.weight": weight, f"{at}.bias": torch.ones(shape[0])}


def leaky(beta: Any, at: str = "1", **others: Any) -> dict[str, Tensor]:
    entries = {"threshold": 1.0, "graded_spikes_factor": 1.0, "reset_mechanism_val": 0, "beta": beta, **others}
    return {f"{at}.{name}": torch.as_tensor(value) for name, value in entries.items()}


def small(*neurons: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), *neurons)


def test_weights_and_statistics_are_copied_by_name() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), sw.LIF())
    theirs = layer(2, 1, 3, 3) | {
        "1.weight": torch.tensor([3.0, 4.0]),
        "1.bias": torch.zeros(2),
        "1.running_mean": torch.tensor([5.0, 6.0]),
        "1.running_var": torch.ones(2),
        "1.num_batches_tracked": torch.tensor(7),
    }
    loaded = load_state_dict(sw.Network(module), theirs, library="spikingjelly")
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in theirs.items())
    assert [row.how for row in loaded.rows] == ["copied"] * 7 and loaded.neurons == ("2",)
    assert "nothing is stored of 2" in loaded.table() and "v_reset" in loaded.table()


def test_constants_of_snntorch_are_set() -> None:
    module = small(sw.LIF(reset="late", strict=True))
    load_state_dict(module, layer(2, 3) | leaky(0.9, threshold=1.5, graded_spikes_factor=2.0), library="snntorch")
    neuron: Any = module[1]
    assert neuron.leak == pytest.approx(0.9, rel=1e-6) and neuron.threshold == 1.5 and neuron.amplitude == 2.0
    assert neuron.reset_amount == pytest.approx(1.5 / 0.9, rel=1e-6)


def test_one_beta_and_threshold_per_neuron() -> None:
    module = small(sw.LIF(reset="zero", strict=True))
    theirs = leaky([0.5, 0.25], threshold=[1.0, 2.0], reset_mechanism_val=1)
    load_state_dict(module, layer(2, 3) | theirs, library="snntorch")
    assert module[1].leak.tolist() == [[0.5, 0.25]] and module[1].threshold.tolist() == [[1.0, 2.0]]
    x = torch.tensor([[[1.5, 1.5]], [[1.5, 1.5]]])
    assert sw.Network(nn.Sequential(module[1])).run(x)[0].flatten().tolist() == [1.0, 0.0, 1.0, 0.0]


def test_beta_is_clamped_as_it_is_when_snntorch_runs() -> None:
    module = small(sw.LIF(reset="zero"))
    load_state_dict(module, layer(2, 3) | leaky(-0.5, reset_mechanism_val=1), library="snntorch")
    assert module[1].leak == 0


def test_trained_constants_go_into_the_parameters() -> None:
    module = small(sw.LIF(tau=3.0, learn_tau=True, learn_threshold=True, reset="late"))
    before = dict(module[1].named_parameters())
    load_state_dict(module, layer(2, 3) | leaky(0.8, threshold=1.25), library="snntorch")
    assert module[1].leak.item() == pytest.approx(0.8, rel=1e-6) and module[1].threshold.item() == 1.25
    assert all(p is before[name] for name, p in module[1].named_parameters())


def test_the_parametric_neuron_of_spikingjelly() -> None:
    module = small(sw.LIF(learn_tau=True, gain="1/tau"))
    load_state_dict(module, layer(2, 3) | {"1.w": torch.tensor(-1.5)}, library="spikingjelly")
    assert module[1].leak_logit.item() == pytest.approx(1.5, rel=1e-6)
    assert module[1].tau.item() == pytest.approx(1 + math.exp(1.5), rel=1e-5)


def test_sinabs_and_what_a_run_left() -> None:
    module = small(sw.CUBALIF())
    theirs = {"1.tau_mem": torch.tensor(20.0), "1.tau_syn": torch.tensor(10.0), "1.spike_threshold": torch.tensor(0.5)}
    theirs |= {"1.v_mem": torch.rand(4, 2), "1.i_syn": torch.rand(4, 2)}
    loaded = load_state_dict(module, layer(2, 3) | theirs, library="sinabs")
    neuron: Any = module[1]
    assert neuron.leak == pytest.approx(math.exp(-1 / 20)) and neuron.current_leak == pytest.approx(math.exp(-1 / 10))
    assert neuron.threshold == 0.5
    assert [(row.theirs, row.ours) for row in loaded.rows if not row.ours] == [("1.v_mem", ""), ("1.i_syn", "")]


def test_recurrent_layers_are_found_inside() -> None:
    module = small(sw.Recurrent(sw.LIF(reset="late"), nn.Linear(2, 2), first="bias"))
    theirs = leaky(0.75, reset_mechanism_val=0) | layer(2, 2, at="1.recurrent")
    loaded = load_state_dict(module, layer(2, 3) | theirs, library="snntorch")
    assert module[1].transform.weight.flatten().tolist() == [0.0, 1.0, 2.0, 3.0] and module[1].neuron.leak == 0.75
    assert {row.ours for row in loaded.rows} >= {"1.neuron", "1.transform.weight"}


def test_other_names_are_matched_in_order() -> None:
    module = nn.Sequential(nn.Linear(3, 2), sw.LIF(), nn.Linear(2, 4), sw.LIF(reset="zero"))
    theirs = layer(2, 3, at="fc1") | leaky(0.5, at="lif1") | layer(4, 2, at="fc2")
    theirs |= leaky(0.25, at="lif2", reset_mechanism_val=1)
    loaded = load_state_dict(module, theirs, library="snntorch")
    assert [m.leak for m in module if isinstance(m, sw.LIF)] == [0.5, 0.25]
    assert {row.theirs: row.ours for row in loaded.rows}["fc2.bias"] == "2.bias"


def test_names_that_the_user_gives() -> None:
    module = nn.ModuleDict({"b": nn.Linear(2, 2), "a": nn.Linear(2, 2), "n": sw.LIF()})
    theirs = layer(2, 2, at="first") | {"second.weight": torch.zeros(2, 2), "second.bias": torch.zeros(2)}
    load_state_dict(module, theirs, library="norse", names={"first": "a", "second": "b"})
    assert module["a"].weight[1].tolist() == [2.0, 3.0] and not module["b"].weight.any()


def plif() -> nn.Module:
    return small(sw.LIF(learn_tau=True))


REFUSED: dict[str, tuple[Any, dict[str, Tensor], str, str]] = {
    "left over": (small, layer(2, 3) | {"0.extra": torch.ones(1)}, "norse", "'0.extra' .* has no place: '0' is Linear"),
    "missing": (small, {"0.weight": torch.ones(2, 3)}, "norse", "nothing for '0.bias'"),
    "shape": (small, layer(3, 3), "norse", r"'0.weight' .* is \[3, 3\], but '0.weight' here is \[2, 3\]"),
    "unknown constant": (lambda: small(sw.LIF()), layer(2, 3) | {"1.k": torch.ones(())}, "spikingjelly", "'1.k'"),
    "decay of IF": (
        lambda: small(sw.IF()), layer(2, 3) | leaky(0.5), "snntorch", "'1.beta' is 0.5 here, but '1' is IF.* no such",
    ),
    "no current": (
        lambda: small(sw.LIF()), layer(2, 3) | leaky(0.5, alpha=0.5), "snntorch", "'1.alpha' .*no such decay",
    ),
    "reset": (
        lambda: small(sw.LIF(reset="zero")), layer(2, 3) | leaky(0.5), "snntorch", "reset_mechanism='subtract', but",
    ),
    "readout": (
        lambda: small(sw.LIF()), layer(2, 3) | leaky(0.5, reset_mechanism_val=2), "snntorch", "'none', but",
    ),
    "dependent gain": (
        lambda: small(sw.LIF(tau=2.0, gain=0.5)), layer(2, 3) | {"1.tau_mem": torch.tensor(20.0)}, "sinabs",
        "its gain may have been computed",
    ),
    "dependent shift": (
        lambda: small(sw.LIF(rest=-0.5)), layer(2, 3) | leaky(0.5, threshold=2.0), "snntorch", "its rest may have",
    ),
    "graded by neuron": (
        lambda: small(sw.LIF(tau=2.0)), layer(2, 3) | leaky(0.5, graded_spikes_factor=[1.0, 2.0]), "snntorch",
        "graded_spikes_factor' is 2 values",
    ),
    "numbers of a parameter": (
        plif, layer(2, 3) | {"1.w": torch.ones(2)}, "spikingjelly", "'1.w' has 2 values, but what '1' trains has 1",
    ),
    "number of layers": (
        small, layer(2, 3, at="a") | layer(2, 2, at="b"), "norse", "2 layers with entries there, a, b, and 1 here, 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_place_is_refused_and_nothing_changes(name: str) -> None:
    make, theirs, library, message = REFUSED[name]
    module = make()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    shown = repr(module)
    with pytest.raises(NetworkError, match=message):
        load_state_dict(module, theirs, library=library)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items()) and repr(module) == shown


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match="library"):
        load_state_dict(small(), {}, library="brian")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tensors by name"):
        load_state_dict(small(), {"state_dict": {}}, library="norse")  # type: ignore[dict-item]
    with pytest.raises(NetworkError, match="speaks of 'b'"):
        load_state_dict(small(), layer(2, 3), library="norse", names={"0": "b"})
