"""Paths, files and inputs: refused by name before anything is computed, and an earlier file stays whole."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, InputError, NetworkError, ShapeError, SpikewrightError
from spikewright.interop.nir import exporting, from_nir, to_nir
from tests.interop.nir.graphs import Content, affine, conv2d, cuba, graph, integrate, leaky, lif, node, written
from tests.interop.nir.nets import lif as neuron

DT = 1e-3


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), neuron())


def export(path: Any, module: nn.Module | None = None, x: Any = None, **more: Any) -> Any:
    x = torch.randn(6, 2, 6) if x is None else x
    options: dict[str, Any] = {"dt": DT, "readers": (), **more}
    return to_nir(module or net(), x, path, **options)


@pytest.fixture
def uncomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the network is run."""

    def run(*_: Any) -> Any:
        raise AssertionError("the network was run")

    monkeypatch.setattr(exporting, "recorded", run)


@pytest.mark.parametrize("path", [5, None, b"net.nir", ""])
def test_a_path_is_a_text(path: Any, uncomputed: None) -> None:
    with pytest.raises(ConfigError, match=r"to_nir\(path=.*Give a path such as 'net.nir'"):
        export(path)


def test_a_place_where_no_file_can_be_is_refused_first(tmp_path: Path, uncomputed: None) -> None:
    with pytest.raises(ConfigError, match=r"is in the folder '.*/none', which is not there. Make the folder"):
        export(tmp_path / "none" / "net.nir")
    with pytest.raises(ConfigError, match="it is a folder"):
        export(str(tmp_path))
    assert not [*tmp_path.iterdir()]


INPUTS: dict[str, tuple[Any, type[SpikewrightError], str]] = {
    "NaN": (torch.full((4, 1, 6), torch.nan), InputError, r"24 of 24 values .* first at \[0, 0, 0\] .* nan"),
    "infinity": (torch.zeros(4, 1, 6).index_fill(0, torch.tensor(2), torch.inf), InputError, r"at \[2, 0, 0\].*, inf"),
    "whole numbers": (torch.ones(4, 1, 6, dtype=torch.int64), ShapeError, r"x of torch.int64.* Give x.float\(\)"),
    "complex": (torch.ones(4, 1, 6, dtype=torch.complex64), ShapeError, "x of torch.complex64"),
    "bfloat16": (torch.ones(4, 1, 6, dtype=torch.bfloat16), ShapeError, "x of torch.bfloat16"),
    "no step": (torch.ones(0, 1, 6), ShapeError, r"x of shape \[0, 1, 6\].*each at least 1"),
    "no sample": (torch.ones(4, 0, 6), ShapeError, r"x of shape \[4, 0, 6\]"),
    "an array": (np.ones((4, 1, 6)), ShapeError, "x has to be a tensor"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_proves_nothing_is_refused(name: str, tmp_path: Path, uncomputed: None) -> None:
    x, kind, message = INPUTS[name]
    with pytest.raises(kind, match=message):
        export(tmp_path / "net.nir", x=x)


def test_other_arguments_are_checked_first(tmp_path: Path, uncomputed: None) -> None:
    with pytest.raises(ConfigError, match=r"readers=.?norse"):
        export(tmp_path / "net.nir", readers="norse")
    with pytest.raises(ConfigError, match="net=3"):
        export(tmp_path / "net.nir", module=3)  # type: ignore[arg-type]


class Pair(nn.Module):
    """Returns several things."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.neuron, self.kind = nn.Linear(6, 8), neuron(), kind

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x)
        z = self.neuron(y)
        return {"tuple": (z, y), "list": [z], "dict": {"z": z}}[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "list", "dict"])
def test_several_outputs_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=f"output of type {kind} of . that is no .* Return one tensor"):
        export(tmp_path / "net.nir", Pair(kind))


def test_a_potential_beside_spikes_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"with potential='after reset'.*Use potential=None"):
        export(tmp_path / "net.nir", nn.Sequential(nn.Linear(6, 8), neuron(potential="after reset")))


FAILURES = {
    "refused": lambda path: export(path, nn.Sequential(nn.Linear(6, 8), sw.LIF())),
    "bad input": lambda path: export(path, x=torch.full((4, 1, 6), torch.nan)),
    "no dt": lambda path: export(path, dt=-1),
    "two outputs": lambda path: export(path, Pair("tuple")),
}


@pytest.mark.parametrize("name", [*FAILURES, "interrupted", "not proven", "disk"])
def test_an_earlier_file_stays_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.nir"
    export(path)
    before = path.read_bytes()

    def fail(error: BaseException) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            raise error

        return call

    if name == "interrupted":
        monkeypatch.setattr(exporting, "_own_rows", fail(KeyboardInterrupt()))
    if name == "not proven":
        monkeypatch.setattr(exporting, "check_run", fail(NetworkError("planted")))
    if name == "disk":
        monkeypatch.setattr("spikewright.interop.nir.arguments.write_atomically", fail(OSError("No space left")))
    with pytest.raises((SpikewrightError, KeyboardInterrupt)) as caught:
        FAILURES.get(name, export)(path)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    assert name != "disk" or "No space left" in str(caught.value)


def test_a_file_is_replaced_when_all_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.nir"
    path.write_text("precious")
    kept: list[str] = []
    own = exporting._own_rows
    monkeypatch.setattr(exporting, "_own_rows", lambda *args: (kept.append(path.read_text()), own(*args))[1])
    export(path)
    assert kept == ["precious"] and from_nir(path).get_submodule("1") and [*tmp_path.iterdir()] == [path]


def test_a_link_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.nir"
    link.symlink_to(tmp_path / "there" / "net.nir")
    export(link)
    assert link.is_symlink() and from_nir(tmp_path / "there" / "net.nir")


def test_what_is_no_file_of_nir_is_refused(tmp_path: Path) -> None:
    import h5py

    with pytest.raises(ConfigError, match=r"from_nir\(source='.*none.nir'\).*there is no such file"):
        from_nir(tmp_path / "none.nir")
    with pytest.raises(ConfigError, match="that is a folder"):
        from_nir(str(tmp_path))
    whole = written(graph(4, 4, {"n": lif(4)}), tmp_path / "whole.nir")
    for content in (b"garbage", b"", whole.read_bytes()[:500]):
        (tmp_path / "bad.nir").write_bytes(content)
        with pytest.raises(NetworkError, match=r"could not read .*bad.nir .*another kind of file, or not whole"):
            from_nir(tmp_path / "bad.nir", dt=DT)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("node", data=np.ones(3))
    with pytest.raises(NetworkError, match="without the group 'node'"):
        from_nir(os.fspath(tmp_path / "other.h5"), dt=DT)


GRAPHS: dict[str, Content] = {
    "spikes": graph(5, 3, {"a": affine(8, 5), "b": lif(8), "c": affine(3, 8, bias=False), "d": integrate(3)}),
    "currents": graph(5, 8, {"a": affine(8, 5), "b": cuba("CubaLIF", 8), "l": cuba("CubaLI", 8)}),
    "others": graph(
        4,
        4,
        {
            "s": node("Scale", scale=np.ones(4)),
            "d": node("Delay", delay=np.full(4, DT)),
            "t": node("Threshold", threshold=np.ones(4)),
            "l": leaky(4),
            "i": node("I", r=np.ones(4)),
        },
    ),
    "maps": graph((2, 4, 4), 12, {"c": conv2d(3, 2, (3, 3)), "n": integrate((3, 2, 2)), "f": node("Flatten")}),
}
WRONG = ["x", None, np.ones(3), np.array(7.0), -1, [], {}, np.nan, np.ones((2, 3, 4, 5, 6)), 1 + 2j, np.array(["a"])]


@pytest.mark.parametrize("name", GRAPHS)
def test_no_other_error_comes_of_a_graph_with_anything_in_its_place(name: str) -> None:
    """Every parameter, node and edge list in turn is taken out, or replaced by something else."""
    content = GRAPHS[name]
    from_nir(content, dt=DT)
    places: list[tuple[str, ...]] = [("nodes",), ("edges",), ("type",), *(("nodes", n) for n in content["nodes"])]
    places += [("nodes", n, key) for n, held in content["nodes"].items() for key in (*held, "metadata")]
    refused = 0
    for *way, last in places:
        for wrong in [*WRONG, "nothing"]:
            changed = deepcopy(content)
            inner = changed
            for key in way:
                inner = inner[key]
            inner.pop(last, None)
            if not (isinstance(wrong, str) and wrong == "nothing"):
                inner[last] = wrong
            try:
                from_nir(changed, dt=DT)
            except SpikewrightError:
                refused += 1
    assert refused > 0.7 * len(WRONG) * len(places)


def test_a_missing_parameter_is_named() -> None:
    content = deepcopy(GRAPHS["spikes"])
    del content["nodes"]["b"]["tau"]
    with pytest.raises(NetworkError, match=r"'b' \(LIF\) without tau .*r, v_leak, v_reset, v_threshold"):
        from_nir(content, dt=DT)


@pytest.mark.parametrize("dt", ["x", np.ones(2), -1.0, np.nan, 1j])
@pytest.mark.parametrize("asked", [None, DT])
def test_a_dt_in_the_metadata_that_is_none_is_refused(dt: Any, asked: float | None) -> None:
    with pytest.raises(NetworkError, match=r"metadata have dt=.*Take dt out of the metadata"):
        from_nir({**GRAPHS["spikes"], "metadata": {"dt": dt}}, dt=asked)


def doubled(content: Content, edge: tuple[str, str]) -> Content:
    return {**content, "edges": [*content["edges"], edge]}


def test_an_edge_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """As by nir 1.0.8; NIRTorch and snnTorch count it once, and a sum would have it twice."""
    import nir

    content = doubled(GRAPHS["spikes"], ("a", "b"))
    with pytest.raises(NetworkError, match=r"the edge a -> b twice.*a Scale node with 2"):
        from_nir(content, dt=DT)
    path = written(content, tmp_path / "twice.nir")
    with pytest.raises(NetworkError, match="the edge a -> b twice"):
        from_nir(path, dt=DT)
    with pytest.raises(ValueError, match="Duplicate edge"):
        nir.read(path)
    inner = doubled(graph(4, 4, {"n": lif(4)}), ("n", "output"))
    with pytest.raises(NetworkError, match=r"the edge g\.n -> g\.output twice"):
        from_nir(graph(4, 4, {"g": inner}), dt=DT)
    with pytest.raises(NetworkError, match="the edge g -> h twice"):
        from_nir(doubled(graph(4, 4, {"g": graph(4, 4, {"n": lif(4)}), "h": lif(4)}), ("g", "h")), dt=DT)
