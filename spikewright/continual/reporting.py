"""Progress of a continual-learning run, silent or on a terminal."""

from typing import Protocol


class Reporter(Protocol):
    """Receiver of the progress of a continual-learning run."""

    def begin(self, task: int, name: str, batches: int, epochs: int, done: int) -> None:
        """Called when a task begins, or continues after `done` batches."""

    def batch(self, loss: float, accuracy: float) -> None:
        """Called after each batch, with running means of the epoch."""

    def end(self, task: int, row: list[float], seconds: float) -> None:
        """Called after a task, with the accuracy on every task so far."""

    def stop(self) -> None:
        """Called when the run ends or is interrupted."""


class Silent:
    """Reporter without output."""

    def begin(self, task: int, name: str, batches: int, epochs: int, done: int) -> None: ...

    def batch(self, loss: float, accuracy: float) -> None: ...

    def end(self, task: int, row: list[float], seconds: float) -> None: ...

    def stop(self) -> None: ...


class ProgressBar:
    """Terminal progress bar of the current task, and one line per finished task."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console()
        self._progress = Progress(
            TextColumn("task {task.fields[number]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.1%}"),
            console=self._console,
            transient=True,
        )
        self._line = self._progress.add_task("", total=None, number=0, loss=0.0, accuracy=0.0)

    def begin(self, task: int, name: str, batches: int, epochs: int, done: int) -> None:
        total = batches * epochs
        self._progress.reset(self._line, total=total, completed=done, number=task + 1, loss=0.0, accuracy=0.0)
        if self._console.is_terminal:
            self._progress.start()

    def batch(self, loss: float, accuracy: float) -> None:
        self._progress.update(self._line, advance=1, loss=loss, accuracy=accuracy)

    def end(self, task: int, row: list[float], seconds: float) -> None:
        shown = " ".join(f"{100 * accuracy:.1f}" for accuracy in row)
        line = f"task {task + 1}  seconds {seconds:.1f}  accuracy by task, %: {shown}"
        self._console.print(line, soft_wrap=True, highlight=False)

    def stop(self) -> None:
        self._progress.stop()
