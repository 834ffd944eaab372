"""Nodes with a current, read, against a program of a few lines; and faults in what is read or written are found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import NetworkError
from spikewright.interop.nir import exporting, from_nir, interpreter, nodes, to_nir, writing
from spikewright.interop.nir.constants import Constants
from spikewright.interop.nir.graph import Node
from tests.interop.nir.graphs import Content, cuba, graph

DT = 1e-3
CONSTANTS = {"tau_syn": 2e-3, "tau_mem": 7e-3, "r": 1.7, "w_in": 2.3, "v_leak": -0.4}
FIRING = {"v_threshold": 0.5, "v_reset": -0.4}


def content(kind: str) -> Content:
    return graph(
        1, 1, {"n": cuba(kind, 1, **({**CONSTANTS, **FIRING} if kind == "CubaLIF" else {**CONSTANTS, "v_leak": 0}))}
    )


def drawn() -> torch.Tensor:
    return 0.6 + 1.5 * torch.randn(80, 1, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def program(kind: str, x: torch.Tensor, exact: bool) -> list[float]:
    """The equations of NIR with numbers: the current first, then the potential with the new current."""
    kept, share = (np.exp(-1 / 2), np.exp(-1 / 7)) if exact else (1 - 1 / 2, 1 - 1 / 7)
    rest = -0.4 if kind == "CubaLIF" else 0.0
    c, v, sent = 0.0, rest, []
    for current in x.flatten().tolist():
        c = kept * c + (1 - kept) * 2.3 * current
        v = share * v + (1 - share) * (rest + 1.7 * c)
        sent.append(float(v > 0.5) if kind == "CubaLIF" else v)
        v = -0.4 if kind == "CubaLIF" and v > 0.5 else v
    return sent


def read(kind: str, x: torch.Tensor, **how: Any) -> list[float]:
    with torch.no_grad():
        return sw.Network(from_nir(content(kind), dt=DT, **how)).run(x)[0].flatten().tolist()


@pytest.mark.parametrize("decay", ["euler", "exact"])
@pytest.mark.parametrize("kind", ["CubaLIF", "CubaLI"])
def test_what_is_read_is_its_equation(kind: str, decay: str, float64: None) -> None:
    x = drawn()
    expected = program(kind, x, decay == "exact")
    assert kind == "CubaLI" or 10 < sum(expected) < 60
    np.testing.assert_allclose(read(kind, x, decay=decay), expected, rtol=1e-10)


def changed(found: Constants, name: str) -> Constants:
    assert found.current is not None
    leak, gain = found.current
    r, w_in = 1.7, 2.3
    if name == "taus":
        return replace(found, leak=leak, gain=r * (1 - leak), current=(found.leak, w_in * (1 - found.leak)))
    return {
        "w_in": replace(found, current=(leak, gain / w_in)),
        "r": replace(found, gain=found.gain / r),
        "unscaled": replace(found, current=(leak, gain / (1 - leak))),
        "no_current": replace(found, current=(0 * leak, 0 * gain + w_in)),
    }[name]


READ = [(kind, fault) for kind in ("CubaLIF", "CubaLI") for fault in ("taus", "w_in", "r", "unscaled", "no_current")]
READ.remove(("CubaLI", "taus"))  # without spikes, two filters in a row may be exchanged


@pytest.mark.parametrize(("kind", "fault"), READ)
def test_a_fault_in_what_is_read_is_found(
    kind: str, fault: str, monkeypatch: pytest.MonkeyPatch, float64: None
) -> None:
    x, right = drawn(), nodes.constants_of
    monkeypatch.setattr(nodes, "constants_of", lambda *args: changed(right(*args), fault))
    assert not np.allclose(read(kind, x), program(kind, x, False), rtol=1e-4)


def swapped(node: Node) -> None:
    node.values["tau_syn"], node.values["tau_mem"] = node.values["tau_mem"], node.values["tau_syn"]


def times(key: str, factor: float) -> Callable[[Node], None]:
    def change(node: Node) -> None:
        node.values[key] = (node.values[key] * factor).astype(np.float32)

    return change


def plus(key: str, amount: float) -> Callable[[Node], None]:
    def change(node: Node) -> None:
        node.values[key] = (node.values[key] + amount).astype(np.float32)

    return change


FAULTS: dict[str, Callable[[Node], None]] = {
    "taus_swapped": swapped,
    "w_in_dropped": lambda node: node.values.update(w_in=np.ones_like(node.values["w_in"])),
    "r_ignored": lambda node: node.values.update(r=np.ones_like(node.values["r"])),
    "tau_syn": times("tau_syn", 1.02),
    "tau_mem": times("tau_mem", 1.02),
    "w_in": times("w_in", 1.02),
    "v_leak": plus("v_leak", 0.05),
}
NEURONS: dict[str, Callable[[], nn.Module]] = {
    "CubaLIF": lambda: sw.CUBALIF(7.0, 3.0, reset="zero"),
    "CubaLI": lambda: sw.LI(7.0, tau_syn=3.0),
}


def written(kind: str, folder: Path) -> None:
    try:
        to_nir(
            nn.Sequential(nn.Linear(6, 8), NEURONS[kind]()), torch.zeros(5, 1, 6), folder / "n.nir", dt=1e-4, readers=()
        )
    finally:
        assert not (folder / "n.nir").exists()


WRITTEN = [(kind, fault) for kind in NEURONS for fault in FAULTS if (kind, fault) != ("CubaLI", "taus_swapped")]


@pytest.mark.parametrize(("kind", "fault"), WRITTEN)
def test_a_constant_that_is_written_wrongly_is_found(
    kind: str, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def spelled(*args: Any) -> Any:
        made = writing.spelled(*args)
        FAULTS[fault](next(node for node in made.nodes.values() if node.kind == kind))
        return made

    monkeypatch.setattr(exporting, "spelled", spelled)
    with pytest.raises(NetworkError, match="to_nir wrote"):
        written(kind, tmp_path)


@pytest.mark.parametrize("kind", NEURONS)
def test_a_potential_that_moves_before_the_current_is_found(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = interpreter._Run._moved

    def early(run: Any, name: str, node: Node, x: Any, low: Any) -> Any:
        """Move the potential with the current of the last step."""
        before = run.c.get(name, np.zeros_like(x))
        after = right(run, name, node, x, low)
        return after - run.dt / node.array("tau_mem") * node.array("r") * (run.c[name] - before)

    monkeypatch.setattr(interpreter._Run, "_moved", early)
    with pytest.raises(NetworkError, match="to_nir wrote"):
        written(kind, tmp_path)
