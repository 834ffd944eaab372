"""Code that the training commands share: processes, folder, progress, and results that survive failing output."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spikewright.cli.common import new_folder, write_json

if TYPE_CHECKING:
    from spikewright.train.distributed import Ranks
    from spikewright.train.log import Reporter

B = TypeVar("B")


def trained(
    build: "Callable[[Ranks, bool], B]",
    fit: Callable[..., dict[str, Any]],
    *,
    name: str,
    out: Path | None,
    resume: Path | None,
    json: Path | None,
    quiet: bool,
    plot: Callable[[B, dict[str, Any], Path], None],
    show: Callable[[dict[str, Any], Path], None],
) -> dict[str, Any]:
    """Build and train, then write, plot and print the result; a plot or a print that fails does not cost it.

    Args:
        build: Function of `Ranks`, and of whether a run is resumed, that returns what is trained.
        fit: Function that trains it, with the arguments `out`, `resume`, `reporter` and `ranks`.
        name: Name of a new folder under runs/.
        out: As given.
        resume: As given.
        json: File to write the result to as well.
        quiet: True prints nothing.
        plot: Function that draws the result into the folder.
        show: Function that prints the result.
    """
    from spikewright.train.processes import joined, of_first

    with joined() as ranks:
        built = build(ranks, resume is not None)
        folder = of_first(lambda: resume or out or new_folder(name), ranks)
        reporter = reporter_of(quiet or not ranks.first)
        try:
            result = fit(built, folder, resume=resume is not None, reporter=reporter, ranks=ranks)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(str(folder)) from None
    if ranks.first:
        write_json(json, result)
        attempt("draw plots", folder / "result.json", lambda: plot(built, result, folder))
        if not quiet:
            attempt("print the result", folder / "result.json", lambda: show(result, folder))
    return result


def reporter_of(silent: bool) -> "Reporter":
    """Return a progress bar, or nothing."""
    from spikewright.train.log import ProgressBar, Silent

    return Silent() if silent else ProgressBar()


def attempt(what: str, result: Path, action: Callable[[], None]) -> None:
    """Do what may fail without harm: training is over, and its result is on disk."""
    try:
        action()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except Exception as error:
        say(f"Could not {what} ({type(error).__name__}: {error}); the result is in {result}\n")
        if isinstance(error, OSError):
            discard_output()


def say(text: str) -> None:
    """Write a line for the user to standard error, if it can be written to: the exit status tells as well."""
    with suppress(OSError, ValueError):  # a full disk, or a stream that was closed
        sys.stderr.write(text)
        sys.stderr.flush()


def discard_output() -> None:
    """Send what is printed from now on, and what is still in the buffer, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
