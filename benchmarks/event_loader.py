"""Frames of events: framing itself, and batches from a cache on disk, beside Tonic's if it is installed, in turn.

python benchmarks/event_loader.py --threads 1

Streams are generated: 128 x 128 pixels, half of the events near a point that moves.  The same arrays go into both.
Tonic is imported here only, never by the library: pip install tonic==1.7.0.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from spikewright.events import ByBins, ByCount, ByDuration, Events, Frames, InMemory, VoxelGrid, cached

SENSOR = 128
TYPE = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])


def stream(seed: int, events: int) -> Events:
    """Return events of 1.5 seconds."""
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, 1_500_000, events))
    near = draw.random(events) < 0.5
    centre = 64 + 40 * np.stack([np.cos(t / 2e5), np.sin(t / 2e5)])
    place = np.where(near, centre + 4 * draw.standard_normal((2, events)), draw.integers(0, SENSOR, (2, events)))
    x, y = np.clip(place, 0, SENSOR - 1).astype(np.int64)
    return Events(t, x, y, draw.integers(0, 2, events), SENSOR, SENSOR)


def structured(events: Events) -> np.ndarray[Any, Any]:
    """Return events as Tonic's data sets of DVS cameras give them."""
    made = np.zeros(len(events), TYPE)
    for name in TYPE.names or ():
        made[name] = getattr(events, name)
    return made


def in_turn(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return seconds of each of some functions, run one after the other, again and again."""
    seconds = {name: list[float]() for name in work}
    for _ in range(repeats + 1):
        for name, function in work.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: each[1:] for name, each in seconds.items()}  # the first finds memory as the others have left it


def report(title: str, seconds: dict[str, list[float]], events: int) -> None:
    """Print the median of each, and the median of the ratios of the rounds."""
    ours, *others = seconds
    line = f"{title:28} {ours} {1e3 * statistics.median(seconds[ours]):8.2f} ms"
    line += f" ({events / statistics.median(seconds[ours]) / 1e6:.1f} million events/s)"
    for name in others:
        ratio = statistics.median(b / a for a, b in zip(seconds[ours], seconds[name]))
        line += f"   {name} {1e3 * statistics.median(seconds[name]):8.2f} ms, {ratio:.1f} x as long"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--recordings", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        import tonic
        from tonic import transforms
    except ImportError as missing:
        tonic = transforms = None
        print(f"Tonic is not measured: {missing}")
    recordings = [stream(seed, options.events) for seed in range(options.recordings)]
    size = (SENSOR, SENSOR, 2)
    modes: dict[str, tuple[Frames, dict[str, Any]]] = {
        "10 bins of time": (ByBins(10), {"n_time_bins": 10}),
        "windows of 50 ms": (ByDuration(50_000), {"time_window": 50_000, "include_incomplete": True}),
        "windows of 1 ms": (ByDuration(1000), {"time_window": 1000, "include_incomplete": True}),
        "10,000 events each": (ByCount(10_000), {"event_count": 10_000, "include_incomplete": True}),
    }
    theirs = structured(recordings[0])
    for name, (mode, settings) in modes.items():
        work: dict[str, Callable[[], object]] = {"sparse": lambda mode=mode: mode.entries(recordings[0])}
        work["dense"] = lambda mode=mode: mode.dense(recordings[0])
        if transforms is not None:
            to_frame = transforms.ToFrame(sensor_size=size, **settings)
            work["Tonic"] = lambda to_frame=to_frame: to_frame(theirs)
            lost = options.events - int(to_frame(theirs).sum())
            name += f" ({lost} lost)" if lost else ""
        report(name, in_turn(work, options.repeats), options.events)
    work = {"sparse": lambda: VoxelGrid(10).entries(recordings[0])}
    if transforms is not None:
        as_numbers = theirs.astype([(name, np.int64) for name in TYPE.names or ()])
        to_grid = transforms.ToVoxelGrid(sensor_size=size, n_time_bins=10)
        work["Tonic"] = lambda: to_grid(as_numbers.copy())
    report("voxel grid of 10 bins", in_turn(work, options.repeats), options.events)
    loading(recordings, tonic, transforms, options.repeats)


def loading(recordings: list[Events], tonic: Any, transforms: Any, repeats: int) -> None:
    """An epoch of batches of 16 from a cache that was made before, with its opening, and without it."""
    labels = tuple(number % 10 for number in range(len(recordings)))
    order = torch.randperm(len(recordings), generator=torch.Generator().manual_seed(0))
    held = InMemory(tuple(recordings), labels)
    key = held.digest

    class Named:
        digest = key

        def __len__(self) -> int:
            return len(held)

        def __getitem__(self, index: int) -> tuple[Events, int]:
            return held[index]

    with tempfile.TemporaryDirectory() as folder:
        data = cached(Named(), ByBins(10), folder)

        def epoch(opened: bool) -> None:
            found = data if opened else cached(Named(), ByBins(10), folder)
            for chosen in order.split(16):
                found.batch(chosen)

        first: dict[str, Callable[[], object]] = {"ours": lambda: epoch(False)}
        later: dict[str, Callable[[], object]] = {"ours": lambda: epoch(True)}
        if tonic is not None:
            pairs = [(structured(events), label) for events, label in held]
            to_frame = transforms.ToFrame(sensor_size=(SENSOR, SENSOR, 2), n_time_bins=10)

            class Framed(torch.utils.data.Dataset[Any]):
                def __len__(self) -> int:
                    return len(pairs)

                def __getitem__(self, index: int) -> tuple[Any, int]:
                    return to_frame(pairs[index][0]), pairs[index][1]

            disk = tonic.DiskCachedDataset(Framed(), cache_path=f"{folder}/tonic")
            collate = tonic.collation.PadTensors(batch_first=False)
            batches = torch.utils.data.DataLoader(disk, 16, sampler=order.tolist(), collate_fn=collate)
            first["Tonic"] = later["Tonic"] = lambda: [None for _ in batches]
        events = sum(map(len, recordings))
        report("an epoch from disk", in_turn(first, repeats), events)
        report("an epoch, opened before", in_turn(later, repeats), events)


if __name__ == "__main__":
    main()
