"""`spikewright bench`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikewright._util.text import aligned, size_in_bytes
from spikewright.cli._training import say
from spikewright.cli.common import check_writable, write_json
from spikewright.errors import ConfigError


def bench(
    workloads: str = "layer,mlp,conv,linear,memory",
    repeats: int | None = None,
    quick: bool = False,
    threads: int | None = None,
    sizes: str | None = None,
    chunk: str = "auto",
    seed: int = 0,
    json: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure speed and memory beside the layers without neurons and beside other libraries, in one process.

    SpikingJelly, snnTorch, Norse and sinabs take part where they are installed; one that is missing or fails is named
    with the reason. All contenders run in turn in every repeat, and ratios are taken within a repeat.

    Args:
        workloads: Any of layer (neurons alone), mlp and conv (a training step), linear (one layer by width), memory
            (bytes by number of steps), with commas between.
        repeats: Timed runs of every contender; by default 20 for layer, 10 for mlp and linear, 5 for conv. Wide layers
            take fewer.
        quick: Tiny sizes and two repeats, to see that everything works; the figures mean nothing.
        threads: Threads of torch; by default as many as it takes by itself.
        sizes: Widths of the workload linear, with commas between; by default 512 to 16384 in powers of 2.
        chunk: Steps alive at once in OTTT and SLTT, a number, auto, or a memory budget such as 256MiB.
        seed: Of weights and inputs.
        json: Also write the result to this file, anew whenever a table is there.
        quiet: Print nothing.

    Returns:
        `environment`, `settings`, `tables`, and `ok`, false if a workload failed or the run was interrupted; what was
        finished is kept.
    """
    from spikewright.bench import BenchSettings, environment, run

    settings = BenchSettings(
        tuple(name.strip() for name in workloads.split(",") if name.strip()),
        None if repeats is None else _positive("repeats", repeats),
        quick,
        None if sizes is None else _widths(sizes),
        _chunk(chunk),
        seed,
    )
    if not settings.workloads:
        raise ConfigError(f"--workloads '{workloads}' names no workload, so that there is nothing to measure.")
    check_writable(json)
    progress = _Progress(quiet)
    with _threads(threads):
        around = environment()
        result: dict[str, Any] = {
            "ok": True, "environment": around, "settings": settings.described(), "tables": []
        }  # fmt: skip
        progress.show(aligned([*around.items()]))
        try:
            for table in run(settings, progress.tell):
                result["tables"].append(table.plain())
                result["ok"] = result["ok"] and table.ok
                write_json(json, result)
                progress.show(f"\n{table}")
        except KeyboardInterrupt:
            result["ok"] = False
            write_json(json, result)
            progress.tell("")
            say("\ninterrupted" + (f"; what was finished is in {json}" if json else "") + "\n")
    return result


class _Progress:
    """Tables on standard output; on standard error, if somebody looks at it, the line that says what runs."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._live = quiet, not quiet and sys.stderr.isatty()

    def tell(self, line: str) -> None:
        if self._live:
            say(f"\r\x1b[K{line}")

    def show(self, text: str) -> None:
        self.tell("")
        if not self._quiet:
            print(text, flush=True)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(_positive("threads", count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _positive(flag: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"--{flag} {value}: at least 1 is needed.")
    return value


def _widths(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ConfigError(f"--sizes {text}: whole numbers with commas between are needed, such as 512,1024.")
    return tuple(_positive("sizes", int(part)) for part in parts)


def _chunk(text: str) -> int | str:
    if text.isdigit():
        return _positive("chunk", int(text))
    if text != "auto" and size_in_bytes(text) is None:
        raise ConfigError(f"--chunk {text}: a number of steps, auto, or a memory budget such as 256MiB is needed.")
    return text
