"""Frames on disk: found again, never those of others, never half ones, and whole when several write at once."""

import multiprocessing
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import spikewright.events.cache as module
from spikewright.data import Sequences
from spikewright.errors import ConfigError, DatasetCorrupt, InputError, ShapeError
from spikewright.events import ByBins, ByDuration, Decayed, Events, Frames, InMemory, cached, framed
from spikewright.events.sparse import Entries

MODE = ByDuration(50)


class Recordings:
    """A few streams, and how often one was read."""

    def __init__(self, seeds: range = range(1, 6), digest: str = "a") -> None:
        self.seeds, self.digest, self.reads = seeds, digest, 0

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> tuple[Events, int]:
        self.reads += 1
        draw = np.random.default_rng(self.seeds[index])
        n = int(draw.integers(0, 100))
        where = draw.integers(0, 4, n), draw.integers(0, 3, n), draw.integers(0, 2, n)
        return Events(draw.integers(0, 500, n), *where, height=3, width=4), index % 2


def same(a: Sequences, b: Sequences) -> bool:
    names = ("steps", "starts", "places", "values", "labels")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return a.feature == b.feature and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def file_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_frames_of_a_data_set_are_those_of_its_recordings() -> None:
    recordings = Recordings()
    data = framed(recordings, MODE)
    x, lengths = data.batch(torch.arange(5))
    for number in range(5):
        frames = MODE.dense(recordings[number][0])
        assert len(frames) == lengths[number] and torch.equal(x[: len(frames), number], frames)
        assert not x[len(frames) :, number].any()
    assert data.labels.tolist() == [0, 1, 0, 1, 0] and data.values.dtype == torch.uint8


def test_a_batch_may_repeat_and_reorder_recordings_and_have_another_type() -> None:
    data, order = framed(Recordings(), MODE), torch.tensor([3, 0, 3, 4])
    x, lengths = data.batch(order, torch.float64)
    for row, number in enumerate(order.tolist()):
        frames = MODE.dense(Recordings()[number][0]).double()
        assert torch.equal(x[: lengths[row], row], frames) and not x[lengths[row] :, row].any()
    with pytest.raises(InputError, match="indices from 0 to 5"):
        data.batch(torch.tensor([0, 5]))


def test_one_large_count_widens_the_type_of_all() -> None:
    def at_one_pixel(number: int) -> Events:
        return Events(*np.zeros((4, number), np.int64), height=1, width=1)

    data = framed(InMemory((at_one_pixel(3), at_one_pixel(40_000), at_one_pixel(300)), (0, 1, 0)), ByBins(1))
    assert data.values.dtype == torch.float32 and data.values.tolist() == [3, 40_000, 300]


def test_frames_are_made_once_and_found_again(tmp_path: Path) -> None:
    for mode in (MODE, Decayed(MODE, 30.0)):
        recordings = Recordings()
        made = cached(recordings, mode, tmp_path / "new" / "folder")
        assert recordings.reads == 5
        assert same(cached(recordings, mode, tmp_path / "new" / "folder"), made) and recordings.reads == 5
        assert same(made, framed(Recordings(), mode))


def test_a_stale_cache_is_never_read(tmp_path: Path) -> None:
    modes: list[Frames] = [MODE, ByDuration(51), ByDuration(50, last="drop"), ByDuration(50, size=(3, 3))]
    modes += [ByDuration(50, polarity="merged"), ByDuration(50, clip=1), ByDuration(50, start="zero"), ByBins(50)]
    modes += [Decayed(MODE, 30.0), Decayed(MODE, 31.0), Decayed(ByDuration(51), 30.0)]
    recordings = Recordings(range(30, 33))
    for mode in modes:
        assert same(cached(recordings, mode, tmp_path), framed(Recordings(range(30, 33)), mode))
    assert recordings.reads == 3 * len(modes) == 3 * len(list(tmp_path.iterdir()))
    others = Recordings(range(40, 43), digest="b")
    assert same(cached(others, MODE, tmp_path), framed(others, MODE)) and others.reads == 6


def test_another_version_of_the_format_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = Recordings()
    cached(recordings, MODE, tmp_path)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    cached(recordings, MODE, tmp_path)
    assert recordings.reads == 10


def test_a_file_that_is_cut_anywhere_is_made_anew(tmp_path: Path) -> None:
    made = cached(Recordings(), MODE, tmp_path)
    path = file_in(tmp_path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match="damaged frames"):
            assert same(cached(Recordings(), MODE, tmp_path), made)
        assert path.read_bytes() == whole


def test_one_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    made = cached(Recordings(), MODE, tmp_path)
    path = file_in(tmp_path)
    whole = path.read_bytes()
    for place in range(len(module._MAGIC), len(whole), 53):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.warns(UserWarning, match="damaged frames"):
            assert same(cached(Recordings(), MODE, tmp_path), made)


def test_a_file_of_other_recordings_under_this_name_is_not_read(tmp_path: Path) -> None:
    cached(Recordings(), MODE, tmp_path)
    path = file_in(tmp_path)
    other = cached(Recordings(range(7, 12), digest="b"), MODE, tmp_path / "b")
    path.write_bytes(file_in(tmp_path / "b").read_bytes())
    with pytest.warns(UserWarning, match="those of others"):
        assert not same(cached(Recordings(), MODE, tmp_path), other)


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    cached(Recordings(), MODE, tmp_path)
    path = file_in(tmp_path)
    path.write_bytes(b"my thesis")
    with pytest.raises(DatasetCorrupt, match="begins with b'my thesis'"):
        cached(Recordings(), MODE, tmp_path)
    assert path.read_bytes() == b"my thesis"
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetCorrupt, match="a directory"):
        cached(Recordings(), MODE, tmp_path)


def test_frames_from_the_cache_may_be_written_to(tmp_path: Path) -> None:
    cached(Recordings(), MODE, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached(Recordings(), MODE, tmp_path).values[0] = 9
    assert same(cached(Recordings(), MODE, tmp_path), framed(Recordings(), MODE))


def test_a_digest_may_be_a_method(tmp_path: Path) -> None:
    recordings = Recordings()
    recordings.digest = lambda: "a"  # pyright: ignore[reportAttributeAccessIssue]
    assert same(cached(recordings, MODE, tmp_path), cached(Recordings(), MODE, tmp_path))


def test_what_is_left_of_a_killed_write_is_removed(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    import socket

    (tmp_path / f".frames-x.bin.{socket.gethostname()}.{child}.00000000.part").write_bytes(b"half")
    cached(Recordings(), MODE, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".bin"]


def _write(folder: Path, start: "multiprocessing.Barrier") -> bool:  # pyright: ignore[reportGeneralTypeIssues]
    torch.set_num_threads(1)
    start.wait()
    for _ in range(20):
        for path in folder.glob("*.bin"):
            path.unlink(missing_ok=True)
        try:
            if not same(cached(Recordings(), MODE, folder), framed(Recordings(), MODE)):
                os._exit(1)
        except DatasetCorrupt as error:  # taken away between the question and the reading
            if "No such file" not in str(error):
                os._exit(2)
    os._exit(0)


@pytest.mark.long
def test_two_processes_at_once_leave_whole_frames(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    both = [context.Process(target=_write, args=(tmp_path, start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    cached(Recordings(), MODE, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".bin"]


@dataclass(frozen=True)
class Odd(Frames):
    setting: object

    def feature(self, events: Events) -> tuple[int, int, int]:
        return 1, 1, 1

    def entries(self, events: Events) -> Entries:
        return 1, np.zeros(1, np.int64), np.ones(1, np.uint8)


class Loose(Odd):
    pass


def test_a_mode_whose_settings_are_not_known_is_refused(tmp_path: Path) -> None:
    assert len(cached(Recordings(), Odd((1, "a", None)), tmp_path)) == 5
    with pytest.raises(ConfigError, match="frozen dataclass"):
        cached(Recordings(), Odd([1]), tmp_path)
    with pytest.raises(ConfigError, match="digest ''"):
        cached(Recordings(digest=""), MODE, tmp_path)
    with pytest.raises(ConfigError, match="mode"):
        cached(Recordings(), "ByBins", tmp_path)  # pyright: ignore[reportArgumentType]


def test_recordings_that_cannot_be_framed_are_named() -> None:
    with pytest.raises(InputError, match=r"Recording 0 \(label 0\).*does not fill one window"):
        framed(Recordings(), ByDuration(10**6, last="drop"))
    with pytest.raises(InputError, match="no recordings"):
        framed(Recordings(range(0)), MODE)
    small = Events(*np.zeros((4, 1), np.int64), height=3, width=4)
    large = Events(*np.zeros((4, 1), np.int64), height=50, width=50)
    with pytest.raises(ShapeError, match=r"recording 1 with frames of shape \[2, 50, 50\]"):
        framed(InMemory((small, large), (0, 1)), MODE)
