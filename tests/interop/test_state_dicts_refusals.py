"""State dicts that a neuron here would compute otherwise: refused by name, and nothing is changed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, NetworkError
from spikewright.interop import load_state_dict, stored_loading
from tests.interop.test_state_dicts import layer, leaky, small

NAN = float("nan")


def late(**more: Any) -> nn.Module:
    return small(sw.LIF(reset="late", strict=True, **more))


def lapicque(**changes: Any) -> dict[str, Tensor]:
    entries = {"R": 5.0, "C": 2.0, "time_step": 1.0, **changes}
    return leaky(0.9) | {f"1.{name}": torch.tensor(value) for name, value in entries.items() if value is not None}


def sinabs(**entries: float) -> dict[str, Tensor]:
    return {f"1.{name}": torch.tensor(value) for name, value in entries.items()}


OUT_OF_RANGE: dict[str, tuple[nn.Module, dict[str, Tensor], Any, str]] = {
    "no leak and a late reset": (late(), leaky(0.0), "snntorch", "'1.beta' .* cannot be loaded into '1'"),
    "leak NaN": (late(), leaky(NAN), "snntorch", r"'1.beta' .* is nan here, for '1', but the share"),
    "trained leak NaN": (late(learn_tau=True), leaky(NAN), "snntorch", "'1.beta' .* is nan here"),
    "trained leak 1": (late(learn_tau=True), leaky(1.0), "snntorch", "'1.beta' is 1 here.*IF()"),
    "trained leak 0": (
        small(sw.LIF(reset="zero", learn_tau=True)), leaky(0.0, reset_mechanism_val=1), "snntorch", "above 1 to be",
    ),
    "threshold -1": (late(), leaky(0.5, threshold=-1.0), "snntorch", "'1.threshold' .* must be above 0"),
    "one threshold 0": (late(), leaky(0.5, threshold=[1.0, 0.0]), "snntorch", "'1.threshold' .* must be above 0"),
    "trained threshold": (late(learn_threshold=True), leaky(0.5, threshold=-1.0), "snntorch", "must be above 0"),
    "least threshold": (late(learn_threshold=True), leaky(0.5, threshold=1e-3), "snntorch", "0.01 at least"),
    "threshold NaN": (late(), leaky(0.5, threshold=NAN), "snntorch", "'1.threshold' .* is nan here"),
    "amplitude 0": (late(), leaky(0.5, graded_spikes_factor=0.0), "snntorch", "'1.graded.* other than 0"),
    "w NaN": (small(sw.LIF(learn_tau=True)), {"1.w": torch.tensor(NAN)}, "spikingjelly", "'1.w' .* is nan"),
    "tau of sinabs": (small(sw.LIF()), sinabs(tau_mem=-3.0), "sinabs", "'1.tau_mem' .* is 1.39561 here"),
    "bound above rest": (small(sw.IF()), sinabs(spike_threshold=1.0, min_v_mem=0.5), "sinabs", "'1.min_v.*at most 0"),
    "no number of a reset": (late(), leaky(0.5, reset_mechanism_val=7), "snntorch", "reset_mechanism=.*7.*, but"),
    "leak of Lapicque": (late(), lapicque(R=0.25), "snntorch", r"'1.time_step' .* is -1 here"),
}  # fmt: skip
OTHERWISE: dict[str, tuple[nn.Module, dict[str, Tensor], Any, str]] = {
    "trained per channel": (
        small(sw.LIF([2.0, 2.0], learn_tau=True, reset="late")), leaky([0.5, 0.25]), "snntorch",
        r"one axis stands for channels here, but for the last axis there.*torch.full\(\[1, 2\], 2.0\)",
    ),
    "gain beside per channel": (
        small(sw.LIF([2.0, 4.0], gain=0.5, reset="late")), leaky([0.5, 0.75]), "snntorch", "its gain may have been",
    ),
    "part of Lapicque": (late(), lapicque(C=None), "snntorch", "Lapicque for '1', but not C"),
    "zero of Lapicque": (
        small(sw.LIF(reset="zero")), lapicque() | {"1.reset_mechanism_val": torch.tensor(1)}, "snntorch",
        "loses the input of that step",
    ),
    "subtract of Lapicque": (small(sw.LIF()), lapicque(), "snntorch", "whose reset comes a step late"),
    "no current there": (small(sw.CUBALIF(reset="late")), leaky(0.5), "snntorch", "'1' has no synaptic current"),
    "no current in ALIF": (small(sw.ALIF(2.0)), sinabs(tau_mem=5.0, tau_syn=3.0), "sinabs", "it has no such decay"),
    "no leak there": (small(sw.LIF()), sinabs(spike_threshold=1.0), "sinabs", "'1' has no leak.* Use IF()"),
    "no bound there": (
        small(sw.IF(lower_bound=-1.0)), sinabs(spike_threshold=1.0), "sinabs", "'1' has no min_v_mem.*lower_bound=None",
    ),
    "bound of a potential": (small(sw.LI()), sinabs(tau_mem=5.0, min_v_mem=-1.0), "sinabs", "has no bound"),
    "first step": (
        small(sw.Recurrent(sw.LIF(), nn.Linear(2, 2), first="bias")),
        sinabs(tau_mem=5.0, spike_threshold=1.0) | layer(2, 2, at="1.rec_connect"), "sinabs",
        "do not get it at the first step.*Use first='nothing'",
    ),
    "no sizes": (nn.Sequential(nn.LazyLinear(2)), {}, "norse", "has no size yet"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*OUT_OF_RANGE, *OTHERWISE])
def test_it_is_refused_and_nothing_changes(name: str) -> None:
    module, entries, library, message = (OUT_OF_RANGE | OTHERWISE)[name]
    lazy = name == "no sizes"
    before = {} if lazy else {key: value.clone() for key, value in module.state_dict().items()}
    shown = repr(module)
    with pytest.raises(NetworkError, match=message):
        load_state_dict(module, layer(2, 3) | entries, library=library)
    assert lazy or all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert repr(module) == shown


def test_a_failure_while_loading_takes_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that no check has seen: here of the last constant, after weights, leak and threshold were set."""
    module: Any = late(gain=1.0)
    first = dict(module.named_parameters())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    shown, attributes = repr(module), set(vars(module[1]))

    def fails(*_: Any) -> None:
        assert isinstance(module[1].threshold, Tensor) and bool((module[0].bias == 1).all())
        raise MemoryError("planted")

    monkeypatch.setattr(stored_loading, "_check_reset", lambda *_: fails)
    theirs = leaky([0.5, 0.25], threshold=[2.0, 3.0], graded_spikes_factor=3.0)
    with pytest.raises(MemoryError, match="planted"):
        load_state_dict(module, layer(2, 3) | dict(sorted(theirs.items())[:2] + sorted(theirs.items())[3:]) |
                        {"1.reset_mechanism_val": torch.tensor(0)}, library="snntorch")  # fmt: skip
    assert repr(module) == shown and set(vars(module[1])) == attributes
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert module.state_dict().keys() == before.keys() and module[1].amplitude == 1.0
    assert all(p is first[name] for name, p in module.named_parameters())
    assert sw.Network(module).run(torch.ones(3, 1, 3))[0].shape == (3, 1, 2)


def test_lapicque_loads_its_leak_and_scale_and_not_its_beta() -> None:
    module: Any = late()
    loaded = load_state_dict(module, layer(2, 3) | lapicque(), library="snntorch")
    assert module[1].leak == pytest.approx(1 - 1 / 10) and module[1].gain == 0.5
    assert {row.theirs: row.ours for row in loaded.rows}["1.beta"] == ""
    load_state_dict(module, layer(2, 3) | lapicque(R=2.0, C=4.0), library="snntorch")  # again, with others
    assert module[1].tau == pytest.approx(8.0) and module[1].gain == 0.25


def test_a_constant_of_every_axis_keeps_its_shape() -> None:
    module: Any = nn.Sequential(nn.Conv2d(1, 4, 3), sw.LIF(reset="late", strict=True))
    threshold = 0.5 + torch.rand(4, 4, 4)
    load_state_dict(module, layer(4, 1, 3, 3) | leaky(torch.rand(4), threshold=threshold), library="snntorch")
    assert module[1].threshold.shape == (4, 4, 4) and module[1].leak.shape == (1, 4)
    assert sw.Network(module).run(torch.rand(2, 3, 1, 6, 6))[0].shape == (2, 3, 4, 4, 4)


@pytest.mark.parametrize("names", ["x", ["a"], {"a": 1}, 3])
def test_names_are_a_dictionary_of_texts(names: Any) -> None:
    with pytest.raises(ConfigError, match=r"load_state_dict\(names=.*Give a dictionary such as"):
        load_state_dict(small(), layer(2, 3), library="norse", names=names)


def test_values_are_dense_real_numbers() -> None:
    for value in (torch.empty(2, 3, device="meta"), torch.zeros(2, 3, dtype=torch.complex64)):
        with pytest.raises(ConfigError, match=r"'0.weight' .*dense real numbers"):
            load_state_dict(small(), {"0.weight": value, "0.bias": torch.ones(2)}, library="norse")


def test_what_is_not_stored_is_named() -> None:
    told = load_state_dict(late(), layer(2, 3) | leaky(0.5), library="snntorch").table()
    assert all(word in told for word in ("inhibition", "state_quant", "reset_delay", "Alpha", "spike_grad"))
