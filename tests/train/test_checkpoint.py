"""A checkpoint comes back as it went, and there is a whole one on disk at every moment."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from spikewright._util.files import write_atomically
from spikewright.errors import CheckpointError
from spikewright.train.checkpoint import FORMAT, _digest, load, save
from tests.train.support import same

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


def back(folder: Path, value: Any) -> Any:
    path = folder / "some.safetensors"
    save(path, {"value": value})
    return load(path)["value"]


VALUES: dict[str, Any] = {
    "nothing": None,
    "truth": [True, False, 1, 0, 1.0, 0.0],
    "integers": [0, -1, 2**63, -(2**70)],
    "floats": [0.1, -0.0, 1e-320, float("inf"), float("-inf"), float("nan")],
    "text": ["", "é ñ 漢", 'quote " and \\ and \n', "\x00"],
    "empty": [{}, [], (), [[]], {"a": {}}],
    "kinds of sequence": [(1, [2, (3,)]), [], (None, "a")],
    "kinds of key": {1: "int", "1": "text", 2.5: "float", None: "none", (1, 2): "tuple"},
    "order": {"z": 1, "a": 2, "m": 3},
    "names the format uses": {"tensor": "0", "map": [], "list": {"tuple": 1}, "format": {"digest": "", "rest": ""}},
    "like an optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
}


@pytest.mark.parametrize("name", VALUES)
def test_plain_values_come_back(tmp_path: Path, name: str) -> None:
    assert same(back(tmp_path, VALUES[name]), VALUES[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3, 4)], ids=str)
def test_tensors_come_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.rand(shape) * 9 - 4).to(dtype)
    assert same(back(tmp_path, tensor), tensor)


def test_tensors_have_the_names_of_their_places(tmp_path: Path) -> None:
    save(tmp_path / "some.safetensors", {"parts": {"model": {"0.weight": torch.ones(2)}}, "lists": [(torch.ones(1),)]})
    with safe_open(tmp_path / "some.safetensors", "pt") as file:
        assert set(file.keys()) == {"parts.model.0.weight", "lists.0.0"}


def test_tensors_whose_names_would_be_the_same_come_back(tmp_path: Path) -> None:
    x = torch.arange(6.0)
    value = {"a.b": x[:1], "a": {"b": x[1:2], "b#": x[2:3]}, 1: x[3:4], "1": x[4:5]}
    assert same(back(tmp_path, value), value)
    for top in ({"__metadata__": x}, {"": x}, {"": {"": x}}):
        save(tmp_path / "some.safetensors", top)
        assert same(load(tmp_path / "some.safetensors"), top)


def test_a_checkpoint_with_numbers_for_names_opens(tmp_path: Path) -> None:
    rest, tensors = '{"map": [["weight", {"tensor": "0"}]]}', {"0": torch.ones(2)}
    metadata = {"format": FORMAT, "rest": rest, "digest": _digest(rest, tensors)}
    save_file(tensors, tmp_path / "some.safetensors", metadata)
    assert same(load(tmp_path / "some.safetensors"), {"weight": torch.ones(2)})


def test_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    tensor = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    assert same(back(tmp_path, tensor), tensor)


def views() -> dict[str, Tensor]:
    base = torch.arange(12.0).view(3, 4)
    return {"transposed": base.T, "strided": base[:, ::2], "expanded": base[:1].expand(3, 4), "same": base}


def test_views_and_shared_storage_come_back(tmp_path: Path) -> None:
    found = back(tmp_path, views())
    assert same(found, views())
    found["same"][0, 0] = 7
    assert found["transposed"][0, 0] == 0


def test_a_tensor_leaves_its_graph_and_is_copied(tmp_path: Path) -> None:
    leaf = torch.ones(2, requires_grad=True)
    found = back(tmp_path, [leaf, leaf * 2])
    assert not any(t.requires_grad for t in found) and leaf.requires_grad


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", torch.float32])
def test_what_would_need_code_to_come_back_is_not_kept(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=f"tensors and plain values, not {type(value).__name__}"):
        save(tmp_path / "some.safetensors", {"value": value})
    assert not list(tmp_path.iterdir())


def fail(*args: Any, **kwargs: Any) -> None:
    raise OSError(28, "No space left on device")


def interrupt(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


WRITING = [(os, "fsync"), (Path, "replace")]


@pytest.mark.parametrize(("where", "name"), WRITING, ids=[name for _, name in WRITING])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    path = tmp_path / "some.safetensors"
    save(path, {"value": 1})
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail)
        with pytest.raises(CheckpointError, match=r"some.safetensors cannot be written: No space left on device"):
            save(path, {"value": 2})
    assert load(path) == {"value": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["some.safetensors"]


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "some", b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "some", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("some", b"old")]


def test_the_new_file_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        calls.append(f"{os.fstat(handle).st_size} bytes synced")
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        calls.append(f"{target.name} replaced, same folder: {self.parent == target.parent}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomically(tmp_path / "some", b"four")
    assert calls == ["4 bytes synced", "some replaced, same folder: True"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/some.safetensors cannot be written: No such file"):
        save(tmp_path / "nowhere" / "some.safetensors", {})


def test_reading_uses_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "some.safetensors", {"value": torch.tensor([1.0, 2.0])})
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, interrupt)
    assert load(tmp_path / "some.safetensors")["value"].tolist() == [1.0, 2.0]
