"""The folder of a run: claimed by one process at a time, written atomically, never overwritten by another run."""

import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from spikewright._util.files import as_json, remove_leftovers, write_atomically
from spikewright._util.reading import read_regular
from spikewright.errors import CheckpointError, ConfigError
from spikewright.train import checkpoint
from spikewright.train.config import Tree

_LOCK = "run.lock"
_MOST_RESULT = 2**26
"""Most bytes of a result; a row per epoch has some hundred, and one of a gradient comparison a hundred per weight."""


class RunFolder:
    """The folder of a run, held exclusively until it is closed.

    Args:
        path: Folder, created if needed.
        config: Configuration as nested dictionaries.
        resume: True continues the run in the folder, False begins one there.

    Raises:
        ConfigError: The folder holds a run already and `resume` is False, or another process is training in it.
        CheckpointError: The folder cannot be written, or holds no run to resume.
    """

    def __init__(self, path: Path, config: Tree, resume: bool) -> None:
        checkpoint.require()
        self.path = path
        self._lock: IO[str] | None = None
        self._new = not resume
        try:
            if resume:
                self._reopen()
            else:
                self._begin(config)
            remove_leftovers(path, alone=True)
        except OSError as error:
            raise CheckpointError(
                f"The run was to be written to {path}, but that is not possible: {error.strerror}. Choose a folder "
                "that can be written with --out. Nothing was trained."
            ) from error

    def _begin(self, config: Tree) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._is_run():
            raise self._occupied()
        try:
            self._lock = (self.path / _LOCK).open("x+")
            self._hold()
        except FileExistsError:  # of a process that has just begun here, or that was killed before it wrote anything
            self._lock = (self.path / _LOCK).open("a+")
            if _lock_file(self._lock) is not None:
                self._hold()
            if _lock_file(self._lock) is None or self._is_run():
                self._lock.close()
                raise self._occupied() from None
        self.write("config.json", as_json(config))

    def _reopen(self) -> None:
        if not (self.path / "config.json").is_file():
            raise CheckpointError(
                f"There is no run in {self.path}: it has no config.json. Give the folder of a run, or begin one "
                "without --resume."
            )
        self._lock = (self.path / _LOCK).open("a+")
        self._hold()

    def _is_run(self) -> bool:
        return any((self.path / name).exists() for name in ("last.safetensors", "config.json"))

    def _hold(self) -> None:
        """Lock the folder, and write down who trains in it."""
        assert self._lock is not None
        if _lock_file(self._lock) is False:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "another process"
            self._lock.close()
            raise ConfigError(
                f"{owner[:1].upper()}{owner[1:]} is training in {self.path}. Two would overwrite each other. Wait for "
                "it, or choose another --out."
            )
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"process {os.getpid()} of {platform.node()}, since {time.ctime()},\n")
        self._lock.flush()

    def _occupied(self) -> ConfigError:
        return ConfigError(
            f"The folder {self.path} already holds a run. Nothing was overwritten. Continue it with --resume "
            f"{self.path}, or choose another --out."
        )

    @property
    def last(self) -> dict[str, Any] | None:
        """Contents of the last checkpoint; `None` if the run ended before there was one."""
        path = self.path / "last.safetensors"
        return checkpoint.load(path) if path.exists() else None

    @property
    def result(self) -> dict[str, Any] | None:
        """Contents of `result.json`; `None` if the run is not finished."""
        path = self.path / "result.json"
        try:
            found = json.loads(read_regular(path, _MOST_RESULT).decode())
        except (OSError, ValueError, RecursionError):  # not there yet, too large, or damaged: written again
            return None
        return found if isinstance(found, dict) else None

    def save(self, name: str, tree: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        checkpoint.save(self.path / f"{name}.safetensors", tree)

    def write(self, name: str, data: bytes) -> None:
        """Write a file.

        Raises:
            CheckpointError: It cannot be written.
        """
        try:
            write_atomically(self.path / name, data)
        except OSError as error:
            raise CheckpointError(
                f"The file {self.path / name} cannot be written: {error.strerror}. The checkpoints in {self.path} are "
                f"untouched. Make room, and continue with --resume {self.path}."
            ) from error

    def abandon(self) -> None:
        """Leave the folder as it was before the run, if there is nothing to continue from yet."""
        if self._new and not (self.path / "last.safetensors").exists():
            for name in ("config.json", _LOCK):
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):  # it was not empty
                self.path.rmdir()

    def close(self) -> None:
        """Let other processes train in the folder."""
        if self._lock is not None and not self._lock.closed:
            self._lock.truncate(0)
            self._lock.close()


def _lock_file(file: IO[str]) -> bool | None:
    """Lock an open file until it is closed; False if another process has it, None if files cannot be locked here."""
    try:
        import fcntl
    except ImportError:  # Windows: the exclusive creation of the file remains
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
