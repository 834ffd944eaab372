"""Logs of a run: a CSV row per epoch, TensorBoard events, and a progress bar."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from spikewright.errors import ConfigError

Row = dict[str, Any]


class Reporter(Protocol):
    """Receiver of the progress of a run."""

    def start(self, name: str, batches: int | None, epochs: int, epoch: int, batch: int) -> None:
        """Called when a stage begins, with its name, batches per epoch if known, and the position of a resumed run."""

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        """Called after each batch, with running means of the epoch by name."""

    def epoch(self, row: Row) -> None:
        """Called after an epoch and its evaluation."""

    def note(self, text: str) -> None:
        """Called with a line for the user."""

    def stop(self) -> None:
        """Called when the run ends or is interrupted."""


class Silent:
    """Reporter without output."""

    def start(self, name: str, batches: int | None, epochs: int, epoch: int, batch: int) -> None: ...

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None: ...

    def epoch(self, row: Row) -> None: ...

    def note(self, text: str) -> None: ...

    def stop(self) -> None: ...


class _Forgiving:
    """A stream of text that falls silent when it cannot be written to, such as on a full disk or a closed terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        self._attempt("flush")

    def _attempt(self, method: str, *arguments: str) -> None:
        try:
            if self._stream is not None:
                getattr(self._stream, method)(*arguments)
        except (OSError, ValueError):  # a stream that was closed raises ValueError
            self._stream = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ProgressBar:
    """Terminal progress bar with running means, and one line per epoch, on standard error. Needs the package rich.

    Where standard error cannot be written to, nothing is shown.
    """

    def __init__(self) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError as error:
            raise ConfigError(
                f"The progress bar needs the extra [cli]: {error}. pip install 'spikewright[cli]'"
            ) from error
        self._console = Console(file=cast("IO[str]", _Forgiving(sys.stderr)))
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[means]}"),
            console=self._console,
            transient=True,
        )
        self._line = self._progress.add_task("", total=None, means="")
        self._name, self._batches, self._epochs = "", None, 0

    def start(self, name: str, batches: int | None, epochs: int, epoch: int, batch: int) -> None:
        self._name, self._batches, self._epochs = name, batches, epochs
        total = None if batches is None else batches * epochs
        done = batch if batches is None else epoch * batches + batch
        self._progress.reset(self._line, total=total, completed=done, description=self._place(epoch), means="")
        if self._console.is_terminal:
            self._progress.start()

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        done = batch + 1 if self._batches is None else epoch * self._batches + batch + 1
        shown = "  ".join(f"{name} {_figure(name, value)}" for name, value in means.items())
        self._progress.update(self._line, completed=done, description=self._place(epoch), means=shown)

    def epoch(self, row: Row) -> None:
        shown = [f"{name.replace('_', ' ')} {_figure(name, v)}" for name, v in row.items() if v is not None]
        self.note("  ".join(shown))

    def note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def stop(self) -> None:
        self._progress.stop()

    def _place(self, epoch: int) -> str:
        return f"{self._name}  epoch {epoch + 1}/{self._epochs}".strip()


def _figure(name: str, value: Any) -> str:
    if name.endswith(("accuracy", "rate")):
        return f"{value:.2%}"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def as_csv(rows: Sequence[Row]) -> bytes:
    """Return rows as a CSV file; a column that a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def check_events(wanted: bool) -> None:
    """Raise `ConfigError` if TensorBoard events are wanted, but cannot be written."""
    try:
        if wanted:
            import torch.utils.tensorboard  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise ConfigError(
            f"train.tensorboard needs the extra [track]: {error}. pip install 'spikewright[track]'"
        ) from error


@contextmanager
def events(folder: Path | None) -> Iterator[Any]:
    """Yield a function that writes a row as TensorBoard events; without a folder, a function that does nothing."""
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    try:
        yield lambda row: [writer.add_scalar(k, v, row["epoch"]) for k, v in row.items() if isinstance(v, int | float)]
    finally:
        writer.close()
