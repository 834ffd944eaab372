"""Data sets of events in the layout of their archives, made small."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from spikewright.errors import ConfigError, DatasetCorrupt, DatasetMissing, InputError
from spikewright.events import Recordings, cifar10_dvs, dvs_gesture, folder, n_mnist, shd, ssc
from spikewright.events.datasets.cifar10_dvs import CLASSES
from tests.events.damaged import rows_of, write_spikes
from tests.events.formats import Row, stream, write_aedat2, write_aedat3, write_dat, write_evt3, write_nmnist

DIGITS = {f"{part}/{digit}/{number:05}.bin": (digit, number) for part, count in (("Train", 3), ("Test", 1))
          for digit in range(10) for number in range(count)}  # fmt: skip


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def digits(root: Path) -> Path:
    for name, (digit, number) in DIGITS.items():
        put(root / name, write_nmnist(stream(10 * number + digit, 20, 34, 34, 100)))
    return root


@pytest.mark.parametrize("inner", ["", "N-MNIST"])
def test_n_mnist(tmp_path: Path, inner: str) -> None:
    digits(tmp_path / inner)
    train, test = n_mnist(tmp_path), n_mnist(tmp_path, "test")
    assert (len(train), len(test)) == (30, 10)
    assert train.labels.tolist() == [digit for digit in range(10) for _ in range(3)]
    assert (train.classes, train.height, train.width, train.polarities) == (tuple("0123456789"), 34, 34, 2)
    events, label = train[7]
    assert label == 2 and rows_of(events) == stream(12, 20, 34, 34, 100)
    assert [label for _, label in test] == list(range(10)) and train[-1][1] == 9
    assert [label for _, label in train.at([29, 0])] == [9, 0]
    with pytest.raises(ConfigError, match="from 0 to 29"):
        train.at([30])
    with pytest.raises(ConfigError, match="part='valid'"):
        n_mnist(tmp_path, "valid")


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    digits(tmp_path)
    put(tmp_path / "Train/3/00001.bin", b"abc")
    train = n_mnist(tmp_path)
    assert len(train[9][0]) == 20
    with pytest.raises(DatasetCorrupt, match=r"00001.bin was read as .* at byte 0 its last 3 bytes"):
        train[10]


def test_missing_folders_are_named_with_what_is_expected(tmp_path: Path) -> None:
    for dataset, told in (
        (n_mnist, "garrickorchard.com"),
        (cifar10_dvs, "figshare"),
        (dvs_gesture, "research.ibm.com"),
        (shd, "zenkelab.org"),
        (ssc, "zenkelab.org"),
        (folder, "spikewright.events.read"),
    ):
        for data_dir in (None, tmp_path / "none", tmp_path):
            with pytest.raises(DatasetMissing, match=told):
                dataset(data_dir)
    digits(tmp_path)
    for path in (tmp_path / "Train/4").iterdir():
        path.unlink()
    with pytest.raises(DatasetMissing, match=r"looks for Train/0 .*Train/4"):
        n_mnist(tmp_path)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    put(digits(tmp_path) / "Train/0/readme.txt", "x")
    with pytest.warns(UserWarning, match=r"'n_mnist' leaves out 1 entries of .*Train/0, such as readme.txt"):
        assert len(n_mnist(tmp_path)) == 30


def test_the_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, second = n_mnist(digits(tmp_path / "a")), n_mnist(digits(tmp_path / "b"))
    assert first.digest() == second.digest() and len(first.digest()) == 64
    assert first.digest() != n_mnist(tmp_path / "a", "test").digest()
    assert first.digest() != first.at(range(29)).digest() != first.at(range(28, -1, -1)).digest()
    before = first.digest()
    put(tmp_path / "a/Train/9/00002.bin", write_nmnist([(0, 0, 0, 0)]))
    assert first.digest() != before
    (tmp_path / "a/Train/9/00002.bin").unlink()
    with pytest.raises(DatasetCorrupt, match="No such file"):
        first.digest()


def test_cifar10_dvs_is_split_by_number(tmp_path: Path) -> None:
    for name in CLASSES:
        for number in range(20):
            put(tmp_path / name / f"cifar10_{name}_{number}.aedat", write_aedat2([(number, 1, 2, 1)]))
    train, test = cifar10_dvs(tmp_path), cifar10_dvs(tmp_path, "test")
    assert (len(train), len(test)) == (180, 20) and train.classes == CLASSES
    assert [int(events.t[0]) for events, label in train if label == 3] == list(range(18))
    assert [int(events.t[0]) for events, label in test if label == 3] == [18, 19]
    put(tmp_path / "cat/cifar10_cat_05.aedat", write_aedat2([]))
    with pytest.raises(DatasetCorrupt, match=r"cifar10_cat_5.aedat has none, or that of another one"):
        cifar10_dvs(tmp_path)


def gestures(root: Path) -> list[Row]:
    rows = stream(0, 400, 128, 128, 500, 1000)
    for user in ("user01_led", "user02_lab", "user24_led"):
        put(root / f"{user}.aedat", write_aedat3(rows))
        table = f"class,startTime_usec,endTime_usec\n2,{rows[100][0]},{rows[200][0]}\n11,{rows[300][0]},999999\n"
        put(root / f"{user}_labels.csv", table)
    put(root / "trials_to_train.txt", "user01_led.aedat\nuser02_lab.aedat\n\n")
    put(root / "trials_to_test.txt", "user24_led.aedat\n")
    return rows


@pytest.mark.parametrize("inner", ["", "DvsGesture"])
def test_gestures_are_cut_by_their_times(tmp_path: Path, inner: str) -> None:
    rows = gestures(tmp_path / inner)
    train, test = dvs_gesture(tmp_path), dvs_gesture(tmp_path, "test")
    assert (len(train), len(test)) == (4, 2) and train.labels.tolist() == [1, 10, 1, 10]
    assert train.classes[1] == "right_hand_wave" and train.classes[10] == "other_gestures"
    begin, end = rows[100][0], rows[200][0]
    assert rows_of(train[0][0]) == [(t - begin, x, y, p) for t, x, y, p in rows if begin <= t < end]
    assert rows_of(train[3][0]) == [(t - rows[300][0], x, y, p) for t, x, y, p in rows if t >= rows[300][0]]
    there = pickle.loads(pickle.dumps(train))
    assert rows_of(there[0][0]) == rows_of(train[0][0])
    assert len(copy.deepcopy(train)) == 4


def test_a_gesture_file_is_read_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gestures(tmp_path)
    from spikewright.events.datasets import dvs_gesture as module

    read, seen = module.read_aedat3, list[str]()
    monkeypatch.setattr(module, "read_aedat3", lambda path: (seen.append(path.name), read(path))[1])
    for _ in dvs_gesture(tmp_path):
        pass
    assert seen == ["user01_led.aedat", "user02_lab.aedat"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("class,start,end\n1,2,3\n", "line 1 is"),
        ("class,startTime_usec,endTime_usec\n12,5,9\n", "line 2 is"),
        ("class,startTime_usec,endTime_usec\n1,5,9\n2,9,9\n", "line 3 is"),
        ("class,startTime_usec,endTime_usec\n1,5\n", "not three whole numbers"),
        ("class,startTime_usec,endTime_usec\n1,-5,9\n", "not three whole numbers"),
        ("", "line 1 is missing"),
    ],
)
def test_tables_of_gestures_that_are_wrong_are_refused(tmp_path: Path, table: str, told: str) -> None:
    gestures(tmp_path)
    put(tmp_path / "user02_lab_labels.csv", table)
    with pytest.raises(DatasetCorrupt, match=rf"user02_lab_labels.csv was read .*{told}"):
        dvs_gesture(tmp_path)


def test_gestures_without_files_are_missing(tmp_path: Path) -> None:
    gestures(tmp_path)
    put(tmp_path / "trials_to_test.txt", "user29_led.aedat\n")
    with pytest.raises(DatasetMissing, match=r"user29_led.aedat' \(of trials_to_test.txt\)"):
        dvs_gesture(tmp_path, "test")
    put(tmp_path / "trials_to_test.txt", "../x.aedat\n")
    with pytest.raises(DatasetMissing, match=r"x\.aedat"):
        dvs_gesture(tmp_path, "test")
    put(tmp_path / "trials_to_test.txt", "\n")
    with pytest.raises(DatasetCorrupt, match="names none"):
        dvs_gesture(tmp_path, "test")
    (tmp_path / "user01_led_labels.csv").unlink()
    with pytest.raises(DatasetMissing, match=r"user01_led_labels.csv"):
        dvs_gesture(tmp_path)


def test_shd_and_ssc(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    rows = [(np.array([0.25, 0.5]), np.array([3, index])) for index in range(4)]
    words = tuple(f"word{index}" for index in range(20))
    write_spikes(tmp_path / "shd_train.h5", rows, [3, 19, 0, 3], words)
    write_spikes(tmp_path / "ssc_valid.h5", rows, [3, 34, 0, 3], ())
    train = shd(tmp_path)
    assert len(train) == 4 and train.labels.tolist() == [3, 19, 0, 3] and train.classes == words
    events, label = train[2]
    assert label == 0 and rows_of(events) == [(250_000, 3, 0, 0), (500_000, 2, 0, 0)]
    assert (train.height, train.width, train.polarities) == (1, 700, 1)
    assert ssc(tmp_path, "valid").classes == tuple(map(str, range(35)))
    assert train.digest() != train.at([3, 1, 2, 0]).digest()  # of equal labels and another order
    write_spikes(tmp_path / "shd_test.h5", rows, [3, 20, 0, 3], ())
    with pytest.raises(DatasetCorrupt, match="which has 20 classes, but it has 4 recordings, labels up to 20"):
        shd(tmp_path, "test")
    write_spikes(tmp_path / "shd_test.h5", rows, [3, 2, 0, 3], ("a", "b"))
    with pytest.raises(DatasetCorrupt, match="row 0 has the label 3, but there are 2 names"):
        shd(tmp_path, "test")
    put(tmp_path / "ssc_test.h5.gz", b"")
    with pytest.raises(DatasetMissing, match=r"gunzip -k .*ssc_test.h5.gz"):
        ssc(tmp_path, "test")
    with pytest.raises(DatasetMissing, match=r"ssc_train\.h5"):
        ssc(tmp_path)


@pytest.mark.parametrize("split", [False, True])
def test_a_folder_of_any_files(tmp_path: Path, split: bool) -> None:
    rows = stream(0, 30, 128, 128, 500)
    lines = "evt 3.0|geometry 128x128"
    for part in ("train", "test") if split else ("",):
        put(tmp_path / part / "b" / "1.raw", write_evt3(rows, lines))
        put(tmp_path / part / "a" / "2.dat", write_dat(rows, "Version 2|Height 128|Width 128"))
        put(tmp_path / part / "a" / "1.aedat", write_aedat2(rows))
    found = folder(tmp_path, "test" if split else None)
    assert found.labels.tolist() == [0, 0, 1] and found.classes == ("a", "b")
    assert all(rows_of(events) == rows for events, _ in found)
    with pytest.raises(ConfigError, match="part"):
        folder(tmp_path, None if split else "train")
    if split:
        put(tmp_path / "test" / "c" / "1.raw", write_evt3(rows))
        with pytest.raises(DatasetCorrupt, match=r"test/c, but its training part has only a, b"):
            folder(tmp_path, "test")
    else:
        put(tmp_path / "b" / "2.raw", write_evt3(rows))
        with pytest.raises(DatasetCorrupt, match=r"its sensor is \(720, 1280, 2\)"):
            folder(tmp_path)[3]


def test_recordings_need_a_label_each() -> None:
    for sources, labels in (([], []), ([1], [0, 1]), ([1], [2]), ([1], [-1]), ([1], [0.5])):
        with pytest.raises(InputError, match="Each recording has one label"):
            Recordings("x", "train", sources, np.array(labels), ("a", "b"), 1, 1)  # pyright: ignore
