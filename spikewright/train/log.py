"""Logs of a run: a CSV row per epoch, TensorBoard events, and a progress bar."""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from spikewright.errors import ConfigError
from spikewright.train.checkpoint import write_atomically

Row = dict[str, Any]


class Reporter(Protocol):
    """Receiver of the progress of a run."""

    def start(self, batches: int, epochs: int, epoch: int, batch: int) -> None:
        """Called at the start, with the position of a resumed run."""

    def batch(self, epoch: int, batch: int, loss: float, accuracy: float) -> None:
        """Called after each batch, with running means of the epoch."""

    def epoch(self, row: Row) -> None:
        """Called after an epoch and its evaluation."""

    def stop(self) -> None:
        """Called when the run ends or is interrupted."""


class Silent:
    """Reporter without output."""

    def start(self, batches: int, epochs: int, epoch: int, batch: int) -> None: ...

    def batch(self, epoch: int, batch: int, loss: float, accuracy: float) -> None: ...

    def epoch(self, row: Row) -> None: ...

    def stop(self) -> None: ...


class ProgressBar:
    """Terminal progress bar with running loss and accuracy, and one line per epoch. Needs the package rich."""

    def __init__(self) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError as error:
            raise ConfigError(
                f"The progress bar needs the extra [cli]: {error}. pip install 'spikewright[cli]'"
            ) from error
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.1%}"),
            console=self._console,
            transient=True,
        )

    def start(self, batches: int, epochs: int, epoch: int, batch: int) -> None:
        self._batches = batches
        self._task = self._progress.add_task(
            "",
            total=batches * epochs,
            completed=epoch * batches + batch,
            epoch=epoch + 1,
            epochs=epochs,
            loss=0.0,
            accuracy=0.0,
        )
        if self._console.is_terminal:
            self._progress.start()

    def batch(self, epoch: int, batch: int, loss: float, accuracy: float) -> None:
        done = epoch * self._batches + batch + 1
        self._progress.update(self._task, completed=done, epoch=epoch + 1, loss=loss, accuracy=accuracy)

    def epoch(self, row: Row) -> None:
        shown = {
            "epoch": f"{row['epoch']}",
            "loss": f"{row['train_loss']:.4f}",
            "train": _percent(row["train_accuracy"]),
            "validation": _percent(row["validation_accuracy"]),
            "test": _percent(row["test_accuracy"]),
            "firing": _percent(row["firing_rate"]),
            "seconds": f"{row['seconds']:.1f}",
        }
        self._console.print("  ".join(f"{k} {v}" for k, v in shown.items() if v), soft_wrap=True, highlight=False)

    def stop(self) -> None:
        self._progress.stop()


def _percent(value: float | int | None) -> str:
    return "" if value is None else f"{value:.2%}"


class Table:
    """The history of a run as a CSV file, rewritten atomically after each row.

    Args:
        path: File to write.
        rows: Rows of a resumed run. Default: (), none.
    """

    def __init__(self, path: Path, rows: Iterable[Row] = ()) -> None:
        self.path = path
        self.rows: list[Row] = list(rows)

    def add(self, row: Row) -> None:
        """Append a row and write the file."""
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """Write the file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[-1]))
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode())


@contextmanager
def events(folder: Path | None) -> Iterator[Any]:
    """Yield a function that writes a row as TensorBoard events; without a folder, a function that does nothing."""
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"train.tensorboard needs the extra [track]: {error}. pip install 'spikewright[track]'"
        ) from error
    writer = SummaryWriter(str(folder))
    try:
        yield lambda row: [writer.add_scalar(k, v, row["epoch"]) for k, v in row.items() if v is not None]
    finally:
        writer.close()
