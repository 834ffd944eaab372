"""Files that are written whole, what killed writes leave, and files that are not what they seem."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spikewright._util import files
from spikewright._util.files import remove_leftovers, write_atomically
from spikewright._util.reading import check_regular, read_regular


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part_of(folder: Path, process: int, host: str | None = None, target: str = "last.safetensors") -> Path:
    """Leave a file as a killed write of a process would."""
    path = folder / f".{target}.{files._host() if host is None else host}.{process}.0123abcd.part"
    path.write_bytes(b"half")
    return path


@pytest.fixture(scope="module")
def gone() -> int:
    """Number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_killed_write_is_cleaned_up_at_the_next_start(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from spikewright._util import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomically(Path(sys.argv[1]) / 'some', b'new')\n"
    )
    write_atomically(tmp_path / "some", b"old")
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert len(names(tmp_path)) == 2
    assert [path.name.startswith(".some.") for path in remove_leftovers(tmp_path)] == [True]
    assert names(tmp_path) == ["some"] and (tmp_path / "some").read_bytes() == b"old"


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path, gone: int) -> None:
    mine, parent, dead = (
        part_of(tmp_path, os.getpid()),
        part_of(tmp_path, os.getppid(), target="b"),
        part_of(tmp_path, gone),
    )
    assert remove_leftovers(tmp_path) == [dead]
    assert mine.exists() and parent.exists()


def test_what_nobody_has_written_to_for_a_day_is_left_over(tmp_path: Path) -> None:
    elsewhere, fresh = part_of(tmp_path, 1, "other-machine"), part_of(tmp_path, 2, "other-machine")
    os.utime(elsewhere, (time.time() - 90_000,) * 2)
    assert remove_leftovers(tmp_path) == [elsewhere]
    assert fresh.exists()


def test_other_files_are_left_alone(tmp_path: Path, gone: int) -> None:
    for name in (".some.part", f".some.{gone}.part", "some.part", f"some.host.{gone}.0123abcd.part", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "inner").mkdir()
    part_of(tmp_path / "inner", gone)
    before = names(tmp_path)
    assert remove_leftovers(tmp_path) == [] and names(tmp_path) == before and len(names(tmp_path / "inner")) == 1


def test_a_name_with_points_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    monkeypatch.setattr(files.socket, "gethostname", lambda: "a.long.name")
    assert remove_leftovers(tmp_path) == []
    part_of(tmp_path, gone, target="a.b.c")
    assert len(remove_leftovers(tmp_path)) == 1


@pytest.mark.parametrize("read", [lambda path: read_regular(path, 9), check_regular])
def test_only_regular_files_are_read(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    kinds = {tmp_path: "a directory", tmp_path / "pipe": "a named pipe", tmp_path / "link": "a named pipe",
             Path("/dev/zero"): "a device"}  # fmt: skip
    for path, kind in kinds.items():
        with pytest.raises(OSError) as caught:
            read(path)  # type: ignore[operator]
        assert caught.value.strerror == f"it is {kind}, not a regular file"
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")  # type: ignore[operator]


def test_no_more_is_read_than_is_said(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(b"123456789")
    assert read_regular(path, 9) == b"123456789"
    with pytest.raises(OSError) as caught:
        read_regular(path, 8)
    assert caught.value.strerror == "it holds more than 8 B, the most that is read of such a file"


def test_of_a_link_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, first, second = tmp_path / "deep" / "target", tmp_path / "first", tmp_path / "second"
    target.write_bytes(b"old")
    first.symlink_to(Path("deep") / "target")
    second.symlink_to("first")
    for link in (first, second):
        write_atomically(link, link.name.encode())
        assert link.is_symlink() and target.read_bytes() == link.name.encode()
    assert names(tmp_path / "deep") == ["target"] and names(tmp_path) == ["deep", "first", "second"]
    (tmp_path / "none").symlink_to(Path("deep") / "new")
    write_atomically(tmp_path / "none", b"new")
    assert (tmp_path / "none").is_symlink() and (tmp_path / "deep" / "new").read_bytes() == b"new"


@pytest.mark.parametrize("through", ["pipe", "link"])
def test_a_pipe_is_given_the_data_and_stays(tmp_path: Path, through: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_atomically(tmp_path / through, b"new")
        assert read.result(timeout=10) == b"new"
    assert (tmp_path / "pipe").is_fifo() and names(tmp_path) == ["link", "pipe"]
