"""What NIR cannot say is refused by its name, and leaves no file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import ConfigError, NetworkError, ShapeError
from spikewright.interop.nir import exporting, running, to_nir, writing
from spikewright.interop.nir.graph import Node
from spikewright.interop.nir.library import writer
from tests.interop.nir.nets import count_if, lif


def mlp(neuron: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), neuron)


class Net(nn.Module):
    """A layer and neurons, with something in between."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.neuron, self.between = nn.Linear(6, 8), lif(), between

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.between(self, self.layer(x)))


def of(between: Callable[[Tensor], Tensor]) -> nn.Module:
    return Net(lambda _, x: between(x))


def in_place(x: Tensor) -> Tensor:
    y = x.view(len(x), 8)
    x += 1.0 * y
    return y


OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "relu": (F.relu, "the operation torch.nn.functional.relu"),
    "tanh": (torch.tanh, "the operation torch.tanh"),
    "method": (lambda x: x.abs(), "the operation torch.Tensor.abs"),
    "indexing": (lambda x: x[:, [1, 0, 2, 3, 4, 5, 6, 7]], "the operation torch.Tensor.__getitem__"),
    "concatenation": (lambda x: torch.cat([x[:, :4], x], 1)[:, :8], "the operation torch.Tensor.__getitem__"),
    "cat": (lambda x: torch.cat([x, x], 1), "the operation torch.cat"),
    "constant": (lambda x: x + 0.5, r"a sum of what depends on the input of shape \[1, 8\] and a constant"),
    "reversed": (lambda x: 0.5 - x, r"a sum of a constant .0.5. and what depends on the input"),
    "axis": (lambda x: x.view(len(x), 8, 1), "view from .* Flatten joins"),
    "weights": (lambda x: F.linear(x, torch.eye(8), x[0] * 0) * 1, "the operation torch.Tensor.__getitem__"),
    "product": (lambda x: x * x, "a product or quotient of tensors that depend on the input"),
    "quotient": (lambda x: 1 / x, "a product or quotient of tensors|the operation"),
    "data": (lambda x: x.data, "the operation torch.Tensor.data.__get__"),
    "permutation": (lambda x: x.view(len(x), 2, 4).transpose(1, 2).flatten(1), "view from .* Flatten joins"),
    "half": (lambda x: x.half().float(), "the operation torch.Tensor.half"),
    "in_place": (in_place, "an operation in place on a tensor of which there is a view"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_without_a_node_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    between, message = OPERATIONS[name]
    with pytest.raises(NetworkError, match=message):
        refused(of(between), tmp_path)


def refused(net: nn.Module, folder: Path, x: Tensor | None = None) -> None:
    try:
        to_nir(net, torch.randn(5, 1, 6) if x is None else x, folder / "net.nir", dt=1e-4, readers=())
    finally:
        assert not (folder / "net.nir").exists()


class Doubled(sw.LIF):
    """Sends each spike twice as strong."""

    def scan(self, x: Tensor, state: Any, through_time: bool) -> Any:
        spikes, state = super().scan(x, state, through_time)
        return 2 * spikes, state


class Sum(sw.LI):
    """Sends a sum of its potential and its input."""

    def scan(self, x: Tensor, state: Any, through_time: bool) -> Any:
        potentials, state = super().scan(x, state, through_time)
        return potentials + x, state


class Potential(nn.Module):
    """Returns a potential beside spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = nn.Linear(6, 8), lif(potential="before reset")

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.layer(x))[1]


MODULES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "soft": (lambda: mlp(sw.LIF()), "'1' .LIF. with reset='subtract'.*forgets what was above the threshold"),
    "amplitude": (lambda: mlp(lif(amplitude=2.0)), "other values than 0 and 1 .amplitude=2.0, noise=0.0."),
    "noise": (lambda: mlp(lif(noise=0.1)), "amplitude=1.0, noise=0.1"),
    "late": (lambda: mlp(sw.LIF(reset="late")), "with reset='late'.*takes the threshold off a step later"),
    "soft_current": (lambda: mlp(sw.CUBALIF()), "'1' .CUBALIF. with reset='subtract'"),
    "adaptive": (lambda: mlp(sw.ALIF(reset="zero")), "'1' .ALIF. with a threshold that moves with its spikes"),
    "counts": (lambda: mlp(sw.LIF(max_spikes=3)), "with max_spikes=3.*at most one spike in a step"),
    "bound": (lambda: mlp(lif(lower_bound=-1.0)), "with lower_bound=-1.0.*no lower bound"),
    "tuple": (Potential, "with potential='before reset'.*a node of NIR has one output"),
    "lossless": (
        lambda: mlp(sw.LI(None, tau_syn=2.0)),
        "'1' .LI. with a synaptic current and a potential without leak",
    ),
    "own_scan": (lambda: mlp(Doubled()), "'1' .Doubled..*it has a scan of its own, and nothing says which equation"),
    "own_integrator": (lambda: mlp(Sum()), "'1' .Sum..*it has a scan of its own"),
    "norm_in_training": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), lif()), r"Call net.eval\(\) first"),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), lif()), r"dropout in training.*net.eval\(\)"),
    "step_dropout": (lambda: nn.Sequential(nn.Linear(6, 8), sw.layers.StepDropout(), lif()), r"StepDropout.*net.eval"),
    "layer_norm": (lambda: nn.Sequential(nn.LayerNorm(6), lif()), "the operation .*layer_norm"),
    "shared_delay": (
        lambda: nn.Sequential(nn.Linear(6, 8), sw.SynapticDelay(8, 4, 1.5, rounding=False), lif()),
        "SynapticDelay with rounding=False",
    ),
    "circular": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), lif()),
        "the operation .*pad",
    ),
    "several_axes": (
        lambda: nn.Sequential(nn.Linear(6, 8), lif()),
        r"a linear layer over input of shape \[batch, 2, 6\]",
    ),
    "max_pool": (lambda: nn.Sequential(nn.MaxPool1d(2), lif()), "the operation .*max_pool1d"),
}


OVER_AXES = ("circular", "several_axes", "max_pool")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_without_a_node_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    make, message = MODULES[name]
    with pytest.raises(NetworkError, match=message):
        refused(make(), tmp_path, torch.randn(5, 4, *((2, 6) if name in OVER_AXES else (6,))))


def test_an_operation_that_is_recorded_wrongly_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Here a handler takes the absolute value for one that changes nothing."""
    monkeypatch.setitem(running.HANDLERS, Tensor.abs, running.HANDLERS[Tensor.contiguous])
    with pytest.raises(NetworkError, match="the neurons of 'neuron' as a node that does not fire as they do"):
        refused(of(lambda x: x.abs()), tmp_path, 3 * torch.randn(30, 2, 6))


def later(node: Node, key: str, change: Callable[[Any], Any]) -> None:
    node.values[key] = change(node.values[key]).astype(node.values[key].dtype)


FAULTS: dict[str, Callable[[Node], None]] = {
    "threshold": lambda node: later(node, "v_threshold", lambda value: np.round(value, 3)),
    "tau": lambda node: later(node, "tau", lambda value: value * 1.02),
    "r": lambda node: later(node, "r", lambda value: value * 1.02),
    "v_reset": lambda node: later(node, "v_reset", lambda value: value + 0.05),
    "v_leak": lambda node: later(node, "v_leak", lambda value: value + 0.05),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_constant_that_is_written_wrongly_is_found_on_silent_input(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def spelled(*args: Any) -> Any:
        graph = writing.spelled(*args)
        for node in graph.nodes.values():
            if node.kind == "LIF":
                FAULTS[fault](node)
        return graph

    monkeypatch.setattr(exporting, "spelled", spelled)
    with pytest.raises(NetworkError, match="to_nir wrote"):
        refused(mlp(lif()), tmp_path, torch.zeros(5, 1, 6))


@pytest.mark.parametrize("dt", [0.0, -1.0, float("nan"), "1e-4", None])
def test_dt_is_a_positive_number(dt: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dt"):
        to_nir(mlp(count_if()), torch.randn(5, 1, 6), tmp_path / "net.nir", dt=dt)


def test_other_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"\[time, batch, \*feature\]"):
        to_nir(mlp(count_if()), torch.randn(5, 6), tmp_path / "net.nir", dt=1e-4)
    with pytest.raises(ConfigError, match="readers='lava'"):
        to_nir(mlp(count_if()), torch.randn(5, 1, 6), tmp_path / "net.nir", dt=1e-4, readers=["lava"])


def test_a_nir_without_metadata_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nir = pytest.importorskip("nir")

    @dataclass
    class Input:
        input_type: Any

    monkeypatch.setattr(nir, "Input", Input)
    with pytest.raises(ImportError, match=r"metadata of nodes, and the installed nir .* Install nir 1.0.8"):
        writer()
