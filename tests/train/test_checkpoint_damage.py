"""A file that is not a sound checkpoint is refused before anything of it is used."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spikewright.errors import CheckpointError
from spikewright.train import build, configure, train_experiment
from spikewright.train.checkpoint import FORMAT, _digest, load, save
from tests.train.support import TINY, same, trained


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    save(path, {"weight": torch.arange(4.0), "step": 3, "name": "a"})
    return path


def parts(data: bytes) -> tuple[Any, bytes]:
    """The header of a safetensors file, and its tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def with_metadata(data: bytes, **entries: str | None) -> bytes:
    header, tensors = parts(data)
    header["__metadata__"] |= entries
    header["__metadata__"] = {k: v for k, v in header["__metadata__"].items() if v is not None}
    return joined(header, tensors)


def edited_rest(data: bytes) -> bytes:
    rest = parts(data)[0]["__metadata__"]["rest"]
    assert "3" in rest
    return with_metadata(data, rest=rest.replace("3", "4"))


def renamed_tensor(data: bytes) -> bytes:
    header, tensors = parts(data)
    header["bias"] = header.pop("weight")
    return joined(header, tensors)


def as_integers(data: bytes) -> bytes:
    header, tensors = parts(data)
    header["weight"]["dtype"] = "I32"
    return joined(header, tensors)


def reshaped(data: bytes) -> bytes:
    header, tensors = parts(data)
    header["weight"]["shape"] = [2, 2]
    return joined(header, tensors)


ALTERED = "was altered after it was written.*Nothing was loaded"
BROKEN = r"\(\d+ bytes\) is truncated or not a safetensors file"
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a tensor byte": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), ALTERED),
    "the plain values": (edited_rest, ALTERED),
    "no plain values": (lambda data: with_metadata(data, rest=None), ALTERED),
    "the digest": (lambda data: with_metadata(data, digest="0" * 64), ALTERED),
    "no digest": (lambda data: with_metadata(data, digest=None), ALTERED),
    "the name of a tensor": (renamed_tensor, ALTERED),
    "the dtype of a tensor": (as_integers, ALTERED),
    "the shape of a tensor": (reshaped, ALTERED),
    "another format": (lambda data: with_metadata(data, format="pt"), f"its format is 'pt', not '{FORMAT}'"),
    "no format": (lambda data: with_metadata(data, format=None), "not a checkpoint of this library"),
    "half": (lambda data: data[: len(data) // 2], BROKEN),
    "all but the last byte": (lambda data: data[:-1], BROKEN),
    "more": (lambda data: data + b"\0", BROKEN),
    "empty": (lambda data: b"", BROKEN),
    "noise": (lambda data: bytes(range(256)) * 8, BROKEN),
    "text": (lambda data: b"[rule]\nname = 'ottt'\n", BROKEN),
    "a pickle": (lambda data: pickle.dumps({"weight": [1.0]}), BROKEN),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(sound: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    sound.write_bytes(damage(sound.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"(?s)some.safetensors.*{message}"):
        load(sound)


def test_every_single_byte_counts(sound: Path) -> None:
    data = sound.read_bytes()
    for at in range(len(data)):
        sound.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CheckpointError):
            load(sound)


def test_every_truncation_is_refused(sound: Path) -> None:
    data = sound.read_bytes()
    for size in range(len(data)):
        sound.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=BROKEN):
            load(sound)


def test_the_untouched_file_is_read(sound: Path) -> None:
    sound.write_bytes(joined(*parts(sound.read_bytes())))
    assert same(load(sound), {"weight": torch.arange(4.0), "step": 3, "name": "a"})


def test_weights_of_another_program_are_told_from_a_checkpoint(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of this library.*load_state_dict"):
        load(tmp_path / "foreign.safetensors")


def test_a_file_of_torch_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        load(tmp_path / "last.safetensors")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [lambda p, o: p.write_bytes(pickle.dumps(o)), lambda p, o: torch.save(o, p)])
def test_code_in_a_file_is_not_run(tmp_path: Path, write: Callable[[Path, Any], Any]) -> None:
    write(tmp_path / "last.safetensors", Trap(tmp_path / "sprung"))
    with pytest.raises(CheckpointError):
        load(tmp_path / "last.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_what_is_not_there(tmp_path: Path, sound: Path) -> None:
    for path in (tmp_path / "missing.safetensors", sound / "last.safetensors"):
        with pytest.raises(CheckpointError, match=f"There is no checkpoint {path}"):
            load(path)


def test_what_cannot_be_read_is_not_called_damaged(
    tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path, "a directory"), (tmp_path / "pipe", "a named pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(CheckpointError, match=rf"{path} cannot be read: it is {why}, not a regular file\. Nothing"):
            load(path)

    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(CheckpointError, match=r"cannot be read: Permission denied\. Nothing is known of what it holds"):
        load(sound)


def signed(data: bytes, rest: str) -> bytes:
    """A checkpoint with other contents and their digest, which anyone can compute."""
    return with_metadata(data, rest=rest, digest=_digest(rest, {"weight": torch.arange(4.0)}))


@pytest.mark.parametrize(
    "rest",
    ["{", "[" * 100_000, '{"map": 3}', '{"tensor": "7"}', '{"tensor": []}', '{"list": [], "map": []}', "{}",
     '{"complex": "weight"}', '{"map": [[1]]}', '{"map": [[{"list": []}, 1]]}', "9" * 5000,
     '{"list": ' * 5000 + "1" + "}" * 5000],
)  # fmt: skip
def test_contents_of_another_kind_are_refused(sound: Path, rest: str) -> None:
    sound.write_bytes(signed(sound.read_bytes(), rest))
    with pytest.raises(CheckpointError, match=r"does not hold what this library writes"):
        load(sound)


def test_a_damaged_checkpoint_changes_nothing_in_the_experiment(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    path = tmp_path / "run" / "last.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    fresh, reference = (build(configure(TINY)) for _ in range(2))
    before = torch.get_rng_state()
    with pytest.raises(CheckpointError, match="altered"):
        train_experiment(fresh, tmp_path / "run", resume=True)
    assert same(fresh.net.module.state_dict(), reference.net.module.state_dict())
    assert same(fresh.optimizer.state_dict(), reference.optimizer.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
